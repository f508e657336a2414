"""An index that is built in the background, by a thread that touches no database."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from xmr_core.progress import Run, use_run
from xmr_core.search.index import Index

__all__ = ["Rebuilding"]

T = TypeVar("T")
PATIENCE = 10  # seconds to wait for a build that is to stop; after it, what it makes is dropped


class _Stopped(BaseException):
    """The build is not wanted any longer."""


class _Stoppable(Run):
    """Stops a build between two of the steps that it shows progress of."""

    def __init__(self, stopped: threading.Event) -> None:
        self.stopped = stopped

    def track(
        self, steps: Iterable[T], what: str, total: int | None = None, size: Callable[[T], int] | None = None
    ) -> Iterator[T]:
        for step in steps:
            if self.stopped.is_set():
                raise _Stopped
            yield step


class Rebuilding:
    """A build that has begun. `keep` saves what was built, and asks in between whether it is still wanted."""

    def __init__(self, build: Callable[[], Index], keep: Callable[[Index, Callable[[], bool]], object]) -> None:
        """Start a thread that calls `build`, then `keep`."""
        self._build, self._keep = build, keep
        self._stopped = threading.Event()
        self.index: Index | None = None  # once it is done, unless it failed
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="xmr index", daemon=True)
        _running.add(self)
        self._thread.start()

    def _work(self) -> None:
        try:
            with use_run(_Stoppable(self._stopped)):
                index = self._build()
            if self.wanted():
                self._keep(index, self.wanted)
            self.index = index
        except _Stopped:
            pass
        except BaseException as error:  # told by whoever looks for the index next
            self.error = error

    def wanted(self) -> bool:
        """False where it was told to stop."""
        return not self._stopped.is_set()

    @property
    def done(self) -> bool:
        """True when the thread has ended."""
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Wait until the thread has ended: a build ends at its next step, and nothing is written after this.

        A build without steps is left to itself after `PATIENCE`, and what it makes is dropped.
        """
        self._stopped.set()
        self._thread.join(PATIENCE)


_running: weakref.WeakSet[Rebuilding] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """A thread inside compiled code must not outlive the interpreter."""
    for rebuilding in list(_running):
        rebuilding.stop()
