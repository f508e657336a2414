"""Writes the golden library of the present format, which the tests of every later format open and migrate.

    python tests/golden/write.py

writes `format<N>.duckdb.xz` and `format<N>.json` beside this file, N being the format; it refuses to replace them. Run
it before the format is raised: a library of a format that no code writes any more cannot be written again.

The library has, few of each, what a format says how to keep: images, texts and named vectors, metadata of all types,
links, labels, an item that was deleted and one that was replaced, synced sources, spaces with and without an encoder,
of two versions, not published, an answerer, attention, runs and figures. The JSON says what it answers.
"""

from __future__ import annotations

import datetime
import json
import lzma
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import xmr_core as xmr
from xmr_core.store import AttentionRows
from xmr_storage.schema import FORMAT_VERSION

HERE = Path(__file__).parent
N, DIM, K = 30, 16, 5
SPACES = {
    "flat": "precomputed(dim=16) >> flat",
    "bits": "precomputed(dim=16) >> itq(bits=8) >> hamming",
    "wide": "precomputed(dim=16) >> hyperplanes(bits=128) >> hamming",
    "pq": "precomputed(dim=16) >> pq(bytes=4, bits=4)",
    "opq": "precomputed(dim=16) >> identity(metric='l2') >> pq(bytes=4, bits=4, rotation='opq')",
    "lsh": "precomputed(dim=16) >> lsh(tables=2, planes=3)",
    "kdtree": "precomputed(dim=16) >> identity(metric='l2') >> kdtree",
    "lattice": "precomputed(dim=16) >> pca(dim=8) >> lattice(r2=3)",
    "named": "precomputed(name='clip') >> flat",
    "aligned": "precomputed(dim=16) >> cca(dim=4) >> flat",
}
MADE = "made"  # the space of embeddings that were given with their ids


def fill(file: Path, folder: Path) -> None:
    """Write the library."""
    rng = np.random.default_rng(2)
    images = rng.normal(size=(N, DIM)).astype(np.float32)
    texts = (images + 0.3 * rng.normal(size=(N, DIM))).astype(np.float32)
    labels = np.eye(3, dtype=np.uint8)[np.arange(N) % 3]
    days = [datetime.date(2024, 1, 1) + datetime.timedelta(days=row) for row in range(N)]
    with xmr.open(file, progress=False) as db:
        sides = [
            xmr.Items(
                modality,
                values,
                [f"{modality}{row}" for row in range(N)],
                metadata={
                    "split": ["train" if row % 3 else "test" for row in range(N)],
                    "year": np.arange(N) + 2000,
                    "share": np.linspace(0, 1, N),
                    "day": days,
                    "seen": [bool(row % 2) for row in range(N)],
                    "tags": [["a", "b"][: row % 3] for row in range(N)],
                },
                labels=labels,
                vectors={"clip": values[:, :4]},
            )
            for modality, values in (("image", images), ("text", texts))
        ]
        db.add(xmr.Pairs(*sides, np.stack([np.arange(N)] * 2, axis=1), label_names=["x", "y", "z"]))
        for name, recipe in SPACES.items():
            db.fit(recipe, name=name)
        db.fit(SPACES["flat"], name="flat", seed=1, publish=False)
        db.add_embeddings(rng.integers(0, 256, (9, 2), dtype=np.uint8), MADE, ids=np.arange(1000, 1009))
        db.delete([7])
        db.upsert(xmr.Items("image", images[:1] + 1, ["image0"]))
        lines = folder / "lines.csv"
        lines.write_text("text\na red square\na blue circle\n")
        db.sync(lines, encode=False)
        weights = AttentionRows(
            np.array([1, 1]), np.array([0, 0]), np.array([0, 1]), ["a", "b"], np.array([0.25, 0.75], np.float32)
        )
        db.store.put_attention("flat", 1, weights)
        db.evaluate("flat")


def answers(db: xmr.Library) -> dict[str, Any]:
    """What the library answers: by space, the nearest of an image and of a text, in Python and in SQL."""
    told: dict[str, Any] = {}
    for name in [*SPACES, MADE]:
        space = db.space(name)
        told[name] = {"fingerprint": space.record.fingerprint, "sql": None}
        if name == MADE:
            query = space.codes("image").values[:1]
            told[name]["image"] = _hits(db.search(vector=query, k=K, space=name))
        else:
            told[name] |= {
                side: _hits(db.search(item=item, k=K, space=name)) for side, item in (("image", 1), ("text", N))
            }
        item = 1000 if name == MADE else 1
        told[name]["sql"] = db.sql(f"SELECT item_id, distance FROM xmr.like_{name}({item}, {K})").fetchall()
    catalog = db.sql("SELECT item_id, key, text, split, year, share, CAST(day AS VARCHAR), seen, tags FROM xmr.catalog "
                     "ORDER BY item_id").fetchall()  # fmt: skip
    return {"format": FORMAT_VERSION, "spaces": told, "catalog": catalog, "counts": dict(db.store.counts())}


def _hits(found: xmr.Results) -> tuple[list[int], list[float]]:
    return found.ids[0].tolist(), found.distances[0].tolist()


def main() -> None:
    """Write both files."""
    to = HERE / f"format{FORMAT_VERSION}"
    if to.with_suffix(".json").exists():
        raise SystemExit(f"{to}.json is there: it says what was written when this format was the present one")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "library.duckdb"
        fill(file, Path(folder))
        with xmr.open(file, progress=False) as db:
            told = answers(db)
            db.compact()
        to.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n")
        to.with_suffix(".duckdb.xz").write_bytes(lzma.compress(file.read_bytes(), preset=9))


if __name__ == "__main__":
    main()
