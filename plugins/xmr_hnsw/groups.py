"""Equal vectors as one: a graph links a vector to its nearest, and where these are all equal to it, nowhere else.

Letters: n vectors, g groups of equal vectors, p pairs of a query and a group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Groups", "Mask", "Places"]

ROWS = 4096  # hashed at once

Places = NDArray[np.int64]


class Mask:
    """Which of n positions are allowed."""

    def __init__(self, n: int, positions: Places) -> None:
        self.bits = np.zeros(n, bool)
        self.bits[positions] = True

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.bits.nbytes


@dataclass(frozen=True, eq=False)
class Groups:
    """Which vectors are equal: group i has `members[starts[i] : starts[i + 1]]`, ascending. Groups come in the order
    of their first members."""

    members: Places  # (n,)
    starts: Places  # (g + 1,)
    hashes: NDArray[np.float64]  # (n,)

    @staticmethod
    def of(vectors: NDArray[np.float32]) -> Groups:
        """The groups of equal rows (n, d), told apart by a hash."""
        hashes = _hashes(vectors)
        _, firsts, numbers = np.unique(hashes, return_index=True, return_inverse=True)
        if len(firsts) == len(hashes):
            return Groups(np.arange(len(hashes)), np.arange(len(hashes) + 1), hashes)
        ranks = np.empty(len(firsts), np.int64)
        ranks[np.argsort(firsts)] = np.arange(len(firsts))
        numbers = ranks[numbers]  # (n,) the group of each vector
        members = np.argsort(numbers, kind="stable")
        return Groups(members, np.searchsorted(numbers[members], np.arange(len(firsts) + 1)), hashes)

    @staticmethod
    def of_arrays(arrays: Mapping[str, NDArray[Any]]) -> Groups:
        """The groups that `arrays` gave."""
        hashes = arrays["hashes"]
        if "members" not in arrays:
            return Groups(np.arange(len(hashes)), np.arange(len(hashes) + 1), hashes)
        return Groups(arrays["members"], arrays["starts"], hashes)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What there is to save."""
        return {"hashes": self.hashes} | ({} if self.single else {"members": self.members, "starts": self.starts})

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def single(self) -> bool:
        """True where no two vectors are equal: group i is vector i."""
        return len(self.starts) == len(self.members) + 1

    @cached_property
    def firsts(self) -> Places:
        """(g,): a vector of each group."""
        return self.members[self.starts[:-1]]

    @cached_property
    def crowded(self) -> NDArray[np.bool_]:
        """(g,): which groups have several members."""
        return np.diff(self.starts) > 1

    def only(self, allowed: NDArray[np.bool_]) -> Groups:
        """The same groups without the members that are not allowed; some may be left empty."""
        kept = allowed[self.members]
        return Groups(self.members[kept], np.concatenate([[0], np.cumsum(kept)])[self.starts], self.hashes)

    def extended(self, vectors: NDArray[np.float32]) -> tuple[Groups, Places, Places]:
        """These groups with a few more vectors (m, d); the numbers of new groups, and the rows they begin with."""
        groups, numbers, rows = self, [], []
        for row, value in enumerate(_hashes(vectors)):
            equal = np.flatnonzero(groups.hashes == value)[:1]
            if len(equal):
                (place,) = np.flatnonzero(groups.members == equal)
                number = int(np.searchsorted(groups.starts, place, side="right")) - 1
            else:
                number = len(groups)
                numbers.append(number)
                rows.append(row)
            groups = groups._with(number, value)
        return groups, np.array(numbers, np.int64), np.array(rows, np.int64)

    def _with(self, number: int, value: float) -> Groups:
        """One more vector, the last, in a group; a new one where its number is that of the groups."""
        starts = np.append(self.starts, self.starts[-1]) if number == len(self) else self.starts.copy()
        members = np.insert(self.members, starts[number + 1], len(self.members))
        starts[number + 1 :] += 1
        return Groups(members, starts, np.append(self.hashes, value))

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
