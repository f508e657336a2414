"""Adding, changing and deleting items: all of a call, or on any error nothing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from xmr_core.datasets.readers import load
from xmr_core.errors import ConfigError, DataError, StorageError
from xmr_core.library import region_cache
from xmr_core.library.adding import Added, Adding, Upserting
from xmr_core.library.fitting import Among, encode_missing, new_version, put_space
from xmr_core.library.session import Session
from xmr_core.library.spaces import Space, check_name
from xmr_core.recipes import Pipeline, Recipe, as_pipeline
from xmr_core.registry import require
from xmr_core.search.condition import Where, as_condition
from xmr_core.types import IMAGE, TEXT, Codes, Embeddings, Ids, Items, Pairs, as_array, as_ids

__all__ = [
    "add",
    "add_embeddings",
    "as_embeddings",
    "delete",
    "encode_added",
    "require_replacing",
    "unencoded",
    "upsert",
]


def add(session: Session, given: object, on_error: str, encode: bool, options: Mapping[str, object]) -> Added:
    """See `Library.add`."""
    source = _loaded(given, on_error, options)
    with session.change():
        return _put(session, Adding(session.store, _label_names(source)), source, on_error, encode)


def upsert(session: Session, given: object, on_error: str, encode: bool, options: Mapping[str, object]) -> Added:
    """See `Library.upsert`."""
    require_replacing(session)
    source = _loaded(given, on_error, options)
    with session.change():
        upserting = Upserting(session.store, _label_names(source), lambda: unencoded(session))
        done = _put(session, upserting, source, on_error, encode)
    for digests in upserting.digests:
        region_cache.forget(session.store, digests)
    return done + Added(uncoded=upserting.lost)


def require_replacing(session: Session) -> None:
    """Raise StorageError where the store cannot change what is there."""
    if not session.store.replaces:
        raise StorageError(
            f"{session.store.url}: the store {session.store.name!r} does not replace items; add new ones"
        )


def unencoded(session: Session) -> list[tuple[str, int]]:
    """The published spaces (name and version) that have no encoder: what was added to them, they cannot make again."""
    published = [record for record in session.store.spaces() if record.published]
    spaces = [session.usable(record.name, record.version) for record in published]
    return [(s.name, s.record.version) for s in spaces if s is not None and s.pipeline.encoder is None]


def _loaded(given: object, on_error: str, options: Mapping[str, object]) -> Pairs | Items:
    if on_error not in ("refuse", "skip"):
        raise ConfigError("on_error", on_error, "must be 'refuse' or 'skip'")
    source = load(given, on_error=on_error, **options)
    if isinstance(source, Items) and source.labels is not None:
        raise DataError("add: labels have names in Pairs alone; give Pairs, with an empty side if need be")
    return source


def _label_names(source: Pairs | Items) -> list[str]:
    return [] if isinstance(source, Items) else list(source.label_names)


def _put(session: Session, adding: Adding, source: Pairs | Items, on_error: str, encode: bool) -> Added:
    """Put items, links and codes into the store, inside a transaction."""
    added, ids = Added(skipped=dict(getattr(source, "skipped", {}))), []
    for items in [source] if isinstance(source, Items) else [source.images, source.texts]:
        report, assigned = adding.add(items, on_error)
        added += report
        ids.append(assigned)
    if isinstance(source, Pairs):
        links = np.stack([ids[side][source.links[:, side]] for side in (0, 1)], axis=1)
        links = links[(links >= 0).all(axis=1)]
        session.store.put_links(links[:, 0], links[:, 1])
    return added + encode_added(session, adding, added, encode)


def encode_added(session: Session, adding: Adding, added: Added, encode: bool) -> Added:
    """Give what came or changed codes in every published space; what has none, and why."""
    uncoded: dict[str, str] = {}
    if (added.new or added.updated) and encode:
        encode_missing(session, uncoded, Among(adding.touched(), adding.first))
    return Added(uncoded={key: reason for key, reason in uncoded.items() if key in adding.keys})


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
