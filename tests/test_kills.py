"""A process that is killed at any moment loses nothing that was acknowledged, and leaves nothing behind.

`XMR_KILLS=500 pytest tests/test_kills.py` kills as often as that; without it, a few times.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import kills
import pytest

COUNT = int(os.environ.get("XMR_KILLS", "0")) or len(kills.OPERATIONS)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the writers are forks")
def test_a_process_killed_at_any_moment_loses_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, kills.__file__, str(tmp_path), str(COUNT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 + 30 * COUNT)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == COUNT, done.stderr
    assert all(one["killed"] for one in found)
    bad = [one for one in found if any(one.get(what) for what in ("lost", "unopenable", "wrong", "left"))]
    assert bad == [], done.stderr
