"""A new process of the contract suites: `python -m xmr_core.testing.worker FOLDER`.

Makes the component again from what is written in the folder, lets it answer, and prints its fingerprint.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

from xmr_core.testing import SUITES
from xmr_core.testing.contract import read_arrays, write_arrays


def main(folder: Path) -> str:
    """The fingerprint; `answers.npz` is written."""
    job = json.loads((folder / "job.json").read_text())
    cls: Any = attrgetter(job["qualname"])(import_module(job["module"]))
    component = cls.load(job["options"], read_arrays(folder / "state.npz"), job["version"])
    _, case, _ = SUITES[job["role"]]
    write_arrays(folder / "answers.npz", case.load(component, folder).answers(component))
    fingerprint: str = component.fingerprint()
    return fingerprint


if __name__ == "__main__":
    sys.stdout.write(main(Path(sys.argv[1])))
