"""Whether a space still encodes as it did: a few of its items are encoded again and compared with their codes.

Fingerprints cover what is stored of a component. They cannot see what is not: weights that a package keeps elsewhere
and does not declare, another BLAS, a release that computes something else under the same version.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import DataError
from xmr_core.images import check_images
from xmr_core.library.content import are_vectors
from xmr_core.library.installed import remedy_of
from xmr_core.library.spaces import Space
from xmr_core.store import Store
from xmr_core.types import IMAGE, Codes, Items

__all__ = ["drift"]

SAMPLE = 16  # items of each modality, spread over all
CLOSE = 1e-3  # relative to a vector's length: what rounding may change of a code that is a vector
ROUNDED = 0.25  # the share of codes that may differ in one bit, or one number, each: values that lie on a boundary


def drift(store: Store, space: Space) -> list[str]:
    """A sentence for each modality of which sampled items get other codes than the space holds."""
    if space.pipeline.encoder is None:
        return []
    found = []
    for modality in space.pipeline.modalities:
        before, after = _twice(store, space, modality)
        count = int(_differ(before, after).sum()) if len(after) else 0
        if count:
            found.append(
                f"{count} of {len(after)} sampled {modality}s get other codes in space {space.name!r} than it holds: "
                "other weights or another BLAS are installed, or a component computes something else"
                f"{remedy_of(space.record)}; else fit again"
            )
    return found


def _twice(store: Store, space: Space, modality: str) -> tuple[Codes, Codes]:
    """The codes that the space holds of sampled items, and those that they get now."""
    held = store.get_codes(space.name, space.record.version, modality)
    there = np.intersect1d(held.ids, store.ids(modality), assume_unique=True)
    sample = there[np.unique(np.linspace(0, len(there) - 1, SAMPLE).astype(np.int64))] if len(there) else there
    items = replace(store.items(sample, modality), stored=False)  # what is cached would be as it was
    after = _encoded(space, _readable(items))
    if after is None:
        nothing = held.take(np.arange(0))
        return nothing, nothing
    return held.take(np.searchsorted(held.ids, after.ids)), after


def _readable(items: Items, without: Collection[str] = ()) -> Items:
    """The items without those of some keys, and without images that can no longer be read."""
    pixels = items.modality == IMAGE and not are_vectors(items.data)
    lost = {*without, *(check_images(items) if pixels else ())}
    return items.take(np.array([row for row, key in enumerate(items.keys) if key not in lost], np.int64))


def _encoded(space: Space, items: Items) -> Codes | None:
    """The codes that items get now, but for those that the space refuses; None where it takes none of them."""
    while len(items):
        try:
            return space.pipeline.encode(items)
        except DataError as error:
            if not set(error.keys) & set(items.keys):
                return None
            items = _readable(items, error.keys)
    return None


def _differ(before: Codes, after: Codes) -> NDArray[np.bool_]:
    """(n,) which codes differ by more than rounding explains: in several bits or numbers, or many codes in one each."""
    changes = np.zeros(len(after), np.int64)
    for name, column in before.columns.items():
        changes += _changes(column, after.columns[name], before.layout.name == "bits")
    return changes > (0 if (changes > 0).mean() > ROUNDED else 1)


def _changes(one: NDArray[Any], other: NDArray[Any], bits: bool) -> NDArray[np.int64]:
    """(n,) how many bits or numbers of a column differ; 2 for a vector that is another."""
    if one.dtype.kind == "f":
        one, other = (np.asarray(side, np.float64).reshape(len(side), -1) for side in (one, other))
        length = np.maximum(np.linalg.norm(one, axis=1), np.linalg.norm(other, axis=1))
        return np.where(np.linalg.norm(one - other, axis=1) > CLOSE * length, 2, 0)
    if bits:
        return np.asarray(np.bitwise_count(one ^ other), np.int64)
    return np.asarray((one != other).reshape(len(one), -1).sum(axis=1), np.int64)
