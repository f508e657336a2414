"""Embedded vector databases side by side: same vectors, two columns, one machine, one run.

    pip install -e '.[hnsw,neighbours,plots]' -c constraints.txt
    python benchmarks/databases.py [--rows 100000] [--only xmr zvec] [--csv databases.csv] [--plot databases.png]

SIFT under $XMR_DATA (../shared/data), or `--vectors base.npy --queries query.npy`. Each database runs in its own
process, one after the other. The width of its graph's walk is the smallest that reaches `--recall` on half of the
queries; times are medians of single calls over the other half. Recall@10 is against exact search among the rows that
match. "first" is a condition asked for the first time, "again" the median of the queries after it. "add 1" and
"delete 1" are one change, durable where the database is one, and a search that must see it. Peak memory is that of
the whole process.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import resource
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
from neighbours import DATABASES, Database, Ids, Vectors
from rich.console import Console
from rich.table import Table

SIFT = Path(os.environ.get("XMR_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")) / "sift"
K, BUCKETS, CHANGES = 10, 1_000, 10
SHARES = {"50 %": 500, "5 %": 50, "0.1 %": 1}  # of the rows, and the bucket below which they lie
COLUMNS = {
    "load_s": "load s",
    "build_s": "build s",
    "reopen_ms": "reopen ms",
    "effort": "ef",
    "recall": "recall",
    "single_ms": "one ms",
    "batch_ms": "batch ms/query",
    **{f"{share} again_ms": f"{share} ms" for share in SHARES},
    **{f"{share} first_ms": f"{share} first" for share in SHARES},
    **{f"{share} recall": f"{share} recall" for share in SHARES},
    **{f"{share} short": f"{share} short of k" for share in SHARES},
    "insert_ms": "add 1 ms",
    "delete_ms": "delete 1 ms",
    "disk_mb": "disk MB",
    "memory_mb": "peak MB",
}


def data(args: argparse.Namespace) -> tuple[Vectors, Ids, Vectors]:
    """(n, d) rows, (n,) their buckets, (q, d) queries."""
    rows = np.load(args.vectors, mmap_mode="r")
    vectors = np.ascontiguousarray(rows[: args.rows], np.float32)
    queries = np.ascontiguousarray(np.load(args.queries, mmap_mode="r")[: 2 * args.searches], np.float32)
    return vectors, np.random.default_rng(args.seed).integers(0, BUCKETS, len(vectors)), queries


def truth(vectors: Vectors, queries: Vectors, allowed: Ids) -> Ids:
    """(q, k) the exact nearest among the rows allowed."""
    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors[allowed])
    found = index.search(queries, min(K, len(allowed)))[1]
    return allowed[found]


def recall(found: list[Any], true: Ids) -> float:
    hits = [len(np.intersect1d(np.asarray(ids).ravel(), row)) for ids, row in zip(found, true, strict=True)]
    return sum(hits) / true.size


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def each(database: Database, queries: Vectors, below: int | None = None) -> tuple[list[float], list[Any]]:
    """Milliseconds and ids of each query, asked one by one."""
    both = [timed(lambda query=query: database.search(query, K, below)) for query in queries]
    return [taken * 1e3 for taken, _ in both], [ids for _, ids in both]


def choose(database: Database, queries: Vectors, true: Ids, wanted: float) -> None:
    """The smallest width of the walk that reaches the recall wanted, or the largest."""
    for effort in database.efforts:
        database.effort = effort
        if recall(each(database, queries)[1], true) >= wanted:
            return


def change(database: Database, vectors: Vectors, queries: Vectors) -> dict[str, float]:
    """The median of one row added, and one deleted, with the search that sees it."""
    added, deleted = [], []
    n = len(vectors)
    for number, query in enumerate(queries[:CHANGES]):

        def add(item: int = n + number, query: Vectors = query) -> Any:
            database.insert(item, query)
            return database.search(query, K)

        taken, ids = timed(add)
        if n + number not in np.asarray(ids).ravel():
            raise SystemExit(f"{database.name} does not find what was added")
        added.append(taken * 1e3)
    figures = {"insert_ms": statistics.median(added)}
    for number, query in enumerate(queries[:CHANGES]):

        def forget(item: int = n + number, query: Vectors = query) -> Any:
            database.delete(item)
            return database.search(query, K)

        try:
            taken, ids = timed(forget)
        except NotImplementedError:
            return figures
        if n + number in np.asarray(ids).ravel():
            raise SystemExit(f"{database.name} finds what was deleted")
        deleted.append(taken * 1e3)
    return figures | {"delete_ms": statistics.median(deleted)}


def filtered(database: Database, vectors: Vectors, buckets: Ids, queries: Vectors) -> dict[str, float]:
    """Times, recall and missing hits of each share of rows; empty where the database has no filter."""
    figures: dict[str, float] = {}
    for share, below in SHARES.items():
        true = truth(vectors, queries, np.flatnonzero(buckets < below))
        try:
            taken, found = each(database, queries, below)
        except NotImplementedError:
            return {}
        figures[f"{share} first_ms"], figures[f"{share} again_ms"] = taken[0], statistics.median(taken[1:])
        figures[f"{share} recall"] = recall(found, true)
        figures[f"{share} short"] = sum(true.shape[1] - np.sum(np.asarray(ids).ravel() >= 0) for ids in found)
    return {name: float(value) for name, value in figures.items()}


def measure(kind: type[Database], args: argparse.Namespace) -> dict[str, float]:
    """All figures of one database, in this process."""
    vectors, buckets, queries = data(args)
    true = truth(vectors, queries, np.arange(len(vectors)))
    tuning, asked = queries[: args.searches], queries[args.searches :]
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        database = kind(Path(folder))
        figures = {"load_s": timed(lambda: database.load(vectors, buckets))[0], "build_s": timed(database.build)[0]}
        choose(database, tuning, true[: args.searches], args.recall)
        database.close()
        figures["disk_mb"] = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file()) / 1e6
        opened = timed(lambda: (database.open(), database.search(asked[0], K)))[0]
        figures |= {"reopen_ms": opened * 1e3, "effort": database.effort}
        taken, found = each(database, asked)
        figures |= {"single_ms": statistics.median(taken), "recall": recall(found, true[args.searches :])}
        figures["batch_ms"] = timed(lambda: database.batch(asked, K))[0] * 1e3 / len(asked)
        figures |= filtered(database, vectors, buckets, asked)
        figures |= change(database, vectors, asked)
        figures["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        database.close()
    return figures


def alone(kind: type[Database]) -> dict[str, Any]:
    """What a process of its own measures, or why it could not."""
    if importlib.util.find_spec(kind.package) is None:
        return {"failed": f"{kind.package} is not installed"}
    command = [sys.executable, __file__, *sys.argv[1:], "--child", kind.name]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["?"])[-1]}
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def shown(results: dict[str, dict[str, Any]], console: Console) -> None:
    """A row a figure, a column a database."""
    table = Table(title=f"k = {K}; filters by a condition on a column; medians of single calls")
    table.add_column("")
    for kind in DATABASES:
        if kind.name in results:
            table.add_column(kind.name if kind.durable else f"{kind.name} (memory)", justify="right")
    for key, title in COLUMNS.items():
        table.add_row(title, *(_figure(figures.get(key)) for figures in results.values()))
    console.print(table)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}" if value < 10 else f"{value:,.0f}"


def written(results: dict[str, dict[str, Any]], file: Path) -> None:
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["database", *COLUMNS])
        writer.writerows([name, *(figures.get(key, "") for key in COLUMNS)] for name, figures in results.items())


def plotted(results: dict[str, dict[str, Any]], file: Path) -> None:
    """Milliseconds of a search, plain and filtered, and of one row added, as bars on a logarithmic axis."""
    import matplotlib.pyplot as plt

    keys = ["single_ms", *(f"{share} again_ms" for share in SHARES), "insert_ms", "reopen_ms"]
    figure, axis = plt.subplots(figsize=(11, 4.5), layout="constrained")
    width = 0.8 / len(results)
    for number, (name, figures) in enumerate(results.items()):
        places = np.arange(len(keys)) + (number - (len(results) - 1) / 2) * width
        axis.bar(places, [figures.get(key, np.nan) for key in keys], width, label=name)
    axis.set(yscale="log", ylabel="milliseconds (median)", xticks=range(len(keys)))
    labels = ["one query", *(f"filter {share}" for share in SHARES), "add one, search", "reopen, first answer"]
    axis.set_xticklabels(labels)
    axis.grid(axis="y", alpha=0.3)
    axis.legend(ncols=5, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1))
    figure.savefig(file, dpi=120)


def main() -> None:
    names = [kind.name for kind in DATABASES]
    parser = argparse.ArgumentParser(description="Embedded vector databases side by side.")
    parser.add_argument("--vectors", type=Path, default=SIFT / "base.npy")
    parser.add_argument("--queries", type=Path, default=SIFT / "query.npy")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--searches", type=int, default=300, help="queries to time, and as many to choose ef by")
    parser.add_argument("--recall", type=float, default=0.99)
    parser.add_argument("--seed", type=int, default=0, help="of the buckets")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--folder", type=Path, help="where databases are written; the system's temporary folder")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--child", choices=names, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(next(kind for kind in DATABASES if kind.name == args.child), args)))
        return
    console, results = Console(width=200), {}
    for kind in DATABASES:
        if kind.name in args.only:
            figures = alone(kind)
            if "failed" in figures:
                console.print(f"{kind.name} left out: {figures['failed']}", highlight=False)
            else:
                results[kind.name] = figures
                if args.csv:  # after each, so that a run that is cut off leaves what it has
                    written(results, args.csv)
    shown(results, console)
    if args.plot:
        plotted(results, args.plot)


if __name__ == "__main__":
    main()
