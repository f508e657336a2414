"""An inverted index: for each word the texts that have it, so that a query reads the texts of its own words alone."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.plugin import select, stacked

__all__ = ["Bm25Index"]

CELLS = 1 << 23  # scores that are held at once: 64 MB


class Weighs(Protocol):
    """What the index needs of its indexer."""

    def queries(self, embeddings: xmr.Embeddings) -> xmr.Embeddings: ...
    def distances(self, queries: xmr.Embeddings, codes: xmr.Codes) -> NDArray[np.float32]: ...
    def weights(self, codes: xmr.Codes) -> tuple[NDArray[np.int64], NDArray[np.float64]]: ...


class Bm25Index(xmr.Index):
    """Exact. Memory: 16 bytes for each distinct word of each text."""

    indexer: Weighs

    def __init__(self, indexer: Weighs, codes: xmr.Codes) -> None:
        super().__init__(indexer, codes)
        terms, weights = indexer.weights(codes)
        rows, places = np.nonzero(weights)
        words = terms[rows, places]
        order = np.argsort(words, kind="stable")  # by word, and each word's texts ascending
        self.rows, self.weights = rows[order], weights[rows, places][order]  # (m,) a posting each
        self.starts = np.searchsorted(words[order], np.arange(codes.layout.dim + 1))  # (w + 1,)

    def _search(
        self, queries: xmr.Embeddings, k: int | None, within: float | None, positions: NDArray[np.int64] | None
    ) -> xmr.Hits:
        ids = self.codes.ids if positions is None else self.codes.ids[positions]
        step = max(1, CELLS // len(self))
        parts = []
        for start in range(0, len(queries), step):
            scores = np.stack([self._scores(query) for query in queries.values[start : start + step]])  # (step, n)
            found = scores if positions is None else scores[:, positions]
            parts.append(select((0.0 - found).astype(np.float32), ids, k, within))
        return stacked(parts, k)

    def _scores(self, query: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) the score of each text: the weights of its words that the query has, as often as the query has them."""
        scores = np.zeros(len(self))
        for word in np.flatnonzero(query):
            postings = slice(self.starts[word], self.starts[word + 1])
            scores[self.rows[postings]] += float(query[word]) * self.weights[postings]
        return scores
