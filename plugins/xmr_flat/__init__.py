"""Exact search over vectors: every query is held against every vector, and nothing is missed."""

from __future__ import annotations

from typing import ClassVar

import xmr_core as xmr
from xmr_core.plugin import ScanIndex, VectorIndexer


class Flat(VectorIndexer):
    """Stores float32 vectors, 4 bytes a dimension, and compares by l2, ip or cosine, whichever they came under."""

    name: ClassVar[str] = "flat"
    exact: ClassVar[bool] = True
    recall_floor: ClassVar[float] = 1.0

    def build(self, codes: xmr.Codes) -> xmr.Index:
        """A scan that keeps no copy of the vectors: a matrix product in float32 finds candidates, float64 decides and
        proves that none is missed. Raises NotFittedError, DataError."""
        return ScanIndex(self, codes)


@xmr.hookimpl
def xmr_indexers() -> list[type[xmr.Indexer]]:
    """The exact indexer of vectors."""
    return [Flat]
