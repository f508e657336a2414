"""What every indexer over plain vectors shares: it stores them as they are and so ranks by their true distances.

A subclass adds `build` (and what else it learns, in `fit`):

    class Flat(VectorIndexer):
        name = "flat"

        def build(self, codes):
            return ScanIndex(self, codes)        # exact; a VectorIndex of yours that skips what is far is quicker
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

from xmr_core.components import C
from xmr_core.errors import DataError, SpaceMismatchError
from xmr_core.search.distances import Scan, distances
from xmr_core.search.index import Index
from xmr_core.search.indexer import Indexer
from xmr_core.search.selection import Remembered
from xmr_core.sql import (
    Decoded,
    Derive,
    Expression,
    QueryType,
    SqlForm,
    asked,
    code,
    cosine,
    dot,
    doubles,
    euclidean,
    floats,
    row,
    single,
)
from xmr_core.types import Codes, Embeddings, Hits, Layout, Metric

__all__ = ["ScanIndex", "VectorIndex", "VectorIndexer", "cosine_form", "vector_form"]


class VectorIndexer(Indexer[C]):
    """An indexer whose codes are the vectors, float32, 4 bytes a dimension. `fit` learns their metric and width."""

    metrics: ClassVar[frozenset[str]] = frozenset({"l2", "ip", "cosine"})

    def fit(self, embeddings: Embeddings) -> Self:
        """A new indexer that knows the metric and width of its vectors."""
        return self.with_state(self.learned(embeddings))

    def learned(self, embeddings: Embeddings) -> dict[str, NDArray[Any]]:
        """What `fit` keeps; a subclass that learns more adds to it. Raises DataError under another metric."""
        if embeddings.metric not in self.metrics:
            raise DataError(f"{self.name} takes {' or '.join(sorted(self.metrics))}, not {embeddings.metric}")
        return {"metric": np.array([embeddings.metric]), "dim": np.array([embeddings.dim])}

    @property
    def metric(self) -> Metric:
        """The metric of the vectors it was fitted on. Raises NotFittedError."""
        self.require_fit()
        return cast(Metric, str(self.state["metric"][0]))

    @property
    def dim(self) -> int:
        """Their width. Raises NotFittedError."""
        self.require_fit()
        return int(self.state["dim"][0])

    def queries(self, embeddings: Embeddings) -> Embeddings:
        """Vectors of the metric and width that were fitted. Raises NotFittedError, DataError, SpaceMismatchError."""
        if embeddings.metric != self.metric:
            raise SpaceMismatchError(
                f"{self.name} was fitted on vectors under {self.metric}, the query has {embeddings.metric}"
            )
        if embeddings.dim != self.dim:
            raise DataError(f"{self.name}: expected {self.dim} dimensions, got {embeddings.dim}")
        return embeddings

    def encode(self, embeddings: Embeddings, ids: NDArray[np.int64]) -> Codes:
        """The vectors themselves."""
        return Codes.of_vectors(ids, self.queries(embeddings).values)

    def vectors(self, codes: Codes) -> NDArray[np.float32]:
        """(n, d): the vectors of `codes`. Raises DataError where they have another width or layout."""
        if codes.layout.dim != self.dim:
            raise DataError(f"{self.name}: expected codes of {self.dim} dimensions, got {codes.layout.dim}")
        return codes.vectors

    def exhaustive(self, codes: Codes) -> Index:
        return ScanIndex(self, codes)

    def distances(self, queries: Embeddings, codes: Codes) -> NDArray[np.float32]:
        """(q, n) true distances."""
        return distances(self.queries(queries).values, codes.vectors, self.metric)

    def sql_form(self, layout: Layout, metric: Metric) -> SqlForm:
        """True distances of arrays of floats."""
        return vector_form(layout.dim, metric)


class VectorIndex(Index):
    """Exact search over all vectors, which are not copied; the base of indexes that look at fewer.

    A subclass's `_search` gives what it finds, and `_exhaustive` where a scan is as quick. A filter's vectors are
    copied, for the time of a search or, where it comes again, as long as there is room for them.
    """

    indexer: VectorIndexer

    def __init__(self, indexer: VectorIndexer, codes: Codes) -> None:
        super().__init__(indexer, codes)
        self.scan = Scan(indexer.vectors(codes), codes.ids, indexer.metric)
        self.filtered: Remembered[Scan] = Remembered()

    def _search(
        self, queries: Embeddings, k: int | None, within: float | None, positions: NDArray[np.int64] | None
    ) -> Hits:
        return self._exhaustive(queries, k, within, positions)

    def _exhaustive(
        self, queries: Embeddings, k: int | None, within: float | None, positions: NDArray[np.int64] | None
    ) -> Hits:
        scan = self.scan if positions is None else self.filtered.of(positions, lambda: self.scan.at(positions))
        return scan.search(queries.values, k, within)

    def grow(self, codes: Codes) -> None:
        """Take codes of larger ids into the scan: what `extend` of a subclass begins with."""
        self.codes = self.codes.extended(codes)
        self.scan = self.scan.extended(self.indexer.vectors(self.codes), self.codes.ids)


class ScanIndex(VectorIndex):
    """A scan of all vectors, and nothing else: exact."""

    def extend(self, codes: Codes) -> bool:
        self.grow(codes)
        return True


def vector_form(
    dim: int,
    metric: Metric,
    decoded: Decoded | None = None,
    distance: Expression | None = None,
    tables: Mapping[str, Mapping[str, NDArray[Any]]] | None = None,
) -> SqlForm:
    """How SQL compares vectors in a column `vector`, stored or `decoded`: by the metric, or by a `distance` of
    `code("vector")` and of `asked("vector")`, whose square is `asked("square")`. `tables` are what decoding joins.

    Sums are in float64, the distance is rounded to float32, as in Python.
    """
    vector = row("vector")
    return SqlForm(
        query=QueryType("vector", dim),
        of_query=(Derive({"vector": doubles(row("q"), dim)}),),
        of_code=(Derive({"vector": doubles(vector, dim)}),),
        prepare=(Derive({"vector": vector, "square": dot(vector, vector, arrays=True)}),),
        as_query=(Derive({"value": floats(vector)}),),
        distance=single(distance or _distance(dim, metric)),
        decoded=decoded,
        tables=tables or {},
    )


def _distance(dim: int, metric: Metric) -> Expression:
    x = doubles(code("vector"), dim)
    if metric == "l2":
        return euclidean(x, asked("vector"), arrays=True)
    return -dot(x, asked("vector"), arrays=True) if metric == "ip" else cosine_form(dim)


def cosine_form(dim: int) -> Expression:
    """1 - cosine of the vectors of a code and of a query, for `vector_form`."""
    x = doubles(code("vector"), dim)
    return cosine(dot(x, asked("vector"), arrays=True), dot(x, x, arrays=True) * asked("square"))
