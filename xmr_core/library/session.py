"""An open library as its verbs see it: the store, the progress bars, and what has been loaded from the store so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import DataError
from xmr_core.library.run import LibraryRun
from xmr_core.library.spaces import Space
from xmr_core.progress import use_run
from xmr_core.store import Store
from xmr_core.types import Head

__all__ = ["QueryEncoder", "Session"]

QueryEncoder = Callable[[list[Any]], Any]  # n texts, or n images, to (n, d): an array or a tensor


@dataclass(eq=False)
class Session:
    """What every verb works on. `progress` shows bars; None shows them where somebody watches the error stream."""

    store: Store
    progress: bool | None = None
    _spaces: dict[tuple[Head, str | None, int | None], Space] = field(default_factory=dict, init=False)
    _links: NDArray[np.int64] | None = field(default=None, init=False)

    query_encoders: dict[str, dict[str, QueryEncoder]] = field(default_factory=dict, init=False)

    @contextmanager
    def run(self) -> Iterator[LibraryRun]:
        """A run inside a `with`: what components find as `current_run()`."""
        with LibraryRun(self.store, progress=self.progress) as run, use_run(run):
            yield run

    @contextmanager
    def change(self) -> Iterator[LibraryRun]:
        """A run in which the store changes whole or not at all; afterwards spaces are loaded again when asked for."""
        with self.run() as run, self.store.transaction():
            yield run
        self.forget()

    def forget(self) -> None:
        """Load spaces and links again when they are next asked for: codes, versions or names have changed."""
        self._links = None
        self._spaces.clear()

    def links(self) -> NDArray[np.int64]:
        """(p, 2) int64: ids of the image and the text of every pair, read once."""
        if self._links is None:
            self._links = self.store.links()
        return self._links

    def published(self, role: Head = "indexer") -> list[str]:
        """The names of the published spaces of a role, in alphabetical order."""
        return sorted(record.name for record in self.store.spaces(role) if record.published)

    def space(self, name: str | None = None, version: int | None = None, role: Head = "indexer") -> Space:
        """A space, loaded once: the only one of that role without a name, the published version without a version."""
        found = self._spaces.get((role, name, version))
        if found is None:
            chosen = name or self._only(role)
            loaded = (space for space in self._spaces.values() if _is(space, role, chosen, version))  # by another call
            found = next(loaded, None) or Space.load(self.store, chosen, version, role)
            self._spaces[role, name, version] = found
        return found

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
