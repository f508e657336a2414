"""Fitting a recipe on a library's pairs, and giving items codes in the spaces that come of it."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import DataError, MissingVectorError, PluginError
from xmr_core.library.choosing import choose
from xmr_core.library.run import LibraryRun, blocks
from xmr_core.library.saved import leave_no_empty
from xmr_core.library.session import Session
from xmr_core.library.spaces import Space, check_name, check_seed, record_of
from xmr_core.progress import current_run, use_run
from xmr_core.recipes import Pipeline, Recipe, as_pipeline
from xmr_core.registry import require
from xmr_core.search.condition import Condition, Where, as_condition
from xmr_core.store import SpaceRecord, Store
from xmr_core.types import Codes, Int, Pairs

__all__ = ["Among", "codes_of_items", "encode_missing", "fit", "new_version", "put_space", "refresh", "resumable"]

AUTO = "auto"  # the name of a space whose recipe was chosen
BLOCK = 4096  # items that are encoded and stored at once


def fit(
    session: Session, recipe: Recipe | None, name: str | None, where: Where | None, seed: Int, publish: bool
) -> Space:
    """See `Library.fit`."""
    store = session.store
    seed = check_seed(seed)
    if not isinstance(name, str | None):
        check_name(name)  # which refuses it
    given = None if recipe is None else as_pipeline(recipe).with_seed(seed)
    require(given.parts if given else ())
    condition = as_condition(where) if where is not None else _training(store)
    pairs = store.pairs(condition)
    if not len(pairs.images) and not len(pairs.texts):
        raise DataError(f"nothing to fit on: no items{f' where {condition}' if condition else ''}; add some first")
    choice = None
    if given is None:
        with session.run():
            choice = choose(store, pairs, seed)
    pipeline = given or Pipeline.parse(choice.recipe if choice else "").with_seed(seed)
    name = check_name(name or (AUTO if choice else "_".join(part.name for part in pipeline.parts)))
    notes = {"recipe": repr(pipeline), "seed": seed, "where": pairs.name, "pairs": len(pairs.links)}
    notes |= {"chosen": str(choice)} if choice else {}
    version = new_version(session, name)
    with resumable(session, name, version, notes, _content(store, pipeline, pairs)):
        start = time.perf_counter()
        fitted = pipeline.fit(pairs)
        figures = {"seconds": time.perf_counter() - start, "images": len(pairs.images), "texts": len(pairs.texts)}
        current_run().log("fit", 0, **figures)
        encoded = _encoded(store, fitted)
        with store.transaction():
            version = new_version(session, name)  # another handle may have fitted one meanwhile
            _put_all(session, name, version, fitted, encoded, seed)
            store.put_training(name, version, np.union1d(pairs.images.ids, pairs.texts.ids))
            if publish:
                store.publish(name, version)
    space = session.space(name, version)
    space.choice = choice
    return space


def _training(store: Store) -> Condition | None:
    """The items to fit on where nobody says: those of `train`, else all but the queries, else all."""
    if store.has_split("train"):
        return Condition("split = 'train'")
    if store.has_split("query") or store.has_split("test"):
        return Condition("split IS NULL OR CAST(split AS VARCHAR) NOT IN ('query', 'test')")
    return None


def _content(store: Store, pipeline: Pipeline, pairs: Pairs) -> Iterator[bytes]:
    """What is fitted on what, as bytes: an item is what it holds now, which may have changed under its id."""
    yield repr(pipeline).encode()
    for side in (pairs.images, pairs.texts):
        yield ",".join(map(str, store.match(side.modality, side.keys)[1])).encode()
    for array in (pairs.images.ids, pairs.texts.ids, pairs.links, pairs.labels):
        yield b"-" if array is None else array.tobytes()


@contextmanager
def resumable(
    session: Session, name: str, version: int, notes: Mapping[str, Any], content: Iterable[bytes]
) -> Iterator[None]:
    """The run of a fit, whose checkpoints the next fit of the same `content` finds; they are deleted when it is done.

    `content` tells what is fitted on what; it is read only where the store has a folder for checkpoints.
    """
    checkpoints = None
    if session.store.folder is not None:
        digest = hashlib.sha256(b"".join(content)).hexdigest()
        checkpoints = session.store.folder / "checkpoints" / digest[:16]
    with LibraryRun(session.store, name, version, notes, session.progress, checkpoints) as run, use_run(run):
        yield
    if checkpoints is not None:
        shutil.rmtree(checkpoints, ignore_errors=True)
        leave_no_empty(checkpoints.parent)


def new_version(session: Session, name: str) -> int:
    """The version that the next fit of this name gets."""
    return 1 + max((record.version for record in session.store.uncounted() if record.name == name), default=0)


def put_space(session: Session, name: str, version: int, pipeline: Pipeline, codes: Codes, seed: int | None) -> None:
    """Write a new version of a space; its codes have the layout of `codes`."""
    session.store.put_space(record_of(check_name(name), version, pipeline, codes.layout, seed))


@dataclass(frozen=True)
class _Encoded:
    """Codes of all items of a revision of a library, block by block, with their modality."""

    revision: int
    blocks: list[tuple[str, Codes]]


def _encoded(store: Store, pipeline: Pipeline) -> _Encoded:
    revision = store.revision()
    blocks = [
        (modality, codes)
        for modality in pipeline.modalities
        for codes in codes_of_items(store, pipeline, modality, store.ids(modality), {})
    ]
    return _Encoded(revision, blocks)


def _put_all(session: Session, name: str, version: int, pipeline: Pipeline, encoded: _Encoded, seed: int) -> None:
    """Write a new version, inside a transaction. Nobody waits for the encoding, which was done before; it is done again
    where another handle has changed the library meanwhile, and what is kept of the encoder's work makes that quick."""
    if encoded.revision != session.store.revision():
        encoded = _encoded(session.store, pipeline)
    for place, (modality, codes) in enumerate(encoded.blocks):
        if not place:
            put_space(session, name, version, pipeline, codes, seed)
        session.store.put_codes(name, version, modality, codes)


@dataclass(frozen=True)
class Among:
    """Items that may lack codes: ids (n,) by modality, ascending. Those from `fresh` on are new, and have none."""

    ids: Mapping[str, NDArray[np.int64]]
    fresh: int


def codes_of_items(
    store: Store, pipeline: Pipeline, modality: str, ids: NDArray[np.int64], uncoded: dict[str, str]
) -> Iterator[Codes]:
    """The codes of items, block by block; items that lack a ready-made vector have none, and are noted in `uncoded`."""
    for rows in current_run().track(blocks(len(ids), BLOCK), f"encoding {modality}s", len(ids), len):
        items = store.items(ids[rows], modality)
        while len(items):
            try:
                codes = pipeline.encode(items)
            except MissingVectorError as error:
                lacking = set(error.keys)
                if not lacking:
                    raise
                uncoded.update(dict.fromkeys(error.keys, error.reason))
                items = items.take(np.array([i for i, key in enumerate(items.keys) if key not in lacking], np.int64))
                continue
            yield codes
            break


def _lacking(store: Store, record: SpaceRecord, modality: str, among: Among | None) -> NDArray[np.int64]:
    """The ids of items without a code in a version, of all or of some."""
    if among is None:
        return np.setdiff1d(store.ids(modality), store.coded_ids(record.name, record.version, modality))
    ids = among.ids.get(modality, np.empty(0, np.int64))
    older = ids[ids < among.fresh]
    if not len(older):
        return ids
    return np.setdiff1d(ids, store.get_codes(record.name, record.version, modality, older).ids)


def refresh(session: Session) -> int:
    """See `Library.refresh`."""
    with session.change():
        return encode_missing(session, {})


def encode_missing(
    session: Session,
    uncoded: dict[str, str],
    among: Among | None = None,
    name: str | None = None,
) -> int:
    """Encode the items that lack codes in a published space, inside a run and a transaction; how many codes.

    `among` are the items that may lack one; without it all ids are read. `name` is the one space to look at.
    Items that cannot have one, for want of a ready-made vector, are noted in `uncoded`, key to reason. A space that
    cannot be loaded, or lacks a package when it encodes, is skipped with a warning.
    """
    count = 0
    for record in session.store.uncounted():
        wanted = record.published and name in (None, record.name)
        space = session.usable(record.name, record.version) if wanted else None
        if space is None or space.pipeline.encoder is None:
            continue
        try:
            for codes, modality in _missing(session.store, space, uncoded, among):
                session.store.put_codes(record.name, record.version, modality, codes)
                count += len(codes)
        except PluginError as error:
            session.skip(PluginError(f"space {record.name!r} cannot encode: {error}"))
    return count


def _missing(store: Store, space: Space, uncoded: dict[str, str], among: Among | None) -> Iterator[tuple[Codes, str]]:
    """The codes that items lack in a space, block by block, and their modality."""
    for modality in space.pipeline.modalities:
        missing = _lacking(store, space.record, modality, among)
        for codes in codes_of_items(store, space.pipeline, modality, missing, uncoded):
            yield codes, modality
