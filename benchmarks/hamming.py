"""Hamming search over a million 64-bit codes beside faiss on the same codes, and full rankings for MAP.

    python benchmarks/hamming.py [--codes 1000000] [--queries 1000]

Both run in this process, in turns; the ratio is what travels between machines. Every answer is checked against faiss.
"""

from __future__ import annotations

import argparse
import resource

import faiss
import numpy as np
from library import REPEATS, alternating
from rich.console import Console
from rich.table import Table

import xmr_core as xmr
from xmr_hamming import Hamming

Row = tuple[str, str, str, str]


def codes_of(rng: np.random.Generator, n: int, bits: int) -> tuple[xmr.Codes, faiss.IndexBinaryFlat]:
    """Random codes for both sides."""
    codes = xmr.Codes(np.arange(n), rng.integers(0, 256, (n, bits // 8), dtype=np.uint8), xmr.Layout.bits(bits))
    index = faiss.IndexBinaryFlat(bits)
    index.use_heap = False
    index.add(codes.values)
    return codes, index


def queries_of(rng: np.random.Generator, q: int, bits: int) -> xmr.Embeddings:
    return xmr.Embeddings(rng.integers(0, 256, (q, bits // 8), dtype=np.uint8), "hamming")


def nearest(what: str, codes: xmr.Codes, theirs: faiss.IndexBinaryFlat, queries: xmr.Embeddings, k: int) -> Row:
    """The k nearest, ours and theirs."""
    ours = Hamming().build(codes)
    assert (ours.search(queries, k).distances == theirs.search(queries.values, k)[0]).all()
    a, b = alternating(lambda: ours.search(queries, k), lambda: theirs.search(queries.values, k))
    return what, f"{a * 1e3:.2f} ms", f"{b * 1e3:.2f} ms", f"{a / b:.2f}x"


def within(codes: xmr.Codes, theirs: faiss.IndexBinaryFlat, queries: xmr.Embeddings, radius: int) -> Row:
    """Everything within a radius; faiss takes the radius as excluded."""
    ours = Hamming().build(codes)
    limits, _, _ = theirs.range_search(queries.values, radius + 1)
    assert (ours.search(queries, None, within=radius).ids >= 0).sum() == limits[-1]
    a, b = alternating(
        lambda: ours.search(queries, None, within=radius), lambda: theirs.range_search(queries.values, radius + 1)
    )
    what = f"all within {radius} bits, {len(queries)} queries over {len(codes):,} codes"
    return what, f"{a * 1e3:.2f} ms", f"{b * 1e3:.2f} ms", f"{a / b:.2f}x"


def main() -> None:
    parser = argparse.ArgumentParser(description="Hamming search beside faiss.")
    parser.add_argument("--codes", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=1_000)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    threads = faiss.omp_get_max_threads()
    table = Table("what", "ours", "faiss", "ratio", title=f"seed 0, medians of {REPEATS}, {threads} threads")
    codes, index = codes_of(rng, args.codes, 64)
    for q, k in ((args.queries, 10), (args.queries, 100), (1, 10), (1, 1000)):
        what = f"top {k}, {q:,} queries over {len(codes):,} codes"
        table.add_row(*nearest(what, codes, index, queries_of(rng, q, 64), k))
    table.add_row(*within(codes, index, queries_of(rng, 10, 64), 12))
    small, index = codes_of(rng, 18_015, 64)
    table.add_row(
        *nearest("full ranking, 100 queries over 18,015 codes", small, index, queries_of(rng, 100, 64), 18_015)
    )
    ours, queries = Hamming().build(small), queries_of(rng, 2_000, 64)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (taken,) = alternating(lambda: ours.search(queries, len(small)), repeats=3)
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    table.add_row(
        "full ranking, 2,000 queries over 18,015 codes", f"{taken * 1e3:.0f} ms", "-", f"peak {more:.0f} MB more"
    )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
