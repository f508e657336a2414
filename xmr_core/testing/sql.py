"""The same search in SQL: codes in a database of their own, and its macros asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from xmr_core.components import KeptVectors
from xmr_core.errors import StorageError
from xmr_core.registry import default
from xmr_core.search.codes import words_of
from xmr_core.search.indexer import Indexer
from xmr_core.sql import QueryType
from xmr_core.store import SpaceRecord, Store
from xmr_core.testing.contract import refuses
from xmr_core.types import IMAGE, Codes, Embeddings, Hits, Metric

__all__ = ["in_sql", "of_stored_in_sql"]


def in_sql(indexer: Indexer, codes: Codes, queries: Embeddings, k: int, folder: Path) -> Hits:
    """The k nearest of each query by SQL.

    Where the indexer gives no distance, asserts that there is no search in SQL, and skips. Skips where no store is
    installed that searches in SQL.
    """
    with _published(indexer, codes, queries.metric, folder) as (store, kind):
        ask = "SELECT item_id, distance FROM xmr.topk_trial($1, $2)"
        return _hits(store.sql(ask, [query, k]).fetchall() for query in _as_sql(indexer, queries, kind))


def of_stored_in_sql(
    indexer: Indexer, codes: Codes, points: Embeddings, ids: NDArray[np.int64], k: int, folder: Path
) -> Hits:
    """The k nearest of each stored item (q,) by SQL, itself left out; `points` (n, d) are what the codes were made of.

    Skips as `in_sql` does.
    """
    with _published(indexer, codes, points.metric, folder, points) as (store, _):
        ask = "SELECT item_id, distance FROM xmr.like_trial($1, $2, modality := $3)"
        return _hits(store.sql(ask, [item, k, IMAGE]).fetchall() for item in ids.tolist())


@contextmanager
def _published(
    indexer: Indexer, codes: Codes, metric: Metric, folder: Path, points: Embeddings | None = None
) -> Iterator[tuple[Store, QueryType]]:
    """A store in which the codes are the space `trial`, and what a query of it is; with the vectors that they were made
    of, where these are given and are no bits."""
    form = indexer.sql_form(codes.layout, metric)
    kinds = [entry.component for entry in default().entries("store") if entry.component.has_macros]
    if not kinds:
        pytest.skip("no store is installed that searches in SQL")
    store = kinds[0].open(kinds[0].trial_url(folder))
    kept = {} if points is None or metric == "hamming" else {IMAGE: KeptVectors("trial")}
    try:
        if points is not None and kept:
            store.put_features("trial", codes.ids, points.values)
        store.put_space(SpaceRecord("trial", 1, repr(indexer), "", metric, codes.layout, form=form, kept=kept))
        store.put_codes("trial", 1, IMAGE, codes)
        store.publish("trial", 1)
        if form is None or form.query is None:
            with refuses(StorageError, f"a search in SQL without a distance in {indexer.name}.sql_form()"):
                store.sql("FROM xmr.topk_trial(NULL, 1)")
            pytest.skip(f"{indexer.name} has no search in SQL, and none was made")
        yield store, form.query
    finally:
        store.close()


def _hits(found: Iterable[Sequence[tuple[int, float]]]) -> Hits:
    """The rows (item_id, distance) of each query, of which all have as many."""
    ids, distances = np.array(list(found)).transpose(2, 0, 1)  # (q, k) each
    return Hits(ids.astype(np.int64), distances.astype(np.float32), exact=True)


def _as_sql(indexer: Indexer, queries: Embeddings, kind: QueryType) -> list[list[Any]]:
    """Queries as the macro takes them: lists of numbers, or of signed words of 64 bits."""
    if kind.numbers == "vector":
        return [[float(x) for x in row] for row in queries.values]
    words = words_of(indexer.encode(queries, np.arange(len(queries))).values)  # (q, words)
    return [[int(word) for word in row] for row in words]
