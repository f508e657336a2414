"""Codes of a space version in the database: their table, what stands beside it, and the macros that query them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import StorageError
from xmr_core.types import Codes
from xmr_storage.quoting import identifier

if TYPE_CHECKING:
    import pyarrow as pa

    from xmr_core.store import SpaceRecord
    from xmr_storage.connection import Connection

__all__ = ["coded_ids", "drop", "get", "make", "publish", "put", "table_name"]


def table_name(space: str, version: int) -> str:
    """The table of a version's codes. Raises DataError on a name that cannot stand in SQL."""
    return f"code_{identifier(space, 'space')}_v{version:d}"


def make(con: Connection, space: SpaceRecord) -> None:
    """Make the empty table of codes of a new version, and fill the tables that SQL needs beside it."""
    from xmr_storage.duckdb import macros

    table = table_name(space.name, space.version)
    columns = ", ".join(f"{name} {kind} NOT NULL" for name, kind in macros.code_columns(space.layout))
    con.execute(f"CREATE TABLE xmr.{table} (item_id BIGINT NOT NULL, modality VARCHAR NOT NULL, {columns})")
    if space.sql is not None:
        for statement, given in macros.space_tables(space.name, space.version, space.layout, space.sql):
            _fill(con, statement, given)


def _fill(con: Connection, statement: str, given: pa.Table | None) -> None:
    with con.given(**({} if given is None else {"_given_rows": given})):
        con.execute(statement)


def publish(con: Connection, space: SpaceRecord) -> None:
    """Let the views and macros of the space's name mean this version."""
    from xmr_storage.duckdb import macros

    lengths = _piece_lengths(con, space.name, space.version)
    for statement in macros.space_statements(space.name, space.version, space.layout, space.metric, lengths):
        con.execute(statement)


def _piece_lengths(con: Connection, name: str, version: int) -> list[int]:
    """Of a lattice's points, as far as SQL can read them."""
    from xmr_storage.duckdb import macros

    table, query = macros.lengths_query(name, version)
    return [length for _, length in con.rows(query)] if table in con.tables(table) else []


def drop(con: Connection, name: str, versions: Iterable[int], published: bool) -> None:
    """Drop the tables of these versions, and with the published one the views and macros of the name."""
    from xmr_storage.duckdb import macros

    if published:
        for statement in macros.drop_statements(name):
            con.execute(statement)
    for version in versions:
        for table in macros.tables_of(name, version):
            con.execute(f"DROP TABLE IF EXISTS xmr.{table}")


def put(con: Connection, name: str, version: int, modality: str, codes: Codes) -> None:
    """Insert codes of one modality."""
    from xmr_storage.arrow import table_of_codes

    con.insert(table_name(name, version), table_of_codes(codes, modality))


def get(con: Connection, space: SpaceRecord, modality: str) -> Codes:
    """All codes of a modality, ascending by id. Raises StorageError where they are damaged."""
    from xmr_storage.arrow import codes_of_table
    from xmr_storage.duckdb import macros

    columns = ", ".join(column for column, _ in macros.code_columns(space.layout))
    query = f"""
        SELECT item_id, {columns}
        FROM xmr.{table_name(space.name, space.version)}
        WHERE modality = $1
        ORDER BY item_id
        """
    try:
        return codes_of_table(con.arrow(query, [modality]), space.layout)
    except ValueError as error:
        raise StorageError(f"{con.url}: the codes of space {space.name!r} are damaged: {error}") from error


def coded_ids(con: Connection, name: str, version: int, modality: str) -> NDArray[np.int64]:
    """The ids of `get`, without the codes."""
    query = f"SELECT item_id FROM xmr.{table_name(name, version)} WHERE modality = $1 ORDER BY item_id"
    return np.asarray(con.arrow(query, [modality])["item_id"].to_numpy(), np.int64)
