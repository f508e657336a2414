"""Product quantization: a vector as a few small integers. Source: Jegou, Douze & Schmid, TPAMI 2011.

A vector is cut into m parts, and each part is replaced by the number of the nearest of `ksub` centroids. A query is not
quantized: a table of its distance to each centroid, m x ksub numbers, gives its distance to any code by m look-ups and
a sum ("asymmetric distance computation", section 3).

Letters: n rows, q queries, d dimensions, m parts (symbols of a code), ksub centroids a part, dsub = d / m.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from xmr_core import (
    Codes,
    ConfigError,
    DataError,
    Embeddings,
    Index,
    Indexer,
    Layout,
    Metric,
    SpaceMismatchError,
    SqlForm,
)
from xmr_core.plugin import State, takes, unit, unset
from xmr_pq.config import PQConfig
from xmr_pq.sql import pq_form

__all__ = ["PQ"]

ROWS = 4096  # vectors that are encoded at once
ROUNDING = 1e-12  # of squared lengths: a squared distance below it is 0
SAME = 12  # decimals of a cosine distance; what remains below is rounding

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Symbols = NDArray[np.uint8]


class PQ(Indexer[PQConfig]):
    """Codes of `bytes` bytes that stand for vectors, compared by asymmetric distance computation.

    The distance of a query to a code is that to the vector it stands for. Under cosine, vectors are scaled to length 1
    before they are coded; those that codes stand for are a little shorter, and the distance allows for that.

    State: `codebooks` (m, ksub, dsub) float32; with OPQ `rotation` (d, d) float32, whose rows are the new axes, so
    that `vectors @ rotation.T` is cut into parts; with inverted lists `lists` (lists, d) float32, centroids after
    rotation; `metric`. A code's list is that of the vector it stands for, so an index follows from codes and state,
    and `distances` is the same with lists or without.
    """

    name = "pq"

    @takes(PQConfig)
    def __init__(self) -> None: ...

    @classmethod
    def migrate(cls, options: Mapping[str, Any], state: State, version: int) -> tuple[Mapping[str, Any], State]:
        """No rotation was "none", no lists were 0."""
        return super().migrate(unset(options, rotation="none", lists=0), state, version)

    def fit(self, embeddings: Embeddings) -> Self:
        """Learn rotation, codebooks and lists. Fewer vectors than centroids become the centroids.

        Raises ConfigError where the parts do not divide the dimensions, DataError without a vector to learn from.
        """
        from xmr_pq.training import learn  # imports faiss

        super().queries(embeddings)
        if not len(embeddings):
            raise DataError("pq: no vectors to learn from")
        self.check_width(embeddings.dim)
        learned = learn(_compared(embeddings.values, embeddings.metric).astype(np.float32), self.config)
        return self.with_state({**learned, "metric": np.array([embeddings.metric])})

    def check_width(self, width: int) -> None:
        """Raise ConfigError where the subquantizers do not divide the dimensions."""
        d = width
        if d % self.config.parts:
            sizes = [size for size in range(1, d + 1) if size * 8 % self.config.bits == 0]
            fit = [size for size in sizes if d % (size * 8 // self.config.bits) == 0]
            nearest = sorted(sorted(fit, key=lambda size: abs(size - self.config.bytes))[:3])
            advice = f"bytes may be {', '.join(map(str, nearest))}" if nearest else "choose other bits"
            raise ConfigError(
                "bytes", self.config.bytes, f"{self.config.parts} parts do not divide {d} dimensions; {advice}"
            )

    @property
    def codebooks(self) -> Floats:
        """(m, ksub, dsub), the centroids of each part."""
        self.require_fit()
        return self.state["codebooks"]

    @property
    def norms(self) -> Doubles:
        """(m, ksub), the squared lengths of the centroids."""
        norms: Doubles = np.square(self.codebooks, dtype=np.float64).sum(axis=2)
        return norms

    @property
    def dim(self) -> int:
        """d, the width of the vectors."""
        return int(self.codebooks[:, 0].size)

    @property
    def metric(self) -> Metric:
        """The metric that it was fitted under."""
        self.require_fit()
        return cast(Metric, str(self.state["metric"][0]))

    def queries(self, embeddings: Embeddings) -> Embeddings:
        """See `Indexer.queries`: of the width and the metric that it was fitted on."""
        super().queries(embeddings)
        if embeddings.metric != self.metric:
            raise SpaceMismatchError(f"pq was fitted under {self.metric}, the vectors have {embeddings.metric}")
        if embeddings.dim != self.dim:
            raise DataError(f"pq: expected vectors of {self.dim} dimensions, got {embeddings.dim}")
        return embeddings

    def turned(self, vectors: Floats) -> Doubles:
        """(n, d): vectors as they are cut into parts, scaled to length 1 for cosine and rotated for OPQ."""
        compared = _compared(vectors, self.metric)
        return compared @ self.state["rotation"].T.astype(np.float64) if "rotation" in self.state else compared

    def encode(self, embeddings: Embeddings, ids: NDArray[np.int64]) -> Codes:
        """See `Indexer.encode`; one byte a symbol.

        Not by faiss: what its matrix products round to depends on how many rows come together.
        """
        vectors = self.queries(embeddings).values
        codes = np.empty((len(vectors), self.config.parts), np.uint8)
        for start in range(0, len(vectors), ROWS):
            block = slice(start, start + ROWS)
            codes[block] = nearest_centroids(self.turned(vectors[block]), self.codebooks)
        return Codes(ids, codes, Layout.symbols(self.config.parts, self.config.bits, name="pq"))

    def stood_for(self, symbols: Symbols) -> Floats:
        """(n, d): the vectors that symbols (n, m) stand for, as `turned` gives them."""
        m = self.config.parts
        chosen: Floats = self.codebooks[np.arange(m), symbols]  # (n, m, dsub)
        return chosen.reshape(len(symbols), self.dim)

    def decode(self, codes: Codes) -> Floats:
        """(n, d): the vectors that codes stand for; of about length 1 for cosine."""
        vectors = self.stood_for(codes.values)
        return vectors @ self.state["rotation"] if "rotation" in self.state else vectors

    def tables(self, turned: Doubles) -> Iterator[Doubles]:
        """For each part, (q, ksub): what each centroid adds to the squared distance of queries that were `turned`, or
        to their inner product for ip and cosine."""
        from scipy.spatial.distance import cdist

        for part, book in zip(_cut(turned, self.config.parts), self.codebooks.astype(np.float64), strict=True):
            yield cdist(part, book, "sqeuclidean") if self.metric == "l2" else part @ book.T

    def distances(self, queries: Embeddings, codes: Codes) -> Floats:
        """See `Indexer.distances`; summed in float64."""
        turned = self.turned(self.queries(queries).values)
        sums = np.zeros((len(codes), len(turned)))  # (n, q): a look-up copies a row
        for table, symbols in zip(self.tables(turned), codes.values.T, strict=True):
            sums += np.ascontiguousarray(table.T)[symbols]
        return np.ascontiguousarray(self._distances(sums.T, codes.values))

    def own_distances(self, turned: Doubles, symbols: Symbols) -> Floats:
        """(q, c): distances of queries that were `turned` to c candidates of their own, symbols (q, c, m)."""
        rows = np.arange(len(turned))[:, None]  # (q, 1)
        sums = np.zeros(symbols.shape[:2])
        for j, table in enumerate(self.tables(turned)):
            sums += table[rows, symbols[:, :, j]]
        return self._distances(sums, symbols)

    def _distances(self, sums: Doubles, symbols: Symbols) -> Floats:
        """Sums (q, n) of table entries as distances to symbols (n, m) or (q, n, m)."""
        if self.metric == "l2":
            return np.sqrt(sums).astype(np.float32)
        if self.metric == "ip":
            return np.negative(sums).astype(np.float32)
        lengths = np.sqrt(self.norms[np.arange(self.config.parts), symbols].sum(axis=-1))  # (n,) or (q, n)
        cosines = np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0)
        distances: Doubles = np.round(1 - cosines, SAME).clip(0)
        return distances.astype(np.float32)

    def build(self, codes: Codes) -> Index:
        """See `Indexer.build`; packed codes in faiss, which take `bytes` bytes each."""
        from xmr_pq.index import PQIndex  # imports faiss

        self.require_fit()
        return PQIndex(self, codes)

    def sql_form(self, layout: Layout, metric: Metric) -> SqlForm:
        """Look-ups in tables that are made of the codebooks, once a query."""
        return pq_form(layout, metric, self.codebooks, self.state.get("rotation"))


def nearest_centroids(vectors: Doubles, codebooks: Floats) -> Symbols:
    """(n, m): for each part of each vector (n, d), the number of its nearest centroid, the smaller of equals."""
    symbols = np.empty((len(vectors), len(codebooks)), np.uint8)
    for j, (part, book) in enumerate(zip(_cut(vectors, len(codebooks)), codebooks.astype(np.float64), strict=True)):
        sizes = _squares(part)[:, None] + _squares(book)  # (n, ksub)
        gaps = sizes - 2 * (part @ book.T)  # |x - c|^2
        gaps[gaps < ROUNDING * sizes] = 0
        symbols[:, j] = gaps.astype(np.float32).argmin(axis=1)  # in float32, equal centroids are equally far
    return symbols


def _squares(vectors: Doubles) -> Doubles:
    squares: Doubles = np.einsum("nd,nd->n", vectors, vectors)
    return squares


def _cut(vectors: Doubles, m: int) -> Doubles:
    """(m, n, d/m): the parts of vectors (n, d)."""
    return vectors.reshape(len(vectors), m, -1).swapaxes(0, 1)


def _compared(vectors: Floats, metric: str) -> Doubles:
    """(n, d): the vectors whose parts are quantized, before rotation."""
    compared: Doubles = vectors.astype(np.float64)
    return unit(compared) if metric == "cosine" else compared
