"""Syncing: the library holds what a folder holds, of what came from it; what came from elsewhere is left alone."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xmr_core.datasets.readers import detect, read
from xmr_core.datasets.reading import Dataset, is_image_file
from xmr_core.errors import ConfigError, DataError, StorageError, named
from xmr_core.library import region_cache
from xmr_core.library.adding import Added, Upserting
from xmr_core.library.content import Prepared, are_vectors, content_of, prepare
from xmr_core.library.ingest import encode_added, require_replacing, unencoded
from xmr_core.library.session import Session
from xmr_core.store import Store
from xmr_core.types import IMAGE, TEXT, Items

__all__ = ["Synced", "sync"]

SETTLED = 2.0  # seconds after which a file's times tell a later change from what was read: some disks count in seconds

OF_SOURCE = "item_id IN (SELECT item_id FROM xmr.sources WHERE source = ?)"

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Synced:
    """What `Library.sync` did: how many items were added, changed or removed, and how many are as they were.

    `skipped` maps keys of items that cannot be used to the reason, `uncoded` those that have no code in some space.
    """

    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    uncoded: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        counts = (f"{count:,} {what}" for what, count in vars(self).items() if isinstance(count, int))
        return ", ".join(counts)


def sync(
    session: Session,
    folder: str | Path,
    prefix: str,
    reader: str | None,
    on_error: str,
    encode: bool,
    options: Mapping[str, object],
) -> Synced:
    """See `Library.sync`."""
    require_replacing(session)
    if not session.store.keeps_sources:
        raise StorageError(f"{session.store.url}: the store {session.store.name!r} does not know where items came from")
    if not isinstance(options.get("split", ""), str | None):
        raise ConfigError("split", options["split"], "must be a column: shares are drawn again at each sync")
    source = Path(folder).resolve()
    given = _read(session.store, source, prefix, reader, on_error, options)
    with session.change():
        syncing = _Syncing(session, source, given)
        report = syncing.put(on_error)
        removed = syncing.remove()
        report += encode_added(session, syncing, report, encode)
    for digests in syncing.digests:
        region_cache.forget(session.store, digests)
    skipped, uncoded = {**given.skipped, **report.skipped}, {**report.uncoded, **syncing.lost}
    return Synced(report.new, report.updated, removed, report.unchanged, skipped, uncoded)


def _read(
    store: Store, source: Path, prefix: str, reader: str | None, on_error: str, options: Mapping[str, object]
) -> Dataset:
    """What the folder holds, its keys behind the prefix. Raises DataError where it is not there, or empty."""
    if not source.exists():
        raise DataError(f"sync: there is no folder {str(source)!r}; what came from it stays")
    skip = {"on_error": on_error} if on_error != "refuse" else {}
    try:
        found = read(reader or detect(source), source, **options, **skip)
    except DataError as error:
        ids, _ = store.get_source(str(source))
        if len(ids) and not any(is_image_file(file) for file in source.rglob("*")):
            raise DataError(
                f"sync: {str(source)!r} holds no images, and {len(ids):,} items came from it; nothing is removed. If "
                f"they shall go: delete(where=({OF_SOURCE!r}, [{str(source)!r}]))"
            ) from error
        raise
    images, texts = (replace(side, keys=[prefix + key for key in side.keys]) for side in (found.images, found.texts))
    return replace(found, images=images, texts=texts)


class _Syncing(Upserting):
    """One call of `sync`. `own` (n,) are the ids of the items that came from the folder before, ascending."""

    def __init__(self, session: Session, source: Path, given: Dataset) -> None:
        super().__init__(session.store, given.label_names, lambda: unencoded(session))
        self.source, self.given = str(source), given
        self.before, stamps = self.store.get_source(self.source)
        self.before_stamps = dict(zip(self.before.tolist(), stamps, strict=True))
        self.known = {side.modality: self.store.match(side.modality, side.keys) for side in (given.images, given.texts)}
        self.own = np.union1d(self.before, self._adopted())
        self.stamps = {key: _stamp(data) for key, data in zip(given.images.keys, given.images.data, strict=True)}
        self._contents = dict(zip(given.images.keys, self.known[IMAGE][1], strict=True))
        self._trusted = self._unread()
        self.kept: Rows = np.empty(0, np.int64)  # ids of what the folder has, once it is put

    def _adopted(self) -> Rows:
        """The items that were added from the folder by other means: images whose file is the same, and texts that
        belong to such images, or to those that came from here, alone."""
        images = self._not_elsewhere(self._others(IMAGE))
        data = dict(zip(self.given.images.keys, self.given.images.data, strict=True))
        rows = self.store.describe(images)
        same = [
            isinstance(data.get(key), str | Path) and str(Path(data[key]).resolve()) == path
            for key, path in zip(rows["key"], rows["source"], strict=True)
        ]
        images = images[np.array(same, bool)]
        texts = self._not_elsewhere(self._others(TEXT))
        if len(texts):
            links = self.store.links()
            links = links[np.isin(links[:, 1], texts)]
            ours = np.isin(links[:, 0], np.union1d(self.before, images))
            texts = np.setdiff1d(links[ours, 1], links[~ours, 1])
        return np.union1d(images, texts)

    def _others(self, modality: str) -> Rows:
        """The ids of known items under keys that the folder has, which have not come from it."""
        ids = self.known[modality][0]
        return np.setdiff1d(ids[ids >= 0], self.before)

    def _not_elsewhere(self, ids: Rows) -> Rows:
        return np.setdiff1d(ids, self.store.sourced_elsewhere(self.source, ids))

    def _unread(self) -> dict[str, str]:
        """The content of images whose files are as they were when they were last read, by key."""
        return {
            key: self._contents[key]
            for key, item in zip(self.given.images.keys, self.known[IMAGE][0].tolist(), strict=True)
            if self.before_stamps.get(item) == _with_content(self.stamps[key], self._contents[key]) != ""
        }

    def put(self, on_error: str) -> Added:
        """Add what is new, and change what is another; a link that the folder no longer has goes."""
        report, ids = Added(), []
        for side in (self.given.images, self.given.texts):
            done, assigned = self.add(side, on_error)
            known = self.known[side.modality][0]
            there = np.where(assigned >= 0, assigned, known)  # what is unreadable now stays as it was
            self.kept = np.union1d(self.kept, there[there >= 0])
            self.own = np.union1d(self.own, there[(known < 0) & (there >= 0)])
            report += done
            ids.append(there)
        links = np.stack([ids[side][self.given.links[:, side]] for side in (0, 1)], axis=1)
        links = links[(links >= 0).all(axis=1)]
        old = self.store.links()
        old = old[np.isin(old, np.intersect1d(self.own, self.kept)).all(axis=1)]
        self._relink({tuple(link) for link in old.tolist()}, {tuple(link) for link in links.tolist()})
        return report

    def _relink(self, old: set[tuple[int, ...]], new: set[tuple[int, ...]]) -> None:
        for links, change in ((old - new, self.store.drop_links), (new - old, self.store.put_links)):
            if links:
                pairs = np.array(sorted(links), np.int64)
                change(pairs[:, 0], pairs[:, 1])

    def remove(self) -> int:
        """Delete what the folder has no longer, and remember what came from it; how many items that were."""
        gone = np.setdiff1d(self.before, self.kept)
        doomed = self._not_elsewhere(gone)
        if len(doomed):
            self.digests.append(region_cache.kept_of(self.store, doomed))
            self.store.delete(doomed)
        ids = np.intersect1d(self.own, self.kept)
        stamps = self._stamps_of(ids)
        if ids.tolist() != self.before.tolist() or stamps != list(self.before_stamps.values()):
            self.store.put_source(self.source, ids, stamps)
        return len(doomed)

    def _stamps_of(self, ids: Rows) -> list[str]:
        keys = list(self.given.images.keys)
        items, contents = self.store.match(IMAGE, keys)
        stamps = {
            item: _with_content(self.stamps[key], content)
            for key, item, content in zip(keys, items.tolist(), contents, strict=True)
        }
        return [stamps.get(item, "") for item in ids.tolist()]

    def _moved(self, prepared: Prepared, old: Rows, ids: Rows) -> Rows:
        return super()._moved(prepared, old[np.isin(ids[old], self.own)], ids)

    def _check_replaced(self, block: Items, rows: Rows, ids: Rows) -> None:
        foreign = rows[~np.isin(ids, self.own)]
        if len(foreign):
            keys = [block.keys[row] for row in foreign]
            raise DataError(
                f"{named(keys)}: already there with other content, which did not come from {self.source}; "
                "give keys that are its own: prefix='...' (xmr sync --prefix)",
                keys,
            )
        super()._check_replaced(block, rows, ids)

    def _prepared(self, block: Items) -> Prepared:
        """Files that are as they were are not read, and those of the same bytes not decoded."""
        if block.modality != IMAGE or are_vectors(block.data):
            return prepare(block)
        contents = [self._content(key, data) for key, data in zip(block.keys, block.data, strict=True)]
        rest = np.array([row for row, content in enumerate(contents) if content is None], np.int64)
        prepared = prepare(block.take(rest))
        source: list[str | None] = [
            str(Path(data).resolve()) if isinstance(data, str | Path) else None for data in block.data
        ]
        blob: list[bytes | None] = [None] * len(block)
        for place, row in enumerate(rest.tolist()):
            contents[row], source[row], blob[row] = (
                prepared.content[place],
                prepared.source[place],
                prepared.blob[place],
            )
        bad = {int(rest[place]): reason for place, reason in prepared.bad.items()}
        return Prepared([content or "" for content in contents], source, [None] * len(block), blob, None, bad)

    def _content(self, key: str, data: object) -> str | None:
        """The content of an image that is as it was; None where it is new or has changed, and must be looked at."""
        if key in self._trusted:
            return self._trusted[key]
        stored = self._contents.get(key)
        if stored is None or not Path(str(data)).is_file():
            return None
        return stored if content_of(data) == stored else None


def _stamp(data: object) -> str:
    """What tells that a file is as it was: its size, its times and its number on the disk; "" where nothing does.

    The time of the last change of the inode is among them, which no program sets back, as many do that of the content.
    """
    if os.name != "posix" or not isinstance(data, str | Path):
        return ""
    try:
        told = Path(data).stat()
    except OSError:
        return ""
    settled = max(told.st_mtime, told.st_ctime) < time.time() - SETTLED
    return f"{told.st_size} {told.st_mtime_ns} {told.st_ctime_ns} {told.st_ino}" if settled else ""


def _with_content(stamp: str, content: str | None) -> str:
    """A stamp that holds only while the library has the content that was read: others may replace it."""
    return f"{content} {stamp}" if stamp and content else ""
