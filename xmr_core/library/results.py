"""What a search gives back: ids and distances at once, the items themselves when they are asked for."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import DataError
from xmr_core.explain.attention import Attention, Explained
from xmr_core.explain.drawing import draw
from xmr_core.store import Store
from xmr_core.types import Embeddings, Hits, Metric

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Hit", "Query", "Results"]


@dataclass(frozen=True, eq=False)
class Query(Embeddings):
    """Encoded queries that name the space they were made for; a search in another space refuses them."""

    metric: Metric
    fingerprint: str = ""


@dataclass(frozen=True)
class Hit:
    """One found item: smaller distance is nearer. `data` is a picture's path or a sentence; `metadata` the rest.

    `attention` is where the space looked in it, after a search with `explain=True`. After a search in several spaces,
    `ranks` says which rank, from 1, each space gave it; a space that did not rank it is left out.
    """

    id: int
    distance: float
    key: str
    modality: str
    data: str | None
    metadata: Mapping[str, Any]
    query: int = 0
    attention: Attention | None = field(default=None, repr=False)
    ranks: Mapping[str, int] = field(default_factory=dict)


class Results(Sequence[Hit]):
    """The hits of one query or many, nearest first; iterating gives `Hit`s, query by query.

    `ids` (q, k) int64 and `distances` (q, k) float32 are ready at once, -1 and inf where fewer were found; keys and
    metadata are read from the database when a `Hit` is first looked at, and so is attention computed, where the search
    was asked to explain. `exact` says that nothing nearer was missed. `unknown_words` (q) are the words of each text
    that the space does not know and that said nothing; empty where queries are not texts, or it reads all words.

    `spaces` names the spaces that were searched. Where there are several, distances are negative scores of reciprocal
    rank fusion, and `ranks` (q, k, s) int64 is the rank, from 1, of each hit in each space; 0 where it has none.
    """

    def __init__(
        self,
        hits: Hits,
        store: Store,
        modality: str,
        space: str,
        explained: Explained | None = None,
        unknown: Sequence[Sequence[str]] = (),
        spaces: tuple[str, ...] = (),
        ranks: NDArray[np.int64] | None = None,
    ) -> None:
        self._hits, self._store, self._explained = hits, store, explained
        self.modality, self.space = modality, space
        self.unknown_words = [list(words) for words in unknown]
        self.spaces, self.ranks = spaces or (space,), ranks

    @property
    def ids(self) -> NDArray[np.int64]:
        """(q, k) int64; -1 where fewer were found."""
        return self._hits.ids

    @property
    def distances(self) -> NDArray[np.float32]:
        """(q, k) float32, ascending; inf where fewer were found."""
        return self._hits.distances

    @property
    def exact(self) -> bool:
        """True where nothing nearer was missed."""
        return self._hits.exact

    @functools.cached_property
    def _all(self) -> list[Hit]:
        queries, places = np.nonzero(self.ids >= 0)
        ids = self.ids[queries, places]
        distances = self.distances[queries, places]
        rows = self._store.describe(ids)
        seen, ranks = self._seen(ids), self._ranks(queries, places)
        own = [name for name in rows if name not in ("item_id", "modality", "key", "source", "text")]
        return [
            Hit(
                id=int(ids[i]),
                distance=float(distances[i]),
                key=rows["key"][i] if rows["key"][i] is not None else str(ids[i]),
                modality=self.modality,
                data=rows["text"][i] if rows["text"][i] is not None else rows["source"][i],
                metadata={name: rows[name][i] for name in own},
                query=int(queries[i]),
                attention=seen.get(int(ids[i])),
                ranks=ranks[i],
            )
            for i in range(len(ids))
        ]

    def _ranks(self, queries: NDArray[np.int64], places: NDArray[np.int64]) -> list[dict[str, int]]:
        if self.ranks is None:
            return [{} for _ in queries]
        rows = self.ranks[queries, places].tolist()
        return [{space: rank for space, rank in zip(self.spaces, row, strict=True) if rank} for row in rows]

    def _seen(self, ids: NDArray[np.int64]) -> dict[int, Attention]:
        distinct = np.unique(ids)
        found = self._explained.of(distinct) if self._explained else []
        return dict(zip(distinct.tolist(), found, strict=False))

    @property
    def attention(self) -> list[Attention]:
        """(q) where the space looked in each query; empty without `explain=True`, and where queries were vectors."""
        return list(self._explained.queries) if self._explained else []

    def draw(self, file: str | Path | None = None, query: int = 0, font: str | Path | None = None) -> Image:
        """A query and its hits with their attention, a row each: see `Attention.draw`. Raises DataError."""
        if self._explained is None:
            raise DataError("draw: there is no attention to draw; search with explain=True")
        if not 0 <= query < len(self.ids):
            raise DataError(f"draw: expected a query from 0 to {len(self.ids) - 1}, got {query}")
        hits = [hit.attention for hit in self.of(query) if hit.attention]
        return draw([*self.attention[query : query + 1], *hits], file, font)

    def of(self, query: int) -> list[Hit]:
        """The hits of one query of many."""
        ends = np.cumsum((self.ids >= 0).sum(axis=1))
        return self._all[ends[query - 1] if query else 0 : ends[query]]

    def __len__(self) -> int:
        return int((self.ids >= 0).sum())

    @overload
    def __getitem__(self, place: int) -> Hit: ...
    @overload
    def __getitem__(self, place: slice) -> list[Hit]: ...
    def __getitem__(self, place: int | slice) -> Hit | list[Hit]:
        return self._all[place]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self._all)

    def __repr__(self) -> str:
        lines = [f"{len(self)} {self.modality}s of space {self.space!r}{', exact' if self.exact else ''}"]
        lines += [f"  {hit.distance:10.4f}  {hit.key}  {(hit.data or '')[:60]}" for hit in self._all[:20]]
        return "\n".join([*lines, "  ..."] if len(self) > 20 else lines)
