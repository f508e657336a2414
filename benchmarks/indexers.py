"""Every indexer beside exact search on 10,000 real vectors: recall, bytes a vector, and time.

    python benchmarks/indexers.py                                        # SIFT under $XMR_DATA (../shared/data)
    python benchmarks/indexers.py --vectors features.npy --metric cosine  # any array (n, d)
    python benchmarks/indexers.py --only 'pq(bytes=16)' 'kdtree(pca=8, candidates=200)'

Recall@k is the share of the k nearest vectors, by true distance, among the k hits. `= flat` says that ids and distances
are those of the oracle, brute force in float64, to the last bit. Times are of one run; compare them with one another.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

import xmr_core as xmr
from xmr_core.registry import default
from xmr_core.search.distances import distances
from xmr_core.testing import clustered

SIFT = Path(os.environ.get("XMR_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")) / "sift"
K = 10
SINGLES = 100  # queries that are asked one by one
RECIPES = (
    "flat",
    "kdtree",
    "kdtree(eps=2.0)",
    "kdtree(pca=8)",
    "kdtree(pca=8, candidates=200)",
    "kdtree(pca=16, candidates=200)",
    "hnsw",
    "lsh",
    "lsh(rotation='itq')",
    "pq(bytes=4)",
    "pq(bytes=8)",
    "pq(bytes=8, rotation='opq')",
    "pq(bytes=8, bits=4)",
    "pq(bytes=8, bits=4, fast=True)",
    "pq(bytes=8, lists=64)",
    "pq(bytes=16)",
    "pq(bytes=32)",
    "pq(bytes=32, rotation='opq')",
    "pq(bytes=32, bits=4, fast=True)",
    "threshold >> hamming",
    "itq(bits=64) >> hamming",
    "itq(bits=128) >> hamming",
    "hyperplanes(bits=128) >> hamming",
)


def read(args: argparse.Namespace) -> tuple[str, xmr.Embeddings, xmr.Embeddings, xmr.Embeddings]:
    """A name, and the vectors to learn from, to find, and to ask with."""

    def made(values: NDArray[Any]) -> xmr.Embeddings:
        return xmr.Embeddings(np.asarray(values, np.float32), args.metric)

    n, q = args.rows, args.queries
    if args.vectors is None and SIFT.is_dir():
        learn, base, query = (np.load(SIFT / f"{part}.npy", mmap_mode="r") for part in ("learn", "base", "query"))
        return "SIFT", made(learn[: 4 * n]), made(base[:n]), made(query[:q])
    name, values = "made", clustered(args.metric, n + q, dim=64, clusters=200).values
    if args.vectors is not None:
        name, values = args.vectors.stem, np.load(args.vectors, mmap_mode="r")
    queries = np.arange(len(values)) % (len(values) // q) == 0
    base = made(values[~queries][:n])
    return name, base, base, made(values[queries][:q])


def oracle(base: xmr.Embeddings, queries: xmr.Embeddings) -> xmr.Hits:
    """The K nearest by brute force: all distances in float64, sorted, ties by id."""
    ids = np.arange(len(base))
    rows = distances(queries.values, base.values, base.metric)  # (q, n)
    order = np.stack([np.lexsort((ids, row))[:K] for row in rows])
    return xmr.Hits(order, np.take_along_axis(rows, order, axis=1), exact=True)


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def trial(
    recipe: str, learn: xmr.Embeddings, base: xmr.Embeddings, queries: xmr.Embeddings, truth: xmr.Hits
) -> list[str]:
    """One line of the table."""
    whole = recipe if ">>" in recipe else f"identity(metric={base.metric!r}) >> {recipe}"
    fitting, pipeline = seconds(lambda: xmr.Pipeline.parse(whole).fit_embeddings(learn))
    ids = np.arange(len(base), dtype=np.int64)

    def build() -> tuple[xmr.Codes, xmr.Index]:
        codes = pipeline.indexer.encode(pipeline.embed_vectors(base), ids)
        return codes, pipeline.indexer.build(codes)

    building, (codes, index) = seconds(build)
    asked = pipeline.embed_vectors(queries)
    index.search(asked, K)
    batch, hits = seconds(lambda: index.search(asked, K))
    single, _ = seconds(lambda: [index.search(asked.take(slice(i, i + 1)), K) for i in range(SINGLES)])
    stored = pipeline.indexer.config.bytes if codes.layout.name == "pq" else codes.layout.nbytes  # symbols, packed
    same = np.array_equal(hits.ids, truth.ids) and np.array_equal(hits.distances, truth.distances)
    return [
        recipe,
        f"{stored}",
        f"{recall(hits, truth, 1):.3f}",
        f"{recall(hits, truth, K):.3f}",
        "= flat" if same else "",
        f"{fitting:.1f}",
        f"{building:.2f}",
        f"{batch / len(queries) * 1e3:.3f}",
        f"{single / SINGLES * 1e3:.2f}",
    ]


def recall(hits: xmr.Hits, truth: xmr.Hits, k: int) -> float:
    found = [np.isin(want[:k], have[:k]).mean() for want, have in zip(truth.ids, hits.ids, strict=True)]
    return float(np.mean(found))


def main() -> None:
    parser = argparse.ArgumentParser(description="Every indexer beside exact search.")
    parser.add_argument("--vectors", type=Path, help="an .npy file of shape (n, d); queries are taken out of it")
    parser.add_argument("--metric", default="l2", choices=["l2", "ip", "cosine"])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--only", nargs="+", default=RECIPES, metavar="RECIPE")
    args = parser.parse_args()
    name, learn, base, queries = read(args)
    truth = oracle(base, queries)
    title = f"{name}: {len(base):,} x {base.dim}, {args.metric}, {len(queries):,} queries"
    table = Table("indexer", title=title)
    for column in ("bytes", "recall@1", "recall@10", "", "fit s", "build s", "ms a query, batch", "one by one"):
        table.add_column(column, justify="right")
    known = {entry.name for role in ("fuser", "indexer") for entry in default().entries(role)}
    for recipe in track(args.only, console=Console(stderr=True)):
        if {part.split("(")[0].strip() for part in recipe.split(">>")} <= known:
            try:
                table.add_row(*trial(recipe, learn, base, queries, truth))
            except xmr.XmrError as error:  # hnswlib missing, a width that does not divide
                table.add_row(recipe, *[""] * 3, f"{error}")
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
