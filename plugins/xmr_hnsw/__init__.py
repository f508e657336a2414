"""HNSW: a graph of near neighbours that a query walks from coarse to fine, by hnswlib.

Source: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable
Small World graphs", TPAMI 2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import xmr_core as xmr
from xmr_core.plugin import State, VectorIndexer, current_run, unset
from xmr_hnsw.config import HnswConfig
from xmr_hnsw.groups import Groups
from xmr_hnsw.index import HnswIndex, capacity, read_saved

__all__ = ["Hnsw", "HnswConfig", "HnswIndex"]

INSTALL = "hnswlib is not installed; pip install 'xmr[hnsw]' (it is compiled, and wants a C++ compiler)"
ADDED = 2000  # vectors given to the graph at a time, for the progress bar


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
            capacity(len(groups)),
            M=config.m,
            ef_construction=config.ef_construction,
            random_seed=config.seed + 1,  # its generator takes 0 for 1
        )
        for start in current_run().track(range(0, len(groups), ADDED), f"hnsw: linking, {ADDED} at a time"):
            block = slice(start, start + ADDED)
            numbers = np.arange(len(groups))[block]
            graph.add_items(vectors[groups.firsts[block]], numbers, num_threads=config.threads or -1)
        return HnswIndex(self, graph, groups, codes)

    def load_index(self, folder: Path, codes: xmr.Codes) -> xmr.Index | None:
        """The graph that was saved for these codes by this component; None where it is missing, another, or damaged."""
        graph = self._empty_graph()
        groups = read_saved(folder, self, codes, graph)
        return None if groups is None else HnswIndex(self, graph, groups, codes)

    def _empty_graph(self) -> Any:
        try:
            import hnswlib
        except ImportError:
            raise xmr.PluginError(INSTALL) from None
        return hnswlib.Index(space=self.metric, dim=self.dim)


@xmr.hookimpl
def xmr_indexers() -> list[type[xmr.Indexer]]:
    """The graph."""
    return [Hnsw]
