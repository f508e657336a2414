"""Exact search, the plain way: the ground that every index is checked against, and tools to finish an approximate one.

An indexer's own `distances` are taken block by block, so memory stays at about 64 MB whatever the collection's size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xmr_core.components import Index, Indexer
from xmr_core.errors import DataError
from xmr_core.types import Codes, Embeddings, Hits, Int

__all__ = ["ExactIndex", "check_search", "empty_hits", "nearest", "positions_of", "select"]

BLOCK_CELLS = 1 << 24  # distances held at once: 64 MB of float32
LARGEST = float(np.finfo(np.float64).max)


def check_search(k: Int | None, within: float | None) -> None:
    """Raise DataError where `k` and `within` ask for nothing that can be given."""
    if k is None and within is None:
        raise DataError("search: give k, within, or both")
    if k is not None and (isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1):
        raise DataError(f"k={k!r}: must be a whole number, 1 or more")
    number = isinstance(within, (int, float, np.integer, np.floating)) and not isinstance(within, bool)
    if within is not None and not (number and abs(within) <= LARGEST):
        raise DataError(f"within={within!r}: must be a finite distance")


def empty_hits(q: int, k: int, exact: bool = True) -> Hits:
    """Hits that found nothing: (q, k) of -1 and inf."""
    return Hits(np.full((q, k), -1, np.int64), np.full((q, k), np.inf, np.float32), exact)


def positions_of(ids: NDArray[np.int64], among: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions in `ids` (n,) ascending of those of `among` that are there, ascending."""
    among = np.asarray(among, np.int64)
    if not (among[1:] > among[:-1]).all():  # sorting is most of the work, so it is done only where it is wanted
        among = np.unique(among)
    places = np.searchsorted(ids, among)
    places = places[places < len(ids)] if len(ids) else places[:0]
    found: NDArray[np.int64] = places[ids[places] == among[: len(places)]]
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


def nearest(indexer: Indexer, queries: Embeddings, codes: Codes, k: int | None, within: float | None = None) -> Hits:
    """The exact hits of queries over codes by `indexer.distances`, in blocks of bounded memory."""
    check_search(k, within)
    if not len(codes):
        return empty_hits(len(queries), k or 0)
    rows = max(1, min(len(codes), BLOCK_CELLS // max(1, len(queries))))
    best: Hits | None = None
    for start in range(0, len(codes), rows):
        block = codes.take(slice(start, start + rows))
        hits = select(indexer.distances(queries, block), block.ids, k, within)
        best = hits if best is None else _merged(best, hits, k)
    assert best is not None
    return best


def _merged(a: Hits, b: Hits, k: int | None) -> Hits:
    distances = np.concatenate([a.distances, b.distances], axis=1)
    ids = np.concatenate([a.ids, b.ids], axis=1)
    return select(distances, ids, k, within=None if k is not None else float(np.finfo(np.float32).max))


class ExactIndex(Index):
    """An exhaustive index over any indexer's codes: what `exact=True` searches; an indexer may build it outright."""

    def __init__(self, indexer: Indexer, codes: Codes) -> None:
        self.indexer, self.codes = indexer, codes

    def __len__(self) -> int:
        return len(self.codes)

    def search(
        self,
        queries: Embeddings,
        k: int | None = 10,
        within: float | None = None,
        among: NDArray[np.int64] | None = None,
    ) -> Hits:
        """See `Index.search`; always exact."""
        codes = self.codes if among is None else self.codes.take(positions_of(self.codes.ids, among))
        return nearest(self.indexer, self.indexer.queries(queries), codes, k, within)
