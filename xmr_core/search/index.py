"""The base of every index: checks a search, turns its filter into positions, completes, cuts and pads its hits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xmr_core.search.hits import check_search, empty_hits, exhaustive, positions_of, put, trimmed
from xmr_core.search.selection import Remembered, Selection
from xmr_core.types import Codes, Embeddings, Float, Hits, Ids, Int

__all__ = ["Compares", "Index"]


class Compares(Protocol):
    """What an index needs of the indexer that built it."""

    def queries(self, embeddings: Embeddings) -> Embeddings:
        """Queries checked. Raises DataError, SpaceMismatchError."""

    def distances(self, queries: Embeddings, codes: Codes) -> NDArray[np.float32]:
        """(q, n): the distance of each query to each code."""


class Index(ABC):
    """What an Indexer builds over its codes: `search`. Derived, so it may be thrown away; at most cached.

    A subclass implements `_search` and need not check, pad or cut: `search` does, for every index alike.
    """

    indexer: Compares

    def __init__(self, indexer: Compares, codes: Codes) -> None:
        self.indexer, self.codes = indexer, codes

    def __len__(self) -> int:
        """How many items can be found."""
        return len(self.codes)

    def search(
        self,
        queries: Embeddings,
        k: Int | None = 10,
        within: Float | None = None,
        among: Ids | Selection | None = None,
    ) -> Hits:
        """The k nearest of each query (all, where k is None and `within` is given), ascending distance, ties to the
        smaller id; only those of distance <= `within`; only among the ids of `among`: ascending ids or, for a filter of
        many queries, a `Selection`. Where fewer than k qualify, -1 and inf. A filter never costs hits: k are returned
        where k qualify. Numbers may be numpy's. Raises DataError."""
        wanted, radius = check_search(k, within)
        queries = self._checked(queries)
        positions = None if among is None else self._positions(among)
        allowed = len(self) if positions is None else len(positions)
        if not allowed or not len(queries):
            return empty_hits(len(queries), wanted or 0)
        most = None if wanted is None else min(wanted, allowed)
        hits = self._search(queries, most, radius, positions)
        if most is not None and not hits.exact:
            hits = self._completed(hits, queries, most, radius, positions)
        return trimmed(hits, wanted, radius)

    def _positions(self, among: Ids | Selection) -> NDArray[np.int64]:
        ids = self.codes.ids
        return among.positions(ids) if isinstance(among, Selection) else positions_of(ids, among)

    def extend(self, codes: Codes) -> bool:
        """Take in codes of larger ids than all it has, in a few milliseconds; False, and nothing has changed, where it
        cannot. What an index does not take in, a library searches beside it and builds in later: see `Layered`.

        An index that overrides this has `codes` with the new rows afterwards (`self.codes.extended(codes)`), and
        answers as one that was built over them would, up to its recall.
        """
        return False

    @abstractmethod
    def _search(
        self, queries: Embeddings, k: int | None, within: float | None, positions: NDArray[np.int64] | None
    ) -> Hits:
        """The nearest of one query or more, by ascending distance, ties to the smaller id.

        `positions` (p,) ascending are the rows of the codes to search, None for all; there is one at least, and k is
        never larger than their number. k is None where all `within` are wanted; with both, `within` may be ignored:
        what lies farther is cut from what is returned. Rows may be short: unless marked exact, those are searched
        again exhaustively, so do not cut by `within` what is not exact. Positions that cannot be written to come
        again with the next query of the same filter: what was made of them can be kept (`Remembered`).
        """

    def _exhaustive(
        self, queries: Embeddings, k: int | None, within: float | None, positions: NDArray[np.int64] | None
    ) -> Hits:
        """As `_search`, exactly, by the indexer's `distances`; for an index to fall back to."""
        codes = self.codes if positions is None else self.chosen(positions)
        return exhaustive(self.indexer.distances, queries, codes, k, within)

    def chosen(self, positions: NDArray[np.int64]) -> Codes:
        """The codes at these positions, kept for the next query where the same filter comes again."""
        return self._chosen.of(positions, lambda: self.codes.take(positions))

    @cached_property
    def _chosen(self) -> Remembered[Codes]:
        return Remembered()

    def _checked(self, queries: Embeddings) -> Embeddings:
        """Queries as `_search` takes them. Raises DataError where they do not fit the codes."""
        return self.indexer.queries(queries)

    def _completed(
        self, hits: Hits, queries: Embeddings, k: int, within: float | None, positions: NDArray[np.int64] | None
    ) -> Hits:
        """The hits, those of queries for which fewer than k were found replaced by exact ones."""
        hits = trimmed(hits, k)
        missing = hits.ids[:, -1] < 0
        if missing.any():
            short = np.flatnonzero(missing)
            hits = Hits(hits.ids.copy(), hits.distances.copy())
            put(hits, short, self._exhaustive(queries.take(short), k, within, positions))
        return hits

    def save(self, folder: Path) -> bool:
        """Write the index into the empty `folder` for `Indexer.load_index`; False where building is as quick."""
        return False
