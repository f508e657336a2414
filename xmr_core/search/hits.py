"""Hits: what a search is asked for, checked, and how its answer is put together, cut and padded.

Letters: q queries, n rows, k hits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import DataError
from xmr_core.options import as_float, as_int
from xmr_core.types import Codes, Embeddings, Hits, as_array

__all__ = [
    "as_among",
    "check_search",
    "empty_hits",
    "exhaustive",
    "hits_of_pairs",
    "joined",
    "positions_of",
    "put",
    "select",
    "stacked",
    "trimmed",
]

LAST = np.iinfo(np.int64).max
MARKED = 8  # times as many ids are marked in one pass in the time in which one is searched for
BLOCK_CELLS = 1 << 24  # distances that an exhaustive search holds at once: 64 MB of float32

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]


def check_search(k: object, within: object) -> tuple[int | None, float | None]:
    """`k` and `within` as plain numbers. Raises DataError where they ask for nothing that can be given."""
    if k is None and within is None:
        raise DataError("search: give k, within, or both")
    return None if k is None else as_int(k, "k", 1), None if within is None else as_float(within, "within")


def empty_hits(q: int, k: int, exact: bool = True) -> Hits:
    """Hits that found nothing: (q, k) of -1 and inf."""
    return Hits(np.full((q, k), -1, np.int64), np.full((q, k), np.inf, np.float32), exact)


def as_among(among: object) -> Positions:
    """Ids (n,) int64, ascending and unique. Raises DataError where they are not a list of whole numbers."""
    array = as_array(among, "among")
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise DataError(f"among: expected ids, whole numbers of shape (n,), got {array.dtype} {array.shape}")
    ids = array.astype(np.int64, copy=False)
    ascending = (ids[1:] > ids[:-1]).all()  # sorting is most of the work, so it is done only where it is wanted
    return ids if ascending else np.unique(ids)


def positions_of(ids: Positions, among: object) -> Positions:
    """Positions in `ids` (n,) ascending of those of `among` that are there, ascending. Raises DataError where `among`
    is not a list of whole numbers."""
    among = as_among(among)
    if not len(ids):
        return np.empty(0, np.int64)
    among = among[np.searchsorted(among, ids[0]) : np.searchsorted(among, ids[-1], side="right")]
    span = int(ids[-1]) - int(ids[0]) + 1
    if len(among) * MARKED > len(ids) and span <= MARKED * len(ids):
        marked = np.zeros(span, bool)
        marked[among - ids[0]] = True
        return np.flatnonzero(marked if span == len(ids) else marked[ids - ids[0]])
    places = np.searchsorted(ids, among)
    found: Positions = places[ids[places] == among]
    return found


def select(distances: NDArray[np.float32], ids: NDArray[np.int64], k: int | None, within: float | None = None) -> Hits:
    """The k smallest of each row of `distances` (q, n), ties to the smaller id; k None gives all that are `within`.

    `ids` is (n,) for all rows or (q, n), in any order; ids of -1 are left out. Marked exact: the rows were complete.
    """
    q, n = distances.shape
    ids = np.broadcast_to(np.asarray(ids, np.int64), (q, n))
    keep = ids >= 0
    if within is not None:
        keep = keep & (distances <= within)
    distances = np.where(keep, distances, np.inf).astype(np.float32, copy=False)
    width = int(keep.sum(axis=1).max(initial=0)) if k is None else k
    if not (q and width and n):
        return empty_hits(q, width)
    taken = min(width, n)
    if taken < n:  # everything at or below the k-th distance, ties included, then a stable order
        bound = np.partition(distances, taken - 1, axis=1)[:, taken - 1 : taken]
        near = distances <= bound
        most = int(near.sum(axis=1).max())
        picked = (
            np.argsort(~near, axis=1, kind="stable")[:, :most] if most < n else np.broadcast_to(np.arange(n), (q, n))
        )
        distances = np.take_along_axis(np.where(near, distances, np.inf), picked, axis=1)
        ids, keep = np.take_along_axis(ids, picked, axis=1), np.take_along_axis(keep & near, picked, axis=1)
    order = np.lexsort((ids, distances), axis=1)[:, :taken]
    hits = empty_hits(q, width)
    found = np.take_along_axis(keep, order, axis=1)
    hits.ids[:, :taken] = np.where(found, np.take_along_axis(ids, order, axis=1), -1)
    hits.distances[:, :taken] = np.where(found, np.take_along_axis(distances, order, axis=1), np.inf)
    return hits


def exhaustive(
    distances: Callable[[Embeddings, Codes], Floats],
    queries: Embeddings,
    codes: Codes,
    k: int | None,
    within: float | None = None,
) -> Hits:
    """The exact hits of queries over codes by a function that gives all distances, in blocks of bounded memory."""
    rows = max(1, min(len(codes), BLOCK_CELLS // max(1, len(queries))))
    best: Hits | None = None
    for start in range(0, len(codes), rows):
        block = codes.take(slice(start, start + rows))
        hits = select(distances(queries, block), block.ids, k, within)
        best = hits if best is None else _merged(best, hits, k)
    return empty_hits(len(queries), k or 0) if best is None else best


def _merged(a: Hits, b: Hits, k: int | None) -> Hits:
    distances = np.concatenate([a.distances, b.distances], axis=1)
    ids = np.concatenate([a.ids, b.ids], axis=1)
    return select(distances, ids, k, within=None if k is not None else float(np.finfo(np.float32).max))


def joined(a: Hits, b: Hits, k: int | None) -> Hits:
    """The k nearest of two hits of the same queries that share no id; all, where k is None. Rows of either may be in
    any order, with -1 and inf anywhere."""
    ids = np.concatenate([a.ids, b.ids], axis=1)
    distances = np.concatenate([a.distances, b.distances], axis=1)
    order = np.lexsort((np.where(ids < 0, LAST, ids), distances), axis=1)[:, :k]  # what is missing goes to the end
    rows = np.arange(len(ids))[:, None]
    return Hits(ids[rows, order], distances[rows, order], a.exact and b.exact)


def hits_of_pairs(
    q: int, rows: Positions, ids: Positions, distances: Floats, k: int | None, exact: bool = False
) -> Hits:
    """Hits from found pairs: `ids[i]` lies at `distances[i]` of query `rows[i]`. The k nearest of each query, or all
    where k is None, in order; ties to the smaller id. No pair may occur twice."""
    if q == 1 and k is not None:
        order = np.lexsort((ids, distances))[:k]
        hits = empty_hits(q, k, exact)
        hits.ids[0, : len(order)], hits.distances[0, : len(order)] = ids[order], distances[order]
        return hits
    order = np.lexsort((ids, distances, rows))
    rows, ids, distances = rows[order], ids[order], distances[order]
    counts = np.bincount(rows, minlength=q)  # (q,)
    ranks = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    hits = empty_hits(q, int(counts.max(initial=0)) if k is None else k, exact)
    if k is not None:
        taken = ranks < k
        rows, ranks, ids, distances = rows[taken], ranks[taken], ids[taken], distances[taken]
    hits.ids[rows, ranks] = ids
    hits.distances[rows, ranks] = distances
    return hits


def stacked(parts: Sequence[Hits], k: int | None) -> Hits:
    """The hits of consecutive queries as one; k wide, or as wide as the widest where k is None."""
    if len(parts) == 1:
        return parts[0]
    width = max((part.ids.shape[1] for part in parts), default=0) if k is None else k
    hits = empty_hits(sum(map(len, parts)), width, all(part.exact for part in parts))
    start = 0
    for part in parts:
        place = slice(start, start + len(part)), slice(part.ids.shape[1])
        hits.ids[place], hits.distances[place] = part.ids, part.distances
        start += len(part)
    return hits


def put(hits: Hits, rows: Any, found: Hits) -> None:
    """Write the hits of some queries, no wider than `hits`, over what was there; `rows` chooses them."""
    hits.ids[rows], hits.distances[rows] = -1, np.inf
    width = found.ids.shape[1]
    hits.ids[rows, :width], hits.distances[rows, :width] = found.ids, found.distances


def trimmed(hits: Hits, k: int | None, within: float | None = None) -> Hits:
    """The hits of distance <= `within`, k wide: cut, or padded with -1 and inf. As wide as they are where k is None."""
    ids, distances = hits.ids, hits.distances
    if within is not None:
        near = distances <= within
        if not near.all():
            ids, distances = np.where(near, ids, -1), np.where(near, distances, np.float32(np.inf))
    if k is None or ids.shape[1] == k:
        return hits if ids is hits.ids else Hits(ids, distances, hits.exact)
    whole = empty_hits(len(hits), k, hits.exact)
    width = min(k, ids.shape[1])
    whole.ids[:, :width], whole.distances[:, :width] = ids[:, :width], distances[:, :width]
    return whole
