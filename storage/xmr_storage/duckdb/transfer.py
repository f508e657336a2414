"""A whole library out of a file and into another: export, restore, compact; and doctor, which looks for faults."""

from __future__ import annotations

import glob
import json
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmr_core.errors import SchemaVersionError, StorageError

if TYPE_CHECKING:
    from xmr_storage.duckdb.store import DuckDBStore

__all__ = ["compact", "doctor", "export", "restore"]

MANIFEST = "library.json"
PLAIN_TYPES = {
    *("BIGINT", "UBIGINT", "INTEGER", "SMALLINT", "TINYINT", "UTINYINT", "FLOAT", "DOUBLE"),
    *("VARCHAR", "BLOB", "BOOLEAN", "DATE", "TIMESTAMP"),
}


def export(store: DuckDBStore, folder: Path) -> None:
    """Write every table of the library as `<table>.parquet`, and what is needed to read them back as `library.json`.

    The folder appears whole or not at all. Raises StorageError where it is there already and not empty, or cannot be
    written.
    """
    folder = folder.resolve()
    half = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.half")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise StorageError(f"{folder}: not empty; export into a new folder")
        half.mkdir(parents=True)
        _write(store, half)
        if folder.exists():
            folder.rmdir()
        half.rename(folder)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _write(store: DuckDBStore, folder: Path) -> None:
    from xmr_storage.quoting import literal, quoted
    from xmr_storage.schema import FORMAT_VERSION

    tables = {}
    for table in store.tables():
        path = literal(str(folder / f"{table}.parquet"))
        rows = f"SELECT * FROM xmr.{quoted(table)} ORDER BY rowid"
        store.execute(f"COPY ({rows}) TO {path} (FORMAT parquet, COMPRESSION zstd)")
        tables[table] = store.columns(table)
    (folder / MANIFEST).write_text(json.dumps({"format_version": FORMAT_VERSION, "tables": tables}, indent=1))


def restore(store: DuckDBStore, folder: Path) -> None:
    """Read an export into an empty library; whole or not at all. Only data is read from the folder, no SQL."""
    from xmr_storage.quoting import identifier, literal, quoted
    from xmr_storage.schema import FORMAT_VERSION, TABLES

    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        version, tables = manifest["format_version"], {key: dict(kinds) for key, kinds in manifest["tables"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StorageError(f"{folder} is no export of a library: {error}") from None
    if version != FORMAT_VERSION:
        raise SchemaVersionError(f"{folder}: exported with format {version}, this version knows {FORMAT_VERSION}")
    if store.counts().keys() - {"pairs", "labels"} or store.spaces() or store.answerers():
        raise StorageError(f"{store.url}: not empty; restore into a new file")
    with store.transaction():
        for table, columns in tables.items():
            identifier(table, "table")
            kinds = {name: _plain_type(kind) for name, kind in columns.items()}
            if table not in TABLES:
                store.execute(
                    f"CREATE TABLE xmr.{table} ({', '.join(f'{quoted(name)} {kind}' for name, kind in kinds.items())})"
                )
            for name, kind in kinds.items() if table == "metadata" else ():
                store.execute(f"ALTER TABLE xmr.metadata ADD COLUMN IF NOT EXISTS {quoted(name)} {kind}")
            store.execute(f"DELETE FROM xmr.{table}")
            names = ", ".join(f"{quoted(name)}::{kind} AS {quoted(name)}" for name, kind in kinds.items())
            source = literal(str(folder / f"{table}.parquet"))
            store.execute(f"INSERT INTO xmr.{table} BY NAME SELECT {names} FROM read_parquet({source})")
        store.make_catalog()
        store.make_macros()


def _plain_type(kind: str) -> str:
    """A column type of a manifest, if it is one that a library uses: the text goes into SQL."""
    base = str(kind).split("[", 1)[0]
    size = str(kind)[len(base) :]
    if base not in PLAIN_TYPES or not re.fullmatch(r"(\[\d*\])?", size):
        raise StorageError(f"the export has a column of type {kind!r}, which no library has")
    return kind


def compact(store: DuckDBStore) -> tuple[int, int]:
    """Copy everything, your own tables too, into a fresh file and put it in the old one's place.

    The copy is checked by its catalog and row counts before it takes the place. Bytes before and after. Raises
    StorageError, and LockedError where another connection of this process is open on the file.
    """
    if store.folder is None:
        return 0, 0
    path = Path(store.url)
    fresh = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.half")
    try:
        store.require_writable()
        store.execute("CHECKPOINT")
        before = path.stat().st_size
        ours = f"{glob.escape(path.name)}.{'[0-9a-f]' * 8}.half"
        for left in [*path.parent.glob(ours), *path.parent.glob(f"{ours}.wal")]:  # by a process that was killed
            left.unlink()
        _copy(store, fresh)
        store.replace_file(fresh)
        store.make_macros()  # DuckDB's copy has dropped MATERIALIZED from them
        store.execute("CHECKPOINT")
        return before, path.stat().st_size
    except OSError as error:
        raise StorageError(f"{path}: cannot be compacted: {error}") from error
    finally:
        fresh.unlink(missing_ok=True)
        fresh.with_name(f"{fresh.name}.wal").unlink(missing_ok=True)


def _copy(store: DuckDBStore, fresh: Path) -> None:
    from xmr_storage.duckdb.store import STORAGE_VERSION
    from xmr_storage.quoting import literal, quoted

    ((database,),) = store.rows("SELECT current_database()")
    store.execute(f"ATTACH {literal(str(fresh))} AS xmr_fresh (STORAGE_VERSION '{STORAGE_VERSION}')")
    try:
        store.execute(f"COPY FROM DATABASE {quoted(database)} TO xmr_fresh")
        for what in (_row_counts, _catalog):
            if what(store, database) != what(store, "xmr_fresh"):
                raise StorageError(f"{store.url}: the copy differs from the file; the file is left as it was")
    finally:
        store.execute("DETACH xmr_fresh")


def _catalog(store: DuckDBStore, database: str) -> list[tuple[str, ...]]:
    """Kind, schema and name of all that a database holds beside its rows."""
    return store.rows(
        """
        SELECT 'view', schema_name, view_name FROM duckdb_views() WHERE database_name = $1 AND NOT internal
        UNION ALL
        SELECT 'index', schema_name, index_name FROM duckdb_indexes() WHERE database_name = $1
        UNION ALL
        SELECT 'sequence', schema_name, sequence_name FROM duckdb_sequences() WHERE database_name = $1
        UNION ALL
        SELECT 'macro', schema_name, function_name FROM duckdb_functions() WHERE database_name = $1 AND NOT internal
        UNION ALL
        SELECT 'type', schema_name, type_name FROM duckdb_types() WHERE database_name = $1 AND NOT internal
        UNION ALL
        SELECT 'constraint', schema_name, table_name || constraint_text
        FROM duckdb_constraints()
        WHERE database_name = $1
        ORDER BY ALL
        """,
        [database],
    )


def _row_counts(store: DuckDBStore, database: str) -> dict[tuple[str, str], int]:
    from xmr_storage.quoting import quoted

    tables = store.rows(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = $1 AND NOT internal", [database]
    )
    counts = {}
    for schema, table in tables:
        name = ".".join(map(quoted, (database, schema, table)))
        ((counts[schema, table],),) = store.rows(f"SELECT count(*) FROM {name}")
    return counts


def doctor(store: DuckDBStore) -> Iterator[str]:
    """Sentences on what does not fit together."""
    for what, query in _CHECKS.items():
        ((count,),) = store.rows(query)
        if count:
            yield f"{count} {what}"
    for space in store.spaces():
        yield from _doctor_space(store, space.name, space.version, bool(space.published))
    for what, query in _ATTENTION_CHECKS.items() if store.columns("attention") else ():  # an older file has none
        ((count,),) = store.rows(query)
        if count:
            yield f"{count} {what}"
    for answerer in store.answerers():
        if [part.role for part in store.load_answerer(answerer.name).parts] != ["encoder", "answerer"]:
            yield f"the parts of answerer {answerer.name!r} are damaged; drop it, and learn again"


def _doctor_space(store: DuckDBStore, name: str, version: int, published: bool) -> Iterator[str]:
    table = f"xmr.code_{name}_v{version:d}"
    if table.removeprefix("xmr.") not in store.tables("code_"):
        yield f"the codes of space {name!r} version {version} are gone; drop it, and fit again"
        return
    ((twice,),) = store.rows(f"SELECT count(*) - count(DISTINCT (item_id, modality)) FROM {table}")
    if twice:
        yield f"{twice} codes of space {name!r} version {version} are there twice"
    record = store.load_space(name, version)
    if record.parts and record.parts[0].role == "encoder":
        ((lost,),) = store.rows(f"SELECT count(*) FROM {table} WHERE item_id NOT IN (SELECT item_id FROM xmr.items)")
        if lost:
            yield f"{lost} codes of space {name!r} version {version} name no item"
        missing = store.rows(
            f"SELECT count(*) FROM xmr.items WHERE item_id NOT IN (SELECT item_id FROM {table}) "
            f"AND modality IN (SELECT DISTINCT modality FROM {table})"
        )
        if published and missing[0][0]:
            yield f"{missing[0][0]} items have no code in space {name!r}; refresh makes them"


_CHECKS: dict[str, Any] = {
    "item ids are there twice": "SELECT count(*) - count(DISTINCT item_id) FROM xmr.items",
    "keys name two items of one modality": "SELECT count(*) - count(DISTINCT (modality, key)) FROM xmr.items",
    "pairs name an item that is not there": """
        SELECT count(*) FROM xmr.pairs
        WHERE image_id NOT IN (SELECT item_id FROM xmr.items) OR text_id NOT IN (SELECT item_id FROM xmr.items)
        """,
    "labels name an item that is not there": """
        SELECT count(*) FROM xmr.labels WHERE item_id NOT IN (SELECT item_id FROM xmr.items)
        """,
    "rows of metadata name an item that is not there": """
        SELECT count(*) FROM xmr.metadata WHERE item_id NOT IN (SELECT item_id FROM xmr.items)
        """,
}

_ATTENTION_CHECKS: dict[str, Any] = {
    "rows of attention name an item that is not there": """
        SELECT count(*) FROM xmr.attention WHERE item_id NOT IN (SELECT item_id FROM xmr.items)
        """,
    "rows of attention name a space that is not there": """
        SELECT count(*) FROM xmr.attention WHERE (space, version) NOT IN (SELECT (space, version) FROM xmr.spaces)
        """,
}
