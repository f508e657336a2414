"""What lambda does: the catalyzer's points in two dimensions, and evenness and recall in 24, for several lambda.

    python benchmarks/spreading.py --learn learn.npy --base base.npy --queries query.npy [--truth groundtruth.npy]
        [--options "loss='rank', inverse=None, hidden=512, epochs=6"] [--lambdas 0 0.005 0.01 0.02 0.05 0.1]
        [--out docs/figures]

Needs the extra `plots`. Writes spreading-circle.png, after Figure 2 of the paper (Sablayrolles et al., ICLR 2019), and
spreading-lambda.png, and prints the figures of the second: 1-recall@10 by way of the lattice (24, 79), and KoLeo of 256
base points, which is -5.50 where points are drawn evenly from the sphere.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

import xmr_core as xmr
from xmr_core.recipes import Pipeline
from xmr_spreading.objective import koleo

EVEN = -5.50  # KoLeo of 256 points drawn evenly from the sphere in 24 dimensions
CIRCLES = (0.0, 0.01, 0.1, 1.0)  # lambdas that are drawn in two dimensions
SHOWN = 3000  # points drawn on a circle

Floats = NDArray[np.float32]


def fitted(dim: int, lambda_: float, options: str, learn: Floats) -> Pipeline:
    """A catalyzer and the largest lattice of its dimensions."""
    recipe = f"catalyzer(dim={dim}, lambda_={lambda_}{', ' + options if options else ''}) >> lattice"
    return Pipeline.parse(recipe).fit_embeddings(xmr.Embeddings(learn, "l2"))


def on_circles(learn: Floats, options: str, file: Path) -> None:
    """The points of the learning set on the circle, for each lambda; how many lie where is drawn outwards."""
    figure = Figure(figsize=(10, 2.9), layout="constrained")
    for place, lambda_ in enumerate(track(CIRCLES, "circles")):
        points = fitted(2, lambda_, options, learn).embed_vectors(xmr.Embeddings(learn, "l2")).values
        angles = np.arctan2(points[:, 1], points[:, 0])
        axes: Any = figure.add_subplot(1, len(CIRCLES), place + 1, projection="polar")
        counts, edges = np.histogram(angles, bins=90, range=(-np.pi, np.pi), density=True)
        axes.bar(edges[:-1], counts * 2 * np.pi, width=np.diff(edges), bottom=1, align="edge", alpha=0.4)
        axes.scatter(angles[:SHOWN], np.ones(len(angles[:SHOWN])), s=1, color="black")
        axes.set_title(f"lambda = {lambda_:g}", fontsize=10)
        axes.set(rticks=[], xticks=[], ylim=(0, 4))
    figure.savefig(file, dpi=80)


def figures(
    learn: Floats, base: Floats, queries: Floats, nearest: Any, lambdas: list[float], options: str
) -> list[tuple[float, float, float]]:
    """lambda, KoLeo and recall@10 of each."""
    rows = []
    for lambda_ in track(lambdas, "lambdas"):
        pipeline = fitted(24, lambda_, options, learn)
        points, asked = (pipeline.embed_vectors(xmr.Embeddings(x, "l2")) for x in (base, queries))
        batches = points.values[: len(points) // 256 * 256].reshape(-1, 256, 24)[:200]
        spread = float(np.mean([koleo(torch.from_numpy(batch)).item() for batch in batches]))
        index = pipeline.indexer.build(pipeline.indexer.encode(points, np.arange(len(points))))
        hit = index.search(asked, 10).ids == nearest[:, None]
        rows.append((lambda_, spread, float(hit.any(axis=1).mean())))
    return rows


def draw(rows: list[tuple[float, float, float]], file: Path) -> None:
    """KoLeo and recall against lambda."""
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    places, labels = range(len(rows)), [f"{lambda_:g}" for lambda_, _, _ in rows]
    left = figure.add_subplot(xlabel="lambda", ylabel="1-recall@10, 8 bytes")
    left.plot(places, [recall for _, _, recall in rows], "o-", color="tab:blue", label="recall")
    left.set_xticks(places, labels=labels)
    right = left.twinx()
    right.set_ylabel("KoLeo of 256 points (lower: more even)")
    right.plot(places, [spread for _, spread, _ in rows], "s--", color="tab:orange", label="KoLeo")
    right.axhline(EVEN, color="tab:orange", linewidth=0.8, linestyle=":")
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)
    figure.savefig(file, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description="The catalyzer for several lambda.")
    for name in ("learn", "base", "queries"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--truth", type=Path, help="(q, 1 or more) positions, the nearest first; else computed")
    options = "loss='rank', inverse=None, hidden=512, epochs=6"
    parser.add_argument("--options", default=options, help="of every catalyzer")
    parser.add_argument("--lambdas", type=float, nargs="+", default=[0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1])
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    learn, base, queries = (np.load(file).astype(np.float32) for file in (args.learn, args.base, args.queries))
    nearest = np.load(args.truth)[:, 0] if args.truth else faiss.knn(queries, base, 1)[1][:, 0]
    rows = figures(learn, base, queries, nearest, args.lambdas, args.options)
    draw(rows, args.out / "spreading-lambda.png")
    table = Table("lambda", "KoLeo", "R@10")
    for lambda_, spread, recall in rows:
        table.add_row(f"{lambda_:g}", f"{spread:.2f}", f"{recall:.4f}")
    Console().print(table)
    on_circles(learn[:20_000], "loss='rank', inverse=None, hidden=256, epochs=10", args.out / "spreading-circle.png")


if __name__ == "__main__":
    main()
