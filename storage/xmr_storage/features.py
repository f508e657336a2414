"""Vectors of items: of an extractor in `feature_<extractor>`, ready-made ones in `vector_<modality>__<name>`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import DataError
from xmr_storage.chosen import at, chosen
from xmr_storage.encoded import feature_table, vectors_name
from xmr_storage.ids import ids_of

if TYPE_CHECKING:
    from xmr_storage.connection import Connection

__all__ = ["get", "put", "tables", "vector_widths", "vectors_name", "width"]


def tables(con: Connection) -> list[str]:
    """The tables of features and of named vectors; a user's own `feature_...` is not one."""
    return [table for table in con.tables("feature_", "vector_") if width(con, table)]


def vector_widths(con: Connection, modality: str) -> dict[str, int]:
    """The names of the ready-made vectors of a modality, and their dimensions."""
    prefix = vectors_name(modality, "")
    return {table.removeprefix(prefix): width(con, table) for table in con.tables(prefix) if width(con, table)}


def get(con: Connection, extractor: str, ids: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """(n,) which ids have features, and (m, d) the features of those, in the order of `ids`."""
    from xmr_storage.arrow import vectors_of_column

    table = feature_table(extractor)
    dim = width(con, table)
    if not dim:
        return np.zeros(len(ids), bool), np.zeros((0, 0), np.float32)
    with chosen(con, "item_id", ids) as (which, values):
        found = con.arrow(f"SELECT item_id, vector FROM xmr.{table} WHERE {which}", values)
    have, rows = at(ids, ids_of(found))
    return have, vectors_of_column(found["vector"], dim)[rows]


def put(con: Connection, extractor: str, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
    """Keep features (n, d). Raises DataError where those that are kept have another width."""
    import pyarrow as pa

    from xmr_storage.arrow import vector_column

    table, dim = feature_table(extractor), vectors.shape[1]
    with con.transaction(counted=False):
        stored = width(con, table)
        if stored not in (0, dim):
            raise DataError(f"features of {extractor}: expected {stored} dimensions, got {dim}")
        if not stored:
            con.execute(f"CREATE TABLE IF NOT EXISTS xmr.{table} (item_id BIGINT NOT NULL, vector FLOAT[{dim:d}])")
        con.insert(table, pa.table({"item_id": ids, "vector": vector_column(vectors)}))


def width(con: Connection, table: str) -> int:
    """The dimensions of a table's vectors; 0 where it holds none."""
    found = re.fullmatch(r"FLOAT\[(\d+)\]", con.columns(table).get("vector", ""))
    return int(found[1]) if found else 0
