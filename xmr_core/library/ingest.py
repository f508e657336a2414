"""Adding and deleting items: all of a call, or on any error nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmr_core.datasets.readers import load
from xmr_core.errors import ConfigError, DataError, named
from xmr_core.library import region_cache
from xmr_core.library.content import Prepared, are_vectors, check_keys, prepare
from xmr_core.library.fitting import encode_missing, new_version, put_space
from xmr_core.library.run import blocks
from xmr_core.library.session import Session
from xmr_core.library.spaces import Space, check_name
from xmr_core.progress import current_run
from xmr_core.recipes import Pipeline, Recipe, as_pipeline
from xmr_core.registry import require
from xmr_core.search.condition import Where, as_condition
from xmr_core.store import ItemRows, Store
from xmr_core.types import IMAGE, TEXT, Codes, Embeddings, Ids, Items, Pairs, as_array, as_ids

__all__ = ["Added", "add", "add_embeddings", "as_embeddings", "delete"]

BLOCK = 2000  # images that are checked and stored at once
LIGHT_BLOCK = 20_000  # texts, or items that are vectors
DIGITS = 16  # of a content's sha256, where it is the key

Matches = tuple[NDArray[np.int64], NDArray[np.object_]]  # (n,) ids, -1 where new, and (n,) the stored content


@dataclass(frozen=True)
class Added:
    """What `Library.add` did: how many items were new, how many were there already, and what was left out and why.

    `updated` of the known items got other metadata, or vectors that they lacked. `skipped` maps keys of items that
    cannot be used to the reason, `uncoded` those that were added and have no code in some space, for want of a vector.
    """

    new: int = 0
    known: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    updated: int = 0
    uncoded: dict[str, str] = field(default_factory=dict)

    def __add__(self, other: Added) -> Added:
        return Added(
            self.new + other.new,
            self.known + other.known,
            self.skipped | other.skipped,
            self.updated + other.updated,
            self.uncoded | other.uncoded,
        )


def add(session: Session, given: object, on_error: str, encode: bool, options: Mapping[str, object]) -> Added:
    """See `Library.add`."""
    if on_error not in ("refuse", "skip"):
        raise ConfigError("on_error", on_error, "must be 'refuse' or 'skip'")
    source = load(given, on_error=on_error, **options)
    if isinstance(source, Items) and source.labels is not None:
        raise DataError("add: labels have names in Pairs alone; give Pairs, with an empty side if need be")
    sides = [source] if isinstance(source, Items) else [source.images, source.texts]
    names = () if isinstance(source, Items) else source.label_names
    with session.change():
        added, ids, adding = Added(skipped=dict(getattr(source, "skipped", {}))), [], _Adding(session.store, names)
        for items in sides:
            report, assigned = adding.add(items, on_error)
            added += report
            ids.append(assigned)
        if isinstance(source, Pairs):
            links = np.stack([ids[side][source.links[:, side]] for side in (0, 1)], axis=1)
            links = links[(links >= 0).all(axis=1)]
            session.store.put_links(links[:, 0], links[:, 1])
        if (added.new or added.updated) and encode:
            uncoded: dict[str, str] = {}
            encode_missing(session, uncoded, adding.touched())
            added += Added(uncoded={key: reason for key, reason in uncoded.items() if key in adding.keys})
    return added


class _Adding:
    """One call of `add`: items go into the store block by block, and ids count on from the last."""

    def __init__(self, store: Store, label_names: Sequence[str]) -> None:
        self.store, self.label_names = store, label_names
        self.next = store.next_id()
        self.keys: set[str] = set()
        self._touched: dict[str, list[NDArray[np.int64]]] = {}

    def touched(self) -> dict[str, NDArray[np.int64]]:
        """The ids of each modality that were given, new or known."""
        none: NDArray[np.int64] = np.empty(0, np.int64)
        modalities = {IMAGE, TEXT, *self._touched}
        return {
            modality: np.unique(np.concatenate([none, *self._touched.get(modality, [])])) for modality in modalities
        }

    def add(self, items: Items, on_error: str) -> tuple[Added, NDArray[np.int64]]:
        """The report, and (n,) the ids that the items have now, -1 where skipped."""
        added, ids = Added(), [np.empty(0, np.int64)]
        columns = self.store.typed_metadata(items.metadata)  # over all rows, so that a column has one type
        bare = replace(items, metadata={})
        stored = self._stored(items)
        size = BLOCK if items.modality == IMAGE and not are_vectors(items.data) else LIGHT_BLOCK
        for rows in current_run().track(blocks(len(items), size), f"adding {items.modality}s, {size:,} at a time"):
            block = bare.take(rows)
            prepared = prepare(block)
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

    def _block(
        self, block: Items, columns: Mapping[str, Any], prepared: Prepared, known: Matches
    ) -> tuple[Added, NDArray[np.int64]]:
        good = np.setdiff1d(np.arange(len(block)), list(prepared.bad), assume_unique=True)
        ids, contents = known
        changed = [block.keys[row] for row in good[ids[good] >= 0] if contents[row] != prepared.content[row]]
        if changed:
            raise DataError(
                f"{named(changed)}: already there with other content; delete these first, or give new keys", changed
            )
        firsts = good[
            check_keys([block.keys[row] for row in good], [prepared.content[row] for row in good], block.modality)
        ]
        new, old = firsts[ids[firsts] < 0], firsts[ids[firsts] >= 0]
        ids[new] = self.next + np.arange(len(new))
        self.next += len(new)
        if len(firsts) < len(good):  # keys that are there twice
            assigned = {block.keys[row]: ids[row] for row in new}
            ids = np.array([assigned.get(key, ids[row]) for row, key in enumerate(block.keys)], np.int64)
        ids[list(prepared.bad)] = -1
        self._touched.setdefault(block.modality, []).append(ids[firsts])
        if len(new):
            self._insert(block, columns, prepared, new, ids)
        updated = self._update(block, columns, old, ids) if len(old) else 0
        if block.labels is not None and len(good):
            self.store.put_labels(ids[good], block.labels[good], self.label_names)
        skipped = {block.keys[row]: reason for row, reason in prepared.bad.items()}
        return Added(len(new), len(good) - len(new), skipped, updated), ids

    def _insert(
        self,
        block: Items,
        columns: Mapping[str, Any],
        prepared: Prepared,
        new: NDArray[np.int64],
        ids: NDArray[np.int64],
    ) -> None:
        whole = (block.keys, prepared.content, prepared.source, prepared.text, prepared.blob)
        rows = ItemRows(block.modality, ids[new], *(_at(column, new) for column in whole))
        self.store.put_items(rows, {name: _at(column, new) for name, column in columns.items()})
        if prepared.vectors is not None:
            self.store.put_features("precomputed", ids[new], prepared.vectors[new])
        for name in _vector_names(block):
            have, vectors = block.vectors_of(name)
            chosen = np.zeros(len(block), bool)
            chosen[new] = True
            if (have & chosen).any():
                self.store.put_vectors(block.modality, name, ids[have & chosen], vectors[chosen[have]])

    def _update(self, block: Items, columns: Mapping[str, Any], old: NDArray[np.int64], ids: NDArray[np.int64]) -> int:
        """Give known items the metadata that are not missing, and vectors that they lack; how many items changed.

        Raises DataError where an item has another vector: codes were made of it.
        """
        told = {name: _at(column, old) for name, column in columns.items()}
        changed = [self.store.update_metadata(ids[old], told)] if told else []
        for name in _vector_names(block):
            given = block.take(old)
            have, vectors = given.vectors_of(name)
            stored, before = self.store.get_vectors(block.modality, name, ids[old])
            both = have & stored
            if both.any():
                other = (vectors[both[have]] != before[both[stored]]).any(axis=1)
                _refuse_other(name, [given.keys[row] for row in np.flatnonzero(both)[other].tolist()])
            lacking = have & ~stored
            if lacking.any():
                self.store.put_vectors(block.modality, name, ids[old][lacking], vectors[lacking[have]])
                changed.append(ids[old][lacking])
        return len(np.unique(np.concatenate(changed))) if changed else 0


def _refuse_other(name: str, keys: Sequence[str]) -> None:
    if keys:
        raise DataError(
            f"{named(keys)}: already there with another vector {name!r}; delete these first, or give new keys", keys
        )


def _refusal(block: Items, prepared: Prepared) -> DataError:
    keys = [block.keys[row] for row in prepared.bad]
    return DataError(
        f"{len(keys)} of these {block.modality}s cannot be used: {named(keys)} "
        f"({next(iter(prepared.bad.values()))}); nothing was added; on_error='skip' leaves them out",
        keys,
    )


def _vector_names(items: Items) -> list[str]:
    return list(items.vectors) if isinstance(items.vectors, Mapping) else []


def _at(column: Any, rows: NDArray[np.int64]) -> Any:
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


def add_embeddings(
    session: Session,
    values: object,
    space: str,
    recipe: Recipe | None,
    modality: str,
    ids: Ids | None,
) -> NDArray[np.int64]:
    """See `Library.add_embeddings`."""
    made = as_embeddings(values)
    if not isinstance(modality, str) or not modality:
        raise DataError(f"modality {modality!r}: expected a name, like {IMAGE!r} or {TEXT!r}")
    check_name(space)
    chosen = None if ids is None else as_ids(ids)
    if chosen is not None and (chosen.shape != (len(made),) or len(np.unique(chosen)) < len(made)):
        raise DataError(f"ids: expected {len(made)} different ones, got {len(np.unique(chosen))} in {chosen.shape}")
    store = session.store
    with session.change():
        loaded = next((session.space(space) for known in store.spaces() if known.name == space), None)
        pipeline = loaded.pipeline if loaded else _fitted(recipe or "hamming", made, modality)
        final = np.arange(len(made)) + store.next_id() if chosen is None else chosen
        order = np.argsort(final, kind="stable")
        codes = pipeline.indexer.encode(pipeline.embed_vectors(made, modality).take(order), final[order])
        version = loaded.record.version if loaded else new_version(session, space)
        if loaded is None:
            put_space(session, space, version, pipeline, codes, None)
            store.publish(space, version)
        else:
            _check_new(session, loaded, modality, codes)
        store.put_codes(space, version, modality, codes)
    return final


def _fitted(recipe: Recipe, made: Embeddings, modality: str) -> Pipeline:
    pipeline = as_pipeline(recipe)
    require(pipeline.parts)
    return pipeline.fit_embeddings(made, modality)


def as_embeddings(values: object) -> Embeddings:
    """Packed bits (n, bits/8) uint8, or vectors (n, d), as embeddings. Raises DataError."""
    array = as_array(values, "embeddings")
    return Embeddings(array, "hamming" if array.dtype == np.uint8 else "l2")


def _check_new(session: Session, space: Space, modality: str, codes: Codes) -> None:
    if codes.layout != space.record.layout:
        raise DataError(f"space {space.name!r} holds codes of {space.record.layout}, got {codes.layout}")
    clash = np.intersect1d(session.store.coded_ids(space.name, space.record.version, modality), codes.ids)
    if len(clash):
        raise DataError(f"space {space.name!r} has {modality} codes of {len(clash)} of these ids, first {clash[0]}")


def delete(session: Session, ids: Ids | None, where: Where | None) -> int:
    """See `Library.delete`."""
    if (ids is None) == (where is None):
        raise DataError("delete: give ids or where")
    store = session.store
    doomed = as_ids(ids) if ids is not None else store.ids(where=None if where is None else as_condition(where))
    digests = region_cache.kept_of(store, doomed)
    count = store.delete(doomed)
    region_cache.forget(store, digests)
    return count
