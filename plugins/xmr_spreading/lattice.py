"""The integer points of a sphere: how many there are, the closest to a vector, and a number for each of them.

Source: Sablayrolles, Douze, Schmid, Jegou, "Spreading vectors for similarity search", ICLR 2019, for the quantizer.
The points of squared norm r2 in d dimensions, divided by sqrt(r2), lie on the unit sphere: a codebook of up to 2**64
entries without a table. Numbering them: the d numbers are cut into a few short pieces; a piece is found in a table by
its squared norm and its rank among the pieces of that norm, and the pieces are joined by counting, in mixed radix.

Letters: n vectors, d dimensions, A atoms, s what is left of the squared norm, t the share of one piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from xmr_core.plugin import ConfigError, DataError

__all__ = ["SphereLattice", "largest_r2", "sphere_lattice"]

MAX_DIM = 1000  # positions take 10 bits of a sort key
MAX_R2 = 1000  # the counting tables have r2**2 entries, and a point's numbers fit in int8
TABLE = 1 << 18  # entries of a piece's lookup table: about the size of a core's cache
ROWS = 8192  # rows coded at once
SCORES = 1 << 18  # scores of atoms held at once

Table = tuple[NDArray[np.int8], NDArray[np.int32]]  # entries, and where each is


@lru_cache(maxsize=16)
def sphere_lattice(dim: int, r2: int) -> SphereLattice:
    """The lattice of this dimension and squared radius, made once."""
    return SphereLattice(dim, r2)


@lru_cache(maxsize=64)
def largest_r2(dim: int, bits: int = 64) -> int:
    """The squared radius of the most points that `bits` bits can number. Raises ConfigError where there is none.

    >>> [largest_r2(24, bits) for bits in (16, 32, 64)]
    [3, 10, 79]
    """
    if not 1 <= dim <= MAX_DIM:
        raise ConfigError("dim", dim, f"must be between 1 and {MAX_DIM}")
    theta = np.zeros(MAX_R2 + 1)
    theta[np.square(np.arange(int(MAX_R2**0.5) + 1))] = 2
    theta[0] = 1
    sizes = np.zeros(MAX_R2 + 1)
    sizes[0] = 1
    for _ in range(dim):  # float64 is near enough to tell the candidates
        sizes = np.minimum(np.convolve(sizes, theta)[: MAX_R2 + 1], 1e300)
    sizes[0] = 0
    sizes[sizes > 2.0**bits * (1 + 1e-9)] = 0
    best = int(sizes.argmax())
    if not sizes[best]:
        raise ConfigError("dim", dim, f"the fewest points, of squared radius 1, need more than {bits} bits")
    return best


class SphereLattice:
    """The integer points z in d dimensions with ||z||**2 = r2.

    >>> lattice = SphereLattice(24, 79)
    >>> lattice.size, lattice.bits, lattice.nbytes
    (17319684851070915840, 64, 8)
    """

    def __init__(self, dim: int, r2: int) -> None:
        """Raises ConfigError where there is no such point, or more than 64 bits can number."""
        if not 1 <= dim <= MAX_DIM:
            raise ConfigError("dim", dim, f"must be between 1 and {MAX_DIM}")
        if not 1 <= r2 <= MAX_R2:
            raise ConfigError("r2", r2, f"must be between 1 and {MAX_R2}")
        self.dim, self.r2 = dim, r2
        self.counts = _counts(dim, r2)
        self.size = self.counts[dim][r2]
        self.bits = (self.size - 1).bit_length()
        self.nbytes = -(-self.bits // 8)

    @cached_property
    def atoms(self) -> NDArray[np.int8]:
        """(A, d): the points whose numbers do not ascend and are not negative. All others are their signed
        permutations."""
        rows = [atom + [0] * (self.dim - len(atom)) for atom in _partitions(self.r2, self.r2, self.dim)]
        return np.array(rows, np.int8)

    def closest(self, vectors: NDArray[np.float32]) -> NDArray[np.int8]:
        """(n, d) int8: the point of the smallest angle to each vector. Exact, whatever the vector's length.

        The atom of the largest inner product with the sorted absolute values, its numbers put back in their places
        with the signs of x (0 counts as positive): exact by the rearrangement inequality. Atoms that float32 cannot
        tell apart are compared again in float64, the first one winning, so that a row never depends on its batch.
        """
        points = np.empty((len(vectors), self.dim), np.int8)
        atoms = self.atoms.astype(np.float32).T  # (d, A)
        for rows in _blocks(len(vectors), max(1, SCORES // len(self.atoms))):
            self._closest(vectors[rows], atoms, points[rows])
        return points

    def _closest(self, x: NDArray[np.float32], atoms: NDArray[np.float32], points: NDArray[np.int8]) -> None:
        place = np.arange(1023, 1023 - self.dim, -1, dtype=np.uint64)
        keys = np.abs(x).view(np.uint32).astype(np.uint64) << np.uint64(10) | place  # floats >= 0 sort as their bits
        keys.sort(axis=1)
        keys = keys[:, ::-1]
        order = 1023 - (keys & np.uint64(1023)).astype(np.int64)  # (n, d) positions by |x|, descending
        sizes = (keys >> np.uint64(10)).astype(np.uint32).view(np.float32)  # (n, d) |x|, descending
        sizes /= np.maximum(sizes[:, :1], np.float32(1e-45))  # no overflow
        chosen = self._best_atom(sizes, atoms)
        np.put_along_axis(points, order, self.atoms[chosen], axis=1)
        np.negative(points, out=points, where=x < 0)

    def _best_atom(self, sizes: NDArray[np.float32], atoms: NDArray[np.float32]) -> NDArray[np.int64]:
        scores = sizes @ atoms  # (n, A)
        best: NDArray[np.int64] = scores.argmax(axis=1)
        slack = np.float32(self.dim * 2.0**-23 * np.sqrt(self.dim * self.r2))  # more than float32 can be wrong
        bound = np.take_along_axis(scores, best[:, None], axis=1) - slack
        unsure = np.flatnonzero(np.count_nonzero(scores >= bound, axis=1) > 1)
        for rows in _blocks(len(unsure), max(1, SCORES // atoms.size)):
            exact = np.einsum("nd,ad->na", sizes[unsure[rows]].astype(np.float64), self.atoms.astype(np.float64))
            best[unsure[rows]] = exact.argmax(axis=1)
        return best

    def rank(self, points: NDArray[np.int8]) -> NDArray[np.uint64]:
        """(n,) uint64: the number of each point, 0 .. size - 1. Raises DataError for a point of another radius."""
        norms = np.square(points, dtype=np.int32).sum(axis=1)
        if points.shape[1:] != (self.dim,) or (norms != self.r2).any():
            raise DataError(f"points: expected integers of shape (n, {self.dim}) and squared norm {self.r2}")
        codes = np.empty(len(points), np.uint64)
        for rows in _blocks(len(points), ROWS):
            codes[rows] = self._rank(points[rows])
        return codes

    def _rank(self, points: NDArray[np.int8]) -> NDArray[np.uint64]:
        codes = np.zeros(len(points), np.uint64)
        left = np.full(len(points), self.r2)  # s, what the pieces still to come share
        for piece in self._pieces:
            entry = piece.find(points[:, piece.columns])
            share = piece.norms[entry]  # t
            codes += piece.below[left * piece.width + share]
            left = left - share
            codes += (entry - piece.first[share]).astype(np.uint64) * piece.after[left]
        return codes

    def unrank(self, codes: NDArray[np.uint64]) -> NDArray[np.int8]:
        """(n, d) int8: the point of each number. Raises DataError for numbers that no point has."""
        if len(codes) and int(codes.max()) >= self.size:
            raise DataError(f"codes: {int(codes.max())} numbers no point, there are {self.size}")
        points = np.empty((len(codes), self.dim), np.int8)
        for rows in _blocks(len(codes), ROWS):
            self._unrank(codes[rows], points[rows])
        return points

    def _unrank(self, codes: NDArray[np.uint64], points: NDArray[np.int8]) -> None:
        left = np.full(len(codes), self.r2)
        for piece in self._pieces:
            share = piece.share(left, codes)
            codes = codes - piece.below[left * piece.width + share]
            left = left - share
            entry, codes = np.divmod(codes, piece.after[left])
            points[:, piece.columns] = piece.entries[piece.first[share] + entry.astype(np.int64)]

    def tables(self) -> dict[str, NDArray[np.int64] | NDArray[np.uint64]]:
        """`unrank` as rows, for those who decode with joins.

        `steps` (k, 6) uint64: piece, left, share, below, after, first. A code starts with left = r2. In each piece, of
        the rows of its left the last with below <= code holds: rest = code - below, entry = first + rest // after; then
        left -= share and code = rest % after. `entries` (e, 2 + longest) int64: length, entry, and the numbers,
        filled with zeros. `lengths` (pieces,) int64.
        """
        steps = np.concatenate([piece.steps(i) for i, piece in enumerate(self._pieces)])
        lengths = np.array([piece.length for piece in self._pieces], np.int64)
        entries = [_wide(piece.entries, int(lengths.max())) for piece in {p.length: p for p in self._pieces}.values()]
        return {"steps": steps, "entries": np.concatenate(entries), "lengths": lengths}

    @cached_property
    def _pieces(self) -> list[_Piece]:
        side = 2 * int(self.r2**0.5) + 1
        longest = max(length for length in range(1, self.dim + 1) if length == 1 or side**length <= TABLE)
        lengths = [len(part) for part in np.array_split(range(self.dim), -(-self.dim // longest))]
        tables = {length: _table(length, self.r2) for length in set(lengths)}
        edges = pairwise(accumulate(lengths, initial=0))
        return [_Piece.at(slice(*edge), tables[edge[1] - edge[0]], self.counts, self.r2) for edge in edges]


@dataclass(frozen=True)
class _Piece:
    """Some consecutive numbers of a point, and how to count over them.

    `entries` (e, length) int8: all of squared norm up to r2, by norm; `norms` (e,) theirs; `first` (r2 + 1,) the first
    entry of a norm; `place` entry of a mixed-radix key. `after[s]`: points that the later pieces can be, given s.
    `below[s * width + t]`: points over this piece and the later ones of norm s whose share here is less than t.
    """

    columns: slice
    entries: NDArray[np.int8]
    norms: NDArray[np.int64]
    first: NDArray[np.int64]
    place: NDArray[np.int32]
    after: NDArray[np.uint64]
    below: NDArray[np.uint64]
    width: int

    @staticmethod
    def at(
        columns: slice, table: tuple[NDArray[np.int8], NDArray[np.int32]], counts: list[list[int]], r2: int
    ) -> _Piece:
        entries, place = table
        norms = np.square(entries, dtype=np.int64).sum(axis=1)
        here = np.array(counts[columns.stop - columns.start], np.uint64)  # (r2 + 1,) pieces of each norm
        rest = counts[len(counts) - 1 - columns.stop]
        after = np.array([count % 2**64 for count in rest], np.uint64)  # those beyond 64 bits cannot occur
        width = 1 << r2.bit_length()
        below = np.full((r2 + 1, width), 2**64 - 1, np.uint64)
        for s in range(r2 + 1):
            below[s, 0] = 0
            np.cumsum(here[:s] * after[s:0:-1], out=below[s, 1 : s + 1])
        return _Piece(
            columns, entries, norms, np.searchsorted(norms, np.arange(r2 + 1)), place, after, below.ravel(), width
        )

    @property
    def length(self) -> int:
        """Numbers in this piece."""
        return int(self.entries.shape[1])

    def steps(self, number: int) -> NDArray[np.uint64]:
        """(k, 6): number, left, share, below, after, first, for each share that some point has."""
        below = self.below.reshape(-1, self.width)
        left, share = np.tril_indices(len(below))
        some = np.isin(share, self.norms) & (self.after[left - share] > 0)
        left, share = left[some], share[some]
        columns = [np.full_like(left, number), left, share, below[left, share], self.after[left - share]]
        return np.stack([column.astype(np.uint64) for column in (*columns, self.first[share])], axis=1)

    def find(self, values: NDArray[np.int8]) -> NDArray[np.int64]:
        """(n,) the entry of each row of `values` (n, length)."""
        m = round((len(self.place) ** (1 / values.shape[1]) - 1) / 2)
        key = np.zeros(len(values), np.int64)
        for column in values.T:
            key = key * (2 * m + 1) + column + m
        return self.place[key].astype(np.int64)

    def share(self, left: NDArray[np.int64], codes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """(n,) the largest t with below[left, t] <= code, by bisection."""
        at = left * self.width
        step = self.width >> 1
        while step:
            at += step * (self.below[at + step] <= codes)
            step >>= 1
        return at - left * self.width


def _table(length: int, r2: int) -> Table:
    """All integer vectors of this length and squared norm up to r2, by norm; and where each is, by its key."""
    m = int(r2**0.5)
    grid = np.indices((2 * m + 1,) * length, np.int8).reshape(length, -1).T - np.int8(m)  # in the order of the keys
    norms = np.square(grid, dtype=np.int64).sum(axis=1)
    order = np.argsort(norms, kind="stable")[: np.count_nonzero(norms <= r2)]
    place = np.zeros(len(grid), np.int32)
    place[order] = np.arange(len(order))
    return grid[order], place


def _wide(entries: NDArray[np.int8], longest: int) -> NDArray[np.int64]:
    """(e, 2 + longest): length, position, numbers."""
    rows = np.zeros((len(entries), 2 + longest), np.int64)
    rows[:, 0], rows[:, 1] = entries.shape[1], np.arange(len(entries))
    rows[:, 2 : 2 + entries.shape[1]] = entries
    return rows


def _counts(dim: int, r2: int) -> list[list[int]]:
    """counts[d][s], d = 0 .. dim: integer points of squared norm s in d dimensions, the coefficients of theta(q)**d."""
    squares = [i * i for i in range(1, int(r2**0.5) + 1)]
    counts = [[1] + [0] * r2]
    for _ in range(dim):
        last = counts[-1]
        counts.append([last[s] + 2 * sum(last[s - square] for square in squares if square <= s) for s in range(r2 + 1)])
        if counts[-1][r2] >= 2**64:
            raise ConfigError(
                "r2", r2, f"{dim} dimensions have 2**64 points or more; take less (24: 79, 32: 36, 40: 24)"
            )
    if not counts[dim][r2]:
        raise ConfigError("r2", r2, f"no point of {dim} integers has this squared norm")
    return counts


def _partitions(rest: int, most: int, length: int) -> Iterator[list[int]]:
    """The non-ascending lists of at most `length` positive numbers, of squares up to `most`, that add up to `rest`."""
    if not rest:
        yield []
        return
    if not length:
        return
    for value in range(int(min(rest, most) ** 0.5), 0, -1):
        for tail in _partitions(rest - value * value, value * value, length - 1):
            yield [value, *tail]


def _blocks(n: int, rows: int) -> Iterator[slice]:
    return (slice(start, start + rows) for start in range(0, n, rows))
