"""A saved index that is not loaded before it pays: until then a scan answers, exactly.

Loading a graph takes as long as a dozen scans. So a process that asks once or twice, such as a command line, answers
sooner without it, and one that goes on has lost no more than it would have spent.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from xmr_core.search.index import Index
from xmr_core.search.selection import Selection
from xmr_core.types import Codes, Embeddings, Float, Hits, Ids, Int

__all__ = ["Warming"]

SCANNED = 8  # queries, after which the index is loaded


class Warming(Index):
    """A scan, and behind it an index over the same codes."""

    def __init__(self, scan: Index, load: Callable[[], Index]) -> None:
        """`load` gives the index; it is called once, or never."""
        super().__init__(scan.indexer, scan.codes)
        self._load: Callable[[], Index] | None = load
        self._index, self._asked = scan, 0

    @property
    def loaded(self) -> bool:
        """True when the index answers."""
        return self._load is None

    def search(
        self,
        queries: Embeddings,
        k: Int | None = 10,
        within: Float | None = None,
        among: Ids | Selection | None = None,
    ) -> Hits:
        if self._load is not None:
            self._asked += len(queries)
            if self._asked > SCANNED:
                self._index, self._load = self._load(), None
                self.codes = self._index.codes
        return self._index.search(queries, k, within, among)

    def extend(self, codes: Codes) -> bool:
        """As the index does; not before it is loaded."""
        if not self.loaded or not self._index.extend(codes):
            return False
        self.codes = self._index.codes
        return True

    def _search(
        self, queries: Embeddings, k: int | None, within: float | None, positions: NDArray[np.int64] | None
    ) -> Hits:
        return self._index._search(queries, k, within, positions)
