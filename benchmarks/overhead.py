"""One query: what our indexes and `Library.search` cost on top of faiss and hnswlib, on the same vectors.

    python benchmarks/overhead.py [--rows 100000] [--dim 64]

All run in this process, in turns, one thread, already encoded queries; the medians of single searches.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import hnswlib
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import xmr_core as xmr
from xmr_flat import Flat
from xmr_hamming import Hamming
from xmr_hnsw import Hnsw
from xmr_lsh import Lsh

SEARCHES = 500
K = 10


def medians(calls: list[Callable[[int], Any]]) -> list[float]:
    """The median milliseconds of each call, given the number of a query; in turns."""
    times: list[list[float]] = [[] for _ in calls]
    for number in range(SEARCHES):
        for call, taken in zip(calls, times, strict=True):
            start = time.perf_counter()
            call(number)
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) * 1e3 for taken in times]


def one_by_one(index: xmr.Index, queries: xmr.Embeddings) -> Callable[[int], Any]:
    alone = [queries.take(slice(i, i + 1)) for i in range(SEARCHES)]
    return lambda number: index.search(alone[number], K)


def built(indexer: xmr.Indexer, embeddings: xmr.Embeddings) -> xmr.Index:
    fitted = indexer.fit(embeddings)
    return fitted.build(fitted.encode(embeddings, np.arange(len(embeddings))))


def raw_hnsw(vectors: NDArray[np.float32]) -> Any:
    graph = hnswlib.Index("l2", vectors.shape[1])
    graph.init_index(len(vectors), M=16, ef_construction=200, random_seed=0)
    graph.add_items(vectors, num_threads=1)
    graph.set_ef(64)
    return graph


def by_library(folder: Path, recipe: str, values: NDArray[Any], queries: NDArray[Any]) -> Callable[[int], Any]:
    db = xmr.open(folder / "overhead.duckdb", progress=False)
    space = recipe.rpartition(" ")[2]
    db.add_embeddings(values, space=space, recipe=recipe, ids=np.arange(len(values)))
    return lambda number: db.search(vector=queries[number], k=K, space=space, modality="image")


def main() -> None:
    parser = argparse.ArgumentParser(description="The overhead of one query.")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=64)
    args = parser.parse_args()
    faiss.omp_set_num_threads(1)
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(200, args.dim))
    everything = (centres[rng.integers(0, 200, args.rows + SEARCHES)]).astype(np.float32)
    everything += rng.normal(size=everything.shape).astype(np.float32) / 2
    vectors, queries = xmr.Embeddings(everything[SEARCHES:], "l2"), xmr.Embeddings(everything[:SEARCHES], "l2")
    signs, questions = (xmr.Embeddings(xmr.pack_bits(made.values >= 0), "hamming") for made in (vectors, queries))
    flat, bits, graph = faiss.IndexFlatL2(args.dim), faiss.IndexBinaryFlat(args.dim), raw_hnsw(vectors.values)
    flat.add(vectors.values)
    bits.add(signs.values)
    table = Table("one query", "raw", "our index", "Library.search", title=f"ms, {args.rows:,} x {args.dim}, top {K}")
    with tempfile.TemporaryDirectory() as folder:
        for name, indexer, peer, made, asked in (
            ("hnsw (hnswlib)", Hnsw(), lambda q: graph.knn_query(q, K, num_threads=1), vectors, queries),
            ("flat (faiss)", Flat(), lambda q: flat.search(q, K), vectors, queries),
            ("hamming (faiss)", Hamming(), lambda q: bits.search(q, K), signs, questions),
            ("lsh", Lsh(), None, vectors, queries),
        ):
            recipe = indexer.name if made is signs else f"identity(metric='l2') >> {indexer.name}"
            calls = [
                one_by_one(built(indexer, made), asked),
                by_library(Path(folder), recipe, made.values, asked.values),
            ]
            if peer is not None:
                calls.append(lambda i, peer=peer, asked=asked: peer(asked.values[i : i + 1]))
            ours, library, *raw = medians(calls)
            table.add_row(name, *(f"{ms:.3f}" for ms in raw or [float("nan")]), f"{ours:.3f}", f"{library:.3f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
