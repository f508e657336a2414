"""What the library costs on top of its parts: adding a million codes, searching them, listing plugins.

    python benchmarks/library.py [--codes 1000000] [--queries 1000]

Peers run in the same process on the same data, alternating with ours; the ratio is what travels between machines.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from rich.console import Console
from rich.table import Table

import xmr_core as xmr
from xmr_core.library import Library

REPEATS = 7
LISTING = """
import sys
from xmr_core import registry
print(len(registry.default().entries()), *{'torch', 'faiss'} & set(sys.modules))
"""


def alternating(*calls: Callable[[], Any], repeats: int = REPEATS) -> list[float]:
    """The median seconds of each call, taken in turns so that they share the machine's moods."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(repeats):
        for call, taken in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in times]


def adding(db: Library, codes: np.ndarray) -> tuple[str, str, str]:
    start = time.perf_counter()
    db.add_embeddings(codes, space="bits", recipe="hamming", ids=np.arange(len(codes)))
    taken = time.perf_counter() - start
    return f"adding {len(codes):,} 64-bit codes with ids", f"{taken:.2f} s", f"{len(codes) / taken:,.0f} rows a second"


def hamming(db: Library, codes: np.ndarray, queries: np.ndarray) -> tuple[str, str, str]:
    index = faiss.IndexBinaryFlat(codes.shape[1] * 8)
    index.add(codes)
    ours, theirs = alternating(
        lambda: db.search(vector=queries, k=10, space="bits", modality="image"), lambda: index.search(queries, 10)
    )
    found = db.search(vector=queries, k=10, space="bits", modality="image")
    assert (found.distances == index.search(queries, 10)[0]).all()
    what = f"top 10 of {len(queries):,} queries over {len(codes):,} codes"
    return what, f"{ours * 1e3:.0f} ms", f"faiss IndexBinaryFlat {theirs * 1e3:.0f} ms: {ours / theirs:.2f}x"


def listing() -> tuple[str, str, str]:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        output = subprocess.run(
            [sys.executable, "-c", LISTING], capture_output=True, text=True, check=True
        ).stdout.split()
        times.append(time.perf_counter() - start)
    heavy = ", ".join(output[1:]) or "neither torch nor faiss imported"
    return f"listing {output[0]} components in a new process", f"{statistics.median(times):.2f} s", heavy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--codes", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=1_000)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (args.codes, 8), dtype=np.uint8)
    queries = rng.integers(0, 256, (args.queries, 8), dtype=np.uint8)
    table = Table(
        "what", "ours", "beside", title=f"seed 0, medians of {REPEATS}, {faiss.omp_get_max_threads()} threads"
    )
    with tempfile.TemporaryDirectory() as folder, xmr.open(Path(folder) / "bench.duckdb", progress=False) as db:
        table.add_row(*adding(db, codes))
        table.add_row(*hamming(db, codes, queries))
    table.add_row(*listing())
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
