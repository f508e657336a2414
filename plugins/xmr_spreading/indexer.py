"""Search over lattice codes: every vector is stored as the number of the lattice point of the smallest angle to it.

Source: Sablayrolles, Douze, Schmid, Jegou, "Spreading vectors for similarity search", ICLR 2019.
A vector's length is dropped: vectors are compared as if they were unit, under cosine and under l2.

Letters: q queries, n codes, d dimensions, k hits; r = sqrt(r2).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.distances import distances, hits_of_pairs, pair_distances, stacked, unit
from xmr_core.exact import check_search, empty_hits, positions_of
from xmr_spreading.lattice import SphereLattice, largest_r2, sphere_lattice

__all__ = ["Lattice", "LatticeConfig", "LatticeIndex", "rerank"]

DISTANCES = ("asymmetric", "symmetric")
BLOCK = 1 << 16  # codes decoded at once
TILE = 2048  # points that a group of queries is held against at once
GROUP = 256  # queries in such a group
GROUPS = 16  # groups that share one pass over the codes
FOUND = 1 << 18  # hits that a group may ask for; where k is large, groups are small
CROWD = 4  # candidates a hit, above which a group tightens its bound

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]


@dataclass(frozen=True)
class LatticeConfig:
    """Options of `lattice`."""

    dim: int = 0  # dimensions of the vectors; 0: whatever comes. Given, a lattice that cannot be is refused at once
    r2: int = 0  # squared radius: more of it, more points and bytes (24 dimensions: 3, 10, 79 take 2, 4, 8 bytes);
    # 0: the most points that 64 bits can number
    distance: str = "asymmetric"  # "symmetric" rounds queries too: coarser, and what two stored codes can tell alone
    cache: bool = True  # keep decoded points, `dim` bytes a vector: batches of queries need not decode

    def __post_init__(self) -> None:
        if self.distance not in DISTANCES:
            raise xmr.ConfigError("distance", self.distance, f"must be one of {', '.join(DISTANCES)}")
        if self.dim < 0:
            raise xmr.ConfigError("dim", self.dim, "must be 0 (whatever comes) or more")
        if self.r2 < 0:
            raise xmr.ConfigError("r2", self.r2, "must be 0 (the largest) or more")
        if self.dim:
            sphere_lattice(self.dim, self.r2 or largest_r2(self.dim))


class Lattice(xmr.Indexer):
    """The spherical lattice quantizer; it learns nothing. A zero vector gets the code of (1, ..., 1)."""

    name: ClassVar[str] = "lattice"
    Config: ClassVar[type[LatticeConfig]] = LatticeConfig
    metrics: ClassVar[frozenset[str]] = frozenset({"cosine", "l2"})
    exact: ClassVar[bool] = True
    recall_floor: ClassVar[float] = 1.0
    needs_fit: ClassVar[bool] = False
    config: LatticeConfig

    def fit(self, embeddings: xmr.Embeddings) -> Self:
        """Nothing to learn. Raises ConfigError, DataError where the vectors and the lattice do not fit."""
        self.lattice(self.queries(embeddings).dim)
        return self

    def lattice(self, dim: int) -> SphereLattice:
        """The points that vectors of `dim` dimensions are rounded to. Raises DataError, ConfigError."""
        if self.config.dim not in (0, dim):
            raise xmr.DataError(f"lattice: expected {self.config.dim} dimensions, got {dim}")
        return sphere_lattice(dim, self.config.r2 or largest_r2(dim))

    def encode(self, embeddings: xmr.Embeddings, ids: NDArray[np.int64]) -> xmr.Codes:
        """Numbers of lattice points, unsigned and little-endian, in as few bytes as hold the largest."""
        vectors = self.queries(embeddings).values
        lattice = self.lattice(embeddings.dim)
        numbers = lattice.rank(lattice.closest(vectors)).astype("<u8")
        values = numbers.view(np.uint8).reshape(-1, 8)[:, : lattice.nbytes]
        return xmr.Codes(ids, np.ascontiguousarray(values), xmr.Layout("lattice", lattice.dim, lattice.bits))

    def points(self, codes: xmr.Codes) -> NDArray[np.int8]:
        """(n, d) int8: the points that codes stand for; divided by r they are unit vectors. Raises DataError."""
        layout = codes.layout
        lattice = self.lattice(layout.dim)
        if layout.kind != "lattice" or layout.symbol_bits != lattice.bits:
            raise xmr.DataError(f"lattice: expected codes of {lattice.bits} bits, got {layout}")
        numbers = np.zeros((len(codes), 8), np.uint8)
        numbers[:, : layout.nbytes] = codes.values
        return lattice.unrank(numbers.view("<u8")[:, 0].astype(np.uint64, copy=False))

    def build(self, codes: xmr.Codes) -> LatticeIndex:
        """An index that keeps the codes, and the points too where the config says so."""
        return LatticeIndex(self, codes, self.points(codes) if self.config.cache else None)

    def distances(self, queries: xmr.Embeddings, codes: xmr.Codes) -> Floats:
        """(q, n): 1 - cosine, or the Euclidean distance of unit vectors, from each query to each code's point."""
        self.lattice(codes.layout.dim)
        return distances(self.sides(queries, codes.layout.dim), self.points(codes).astype(np.float32), "cosine")

    def sides(self, queries: xmr.Embeddings, dim: int) -> Floats:
        """(q, d): what points are compared with: unit queries, or their own points where the distance is symmetric."""
        vectors = self.queries(queries).values
        if vectors.shape[1] != dim:
            raise xmr.DataError(f"lattice: expected queries of {dim} dimensions, got {vectors.shape[1]}")
        if self.config.distance == "asymmetric":
            return unit(vectors)
        zero = ~vectors.any(axis=1, keepdims=True)
        return np.where(zero, 0, self.lattice(dim).closest(vectors)).astype(np.float32)


class LatticeIndex(xmr.Index):
    """A scan of all points, exact. Memory: a code's bytes and `dim` more where points are cached; while it searches
    about 40 MB, and without a cache 2 MB more for the block that is decoded."""

    def __init__(self, indexer: Lattice, codes: xmr.Codes, points: NDArray[np.int8] | None) -> None:
        self.indexer, self.codes, self.points = indexer, codes, points
        indexer.lattice(codes.layout.dim)

    def __len__(self) -> int:
        return len(self.codes)

    def among(self, ids: Positions) -> LatticeIndex:
        """The same over those of `ids` that are here."""
        places = positions_of(self.codes.ids, ids)
        return LatticeIndex(self.indexer, self.codes.take(places), None if self.points is None else self.points[places])

    def blocks(self) -> Iterator[tuple[Positions, NDArray[np.int8]]]:
        """Ids and points, block by block."""
        for start in range(0, len(self.codes), BLOCK):
            rows = slice(start, start + BLOCK)
            points = self.indexer.points(self.codes.take(rows)) if self.points is None else self.points[rows]
            yield self.codes.ids[rows], points

    def search(
        self,
        queries: xmr.Embeddings,
        k: int | None = 10,
        within: float | None = None,
        among: NDArray[np.int64] | None = None,
    ) -> xmr.Hits:
        """See `Index.search`; always exact."""
        check_search(k, within)
        sides = self.indexer.sides(queries, self.codes.layout.dim)
        index = self if among is None else self.among(among)
        radius = np.inf if within is None else _cosine_of(within, queries.metric)
        whole = self.indexer.config.distance == "symmetric"
        rows = max(1, min(GROUP, FOUND // (k or 1)))
        parts = []
        for start in range(0, len(sides), rows * GROUPS):
            part = sides[start : start + rows * GROUPS]
            groups = [_Group(part[i : i + rows], k, radius, whole) for i in range(0, len(part), rows)]
            for ids, points in index.blocks():
                for group in groups:
                    group.meet(ids, points)
            parts += [group.hits() for group in groups]
        hits = stacked(parts, k) if parts else empty_hits(0, k or 0)
        return xmr.Hits(hits.ids, _as_metric(hits.distances, queries.metric), True)


class _Group:
    """A few queries, and the best that they have found so far by `1 - cosine`.

    A float32 product shows which points may be hits: those no less than a query's `floor`, from which the rounding has
    been taken off; they are then compared exactly. Between whole numbers (`whole`) nothing is rounded, and once k are
    found a point as far as the k-th is none, for its id is larger.
    """

    def __init__(self, sides: Floats, k: int | None, radius: float, whole: bool) -> None:
        self.sides, self.k, self.radius, self.whole = sides, k, radius, whole
        self.lengths = np.sqrt(np.einsum("qd,qd->q", sides, sides))
        self.floors: Floats | None = None
        self.best = empty_hits(len(sides), k or 0)
        self.new: list[tuple[Positions, Positions, Floats]] = []  # rows, ids, 1 - cosine
        self.crowd = 0
