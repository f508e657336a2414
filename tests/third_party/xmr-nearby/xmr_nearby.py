"""Exact nearest neighbours that skip what the triangle inequality rules out. Source: Micó et al., LAESA, 1994."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.plugin import Range, Seed, vector_form
from xmr_core.plugin import distances as all_pairs

XMR_API = 1
ROUNDING = 1e-5  # of a distance: what float32 may get wrong


@dataclass(frozen=True)
class PivotsConfig:
    """Options of `pivots`."""

    pivots: Annotated[
        int, Range(1, 256), "points of reference; more: fewer distances to compute, 4 bytes a vector each"
    ] = 16
    seed: Annotated[Seed, "chooses the first pivot"] = 0


class Pivots(xmr.Indexer):
    """Vectors as they are; the index knows the distance of each to a few pivots."""

    name = "pivots"
    Config = PivotsConfig
    metrics = frozenset({"l2"})
    exact = True

    def fit(self, embeddings: xmr.Embeddings) -> Pivots:
        """Pivots far apart: each is the point farthest from those before it."""
        points = super().queries(embeddings).values  # (n, d)
        pivots = points[[np.random.default_rng(self.config.seed).integers(len(points))]]
        while len(pivots) < min(self.config.pivots, len(points)):
            nearest = all_pairs(points, pivots, "l2").min(axis=1)  # (n,)
            pivots = np.concatenate([pivots, points[[nearest.argmax()]]])
        return self.with_state({"pivots": pivots})  # (p, d)

    def queries(self, embeddings: xmr.Embeddings) -> xmr.Embeddings:
        """Embeddings of the metric and the width that were fitted."""
        self.require_fit()
        width = self.state["pivots"].shape[1]
        if super().queries(embeddings).dim != width:
            raise xmr.DataError(f"pivots: expected {width} dimensions, got {embeddings.dim}")
        return embeddings

    def encode(self, embeddings: xmr.Embeddings, ids: NDArray[np.int64]) -> xmr.Codes:
        """The vectors themselves."""
        return xmr.Codes.of_vectors(ids, self.queries(embeddings).values)

    def distances(self, queries: xmr.Embeddings, codes: xmr.Codes) -> NDArray[np.float32]:
        """(q, n) Euclidean."""
        return all_pairs(queries.values, codes.vectors, "l2")

    def build(self, codes: xmr.Codes) -> PivotIndex:
        """The index."""
        self.require_fit()
        return PivotIndex(self, codes)

    def sql_form(self, layout: xmr.Layout, metric: xmr.Metric) -> xmr.SqlForm:
        """SQL knows this distance."""
        return vector_form(layout.dim, metric)


class PivotIndex(xmr.Index):
    """`table` (n, p): the distance of each vector to each pivot."""

    indexer: Pivots

    def __init__(self, indexer: Pivots, codes: xmr.Codes) -> None:
        super().__init__(indexer, codes)
        self.table = all_pairs(codes.vectors, indexer.state["pivots"], "l2")

    def _search(
        self, queries: xmr.Embeddings, k: int | None, within: float | None, positions: NDArray[np.int64] | None
    ) -> xmr.Hits:
        """Exact hits: vectors that cannot be near any of the queries are never looked at."""
        rows = np.arange(len(self)) if positions is None else positions
        table, possible = self.table[rows], np.zeros(len(rows), bool)  # (n, p), (n,)
        for to_pivots in all_pairs(queries.values, self.indexer.state["pivots"], "l2"):  # (p,)
            least = np.abs(to_pivots - table).max(axis=1)  # |d(q, p) - d(p, x)| <= d(q, x) <= d(q, p) + d(p, x)
            most = (to_pivots + table).min(axis=1)
            reach = np.inf if k is None else np.partition(most, k - 1)[k - 1]
            possible |= least <= min(reach, np.inf if within is None else within) + ROUNDING * to_pivots.max()
        return self._exhaustive(queries, k, within, rows[possible])


@xmr.hookimpl
def xmr_indexers() -> list[type[xmr.Indexer]]:
    """What this plugin brings."""
    return [Pivots]
