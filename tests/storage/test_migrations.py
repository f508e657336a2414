"""A library of an older format is brought up to date when it is opened for writing, whole or not at all."""

from __future__ import annotations

import lzma
import os
import subprocess
import sys
from pathlib import Path

import pytest

import xmr_core as xmr
from xmr_storage import migrations
from xmr_storage.schema import FORMAT_VERSION, TABLES

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A library of format 1."""
    file = tmp_path / "old.duckdb"
    file.write_bytes(lzma.decompress((GOLDEN / "library.duckdb.xz").read_bytes()))
    return file


def formats(file: Path) -> list[tuple[object, ...]]:
    """What the file says of itself: its format, and the formats that were recorded."""
    import duckdb

    with duckdb.connect(str(file), read_only=True) as con:
        said = con.execute("SELECT value FROM xmr.meta WHERE key = 'format_version'").fetchall()
        tables = {name for (name,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
        taken = (
            con.execute("SELECT format, xmr FROM xmr.migrations ORDER BY format") if "migrations" in tables else None
        )
        return [*said, *(taken.fetchall() if taken else [])]


def test_every_format_since_the_first_has_a_step() -> None:
    assert [step.format for step in migrations.STEPS] == list(range(2, FORMAT_VERSION + 1))


def test_a_new_library_records_the_format_that_it_was_made_with(tmp_path: Path) -> None:
    xmr.open(tmp_path / "new.duckdb").close()
    assert formats(tmp_path / "new.duckdb") == [(str(FORMAT_VERSION),), (FORMAT_VERSION, xmr.__version__)]


def test_an_older_library_is_brought_up_to_date_when_it_is_opened_for_writing(old: Path) -> None:
    assert formats(old) == [("1",)]
    with xmr.open(old) as db:
        assert set(TABLES) <= set(db.store.db.tables())
        assert len(db.search(item=0, k=3, space="flat")) == 3
        assert db.doctor() == []
    assert formats(old) == [(str(FORMAT_VERSION),), *((step.format, xmr.__version__) for step in migrations.STEPS)]


def test_a_migration_is_taken_once(old: Path) -> None:
    xmr.open(old).close()
    before = formats(old)
    xmr.open(old).close()
    assert formats(old) == before


def test_an_older_library_stays_as_it_is_when_it_is_only_read(old: Path, tmp_path: Path) -> None:
    with xmr.open(old, read_only=True, progress=False) as db:
        assert len(db.search(item=0, k=3, space="flat")) == 3
        assert db.spaces() and db.answerers() == [] and db.doctor() == []
        assert db.space("flat").pipeline
        db.export(tmp_path / "export")
    assert formats(old) == [("1",)]


def test_an_export_of_an_older_format_is_migrated_when_it_is_restored(old: Path, tmp_path: Path) -> None:
    with xmr.open(old, read_only=True) as db:
        db.export(tmp_path / "export")
        want = db.search(item=0, k=5, space="itq").ids.tolist()
    with xmr.open(tmp_path / "copy.duckdb", progress=False) as copy:
        copy.restore(tmp_path / "export")
        assert copy.search(item=0, k=5, space="itq").ids.tolist() == want
    assert formats(tmp_path / "copy.duckdb") == [
        (str(FORMAT_VERSION),),
        *((step.format, xmr.__version__) for step in migrations.STEPS),
    ]


def test_a_newer_format_says_who_wrote_it_and_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "newer.duckdb"
    with xmr.open(file) as db:
        db.sql("UPDATE xmr.meta SET value = '10' WHERE key = 'format_version'")  # as a number: 10 is more than 2
        db.sql("INSERT INTO xmr.migrations VALUES (10, '2031-01-01', '9.5.0')")
    with pytest.raises(xmr.SchemaVersionError, match=r"format 10, written by xmr 9\.5\.0.*pip install --upgrade xmr"):
        xmr.open(file, read_only=True)


@pytest.mark.parametrize("value", ["", "two", "0", "-1"])
def test_a_damaged_format_is_refused(tmp_path: Path, value: str) -> None:
    file = tmp_path / "damaged.duckdb"
    with xmr.open(file) as db:
        db.sql("UPDATE xmr.meta SET value = $1 WHERE key = 'format_version'", [value])
    with pytest.raises(xmr.SchemaVersionError, match="restore it from an export"):
        xmr.open(file)


def test_a_step_that_fails_leaves_the_old_format(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(con: object) -> None:
        migrations.make_tables(con)  # type: ignore[arg-type]  # the connection, whatever its class
        raise xmr.StorageError("no space left")

    monkeypatch.setattr(migrations, "STEPS", (migrations.Step(2, "fails", half),))
    with pytest.raises(xmr.StorageError, match="no space left"):
        xmr.open(old)
    assert formats(old) == [("1",)]


DIES = """
import os, signal, sys
import xmr_core as xmr
from xmr_storage import migrations

def half(con):
    migrations.make_tables(con)
    migrations.set_format(con, 2)
    os.kill(os.getpid(), signal.SIGKILL)

migrations.STEPS = (migrations.Step(2, "dies", half),)
xmr.open(sys.argv[1])
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_process_killed_in_a_migration_leaves_the_old_format(old: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DIES, str(old)], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert formats(old) == [("1",)]
    with xmr.open(old) as db:
        assert len(db.search(item=0, k=3, space="flat")) == 3
    assert formats(old)[0] == (str(FORMAT_VERSION),)
