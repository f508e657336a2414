"""True distances in numpy, and exact search over vectors: what indexes re-rank by, fall back to, are checked against.

Sums are taken in float64 and rounded to float32 at the end. So a distance is the same in whatever batch it was
computed, equal vectors are equally far, and a vector is at 0 from itself, also where dot products would cancel.

    distances(queries, vectors, "cosine")                  # (q, n), all pairs
    pair_distances(queries, vectors, rows, places, "l2")   # (p,), chosen pairs: queries[rows[i]] to vectors[places[i]]
    own_distances(queries, vectors, places, "l2")          # (q, c), each query to candidates of its own
    Scan(vectors, ids, "ip").search(queries, k=10)         # Hits, exact, at the speed of a float32 matrix product
    hamming_counts(queries, codes)                         # (q, n), differing bits

Letters: q queries, n vectors, d dimensions, p pairs, k hits, b bytes of a code.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmr_core.search.hits import empty_hits, hits_of_pairs, positions_of, stacked, trimmed
from xmr_core.types import Hits, Metric

__all__ = [
    "Scan",
    "distances",
    "hamming_counts",
    "own_distances",
    "pair_distances",
    "reach",
    "true_cells",
    "unit",
]

CELLS = 1 << 22  # distances that a scan holds at once: 16 MB of float32
QUERIES = 256  # queries that a scan holds against a block of vectors
CHUNK = 1 << 17  # numbers gathered at once: 1 MB of float64, which stays in the cache
COUNTED = 1 << 15  # words compared at once: 256 KB, which stay in the cache too
CANCELLED = 1e-6  # a squared distance that is so small a part of the squared lengths is computed from differences
SAME = 1e-28  # squared distance of unit vectors that differ by rounding alone: they are parallel
FEW = 1 << 15  # numbers of all queries' vectors: up to so many, float64 compares all sooner than a float32 scan some
CROWD = 4  # candidates a hit, above which a scan tightens its bound before it looks at them
SMALLEST, LARGEST = 1e-30, 1e36  # squared lengths between which float32 sums are as good as `reach` says
FARTHEST = float(np.finfo(np.float32).max)

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Positions = NDArray[np.int64]


def distances(queries: Floats, vectors: Floats, metric: Metric) -> Floats:
    """(q, n): Euclidean for l2, 1 - cosine (1 where a vector is zero), or the negated inner product."""
    result = np.empty((len(queries), len(vectors)), np.float32)
    queries64 = queries.astype(np.float64)
    step = max(1, CELLS // (8 * (len(queries) + queries.shape[1])))
    for start in range(0, len(vectors), step):
        block = slice(start, start + step)
        result[:, block] = _all_pairs(queries64, vectors[block].astype(np.float64), metric)
    return result


def pair_distances(queries: Floats, vectors: Floats, rows: Positions, places: Positions, metric: Metric) -> Floats:
    """(p,): the distance of `queries[rows[i]]` to `vectors[places[i]]`, as `distances` gives it."""
    result = np.empty(len(rows), np.float32)
    step = max(1, CHUNK // max(1, queries.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        q = queries[rows[part]].astype(np.float64)  # (step, d)
        x = vectors[places[part]].astype(np.float64)
        if metric == "ip":
            result[part] = -np.einsum("pd,pd->p", q, x)
        elif metric == "l2":
            result[part] = np.sqrt(_squared_gaps(q, x))
        else:
            zero = ~(q.any(axis=1) & x.any(axis=1))
            result[part] = np.where(zero, 1, _squared_gaps(unit(q), unit(x), SAME) / 2)
    return result


def own_distances(queries: Floats, vectors: Floats, places: Positions, metric: Metric) -> Floats:
    """(q, c): the distances of each query to candidates of its own, `vectors[places]` (q, c), as `distances` gives
    them."""
    q, c = places.shape
    step = max(1, CHUNK // max(1, c * queries.shape[1]))
    if q <= step:
        return _own_distances(queries, vectors[places], metric)
    result = np.empty((q, c), np.float32)
    for start in range(0, q, step):
        rows = slice(start, start + step)
        result[rows] = _own_distances(queries[rows], vectors[places[rows]], metric)
    return result


def _own_distances(queries: Floats, found: Floats, metric: Metric) -> Floats:
    """(q, c): the distances of queries (q, d) to vectors of their own (q, c, d)."""
    own, near = queries.astype(np.float64)[:, None], found.astype(np.float64, order="C")
    if metric == "ip":
        products: Doubles = np.einsum("qcd,qd->qc", near, own[:, 0])
        return np.negative(products).astype(np.float32)
    if metric == "l2":
        return np.sqrt(_squared_differences(near, own)).astype(np.float32)
    zero = _made_unit(near) | _made_unit(own)  # (q, c)
    squared = _squared_differences(near, own)
    squared[squared < SAME] = 0
    if zero.any():
        squared[zero] = 2
    squared /= 2
    return squared.astype(np.float32)


def _squared_differences(near: Doubles, own: Doubles) -> Doubles:
    """(q, c): |x - q|^2 of vectors (q, c, d), which are overwritten, and queries (q, 1, d)."""
    near -= own
    gaps = near.reshape(-1, near.shape[2])
    squared: Doubles = np.einsum("pd,pd->p", gaps, gaps)
    return squared.reshape(near.shape[:2])


def _made_unit(vectors: Doubles) -> NDArray[np.bool_]:
    """(q, c): which vectors (q, c, d) are zero; all others have length 1 from here on."""
    flat = vectors.reshape(-1, vectors.shape[2])
    lengths = np.sqrt(np.einsum("nd,nd->n", flat, flat))
    zero: NDArray[np.bool_] = lengths == 0
    if zero.any():
        lengths[zero] = 1
    flat /= lengths[:, None]
    return zero.reshape(vectors.shape[:2])


def unit(vectors: NDArray[Any]) -> NDArray[Any]:
    """Vectors of length 1 and the same type; zero vectors stay zero."""
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))[:, None]
    directed: NDArray[Any] = vectors / np.where(lengths > 0, lengths, 1).astype(vectors.dtype)
    return directed


def _all_pairs(queries: Doubles, vectors: Doubles, metric: Metric) -> Doubles:
    if metric == "ip":
        return np.negative(queries @ vectors.T)
    if metric == "cosine":
        queries, vectors = unit(queries), unit(vectors)
        squared = 2 - 2 * (queries @ vectors.T)  # |u - v|^2 of unit vectors, and 2 where one is zero
        _mend(squared, squared < CANCELLED, queries, vectors, SAME)
        return squared / 2
    sizes: Doubles = _squares(queries)[:, None] + _squares(vectors)
    squared = sizes - 2 * (queries @ vectors.T)
    _mend(squared, squared < CANCELLED * sizes, queries, vectors)
    return np.sqrt(squared)


def _mend(squared: Doubles, near: NDArray[np.bool_], queries: Doubles, vectors: Doubles, same: float = 0) -> None:
    """Where dot products have cancelled, put squared distances from differences in their place."""
    rows, places = true_cells(near)
    step = max(1, CHUNK // max(1, queries.shape[1]))
    for start in range(0, len(rows), step):
        i, j = rows[start : start + step], places[start : start + step]
        squared[i, j] = _squared_gaps(queries[i], vectors[j], same)


def _squared_gaps(a: Doubles, b: Doubles, same: float = 0) -> Doubles:
    """(p,): |a - b|^2 row by row; 0 where it is below `same`."""
    gaps = a - b
    squared: Doubles = np.einsum("pd,pd->p", gaps, gaps)
    return np.where(squared < same, 0, squared) if same else squared


def _squares(vectors: NDArray[Any]) -> NDArray[Any]:
    squares: NDArray[Any] = np.einsum("nd,nd->n", vectors, vectors)
    return squares


def true_cells(mask: NDArray[np.bool_]) -> tuple[Positions, Positions]:
    """Rows and columns where `mask` (q, n) is True, row by row: as `np.nonzero` gives them, in a tenth of its time."""
    rows, places = np.divmod(np.flatnonzero(mask), max(1, mask.shape[1]))
    return rows, places


def _joined(a: Hits, b: Hits, k: int | None) -> Hits:
    """The k best of two exact hits of the same queries."""
    ids = np.concatenate([a.ids, b.ids], axis=1)
    rows, ranks = np.nonzero(ids >= 0)
    found = np.concatenate([a.distances, b.distances], axis=1)[rows, ranks]
    return hits_of_pairs(len(a), rows, ids[rows, ranks], found, k, exact=True)


def reach(bounds: Floats, lengths: Floats, longest: float, d: int, metric: Metric) -> Doubles:
    """(q,): the largest value that float32 arithmetic may show for a vector within `bounds` (q,) of its query.

    The value is |q - x|^2 for l2, 1 - cos for cosine, -<q, x> for ip, summed over `d` dimensions in any order.
    `lengths` (q,) are those of the queries, `longest` is that of the longest vector. What shows a larger value lies
    farther than the bound: so a quick float32 search is proven complete, or is not.

    A vector within t of q is no longer than |q| + t; the error of a float32 sum of d products is at most
    d 2^-24 sum |a_i b_i| <= d 2^-24 |q| |x|, which is doubled here to cover all other roundings.
    """
    slack = (d + 16) * 2.0**-23
    bounds, lengths = bounds.astype(np.float64), lengths.astype(np.float64)
    tiny = d * float(np.finfo(np.float32).tiny)  # below it float32 keeps no relative precision
    if metric == "l2":
        return bounds**2 + slack * (2 * lengths + bounds) ** 2 + tiny
    return bounds + slack * (1 if metric == "cosine" else lengths * longest) + tiny


class Scan:
    """Exact search over vectors: a float32 matrix product finds candidates, `reach` proves that none is missed, and
    `pair_distances` ranks them. `ids` (n,) in any order. Memory: 4 bytes a vector, and about 100 MB while it searches.
    """

    def __init__(self, vectors: Floats, ids: Positions, metric: Metric) -> None:
        self.vectors, self.ids, self.metric = vectors, ids, metric

    def __len__(self) -> int:
        return len(self.vectors)

    @cached_property
    def squares(self) -> Floats:
        """(n,) squared lengths; like what follows from them, known when a scan first takes place."""
        return _squares(self.vectors)

    @cached_property
    def longest(self) -> float:
        """The greatest length."""
        return float(np.sqrt(self.squares.max(initial=0)))

    @cached_property
    def safe(self) -> bool:
        """True where float32 arithmetic is as good as `reach` says."""
        return _float32_holds(self.vectors, self.squares)

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors, and of what is kept beside them."""
        return self.vectors.nbytes + self.ids.nbytes + 4 * len(self)

    def extended(self, vectors: Floats, ids: Positions) -> Scan:
        """A scan over vectors and ids that begin with those of this one; it costs what is new."""
        scan, new = Scan(vectors, ids, self.metric), vectors[len(self) :]
        if "squares" in self.__dict__:
            scan.__dict__["squares"] = np.concatenate([self.squares, _squares(new)])
        if "safe" in self.__dict__:
            scan.__dict__["safe"] = self.safe and _float32_holds(new, _squares(new))
        return scan

    def at(self, places: Positions) -> Scan:
        """The same over the vectors at these places alone, which are copied."""
        return Scan(self.vectors[places], self.ids[places], self.metric)

    def among(self, ids: Positions) -> Scan:
        """The same over those of `ids` that are here. Wants its own ids to be ascending."""
        return self.at(positions_of(self.ids, ids))

    def search(self, queries: Floats, k: int | None, within: float | None = None) -> Hits:
        """The k nearest of each query (all, where k is None), only those of distance <= `within`."""
        if k is not None and len(queries) * self.vectors.size <= FEW:
            return self._of_few(queries, k, within)
        step = min(QUERIES, max(1, CELLS // (8 * (k or 1))))
        blocks = [queries[start : start + step] for start in range(0, len(queries), step)]
        return stacked([self._search(block, k, within) for block in blocks], k)

    def _of_few(self, queries: Floats, k: int, within: float | None) -> Hits:
        """As `search`, by the distances of all vectors."""
        shape = len(queries), len(self)
        found = _own_distances(queries, np.broadcast_to(self.vectors, (shape[0], *self.vectors.shape)), self.metric)
        order = np.lexsort((np.broadcast_to(self.ids, shape), found), axis=1)[:, :k]
        hits = Hits(self.ids[order], np.take_along_axis(found, order, axis=1), True)
        return trimmed(hits, k, within)

    def _search(self, queries: Floats, k: int | None, within: float | None) -> Hits:
        """As `search`, for queries that are few enough to be held against many vectors at once."""
        hits = empty_hits(len(queries), k or 0, exact=True)
        bounds = np.full(len(queries), FARTHEST if within is None else min(within, FARTHEST), np.float32)
        step = CELLS // len(queries)
        for start in range(0, len(self), step):
            rows, places = true_cells(self._near(queries, slice(start, start + step), bounds, k))
            places += start
            found = pair_distances(queries, self.vectors, rows, places, self.metric)
            kept = found <= bounds[rows]
            new = hits_of_pairs(len(queries), rows[kept], self.ids[places[kept]], found[kept], k, exact=True)
            hits = _joined(hits, new, k) if start else new
            if k is not None:
                bounds = np.minimum(bounds, hits.distances[:, -1])
        return hits

    def _near(self, queries: Floats, block: slice, bounds: Floats, k: int | None) -> NDArray[np.bool_]:
        """(q, step) bool: the vectors of a block that may be hits."""
        squares = _squares(queries)
        if not (self.safe and _float32_holds(queries, squares)):
            return np.ones((len(queries), len(self.ids[block])), bool)
        lengths = np.sqrt(squares)
        shown = self._shown(queries, squares, block)
        if k is None or k >= shown.shape[1]:
            return self._within_reach(shown, bounds, lengths)
        if not (bounds == FARTHEST).all():
            near = self._within_reach(shown, bounds, lengths)
            if np.count_nonzero(near) <= CROWD * k * len(queries):
                return near
        own = np.argpartition(shown, k - 1, axis=1)[:, :k] + block.start  # (q, k): k vectors bound the k-th distance
        rows = np.repeat(np.arange(len(queries)), k)
        found = pair_distances(queries, self.vectors, rows, own.ravel(), self.metric)
        return self._within_reach(shown, np.minimum(bounds, found.reshape(own.shape).max(axis=1)), lengths)

    def _within_reach(self, shown: Floats, bounds: Floats, lengths: Floats) -> NDArray[np.bool_]:
        limits = reach(bounds, lengths, self.longest, self.vectors.shape[1], self.metric)
        return shown <= np.minimum(limits, FARTHEST).astype(np.float32)[:, None]

    def _shown(self, queries: Floats, squares: Floats, block: slice) -> Floats:
        """(q, step): squared distances, 1 - cosines or negated inner products, as float32 arithmetic shows them."""
        shown: Floats = queries @ self.vectors[block].T
        if self.metric == "l2":
            shown *= -2
            shown += squares[:, None]
            shown += self.squares[block]
            return shown
        if self.metric == "cosine":
            sizes = np.sqrt(squares)[:, None] * np.sqrt(self.squares[block])
            np.divide(shown, sizes, out=shown, where=sizes > 0)  # 0 where one is zero
            shown -= 1
        return np.negative(shown, out=shown)


def _float32_holds(vectors: Floats, squares: Floats) -> bool:
    """True where no squared length overflows float32, and none but a zero vector's comes near its smallest number."""
    small = squares < SMALLEST
    return bool(squares.max(initial=0) < LARGEST) and not (small.any() and vectors[small].any())


def hamming_counts(queries: NDArray[np.uint8], codes: NDArray[np.uint8]) -> NDArray[Any]:
    """(q, n) differing bits of packed codes (q, b) and (n, b): uint8 below 256 bits, uint16 from there."""
    counts = np.zeros((len(queries), len(codes)), np.uint8 if codes.shape[1] < 32 else np.uint16)
    left, right = _words(queries), _words(codes)
    step = max(256, COUNTED // max(1, len(queries)))
    for start in range(0, len(codes), step):
        block = slice(start, start + step)
        for query_words, words in zip(left.T, np.ascontiguousarray(right[block].T), strict=True):
            counts[:, block] += np.bitwise_count(query_words[:, None] ^ words)
    return counts


def _words(codes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """(n, b) bytes as (n, ceil(b / 8)) words."""
    missing = -codes.shape[1] % 8
    return np.ascontiguousarray(np.pad(codes, ((0, 0), (0, missing))) if missing else codes).view(np.uint64)
