"""Exact search by an indexer's own `distances`: what every index is checked against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xmr_core.search.hits import check_search, exhaustive
from xmr_core.search.index import Compares, Index
from xmr_core.types import Codes, Embeddings, Hits

__all__ = ["ExactIndex", "nearest"]


def nearest(indexer: Compares, queries: Embeddings, codes: Codes, k: int | None, within: float | None = None) -> Hits:
    """The exact hits of queries over codes by `indexer.distances`, in blocks: 64 MB whatever the collection's size."""
    return exhaustive(indexer.distances, queries, codes, *check_search(k, within))


class ExactIndex(Index):
    """An exhaustive index over any indexer's codes: what `exact=True` searches; an indexer may build it outright."""

    def _search(
        self, queries: Embeddings, k: int | None, within: float | None, positions: NDArray[np.int64] | None
    ) -> Hits:
        return self._exhaustive(queries, k, within, positions)
