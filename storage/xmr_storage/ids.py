"""Ids of items: which are free, and how they go into statements and come out of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmr_storage.records import code_tables

if TYPE_CHECKING:
    import pyarrow as pa

    from xmr_storage.connection import Connection

__all__ = ["count_ids", "highest_id", "highest_in_use", "ids_of", "next_id", "wanted"]

LARGEST = (1 << 63) - 1  # of a BIGINT


def next_id(con: Connection) -> int:
    """The smallest id above all that are or were in use: by items, by codes without items, by items now deleted.

    One that is deleted is never given again, since tables of the user's may refer to it.
    """
    counters = dict(con.rows("SELECT key, value FROM xmr.meta WHERE key IN ('next_id', 'revision')"))
    if len(counters) < 2:  # written before ids were counted
        return highest_id(con) + 1
    return max(int(counters["next_id"]), con.changing.next_id if con.changing else 0)


def count_ids(con: Connection) -> None:
    """Set the counter by what is there: in an older library, one that was restored, or one that was damaged."""
    for (value,) in con.rows("SELECT value FROM xmr.meta WHERE key = 'next_id'"):
        if not value.isdecimal() or int(value) > LARGEST:
            con.execute("DELETE FROM xmr.meta WHERE key = 'next_id' AND value = $1", [value])
    top = highest_id(con) + 1
    con.execute("DELETE FROM xmr.meta WHERE key = 'next_id'")
    con.execute("INSERT INTO xmr.meta (key, value) VALUES ('next_id', $1)", [str(top)])


def highest_id(con: Connection) -> int:
    """The highest id that is in use, or was when an item was last deleted; -1 where there is none. It reads all ids."""
    ((top,),) = con.rows("SELECT max(CAST(value AS BIGINT)) - 1 FROM xmr.meta WHERE key = 'next_id'")
    return max(highest_in_use(con), -1 if top is None else int(top))


def highest_in_use(con: Connection) -> int:
    """The highest id of an item or a code; -1 where there is none. It reads all ids."""
    used = [f"SELECT max(item_id) AS top FROM xmr.{table}" for table in ("items", *code_tables(con))]
    ((top,),) = con.rows(f"SELECT coalesce(max(top), -1) FROM ({' UNION ALL '.join(used)}) AS used")
    return int(top)


def wanted(ids: NDArray[np.int64]) -> pa.Table:
    """Ids with their rows, so that a join can give its answers in the order of the ids."""
    import pyarrow as pa

    return pa.table({"place": np.arange(len(ids)), "item_id": ids})


def ids_of(table: pa.Table, column: str = "item_id") -> NDArray[np.int64]:
    """A column of whole numbers."""
    return np.asarray(table[column].to_numpy(), np.int64)
