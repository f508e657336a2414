"""Disk space that deleted rows took, reclaimed: the file is copied, checked, and replaced."""

from __future__ import annotations

import contextlib
import glob
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from xmr_core.errors import DiskFullError, StorageError, not_written
from xmr_storage.duckdb.connection import DuckDBConnection
from xmr_storage.duckdb.instances import STORAGE_VERSION
from xmr_storage.quoting import literal, quoted

__all__ = ["compact", "remove_halves"]

Table: TypeAlias = tuple[str, str]  # schema and name


class ForeignKey(NamedTuple):
    """Columns of a table that refer to columns of its parent."""

    parent: Table
    columns: Sequence[str]
    referenced: Sequence[str]


def compact(con: DuckDBConnection, republish: Callable[[], None]) -> tuple[int, int]:
    """Copy everything, your own tables too, into a fresh file and put it in the old one's place.

    The copy is checked by its catalog and row counts before it takes the place, and does so where it is smaller. Bytes
    before and after. Raises StorageError, DiskFullError, and LockedError where another connection of this process is
    open on the file.
    """
    path = Path(con.url)
    con.require_writable()
    with con.writer:  # what is committed after the copy would be lost
        try:
            remove_halves(path)
            _require_room(con, path)
            con.execute("CHECKPOINT")
            before = path.stat()
            _copy(con, half_of(path))
            if half_of(path).stat().st_size >= before.st_size:  # nothing to win, as after a compact that was killed
                return before.st_size, before.st_size
            con.replace_file(half_of(path), before.st_mtime_ns)
            republish()  # DuckDB's copy has dropped MATERIALIZED from them
            con.execute("CHECKPOINT")
            return before.st_size, path.stat().st_size
        except OSError as error:
            raise not_written(path, error) from error
        finally:
            _remove(half_of(path))


def half_of(path: Path) -> Path:
    """The name of the copy of a file until it takes its place."""
    return path.with_name(f"{path.name}.half")


def remove_halves(path: Path, everywhere: bool = True) -> None:
    """Remove what killed processes have left beside a file: copies, and what DuckDB moved out of memory for a while.

    Whoever writes the file is alone with it, so that nobody uses them. Copies of earlier versions, which had other
    names, are looked for where it is `everywhere`: the folder may hold very many files.
    """
    _remove(half_of(path))
    spilled = path.with_name(f"{path.name}.tmp")
    if spilled.is_dir():
        for left in spilled.glob("duckdb_temp_*"):
            left.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            spilled.rmdir()
    for left in path.parent.glob(f"{glob.escape(path.name)}.{'[0-9a-f]' * 8}.half") if everywhere else ():
        _remove(left)


def _remove(half: Path) -> None:
    half.unlink(missing_ok=True)
    half.with_name(f"{half.name}.wal").unlink(missing_ok=True)


def _require_room(con: DuckDBConnection, path: Path) -> None:
    """Raise DiskFullError where the disk cannot hold the copy."""
    ((used,),) = con.rows("SELECT max(used_blocks * block_size) FROM pragma_database_size()")
    free, wanted = shutil.disk_usage(path.parent).free, used + con.instance.checkpointed
    if free < wanted:
        raise DiskFullError(
            f"{path}: compact copies what is left of the file and wants up to {wanted / 2**20:.1f} MB; the disk has "
            f"{free / 2**20:.1f} MB free. Without it, new items take the place of deleted ones"
        )


def _copy(con: DuckDBConnection, fresh: Path) -> None:
    ((database,),) = con.rows("SELECT current_database()")
    con.execute("DETACH DATABASE IF EXISTS xmr_fresh")  # of a call that was interrupted
    con.execute(f"ATTACH {literal(str(fresh))} AS xmr_fresh (STORAGE_VERSION '{STORAGE_VERSION}')")
    try:
        if any(_references(con, database).values()):
            _copy_in_order(con, database)
        else:
            con.execute(f"COPY FROM DATABASE {quoted(database)} TO xmr_fresh")
        for what in (_row_counts, _catalog):
            if what(con, database) != what(con, "xmr_fresh"):
                raise StorageError(f"{con.url}: the copy differs from the file; the file is left as it was")
    finally:
        with contextlib.suppress(StorageError):  # the first error is the one to report
            con.execute("DETACH DATABASE IF EXISTS xmr_fresh")


def _copy_in_order(con: DuckDBConnection, database: str) -> None:
    """Copy a database with foreign keys, parents first: DuckDB by itself copies tables by name."""
    con.execute(f"COPY FROM DATABASE {quoted(database)} TO xmr_fresh (SCHEMA)")
    references = _references(con, database)
    copied: set[Table] = set()
    while left := references.keys() - copied:
        ready = {table for table in left if {key.parent for key in references[table]} - {table} <= copied}
        for table in sorted(ready or left):  # tables in a circle of references hold no rows
            _copy_rows(con, database, table, [key for key in references[table] if key.parent == table])
            copied.add(table)


def _references(con: DuckDBConnection, database: str) -> dict[Table, list[ForeignKey]]:
    """The tables of a database, as schema and name, and the foreign keys of each, which stay within a schema."""
    tables = con.rows("SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = $1", [database])
    keys = con.rows(
        """
        SELECT schema_name, table_name, referenced_table, constraint_column_names, referenced_column_names
        FROM duckdb_constraints()
        WHERE database_name = $1 AND constraint_type = 'FOREIGN KEY'
        """,
        [database],
    )
    references: dict[Table, list[ForeignKey]] = {table: [] for table in tables}
    for schema, table, parent, columns, referenced in keys:
        references[schema, table].append(ForeignKey((schema, parent), columns, referenced))
    return references


def _copy_rows(con: DuckDBConnection, database: str, table: Table, keys: Sequence[ForeignKey]) -> None:
    """Copy the rows of a table in their order; with `keys` to the table itself, those first that others refer to."""
    source, target = (".".join(map(quoted, (name, *table))) for name in (database, "xmr_fresh"))
    columns = ", ".join(map(quoted, _stored_columns(con, database, table, target)))
    insert = f"INSERT INTO {target} ({columns}) SELECT {columns} FROM {source} AS s"
    if not keys:
        con.execute(f"{insert} ORDER BY s.rowid")
        return
    terms = [
        f"NOT EXISTS (FROM {target} AS t WHERE {_equal('t', key.referenced, 's', key.referenced)})" for key in keys
    ]
    for key in keys:
        nothing = " OR ".join(f"s.{quoted(column)} IS NULL" for column in key.columns)
        known = f"EXISTS (FROM {target} AS t WHERE {_equal('t', key.referenced, 's', key.columns)})"
        terms.append(f"({nothing} OR {known})")
    copied, before = 0, -1
    while copied != before:
        con.execute(f"{insert} WHERE {' AND '.join(terms)} ORDER BY s.rowid")
        before, ((copied,),) = copied, con.rows(f"SELECT count(*) FROM {target}")


def _equal(one: str, columns: Sequence[str], other: str, others: Sequence[str]) -> str:
    pairs = zip(columns, others, strict=True)
    return " AND ".join(f"{one}.{quoted(a)} = {other}.{quoted(b)}" for a, b in pairs)


def _stored_columns(con: DuckDBConnection, database: str, table: Table, target: str) -> list[str]:
    """The columns of a table but the generated ones: DuckDB lists these with a default, and refuses to fill them."""
    rows = con.rows(
        """
        SELECT column_name, column_default
        FROM duckdb_columns()
        WHERE database_name = $1 AND schema_name = $2 AND table_name = $3
        ORDER BY column_index
        """,
        [database, *table],
    )
    return [name for name, default in rows if default is None or _takes_values(con, target, name)]


def _takes_values(con: DuckDBConnection, target: str, column: str) -> bool:
    try:
        con.execute(f"EXPLAIN INSERT INTO {target} ({quoted(column)}) SELECT NULL LIMIT 0")
    except StorageError:
        return False
    return True


def _catalog(con: DuckDBConnection, database: str) -> list[tuple[str, ...]]:
    """Kind, schema and name of all that a database holds beside its rows."""
    return con.rows(
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


def _row_counts(con: DuckDBConnection, database: str) -> dict[tuple[str, str], int]:
    tables = con.rows(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = $1 AND NOT internal", [database]
    )
    counts = {}
    for schema, table in tables:
        name = ".".join(map(quoted, (database, schema, table)))
        ((counts[schema, table],),) = con.rows(f"SELECT count(*) FROM {name}")
    return counts
