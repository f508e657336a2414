"""Disk space that deleted rows took, reclaimed: the file is copied, checked, and replaced."""

from __future__ import annotations

import glob
import uuid
from collections.abc import Callable
from pathlib import Path

from xmr_core.errors import StorageError
from xmr_storage.duckdb.connection import DuckDBConnection
from xmr_storage.duckdb.instances import STORAGE_VERSION
from xmr_storage.quoting import literal, quoted

__all__ = ["compact"]


def compact(con: DuckDBConnection, republish: Callable[[], None]) -> tuple[int, int]:
    """Copy everything, your own tables too, into a fresh file and put it in the old one's place.

    The copy is checked by its catalog and row counts before it takes the place. Bytes before and after. Raises
    StorageError, and LockedError where another connection of this process is open on the file.
    """
    path = Path(con.url)
    fresh = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.half")
    try:
        con.require_writable()
        con.execute("CHECKPOINT")
        before = path.stat().st_size
        ours = f"{glob.escape(path.name)}.{'[0-9a-f]' * 8}.half"
        for left in [*path.parent.glob(ours), *path.parent.glob(f"{ours}.wal")]:  # by a process that was killed
            left.unlink()
        _copy(con, fresh)
        con.replace_file(fresh)
        republish()  # DuckDB's copy has dropped MATERIALIZED from them
        con.execute("CHECKPOINT")
        return before, path.stat().st_size
    except OSError as error:
        raise StorageError(f"{path}: cannot be compacted: {error}") from error
    finally:
        fresh.unlink(missing_ok=True)
        fresh.with_name(f"{fresh.name}.wal").unlink(missing_ok=True)


def _copy(con: DuckDBConnection, fresh: Path) -> None:
    ((database,),) = con.rows("SELECT current_database()")
    con.execute(f"ATTACH {literal(str(fresh))} AS xmr_fresh (STORAGE_VERSION '{STORAGE_VERSION}')")
    try:
        con.execute(f"COPY FROM DATABASE {quoted(database)} TO xmr_fresh")
        for what in (_row_counts, _catalog):
            if what(con, database) != what(con, "xmr_fresh"):
                raise StorageError(f"{con.url}: the copy differs from the file; the file is left as it was")
    finally:
        con.execute("DETACH xmr_fresh")


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
