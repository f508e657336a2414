"""An open library as its verbs see it: the store, the progress bars, and what has been loaded from the store so far."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import DataError, LockedError, SkippedSpaceWarning, StorageError, XmrError
from xmr_core.library.filters import Filters
from xmr_core.library.run import LibraryRun
from xmr_core.library.spaces import Space, check_version
from xmr_core.progress import use_run
from xmr_core.store import Store
from xmr_core.types import Head

__all__ = ["QueryEncoder", "Session"]

PATIENCE = 600  # seconds to wait for another thread
QueryEncoder = Callable[[list[Any]], Any]  # n texts, or n images, to (n, d): an array or a tensor


@dataclass(eq=False)
class Session:
    """What every verb works on. `progress` shows bars; None shows them where somebody watches the error stream."""

    store: Store
    progress: bool | None = None
    _spaces: dict[tuple[Head, str | None, int | None], Space] = field(default_factory=dict, init=False)
    _links: NDArray[np.int64] | None = field(default=None, init=False)
    _revision: int | None = field(default=None, init=False)  # of the store, at which spaces and links were loaded
    _changing: bool = field(default=False, init=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, init=False)  # taken before those of the store

    _told: set[str] = field(default_factory=set, init=False)  # warnings that were given

    filters: Filters = field(default_factory=Filters, init=False)
    query_encoders: dict[str, dict[str, QueryEncoder]] = field(default_factory=dict, init=False)

    @contextmanager
    def run(self) -> Iterator[LibraryRun]:
        """A run inside a `with`: what components find as `current_run()`."""
        with LibraryRun(self.store, progress=self.progress) as run, use_run(run):
            yield run

    @contextmanager
    def change(self) -> Iterator[LibraryRun]:
        """A run in which the store changes whole or not at all.

        Inside, spaces are those of when it began: what it does itself is followed once it is committed.
        """
        with self.run() as run, self._alone(), self.store.transaction():
            self.follow()
            outer, self._changing = self._changing, True
            try:
                yield run
            finally:
                self._changing = outer

    def forget(self) -> None:
        """Load spaces and links again when they are next asked for."""
        with self._alone():
            self._revision, self._links = None, None
            self._leave(set(self._spaces.values()))
            self._spaces.clear()

    def follow(self) -> None:
        """Let what is loaded be what the store holds, whoever changed it: a comparison, where nobody did."""
        revision = self.store.revision()
        if revision == self._revision or self._changing:
            return
        with self._alone():
            since, self._revision = self._revision, revision
            known = since is not None and self.store.changes("", 0, "", since) is not None
            if since is None or not known or self.store.links_changed(since):
                self._links = None
            if self._spaces:
                self._follow_spaces()

    def _follow_spaces(self) -> None:
        """Keep the spaces that are still there, under the names that mean them, and tell them what they are now."""
        loaded, self._spaces = self._spaces, {}
        roles = {role for role, _, _ in loaded}
        known = {(role, r.name, r.version): r for role in roles for r in self.store.spaces(role)}
        followed: set[Space] = set()
        for (role, name, version), space in loaded.items():
            record = known.get((role, space.record.name, space.record.version))
            if record is None or not space.is_at(record):
                continue
            if space not in followed:
                space.follow(record)
                followed.add(space)
            if record.published:
                self._spaces[role, record.name, record.version] = space
            if name is not None and (version is not None or record.published):
                self._spaces[role, name, version] = space
        self._leave(set(loaded.values()) - set(self._spaces.values()))

    @staticmethod
    def _leave(spaces: set[Space]) -> None:
        for space in spaces:
            space.forget()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Inside, no other thread looks at what is loaded, or changes it. Raises LockedError after a long wait."""
        if not self._lock.acquire(timeout=PATIENCE):
            raise LockedError(f"{self.store.url}: another thread has used this handle for {PATIENCE} s; open one each")
        try:
            yield
        finally:
            self._lock.release()

    def links(self) -> NDArray[np.int64]:
        """(p, 2) int64: ids of the image and the text of every pair, read once."""
        with self._alone():
            self.follow()
            if self._links is None:
                self._links = self.store.links()
            return self._links

    def published(self, role: Head = "indexer") -> list[str]:
        """The names of the published spaces of a role, in alphabetical order."""
        return sorted(record.name for record in self.store.uncounted(role) if record.published)

    def space(self, name: str | None = None, version: int | None = None, role: Head = "indexer") -> Space:
        """A space, loaded once: the only one of that role without a name, the published version without a version."""
        if name is not None and not isinstance(name, str):
            raise DataError(f"space: expected a name, got {name!r}")
        check_version(name, version)
        with self._alone():
            self.follow()
            found = self._spaces.get((role, name, version))
            if found is None:
                chosen = name or self._only(role)
                loaded = (space for space in self._spaces.values() if _is(space, role, chosen, version))
                found = next(loaded, None) or Space.load(self.store, chosen, version, role)
                self._spaces[role, name, version] = found
            return found

    def usable(self, name: str, version: int | None = None) -> Space | None:
        """A space; None, and one warning, where what is installed cannot load it."""
        try:
            return self.space(name, version)
        except StorageError:
            raise
        except XmrError as error:
            self.skip(error)
            return None

    def skip(self, error: XmrError) -> None:
        """Warn, once a session, that a space is left out of work on all of them."""
        if str(error) not in self._told:
            self._told.add(str(error))
            told = f"{error}; it is skipped: its codes stay, and SQL can search them"
            warnings.warn(told, SkippedSpaceWarning, stacklevel=2)

    def _only(self, role: Head) -> str:
        names = self.published(role)
        if len(names) != 1:
            what, verb = ("space", "fit a recipe") if role == "indexer" else ("answerer", "learn one")
            there = f"which {what}? there are {', '.join(names)}"
            raise DataError(there if names else f"no {what} yet: {verb} first")
        return names[0]


def _is(space: Space, role: Head, name: str, version: int | None) -> bool:
    record = space.record
    wanted = record.published if version is None else record.version == version
    return wanted and (record.role, record.name) == (role, name)
