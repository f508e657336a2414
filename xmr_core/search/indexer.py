"""The role of an indexer: embeddings to codes, and an index over codes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from xmr_core.components import C, Component
from xmr_core.errors import ConfigError, SpaceMismatchError
from xmr_core.search.exact import ExactIndex
from xmr_core.search.index import Index
from xmr_core.sql import SqlForm
from xmr_core.types import Codes, Embeddings, Layout, Metric

__all__ = ["Indexer"]


class Indexer(Component[C], ABC):
    """Embeddings to codes, and an index over codes: `fit`, `encode`, `build`, `distances`.

    The codes are what is stored; an index is made from codes and state and may be thrown away. `metrics` are those it
    takes; `exact` says that its index misses nothing; `recall_floor` is the recall@10 against exact search over its
    own codes that its author promises on clustered vectors. `encoder_wanted` is the recipe of the encoder that stands
    before it in a recipe of the indexer alone; "" where none is implied. `no_match` is the distance of items that have
    nothing in common with a query: a library leaves them out, rather than fill up k with them. `additive` says that
    `fit_blocks` needs one block at a time, which very wide embeddings require.
    """

    metrics: ClassVar[frozenset[str]] = frozenset({"l2", "ip", "cosine"})
    exact: ClassVar[bool] = False
    recall_floor: ClassVar[float] = 0.9
    encoder_wanted: ClassVar[str] = ""
    no_match: ClassVar[float] = math.inf
    additive: ClassVar[bool] = False

    def fit(self, embeddings: Embeddings) -> Self:
        """A new, fitted indexer. One that learns nothing has `needs_fit = False` and leaves this as it is."""
        return self

    def fit_blocks(self, blocks: Iterable[Embeddings]) -> Self:
        """What `fit` gives on all blocks together. An `additive` indexer overrides this, to hold one at a time."""
        parts = list(blocks)
        return self.fit(Embeddings(np.concatenate([part.values for part in parts]), parts[0].metric))

    @abstractmethod
    def encode(self, embeddings: Embeddings, ids: NDArray[np.int64]) -> Codes:
        """The codes to store, a row an embedding, whatever the batch. `ids` (n,) are ascending."""

    def check_width(self, width: int) -> None:
        """Raise ConfigError where it does not take embeddings of so many dimensions (bits under hamming)."""

    @abstractmethod
    def build(self, codes: Codes) -> Index:
        """An index over codes; codes of no rows give an index that finds nothing."""

    def exhaustive(self, codes: Codes) -> Index:
        """An index over codes that misses nothing and needs no building: what `exact=True` searches, and what came
        since an index was built. Override where there is a quicker one than by `distances`."""
        return ExactIndex(self, codes)

    @abstractmethod
    def distances(self, queries: Embeddings, codes: Codes) -> NDArray[np.float32]:
        """(q, n) float32: the distance of each query to each code, the plain way. It is the oracle of `build`, so
        clarity comes before speed; the caller keeps the blocks small."""

    def decode(self, codes: Codes) -> NDArray[np.float32]:
        """(n, d): the embeddings that codes stand for. Override where codes are not the vectors themselves.

        Raises ConfigError where they stand for none."""
        if not codes.hold_vectors:
            raise ConfigError(f"{self.name}: its codes stand for no vectors; to rerank takes an indexer whose codes do")
        return codes.vectors

    def queries(self, embeddings: Embeddings) -> Embeddings:
        """Queries checked, as `search` wants them. Raises DataError, SpaceMismatchError."""
        if embeddings.metric not in self.metrics:
            raise SpaceMismatchError(
                f"{self.name} compares {' or '.join(sorted(self.metrics))}, the query has {embeddings.metric}"
            )
        return embeddings

    def sql_form(self, layout: Layout, metric: Metric) -> SqlForm | None:
        """How SQL decodes codes of this layout and compares them by the same distance under `metric`.

        None where SQL cannot: the space then has no search in SQL, rather than one that answers otherwise.
        """
        return None

    def load_index(self, folder: Path, codes: Codes) -> Index | None:
        """The index that `Index.save` wrote into `folder` for these codes, or None to build anew."""
        return None
