"""A small library that stores are tried with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from xmr_core.components import Provider
from xmr_core.store import AttentionRows, ItemRows, PartRecord, RunRecord, SpaceRecord, Store
from xmr_core.types import IMAGE, TEXT, Codes, Head, Layout

__all__ = [
    "LARGE",
    "LAYOUTS",
    "ROLES",
    "attention_rows",
    "fill",
    "rows",
    "sample_answerer",
    "sample_codes",
    "sample_space",
    "seen",
]

LAYOUTS = (
    Layout.bits(128),
    Layout.bits(72),
    Layout.symbols(4, 8),
    Layout.symbols(3, 16),
    Layout.number(8, 40),
    Layout.vectors(5),
    Layout.opaque(11),
)
ROLES: tuple[Head, ...] = get_args(Head)
BROUGHT = (Provider("encoder", "part", "xmr-parts", "0.9"), Provider("encoder", "words", "xmr-trial", "1.2.post1"))
LARGE = 2**53 + 1  # no float64 holds it


def rows(modality: str, ids: Sequence[int] | range, **content: Sequence[Any]) -> ItemRows:
    """Items as a library stores them; their content is text unless `source` or `blob` is given."""
    n = len(ids)
    keys = [f"{modality}{i}" for i in ids]
    columns: dict[str, Sequence[Any]] = {"source": [None] * n, "text": [None] * n, "blob": [None] * n}
    columns |= content or {"text": [f"text of {key}, ünïcode ✓" for key in keys]}
    return ItemRows(modality, np.asarray(ids, np.int64), keys, [f"sha of {key}" for key in keys], **columns)


def sample_codes(layout: Layout, ids: Any, seed: int = 0) -> Codes:
    """Random codes of a layout."""
    rng, ids = np.random.default_rng(seed), np.asarray(ids, np.int64)
    if layout == Layout.vectors(layout.dim):
        return Codes.of_vectors(ids, rng.normal(size=(len(ids), layout.dim)).astype(np.float32))
    return Codes(ids, rng.integers(0, 256, (len(ids), layout.nbytes), np.uint8), layout)


def sample_space(name: str = "mine", version: int = 1, layout: Layout = LAYOUTS[0]) -> SpaceRecord:
    """A space of two components, whose states hold every type of array."""
    state: dict[str, NDArray[Any]] = {
        "float32": np.array([[1.5, -0.0], [np.nan, np.inf]], np.float32),
        "float64": np.array(0.1),
        "int64": np.array([-(2**63), 2**63 - 1]),
        "uint8": np.arange(256, dtype=np.uint8).reshape(2, 4, 32),
        "bool": np.array([True, False]),
        "text": np.array(["a", "", "ünïcode ✓"]),
        "empty": np.zeros((0, 3), np.float32),
    }
    parts = [
        PartRecord(
            "encoder", "words", {"least": 2, "name": "ü", "none": None, "many": [1.5, True]}, state, 3, "aa", BROUGHT
        ),
        PartRecord("indexer", "hamming", {}, {}, 1, "bb", BROUGHT[:1]),
    ]
    return SpaceRecord(name, version, f"words >> {name}", "cc", "hamming", layout, 2**40, parts=parts)


def sample_answerer(name: str = "mine", recipe: str = "words >> guess") -> SpaceRecord:
    """A space that answers questions, of two components."""
    parts = [
        PartRecord("encoder", "words", {"least": 2}, {"words": np.array(["what", "colour"])}, 3, "aa"),
        PartRecord("answerer", "guess", {}, {"means": np.eye(3, dtype=np.float32)}, 1, "dd"),
    ]
    return SpaceRecord(name, 0, recipe, "ee", seed=7, parts=parts)


def fill(store: Store) -> Store:
    """Four images (0 to 3), six texts (10 to 15), with links, labels, metadata, features, a space and its codes.

    And, where the store keeps such, a space of the same name that answers questions.
    """
    split = ["train", "train", "test", None]
    with store.transaction():
        store.put_items(rows(IMAGE, range(4), source=[f"/images/{i}.png" for i in range(4)]), {"split": split})
        store.put_items(rows(TEXT, range(10, 16)), {})
        store.put_links(np.array([0, 0, 1, 2, 3]), np.array([10, 11, 12, 13, 14]))
        store.put_labels(np.arange(4), np.array([[1, 0], [1, 1], [0, 1], [0, 0]], np.uint8), ["red", "green"])
        store.put_features("trial", np.arange(3), np.arange(12, dtype=np.float32).reshape(3, 4))
        store.put_space(sample_space())
        for modality, ids in ((IMAGE, np.arange(4)), (TEXT, np.arange(10, 16))):
            store.put_codes("mine", 1, modality, sample_codes(LAYOUTS[0], ids))
        store.publish("mine", 1)
        if store.keeps_answerers:
            store.put_space(sample_answerer())
        store.put_run(RunRecord("run1", "mine", 1, "fit", 1, {"loss": 0.5}, {"seed": 3}))
    return store


def seen(store: Store) -> dict[str, Any]:
    """All that a store of `fill` tells, as values that can be compared."""
    ids = store.ids()
    have, features = store.get_features("trial", ids)
    told: dict[str, Any] = {
        "ids": ids.tolist(),
        "described": {name: list(column) for name, column in store.describe(ids).items()},
        "links": store.links().tolist(),
        "labels": store.labels(ids, ["green", "red"]).tolist(),
        "counts": dict(store.counts()),
        "features": (have.tolist(), features.tobytes()),
        "next": store.next_id(),
        "runs": [vars(replace(run, created="")) for run in store.latest_runs(10)],
        "spaces": [vars(replace(space, created="")) for role in ROLES for space in store.spaces(role)],
    }
    for space in (space for role in ROLES for space in store.spaces(role)):
        name = f"{space.role} {space.name} {space.version}"
        for position, part in enumerate(store.load_space(space.name, space.version, space.role).parts):
            state = {key: (array.dtype.str, array.shape, array.tobytes()) for key, array in part.state.items()}
            told[f"part {name} {position}"] = {**vars(part), "state": state}
        for modality in (IMAGE, TEXT) if space.role == "indexer" else ():
            codes = store.get_codes(space.name, space.version, modality)
            told[f"codes {name} {modality}"] = (codes.ids.tobytes(), codes.values.tobytes())
    return told


def attention_rows() -> AttentionRows:
    """Three weights of two items of `fill`."""
    ids, steps, positions = np.array([0, 0, 12]), np.array([1, 1, 1]), np.array([0, 1, 0])
    return AttentionRows(ids, steps, positions, ["0,0", "0,1", "dog"], np.array([0.25, 0.75, 1.0], np.float32))
