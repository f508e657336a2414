"""Items that get other content or other vectors: what was made of the old goes, in the same transaction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import DataError
from xmr_core.store import ItemRows
from xmr_storage import features
from xmr_storage.codes import table_name
from xmr_storage.records import records

if TYPE_CHECKING:
    import pyarrow as pa

    from xmr_storage.connection import Connection

__all__ = ["replace_items", "replace_vectors"]

CHOSEN = "item_id BETWEEN $1 AND $2 AND item_id IN (SELECT item_id FROM _chosen)"  # limits spare reading the rest
UPDATE = """
    UPDATE xmr.items AS i
    SET content = g.content, source = g.source, text = g.text, data = g.data
    FROM _replaced AS g
    WHERE g.item_id = i.item_id
    """
OTHERS = """
    SELECT g.item_id
    FROM _replaced AS g JOIN xmr.items AS i ON i.item_id = g.item_id AND i.modality = $1
    WHERE i.content <> g.content
    ORDER BY g.item_id
    """
FOUND = "SELECT count(*) FROM _replaced AS g JOIN xmr.items AS i ON i.item_id = g.item_id AND i.modality = $1"


def replace_items(con: Connection, rows: ItemRows, table: pa.Table) -> None:
    """Give stored items the content of these rows; where its hash is another, all that was made of the old goes.

    `table` has the rows as they are stored. Raises DataError where an id does not exist, or has another modality.
    """
    from xmr_storage.ids import ids_of

    with con.transaction():
        with con.given(_replaced=table):
            ((found,),) = con.rows(FOUND, [rows.modality])
            if found != len(rows.ids):
                raise DataError(f"{len(rows.ids) - found} of {len(rows.ids)} {rows.modality} ids do not exist")
            others = ids_of(con.arrow(OTHERS, [rows.modality]))
            con.execute(UPDATE)
        if len(others):
            _delete(con, others, features.tables(con))
            _forget_codes(con, rows.modality, others)


def replace_vectors(
    con: Connection, modality: str, extractor: str, ids: NDArray[np.int64], vectors: NDArray[np.float32]
) -> None:
    """Keep ready-made vectors (n, d) in the place of those before. Raises DataError where the width is another."""
    with con.transaction():
        _delete(con, ids, [table for table in features.tables(con) if table == extractor])
        features.put(con, extractor, ids, vectors)
        _forget_codes(con, modality, ids)


def _forget_codes(con: Connection, modality: str, ids: NDArray[np.int64]) -> None:
    """Delete the codes of items in every version of every space, and where spaces looked in them."""
    tables = set(con.tables("code_"))
    spaces = [space for space in records(con) if table_name(space.name, space.version) in tables]
    _delete(con, ids, ["attention", *(table_name(space.name, space.version) for space in spaces)])
    for space in spaces:
        con.noted.went(ids, space.name, space.version, modality)


def _delete(con: Connection, ids: NDArray[np.int64], tables: Iterable[str]) -> None:
    import pyarrow as pa

    if not len(ids):
        return
    limits = [int(ids.min()), int(ids.max())]
    with con.given(_chosen=pa.table({"item_id": np.unique(ids)})):
        for table in tables:
            con.execute(f"DELETE FROM xmr.{table} WHERE {CHOSEN}", limits)
