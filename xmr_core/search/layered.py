"""An index that keeps up: the one that was built, an exact layer of what came since, and the ids that went.

    index = Layered(indexer, indexer.build(codes))
    index.update(came, gone)          # codes that came or changed, ids that went: costs what they cost
    index.search(queries, 10)         # as if it had been built over what is there now

So every indexer keeps up, a stranger's too, without its help. What came goes into the built index where that takes it
(`Index.extend`), else into the layer, which is scanned. What went stays in the built index and is left out of its hits:
it is asked for as many more, so that hits are never short. A code that changed went, and came.

Letters: q queries, k hits.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xmr_core.search.hits import check_search, empty_hits, joined, put, trimmed
from xmr_core.search.index import Compares, Index
from xmr_core.search.selection import Remembered, Selection
from xmr_core.types import Codes, Embeddings, Float, Hits, Ids, Int

__all__ = ["Layered", "merged"]

SHARE = 10  # an index is due for building anew when what it lacks is more than this part of it,
LEAST = 1024  # and more than this: so many are scanned in less time than a search takes
SPARE = 4  # hits asked of the built index beyond k, and beyond the share that has gone

Removed = NDArray[np.int64]


class Builds(Compares, Protocol):
    """What this needs of the indexer."""

    def exhaustive(self, codes: Codes) -> Index:
        """An index over codes that misses nothing and needs no building."""


class Layered(Index):
    """A built index and what has changed since. `codes` are put together when they are asked for."""

    indexer: Builds

    def __init__(self, indexer: Builds, base: Index) -> None:
        """Over an index that was built; `update` changes both."""
        self.indexer, self.base = indexer, base
        self.removed: Removed = np.empty(0, np.int64)  # ids in `base` that are not there any more, ascending
        self.layer = indexer.exhaustive(base.codes.take(slice(0, 0)))
        self.taken = 0  # codes that the built index has taken in
        self._codes: Codes | None = None
        self._kept: Remembered[Selection] = Remembered()

    @property
    def codes(self) -> Codes:  # type: ignore[override]  # a plain attribute of an index, which here is derived
        """All codes that are there, ascending by id."""
        if not len(self.removed) and not len(self.layer):
            return self.base.codes
        if self._codes is None:
            self._codes = merged(*self.parts)
        return self._codes

    @property
    def parts(self) -> tuple[Codes, Removed, Codes]:
        """The codes of the built index, the ids among them that went, and the codes of the layer: none of them changes
        any more, so that `merged` may put them together at another time."""
        return self.base.codes, self.removed, self.layer.codes

    def __len__(self) -> int:
        return len(self.base) - len(self.removed) + len(self.layer)

    @property
    def due(self) -> bool:
        """True when it is time to build again: the layer is long, or much of what was built has gone."""
        return len(self.removed) + len(self.layer) > self._share

    @property
    def outgrown(self) -> bool:
        """True when what was built has taken in so much that a saved one has little in common with it."""
        return self.behind > self._share

    @property
    def behind(self) -> int:
        """How many codes came or went since the index was built."""
        return len(self.removed) + len(self.layer) + self.taken

    @property
    def _share(self) -> int:
        return max(LEAST, len(self.base) // SHARE)

    def update(self, came: Codes, gone: NDArray[np.int64]) -> None:
        """Codes that came, or changed under the ids they had, and ids that went; both ascending. Ids that went and are
        not there are no matter, nor are codes that are there already."""
        came = came.take(~self._known(came))
        if not len(came) and not len(gone):
            return
        self._codes, self._kept = None, Remembered()
        self._leave_out(np.union1d(gone, came.ids))
        if not len(came):
            return
        built = self.base.codes.ids
        if (not len(built) or came.ids[0] > built[-1]) and self.base.extend(came):
            self.taken += len(came)
        else:
            self.layer = self.indexer.exhaustive(self.layer.codes.merged(came))

    def _known(self, came: Codes) -> NDArray[np.bool_]:
        """(n,) which of these codes the built index has as they are."""
        built, known = self.base.codes, np.zeros(len(came), bool)
        if len(built) and len(came) and came.ids[0] <= built.ids[-1]:
            places = np.searchsorted(built.ids, came.ids).clip(max=len(built) - 1)
            known = (built.ids[places] == came.ids) & (built.values[places] == came.values).all(axis=1)
            known &= ~np.isin(came.ids, self.removed, assume_unique=True)
        return known

    def _leave_out(self, stale: NDArray[np.int64]) -> None:
        """Ids that are not what they were, if they were there."""
        kept = ~np.isin(self.layer.codes.ids, stale, assume_unique=True)
        if not kept.all():
            self.layer = self.indexer.exhaustive(self.layer.codes.take(kept))
        built = self.base.codes.ids
        there = stale[built.take(np.searchsorted(built, stale), mode="clip") == stale] if len(built) else stale[:0]
        self.removed = np.union1d(self.removed, there)

    def search(
        self,
        queries: Embeddings,
        k: Int | None = 10,
        within: Float | None = None,
        among: Ids | Selection | None = None,
    ) -> Hits:
        if not len(self.removed) and not len(self.layer):
            return self.base.search(queries, k, within, among)
        wanted, radius = check_search(k, within)
        built = self._built(queries, wanted, radius, among)
        if len(self.layer):
            built = joined(built, self.layer.search(queries, k, within, among), wanted)
        return trimmed(built, _widest(built) if wanted is None else wanted)

    def _built(self, queries: Embeddings, k: int | None, within: float | None, among: Ids | Selection | None) -> Hits:
        """What the built index finds, less what went; k wide at most, rows sorted but for gaps."""
        if not len(self.removed):
            return self.base.search(queries, k, within, among)
        if among is not None:
            return self.base.search(queries, k, within, self._still_there(among))
        if k is None:
            return joined(self._without(self.base.search(queries, None, within)), empty_hits(len(queries), 0), None)
        return self._enough(queries, k, within)

    def _enough(self, queries: Embeddings, k: int, within: float | None) -> Hits:
        """The k nearest of each query that are still there: more is asked for until k are, or all have been asked."""
        gone = len(self.removed)
        extra = min(gone, SPARE + 2 * k * gone // max(1, len(self.base)))
        hits = self._less(queries, k, extra, within)
        while extra < gone:
            short = np.flatnonzero(hits.ids[:, -1] < 0)
            if not len(short):
                break
            extra = min(gone, 8 * extra)
            put(hits, short, self._less(queries.take(short), k, extra, within))
        return hits

    def _less(self, queries: Embeddings, k: int, extra: int, within: float | None) -> Hits:
        found = self._without(self.base.search(queries, k + extra, within))
        return trimmed(joined(found, empty_hits(len(queries), 0), k), k)

    def _without(self, hits: Hits) -> Hits:
        """The hits with gaps of -1 and inf where what was found went."""
        places = np.searchsorted(self.removed, hits.ids)
        gone = self.removed.take(places, mode="clip") == hits.ids
        return Hits(np.where(gone, -1, hits.ids), np.where(gone, np.float32(np.inf), hits.distances), hits.exact)

    def _still_there(self, among: Ids | Selection) -> Selection:
        """The selection less what went from the built index."""
        selection = among if isinstance(among, Selection) else Selection(among)
        return self._kept.of(
            selection.ids, lambda: Selection(np.setdiff1d(selection.ids, self.removed, assume_unique=True))
        )

    def _search(
        self, queries: Embeddings, k: int | None, within: float | None, positions: NDArray[np.int64] | None
    ) -> Hits:
        among = None if positions is None else self.codes.ids[positions]
        return self.search(queries, k, within, among)


def merged(built: Codes, removed: Removed, layer: Codes) -> Codes:
    """The codes of an index that was built, less those removed, and those of a layer over it."""
    there = np.ones(len(built), bool)
    there[np.searchsorted(built.ids, removed)] = False
    return built.take(there).merged(layer)


def _widest(hits: Hits) -> int:
    """The most hits that a query has."""
    return int((hits.ids >= 0).sum(axis=1).max(initial=0))
