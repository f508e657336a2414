"""r-DAN on easy-VQA, through the library: accuracy on all test questions, by type, beside the majority answer's.

    python benchmarks/rdan_easy_vqa.py [--recipe "rdan(dim=256)"] [--seed 0] [--file easy.duckdb] [--attention seen.npz]

Pictures are EfficientNet-Lite0's 7 x 7 regions, computed once and kept beside the library. The best epoch is chosen by
a tenth of the training pictures; the test questions are answered once, at the end. `--attention` keeps what the paper's
figure draws of a dozen questions: weights over regions and words, step by step.
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
from xmr_core import datasets
from xmr_core.library.run import LibraryRun
from xmr_core.progress import encode_cached, use_run
from xmr_core.recipes import as_pipeline

SHOWN = 12  # questions whose attention is kept


def features(db: xmr.Library, recipe: str, console: Console) -> None:
    """Read, decode and encode every picture whose regions are not kept yet."""
    encoder = as_pipeline(recipe, "answerer").encoder
    pictures = db.store.items(db.store.ids("image"), "image")
    start = time.perf_counter()
    with LibraryRun(db.store, "features", progress=True) as run, use_run(run):
        encode_cached(encoder, pictures)
    taken = time.perf_counter() - start
    console.print(f"regions of {len(pictures):,} pictures: {taken:.0f} s, {len(pictures) / taken:.0f} a second")


def keep_attention(db: xmr.Library, questions: xmr.Questions, file: Path) -> None:
    """Some questions with their pictures, answers and attention, as arrays."""
    _, firsts = np.unique(np.array(questions.texts.data), return_index=True)
    some = questions.take(firsts[:: max(1, len(firsts) // SHOWN)][:SHOWN])
    pictures = [some.images.data[i] for i in some.image_of]
    given = db.answer(pictures, list(some.texts.data), k=1)
    arrays = {f"regions_{i}": seen.weights for i, (seen, _) in enumerate(given.attention)}
    arrays |= {f"words_{i}": read.weights for i, (_, read) in enumerate(given.attention)}
    told = {"questions": list(some.texts.data), "answers": given.best, "pictures": [str(path) for path in pictures]}
    np.savez(file, **arrays, **{name: np.array(column) for name, column in told.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--recipe", default="rdan(dim=256)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--file", type=Path, help="keep the library here")
    parser.add_argument("--attention", type=Path, help="keep the attention of some questions here, as .npz")
    args = parser.parse_args()
    console = Console(width=140)
    train, test = datasets.easy_vqa("train"), datasets.easy_vqa("test")
    with tempfile.TemporaryDirectory() as folder, xmr.open(args.file or Path(folder) / "easy.duckdb") as db:
        for questions in (train, test):
            db.add(questions.images)
        features(db, args.recipe, console)
        start = time.perf_counter()
        learnt = db.learn(args.recipe, train, seed=args.seed)
        taken = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        console.print(f"{learnt!r}: learnt in {taken:.0f} s, peak memory {peak:.1f} GB, {train.protocol}")
        start = time.perf_counter()
        made = db.evaluate_answers(test)
        asking = (time.perf_counter() - start) / len(test) * 1e3
        if args.attention:
            keep_attention(db, test, args.attention)
    table = Table(
        "questions", "count", "accuracy", "majority", "its answer", title=f"{made.questions}, seed {made.seed}"
    )
    for row in made.figures:
        table.add_row(
            row.type, f"{row.n_questions:,}", f"{row.accuracy:.4f}", f"{row.majority_accuracy:.4f}", row.majority
        )
    console.print(table)
    console.print(f"{asking:.2f} ms a question")


if __name__ == "__main__":
    main()
