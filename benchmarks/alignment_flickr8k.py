"""Fusers that align images and captions, on Flickr8k by the publisher's split: recall beside chance, losses of codes.

    python benchmarks/alignment_flickr8k.py flickr8k/ [--file flickr.duckdb] [--image lite0] [--seed 0]

Fitted on the training split, of which the fusers hold images out to choose penalties and epochs; measured on the test
split, which chooses nothing, and on the validation split, by which the default options were chosen. Features are
computed before anything is timed, and cached in and beside the file, so that a second run with `--file` finds them. The
indexes of the second table are fitted on the embeddings of the training items by the last fuser.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import xmr_core as xmr
from xmr_core.library import Library
from xmr_core.measures import chance_pair_recall, recall_both_ways
from xmr_core.recipes import Pipeline

WORDS = 'bow(weighting="tfidf", normalise=True, min_count=3)'
FUSERS = {  # and the text encoder of each
    "ridge": "'minilm'",
    "cca": "'minilm'",
    "contrastive(members=4, validation=0)": f"['minilm', '{WORDS}']",
}
INDEXES = (
    "flat",
    "itq(bits=256) >> hamming",
    "itq(bits=128) >> hamming",
    "itq(bits=64) >> hamming",
    "pca(dim=128) >> pq(bytes=64)",
    "pca(dim=64) >> pq(bytes=16)",
)


def embedded(db: Library, space: str, split: str) -> xmr.Pairs:
    """The items of a split as their embeddings, read back from the codes of `flat`, and how they belong together."""
    pairs = db.store.pairs(f"split = '{split}'")
    sides = []
    for items in (pairs.images, pairs.texts):
        codes = db.store.get_codes(space, db.space(space).record.version, items.modality)
        rows = codes.take(np.searchsorted(codes.ids, items.ids))
        sides.append(xmr.Items(items.modality, rows.vectors))
    return xmr.Pairs(sides[0], sides[1], pairs.links)


def figures(pipeline: Pipeline, test: xmr.Pairs) -> list[str]:
    """R@1, R@5 and R@10 in percent, text to image and image to text, of what the codes stand for."""
    sides = [pipeline.embed(side) for side in (test.images, test.texts)]
    if "hamming" not in {side.metric for side in sides}:  # products of subvectors: the database alone is quantized
        return quantized(pipeline, sides[0], sides[1], test)
    to_texts, to_images = recall_both_ways(sides[0], sides[1], test.links)
    return [f"{100 * way.r1:.1f} / {100 * way.r5:.1f} / {100 * way.r10:.1f}" for way in (to_images, to_texts)]


def quantized(pipeline: Pipeline, images: xmr.Embeddings, texts: xmr.Embeddings, test: xmr.Pairs) -> list[str]:
    """As `figures`, the side searched decoded from its codes."""
    decoded = []
    for side in (images, texts):
        codes = pipeline.indexer.encode(side, np.arange(len(side), dtype=np.int64))
        decoded.append(xmr.Embeddings(pipeline.indexer.decode(codes), side.metric))
    to_texts = recall_both_ways(images, decoded[1], test.links)[0]
    to_images = recall_both_ways(decoded[0], texts, test.links)[1]
    return [f"{100 * way.r1:.1f} / {100 * way.r5:.1f} / {100 * way.r10:.1f}" for way in (to_images, to_texts)]


def chances(test: xmr.Pairs) -> list[str]:
    """What a random ranking gives, in percent, text to image and image to text."""
    captions = np.bincount(test.links[:, 0], minlength=len(test.images))
    images = np.bincount(test.links[:, 1], minlength=len(test.texts))
    ways = chance_pair_recall(images, len(test.images)), chance_pair_recall(captions, len(test.texts))
    return [f"{100 * way.r1:.1f} / {100 * way.r5:.1f} / {100 * way.r10:.1f}" for way in ways]


def exact(pairs: xmr.Pairs) -> list[str]:
    """`figures` of embeddings as they are."""
    dim = np.shape(pairs.images.data)[1]
    return figures(Pipeline.parse(f"precomputed(dim={dim}) >> flat").fit(pairs), pairs)


def aligned(db: Library, image: str, seed: int, table: Table) -> tuple[xmr.Pairs, xmr.Pairs]:
    """Rows for each fuser; the training and test embeddings of the last one."""
    where = "split = 'train'"
    db.fit(f"each(image={image!r}, text='minilm') >> ridge(penalty=1.0) >> flat", name="features", where=where)
    for fuser, text in FUSERS.items():
        wall, cpu = time.perf_counter(), time.process_time()
        space = fuser.partition("(")[0]
        db.fit(f"each(image={image!r}, text={text}) >> {fuser} >> flat", name=space, where=where, seed=seed)
        took = f"{time.perf_counter() - wall:.0f} s", f"{time.process_time() - cpu:.0f} s"
        test = embedded(db, space, "test")
        table.add_row(f"{fuser} over {text}", *exact(test), *took)
        table.add_row("    on the validation split", *exact(embedded(db, space, "val")))
    table.add_row("by chance", *chances(test))
    return embedded(db, space, "train"), test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="Flicker8k_Dataset/, Flickr8k.token.txt and the split files")
    parser.add_argument("--file", type=Path, help="the library to keep; by default a temporary one")
    parser.add_argument(
        "--image", default="lite0_grid(side=288)", help="recipe of the image encoder; of regions the mean is taken"
    )
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    console = Console(width=140)
    with tempfile.TemporaryDirectory() as folder, xmr.open(given.file or Path(folder) / "flickr.duckdb") as db:
        if not len(db.store.ids()):
            db.add(xmr.datasets.flickr8k(given.folder))
        title = f"{given.image}, seed {given.seed}; fitted on split train, test split against itself, exhaustive"
        columns = ("text to image R@1 / 5 / 10", "image to text R@1 / 5 / 10")
        table = Table("fuser", *columns, "fit and embed", "CPU time", title=title)
        learn, test = aligned(db, given.image, given.seed, table)
        console.print(table)
        codes = Table("indexes on the last fuser", *columns, title="R@K of the codes")
        dim = np.shape(test.images.data)[1]
        for recipe in INDEXES:
            pipeline = Pipeline.parse(f"precomputed(dim={dim}) >> {recipe}").with_seed(given.seed).fit(learn)
            codes.add_row(recipe, *figures(pipeline, test))
        console.print(codes)


if __name__ == "__main__":
    main()
