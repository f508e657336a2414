"""Adding and deleting items: all of a call, or on any error nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xmr_core.datasets.readers import load
from xmr_core.errors import ConfigError, DataError, named
from xmr_core.library import region_cache
from xmr_core.library.content import Prepared, check_keys, prepare
from xmr_core.library.fitting import encode_missing, new_version, put_space
from xmr_core.library.run import blocks
from xmr_core.library.session import Session
from xmr_core.library.spaces import Space, check_name
from xmr_core.progress import current_run
from xmr_core.recipes import Pipeline, Recipe, as_pipeline
from xmr_core.registry import require
from xmr_core.store import ItemRows
from xmr_core.types import IMAGE, TEXT, Codes, Embeddings, Ids, Items, Pairs, as_array, as_ids

__all__ = ["Added", "add", "add_embeddings", "as_embeddings", "delete"]

BLOCK = 2000  # items that are checked and stored at once
DIGITS = 16  # of a content's sha256, where it is the key


@dataclass(frozen=True)
class Added:
    """What `Library.add` did: how many items were new, how many were there already, and which were skipped and why."""

    new: int = 0
    known: int = 0
    skipped: dict[str, str] = field(default_factory=dict)

    def __add__(self, other: Added) -> Added:
        return Added(self.new + other.new, self.known + other.known, self.skipped | other.skipped)


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
        added, ids = Added(skipped=dict(getattr(source, "skipped", {}))), []
        for items in sides:
            report, assigned = _add_items(session, items, names, on_error)
            added += report
            ids.append(assigned)
        if isinstance(source, Pairs):
            links = np.stack([ids[side][source.links[:, side]] for side in (0, 1)], axis=1)
            links = links[(links >= 0).all(axis=1)]
            session.store.put_links(links[:, 0], links[:, 1])
        if added.new and encode:
            encode_missing(session)
    return added


def _add_items(session: Session, items: Items, names: Sequence[str], on_error: str) -> tuple[Added, NDArray[np.int64]]:
    """The report, and (n,) the ids that the items have now, -1 where skipped."""
    added, ids = Added(), [np.empty(0, np.int64)]
    for rows in current_run().track(blocks(len(items), BLOCK), f"adding {items.modality}s, {BLOCK} at a time"):
        block = items.take(rows)
        prepared = prepare(block)
        if not items.keyed:
            block = replace(block, keys=_usual_keys(block, prepared))
        if prepared.bad and on_error == "refuse":
            keys = [block.keys[row] for row in prepared.bad]
            raise DataError(
                f"{len(keys)} of these {items.modality}s cannot be used: {named(keys)} "
                f"({next(iter(prepared.bad.values()))}); nothing was added; on_error='skip' leaves them out",
                keys,
            )
        report, assigned = _add_block(session, block, prepared, names)
        added += report
        ids.append(assigned)
    return added, np.concatenate(ids)


def _usual_keys(items: Items, prepared: Prepared) -> list[str]:
    """The path of an image as it was given, else the beginning of the digest of the content."""
    return [
        str(data) if isinstance(data, (str, Path)) and items.modality == IMAGE else content[:DIGITS] or items.keys[row]
        for row, (data, content) in enumerate(zip(items.data, prepared.content, strict=True))
    ]


def _add_block(
    session: Session, block: Items, prepared: Prepared, names: Sequence[str]
) -> tuple[Added, NDArray[np.int64]]:
    store = session.store
    good = np.array([row for row in range(len(block)) if row not in prepared.bad], np.int64)
    ids, known = store.match(block.modality, block.keys)
    changed = [block.keys[row] for row in good if ids[row] >= 0 and known[row] != prepared.content[row]]
    if changed:
        raise DataError(
            f"{named(changed)}: already there with other content; delete these first, or give new keys", changed
        )
    firsts = good[check_keys(block.take(good), [prepared.content[row] for row in good])]
    new = firsts[ids[firsts] < 0]
    start = store.next_id()
    assigned = {block.keys[row]: start + order for order, row in enumerate(new)}
    ids = np.array([assigned.get(key, ids[row]) for row, key in enumerate(block.keys)], np.int64)
    ids[list(prepared.bad)] = -1
    if len(new):
        whole = (prepared.content, prepared.source, prepared.text, prepared.blob)
        columns = [[column[row] for row in new] for column in whole]
        items = block.take(new)
        store.put_items(ItemRows(block.modality, ids[new], items.keys, *columns), items.metadata)
        if prepared.vectors is not None:
            store.put_features("precomputed", ids[new], prepared.vectors[new])
    if block.labels is not None and len(good):
        store.put_labels(ids[good], block.labels[good], names)
    skipped = {block.keys[row]: reason for row, reason in prepared.bad.items()}
    return Added(len(new), len(good) - len(new), skipped), ids


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


def delete(session: Session, ids: Ids | None, where: str | None) -> int:
    """See `Library.delete`."""
    if (ids is None) == (where is None):
        raise DataError("delete: give ids or where")
    store = session.store
    doomed = store.ids(where=where) if ids is None else as_ids(ids)
    digests = region_cache.kept_of(store, doomed)
    count = store.delete(doomed)
    region_cache.forget(store, digests)
    session.forget()
    return count
