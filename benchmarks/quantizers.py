"""Every quantizer at equal bytes: recall of the true nearest neighbour, time to train, to encode and to search.

    python benchmarks/quantizers.py --base base.npy --learn learn.npy --queries query.npy [--truth groundtruth.npy]
        [--bytes 8 4 2] [--only catalyzer PQ] [--skip LSQ] [--catalyzer "lambda_=0.01"] [--keep models/]
        [--threads 2] [--out quantizers]

Arrays of shape (n, d), any numbers. Recall is 1-recall@r: how often the nearest of the base vectors by l2 is among the
first r found, over all queries. What is ours is written as a recipe, what is faiss's as its index factory names it.
"rerank" compares the first RERANKED candidates again by the vectors that the catalyzer restores from their codes.
RaBitQ keeps 8 bytes of factors beside its bits, and so enters from 16 bytes. Prints a table, writes OUT.csv and, with
the extra `plots`, OUT.png.
"""

from __future__ import annotations

import argparse
import csv
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import faiss
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

import xmr_core as xmr
from xmr_core.recipes import Pipeline
from xmr_core.search.reranking import rerank

BATCH = 1000  # queries searched at once
RERANKED = 200  # candidates
BLOCK = 1 << 16  # codes of an additive quantizer decoded at once
RANKS = (1, 10, 100)
RADII = {8: 79, 4: 10, 2: 3}  # of the lattice in 24 dimensions, by bytes

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Result:
    """One row of the table."""

    quantizer: str
    bytes: int
    recall1: float
    recall10: float
    recall100: float
    train_seconds: float
    encoded_a_second: float
    queries_a_second: float


class Contender(ABC):
    """A quantizer that is fitted, filled and searched; positions are its ids."""

    name: str

    @abstractmethod
    def fit(self, learn: Floats) -> float:
        """Seconds it took."""

    @abstractmethod
    def add(self, base: Floats) -> None:
        """Encode."""

    @abstractmethod
    def search(self, queries: Floats, k: int) -> NDArray[np.int64]:
        """(q, k) positions."""


class Faiss(Contender):
    """An index of faiss's factory."""

    def __init__(self, name: str, nbytes: int, d: int) -> None:
        self.name = name
        self.index = faiss.index_factory(d, name)
        assert self.index.sa_code_size() == nbytes, f"{name} takes {self.index.sa_code_size()} bytes"

    def fit(self, learn: Floats) -> float:
        start = time.perf_counter()
        self.index.train(learn)
        return time.perf_counter() - start

    def add(self, base: Floats) -> None:
        self.index.add(base)

    def search(self, queries: Floats, k: int) -> NDArray[np.int64]:
        positions: NDArray[np.int64] = self.index.search(queries, k)[1]
        return positions


class Decoded(Faiss):
    """An additive quantizer, whose own search decodes every code anew for every query: here once a batch of them."""

    def add(self, base: Floats) -> None:
        self.codes = self.index.sa_encode(base)

    def search(self, queries: Floats, k: int) -> NDArray[np.int64]:
        best = faiss.ResultHeap(len(queries), k)
        for start in range(0, len(self.codes), BLOCK):
            vectors = self.index.sa_decode(self.codes[start : start + BLOCK])
            distances, positions = faiss.knn(queries, vectors, k)
            best.add_result(distances, positions + start)
        best.finalize()
        found: NDArray[np.int64] = best.I
        return found


class Ours(Contender):
    """A recipe of fusers and an indexer. Fitted fusers are shared between recipes, and kept in a folder if asked."""

    fitted: ClassVar[dict[str, tuple[xmr.Fuser, float]]] = {}

    def __init__(self, recipe: str, keep: Path | None, reranked: int = 0) -> None:
        self.name, self.keep, self.reranked = recipe + ", rerank" * bool(reranked), keep, reranked
        self.pipeline = Pipeline.parse(recipe)

    def fit(self, learn: Floats) -> float:
        points, fusers, seconds, so_far = xmr.Embeddings(learn, "l2"), [], 0.0, ""
        for fuser in self.pipeline.fusers:
            so_far += f" >> {fuser!r}"
            if so_far not in self.fitted:
                self.fitted[so_far] = self._kept(so_far, fuser, points.as_features("image"))
            fusers.append(self.fitted[so_far][0])
            seconds += self.fitted[so_far][1]
            points = fusers[-1].fuse(points.as_features("image"))
        start = time.perf_counter()
        self.pipeline = Pipeline(None, tuple(fusers), self.pipeline.indexer.fit(points))
        return seconds + time.perf_counter() - start

    def _kept(self, name: str, fuser: xmr.Fuser, features: xmr.Features) -> tuple[xmr.Fuser, float]:
        file = None if self.keep is None else self.keep / f"{''.join(c if c.isalnum() else '_' for c in name)}.npz"
        if file is not None and file.exists():
            with np.load(file, allow_pickle=False) as arrays:
                state = {key: arrays[key] for key in arrays.files}
            return fuser.with_state({key: state[key] for key in state if key != "seconds"}), float(state["seconds"])
        start = time.perf_counter()
        nothing = xmr.Features("text", np.zeros((0, 1, 0), np.float32))
        fitted = fuser.fit(xmr.FeaturePairs(features, nothing, np.zeros((0, 2), np.int64)))
        seconds = time.perf_counter() - start
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            kept: Any = {**fitted.state, "seconds": np.array(seconds)}
            np.savez(file, **kept)
        return fitted, seconds

    def add(self, base: Floats) -> None:
        ids = np.arange(len(base))
        self.codes = self.pipeline.indexer.encode(self._points(base), ids)
        self.index = self.pipeline.indexer.build(self.codes)

    def search(self, queries: Floats, k: int) -> NDArray[np.int64]:
        hits = self.index.search(self._points(queries), self.reranked or k)
        if self.reranked:
            hits = rerank(hits, xmr.Embeddings(queries, "l2"), self.codes, self.pipeline.restore, k)
        return hits.ids

    def _points(self, vectors: Floats) -> xmr.Embeddings:
        return self.pipeline.embed_vectors(xmr.Embeddings(vectors, "l2"))


def contenders(b: int, d: int, catalyzer: str, keep: Path | None) -> Iterator[Contender]:
    """Those of b bytes for vectors of d dimensions."""
    more = f", {catalyzer}" if catalyzer else ""
    recipes = [f"catalyzer(dim={8 * b}, inverse=None, epochs=15) >> sign >> hamming"]
    if b in RADII:
        own = "" if b == 8 else f", r2={RADII[b]}, epochs=20"  # trained for the rounding of its lattice
        fusers = (f"catalyzer(dim=24{own}{more})", "pca(dim=24)")
        recipes += [f"{fuser} >> lattice(r2={RADII[b]})" for fuser in fusers]
        yield Ours(recipes[1], keep, RERANKED)
    if 24 % b == 0:
        recipes += [f"{fuser} >> pq(bytes={b})" for fuser in (f"catalyzer(dim=24{more})", "identity(metric='l2')")]
    names = {f"PQ{b}x8": b, f"OPQ{b},PQ{b}x8": b, f"RQ{b}x8": 1, f"LSQ{b}x8": 1, f"LSH{8 * b}r": 1}
    names |= {f"ITQ{8 * b},LSH": 8 * b, f"PCAR{2 * b},SQ4": 2 * b, f"PCAR{b},SQ8": b}  # and dimensions they need
    if b > 8:
        names[f"PCAR{8 * (b - 8)},RaBitQ"] = 8 * (b - 8)
    yield from (Ours(recipe, keep) for recipe in recipes)
    for name, least in names.items():
        if d >= least:
            yield (Decoded if name.startswith(("RQ", "LSQ")) else Faiss)(name, b, d)


def measured(contender: Contender, b: int, learn: Floats, base: Floats, queries: Floats, nearest: Any) -> Result:
    """Train, encode and search."""
    train = contender.fit(learn)
    start = time.perf_counter()
    contender.add(base)
    encode = time.perf_counter() - start
    start = time.perf_counter()
    found = [contender.search(queries[i : i + BATCH], max(RANKS)) for i in range(0, len(queries), BATCH)]
    search = time.perf_counter() - start
    hit = np.concatenate(found) == nearest[:, None]  # (q, 100)
    recalls = [float(hit[:, :rank].any(axis=1).mean()) for rank in RANKS]
    return Result(contender.name, b, *recalls, train, len(base) / encode, len(queries) / search)


def shown(results: list[Result], title: str) -> Table:
    """The results as a table, the best recall@10 of each size first."""
    table = Table(title=title)
    for heading in ("bytes", "quantizer", "R@1", "R@10", "R@100", "train s", "encoded/s", "queries/s"):
        table.add_column(heading, justify="left" if heading == "quantizer" else "right", no_wrap=True)
    for r in sorted(results, key=lambda r: (-r.bytes, -r.recall10)):
        recalls = [f"{recall:.3f}" for recall in (r.recall1, r.recall10, r.recall100)]
        speeds = [f"{r.train_seconds:.1f}", f"{r.encoded_a_second:,.0f}", f"{r.queries_a_second:,.0f}"]
        table.add_row(str(r.bytes), r.quantizer, *recalls, *speeds)
    return table


def draw(results: list[Result], file: Path) -> None:
    """Recall@10 against bytes, a line a kind of quantizer."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.set_prop_cycle(color=matplotlib.colormaps["Dark2"].colors + matplotlib.colormaps["Set2"].colors)
    kinds: dict[str, list[Result]] = {}
    for r in sorted(results, key=lambda r: r.bytes):
        kinds.setdefault(_kind(r.quantizer), []).append(r)
    for kind, rows in sorted(kinds.items(), key=lambda item: -item[1][-1].recall10):
        style = {"linewidth": 2.5} if "catalyzer" in kind else {"linestyle": "--", "linewidth": 1}
        axes.plot([r.bytes for r in rows], [r.recall10 for r in rows], marker="o", label=kind, **style)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted({r.bytes for r in results}), labels=sorted({str(r.bytes) for r in results}, key=int))
    axes.set(xlabel="bytes a vector", ylabel="1-recall@10")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(file, dpi=90)


def _kind(name: str) -> str:
    """A quantizer's name without its size: the same for all bytes."""
    parts = [part.split("(")[0] for part in name.split(" >> ")]
    more = ", rerank" * name.endswith(", rerank")
    return " >> ".join(parts) + more if len(parts) > 1 else re.sub(r"(?<!SQ)\d+(x\d+)?", "", name)


def main() -> None:
    parser = argparse.ArgumentParser(description="Quantizers at equal bytes.")
    for name in ("base", "learn", "queries"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--truth", type=Path, help="(q, 1 or more) positions, the nearest first; else computed")
    parser.add_argument("--bytes", type=int, nargs="+", default=[8, 4, 2])
    parser.add_argument("--only", nargs="+", default=[""], help="beginnings of names")
    parser.add_argument("--skip", nargs="+", default=[], help="beginnings of names, to leave out")
    parser.add_argument("--catalyzer", default="", help="options of every catalyzer of 24 dimensions")
    parser.add_argument("--keep", type=Path, help="folder of trained fusers, used again if they are there")
    parser.add_argument("--threads", type=int, default=faiss.omp_get_max_threads())
    parser.add_argument("--out", type=Path, default=Path("quantizers"))
    args = parser.parse_args()
    faiss.omp_set_num_threads(args.threads)
    base, learn, queries = (np.load(file).astype(np.float32) for file in (args.base, args.learn, args.queries))
    nearest = np.load(args.truth)[:, 0] if args.truth else faiss.knn(queries, base, 1)[1][:, 0]
    every = [
        (b, contender)
        for b in args.bytes
        for contender in contenders(b, base.shape[1], args.catalyzer, args.keep)
        if contender.name.startswith(tuple(args.only)) and not contender.name.startswith(tuple(args.skip))
    ]
    results = []
    with args.out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Result)])
        writer.writeheader()
        for b, contender in track(every, "quantizers"):
            results.append(measured(contender, b, learn, base, queries, nearest))
            writer.writerow(asdict(results[-1]))
            file.flush()
    title = f"{len(base):,} base, {len(learn):,} learn, {len(queries):,} queries, {args.threads} threads"
    Console(width=150).print(shown(results, title))
    draw(results, args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
