"""KD-tree: space halved again and again across its widest side, so that a query skips what lies beyond its nearest.

Source: Bentley, "Multidimensional binary search trees used for associative searching", CACM 1975; the tree is scipy's
cKDTree. It pays up to about 10 dimensions; beyond, a query visits most of the tree, and `flat` is quicker.

A tree measures Euclidean distance alone, so vectors are placed where that ranks as the metric does: under ip with one
more coordinate, under cosine scaled to length 1 as well. A projection on principal axes may stand in for them; it only
shrinks distances, so what the tree leaves out by it is proven to be farther. Either way the tree proposes, and the true
distances of `xmr_core.search.distances` decide.

Letters: n rows, q queries, d dimensions, p axes of the tree, c candidates of all queries together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.plugin import (
    Range,
    State,
    VectorIndex,
    VectorIndexer,
    hits_of_pairs,
    pair_distances,
    put,
    stacked,
    unit,
    unset,
)

__all__ = ["KDTree", "KDTreeConfig"]

SAMPLE = 100_000  # vectors to learn principal axes from, about
ROWS = 1 << 16  # vectors that are placed at once
QUERIES = 256  # that are searched for at once
PROJECTED = 8  # candidates a hit that a projection gives at first: a tight bound spares more than they cost
CROWDED = 16  # a scan of all is as quick as comparing a 16th of them as the tree names them
PAIRS = 1 << 20  # that are compared at once
THREADED = 32  # queries from which all cores search
ROUNDING = 1e-6  # of a distance, which is float32; a candidate may seem so much farther than it is
NOISE = 1e-12  # of the squared lengths: what float64 may be off in the tree

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Positions = NDArray[np.int64]


@dataclass(frozen=True)
class KDTreeConfig:
    """The tree's grain, and what of the exact answer may be given up for speed."""

    leaf: Annotated[
        int, Range(1, 1 << 20), "vectors in a leaf; more: a smaller tree and longer scans, the same answers"
    ] = 16
    eps: Annotated[
        float, Range(0), "a hit may lie (1 + eps) times as far as the true one of its rank; 0 is exact, 1 much faster"
    ] = 0.0
    pca: Annotated[
        int | None,
        Range(1, 65_536),
        "principal axes in the tree, 4 to 8 for hundreds of dimensions; None: the vectors as they are",
    ] = None
    candidates: Annotated[
        int | None,
        Range(1, 1 << 20),
        "with pca, nearest in the tree to rank by true distance; more: higher recall; None: as many as exactness takes",
    ] = None

    def __post_init__(self) -> None:
        if self.candidates and not self.pca:
            raise xmr.ConfigError("candidates", self.candidates, "are ranked again after a projection; say pca=8")
        if self.candidates and self.eps:
            raise xmr.ConfigError("eps", self.eps, "says how far to look, and so does candidates; give one")


class KDTree(VectorIndexer[KDTreeConfig]):
    """Stores float32 vectors; the tree over them takes 8 bytes a dimension (or axis of `pca`) more, in memory.

    Exact where eps is 0 and candidates is None. State: `metric`, `dim`, and with `pca` the `axes` (d, p) float64,
    orthonormal.
    """

    name: ClassVar[str] = "kdtree"

    @xmr.takes(KDTreeConfig)
    def __init__(self) -> None: ...

    @classmethod
    def migrate(cls, options: Mapping[str, Any], state: State, version: int) -> tuple[Mapping[str, Any], State]:
        """Axes and candidates were 0 where they are None."""
        return super().migrate(unset(options, pca=0, candidates=0), state, version)

    def check_width(self, width: int) -> None:
        """Raise ConfigError where there are more principal axes than dimensions."""
        if self.config.pca is not None and self.config.pca > width:
            raise xmr.ConfigError("pca", self.config.pca, f"the vectors have {width} dimensions")

    def fit(self, embeddings: xmr.Embeddings) -> Self:
        """Learn the metric, the width and, where wanted, the principal axes. Raises ConfigError, DataError."""
        state = self.learned(embeddings)
        self.check_width(embeddings.dim)
        if self.config.pca is not None:
            if not len(embeddings):
                raise xmr.DataError("kdtree: no vectors to learn principal axes from")
            sample = embeddings.values[:: 1 + len(embeddings) // SAMPLE]
            state["axes"] = principal_axes(_compared(sample, embeddings.metric), self.config.pca)
        return self.with_state(state)

    def build(self, codes: xmr.Codes) -> xmr.Index:
        """The tree: seconds a million vectors of few dimensions. Raises NotFittedError, DataError, PluginError."""
        return KDTreeIndex(self, codes)


class KDTreeIndex(VectorIndex):
    """The tree, and a scan for a filter or a large k: these are exact whatever the config, and so is a radius."""

    def __init__(self, indexer: KDTree, codes: xmr.Codes) -> None:
        super().__init__(indexer, codes)
        self.metric, self.config = indexer.metric, indexer.config
        self.axes: Doubles | None = indexer.state.get("axes")
        self.longest = 1.0 if self.metric == "cosine" else self.scan.longest
        blocks = [self.scan.vectors[start : start + ROWS] for start in range(0, max(1, len(codes)), ROWS)]
        placed = [
            self._placed(compared, stored=True) for compared in (_compared(block, self.metric) for block in blocks)
        ]
        self.tree = _tree(np.concatenate(placed), self.config.leaf)

    def _search(
        self, queries: xmr.Embeddings, k: int | None, within: float | None, positions: NDArray[np.int64] | None
    ) -> xmr.Hits:
        first = 0 if k is None else self._first(k)
        if positions is not None or first >= len(self):
            return self._exhaustive(queries, k, within, positions)
        vectors = queries.values
        blocks = [vectors[start : start + QUERIES] for start in range(0, len(vectors), QUERIES)]
        return stacked([self._of_few(block, k, within, first) for block in blocks], k)

    def _first(self, k: int) -> int:
        """How many are asked of the tree at first: one more than k shows whether the k-th has equals."""
        if not self.config.pca:
            return k + 1
        return max(k + 1, self.config.candidates or PROJECTED * k)

    def _of_few(self, vectors: Floats, k: int | None, within: float | None, first: int) -> xmr.Hits:
        """As `_search`, for a block of queries. What the tree finds first bounds the k-th distance; where it may have
        left out something within that bound, or within the radius, all that lies there is compared."""
        compared = _compared(vectors, self.metric)
        points = self._placed(compared, stored=False)
        bounds = np.full(len(vectors), np.inf if within is None else within)
        if k is None:
            return self._around(vectors, points, self._radii(compared, bounds), bounds, k)
        eps = 0.0 if within is not None or self.config.pca else self.config.eps
        hits, farthest = self._found(vectors, points, first, k, eps)
        hits = replace(hits, exact=within is not None or not (self.config.eps or self.config.candidates))
        if self.config.candidates and within is None:
            return hits
        bounds = np.minimum(bounds, hits.distances[:, -1])
        radii = self._radii(compared, bounds) / (1 + self.config.eps if within is None else 1)
        short = farthest <= radii
        if short.any():
            around = self._around(vectors[short], points[short], radii[short], bounds[short], k)
            put(hits, short, around)
        return hits

    def _found(self, vectors: Floats, points: Doubles, first: int, k: int, eps: float) -> tuple[xmr.Hits, Doubles]:
        """The k nearest among the `first` that the tree gives each query, and how far it says the last of these is."""
        gaps, places = self.tree.query(points, first, eps=eps, workers=_workers(points))  # (q, first) each
        rows, places = np.repeat(np.arange(len(points)), first), places.ravel()
        found = pair_distances(vectors, self.scan.vectors, rows, places, self.metric)
        return hits_of_pairs(len(points), rows, self.scan.ids[places], found, k), gaps[:, -1]

    def _around(self, vectors: Floats, points: Doubles, radii: Doubles, bounds: Doubles, k: int | None) -> xmr.Hits:
        """The k nearest (all, where k is None) of those within `radii` in the tree and `bounds` in truth."""
        counts = self.tree.query_ball_point(points, radii, workers=_workers(points), return_length=True)  # (q,)
        crowded = counts > len(self) // CROWDED
        groups = np.where(crowded, -1, np.cumsum(np.where(crowded, 0, counts)) // PAIRS)  # (q,), in bounded memory
        parts, order = [], []
        for group in np.unique(groups):
            rows = np.flatnonzero(groups == group)
            if group < 0:
                parts.append(self.scan.search(vectors[rows], k, float(bounds[rows].max())))
            else:
                parts.append(self._inside(vectors[rows], points[rows], radii[rows], bounds[rows], k))
            order.append(rows)
        hits, back = stacked(parts, k), np.argsort(np.concatenate(order))
        return xmr.Hits(hits.ids[back], hits.distances[back], exact=True)

    def _inside(self, vectors: Floats, points: Doubles, radii: Doubles, bounds: Doubles, k: int | None) -> xmr.Hits:
        """As `_around`, comparing what the tree names and no more."""
        balls = self.tree.query_ball_point(points, radii, workers=_workers(points), return_sorted=False)
        rows = np.repeat(np.arange(len(points)), [len(ball) for ball in balls])
        places = np.fromiter(chain.from_iterable(balls), np.int64, len(rows))
        found = pair_distances(vectors, self.scan.vectors, rows, places, self.metric)
        kept = found <= bounds[rows]
        return hits_of_pairs(len(points), rows[kept], self.scan.ids[places[kept]], found[kept], k, exact=True)

    def _placed(self, compared: Doubles, stored: bool) -> Doubles:
        """(n, p): where vectors (n, d) are in the tree. One more coordinate makes stored ones equally long for ip and
        cosine: then |q - x|^2 = |q|^2 + longest^2 - 2 <q, x> ranks as they do, also where some are zero."""
        projected: Doubles = compared if self.axes is None else compared @ self.axes
        if self.metric == "l2":
            return projected
        missing = np.sqrt((self.longest**2 - _squares(compared)).clip(0)) if stored else np.zeros(len(compared))
        return np.column_stack([projected, missing])

    def _radii(self, compared: Doubles, bounds: Doubles) -> Doubles:
        """(q,): how far from a query something may be in the tree whose distance is within `bounds`."""
        sizes = _squares(compared) + self.longest**2
        if self.metric == "l2":
            squared = bounds.clip(0) ** 2 * (1 + ROUNDING)
        else:
            products = 1 - bounds if self.metric == "cosine" else -bounds  # <q, x>, at least
            squared = sizes - 2 * products + ROUNDING * np.abs(bounds)
        radii: Doubles = np.sqrt((squared + NOISE * sizes).clip(0))
        return radii


def principal_axes(vectors: Doubles, count: int) -> Doubles:
    """(d, count): orthonormal directions in which vectors (n, d) vary most."""
    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)  # ascending
    widest: Doubles = np.ascontiguousarray(axes[:, : -count - 1 : -1])
    return widest


def _compared(vectors: Floats, metric: str) -> Doubles:
    """(n, d): vectors in float64, of length 1 (or 0) for cosine."""
    compared: Doubles = vectors.astype(np.float64)
    return unit(compared) if metric == "cosine" else compared


def _squares(vectors: Doubles) -> Doubles:
    squares: Doubles = np.einsum("nd,nd->n", vectors, vectors)
    return squares


def _tree(points: Doubles, leaf: int) -> Any:
    try:
        from scipy.spatial import cKDTree
    except ImportError as error:
        raise xmr.PluginError("kdtree needs scipy: pip install scipy") from error
    return cKDTree(points, leafsize=leaf)


def _workers(points: Doubles) -> int:
    return -1 if len(points) >= THREADED else 1


@xmr.hookimpl
def xmr_indexers() -> list[type[xmr.Indexer]]:
    """The tree."""
    return [KDTree]
