"""Re-ranking: the first candidates of a search compared again, by better vectors than those that found them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from xmr_core.errors import DataError
from xmr_core.options import as_int
from xmr_core.search.distances import pair_distances
from xmr_core.search.hits import empty_hits, positions_of, select, stacked
from xmr_core.types import Codes, Embeddings, Hits

__all__ = ["check_rerank", "rerank"]

GROUP = 256  # queries whose candidates are compared at once


def rerank(
    hits: Hits, queries: Embeddings, codes: Codes, restore: Callable[[Codes], Embeddings] | None = None, k: int = 10
) -> Hits:
    """The k nearest of each query's hits, compared again by better vectors than those that found them.

    `codes` hold all ids of the hits, and `restore` gives the vectors that codes stand for, with the metric to compare
    them by; without it, codes of the `float` layout are vectors, compared by the metric of `queries` (q, d). Search for
    a few times k hits, and rerank those; exact are hits of which nothing was left out. Memory: the vectors of the hits
    of 256 queries. Raises DataError where an id has no code.
    """
    parts = [empty_hits(0, k)]
    for start in range(0, len(hits.ids), GROUP):
        ids = hits.ids[start : start + GROUP]
        rows, ranks = np.nonzero(ids >= 0)
        unique, places = np.unique(ids[rows, ranks], return_inverse=True)
        found = positions_of(codes.ids, unique)
        if len(found) < len(unique):
            raise DataError("rerank: some hits have no vector; give the codes of all that was searched")
        some = codes.take(found)
        vectors = Embeddings(some.vectors, queries.metric) if restore is None else restore(some)
        exact = hits.distances[start : start + GROUP].copy()
        exact[rows, ranks] = pair_distances(queries.values, vectors.values, rows + start, places, vectors.metric)
        parts.append(select(exact, ids, k))
    whole = (hits.ids >= 0).sum(axis=1) == len(codes.ids)  # (q,): all were candidates
    return replace(stacked(parts, k), exact=bool(whole.all()))


def check_rerank(candidates: object, k: int | None, within: float | None) -> int:
    """`candidates` (0 for none) as an int. Raises DataError where they cannot re-rank a search for k."""
    number = as_int(candidates, "rerank", 0)
    if number and (within is not None or k is None):
        raise DataError("rerank: distances before and after differ, so it goes with k alone, not with within")
    if number and k is not None and number < k:
        raise DataError(f"rerank={number}: must be k={k} or more")
    return number
