"""The same search in SQL: codes in a database of their own, and its `topk` macro asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xmr_core.components import Indexer
from xmr_core.registry import default
from xmr_core.store import SpaceRecord
from xmr_core.types import IMAGE, Codes, Embeddings, Hits, Metric

__all__ = ["in_sql"]


def in_sql(indexer: Indexer, codes: Codes, queries: Embeddings, k: int, folder: Path) -> Hits:
    """The k nearest of each query by SQL. Skips where the indexer or this environment has none."""
    distance = indexer.sql()
    if distance.kind == "none":
        pytest.skip(f"{indexer.name} has no SQL: sql().kind is 'none'")
    kinds = [entry.component for entry in default().entries("store") if entry.component.has_macros]
    if not kinds:
        pytest.skip("no store is installed that searches in SQL")
    store = kinds[0].open(kinds[0].trial_url(folder))
    try:
        metric: Metric = queries.metric
        store.put_space(SpaceRecord("trial", 1, repr(indexer), "", metric, codes.layout, sql=distance))
        store.put_codes("trial", 1, IMAGE, codes)
        store.publish("trial", 1)
        ask = "SELECT item_id, distance FROM xmr.topk_trial($1, $2)"
        rows = [store.sql(ask, [query, k]).fetchall() for query in _as_sql(indexer, queries, distance.kind)]
    finally:
        store.close()
    ids, distances = np.array(rows).transpose(2, 0, 1)  # (q, k) each
    return Hits(ids.astype(np.int64), distances.astype(np.float32), exact=True)


def _as_sql(indexer: Indexer, queries: Embeddings, kind: str) -> list[list[Any]]:
    """Queries as the macro takes them: lists of numbers, or of signed words of 64 bits."""
    if kind != "hamming":
        return [[float(x) for x in row] for row in queries.values]
    codes = indexer.encode(queries, np.arange(len(queries))).values  # (q, bytes)
    words = np.pad(codes, ((0, 0), (0, -codes.shape[1] % 8))).view("<i8")  # (q, words)
    return [[int(word) for word in row] for row in words]
