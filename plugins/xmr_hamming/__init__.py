"""Hamming search over packed bits, exact: the k nearest, all within a radius (hash lookup), or the full ranking.

A Hamming distance is one of bits + 1 whole numbers, so codes are ranked by counting, in time linear in their number,
and equal distances stay in the order of their ids.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.plugin import empty_hits, hamming_counts, hits_of_pairs, stacked
from xmr_hamming.sql import bit_form

BLOCK = 1 << 16  # distances that are sorted at once, where there are several queries: they fit in the cache
LOOKUPS = 256  # queries whose radius is searched at once
COUNTERS = 1 << 22  # numbers that faiss may hold at once: 32 MB
SORTS_FROM = 100  # where k is no smaller than this part of the collection, sorting all is quicker than faiss

Bits = NDArray[np.uint8]


class Hamming(xmr.Indexer):
    """Stores the bits as they are, and needs no fit."""

    name: ClassVar[str] = "hamming"
    metrics: ClassVar[frozenset[str]] = frozenset({"hamming"})
    exact: ClassVar[bool] = True
    recall_floor: ClassVar[float] = 1.0
    needs_fit: ClassVar[bool] = False

    def encode(self, embeddings: xmr.Embeddings, ids: NDArray[np.int64]) -> xmr.Codes:
        """The bits themselves."""
        bits = self.queries(embeddings)
        return xmr.Codes(ids, bits.values, xmr.Layout.bits(bits.dim))

    def build(self, codes: xmr.Codes) -> xmr.Index:
        """An index that keeps no copy of the codes."""
        return HammingIndex(self, codes)

    def distances(self, queries: xmr.Embeddings, codes: xmr.Codes) -> NDArray[np.float32]:
        """(q, n) differing bits."""
        return hamming_counts(_of_width(self.queries(queries), codes).values, codes.values).astype(np.float32)

    def sql_form(self, layout: xmr.Layout, metric: xmr.Metric) -> xmr.SqlForm:
        """Differing bits, counted word by word."""
        return bit_form(layout.dim)


class HammingIndex(xmr.Index):
    """A scan of all codes, exact: faiss for few hits and for a radius, a stable counting sort for many. Full rankings
    take 12 bytes a query and code, the hits themselves."""

    def _search(
        self, queries: xmr.Embeddings, k: int | None, within: float | None, positions: NDArray[np.int64] | None
    ) -> xmr.Hits:
        codes = self.codes if positions is None else self.chosen(positions)
        if k is None:
            assert within is not None  # one of the two is given
            return _within(queries.values, codes, within)
        return (_sorted if k * SORTS_FROM >= len(codes) else _counted)(queries.values, codes, k)

    def extend(self, codes: xmr.Codes) -> bool:
        self.codes = self.codes.extended(codes)
        return True

    def _checked(self, queries: xmr.Embeddings) -> xmr.Embeddings:
        return _of_width(super()._checked(queries), self.codes)


def _of_width(queries: xmr.Embeddings, codes: xmr.Codes) -> xmr.Embeddings:
    if queries.dim != codes.layout.dim:
        raise xmr.DataError(f"hamming: expected queries of {codes.layout.dim} bits, got {queries.dim}")
    return queries


def _counted(queries: Bits, codes: xmr.Codes, k: int) -> xmr.Hits:
    """The k nearest by faiss, which counts the codes at each distance and keeps the first k of each: ties to the
    smaller position. Its counters take k * (bits + 1) * 8 bytes a query, so queries go in blocks."""
    import faiss

    hits = empty_hits(len(queries), k)
    step = max(1, COUNTERS // (k * (codes.layout.dim + 1)))
    for start in range(0, len(queries), step):
        rows = slice(start, start + step)
        distances, places = faiss.knn_hamming(queries[rows], codes.values, k, variant="mc")
        hits.ids[rows], hits.distances[rows] = codes.ids[places], distances
    return hits


def _sorted(queries: Bits, codes: xmr.Codes, k: int) -> xmr.Hits:
    """The k nearest by a stable radix sort of all distances."""
    hits = empty_hits(len(queries), k)
    step = max(1, BLOCK // max(1, len(codes)))
    for start in range(0, len(queries), step):
        counts = hamming_counts(queries[start : start + step], codes.values)  # (step, n)
        places = np.argsort(counts, axis=1, kind="stable")[:, :k]
        rows = slice(start, start + step)
        hits.ids[rows], hits.distances[rows] = codes.ids[places], np.take_along_axis(counts, places, axis=1)
    return hits


def _within(queries: Bits, codes: xmr.Codes, radius: float) -> xmr.Hits:
    """All codes that differ in `radius` bits or fewer, by faiss."""
    parts = []
    for start in range(0, len(queries), LOOKUPS):
        rows, places, found = _range_search(queries[start : start + LOOKUPS], codes.values, radius)
        count = len(queries[start : start + LOOKUPS])
        parts.append(hits_of_pairs(count, rows, codes.ids[places], found, None, exact=True))
    return stacked(parts, None)


def _range_search(
    queries: Bits, codes: Bits, radius: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Pairs (p,) of a query and a code that differ in `radius` bits or fewer, and in how many."""
    import faiss

    q, width = queries.shape
    bound = math.floor(min(max(radius, -1), 8 * width)) + 1  # faiss leaves the radius itself out
    result = faiss.RangeSearchResult(q)
    pointers = faiss.swig_ptr(queries), faiss.swig_ptr(codes)
    faiss.hamming_range_search(*pointers, q, len(codes), bound, width, result)  # type: ignore[attr-defined]  # not in its stubs
    limits = faiss.rev_swig_ptr(result.lims, q + 1).astype(np.int64)
    places = faiss.rev_swig_ptr(result.labels, int(limits[-1])).copy()
    return (
        np.repeat(np.arange(q), np.diff(limits)),
        places,
        faiss.rev_swig_ptr(result.distances, int(limits[-1])).copy(),
    )


@xmr.hookimpl
def xmr_indexers() -> list[type[xmr.Indexer]]:
    """The indexer of bits."""
    return [Hamming]
