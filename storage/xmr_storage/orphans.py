"""Codes whose item somebody deleted in SQL: they are found when a library is opened, and no search returns them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import StorageError
from xmr_storage.codes import table_name
from xmr_storage.ids import ids_of

if TYPE_CHECKING:
    from xmr_storage.connection import Connection

__all__ = ["Orphans", "delete", "find"]

OF_NO_ITEM = "item_id NOT IN (SELECT item_id FROM xmr.items)"
Orphans = Mapping[tuple[str, int], NDArray[np.int64]]  # space and version to ids, ascending


def find(con: Connection) -> Orphans:
    """The ids that have a code in a space of items, and no item. Spaces of embeddings have codes without items.

    None where a table cannot be read: `doctor` names it.
    """
    with contextlib.suppress(StorageError):
        return dict(_found(con))
    return {}


def _found(con: Connection) -> Iterator[tuple[tuple[str, int], NDArray[np.int64]]]:
    encoders = con.rows("SELECT space, version FROM xmr.parts WHERE position = 0 AND role = 'encoder' AND version > 0")
    items, tables = _sums(con, "items") if encoders else (), set(con.tables("code_"))
    for name, version in encoders:
        table = table_name(name, version)
        if table in tables and _sums(con, table) != items:  # most spaces have a code of each item: nothing to compare
            ids = con.arrow(f"SELECT DISTINCT item_id FROM xmr.{table} WHERE {OF_NO_ITEM} ORDER BY item_id")
            if len(ids):
                yield (name, version), ids_of(ids)


def delete(con: Connection) -> None:
    """Delete these codes, so that every handle and every index follows."""
    found = find(con)
    if found:
        with con.transaction():
            for (name, version), ids in found.items():
                con.execute(f"DELETE FROM xmr.{table_name(name, version)} WHERE {OF_NO_ITEM}")
                con.noted.went(ids, name, version)


def _sums(con: Connection, table: str) -> tuple[int, ...]:
    """The number and the sum of the ids of a table."""
    ((count, total),) = con.rows(f"SELECT count(*), sum(item_id) FROM xmr.{table}")
    return int(count), int(total or 0)
