"""What a filter lets through, kept for the next query of the same filter with all that indexes have made of it."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from xmr_core.search.hits import as_among, positions_of

__all__ = ["Remembered", "Selection"]

LIMIT = 64 << 20  # bytes that are remembered


class Sized(Protocol):
    """What says how much memory it takes."""

    @property
    def nbytes(self) -> int: ...


T = TypeVar("T", bound=Sized)


class Remembered(Generic[T]):
    """What was made of arrays that are read-only, as long as these live, and no more than `limit` bytes of it: what was
    not asked for the longest goes first. Of an array that may change nothing is remembered."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit, self.size = limit, 0
        self._made: OrderedDict[int, tuple[weakref.ref[NDArray[Any]], T]] = OrderedDict()

    def of(self, array: NDArray[Any], make: Callable[[], T]) -> T:
        """What `make` gives, or gave for the same array before."""
        known = self._made.get(id(array))
        if known is not None and known[0]() is array:
            self._made.move_to_end(id(array))
            return known[1]
        made = make()
        if not array.flags.writeable and made.nbytes <= self.limit:
            self._keep(array, made)
        return made

    def _keep(self, array: NDArray[Any], made: T) -> None:
        number, owner = id(array), weakref.ref(self)

        def gone(_: object) -> None:
            remembered = owner()
            if remembered is not None:
                remembered._drop(number)

        self._drop(number)
        self._made[number] = weakref.ref(array, gone), made
        self.size += made.nbytes
        while self.size > self.limit:
            self._drop(next(iter(self._made)))

    def _drop(self, number: int) -> None:
        known = self._made.pop(number, None)
        if known is not None:
            self.size -= known[1].nbytes


class Selection:
    """Ids that a filter lets through, for `Index.search(among=...)`. Give the same selection again, and what indexes
    have made of it (positions, masks, gathered vectors) serves again.

    `ids` (n,) int64 ascending and unique, read-only.
    """

    def __init__(self, ids: object) -> None:
        """Ids in any order, repetition allowed. Raises DataError where they are no whole numbers of shape (n,)."""
        self.ids = frozen(as_among(ids))
        self._positions: Remembered[NDArray[np.int64]] = Remembered()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        """Bytes of the ids and of their positions in indexes."""
        return self.ids.nbytes + self._positions.size

    def positions(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the selected are among the ids (n,) of an index, ascending."""
        return self._positions.of(ids, lambda: frozen(positions_of(ids, self.ids)))


def frozen(array: NDArray[np.int64]) -> NDArray[np.int64]:
    """The array, read-only from here on; a copy where it is a view of something that may change."""
    array = array if array.base is None and array.flags.owndata else array.copy()
    array.flags.writeable = False
    return array
