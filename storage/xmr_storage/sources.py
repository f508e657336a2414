"""Where items came from: the table `xmr.sources`, by which a folder is synced and nothing else is touched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmr_storage.ids import ids_of

if TYPE_CHECKING:
    from xmr_storage.connection import Connection

__all__ = ["elsewhere", "get", "put"]


def get(con: Connection, source: str) -> tuple[NDArray[np.int64], list[str]]:
    """(n,) ascending ids of the items that came from a source, and the stamps of their files."""
    if not con.columns("sources"):  # an older file, open for reading only
        return np.empty(0, np.int64), []
    rows = con.rows(
        """
        SELECT s.item_id, s.stamp
        FROM xmr.sources AS s JOIN xmr.items AS i ON i.item_id = s.item_id
        WHERE s.source = $1
        ORDER BY s.item_id
        """,
        [source],
    )
    return np.array([item for item, _ in rows], np.int64), [stamp for _, stamp in rows]


def put(con: Connection, source: str, ids: NDArray[np.int64], stamps: Sequence[str]) -> None:
    """Remember that these items came from a source, and no others."""
    import pyarrow as pa

    named = pa.array([source]).take(pa.array(np.zeros(len(ids), np.int8)))
    with con.transaction(counted=False):
        con.execute("DELETE FROM xmr.sources WHERE source = $1", [source])
        con.insert("sources", pa.table({"source": named, "item_id": ids, "stamp": pa.array(stamps, pa.string())}))


def elsewhere(con: Connection, source: str, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ascending, those of the ids that came from another source."""
    import pyarrow as pa

    query = """
        SELECT DISTINCT s.item_id
        FROM xmr.sources AS s JOIN _asked AS a ON a.item_id = s.item_id
        WHERE s.source <> $1
        ORDER BY s.item_id
        """
    with con.given(_asked=pa.table({"item_id": ids})):
        return ids_of(con.arrow(query, [source]))
