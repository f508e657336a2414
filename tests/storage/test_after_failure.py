"""After a failure the handle lives: a full disk, Ctrl-C, a database that DuckDB has given up."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
import pytest

import xmr_core as xmr

VECTORS = np.random.default_rng(0).normal(size=(20_000, 32)).astype(np.float32)  # 2.5 MB


@pytest.fixture
def db(tmp_path: Path) -> Iterator[xmr.Library]:
    """A library of 4,000 embeddings."""
    with xmr.open(tmp_path / "lives.duckdb", progress=False) as db:
        db.add_embeddings(VECTORS[:4000], space="s", recipe="flat")
        yield db


@contextmanager
def full_disk(more: int, file: Path) -> Iterator[None]:
    """No file of this process grows by more than `more` bytes over this one and its log: as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = file.with_name(f"{file.name}.wal")
    largest = max(path.stat().st_size for path in (file, log) if path.exists())
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def ctrl_c(seconds: float) -> Iterator[None]:
    """Ctrl-C after so many seconds, also in a program that was started to ignore it, as one in the background is."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGINT, before)


def still_works(db: xmr.Library, count: int) -> None:
    """The handle reads and writes."""
    assert len(db.store.coded_ids("s", 1, "image")) == count
    assert db.search(vector=VECTORS[7], space="s", k=1).ids.tolist() == [[7]]
    ids = db.add_embeddings(VECTORS[:2], space="s")
    assert db.delete(ids.tolist()) == 2
    assert db.doctor() == []


def test_a_full_disk_is_told_and_the_handle_goes_on(db: xmr.Library, tmp_path: Path) -> None:
    with full_disk(100_000, tmp_path / "lives.duckdb"):
        with pytest.raises(xmr.DiskFullError, match=r"the disk is full.*\.xmr"):
            for shift in range(1, 40):
                db.add_embeddings(VECTORS[4000:8000] + np.float32(shift), space="s")
        count = len(db.store.coded_ids("s", 1, "image"))
        assert count % 4000 == 0
        assert db.search(vector=VECTORS[7], space="s", k=1).ids.tolist() == [[7]]
        assert db.delete(range(100)) == 100
    still_works_after(db, count - 100)


def still_works_after(db: xmr.Library, count: int) -> None:
    assert len(db.store.coded_ids("s", 1, "image")) == count
    db.add_embeddings(VECTORS[4000:], space="s", ids=range(100_000, 116_000))
    assert db.search(vector=VECTORS[5000], space="s", k=1).ids[0, 0] in (5000, 101_000)


def test_a_full_disk_while_the_users_own_statement_writes(db: xmr.Library, tmp_path: Path) -> None:
    with full_disk(100_000, tmp_path / "lives.duckdb"), pytest.raises(xmr.DiskFullError):
        db.sql("CREATE TABLE mine AS SELECT random() AS x FROM range(2000000)")
    still_works(db, 4000)
    assert db.sql("SELECT count(*) FROM xmr.code_s").fetchall() == [(4000,)]


def test_a_database_that_was_given_up_opens_again(db: xmr.Library, tmp_path: Path) -> None:
    second = xmr.open(tmp_path / "lives.duckdb", progress=False)
    assert second.search(vector=VECTORS[7], space="s", k=1).ids.tolist() == [[7]]
    db.sql("SELECT 1").fetchall()
    instance = db.store.db.instance  # type: ignore[attr-defined]  # of the DuckDB store
    instance.give_up(instance.generation)
    still_works(second, 4000)
    still_works(db, 4000)
    assert db.sql("SELECT count(*) FROM xmr.code_s").fetchall() == [(4000,)]
    second.close()


def test_a_transaction_that_was_lost_with_its_connection_keeps_nothing(db: xmr.Library) -> None:
    store = db.store
    with pytest.raises(xmr.StorageError, match="the transaction is lost"), store.transaction():
        db.add_embeddings(VECTORS[:2], space="s")
        instance = store.db.instance  # type: ignore[attr-defined]  # of the DuckDB store
        instance.give_up(instance.generation)
        db.add_embeddings(VECTORS[:2], space="s")
    still_works(db, 4000)


def test_compact_on_a_full_disk_says_so_before_it_begins(
    db: xmr.Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: FULL)
    with pytest.raises(xmr.DiskFullError, match="compact copies"):
        db.compact()
    monkeypatch.undo()
    db.compact()
    still_works(db, 4000)


FULL = shutil._ntuple_diskusage(10, 10, 0)  # type: ignore[attr-defined]  # what `disk_usage` gives


def test_an_export_without_room_leaves_nothing(db: xmr.Library, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(xmr.DiskFullError):
            db.export(tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [file.name for file in tmp_path.iterdir() if "out" in file.name] == []
    still_works(db, 4000)


@pytest.mark.parametrize("folder", ["", "  ", "a\0b", None, 5])
def test_an_export_into_no_folder_is_refused(db: xmr.Library, folder: str) -> None:
    with pytest.raises(xmr.StorageError, match="export: expected the path"):
        db.export(folder)


def test_half_written_copies_are_removed(db: xmr.Library, tmp_path: Path) -> None:
    db.close()
    for name in ("half", "half.wal", "0123abcd.half", "0123abcd.half.wal", "mine.half"):
        (tmp_path / f"lives.duckdb.{name}").write_text("half")
    (tmp_path / "lives.duckdb.tmp").mkdir()
    (tmp_path / "lives.duckdb.tmp" / "duckdb_temp_storage-0.tmp").write_text("spilled")
    xmr.open(tmp_path / "lives.duckdb", read_only=True, progress=False).close()
    assert (tmp_path / "lives.duckdb.half").exists()
    with xmr.open(tmp_path / "lives.duckdb", progress=False) as again:
        assert not (tmp_path / "lives.duckdb.half").exists()
        assert not (tmp_path / "lives.duckdb.tmp").exists()
        again.compact()
    left = sorted(file.name for file in tmp_path.iterdir())
    assert left == ["lives.duckdb", "lives.duckdb.mine.half"]


def test_a_half_written_export_is_removed_and_nothing_else(db: xmr.Library, tmp_path: Path) -> None:
    db.close()
    notes = tmp_path / "lives.duckdb.xmr" / "exports"
    notes.mkdir(parents=True)
    folders = {"out.0123abcd.half": "a.parquet", "mine.0123abcd.half": "novel.txt", "mine": "a.parquet"}
    for name, content in folders.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / content).write_text("...")
        (notes / name).write_text(str(tmp_path / name))
    (notes / "gone").write_text(str(tmp_path / "gone.0123abcd.half"))
    (notes / "strange").write_bytes(b"\xff\0")
    xmr.open(tmp_path / "lives.duckdb", read_only=True, progress=False).close()
    assert (tmp_path / "out.0123abcd.half").exists()
    xmr.open(tmp_path / "lives.duckdb", progress=False).close()
    left = sorted(file.name for file in tmp_path.iterdir())
    assert left == ["lives.duckdb", "mine", "mine.0123abcd.half"]


def test_an_export_that_was_killed_is_removed_at_the_next_open(db: xmr.Library, tmp_path: Path) -> None:
    db.close()
    code = f"""
        import json, os, types, xmr_core as xmr
        from xmr_storage import transfer
        transfer.json = types.SimpleNamespace(dumps=lambda *a, **k: os._exit(0), loads=json.loads)
        xmr.open({str(tmp_path / "lives.duckdb")!r}, progress=False).export({str(tmp_path / "out")!r})
        """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=100)
    assert [file.suffix for file in tmp_path.iterdir() if file.name.startswith("out.")] == [".half"]
    with xmr.open(tmp_path / "lives.duckdb", progress=False) as again:
        assert [file for file in tmp_path.iterdir() if file.name.startswith("out.")] == []
        again.export(tmp_path / "out")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["lives.duckdb", "out"]


def test_ctrl_c_in_a_statement_is_ctrl_c(db: xmr.Library) -> None:
    # DuckDB looks for Ctrl-C between the pieces of its work, which are long in a product of two tables
    endless = "SELECT count(*) FROM range(1000000000000) AS a WHERE hash(a.range) = 3"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), ctrl_c(0.2):
            db.sql(endless)
        still_works(db, 4000)
        with pytest.raises(KeyboardInterrupt), ctrl_c(0.2):
            db.store.ids(where=f"({endless}) = 3")
        still_works(db, 4000)


class Interrupted:
    """A connection on which DuckDB is interrupted as it moves the log into the file."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.close = connection.close

    def cursor(self) -> duckdb.DuckDBPyConnection:
        raise RuntimeError("Query interrupted")


def test_ctrl_c_as_the_log_is_moved_is_ctrl_c(db: xmr.Library, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = db.store.db.instance  # type: ignore[attr-defined]  # of the DuckDB store
    with monkeypatch.context() as patch:
        patch.setattr(instance, "_root", Interrupted(instance.root))
        with pytest.raises(KeyboardInterrupt):
            instance.checkpoint()
    db.add_embeddings(VECTORS[:1], space="s")
    assert len(db.store.coded_ids("s", 1, "image")) == 4001


def test_ctrl_c_as_the_last_handle_is_closed_lets_go_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = xmr.open(tmp_path / "closed.duckdb", progress=False)
    instance = db.store.db.instance  # type: ignore[attr-defined]  # of the DuckDB store
    monkeypatch.setattr(instance, "_root", Interrupted(instance.root))
    with pytest.raises(KeyboardInterrupt):
        db.close()
    with xmr.open(tmp_path / "closed.duckdb", progress=False) as again:
        assert again.store.db.instance is not instance  # type: ignore[attr-defined]


@pytest.mark.parametrize("seconds", [0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12])
def test_ctrl_c_in_compact_leaves_a_handle_that_works_and_compacts(db: xmr.Library, seconds: float) -> None:
    db.add_embeddings(VECTORS[4000:], space="s")
    db.delete(range(4000, 12_000))
    try:
        with ctrl_c(seconds):
            db.compact()
            threading.Event().wait(1)
    except KeyboardInterrupt:
        still_works(db, 12_000)
    before, after = db.compact()
    assert after <= before
    still_works(db, 12_000)


def test_compact_works_beside_foreign_keys(db: xmr.Library, tmp_path: Path) -> None:
    for statement in (
        "CREATE TABLE writer(id INTEGER PRIMARY KEY)",
        "CREATE TABLE album(p INTEGER, q INTEGER, r INTEGER, parent INTEGER REFERENCES album(p), PRIMARY KEY (p))",
        "CREATE TABLE photo(item_id BIGINT, writer INTEGER REFERENCES writer(id), n INT AS (writer + 1))",
        "CREATE SEQUENCE numbers START 5",
        "CREATE TABLE counted(x INTEGER DEFAULT nextval('numbers'), y INTEGER)",
        "CREATE SCHEMA other",
        "CREATE TABLE other.z(id INTEGER UNIQUE)",
        "CREATE TABLE other.a(z INTEGER REFERENCES other.z(id))",
        "CREATE INDEX by_item ON photo(item_id)",
        "INSERT INTO writer VALUES (1), (2)",
        "INSERT INTO photo(item_id, writer) VALUES (0, 1), (1, 2), (2, NULL)",
        "INSERT INTO album VALUES (3, 0, 0, NULL)",
        "INSERT INTO album VALUES (2, 0, 0, 3), (5, 0, 0, NULL)",
        "INSERT INTO album VALUES (1, 0, 0, 2)",
        "INSERT INTO counted(y) VALUES (1), (2)",
        "INSERT INTO other.z VALUES (1)",
        "INSERT INTO other.a VALUES (1)",
    ):
        db.sql(statement)
    queries = ["FROM writer", "FROM photo", "SELECT p, parent FROM album ORDER BY p", "FROM counted", "FROM other.a"]
    before = [db.sql(query).fetchall() for query in queries]
    for _ in range(2):
        db.compact()
        assert [db.sql(query).fetchall() for query in queries] == before
    still_works(db, 4000)
    db.close()
    with duckdb.connect(str(tmp_path / "lives.duckdb")) as con, pytest.raises(duckdb.ConstraintException):
        con.execute("INSERT INTO photo(item_id, writer) VALUES (9, 9)")
