"""Search over lattice codes: every vector is stored as the number of the lattice point of the smallest angle to it.

Source: Sablayrolles, Douze, Schmid, Jegou, "Spreading vectors for similarity search", ICLR 2019.
A vector's length is dropped: vectors are compared as if they were unit, under cosine and under l2.

Letters: q queries, n codes, d dimensions, k hits; r = sqrt(r2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.plugin import State, empty_hits, select, stacked, unit, unset
from xmr_spreading.config import LatticeConfig
from xmr_spreading.lattice import SphereLattice, largest_r2, sphere_lattice
from xmr_spreading.sql import lattice_form

__all__ = ["Lattice", "LatticeIndex"]

BLOCK = 1 << 16  # codes decoded at once
TILE = 2048  # points that a group of queries is held against at once
GROUP = 256  # queries in such a group
GROUPS = 16  # groups that share one pass over the codes
FOUND = 1 << 18  # hits that a group may ask for; where k is large, groups are small
FARTHEST = float(np.finfo(np.float32).max)
CROWD = 4  # candidates a hit, above which a group tightens its bound

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Positions = NDArray[np.int64]


class Lattice(xmr.Indexer[LatticeConfig]):
    """The spherical lattice quantizer; it learns nothing. A zero vector gets the code of (1, ..., 1)."""

    name: ClassVar[str] = "lattice"
    metrics: ClassVar[frozenset[str]] = frozenset({"cosine", "l2"})
    exact: ClassVar[bool] = True
    recall_floor: ClassVar[float] = 1.0
    needs_fit: ClassVar[bool] = False

    @xmr.takes(LatticeConfig)
    def __init__(self) -> None: ...

    @classmethod
    def migrate(cls, options: Mapping[str, Any], state: State, version: int) -> tuple[Mapping[str, Any], State]:
        """Width and radius were 0 where they are None."""
        return super().migrate(unset(options, dim=0, r2=0), state, version)

    def fit(self, embeddings: xmr.Embeddings) -> Self:
        """Nothing to learn but the width. Raises ConfigError, DataError where vectors and lattice do not fit."""
        return self.with_state({"dim": np.array([self.lattice(self.queries(embeddings).dim).dim])})

    def check_width(self, width: int) -> None:
        """Raise ConfigError where no lattice, or another one, fits vectors of so many dimensions."""
        if self.config.dim not in (None, width):
            raise xmr.ConfigError("dim", self.config.dim, f"the vectors have {width} dimensions")
        sphere_lattice(width, self.config.r2 or largest_r2(width))

    @property
    def dim(self) -> int:
        """Dimensions of the vectors, 0 where neither the config nor `fit` says."""
        return self.config.dim or int(self.state.get("dim", np.zeros(1))[0])

    def lattice(self, dim: int) -> SphereLattice:
        """The points that vectors of `dim` dimensions are rounded to. Raises DataError, ConfigError."""
        if self.dim not in (0, dim):
            raise xmr.DataError(f"lattice: expected {self.dim} dimensions, got {dim}")
        return sphere_lattice(dim, self.config.r2 or largest_r2(dim))

    def encode(self, embeddings: xmr.Embeddings, ids: NDArray[np.int64]) -> xmr.Codes:
        """Numbers of lattice points, unsigned and little-endian, in as few bytes as hold the largest."""
        vectors = self.queries(embeddings).values
        lattice = self.lattice(embeddings.dim)
        numbers = lattice.rank(lattice.closest(vectors)).astype("<u8")
        values = numbers.view(np.uint8).reshape(-1, 8)[:, : lattice.nbytes]
        return xmr.Codes(ids, np.ascontiguousarray(values), layout_of(lattice))

    def points(self, codes: xmr.Codes) -> NDArray[np.int8]:
        """(n, d) int8: the points that codes stand for; divided by r they are unit vectors. Raises DataError."""
        layout = codes.layout
        lattice = self.lattice(layout.dim)
        if layout != layout_of(lattice):
            raise xmr.DataError(f"lattice: expected codes of {lattice.bits} bits, got {layout}")
        numbers = np.zeros((len(codes), 8), np.uint8)
        numbers[:, : layout.nbytes] = codes.values
        return lattice.unrank(numbers.view("<u8")[:, 0].astype(np.uint64, copy=False))

    def decode(self, codes: xmr.Codes) -> Floats:
        """(n, d): the points that codes stand for, on the unit sphere."""
        return self.points(codes).astype(np.float32) / np.float32(math.sqrt(self.lattice(codes.layout.dim).r2))

    def build(self, codes: xmr.Codes) -> LatticeIndex:
        """An index that keeps the codes, and the points too where the config says so."""
        return LatticeIndex(self, codes, self.points(codes) if self.config.cache else None)

    def distances(self, queries: xmr.Embeddings, codes: xmr.Codes) -> Floats:
        """(q, n): 1 - cosine, or the Euclidean distance of unit vectors, from each query to each code's point."""
        self.lattice(codes.layout.dim)
        sides = self.sides(queries, codes.layout.dim)
        measure = _Measure(sides, self.lattice(codes.layout.dim).r2, queries.metric)
        products = sides.astype(np.float64) @ self.points(codes).astype(np.float64).T  # (q, n)
        return measure.distances(products, np.broadcast_to(measure.lengths[:, None], products.shape))

    def sql_form(self, layout: xmr.Layout, metric: xmr.Metric) -> xmr.SqlForm | None:
        """The distance to decoded points. SQL does not round queries: where the distance is symmetric, it only
        decodes."""
        return lattice_form(self.lattice(layout.dim), metric, self.config.distance == "asymmetric")

    def of_width(self, queries: xmr.Embeddings, dim: int) -> xmr.Embeddings:
        """The queries. Raises DataError where they have another width, SpaceMismatchError."""
        if self.queries(queries).dim != dim:
            raise xmr.DataError(f"lattice: expected queries of {dim} dimensions, got {queries.dim}")
        return queries

    def sides(self, queries: xmr.Embeddings, dim: int) -> Floats:
        """(q, d): what points are compared with: unit queries, or their own points where the distance is symmetric."""
        vectors = self.of_width(queries, dim).values
        if self.config.distance == "asymmetric":
            return unit(vectors)
        zero = ~vectors.any(axis=1, keepdims=True)
        return np.where(zero, 0, self.lattice(dim).closest(vectors)).astype(np.float32)


def layout_of(lattice: SphereLattice) -> xmr.Layout:
    """A code is the number of a point."""
    return xmr.Layout.number(lattice.dim, lattice.bits, name="lattice")


class LatticeIndex(xmr.Index):
    """A scan of all points, exact. Memory: a code's bytes and `dim` more where points are cached; while it searches
    about 40 MB, and without a cache 2 MB more for the block that is decoded."""

    indexer: Lattice

    def __init__(self, indexer: Lattice, codes: xmr.Codes, points: NDArray[np.int8] | None) -> None:
        super().__init__(indexer, codes)
        self.points = points
        indexer.lattice(codes.layout.dim)

    def _search(
        self, queries: xmr.Embeddings, k: int | None, within: float | None, positions: Positions | None
    ) -> xmr.Hits:
        index = self if positions is None else self._at(positions)
        sides = self.indexer.sides(queries, self.codes.layout.dim)
        rows = max(1, min(GROUP, FOUND // (k or 1)))
        parts = []
        for start in range(0, len(sides), rows * GROUPS):
            part = sides[start : start + rows * GROUPS]
            groups = [self._group(part[i : i + rows], k, within, queries.metric) for i in range(0, len(part), rows)]
            for ids, points in index._blocks():
                for group in groups:
                    group.meet(ids, points)
            parts += [group.hits() for group in groups]
        return stacked(parts, k)

    def extend(self, codes: xmr.Codes) -> bool:
        if self.points is not None:
            self.points = np.concatenate([self.points, self.indexer.points(codes)])
        self.codes = self.codes.extended(codes)
        return True

    def _checked(self, queries: xmr.Embeddings) -> xmr.Embeddings:
        return self.indexer.of_width(queries, self.codes.layout.dim)

    def _at(self, positions: Positions) -> LatticeIndex:
        """The same over the codes at these positions alone."""
        points = None if self.points is None else self.points[positions]
        return LatticeIndex(self.indexer, self.chosen(positions), points)

    def _blocks(self) -> Iterator[tuple[Positions, NDArray[np.int8]]]:
        """Ids and points, block by block."""
        for start in range(0, len(self.codes), BLOCK):
            rows = slice(start, start + BLOCK)
            points = self.indexer.points(self.codes.take(rows)) if self.points is None else self.points[rows]
            yield self.codes.ids[rows], points

    def _group(self, sides: Floats, k: int | None, within: float | None, metric: xmr.Metric) -> _Group:
        r2 = self.indexer.lattice(self.codes.layout.dim).r2
        whole = self.indexer.config.distance == "symmetric"
        return _Group(sides, k, np.inf if within is None else within, _Measure(sides, r2, metric), whole)


class _Measure:
    """Distances of some queries from inner products with points of squared norm r2, and back.

    A distance is 1 - cosine, or the Euclidean one of unit vectors; a query of length 0 has cosine 0 with everything.
    """

    def __init__(self, sides: Floats, r2: int, metric: xmr.Metric) -> None:
        self.metric = metric
        self.lengths: Doubles = np.sqrt(np.square(sides, dtype=np.float64).sum(axis=1) * r2)  # (q,) largest products

    def distances(self, products: Doubles, lengths: Doubles) -> Floats:
        """From inner products and, of the same shape, `lengths` of their queries."""
        cosines = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
        apart: Doubles = np.maximum(1 - cosines, 0)
        return (apart if self.metric == "cosine" else np.sqrt(2 * apart)).astype(np.float32)

    def products(self, distances: Floats) -> Doubles:
        """(q,): the inner products of points at these distances, one a query; -inf for inf."""
        far = np.isinf(distances)
        known = np.where(far, 0, distances).astype(np.float64)
        apart = known if self.metric == "cosine" else np.sign(known) * known**2 / 2
        return np.where(far, -np.inf, (1 - apart) * self.lengths)


class _Group:
    """A few queries, and the best that they have found so far.

    A float32 product shows which points may be hits: those that come to a query's floor, from which all that rounding
    can do has been taken off. They alone are compared in float64. Products of whole numbers (`whole`) are not rounded.
    """

    def __init__(self, sides: Floats, k: int | None, within: float, measure: _Measure, whole: bool) -> None:
        self.sides, self.k, self.measure, self.whole = sides, k, measure, whole
        rounding = (sides.shape[1] + 16) * 2.0**-23 * measure.lengths  # as in `xmr_core.search.distances.reach`
        self.slack = np.full(len(sides), 0.25) if whole else rounding
        self.bounds = np.full(len(sides), within, np.float32)  # a hit is no farther
        self.floors = np.clip(measure.products(self.bounds) - self.slack, -FARTHEST, FARTHEST)  # float32 holds them
        self.guessed = k is None  # the floors are as high as the first points allow
        self.best = empty_hits(len(sides), k or 0, exact=True)
        self.new: list[tuple[Positions, Positions, Floats]] = []  # rows, ids, distances
        self.crowd = 0  # how many are new

    def meet(self, ids: Positions, points: NDArray[np.int8]) -> None:
        """Take in points (n, d) whose ids (n,) are larger than all that came before."""
        for start in range(0, len(points), TILE):
            tile = points[start : start + TILE]
            shown = self.sides @ tile.astype(np.float32).T  # (q, tile)
            if not self.guessed:
                self._guess(shown)
            rows, columns = np.divmod(np.flatnonzero(shown >= self.floors.astype(np.float32)[:, None]), len(tile))
            self._take(rows, ids[start + columns], tile[columns])

    def _guess(self, shown: Floats) -> None:
        """Whatever is among the k nearest comes to the k-th largest product of any points."""
        if self.k is not None and shown.shape[1] >= self.k:
            kth = np.partition(shown, -self.k, axis=1)[:, -self.k]  # (q,)
            self.floors = np.maximum(self.floors, kth - self.slack)
            self.guessed = True

    def _take(self, rows: Positions, ids: Positions, points: NDArray[np.int8]) -> None:
        """Note those of the candidates that are no farther than the bound of their query."""
        products = np.einsum("pd,pd->p", self.sides[rows].astype(np.float64), points.astype(np.float64))
        distances = self.measure.distances(products, self.measure.lengths[rows])
        hit = distances <= self.bounds[rows]
        self.new.append((rows[hit], ids[hit], distances[hit]))
        self.crowd += int(np.count_nonzero(hit))
        if self.k is not None and self.crowd > CROWD * self.k * len(self.sides):
            self._settle(self.k)

    def _settle(self, k: int | None) -> None:
        """Keep the best alone. From here on a hit is nearer than the k-th: as far, its id would be larger."""
        rows, ids, distances = (np.concatenate(column) for column in zip(*self.new, strict=True))
        self.new, self.crowd = [], 0
        found = _padded(len(self.sides), rows, ids, distances)
        both = np.concatenate([self.best.distances, found.distances], axis=1)
        self.best = select(both, np.concatenate([self.best.ids, found.ids], axis=1), k)
        if k is not None:
            last = self.best.distances[:, -1]
            self.bounds = np.minimum(self.bounds, np.nextafter(last, np.float32(-np.inf)))
            floors = self.measure.products(last) + (self.slack if self.whole else -self.slack)
            self.floors = np.maximum(self.floors, floors)

    def hits(self) -> xmr.Hits:
        """The best of all that were met."""
        if self.new:
            self._settle(self.k)
        return self.best


def _padded(q: int, rows: Positions, ids: Positions, distances: Floats) -> xmr.Hits:
    """Found pairs as hits, a row a query, in no order."""
    order = np.argsort(rows, kind="stable")
    counts = np.bincount(rows, minlength=q)
    columns = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    hits = empty_hits(q, int(counts.max(initial=0)))
    hits.ids[rows[order], columns] = ids[order]
    hits.distances[rows[order], columns] = distances[order]
    return hits
