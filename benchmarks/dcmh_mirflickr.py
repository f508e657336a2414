"""DCMH on MIRFLICKR-25K by the paper's protocol, through the library: figures beside chance and the published row.

    python benchmarks/dcmh_mirflickr.py mirflickr25k/ [--bits 16 32 64] [--seed 0] [--file mir.duckdb]

Query 2,000, database 18,015, training 10,000, of which the encoder holds some out to choose its epoch; the queries
choose nothing. Picture codes are compared with text codes of the database, and the other way round. The picture net
is EfficientNet-Lite0, frozen, with a learnt layer, where the paper trained CNN-F whole: so the rows are neighbours, not
a repetition.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

import xmr_core as xmr
from xmr_core import recipes
from xmr_core.library.run import LibraryRun
from xmr_core.progress import encode_cached, use_run

PUBLISHED = {16: (0.7410, 0.7827), 32: (0.7465, 0.7900), 64: (0.7485, 0.7932)}  # Jiang & Li, CVPR 2017, DCMH


def features(db: xmr.Library, console: Console) -> None:
    """Read, decode and encode every picture that has no features yet."""
    backbone = recipes.component("encoder", "lite0")
    assert isinstance(backbone, xmr.Encoder)
    pictures = db.store.items(db.store.ids("image"), "image")
    start = time.perf_counter()
    with LibraryRun(db.store, "features", progress=True) as run, use_run(run):
        encode_cached(backbone, pictures)
    taken = time.perf_counter() - start
    console.print(f"features of {len(pictures):,} pictures: {taken:.0f} s, {len(pictures) / taken:.0f} a second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bits", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--options", default="", help="more options of dcmh, like 'epochs=20, hidden=4096'")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--file", type=Path, help="keep the library here")
    args = parser.parse_args()
    console = Console(width=140)
    title = f"MAP, full Hamming ranking, MIRFLICKR-25K, seed {args.seed}"
    table = Table("bits", "direction", "MAP", "published", "chance", "fit", "peak memory", title=title)
    with tempfile.TemporaryDirectory() as folder, xmr.open(args.file or Path(folder) / "mir.duckdb") as db:
        console.print(db.add(xmr.datasets.mirflickr25k(args.folder)))
        features(db, console)
        for bits in args.bits:
            options = ", ".join(part for part in (f"bits={bits}", args.options) if part)
            start = time.perf_counter()
            space = db.fit(f"dcmh({options}) >> sign >> hamming", name=f"dcmh{bits}", seed=args.seed)
            taken = time.perf_counter() - start
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            console.print(space)
            for figure, published in zip(db.evaluate(space.name).figures, PUBLISHED.get(bits, ("", "")), strict=True):
                way = f"{figure.queries} to {figure.database}"
                row = (str(bits), way, f"{figure.value:.4f}", str(published), f"{figure.chance:.4f}")
                table.add_row(*row, f"{taken:.0f} s", f"{peak:.1f} GB")
    console.print(table)


if __name__ == "__main__":
    main()
