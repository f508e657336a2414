"""A library is one file: what is committed gets into it, its log belongs to it, and it opens no doors by itself."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pytest

import xmr_core as xmr

VECTORS = np.random.default_rng(0).normal(size=(6000, 64)).astype(np.float32)  # 1.5 MB


def log_of(file: Path) -> int:
    """Bytes in the log beside a file."""
    log = file.with_name(f"{file.name}.wal")
    return log.stat().st_size if log.exists() else 0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A library of two embeddings, closed."""
    with xmr.open(tmp_path / "one.duckdb", progress=False) as db:
        db.add_embeddings(VECTORS[:2], space="s", recipe="flat")
    return tmp_path / "one.duckdb"


def killed(file: Path, statements: str) -> None:
    """Run statements on a library `db` in a process that is killed before it can close it."""
    opened = f"import os, numpy as np, xmr_core as xmr\ndb = xmr.open({str(file)!r}, progress=False)"
    code = f"{opened}\n{statements}\nos._exit(0)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


def test_much_that_was_added_is_in_the_file_at_once(file: Path) -> None:
    with xmr.open(file, progress=False) as db:
        db.add_embeddings(VECTORS, space="s")
        assert log_of(file) < 1 << 20
        assert file.stat().st_size > VECTORS.nbytes


def test_a_new_library_is_in_the_file_at_once(tmp_path: Path) -> None:
    with xmr.open(tmp_path / "new.duckdb", progress=False) as db:
        db.add_embeddings(VECTORS[:100], space="s", recipe="flat")
        assert log_of(tmp_path / "new.duckdb") < 1000
        with duckdb.connect(str(shutil.copy(tmp_path / "new.duckdb", tmp_path / "copy.duckdb"))) as copy:
            assert copy.execute("SELECT count(*) FROM xmr.code_s").fetchone() == (100,)


def test_little_stays_in_the_log_until_the_library_is_closed(file: Path) -> None:
    with xmr.open(file, progress=False) as db:
        db.add_embeddings(VECTORS[2:3], space="s")
        assert 0 < log_of(file) < 10_000
    assert log_of(file) == 0


def test_the_log_is_emptied_beside_a_connection_that_stays_open(file: Path) -> None:
    db = xmr.open(file, progress=False)
    with duckdb.connect(str(file)) as beside:
        db.add_embeddings(VECTORS[2:3], space="s")
        db.close()
        assert log_of(file) == 0
        assert beside.execute("SELECT count(*) FROM xmr.code_s").fetchone() == (3,)


def test_a_program_that_ends_without_closing_leaves_one_file(file: Path) -> None:
    code = f"import numpy as np, xmr_core as xmr\ndb = xmr.open({str(file)!r}, progress=False)\n"
    code += "db.add_embeddings(np.ones((1, 64)), space='s')\nkept = db.sql('SELECT 1')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)
    assert log_of(file) == 0
    assert list(file.parent.iterdir()) == [file]


def test_a_library_that_nobody_holds_any_more_is_closed(file: Path) -> None:
    xmr.open(file, progress=False).add_embeddings(VECTORS[2:3], space="s")
    gc.collect()
    assert log_of(file) == 0
    code = f"import xmr_core as xmr; xmr.open({str(file)!r}).close()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)  # no LockedError


@pytest.mark.parametrize("read_only", [False, True])
def test_the_log_of_another_file_is_refused(file: Path, tmp_path: Path, read_only: bool) -> None:
    other = tmp_path / "other.duckdb"
    killed(other, "for _ in range(2): db.add_embeddings(np.ones((30, 64)), space='s', recipe='flat')")
    assert log_of(other) > 0
    shutil.copy(f"{other}.wal", f"{file}.wal")
    with pytest.raises(xmr.StorageError, match=r"one\.duckdb\.wal is the log of another file"):
        xmr.open(file, read_only=read_only)
    Path(f"{file}.wal").unlink()
    with xmr.open(file, read_only=read_only, progress=False) as db:
        assert len(db.store.coded_ids("s", 1, "image")) == 2


def test_its_own_log_is_read_after_the_process_was_killed(file: Path) -> None:
    killed(file, "db.add_embeddings(np.ones((30, 64)), space='s')")
    assert log_of(file) > 0
    with xmr.open(file, read_only=True, progress=False) as db:
        assert len(db.store.coded_ids("s", 1, "image")) == 32


def test_files_of_an_earlier_storage_version_open(tmp_path: Path) -> None:
    old = tmp_path / "old.duckdb"
    with duckdb.connect() as maker:
        maker.execute(f"ATTACH '{old}' AS old (STORAGE_VERSION 'v1.2.0')")
        maker.execute("CREATE TABLE old.mine AS SELECT 1 AS x")
    with xmr.open(old, progress=False) as db:
        db.add_embeddings(VECTORS[:3], space="s", recipe="flat")
    with xmr.open(old, read_only=True, progress=False) as db:
        assert db.search(vector=VECTORS[1], space="s", k=1).ids.tolist() == [[1]]
        tags = db.sql("SELECT tags FROM duckdb_databases() WHERE path = $1", [str(old)]).fetchall()
        assert "v1.2.0" in str(tags)


@pytest.mark.parametrize("read_only", [False, True])
def test_duckdb_installs_and_loads_no_extension_by_itself(file: Path, read_only: bool) -> None:
    with xmr.open(file, read_only=read_only, progress=False) as db:
        for setting in ("autoinstall_known_extensions", "autoload_known_extensions"):
            assert db.sql(f"SELECT current_setting('{setting}')").fetchall() == [(False,)]
        with pytest.raises(xmr.StorageError):
            db.sql("FROM 'http://localhost:9/a.parquet'")


def test_a_library_that_is_read_opens_no_other_file(file: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    with xmr.open(file, read_only=True, progress=False) as db:
        for statement in (f"FROM '{secret}'", f"SELECT content FROM read_text('{secret}')", f"ATTACH '{secret}' AS s"):
            with pytest.raises(xmr.StorageError, match="open it for writing"):
                db.sql(statement)
        db.sql("SELECT count(*) FROM xmr.code_s").fetchall()
        db.export(tmp_path / "out")
    with xmr.open(file, progress=False) as db:
        assert db.sql(f"FROM '{secret}'").fetchall() == [(1,)]  # who writes names files of their own
        db.export(tmp_path / "again")
    for name in ("code_s_v1", "parts", "metadata"):
        first, second = (duckdb.sql(f"FROM '{tmp_path}/{folder}/{name}.parquet'") for folder in ("out", "again"))
        assert first.types == second.types
        assert first.fetchall() == second.fetchall()
    with xmr.open(tmp_path / "new.duckdb", progress=False) as db:
        db.restore(tmp_path / "out")
        assert db.search(vector=VECTORS[1], space="s", k=1).ids.tolist() == [[1]]


def test_a_connection_that_was_open_before_keeps_its_settings(file: Path) -> None:
    with duckdb.connect(str(file)) as mine:
        before = mine.execute("SELECT current_setting('autoload_known_extensions')").fetchone()
        xmr.register(mine)
        assert mine.execute("SELECT current_setting('autoload_known_extensions')").fetchone() == before
