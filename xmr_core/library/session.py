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
from xmr_core.library.vqa import Learnt
from xmr_core.progress import use_run
from xmr_core.store import Store

__all__ = ["QueryEncoder", "Session"]

QueryEncoder = Callable[[list[Any]], Any]  # n texts, or n images, to (n, d): an array or a tensor


@dataclass(eq=False)
class Session:
    """What every verb works on. `progress` shows bars; None shows them where somebody watches the error stream."""

    store: Store
    progress: bool | None = None
    _spaces: dict[tuple[str | None, int | None], Space] = field(default_factory=dict, init=False)
    _answerers: dict[str, Learnt] = field(default_factory=dict, init=False)
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
        """Load spaces, answerers and links again when next asked for: codes, versions or names have changed."""
        self._links = None
        self._spaces.clear()
        self._answerers.clear()

    def links(self) -> NDArray[np.int64]:
        """(p, 2) int64: ids of the image and the text of every pair, read once."""
        if self._links is None:
            self._links = self.store.links()
        return self._links

    def published(self) -> list[str]:
        """The names of the published spaces, in alphabetical order."""
        return sorted(record.name for record in self.store.spaces() if record.published)

    def space(self, name: str | None = None, version: int | None = None) -> Space:
        """A space, loaded once: the only one if no name is given, the published version if no version is."""
        found = self._spaces.get((name, version))
        if found is None:
            chosen = name or self._only_space()
            loaded = (space for space in self._spaces.values() if _is(space, chosen, version))  # under another call
            found = next(loaded, None) or Space.load(self.store, chosen, version)
            self._spaces[name, version] = found
        return found

    def _only_space(self) -> str:
        names = self.published()
        if len(names) != 1:
            raise DataError(
                f"which space? there are {', '.join(names)}" if names else "no space yet: fit a recipe first"
            )
        return names[0]

    def answerers(self) -> list[str]:
        """The names of the answerers."""
        return [record.name for record in self.store.answerers()]

    def answerer(self, name: str | None = None) -> Learnt:
        """An answerer, loaded once: the only one if no name is given."""
        names = self.answerers()
        if name is None and len(names) != 1:
            there = ", ".join(names)
            raise DataError(f"which answerer? there are {there}" if names else "no answerer yet: learn one first")
        chosen = names[0] if name is None else name
        if chosen not in self._answerers:
            self._answerers[chosen] = Learnt.load(self.store, chosen)
        return self._answerers[chosen]


def _is(space: Space, name: str, version: int | None) -> bool:
    record = space.record
    return record.name == name and (record.published if version is None else record.version == version)
