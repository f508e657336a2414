"""Why a KD-tree is for few dimensions: the share of the vectors that exact search compares, and its time beside a scan.

    python benchmarks/kdtree_curse.py [--rows 100000] [--dims 2 4 8 12 16 20 24]

Standard normal vectors, the worst case: real ones that lie near a surface of few dimensions fare as those do. scipy's
tree does not say what it visits, so the share is counted in a plain tree (median of the widest side, 16 in a leaf, best
cell first); the times are those of `kdtree` and `flat`, one query at a time.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import xmr_core as xmr
from xmr_core.registry import default

K = 10
LEAF = 16
QUERIES = 50

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Cell:
    """A box of vectors: halves beside a cut, or a leaf."""

    places: NDArray[np.int64]
    axis: int = 0
    cut: float = 0.0
    halves: tuple[Cell, Cell] | None = None


def tree_of(vectors: Floats, places: NDArray[np.int64]) -> Cell:
    """The tree over `vectors[places]`."""
    if len(places) <= LEAF:
        return Cell(places)
    own = vectors[places]
    axis = int(np.ptp(own, axis=0).argmax())
    order = places[np.argsort(own[:, axis], kind="stable")]
    low, high = order[: len(order) // 2], order[len(order) // 2 :]
    return Cell(places, axis, float(vectors[high[0], axis]), (tree_of(vectors, low), tree_of(vectors, high)))


def compared(tree: Cell, vectors: Floats, query: Floats) -> int:
    """How many vectors an exact search for the K nearest compares with the query, nearest cell first."""
    number = itertools.count()
    cells = [(0.0, next(number), tree, np.zeros(len(query)))]  # squared distance to the cell, and its part in each axis
    best = np.full(K, np.inf)  # squared distances, ascending
    seen = 0
    while cells and cells[0][0] < best[-1]:
        gap, _, cell, parts = heapq.heappop(cells)
        while cell.halves is not None:
            side = query[cell.axis] - cell.cut
            far = parts.copy()
            far[cell.axis] = side**2
            heapq.heappush(cells, (gap - parts[cell.axis] + side**2, next(number), cell.halves[int(side < 0)], far))
            cell = cell.halves[int(side >= 0)]
        seen += len(cell.places)
        best = np.sort(np.append(best, ((vectors[cell.places] - query) ** 2).sum(axis=1)))[:K]
    return seen


def milliseconds(name: str, vectors: xmr.Embeddings, queries: xmr.Embeddings) -> float:
    """Of a query, alone."""
    indexer = default().find("indexer", name)().fit(vectors)
    index = indexer.build(indexer.encode(vectors, np.arange(len(vectors))))
    index.search(queries, K)
    start = time.perf_counter()
    for i in range(len(queries)):
        index.search(queries.take(slice(i, i + 1)), K)
    return (time.perf_counter() - start) / len(queries) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description="A KD-tree as the dimensions grow.")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dims", type=int, nargs="+", default=[2, 4, 8, 12, 16, 20, 24])
    args = parser.parse_args()
    table = Table(
        "dimensions", "compared", "kdtree, ms", "flat, ms", title=f"exact {K} nearest of {args.rows:,} normal vectors"
    )
    for d in args.dims:
        rng = np.random.default_rng(d)
        vectors = rng.standard_normal((args.rows, d)).astype(np.float32)
        queries = rng.standard_normal((QUERIES, d)).astype(np.float32)
        tree = tree_of(vectors, np.arange(args.rows))
        share = np.mean([compared(tree, vectors, query) for query in queries]) / args.rows
        both = (xmr.Embeddings(vectors, "l2"), xmr.Embeddings(queries, "l2"))
        table.add_row(
            f"{d}", f"{share:.4f}", f"{milliseconds('kdtree', *both):.2f}", f"{milliseconds('flat', *both):.2f}"
        )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
