"""Locality-sensitive hashing: random hyperplanes, hash tables, and a look into the neighbouring buckets.

Sources: Indyk and Motwani, STOC 1998 (tables); Charikar, STOC 2002 (hyperplanes); Lv et al., VLDB 2007 (multi-probe);
Gong and Lazebnik, CVPR 2011 (the rotation).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.plugin import State, VectorIndex, VectorIndexer, empty_hits, hyperplanes, itq, put, stacked, unit, unset
from xmr_lsh.config import MOST_PROBES, LshConfig
from xmr_lsh.tables import Tables, keys_of

ITERATIONS = 30  # of itq, for each table
TRAINED_ON = 1 << 16  # rows: itq learns from no more
HASHED = 1 << 16  # rows that are hashed at once
PROBING = 64  # queries that probe at once

Floats = NDArray[np.float32]
Places = NDArray[np.int64]


class Lsh(VectorIndexer[LshConfig]):
    """Stores float32 vectors; the tables hold 4 bytes an item and table. What the buckets give is ranked exactly.

    Hyperplanes compare angles. Under cosine these are what is wanted. Under l2 they are angles about the mean, which
    serves where vectors are about as long. Under ip every vector gets one more number, so that all are as long as the
    longest, and the angle to a query then falls as the inner product rises: an exact reduction.
    """

    name: ClassVar[str] = "lsh"

    @xmr.takes(LshConfig)
    def __init__(self) -> None: ...

    @classmethod
    def migrate(cls, options: Mapping[str, Any], state: State, version: int) -> tuple[Mapping[str, Any], State]:
        """Random planes were the rotation "none"."""
        return super().migrate(unset(options, rotation="none"), state, version)

    def learned(self, embeddings: xmr.Embeddings) -> dict[str, NDArray[Any]]:
        """`centre` (h,) and `normals` (t, h, p) of the planes; h is d, and d + 1 under ip."""
        if not len(embeddings):
            raise xmr.DataError("lsh: nothing to fit on, got no vectors")
        values, metric = embeddings.values, embeddings.metric
        placed = on_sphere(values, _longest(values)) if metric == "ip" else _directed(values, metric)  # (n, h)
        centre = placed.mean(axis=0, dtype=np.float64) if self.config.centre else np.zeros(placed.shape[1])
        planes = self.config.planes or min(32, max(1, round(math.log2(len(embeddings) / 8))))
        normals = self._normals(placed, centre, planes)
        arrays = {"centre": centre.astype(np.float32), "normals": normals.astype(np.float32)}
        return {**super().learned(embeddings), **arrays}

    def _normals(self, placed: Floats, centre: NDArray[np.float64], planes: int) -> NDArray[np.float64]:
        """(t, h, p). Learned planes differ from table to table by the half of the data that they are learned from, and
        by the rotation that they start from."""
        rng = np.random.default_rng(self.config.seed)
        n, h = placed.shape
        if self.config.rotation is None:
            return np.stack([hyperplanes(h, planes, rng) for _ in range(self.config.tables)])
        if planes > h:
            raise xmr.ConfigError("planes", planes, f"must be at most {h}, the width of the vectors, for itq")
        halves = [rng.choice(n, min(TRAINED_ON, -(-n // 2)), replace=False) for _ in range(self.config.tables)]
        return np.stack([itq(placed[half] - centre, planes, ITERATIONS, rng) for half in halves])

    def build(self, codes: xmr.Codes) -> xmr.Index:
        """The tables, in about a second for a million vectors and table. Raises NotFittedError, DataError."""
        return LshIndex(self, codes)

    def tables(self, vectors: Floats, longest: float) -> Tables | None:
        """Tables of vectors (n, d), of which the longest has this length; None where there are none."""
        keys = [self.keys(block, longest) for block in _blocks(vectors, HASHED)]
        return Tables(np.concatenate(keys), self.state["normals"].shape[2]) if keys else None

    def keys(self, vectors: Floats, longest: float) -> Places:
        """(n, t): the bucket of each vector in each table."""
        return keys_of(self.margins(self._items(vectors, longest)))

    def _items(self, vectors: Floats, longest: float) -> Floats:
        return on_sphere(vectors, longest) if self.metric == "ip" else _directed(vectors, self.metric)

    def probing(self, queries: Floats, longest: float) -> Floats:
        """(q, t, p): how far queries lie above the planes, among items of which `longest` is the greatest length."""
        if self.metric == "ip":
            return self.margins(np.pad(unit(queries) * np.float32(longest), ((0, 0), (0, 1))))
        return self.margins(_directed(queries, self.metric))

    def margins(self, placed: Floats) -> Floats:
        """(n, t, p): how far what is placed for hashing lies above the planes."""
        margins: Floats = np.matmul(placed - self.state["centre"], self.state["normals"])  # (t, n, p)
        return margins.transpose(1, 0, 2)


def on_sphere(vectors: Floats, longest: float) -> Floats:
    """(n, d + 1): vectors made as long as the longest, by one more number."""
    missing = longest**2 - np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    return np.column_stack([vectors, np.sqrt(np.maximum(missing, 0)).astype(np.float32)])


def _directed(vectors: Floats, metric: str) -> Floats:
    return unit(vectors) if metric == "cosine" else vectors


def _longest(vectors: Floats) -> float:
    return float(np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64).max(initial=0)))


def _blocks(vectors: Floats, size: int) -> list[Floats]:
    return [vectors[start : start + size] for start in range(0, len(vectors), size)]


class LshIndex(VectorIndex):
    """The tables for candidates, and a scan of these for the order. Exact for a radius without k, for subsets so small
    that scanning them is quicker, and for queries whose buckets hold fewer than k."""

    indexer: Lsh

    def __init__(self, indexer: Lsh, codes: xmr.Codes) -> None:
        super().__init__(indexer, codes)
        self.tables = indexer.tables(self.scan.vectors, self.scan.longest)

    def extend(self, codes: xmr.Codes) -> bool:
        """Hashes what is new. Not where it is longer than all before, under ip: hashes are relative to the longest."""
        vectors, longest = self.indexer.vectors(codes), self.scan.longest
        if self.tables is None or (self.indexer.metric == "ip" and _longest(vectors) > longest):
            return False
        self.tables = self.tables.extended(self.indexer.keys(vectors, longest), self.indexer.state["normals"].shape[2])
        self.grow(codes)
        return True

    def _search(
        self, queries: xmr.Embeddings, k: int | None, within: float | None, positions: NDArray[np.int64] | None
    ) -> xmr.Hits:
        probes = self._probes(positions)
        if self.tables is None or k is None or probes > MOST_PROBES:
            return self._exhaustive(queries, k, within, positions)
        blocks = _blocks(queries.values, PROBING)
        return stacked([self._among_candidates(block, k, positions, probes) for block in blocks], k)

    def _among_candidates(self, queries: Floats, k: int, positions: Places | None, probes: int) -> xmr.Hits:
        """The hits of a block of queries, each among its own candidates; none where these are fewer than k."""
        assert self.tables is not None
        hits = empty_hits(len(queries), k, exact=False)
        allowed = np.full(len(self), positions is None)
        if positions is not None:
            allowed[positions] = True
        candidates, limits = self.tables.candidates(self.indexer.probing(queries, self.scan.longest), probes)
        for row in range(len(queries)):
            near = candidates[limits[row] : limits[row + 1]]
            near = near[allowed[near]]
            if len(near) >= k:
                put(hits, [row], self.scan.at(near).search(queries[row : row + 1], k))
        return hits

    def _probes(self, positions: Places | None) -> int:
        """The more items are not allowed, the more buckets are looked into, for as many candidates as without."""
        probes = self.indexer.config.probes
        if positions is None:
            return probes
        return 1 << math.ceil(math.log2(probes * len(self) / len(positions)))


@xmr.hookimpl
def xmr_indexers() -> list[type[xmr.Indexer]]:
    """The hash tables."""
    return [Lsh]
