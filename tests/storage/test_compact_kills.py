"""Killed at any moment of `compact` and `export`, a library loses nothing, and leaves nothing once it is open again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import xmr_core as xmr

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")

KILLS = 4
VECTORS = np.random.default_rng(0).normal(size=(8000, 32)).astype(np.float32)
PROGRAM = """
import sys, xmr_core as xmr
with xmr.open(sys.argv[1], progress=False) as db:
    print("open", flush=True)
    db.compact()
    db.export(sys.argv[2])
    print("done", flush=True)
    db.compact()
"""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of 8,000 embeddings, half of them deleted, and a table with a foreign key."""
    made = tmp_path_factory.mktemp("sound") / "killed.duckdb"
    with xmr.open(made, progress=False) as db:
        db.add_embeddings(VECTORS, space="s", recipe="flat")
        db.delete(range(0, 8000, 2))
        db.sql("CREATE TABLE writer(id INTEGER PRIMARY KEY)")
        db.sql("CREATE TABLE album(writer INTEGER REFERENCES writer(id))")
        db.sql("INSERT INTO writer VALUES (1)")
        db.sql("INSERT INTO album VALUES (1), (1)")
    return made


def started(file: Path, out: Path) -> subprocess.Popen[str]:
    """The program, once it has opened the library."""
    command = [sys.executable, "-c", PROGRAM, str(file), str(out)]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    assert program.stdout.readline() == "open\n"
    return program


@pytest.fixture(scope="module")
def seconds(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long the program works here, on a quiet or a busy machine."""
    folder = tmp_path_factory.mktemp("timed")
    program = started(Path(shutil.copy(sound, folder)), folder / "out")
    start = time.perf_counter()
    assert program.wait(timeout=100) == 0
    return time.perf_counter() - start


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_kill_loses_nothing_and_leaves_nothing(sound: Path, tmp_path: Path, seconds: float, seed: int) -> None:
    file, out = Path(shutil.copy(sound, tmp_path)), tmp_path / "out"
    with started(file, out) as program:
        time.sleep(seconds * (seed + np.random.default_rng(seed).random()) / KILLS)
        program.kill()
    with xmr.open(file, progress=False) as db:
        assert db.search(vector=VECTORS[7], space="s", k=1).ids.tolist() == [[7]]
        assert db.store.coded_ids("s", 1, "image").tolist() == list(range(1, 8000, 2))
        assert db.sql("FROM album").fetchall() == [(1,), (1,)]
        assert db.doctor() == []
        assert {left.name for left in tmp_path.iterdir()} <= {file.name, f"{file.name}.wal", f"{file.name}.xmr", "out"}
        before, after = db.compact()
        assert after <= before
    if (out / "library.json").exists():
        with xmr.open(tmp_path / "again.duckdb", progress=False) as again:
            again.restore(out)
            assert again.store.coded_ids("s", 1, "image").tolist() == list(range(1, 8000, 2))
