"""One call that adds or changes items: which are known, which are new, and what becomes of each."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import DataError, named
from xmr_core.library import region_cache
from xmr_core.library.content import Prepared, are_vectors, check_keys, prepare
from xmr_core.library.run import blocks
from xmr_core.progress import current_run
from xmr_core.store import ItemRows, Store
from xmr_core.types import IMAGE, TEXT, Items

__all__ = ["Added", "Adding", "Upserting"]

BLOCK = 2000  # images that are checked and stored at once
LIGHT_BLOCK = 20_000  # texts, or items that are vectors
DIGITS = 16  # of a content's sha256, where it is the key

Rows = NDArray[np.int64]
Spaces = Sequence[tuple[str, int]]  # name and version
Matches = tuple[Rows, NDArray[np.object_]]  # (n,) ids, -1 where new, and (n,) the stored content


@dataclass(frozen=True)
class Added:
    """What `Library.add` or `Library.upsert` did: how many items were new, how many were there already, and what was
    left out and why.

    `updated` of the known items changed: they got other metadata, labels or a file elsewhere, or vectors that they
    lacked; by `upsert` also other content or vectors. `skipped` maps keys of items that cannot be used to the reason,
    `uncoded` those that have no code in some space, for want of a vector.
    """

    new: int = 0
    known: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    updated: int = 0
    uncoded: dict[str, str] = field(default_factory=dict)

    @property
    def unchanged(self) -> int:
        """How many of the known items are as they were."""
        return self.known - self.updated

    def __add__(self, other: Added) -> Added:
        return Added(
            self.new + other.new,
            self.known + other.known,
            self.skipped | other.skipped,
            self.updated + other.updated,
            self.uncoded | other.uncoded,
        )


class Adding:
    """One call of `add`: items go into the store block by block, and ids count on from the last.

    A known item keeps what it is: one that is given with other content, or another vector, is refused.
    """

    def __init__(self, store: Store, label_names: Sequence[str]) -> None:
        self.store, self.label_names = store, label_names
        self.first = self.next = store.next_id()  # ids from the first on are new
        self.keys: set[str] = set()
        self._touched: dict[str, list[Rows]] = {}

    def touched(self) -> dict[str, Rows]:
        """The ids of each modality that were given, new or known."""
        none: Rows = np.empty(0, np.int64)
        modalities = {IMAGE, TEXT, *self._touched}
        return {
            modality: np.unique(np.concatenate([none, *self._touched.get(modality, [])])) for modality in modalities
        }

    def add(self, items: Items, on_error: str) -> tuple[Added, Rows]:
        """The report, and (n,) the ids that the items have now, -1 where skipped."""
        added, ids = Added(), [np.empty(0, np.int64)]
        columns = self.store.typed_metadata(items.metadata)  # over all rows, so that a column has one type
        bare = replace(items, metadata={})
        stored = self._stored(items)
        size = BLOCK if items.modality == IMAGE and not are_vectors(items.data) else LIGHT_BLOCK
        for rows in current_run().track(blocks(len(items), size), f"adding {items.modality}s", len(items), len):
            block = bare.take(rows)
            prepared = self._prepared(block)
            if not items.keyed:
                block = replace(block, keys=_usual_keys(block, prepared))
            self.keys.update(block.keys)
            if prepared.bad and on_error == "refuse":
                raise _refusal(block, prepared)
            known = (
                self.store.match(block.modality, block.keys) if stored is None else (stored[0][rows], stored[1][rows])
            )
            report, assigned = self._block(block, {n: _at(own, rows) for n, own in columns.items()}, prepared, known)
            added += report
            ids.append(assigned)
        return added, np.concatenate(ids)

    def _stored(self, items: Items) -> Matches | None:
        """What is stored under the keys of all items, as each question reads all that is stored; None where a block
        may hold keys of another, or where keys are known only when the content has been read."""
        if not items.keyed or len(set(items.keys)) < len(items):
            return None
        return self.store.match(items.modality, items.keys)

    def _prepared(self, block: Items) -> Prepared:
        """What must be known of items before they are stored."""
        return prepare(block)

    def _block(
        self, block: Items, columns: Mapping[str, Any], prepared: Prepared, known: Matches
    ) -> tuple[Added, Rows]:
        good = np.setdiff1d(np.arange(len(block)), list(prepared.bad), assume_unique=True)
        ids, contents = known
        other = np.array([row for row in good[ids[good] >= 0] if contents[row] != prepared.content[row]], np.int64)
        if len(other):
            self._check_replaced(block, other, ids[other])
        firsts = good[
            check_keys([block.keys[row] for row in good], [prepared.content[row] for row in good], block.modality)
        ]
        new, old, other = firsts[ids[firsts] < 0], firsts[ids[firsts] >= 0], np.intersect1d(firsts, other)
        ids[new] = self.next + np.arange(len(new))
        self.next += len(new)
        if len(firsts) < len(good):  # keys that are there twice
            assigned = {block.keys[row]: ids[row] for row in new}
            ids = np.array([assigned.get(key, ids[row]) for row, key in enumerate(block.keys)], np.int64)
            block = _labelled_alike(block, good)
        ids[list(prepared.bad)] = -1
        self._touched.setdefault(block.modality, []).append(ids[firsts])
        if len(new):
            self._insert(block, columns, prepared, new, ids)
        changed = self._update(block, columns, prepared, old, other, ids) if len(old) else old
        skipped = {block.keys[row]: reason for row, reason in prepared.bad.items()}
        return Added(len(new), len(good) - len(new), skipped, len(changed)), ids

    def _insert(self, block: Items, columns: Mapping[str, Any], prepared: Prepared, new: Rows, ids: Rows) -> None:
        metadata = {name: _at(column, new) for name, column in columns.items()}
        self.store.put_items(_item_rows(block, prepared, new, ids), metadata)
        if prepared.vectors is not None:
            self.store.put_features("precomputed", ids[new], prepared.vectors[new])
        for name in _vector_names(block):
            have, vectors = block.vectors_of(name)
            chosen = np.zeros(len(block), bool)
            chosen[new] = True
            if (have & chosen).any():
                self.store.put_vectors(block.modality, name, ids[have & chosen], vectors[chosen[have]])
        if block.labels is not None:
            self.store.put_labels(ids[new], block.labels[new], self.label_names)

    def _update(
        self, block: Items, columns: Mapping[str, Any], prepared: Prepared, old: Rows, other: Rows, ids: Rows
    ) -> Rows:
        """Give known items what they are given now, where it is not missing; the ids of those that changed, each once.

        `other` are the rows among `old` whose content is another than is stored.
        """
        moved = np.union1d(other, self._moved(prepared, old, ids))
        if len(moved):
            self._replace(block, prepared, moved, other, ids)
        told = {name: _at(column, old) for name, column in columns.items()}
        changed = [ids[moved], self.store.update_metadata(ids[old], told) if told else ids[:0]]
        changed += [self._give_vectors(block, name, old, ids) for name in _vector_names(block)]
        if block.labels is not None:
            changed.append(self._relabel(ids[old], block.labels[old]))
        return np.unique(np.concatenate(changed))

    def _moved(self, prepared: Prepared, old: Rows, ids: Rows) -> Rows:
        """The rows whose file is the same as before, and lies elsewhere now."""
        given = [row for row in old.tolist() if prepared.source[row] is not None]
        if not given:
            return old[:0]
        before = self.store.describe(ids[given])["source"]
        moved = [row for row, path in zip(given, before, strict=True) if path not in (None, prepared.source[row])]
        return np.array(moved, np.int64)

    def _replace(self, block: Items, prepared: Prepared, moved: Rows, other: Rows, ids: Rows) -> None:
        """Write the content of known items again: of those that moved, among which are those of other content."""
        if self.store.replaces:
            self.store.replace_items(_item_rows(block, prepared, moved, ids))

    def _relabel(self, ids: Rows, labels: NDArray[np.uint8]) -> Rows:
        """Set the labels of known items; the ids of those that had others."""
        before, counts = self.store.labels(ids, self.label_names), self.store.labels(ids).sum(axis=1)
        other = np.flatnonzero((before != labels).any(axis=1) | (counts != labels.sum(axis=1)))
        if len(other):
            self.store.put_labels(ids[other], labels[other], self.label_names)
        return ids[other]

    def _give_vectors(self, block: Items, name: str, old: Rows, ids: Rows) -> Rows:
        """Give known items the vectors of one name that they lack; the ids of those that got one, or another."""
        given = block.take(old)
        have, vectors = given.vectors_of(name)
        stored, before = self.store.get_vectors(block.modality, name, ids[old])
        both, lacking = have & stored, have & ~stored
        changed = ids[:0]
        if both.any():
            other = (vectors[both[have]] != before[both[stored]]).any(axis=1)
            rows = np.flatnonzero(both)[other]
            if len(rows):
                self._replace_vectors(given, name, rows, ids[old][rows], vectors[both[have]][other])
                changed = ids[old][rows]
        if lacking.any():
            self.store.put_vectors(block.modality, name, ids[old][lacking], vectors[lacking[have]])
        return np.concatenate([changed, ids[old][lacking]])

    def _check_replaced(self, block: Items, rows: Rows, ids: Rows) -> None:
        """Raise DataError where the content of known items, given at these rows as another, may not be replaced."""
        keys = [block.keys[row] for row in rows]
        raise DataError(
            f"{named(keys)}: already there with other content; upsert replaces it (xmr add --update), or give new keys",
            keys,
        )

    def _replace_vectors(self, given: Items, name: str, rows: Rows, ids: Rows, vectors: NDArray[np.float32]) -> None:
        """Replace vectors of known items, or raise DataError."""
        keys = [given.keys[row] for row in rows]
        raise DataError(
            f"{named(keys)}: already there with another vector {name!r}; upsert replaces it (xmr add --update), or "
            "give new keys",
            keys,
        )


class Upserting(Adding):
    """One call of `upsert`: known items become what is given now, under the ids that they have.

    `digests` are those of the replaced images whose regions are kept, to be forgotten once all is committed. `lost`
    says of items that lost a code in a space that cannot encode them again, by key, why.
    """

    def __init__(self, store: Store, label_names: Sequence[str], unencoded: Callable[[], Spaces]) -> None:
        """`unencoded` tells the published spaces that have no encoder, once something is replaced."""
        super().__init__(store, label_names)
        self._unencoded = functools.cache(unencoded)
        self.digests: list[NDArray[np.bytes_]] = []
        self.lost: dict[str, str] = {}

    def _check_replaced(self, block: Items, rows: Rows, ids: Rows) -> None:
        twice = rows[np.isin(ids, np.concatenate([ids[:0], *self._touched.get(block.modality, [])]))]
        if len(twice):
            keys = [block.keys[row] for row in twice]
            raise DataError(f"{named(keys)}: one key names two different {block.modality}s", keys)

    def _replace(self, block: Items, prepared: Prepared, moved: Rows, other: Rows, ids: Rows) -> None:
        self.digests.append(region_cache.kept_of(self.store, ids[other]))
        self._lose([block.keys[row] for row in other], block.modality, ids[other])
        self.store.replace_items(_item_rows(block, prepared, moved, ids))
        if prepared.vectors is not None:
            self.store.put_features("precomputed", ids[other], prepared.vectors[other])

    def _replace_vectors(self, given: Items, name: str, rows: Rows, ids: Rows, vectors: NDArray[np.float32]) -> None:
        self._lose([given.keys[row] for row in rows], given.modality, ids)
        self.store.replace_vectors(given.modality, name, ids, vectors)

    def _lose(self, keys: Sequence[str], modality: str, ids: Rows) -> None:
        """Note which of these items have a code that nothing here can make again."""
        for name, version in self._unencoded():
            coded = self.store.get_codes(name, version, modality, ids).ids
            reason = f"space {name!r} has no encoder: add_embeddings gives it one of the new content"
            self.lost |= {key: reason for key, item in zip(keys, ids.tolist(), strict=True) if item in coded}


def _item_rows(block: Items, prepared: Prepared, rows: Rows, ids: Rows) -> ItemRows:
    whole = (block.keys, prepared.content, prepared.source, prepared.text, prepared.blob)
    return ItemRows(block.modality, ids[rows], *(_at(column, rows) for column in whole))


def _labelled_alike(block: Items, rows: Rows) -> Items:
    """The items, those of one key with the labels of all of them."""
    if block.labels is None:
        return block
    numbers = np.unique([block.keys[row] for row in rows], return_inverse=True)[1]
    together = np.zeros_like(block.labels)
    np.maximum.at(together, numbers, block.labels[rows])
    labels = block.labels.copy()
    labels[rows] = together[numbers]
    return replace(block, labels=labels)


def _refusal(block: Items, prepared: Prepared) -> DataError:
    keys = [block.keys[row] for row in prepared.bad]
    return DataError(
        f"{len(keys)} of these {block.modality}s cannot be used: {named(keys)} "
        f"({next(iter(prepared.bad.values()))}); nothing was added; on_error='skip' leaves them out",
        keys,
    )


def _vector_names(items: Items) -> list[str]:
    return list(items.vectors) if isinstance(items.vectors, Mapping) else []


def _at(column: Any, rows: Rows) -> Any:
    """The values at these rows: of an array, of what has `take` as Arrow's columns do, or of a list."""
    if len(rows) == len(column) and len(rows) and rows[-1] - rows[0] == len(rows) - 1:  # all of it
        return column
    return column.take(rows) if hasattr(column, "take") else [column[row] for row in rows.tolist()]


def _usual_keys(items: Items, prepared: Prepared) -> list[str]:
    """The path of an image as it was given, else the beginning of the digest of the content."""
    return [
        str(data) if isinstance(data, (str, Path)) and items.modality == IMAGE else content[:DIGITS] or items.keys[row]
        for row, (data, content) in enumerate(zip(items.data, prepared.content, strict=True))
    ]
