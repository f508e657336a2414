"""What a bar says while the library works: items that are done, how many a second, and the time that remains."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from rich.progress import Task

import xmr_core as xmr
from xmr_core.library.rate import Rate
from xmr_core.library.run import LibraryRun, blocks


class Speed:
    """A task that goes at some speed."""

    finished_speed: float | None = None

    def __init__(self, speed: float | None) -> None:
        self.speed = speed


@pytest.mark.parametrize(("speed", "told"), [(1234.4, "1,234/s"), (10, "10/s"), (0.254, "0.25/s"), (None, "")])
def test_the_rate_is_that_of_a_second(speed: float | None, told: str) -> None:
    assert Rate().render(cast(Task, Speed(speed))).plain == told


def test_a_bar_counts_items_where_a_step_is_many(tmp_path: Path) -> None:
    with xmr.open(tmp_path / "a.duckdb", progress=False) as db, LibraryRun(db.store, progress=True) as run:
        done = []
        for _ in run.track(blocks(1000, 300), "adding", 1000, len):
            (task,) = run._progress.tasks
            done.append((task.completed, task.total))
    assert done == [(0, 1000), (300, 1000), (600, 1000), (900, 1000)]


def test_a_bar_says_rate_and_remaining_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with xmr.open(tmp_path / "a.duckdb", progress=False) as db, LibraryRun(db.store, progress=True) as run:
        for _ in run.track(blocks(90, 30), "adding", 90, len):
            run._progress.refresh()
    shown = capsys.readouterr().err
    assert "adding" in shown
    assert "30/90" in shown
    assert "/s" in shown
    assert "0:00:" in shown or "-:--:--" in shown
