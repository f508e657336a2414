"""Residual quantization: a vector as a sum of centroids, one a stage. Source: Chen, Guan & Wang, Sensors 2010.

Stage j quantizes what the stages before it left over, so that a code stands for x = C_1[c_1] + ... + C_m[c_m], and
|q - x|^2 = |q|^2 - 2 <q, x> + |x|^2. The inner product is m look-ups in a table that is made once a query; |x|^2 is
stored beside the symbols. Letters: n rows, q queries, d dimensions, m stages, ksub centroids a stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core import sql
from xmr_core.plugin import Range, Seed

XMR_API = 1


@dataclass(frozen=True)
class ResidualConfig:
    """Options of `residual`."""

    stages: Annotated[int, Range(1, 64), "symbols of a code, a byte each; more: higher recall, slower"] = 8
    seed: Seed = 0


class Residual(xmr.Indexer[ResidualConfig]):
    """Codes of `stages` symbols of 8 bits and a squared length."""

    name = "residual"
    Config = ResidualConfig
    metrics = frozenset({"l2"})
    exact = True  # over its codes: it compares all of them

    def fit(self, embeddings: xmr.Embeddings) -> Residual:
        """Learn the codebooks, stage by stage, by faiss's k-means."""
        import faiss

        left = super().queries(embeddings).values.copy()
        if not len(left):
            raise xmr.DataError("residual: no vectors to learn from")
        books = np.zeros((self.config.stages, min(256, len(left)), left.shape[1]), np.float32)  # (m, ksub, d)
        for j in range(self.config.stages):
            kmeans = faiss.Kmeans(left.shape[1], books.shape[1], seed=self.config.seed, min_points_per_centroid=1)
            kmeans.train(left)
            books[j] = kmeans.centroids
            left -= books[j, _nearest(left, books[j])]
        return self.with_state({"codebooks": books})

    @property
    def codebooks(self) -> NDArray[np.float32]:
        """(m, ksub, d)."""
        self.require_fit()
        return self.state["codebooks"]

    def queries(self, embeddings: xmr.Embeddings) -> xmr.Embeddings:
        """Embeddings of the metric and the width that were fitted."""
        if super().queries(embeddings).dim != self.codebooks.shape[2]:
            raise xmr.DataError(f"residual: expected {self.codebooks.shape[2]} dimensions, got {embeddings.dim}")
        return embeddings

    @property
    def layout(self) -> xmr.Layout:
        """A column a symbol, and the squared length of what they stand for."""
        symbols = tuple(xmr.Column(f"c{j}", "uint8") for j in range(len(self.codebooks)))
        return xmr.Layout("residual", (*symbols, xmr.Column("square", "float64")), self.codebooks.shape[2])

    def encode(self, embeddings: xmr.Embeddings, ids: NDArray[np.int64]) -> xmr.Codes:
        """The nearest centroid of each stage, one after the other."""
        left, columns = self.queries(embeddings).values.copy(), {}
        for j, book in enumerate(self.codebooks):
            columns[f"c{j}"] = _nearest(left, book)
            left -= book[columns[f"c{j}"]]
        columns["square"] = np.square(self._sums(columns, len(left))).sum(axis=1)
        return xmr.Codes.of_columns(ids, self.layout, columns)

    def _sums(self, columns: dict[str, NDArray[Any]], n: int) -> NDArray[np.float64]:
        """(n, d): what symbols stand for."""
        sums = np.zeros((n, self.codebooks.shape[2]))
        for j, book in enumerate(self.codebooks.astype(np.float64)):
            sums += book[columns[f"c{j}"]]
        return sums

    def decode(self, codes: xmr.Codes) -> NDArray[np.float32]:
        """(n, d): the vectors that codes stand for."""
        return self._sums(codes.columns, len(codes)).astype(np.float32)

    def distances(self, queries: xmr.Embeddings, codes: xmr.Codes) -> NDArray[np.float32]:
        """(q, n) Euclidean, to the vectors that codes stand for."""
        asked = self.queries(queries).values.astype(np.float64)
        products = np.einsum("qd,nd->qn", asked, self._sums(codes.columns, len(codes)))
        squares = np.square(asked).sum(axis=1)[:, None] - 2 * products + codes.columns["square"]
        return np.sqrt(np.maximum(squares, 0)).astype(np.float32)

    def build(self, codes: xmr.Codes) -> xmr.Index:
        """An exhaustive index."""
        self.require_fit()
        return xmr.ExactIndex(self, codes)

    def sql_form(self, layout: xmr.Layout, metric: xmr.Metric) -> xmr.SqlForm:
        """The same sum of look-ups, in lists t0, t1, ... of the inner products of a query with each centroid."""
        m, ksub, d = self.codebooks.shape
        symbols = [f"c{j}" for j in range(m)]
        stages, numbers = np.indices((m, ksub)).reshape(2, -1).astype(np.int32)
        books = {"stage": stages, "symbol": numbers, "centroid": self.codebooks.reshape(-1, d)}
        vector, centroid = sql.row("vector"), sql.doubles(sql.side("centroid"))
        columns = {"stage": sql.side("stage"), "symbol": sql.side("symbol"), "product": sql.dot(vector, centroid)}
        columns["square"] = sql.dot(vector, vector)
        tables = {
            f"t{j}": sql.gather(sql.row("product"), sql.row("symbol"), only=(sql.row("stage"), sql.number(j)))
            for j in range(m)
        }
        own = {"stage": sql.row("stage"), "symbol": sql.row("symbol")}
        product = sql.added(sql.pick(sql.asked(f"t{j}"), sql.code(name)) for j, name in enumerate(symbols))
        square = sql.asked("square") - sql.number(2) * product + sql.code("square")
        return xmr.SqlForm(
            query=sql.QueryType("vector", d),
            of_query=(sql.Derive({"vector": sql.doubles(sql.row("q"))}),),
            of_code=(
                sql.Spread("stage", "symbol", tuple(sql.row(name) for name in symbols)),
                sql.Join("book", {"centroid": centroid}, equal=own),
                sql.Fold({"vector": sql.blend(sql.number(1), sql.row("centroid"), d)}),
            ),
            prepare=(
                sql.Join("book", columns),
                sql.Fold({**tables, "square": sql.any_of(sql.row("square"))}),
            ),
            as_query=(sql.Derive({"value": sql.floats(vector)}),),
            distance=sql.single(sql.sqrt(sql.at_least(square, sql.number(0)))),
            tables={"book": books},
            balance=sql.Balance("symbols", tuple(symbols), m),
        )


def _nearest(vectors: NDArray[np.float32], book: NDArray[np.float32]) -> NDArray[np.int64]:
    """(n,) the nearest centroid of each vector, row by row in float64, so that none depends on its batch."""
    gaps = np.square(book, dtype=np.float64).sum(axis=1) - 2 * np.einsum(
        "nd,kd->nk", vectors.astype(np.float64), book.astype(np.float64)
    )
    return gaps.argmin(axis=1)


@xmr.hookimpl
def xmr_indexers() -> list[type[xmr.Indexer]]:
    """What this plugin brings."""
    return [Residual]
