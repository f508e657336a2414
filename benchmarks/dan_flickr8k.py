"""m-DAN on Flickr8k by the publisher's split, through the library: recall beside chance, and what indexes lose of it.

    python benchmarks/dan_flickr8k.py flickr8k/ [--image 'lite0_grid(side=288)'] [--options 'epochs=12'] [--seed 0]
        [--file flickr.duckdb]
    python benchmarks/dan_flickr8k.py flickr8k/ --ablation [--options 'epochs=6']     # steps=0 and steps=2, three seeds

Learnt from 6,000 pictures with 30,000 sentences, of which the fuser holds pictures out to choose its epoch; measured on
1,000 pictures and 5,000 sentences of the test split, which choose nothing. m-DAN is trained once: the other indexes are
fitted on its embeddings of the training items.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import xmr_core as xmr
from xmr_core.library import Library
from xmr_core.recipes import Pipeline

INDEXES = (
    "flat",
    "hnsw",
    "sign >> hamming",
    "pq(bytes=64)",
    "pca(dim=128) >> pq(bytes=64)",
    "pca(dim=64) >> pq(bytes=16)",
    "pca(dim=32) >> pq(bytes=8)",
    "catalyzer(inverse=None, epochs=20) >> lattice",
    "pca(dim=24) >> lattice",
)
SEEDS = (0, 1, 2)
FIGURES = ("R@1", "R@5", "R@10", "median rank", "mean rank")


def peak() -> str:
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB"


def trained(db: Library, recipe: str, seed: int, console: Console) -> None:
    start = time.perf_counter()
    console.print(db.fit(recipe, name="dan", seed=seed))
    console.print(f"fit and {len(db.store.ids()):,} embeddings: {(time.perf_counter() - start) / 60:.1f} min, {peak()}")


def recalls(db: Library) -> Table:
    """The figures of the test split, both ways, beside chance."""
    evaluation = db.evaluate("dan", queries="split = 'test'")
    table = Table("direction", *FIGURES, title=f"{evaluation.recipe}, seed {evaluation.seed}\n{evaluation.protocol}")
    for asked, found in (("text", "image"), ("image", "text")):
        own = {figure.measure: figure for figure in evaluation.figures if figure.queries == asked}
        table.add_row(f"{asked} to {found}", *(shown(name, own[name].value) for name in FIGURES))
        table.add_row("by chance", *(shown(name, own[name].chance or 0.0) for name in FIGURES))
    return table


def shown(measure: str, value: float) -> str:
    return f"{100 * value:.1f}" if measure.startswith("R@") else f"{value:.1f}"


def embedded(db: Library, split: str) -> xmr.Pairs:
    """The items of a split as their embeddings, read back from the codes of `flat`, and how they belong together."""
    pairs = db.store.pairs(f"split = '{split}'")
    sides = []
    for items in (pairs.images, pairs.texts):
        codes = db.store.get_codes("dan", db.space("dan").record.version, items.modality)
        rows = codes.take(np.searchsorted(codes.ids, items.ids))
        sides.append(xmr.Items(items.modality, rows.vectors))
    return xmr.Pairs(sides[0], sides[1], pairs.links)


def compared(recipe: str, learn: xmr.Pairs, test: xmr.Pairs, seed: int) -> list[str]:
    """A row of the table: the recipe fitted on embeddings to learn from, its recall and cost on those of the test."""
    dim = np.shape(test.images.data)[1]
    start = time.perf_counter()
    pipeline = Pipeline.parse(f"precomputed(dim={dim}, metric='ip') >> {recipe}").with_seed(seed).fit(learn)
    fit = time.perf_counter() - start
    row, per_query, nbytes = [], [], 0
    for asked, found, links in ((test.texts, test.images, test.links[:, ::-1]), (test.images, test.texts, test.links)):
        codes = pipeline.encode(found)
        nbytes, index = codes.layout.nbytes, pipeline.indexer.build(codes)
        queries = pipeline.indexer.queries(pipeline.embed(asked))
        index.search(queries.take(slice(0, 10)), 10)
        start = time.perf_counter()
        hits = index.search(queries, 10).ids  # (q, 10)
        per_query.append((time.perf_counter() - start) / len(queries))
        row += [f"{100 * value:.1f}" for value in recall_of(hits, links)]
    costs = [f"{nbytes:,}", f"{1e3 * per_query[0]:.3f}", f"{1e3 * per_query[1]:.3f}", f"{fit:.0f} s"]
    return [recipe, *row, *costs]


def recall_of(hits: np.ndarray, links: np.ndarray) -> list[float]:
    """R@1, 5 and 10: the share of queries with one of their own among the first; ties as the index orders them."""
    own = np.isin(np.arange(len(hits))[:, None] * len(links) + hits, links[:, 0] * len(links) + links[:, 1])
    return [float(own[:, :k].any(axis=1).mean()) for k in (1, 5, 10)]


def losses(db: Library, seed: int, console: Console) -> Table:
    """What each index loses, beside bytes an item and milliseconds a query."""
    table = Table(
        "index", *(f"{way} {k}" for way in ("t2i", "i2t") for k in (1, 5, 10)), "bytes", "ms t2i", "ms i2t", "fit"
    )
    learn, test = embedded(db, "train"), embedded(db, "test")
    for recipe in INDEXES:
        row = compared(recipe, learn, test, seed)
        console.print("  ".join(row))
        table.add_row(*row)
    return table


def ablation(db: Library, encoder: str, options: str, console: Console) -> Table:
    """Attention against means, the same training: mean and spread (standard deviation) over seeds."""
    table = Table("steps", *(f"{way} {name}" for way in ("t2i", "i2t") for name in FIGURES[:3]), title=f"seeds {SEEDS}")
    for steps in (0, 2):
        values = []
        for seed in SEEDS:
            trained(db, f"{encoder} >> dan({joined(f'steps={steps}', options)}) >> flat", seed, console)
            found = db.evaluate("dan", queries="split = 'test'")
            values.append([100 * found.value(name, asked) for asked in ("text", "image") for name in FIGURES[:3]])
            console.print(f"steps={steps} seed={seed}", values[-1])
        mean, spread = np.mean(values, axis=0), np.std(values, axis=0, ddof=1)
        table.add_row(str(steps), *(f"{m:.1f} ± {s:.1f}" for m, s in zip(mean, spread, strict=True)))
    return table


def joined(*options: str) -> str:
    return ", ".join(option for option in options if option)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--options", default="", help="more options of dan, like 'epochs=6, dim=256'")
    parser.add_argument("--image", default="lite0_grid", help="recipe of the encoder that gives regions")
    parser.add_argument("--ablation", action="store_true", help="steps=0 against steps=2 instead")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--file", type=Path, help="keep the library here: regions are computed once, then read back")
    args = parser.parse_args()
    console = Console(width=160)
    encoder = f"each(image={args.image!r})"
    with tempfile.TemporaryDirectory() as folder, xmr.open(args.file or Path(folder) / "flickr.duckdb") as db:
        if not len(db.store.ids()):
            console.print(db.add(xmr.datasets.flickr8k(args.folder)))
        if args.ablation:
            console.print(ablation(db, encoder, args.options, console))
            return
        trained(db, f"{encoder} >> dan({args.options}) >> flat", args.seed, console)
        console.print(recalls(db))
        console.print(losses(db, args.seed, console))


if __name__ == "__main__":
    main()
