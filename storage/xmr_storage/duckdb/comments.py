"""What every table, view and column of a library is for, as COMMENTs in its catalog: they travel with the file.

Objects come as they are needed, so those without a comment are described at the end of each transaction that made any.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from xmr_storage.quoting import literal, quoted

if TYPE_CHECKING:
    from xmr_storage.connection import Connection

__all__ = ["describe"]

OBJECTS: Mapping[str, str] = {  # of what begins or is called so; the first that fits counts
    "meta": "What the library says of itself: its format, its counters. Written by xmr.",
    "migrations": "The formats that the library has had, and which version of xmr took it there.",
    "items": "One image or one text a row. Written by xmr; add your own columns to xmr.metadata.",
    "metadata": "Your own columns, one row an item at most: yours to update. xmr.catalog joins them to the items.",
    "sources": "Which items came from a folder that is synced.",
    "pairs": "Which image goes with which text.",
    "labels": "The labels that hold, one row each. Yours to write.",
    "spaces": "One fit of one recipe a row; its codes are in code_<space>_v<version>.",
    "forms": "How the codes of a space are laid out and compared.",
    "encoded": "The table of the vectors that the codes of a space were made of, where the library keeps them.",
    "attention": "Where the fuser of a space looked: the weight of each region or word of an item.",
    "answerers": "The spaces that answer questions about images.",
    "training": "The items that a version of a space was fitted on.",
    "parts": "The components of each space, in order, with their options.",
    "providers": "The distributions that the components of a space came from.",
    "tensors": "The states of components: arrays, little-endian and row-major.",
    "changes": "What each revision changed, so that indexes and other handles follow.",
    "runs": "One fit, evaluation or audit a row, with its notes.",
    "metrics": "The figures of each run.",
    "catalog": "The items with their metadata, one row an item: what where= conditions read.",
    "published": "The published spaces: layout, metric, width, family of macros, counts and last audit.",
    "about_": "One row that says what a published space is, and of which library.",
    "code_": "The codes of a space: one row an item and modality. Written by xmr.",
    "asked_": "The vectors that stored items ask with; an item without one asks with what its code stands for.",
    "codebook_": "The centroids of a space's product quantization.",
    "rotation_": "The rotation that a space applies before it quantizes.",
    "point_": "The lattice points that a space's codes stand for.",
    "step_": "How a lattice code is decoded: the share of the squared length that each piece takes.",
    "entry_": "How a lattice code is decoded: the entries of each piece.",
    "feature_": "Features of items, as an encoder made them; kept so that no item is encoded twice.",
    "vector_": "Ready-made vectors of items, as they were added.",
}
COLUMNS: Mapping[str, str] = {  # "table.column", else "column"
    "meta.key": "What is said.",
    "meta.value": "How it is.",
    "items.key": "What the item is called where it came from; unique within a modality.",
    "items.content": "The sha256 of the image or text.",
    "items.data": "The bytes of an image file, where they are kept.",
    "sources.source": "The folder.",
    "sources.stamp": "What tells that a file is as it was; empty where nothing does.",
    "metrics.name": "The figure's name.",
    "metrics.value": "The figure.",
    "metrics.what": "What was measured, as 'audit image'.",
    "metrics.step": "The epoch or step that it is of.",
    "attention.step": "The step of the fuser that looked.",
    "attention.position": "The region or word, counted from 0.",
    "attention.token": "The word, or the region as 'row,column'.",
    "attention.weight": "How much of the attention it got.",
    "tensors.data": "The bytes of the array.",
    "tensors.name": "The name of the array in the component's state.",
    "tensors.shape": "Its shape, JSON.",
    "tensors.dtype": "The type of its numbers, as NumPy calls it.",
    "parts.name": "The component's name.",
    "parts.options": "The options that it was made with, JSON.",
    "parts.state_version": "The version of its state.",
    "changes.removed": "True where the codes are gone, false where they came.",
    "forms.layout": "The columns of the codes, JSON.",
    "forms.form": "How SQL compares them, JSON; NULL where it cannot.",
    "encoded.vectors": "The table, in schema xmr, with columns item_id and vector.",
    "item_id": "The id of the item.",
    "image_id": "The id of the image.",
    "text_id": "The id of the text.",
    "modality": "'image' or 'text'.",
    "key": "The item's key.",
    "source": "The path that the item was read from.",
    "text": "The text itself; NULL for an image.",
    "label": "A label that the item has.",
    "space": "The name of the space.",
    "answerer": "The name of the answerer.",
    "version": "The version of the space, from 1.",
    "recipe": "The recipe that made it.",
    "fingerprint": "What tells these components, options and weights from others.",
    "metric": "How codes are compared: hamming, l2, ip or cosine.",
    "layout": "How codes are laid out.",
    "dim": "The bits, symbols or dimensions of a code.",
    "symbol_bits": "The bits of a symbol; 0 where there are none.",
    "seed": "The seed that it was fitted with.",
    "created": "When, in UTC (ISO 8601).",
    "applied": "When, in UTC (ISO 8601).",
    "published": "True for the version that the space's name means.",
    "position": "The position of the component in the recipe, from 0.",
    "role": "Encoder, fuser, indexer or answerer.",
    "component": "The component's name.",
    "distribution": "The Python distribution that provides it.",
    "release": "The version of that distribution.",
    "format": "The format of the library.",
    "xmr": "The version of xmr.",
    "revision": "The count of changes.",
    "first_id": "The first item that changed; NULL for any.",
    "last_id": "The last item that changed; NULL for any.",
    "run_id": "The id of the run.",
    "notes": "Seed, split, protocol and versions, JSON.",
    "library": "The id of the library, kept when the file is renamed.",
    "family": "The family of macros that compare such codes: xmr.nearest_<family> and others.",
    "images": "Images with a code.",
    "texts": "Texts with a code.",
    "audited": "When the space was last audited; NULL for never.",
    "recall": "The recall that the last audit found, the lowest of the modalities.",
    "vector": "The vector.",
    "part": "The subquantizer, from 0.",
    "symbol": "The symbol, from 0.",
    "centroid": "The centroid that the symbol stands for.",
    "dimension": "The dimension after the rotation, from 0.",
    "axis": "The axis that it is measured along.",
}
CODE = {"w": "Bits {first} to {last} of the code; a signed word of 64 bits.", "c": "Symbol {at} of the code."}


def describe(con: Connection) -> None:
    """Comment on the tables, views and columns of the library that have no comment."""
    objects = con.rows(
        """
        SELECT 'TABLE', table_name FROM duckdb_tables()
        WHERE schema_name = 'xmr' AND database_name = current_database() AND comment IS NULL
        UNION ALL
        SELECT 'VIEW', view_name FROM duckdb_views()
        WHERE schema_name = 'xmr' AND database_name = current_database() AND comment IS NULL AND NOT internal
        """
    )
    for kind, name in objects:
        told = _of_object(name)
        if told is not None:
            con.execute(f"COMMENT ON {kind} xmr.{quoted(name)} IS {literal(told)}")
    columns = con.rows(
        """
        SELECT table_name, column_name
        FROM duckdb_columns()
        WHERE schema_name = 'xmr' AND database_name = current_database() AND comment IS NULL AND NOT internal
        """
    )
    for name, column in columns:
        if _of_object(name) is not None:
            con.execute(f"COMMENT ON COLUMN xmr.{quoted(name)}.{quoted(column)} IS {literal(_of_column(name, column))}")


def _of_object(name: str) -> str | None:
    """What a table or view is for; None for one that is not the library's."""
    return next((told for known, told in OBJECTS.items() if _is(name, known)), None)


def _is(name: str, known: str) -> bool:
    return name.startswith(known) if known.endswith("_") else name == known


def _of_column(table: str, column: str) -> str:
    told = COLUMNS.get(f"{table}.{column}") or COLUMNS.get(column)
    numbered = re.fullmatch(r"([wc])(\d+)", column)
    if told is None and numbered and table.startswith("code_"):
        at = int(numbered[2])
        return CODE[numbered[1]].format(first=64 * at, last=64 * at + 63, at=at)
    if column.startswith("_") and table.startswith("point_"):
        return f"{column[1:]} of the code that the row was decoded from."
    if told is None and table in ("metadata", "catalog"):
        return "Your own column."
    return told or f"{column}, as the component that made the space defines it."
