"""A graph that is searched, extended, saved and loaded. Letters: q queries, n vectors, g groups, c candidates."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.plugin import (
    Remembered,
    VectorIndex,
    VectorIndexer,
    empty_hits,
    file_digest,
    hits_of_pairs,
    own_distances,
    pair_distances,
    put,
)
from xmr_hnsw.config import HnswConfig
from xmr_hnsw.groups import Groups, Mask, Places

__all__ = ["HnswIndex", "capacity", "read_saved"]

SPARE = 6  # groups asked of the graph beyond k, so that equals at the end go by id and not by luck
SCANNED = 4  # vectors that a scan gathers and compares in the time the graph takes for one of its hits
SCANNED_AGAIN = 16  # those that it compares, where it has gathered them before
LINKED = 16  # vectors that `extend` takes: a millisecond or two each
GRAPH, GROUPS, ABOUT = "graph.bin", "groups.npz", "about.json"

Floats = NDArray[np.float32]


class HnswIndex(VectorIndex):
    """The graph for few hits among many vectors. Exact for a radius without k, for small collections and subsets, and
    for a large k, where a scan is as quick."""

    indexer: VectorIndexer[HnswConfig]

    def __init__(self, indexer: VectorIndexer[HnswConfig], graph: Any, groups: Groups, codes: xmr.Codes) -> None:
        super().__init__(indexer, codes)
        self.graph, self.groups = graph, groups
        self.masks: Remembered[Mask] = Remembered()
        graph.set_ef(indexer.config.ef)

    def _search(
        self, queries: xmr.Embeddings, k: int | None, within: float | None, positions: Places | None
    ) -> xmr.Hits:
        fetched = self._fetched(k, positions)
        hits = None if k is None or fetched is None else self._walk(queries.values, k, fetched, positions)
        return self._exhaustive(queries, k, within, positions) if hits is None else hits

    def _fetched(self, k: int | None, positions: Places | None) -> int | None:
        """How many groups to ask of the graph so that about `ef`, or k and some, are allowed; None where a scan of the
        allowed is as quick."""
        n, ef = len(self), self.indexer.config.ef
        if k is None:
            return None
        if positions is None:
            fetched = k + SPARE
            return None if n <= SCANNED * max(fetched, ef) else min(fetched, len(self.groups))
        allowed = len(positions)
        fetched = math.ceil(max(ef, k + SPARE) * n / allowed)
        scanned = SCANNED if positions.flags.writeable else SCANNED_AGAIN
        return None if allowed <= scanned * max(fetched, ef) else min(fetched, len(self.groups))

    def _walk(self, queries: Floats, k: int, fetched: int, positions: Places | None) -> xmr.Hits | None:
        """What the graph finds that is allowed, at most k a query, by true distances; None where it fails: hnswlib
        gives all of `fetched` or nothing, and a graph may have unreachable vectors."""
        try:
            labels, _ = self.graph.knn_query(queries, k=fetched)
        except RuntimeError:
            return None
        found = labels.view(np.int64)  # (q, c) groups, the nearest first
        if self.groups.single:
            return self._of_singles(queries, k, found, positions)
        crowded = self.groups.crowded[found].any(axis=1)  # (q,)
        if not crowded.any():
            return self._of_singles(queries, k, self.groups.firsts[found], positions)
        hits = empty_hits(len(queries), k, exact=False)
        if not crowded.all():
            alone = self._of_singles(queries[~crowded], k, self.groups.firsts[found[~crowded]], positions)
            put(hits, ~crowded, alone)
        put(hits, crowded, self._expanded(queries[crowded], k, found[crowded], positions))
        return hits

    def _of_singles(self, queries: Floats, k: int, places: Places, positions: Places | None) -> xmr.Hits:
        """The k nearest that are allowed of each query's own candidates (q, c), the nearest first."""
        if positions is None:
            return self._ranked(queries, k, places, None)
        allowed = self._mask(positions)[places]  # (q, c)
        first = np.argsort(~allowed, axis=1, kind="stable")[:, : k + SPARE]
        rows = np.arange(len(places))[:, None]
        return self._ranked(queries, k, places[rows, first], allowed[rows, first])

    def _mask(self, positions: Places) -> NDArray[np.bool_]:
        """(n,) which positions are allowed."""
        return self.masks.of(positions, lambda: Mask(len(self), positions)).bits

    def _ranked(self, queries: Floats, k: int, places: Places, allowed: NDArray[np.bool_] | None) -> xmr.Hits:
        """The k nearest of each query's own candidates (q, c): positions, which ascend as their ids do."""
        distances = own_distances(queries, self.scan.vectors, places, self.indexer.metric)
        if allowed is not None and not allowed.all():
            distances = np.where(allowed, distances, np.float32(np.inf))
        order = np.lexsort((places, distances), axis=1)[:, :k]
        rows = np.arange(len(places))[:, None]
        ids, distances = self.scan.ids[places[rows, order]], distances[rows, order]
        if allowed is not None:
            ids = np.where(allowed[rows, order], ids, -1)
        return xmr.Hits(ids, distances)

    def _expanded(self, queries: Floats, k: int, found: Places, positions: Places | None) -> xmr.Hits:
        """The same of groups (q, c), each of which stands for all its members."""
        rows = np.repeat(np.arange(len(queries)), found.shape[1])
        groups = found.ravel()
        distances = pair_distances(queries, self.scan.vectors, rows, self.groups.firsts[groups], self.indexer.metric)
        members, owners = self._allowed(positions).expanded(groups, k)
        return hits_of_pairs(len(queries), rows[owners], self.scan.ids[members], distances[owners], k)

    def _allowed(self, positions: Places | None) -> Groups:
        if positions is None:
            return self.groups
        return self.groups.only(self._mask(positions))

    def extend(self, codes: xmr.Codes) -> bool:
        """Links a few vectors, each to its nearest, as a build does; many would take too long."""
        if len(codes) > LINKED:
            return False
        vectors = self.indexer.vectors(codes)
        groups, numbers, rows = self.groups.extended(vectors)
        if len(groups) > self.graph.get_max_elements():
            self.graph.resize_index(capacity(len(groups)))
        if len(rows):
            self.graph.add_items(vectors[rows], numbers, num_threads=1)
        self.groups = groups
        self.grow(codes)
        return True

    def save(self, folder: Path) -> bool:
        """Write the graph and its groups, and what they belong to."""
        self.graph.save_index(str(folder / GRAPH))
        arrays: dict[str, Any] = self.groups.arrays()
        np.savez(folder / GROUPS, **arrays)
        (folder / ABOUT).write_text(json.dumps(_about(self.indexer, self.codes, folder)))
        return True


def capacity(groups: int) -> int:
    """Room in a graph of so many groups: an eighth more, which takes no memory before it is used."""
    return groups + max(1024, groups // 8)


def read_saved(folder: Path, indexer: VectorIndexer[HnswConfig], codes: xmr.Codes, graph: Any) -> Groups | None:
    """Read the saved graph into `graph`, an empty one, and give its groups; None where it is missing, belongs to other
    codes or another component, or is damaged."""
    try:
        if json.loads((folder / ABOUT).read_text()) != _about(indexer, codes, folder):
            return None
        with np.load(folder / GROUPS, allow_pickle=False) as arrays:
            groups = Groups.of_arrays(arrays)
        graph.load_index(str(folder / GRAPH), max_elements=capacity(len(groups)))
    except (OSError, ValueError, RuntimeError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return groups


def _about(indexer: VectorIndexer[HnswConfig], codes: xmr.Codes, folder: Path) -> Mapping[str, str]:
    """What a saved graph belongs to, and the digests of its files: hnswlib believes whatever it reads."""
    digests = {name: file_digest(folder / name) for name in (GRAPH, GROUPS)}
    return {"indexer": indexer.fingerprint(), "codes": codes.digest, **digests}
