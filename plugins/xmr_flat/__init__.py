"""Exact search over vectors: every query is held against every vector, and nothing is missed."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.search.distances import Scan
from xmr_core.search.exact import check_search
from xmr_core.search.vector_indexer import VectorIndexer


class Flat(VectorIndexer):
    """Stores float32 vectors, 4 bytes a dimension, and compares by l2, ip or cosine, whichever they came under."""

    name: ClassVar[str] = "flat"
    exact: ClassVar[bool] = True
    recall_floor: ClassVar[float] = 1.0

    def build(self, codes: xmr.Codes) -> xmr.Index:
        """An index that keeps no copy of the vectors. Raises NotFittedError, DataError."""
        return FlatIndex(self, self.scan(codes))


class FlatIndex(xmr.Index):
    """A scan of all vectors: a matrix product in float32 finds candidates, float64 decides and proves none missed."""

    def __init__(self, indexer: Flat, scan: Scan) -> None:
        self.indexer, self.scan = indexer, scan

    def __len__(self) -> int:
        return len(self.scan)

    def search(
        self,
        queries: xmr.Embeddings,
        k: int | None = 10,
        within: float | None = None,
        among: NDArray[np.int64] | None = None,
    ) -> xmr.Hits:
        """See `Index.search`; always exact. `among` copies the vectors it names for the time of the search."""
        check_search(k, within)
        scan = self.scan if among is None else self.scan.among(among)
        return scan.search(self.indexer.queries(queries).values, k, within)


@xmr.hookimpl
def xmr_indexers() -> list[type[xmr.Indexer]]:
    """The exact indexer of vectors."""
    return [Flat]
