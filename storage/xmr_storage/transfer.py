"""A library out of a database and into another: a Parquet file a table, and `library.json` to read them back."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from xmr_core.errors import SchemaVersionError, StorageError, not_written
from xmr_storage import migrations
from xmr_storage.codes import table_name
from xmr_storage.quoting import identifier, quoted
from xmr_storage.records import records

if TYPE_CHECKING:
    from xmr_storage.connection import Connection

__all__ = ["export", "remove_halves", "restore"]

MANIFEST = "library.json"
EXPORTS = "exports"  # notes of exports that are being written, in the folder beside the library
HALF = re.compile(r"\.[0-9a-f]{8}\.half$")
PROCESS = uuid.uuid4().hex[:12]  # in the names of notes of this process


def export(con: Connection, folder: Path, beside: Path | None = None, derived: Collection[str] = ()) -> None:
    """Write every table of the library as `<table>.parquet`, and what is needed to read them back as `library.json`.

    Tables that are `derived` from others are left out: who restores them makes them again. The folder appears whole or
    not at all. `beside` is the folder of what belongs to the library, in which it is noted
    until then, for `remove_halves`. Raises StorageError where the folder is there already and not empty, or cannot be
    written, DiskFullError.
    """
    folder = folder.resolve()
    half = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.half")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise StorageError(f"{folder}: not empty; export into a new folder")
        with _noted(half, beside):
            half.mkdir(parents=True)
            _write(con, half, derived)
            if folder.exists():
                folder.rmdir()
            half.rename(folder)
    except OSError as error:
        raise not_written(folder, error) from error
    finally:
        shutil.rmtree(half, ignore_errors=True)


@contextlib.contextmanager
def _noted(half: Path, beside: Path | None) -> Iterator[None]:
    """Inside, a note says that an export is being written, where that can be written itself."""
    note = beside / EXPORTS / f"{PROCESS}-{uuid.uuid4().hex[:12]}" if beside is not None else None
    with contextlib.suppress(OSError, UnicodeEncodeError):
        if note is not None:
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(str(half), encoding="utf-8")
    try:
        yield
    finally:
        if note is not None:
            _forget(note)


def remove_halves(beside: Path) -> None:
    """Remove the exports that killed processes have left half, by their notes; nobody else has the library open.

    A note names a folder, and whoever sent the library may have written it: what is no half of an export stays.
    """
    for note in (beside / EXPORTS).glob("*"):
        if note.name.startswith(PROCESS):
            continue
        with contextlib.suppress(OSError, ValueError):
            half = Path(note.read_text(encoding="utf-8"))
            names = {file.name for file in half.iterdir()} if not half.is_symlink() else {""}
            if HALF.search(half.name) and all(name == MANIFEST or name.endswith(".parquet") for name in names):
                shutil.rmtree(half)
        _forget(note)


def _forget(note: Path) -> None:
    with contextlib.suppress(OSError):
        note.unlink(missing_ok=True)
        note.parent.rmdir()
        note.parent.parent.rmdir()


def _write(con: Connection, folder: Path, derived: Collection[str]) -> None:
    tables = {}
    for table in (name for name in con.tables() if name not in derived):
        con.write(table, folder / f"{table}.parquet")
        tables[table] = con.columns(table)
    (folder / MANIFEST).write_text(
        json.dumps({"format_version": migrations.format_of(con), "tables": tables}, indent=1)
    )


def restore(con: Connection, folder: Path) -> None:
    """Read an export into the tables of an empty library, whole or not at all; one of an older format is migrated.

    Only data is read, no SQL.
    """
    from xmr_storage.schema import FIRST, FORMAT_VERSION, TABLES

    try:
        if (folder / MANIFEST).exists() and not (folder / MANIFEST).is_file():  # reading a pipe never ends
            raise StorageError(f"{folder} is no export of a library: its {MANIFEST} is not a file")
        manifest = json.loads((folder / MANIFEST).read_text())
        version, tables = manifest["format_version"], {key: dict(kinds) for key, kinds in manifest["tables"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StorageError(f"{folder} is no export of a library: {error}") from None
    if not migrations.known(version):
        raise SchemaVersionError(
            f"{folder}: exported with format {version}, this version knows formats up to {FORMAT_VERSION}; "
            "upgrade xmr to restore it: pip install --upgrade xmr"
        )
    _require_all(folder, FIRST - tables.keys())
    with con.transaction():
        con.execute("DELETE FROM xmr.migrations")  # those of the export are the library's
        for table, columns in tables.items():
            identifier(table, "table")
            kinds = {name: _plain_type(kind) for name, kind in columns.items()}
            if table not in TABLES:
                named = ", ".join(f"{quoted(name)} {kind}" for name, kind in kinds.items())
                con.execute(f"CREATE TABLE xmr.{table} ({named})")
            known = {name.lower() for name in con.columns(table)}
            for name, kind in kinds.items() if table == "metadata" else ():
                if name.lower() not in known:
                    con.execute(f"ALTER TABLE xmr.metadata ADD COLUMN {quoted(name)} {kind}")
            con.execute(f"DELETE FROM xmr.{table}")
            con.read(table, folder / f"{table}.parquet", kinds)
        migrations.migrate(con)
        codes = {table_name(space.name, space.version) for space in records(con)}
        _require_all(folder, codes - set(con.tables()))


def _require_all(folder: Path, lacking: Collection[str]) -> None:
    """Raise StorageError where an export lacks tables: half a library would seem whole."""
    if lacking:
        raise StorageError(
            f"{folder} is not a whole export: its {MANIFEST} lacks {', '.join(sorted(lacking))}; "
            "restore another copy of it, or export the library again"
        )


def _plain_type(kind: str) -> str:
    """A column type of a manifest, if it is one that a library uses: the text goes into SQL."""
    from xmr_storage.kinds import arrow_type, sql_type

    try:
        return sql_type(arrow_type(str(kind)))
    except ValueError as error:
        raise StorageError(f"the export has a column of type {kind!r}, which no library has") from error
