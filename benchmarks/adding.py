"""What adding items costs: seconds and memory for Arrow tables of texts, vectors and two columns, of growing size.

    python benchmarks/adding.py [--rows 10000 100000 1000000] [--dim 128]

Each size runs in a process of its own. CPU time counts on a busy machine; the time a row should not grow with the rows.
Memory is what the process takes at most above what it took before, once the table was there; `times` is that over the
bytes of the table.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

import xmr_core as xmr

KIB = 1 if sys.platform == "darwin" else 1024  # of the unit in which the system tells memory, in bytes
WARM = 100  # rows that are added before: imports and the making of the tables are not measured


def rows(start: int, stop: int, dim: int) -> pa.Table:
    """Texts with keys, two columns, and vectors of `dim` numbers."""
    n = stop - start
    numbers = np.random.default_rng(start).standard_normal(n * dim, dtype=np.float32)
    return pa.table(
        {
            "key": [f"k{row}" for row in range(start, stop)],
            "text": [f"caption number {row}" for row in range(start, stop)],
            "owner": [f"owner {row % 7}" for row in range(start, stop)],
            "year": np.arange(start, stop) % 30 + 1990,
            "own": pa.FixedSizeListArray.from_arrays(pa.array(numbers), dim),
        }
    )


def peak() -> int:
    """The most memory that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB


def measure(n: int, dim: int) -> dict[str, float]:
    """One size, in this process."""
    with tempfile.TemporaryDirectory() as folder, xmr.open(Path(folder) / "added.duckdb", progress=False) as db:
        vectors = {"own": (None, "own")}
        db.add(rows(0, WARM, dim), vectors=vectors)
        table = rows(WARM, WARM + n, dim)
        before, wall, cpu = peak(), time.perf_counter(), time.process_time()
        added = db.add(table, vectors=vectors)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        assert added.new == n
        return {"wall": wall, "cpu": cpu, "bytes": table.nbytes, "peak": peak() - before}


def main() -> None:
    """Print a row for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        sys.stdout.write(json.dumps(measure(given.one, given.dim)))
        return
    table = Table("rows", "seconds", "CPU seconds", "CPU µs a row", "MB of the table", "MB more at most", "times")
    for n in given.rows:
        command = [sys.executable, __file__, "--one", str(n), "--dim", str(given.dim)]
        told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        size, most = told["bytes"] / 1e6, told["peak"] / 1e6
        table.add_row(
            f"{n:,}",
            f"{told['wall']:.2f}",
            f"{told['cpu']:.2f}",
            f"{told['cpu'] / n * 1e6:.1f}",
            f"{size:.0f}",
            f"{most:.0f}",
            f"{most / size:.2f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
