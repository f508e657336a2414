"""HNSW: a graph of near neighbours that a query walks from coarse to fine, by hnswlib.

Source: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable
Small World graphs", TPAMI 2018.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.plugin import State, VectorIndex, VectorIndexer, current_run, hits_of_pairs, pair_distances, unset
from xmr_hnsw.config import HnswConfig
from xmr_hnsw.groups import Groups, Places

INSTALL = "hnswlib is not installed; pip install 'xmr[hnsw]' (it is compiled, and wants a C++ compiler)"
SPARE = 6  # groups asked of the graph beyond k, so that equals at the end go by id and not by luck
SCANNED = 4  # vectors that a scan compares in the time the graph takes for one of its hits
ADDED = 10_000  # vectors given to the graph at a time, for the progress bar


class Hnsw(VectorIndexer[HnswConfig]):
    """Stores float32 vectors; the graph over them takes d * 4 + m * 8 bytes a vector more, in memory."""

    name: ClassVar[str] = "hnsw"
    recall_floor: ClassVar[float] = 0.95

    @xmr.takes(HnswConfig)
    def __init__(self) -> None: ...

    @classmethod
    def migrate(cls, options: Mapping[str, Any], state: State, version: int) -> tuple[Mapping[str, Any], State]:
        """All cores were -1 threads."""
        return super().migrate(unset(options, threads=-1), state, version)

    def build(self, codes: xmr.Codes) -> xmr.Index:
        """The graph: minutes a million vectors. Raises NotFittedError, DataError, PluginError without hnswlib."""
        vectors, config = self.vectors(codes), self.config
        groups = Groups.of(vectors)
        graph = self._empty_graph()
        graph.init_index(
            max(1, len(groups)),
            M=config.m,
            ef_construction=config.ef_construction,
            random_seed=config.seed + 1,  # its generator takes 0 for 1
        )
        for start in current_run().track(range(0, len(groups), ADDED), f"hnsw: linking, {ADDED} at a time"):
            block = slice(start, start + ADDED)
            numbers = np.arange(len(groups))[block]
            graph.add_items(vectors[groups.firsts[block]], numbers, num_threads=config.threads or -1)
        return self._index(graph, groups, codes)

    def load_index(self, folder: Path, codes: xmr.Codes) -> xmr.Index | None:
        """The graph that was saved for these codes by this component; None where it is missing, another, or damaged."""
        graph, vectors = self._empty_graph(), self.vectors(codes)
        try:
            if json.loads((folder / "about.json").read_text()) != _about(self, codes, folder / "graph.bin"):
                return None
            graph.load_index(str(folder / "graph.bin"))
        except (OSError, ValueError, RuntimeError):
            return None
        return self._index(graph, Groups.of(vectors), codes)

    def _empty_graph(self) -> Any:
        try:
            import hnswlib
        except ImportError:
            raise xmr.PluginError(INSTALL) from None
        return hnswlib.Index(space=self.metric, dim=self.dim)

    def _index(self, graph: Any, groups: Groups, codes: xmr.Codes) -> xmr.Index:
        graph.set_ef(self.config.ef)
        return HnswIndex(self, graph, groups, codes)


class HnswIndex(VectorIndex):
    """The graph for few hits among many vectors. Exact for a radius without k, for small collections and subsets, and
    for a large k, where a scan is as quick."""

    indexer: Hnsw

    def __init__(self, indexer: Hnsw, graph: Any, groups: Groups, codes: xmr.Codes) -> None:
        super().__init__(indexer, codes)
        self.graph, self.groups = graph, groups

    def _search(
        self, queries: xmr.Embeddings, k: int | None, within: float | None, positions: NDArray[np.int64] | None
    ) -> xmr.Hits:
        fetched = self._fetched(k, positions)
        hits = None if k is None or fetched is None else self._walk(queries.values, k, fetched, positions)
        return self._exhaustive(queries, k, within, positions) if hits is None else hits

    def _fetched(self, k: int | None, positions: Places | None) -> int | None:
        """How many groups to ask of the graph so that about `ef`, or k and some, are allowed; None where a scan of the
        allowed is as quick."""
        n, ef = len(self), self.indexer.config.ef
        allowed = n if positions is None else len(positions)
        if k is None:
            return None
        fetched = k + SPARE if positions is None else math.ceil(max(ef, k + SPARE) * n / allowed)
        return None if allowed <= SCANNED * max(fetched, ef) else min(fetched, len(self.groups))

    def _walk(self, queries: NDArray[np.float32], k: int, fetched: int, positions: Places | None) -> xmr.Hits | None:
        """What the graph finds that is allowed, at most k a query, by true distances; None where it fails: hnswlib
        gives all of `fetched` or nothing, and a graph may have unreachable vectors."""
        try:
            labels, _ = self.graph.knn_query(queries, k=fetched)
        except RuntimeError:
            return None
        found = labels.astype(np.int64).ravel()  # (q * fetched,) groups
        rows = np.repeat(np.arange(len(queries)), fetched)
        distances = pair_distances(queries, self.scan.vectors, rows, self.groups.firsts[found], self.indexer.metric)
        members, owners = self._allowed(positions).expanded(found, k)
        return hits_of_pairs(len(queries), rows[owners], self.scan.ids[members], distances[owners], k)

    def _allowed(self, positions: Places | None) -> Groups:
        if positions is None:
            return self.groups
        allowed = np.zeros(len(self), bool)
        allowed[positions] = True
        return self.groups.only(allowed)

    def save(self, folder: Path) -> bool:
        """Write the graph, and what it was made from."""
        self.graph.save_index(str(folder / "graph.bin"))
        (folder / "about.json").write_text(json.dumps(_about(self.indexer, self.codes, folder / "graph.bin")))
        return True


def _about(indexer: Hnsw, codes: xmr.Codes, graph: Path) -> dict[str, str]:
    """What a saved graph belongs to, and the digest of its file: hnswlib believes whatever it reads."""
    rows = hashlib.sha256(codes.ids.data)
    rows.update(codes.values.data)
    with graph.open("rb") as file:
        return {
            "indexer": indexer.fingerprint(),
            "codes": rows.hexdigest(),
            "graph": hashlib.file_digest(file, "sha256").hexdigest(),
        }


@xmr.hookimpl
def xmr_indexers() -> list[type[xmr.Indexer]]:
    """The graph."""
    return [Hnsw]
