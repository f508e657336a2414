"""Hash tables of bits, and the order in which their buckets are worth a look.

Letters: n items, q queries, t tables, p planes a table, s probes a table.
"""

from __future__ import annotations

import functools
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


class Tables:
    """For each table, which items lie in which bucket: three sorted arrays for all tables together.

    `postings` (n * t,) are the items, bucket after bucket, ascending inside; `buckets` are the numbers of the buckets
    that are not empty, ascending, at least one; bucket i holds `postings[starts[i] : starts[i + 1]]`.
    """

    def __init__(self, keys: Integers, planes: int) -> None:
        """`keys` (n, t): the bucket of each item in each table, of 2**planes."""
        tables = keys.shape[1]
        small = keys.astype(np.uint16) if planes <= 16 else keys  # which numpy sorts by radix
        orders = np.stack([np.argsort(small[:, table], kind="stable") for table in range(tables)])  # (t, n)
        numbers = (np.take_along_axis(keys.T, orders, axis=1) + _offsets(tables, planes)).ravel()
        self._fill(numbers, orders.astype(np.int32).ravel())

    def extended(self, keys: Integers, planes: int) -> Tables:
        """These tables with more items, whose buckets are `keys` (m, t)."""
        tables = copy(self)
        tables._extend(keys, planes)
        return tables

    def _extend(self, keys: Integers, planes: int) -> None:
        m, t = keys.shape
        new = (keys.T + _offsets(t, planes)).ravel()  # (t * m,)
        order = np.argsort(new, kind="stable")
        items = np.tile(len(self.postings) // t + np.arange(m, dtype=np.int32), t)[order]
        numbers = np.repeat(self.buckets, np.diff(self.starts))  # (n * t,) the bucket of each posting
        places = np.searchsorted(numbers, new[order], side="right")  # an item is larger than those before it
        self._fill(np.insert(numbers, places, new[order]), np.insert(self.postings, places, items))

    def _fill(self, numbers: Integers, postings: NDArray[np.int32]) -> None:
        """Take postings, and the numbers of their buckets, ascending."""
        first = np.flatnonzero(np.diff(numbers, prepend=-1))
        self.postings, self.buckets, self.starts = postings, numbers[first], np.append(first, len(numbers))

    def candidates(self, margins: Floats, probes: int) -> tuple[Integers, Integers]:
        """The items in the `probes` nearest buckets of each table, of queries with these `margins` (q, t, p).

        (c,) items, each once for a query and ascending; (q + 1,) where each query's begin and end.
        """
        q, tables, planes = margins.shape
        numbers = (probed(margins, probes) + _offsets(tables, planes)).reshape(q, -1)  # (q, t * s)
        places = np.searchsorted(self.buckets[:-1], numbers)  # the last stands in for those beyond it
        there = self.buckets[places] == numbers
        starts = np.where(there, self.starts[places], 0)
        sizes = np.where(there, self.starts[places + 1] - starts, 0)
        found = self.postings[_ranges(starts.ravel(), sizes.ravel())]
        return _once_each(found, np.repeat(np.arange(q), sizes.sum(axis=1)), q)


def keys_of(margins: Floats) -> Integers:
    """(..., p) margins as bucket numbers (...): bit i is 1 where margin i is zero or more."""
    keys: Integers = (margins >= 0) @ (np.int64(1) << np.arange(margins.shape[-1]))
    return keys


def probed(margins: Floats, probes: int) -> Integers:
    """(q, t, s): the numbers of the `probes` buckets nearest to each query, its own first.

    A bucket's distance is the sum of the squared margins of the planes that part it from the query. Source: Lv et al.,
    "Multi-probe LSH", VLDB 2007; instead of their heap, all sets of planes that can be among the nearest are rated.
    """
    own = keys_of(margins)[:, :, None]
    if probes == 1:
        return own
    sets = _sets(margins.shape[-1], probes)  # (c, p)
    order = np.argsort(np.abs(margins), axis=2)  # (q, t, p) the planes, the nearest first
    costs = np.square(np.take_along_axis(margins, order, axis=2)) @ sets.T  # (q, t, c)
    taken = np.argsort(costs, axis=2, kind="stable")[:, :, :probes]  # (q, t, s)
    flips = sets.astype(np.int64)[taken] * (np.int64(1) << order)[:, :, None]  # (q, t, s, p)
    neighbours: Integers = own ^ flips.sum(axis=3)
    return neighbours


@functools.cache
def _sets(planes: int, probes: int) -> Floats:
    """(c, p) of 0 and 1: the sets of planes that may be among the `probes` cheapest, the planes in ascending order of
    their margins, whatever these are. The empty set comes first, so it wins ties."""
    found: list[tuple[int, ...]] = [()]
    waiting: list[tuple[int, ...]] = [(0,)]
    while waiting:
        chosen = waiting.pop()  # descending
        if _no_dearer(chosen) <= probes:
            found.append(chosen)
            if chosen[0] + 1 < planes:
                waiting += [(chosen[0] + 1, *chosen[1:]), (chosen[0] + 1, *chosen)]
    sets = np.zeros((len(found), planes), np.float32)
    for row, chosen in enumerate(found):
        sets[row, list(chosen)] = 1
    return sets


def _no_dearer(chosen: tuple[int, ...]) -> int:
    """How many sets cost no more than this one (descending) for certain: no larger, and member for member no later."""

    @functools.cache
    def count(place: int, below: int) -> int:
        if place == len(chosen):
            return 1
        return 1 + sum(count(place + 1, member) for member in range(min(chosen[place] + 1, below)))

    return count(0, chosen[0] + 1)


def _offsets(tables: int, planes: int) -> Integers:
    """(t, 1): what makes bucket numbers of different tables different."""
    return (np.arange(tables, dtype=np.int64) << planes)[:, None]


def _ranges(starts: Integers, sizes: Integers) -> Integers:
    """start, start + 1, ... of each size, one after the other."""
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(starts - (ends - sizes), sizes) + np.arange(total)


def _once_each(items: NDArray[Any], rows: Integers, q: int) -> tuple[Integers, Integers]:
    """Items without repetition in a row, ascending, and the limits (q + 1,) of the rows; `rows` ascend."""
    pairs = np.sort(rows << 32 | items)
    pairs = pairs[np.diff(pairs, prepend=-1) > 0]
    limits = np.searchsorted(pairs, np.arange(q + 1, dtype=np.int64) << 32)
    return pairs & 0xFFFFFFFF, limits
