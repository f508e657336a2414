"""Codes of a space version in any SQL database: one table, with the columns of its layout."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from xmr_storage.duckdb.codes import coded_ids, get, put, table_name

if TYPE_CHECKING:
    from xmr_core.store import SpaceRecord
    from xmr_storage.connection import Connection

__all__ = ["coded_ids", "drop", "get", "make", "put", "table_name"]


def make(con: Connection, space: SpaceRecord) -> None:
    """Make the empty table of codes of a new version."""
    from xmr_storage.duckdb import macros

    columns = ", ".join(f"{name} {kind} NOT NULL" for name, kind in macros.code_columns(space.layout))
    table = table_name(space.name, space.version)
    con.execute(f"CREATE TABLE xmr.{table} (item_id BIGINT NOT NULL, modality VARCHAR NOT NULL, {columns})")


def drop(con: Connection, name: str, versions: Iterable[int]) -> None:
    """Drop the codes of these versions."""
    for version in versions:
        con.execute(f"DROP TABLE IF EXISTS xmr.{table_name(name, version)}")
