"""Checks of items, and of what is said of them: metadata, labels, links, features, vectors."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from xmr_core.errors import Finding
from xmr_core.types import IMAGE, TEXT
from xmr_storage import features
from xmr_storage.checks.rows import counted, orphans, repeated, twice
from xmr_storage.ids import ids_of
from xmr_storage.quoting import quoted

if TYPE_CHECKING:
    from xmr_storage.connection import Connection
    from xmr_storage.spaces import SqlSpaces

__all__ = ["ITEMS", "findings"]

ITEMS = "(SELECT item_id FROM xmr.items)"
PRECOMPUTED = "feature_precomputed"  # the vectors that items have in the place of an image or a text
OF_IMAGES, OF_TEXTS = (f"(SELECT item_id FROM xmr.items WHERE modality = '{kind}')" for kind in (IMAGE, TEXT))
REFER = "refer to an item that does not exist"


def findings(store: SqlSpaces) -> Iterator[Finding]:
    """What does not fit together among items and what is said of them."""
    con, present = store.db, set(store.db.tables())
    yield from _of_items(con)
    if "metadata" in present:
        yield from orphans(con, "metadata", f"rows of metadata {REFER}", f"item_id NOT IN {ITEMS}")
        yield from twice(con, "metadata", ["item_id"], "rows of metadata")
    if "labels" in present:
        yield from orphans(con, "labels", f"labels {REFER}", f"item_id NOT IN {ITEMS}")
        yield from twice(con, "labels", ["item_id", "label"], "labels")
    if "pairs" in present:
        yield from _of_pairs(con)
    if "attention" in present:
        yield from orphans(con, "attention", f"rows of attention {REFER}", f"item_id NOT IN {ITEMS}")
    if "sources" in present:
        yield from orphans(con, "sources", f"rows of sources {REFER}", f"item_id NOT IN {ITEMS}")
        yield from twice(con, "sources", ["source", "item_id"], "rows of sources")
    for table in features.tables(con):
        yield from _of_features(con, table)


def _of_items(con: Connection) -> Iterator[Finding]:
    columns = list(con.columns("items"))
    same = repeated(con, "items", ["item_id"]) and repeated(con, "items", columns)
    if same:
        yield from twice(con, "items", columns, "rows of items")
    for keys, what in ((["item_id"], "item ids"), (["modality", "key"], "keys of one modality")):
        count = repeated(con, "items", keys) - same
        if count:
            named = ", ".join(keys)
            yield Finding(
                f"{count} {what} are there twice; give one of each another in SQL (SELECT {named} FROM xmr.items "
                f"GROUP BY {named} HAVING count(*) > 1 names them), or restore an export"
            )
    bare = [f"item_id NOT IN (SELECT item_id FROM xmr.{table})" for table in features.tables(con) if _is_given(table)]
    without = " AND ".join(["text IS NULL", "source IS NULL", "data IS NULL", *bare])
    for modality, count in con.rows(f"SELECT modality, count(*) FROM xmr.items WHERE {without} GROUP BY modality"):
        known = modality in (IMAGE, TEXT)
        which = f"{count} items of modality {modality!r}"
        why = f"xmr.{PRECOMPUTED} has lost their rows" if known else "a modality that has neither is a vector's alone"
        yield Finding(
            f"{which} have neither content nor a vector; {why}: restore an export, or delete them and add them again"
        )
    strange = f"modality NOT IN ('{IMAGE}', '{TEXT}') AND NOT ({without})"
    with_content = f"xmr.items WHERE {strange} AND NOT (text IS NULL AND source IS NULL AND data IS NULL)"
    count = counted(con, with_content)
    if count:
        yield Finding(
            f"{count} items have content and a modality other than {IMAGE} and {TEXT}, which no space encodes; "
            "UPDATE xmr.items SET modality = ... says which it is"
        )


def _is_given(table: str) -> bool:
    """True for vectors that were given with items, which nothing could make again; features are a cache."""
    return table == PRECOMPUTED or table.startswith("vector_")


def _of_pairs(con: Connection) -> Iterator[Finding]:
    lost = f"image_id NOT IN {ITEMS} OR text_id NOT IN {ITEMS}"
    yield from orphans(con, "pairs", f"pairs {REFER}", lost)
    swapped = f"image_id IN {OF_TEXTS} AND text_id IN {OF_IMAGES}"
    count = counted(con, f"xmr.pairs WHERE {swapped}")
    if count:
        turn = f"UPDATE xmr.pairs SET image_id = text_id, text_id = image_id WHERE {swapped}"
        yield Finding(
            f"{count} pairs have the text for the image and the image for the text; repair turns them round",
            partial(con.execute, turn),
        )
    wrong = f"NOT ({lost}) AND NOT ({swapped}) AND (image_id NOT IN {OF_IMAGES} OR text_id NOT IN {OF_TEXTS})"
    yield from orphans(con, "pairs", "pairs are not of an image and a text", wrong)
    yield from twice(con, "pairs", ["image_id", "text_id"], "pairs")


def _of_features(con: Connection, table: str) -> Iterator[Finding]:
    what = "vectors" if _is_given(table) else "features"
    yield from orphans(con, table, f"{what} of xmr.{table} {REFER}", f"item_id NOT IN {ITEMS}")
    yield from twice(con, table, ["item_id"], f"{what} of xmr.{table}")
    bad = _not_finite(con, table)
    if not len(bad):
        return
    holds = f"{len(bad)} {what} of xmr.{table} hold NaN or infinity"
    if _is_given(table):
        yield Finding(f"{holds}, the first is of item {bad[0]}; delete these items, and add them with other vectors")
        return

    def forget() -> None:
        import pyarrow as pa

        with con.given(_doomed=pa.table({"item_id": bad})):
            con.execute(f"DELETE FROM xmr.{quoted(table)} WHERE item_id IN (SELECT item_id FROM _doomed)")

    yield Finding(f"{holds}; repair deletes them, and they are computed again when they are needed", forget)


def _not_finite(con: Connection, table: str) -> np.ndarray:
    """The ids of vectors that hold NaN or infinity, or that are NULL."""
    from xmr_storage.arrow import vectors_of_column

    empty = con.rows(f"SELECT item_id FROM xmr.{table} WHERE vector IS NULL")
    found = con.arrow(f"SELECT item_id, vector FROM xmr.{table} WHERE vector IS NOT NULL ORDER BY item_id")
    values = vectors_of_column(found["vector"], features.width(con, table))
    bad = ids_of(found)[~np.isfinite(values).all(axis=1)]
    return np.concatenate([np.array([item for (item,) in empty], np.int64), bad])
