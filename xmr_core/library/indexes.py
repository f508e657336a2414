"""The indexes of a space: built at the first search or read from the folder, then kept up as codes come and go.

What changed since a revision is asked of the store, and only the codes that came are read. An index that has fallen a
tenth behind is built again in the background: until it is there, the old one and its layer answer, which is exact for
what came. So no search waits for a build but the first.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from xmr_core.library.rebuilding import Rebuilding
from xmr_core.library.saved import Saved
from xmr_core.library.warming import Warming
from xmr_core.search.index import Index
from xmr_core.search.indexer import Indexer
from xmr_core.search.layered import Layered, merged
from xmr_core.store import SpaceRecord, Store
from xmr_core.types import Codes

__all__ = ["Indexes", "differences"]


@dataclass(eq=False)
class _Kept:
    """An index and how it is kept up. `saved` is its place where it was saved; None where building is as quick."""

    index: Layered
    revision: int
    saved: Saved | None = None
    rebuilding: Rebuilding | None = None
    meanwhile: list[tuple[Codes, NDArray[np.int64]]] = field(default_factory=list)  # changes since that has begun
    failed: int = 0  # how far behind it was when building again failed

    @property
    def due(self) -> bool:
        """True when it is time to build again, and that is not being done."""
        stale = self.index.due or (self.saved is not None and self.index.outgrown)
        return stale and self.rebuilding is None and self.index.behind > 2 * self.failed


class Indexes:
    """The indexes over the codes of one version of a space, by modality."""

    def __init__(self, store: Store, record: SpaceRecord, indexer: Indexer) -> None:
        """Nothing is read before it is asked for."""
        self._store, self._record, self._indexer = store, record, indexer
        self._kept: dict[tuple[str, bool], _Kept] = {}

    def get(self, modality: str, exact: bool = False) -> Index:
        """The index over the codes of a modality; an exhaustive one where `exact`."""
        key = modality, exact and not self._indexer.exact
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = self._scan(modality) if key[1] else self._load(modality)
            self._build_again(modality, kept)
        elif kept.rebuilding is not None:
            self._take_over(modality, kept)
        return kept.index

    def codes(self, modality: str) -> Codes:
        """All codes of a modality."""
        for exact in (False, True):
            if (modality, exact) in self._kept:
                return self._kept[modality, exact].index.codes
        return self._scan(modality, keep=True).index.codes

    def follow(self) -> None:
        """Bring what is loaded up to date with the store."""
        for (modality, _), kept in self._kept.items():
            self._bring(modality, kept)
            self._build_again(modality, kept)

    def close(self) -> None:
        """Stop what is done in the background, and forget all indexes."""
        for kept in self._kept.values():
            if kept.rebuilding is not None:
                kept.rebuilding.stop()
        self._kept.clear()

    def _scan(self, modality: str, keep: bool = False) -> _Kept:
        """An exhaustive index, over the codes that another has where there is one."""
        other = self._kept.get((modality, False))
        if other is not None:
            return _Kept(Layered(self._indexer, self._indexer.exhaustive(other.index.codes)), other.revision)
        revision, codes = self._store.revision(), self._read(modality)
        kept = _Kept(Layered(self._indexer, self._indexer.exhaustive(codes)), revision)
        if keep:
            self._kept[modality, True] = kept
        return kept

    def _load(self, modality: str) -> _Kept:
        """The index that was saved, with what changed since; else one that is built, and saved where that pays."""
        saved = Saved.of(self._store, self._record, modality)
        found = saved.read() if saved is not None else None
        if saved is not None and found is not None:
            kept = self._saved(saved, *found)
            self._bring(modality, kept)
            return kept
        exact = self._kept.get((modality, True))
        if exact is not None:
            revision, codes = exact.revision, exact.index.codes
        else:
            revision, codes = self._store.revision(), self._read(modality)
        index = self._indexer.build(codes)
        kept = _Kept(Layered(self._indexer, index), revision)
        if saved is not None and len(codes) and not self._store.read_only and saved.write(index, revision):
            kept.saved = saved
        return kept

    def _saved(self, saved: Saved, codes: Codes, revision: int) -> _Kept:
        """An index that was saved: it is loaded when it pays, and built again where it turns out to be damaged."""
        indexer = self._indexer

        def load() -> Index:
            index = saved.load(indexer, codes)
            if index is None:
                index = indexer.build(codes)
                if not self._store.read_only:
                    saved.write(index, revision)
            return index

        return _Kept(Layered(indexer, Warming(indexer.exhaustive(codes), load)), revision, saved)

    def _read(self, modality: str, ids: NDArray[np.int64] | None = None) -> Codes:
        codes = self._store.get_codes(self._record.name, self._record.version, modality, ids)
        return codes.with_room() if ids is None else codes

    def _bring(self, modality: str, kept: _Kept) -> None:
        """Tell an index what changed since its revision; where the store cannot tell, it is found by comparing."""
        revision = self._store.revision()
        if revision == kept.revision:
            return
        changes = self._store.changes(self._record.name, self._record.version, modality, kept.revision)
        if changes is None:
            came, went = differences(kept.index.codes, self._read(modality))
        elif changes:
            none = kept.index.layer.codes.take(slice(0, 0))
            came, went = self._read(modality, changes.came) if len(changes.came) else none, changes.went
        else:
            kept.revision = revision
            return
        kept.index.update(came, went)
        if kept.rebuilding is not None:
            kept.meanwhile.append((came, went))
        kept.revision = revision

    def _build_again(self, modality: str, kept: _Kept) -> None:
        """Begin to build an index again in the background, where it is due."""
        if not kept.due:
            return
        indexer, parts, revision = self._indexer, kept.index.parts, kept.revision
        build = indexer.exhaustive if kept is self._kept.get((modality, True)) else indexer.build
        saved = None if self._store.read_only else kept.saved
        kept.meanwhile = []
        kept.rebuilding = Rebuilding(
            lambda: build(merged(*parts).with_room()),
            lambda index, wanted: saved is None or saved.write(index, revision, wanted),
        )

    def _take_over(self, modality: str, kept: _Kept) -> None:
        """Go on with the index that was built in the background, if it is there."""
        rebuilding = kept.rebuilding
        if rebuilding is None or not rebuilding.done:
            return
        kept.rebuilding = None
        if rebuilding.index is None:
            kept.failed = kept.index.behind
            warnings.warn(
                f"space {self._record.name!r}: its index of {modality}s could not be built again ({rebuilding.error}); "
                "what has changed since it was built is searched beside it",
                RuntimeWarning,
                stacklevel=2,
            )
            return
        kept.index, kept.failed = Layered(self._indexer, rebuilding.index), 0
        for came, went in kept.meanwhile:
            kept.index.update(came, went)
        kept.meanwhile = []
        self._build_again(modality, kept)


def differences(old: Codes, new: Codes) -> tuple[Codes, NDArray[np.int64]]:
    """What came or changed from codes to others, and the ids that went."""
    went = np.setdiff1d(old.ids, new.ids, assume_unique=True)
    known = np.isin(new.ids, old.ids, assume_unique=True)
    same = np.zeros(len(new), bool)
    places = np.searchsorted(old.ids, new.ids[known])
    same[known] = (old.values[places] == new.values[known]).all(axis=1)
    return new.take(~same), went
