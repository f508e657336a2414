"""Equal vectors as one: a graph links a vector to its nearest, and where these are all equal to it, nowhere else.

Letters: n vectors, g groups of equal vectors, p pairs of a query and a group.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

ROWS = 4096  # hashed at once

Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Groups:
    """Which vectors are equal: group i has `members[starts[i] : starts[i + 1]]`, ascending. Groups come in the order
    of their first members."""

    members: Places  # (n,)
    starts: Places  # (g + 1,)

    @staticmethod
    def of(vectors: NDArray[np.float32]) -> Groups:
        """The groups of equal rows (n, d), told apart by a hash."""
        _, firsts, numbers = np.unique(_hashes(vectors), return_index=True, return_inverse=True)
        ranks = np.empty(len(firsts), np.int64)
        ranks[np.argsort(firsts)] = np.arange(len(firsts))
        numbers = ranks[numbers]  # (n,) the group of each vector
        members = np.argsort(numbers, kind="stable")
        return Groups(members, np.searchsorted(numbers[members], np.arange(len(firsts) + 1)))

    def __len__(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def firsts(self) -> Places:
        """(g,): a vector of each group."""
        return self.members[self.starts[:-1]]

    def only(self, allowed: NDArray[np.bool_]) -> Groups:
        """The same groups without the members that are not allowed; some may be left empty."""
        kept = allowed[self.members]
        return Groups(self.members[kept], np.concatenate([[0], np.cumsum(kept)])[self.starts])

    def expanded(self, groups: Places, most: int) -> tuple[Places, Places]:
        """The first `most` members of each of these groups (p,), and the positions in `groups` they stand for."""
        starts = self.starts[groups]
        sizes = np.minimum(self.starts[groups + 1] - starts, most)
        ends = np.cumsum(sizes)
        owners = np.repeat(np.arange(len(groups)), sizes)
        return self.members[np.arange(len(owners)) + (starts - (ends - sizes))[owners]], owners


def _hashes(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n,): equal for equal vectors; for others, as good as never: their places on a random line, in float64."""
    line = np.random.default_rng(0).standard_normal(vectors.shape[1])
    hashes = np.empty(len(vectors))
    for start in range(0, len(vectors), ROWS):
        block = slice(start, start + ROWS)
        hashes[block] = np.einsum("nd,d->n", vectors[block].astype(np.float64), line)  # a row at a time, so equal
    return hashes
