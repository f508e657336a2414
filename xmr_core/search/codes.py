"""What an indexer stores: rows of bytes, and the layout that says which named, typed columns they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import DataError, StateError
from xmr_core.search.digests import array_digest

__all__ = ["Codes", "Column", "Layout", "words_of"]

SIZES = {  # bytes of a number in a packed row
    **{f"{sign}int{bits}": bits // 8 for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "float32": 4,
    "float64": 8,
    "bytes": 1,
}
TAKEN = ("item_id", "modality", "wanted")
LEAST_ROOM = 1024  # rows that arrays with room to grow have to spare, or an eighth of what they hold


@dataclass(frozen=True)
class Column:
    """A typed column of a code table, and the bytes it takes in a packed row (little-endian).

    `dtype` is numpy's name of a number type, or "bytes". `width` counts the entries of an array, or the bytes of opaque
    ones; None is a single number. `bits` are those that an unsigned integer uses, None for all: a row holds no more
    bytes than they need.
    """

    name: str
    dtype: str
    width: int | None = None
    bits: int | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name) or self.name in TAKEN:
            raise DataError(f"column {self.name!r}: use a to z, 0 to 9 and _, and not {', '.join(TAKEN)}")
        sized = self.width is None if self.dtype != "bytes" else False
        if self.dtype not in SIZES or not (sized or (type(self.width) is int and self.width >= 0)):
            raise DataError(f"column {self.name!r}: expected one of {', '.join(SIZES)}, bytes with a width; got {self}")
        unsigned = self.dtype.startswith("u") and self.width is None
        if self.bits is not None and not (unsigned and 1 <= self.bits <= 8 * SIZES[self.dtype]):
            raise DataError(f"column {self.name!r}: only an unsigned number has bits, as many as its type at most")

    @property
    def nbytes(self) -> int:
        """Bytes in a packed row."""
        return -(-self.bits // 8) if self.bits else SIZES[self.dtype] * (1 if self.width is None else self.width)


@dataclass(frozen=True)
class Layout:
    """Which typed columns a database gives a code, and how they lie in its packed row: one after the other.

    `name` labels it ("bits", "float", ...) and decides nothing. `dim`: the bits, symbols or dimensions of a code.

    >>> Layout.bits(72).columns[1], Layout.bits(72).nbytes
    (Column(name='w1', dtype='uint64', width=None, bits=8), 9)
    """

    name: str
    columns: tuple[Column, ...]
    dim: int

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if not names or len(set(names)) < len(names) or self.dim < 0 or not re.fullmatch("[a-z][a-z0-9]*", self.name):
            raise DataError(f"layout: expected a name of a to z and 0 to 9, different columns and a size, got {self}")

    @classmethod
    def bits(cls, dim: int, name: str = "bits") -> Layout:
        """`dim` bits, packed as `pack_bits` does; 64-bit words w0, w1, ..."""
        words = (Column(f"w{j}", "uint64", bits=min(64, dim - 64 * j)) for j in range(-(-dim // 64)))
        return cls(name, tuple(words), dim)

    @classmethod
    def vectors(cls, dim: int, name: str = "float") -> Layout:
        """`dim` float32, an array column `vector`."""
        return cls(name, (Column("vector", "float32", dim),), dim)

    @classmethod
    def symbols(cls, dim: int, bits: int = 8, name: str = "symbols") -> Layout:
        """`dim` symbols of up to 16 bits; columns c0, c1, ..., a byte or two each."""
        dtype = "uint8" if bits <= 8 else "uint16"
        return cls(name, tuple(Column(f"c{j}", dtype, bits=bits) for j in range(dim)), dim)

    @classmethod
    def number(cls, dim: int, bits: int = 64, name: str = "number") -> Layout:
        """One unsigned number of up to 64 bits, which stands for `dim` others; column w0."""
        return cls(name, (Column("w0", "uint64", bits=bits),), dim)

    @classmethod
    def opaque(cls, nbytes: int, dim: int = 0, name: str = "bytes") -> Layout:
        """Bytes that only their indexer can read; column `code`, a BLOB."""
        return cls(name, (Column("code", "bytes", nbytes),), dim)

    @property
    def nbytes(self) -> int:
        """Bytes of a packed row, in `Codes.values`."""
        return sum(column.nbytes for column in self.columns)

    @property
    def holds_vectors(self) -> bool:
        """True where its columns are those of `vectors`."""
        return self.columns == Layout.vectors(self.dim).columns

    def pack(self, columns: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
        """(n, nbytes): the rows of columns, each (n,) or (n, width). Raises DataError on another shape, or a number too
        large for its bytes."""
        parts = []
        for column in self.columns:
            array = np.asarray(columns[column.name])
            if array.shape[1:] != (() if column.width is None else (column.width,)):
                raise DataError(f"column {column.name!r}: expected {column}, got an array of {array.shape}")
            if column.bits and array.size and int(array.max()) >> 8 * column.nbytes:
                raise DataError(f"column {column.name!r}: {array.max()} takes more than {column.nbytes} bytes")
            plain = np.ascontiguousarray(array, _dtype(column)).view(np.uint8)
            whole = SIZES[column.dtype] * (1 if column.width is None else column.width)
            parts.append(plain.reshape(len(array), whole)[:, : column.nbytes])
        return np.concatenate(parts, axis=1)

    def unpack(self, rows: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """The inverse of `pack`: each column (n,) or (n, width)."""
        columns, start = {}, 0
        for column in self.columns:
            dtype = _dtype(column)
            whole = np.zeros((len(rows), dtype.itemsize * (1 if column.width is None else column.width)), np.uint8)
            whole[:, : column.nbytes] = rows[:, start : start + column.nbytes]
            columns[column.name] = whole.view(dtype)[:, 0] if column.width is None else whole.view(dtype)
            start += column.nbytes
        return columns

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `from_json`."""
        return asdict(self)

    @staticmethod
    def from_json(plain: Mapping[str, Any]) -> Layout:
        """The layout that `to_json` wrote. Raises StateError where it is damaged."""
        try:
            columns = tuple(Column(**column) for column in plain["columns"])
            return Layout(str(plain["name"]), columns, int(plain["dim"]))
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise StateError(f"a stored layout is damaged: {error}") from None


@dataclass(eq=False)
class _Room:
    """Arrays with room behind the rows in use. What is in use never changes, so codes that end earlier stay true."""

    ids: NDArray[np.int64]  # (capacity,)
    values: NDArray[np.uint8]  # (capacity, nbytes)
    used: int

    @classmethod
    def over(cls, rows: int, nbytes: int) -> _Room:
        """Room for so many rows and an eighth more. The system gives memory to what is written alone."""
        capacity = rows + max(LEAST_ROOM, rows // 8)
        return cls(np.empty(capacity, np.int64), np.empty((capacity, nbytes), np.uint8), 0)

    def append(self, codes: Codes) -> None:
        """Write rows behind those in use."""
        rows = slice(self.used, self.used + len(codes))
        self.ids[rows], self.values[rows] = codes.ids, codes.values
        self.used = rows.stop

    def holds(self, start: int, codes: Codes) -> bool:
        """True where these codes stand in the rows from `start`."""
        rows = slice(start, start + len(codes))
        if rows.stop > self.used:
            return False
        return np.array_equal(self.ids[rows], codes.ids) and np.array_equal(self.values[rows], codes.values)

    def codes(self, layout: Layout, rows: int) -> Codes:
        """The first rows."""
        made = Codes(self.ids[:0], self.values[:0], layout)
        parts = {"ids": _read_only(self.ids[:rows]), "values": self.values[:rows], "_room": self}
        for name, value in parts.items():  # checked when they came
            object.__setattr__(made, name, value)
        return made


@dataclass(frozen=True, eq=False)
class Codes:
    """What is stored: `ids` (n,) int64 ascending and unique, `values` (n, layout.nbytes) uint8."""

    ids: NDArray[np.int64]
    values: NDArray[np.uint8]
    layout: Layout
    _room: _Room | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        ids = _read_only(self.ids)
        want = (len(ids), self.layout.nbytes)
        if self.values.dtype != np.uint8 or self.values.shape != want:
            raise DataError(f"codes: expected uint8 {want}, got {self.values.dtype} {self.values.shape}")
        if len(ids) > 1 and not (np.diff(ids) > 0).all():
            raise DataError("codes: ids must be ascending and unique")
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "values", np.ascontiguousarray(self.values))

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, positions: Any) -> Codes:
        """The codes at these (ascending) positions."""
        return Codes(self.ids[positions], self.values[positions], self.layout)

    def extended(self, more: Codes) -> Codes:
        """These codes and `more`, of larger ids alone; the memory is shared. It costs what `more` costs: there is room
        behind these, and where there is none they are moved once to where there is. Raises DataError."""
        if more.layout != self.layout or (len(self) and len(more) and more.ids[0] <= self.ids[-1]):
            raise DataError("codes: only those of the same layout and of larger ids can be appended")
        room = self._room
        if room is not None and room.holds(len(self), more):  # another index has taken the same codes in
            return room.codes(self.layout, len(self) + len(more))
        if room is None or room.used != len(self) or room.used + len(more) > len(room.ids):
            room = _Room.over(len(self) + len(more), self.layout.nbytes)
            room.append(self)
        room.append(more)
        return room.codes(self.layout, room.used)

    def with_room(self) -> Codes:
        """The same codes with room behind them, so that `extended` need not move them."""
        if self._room is not None and self._room.used == len(self):
            return self
        room = _Room.over(len(self), self.layout.nbytes)
        room.append(self)
        return room.codes(self.layout, room.used)

    @staticmethod
    def mapped(ids: Path, values: Path, rows: int, layout: Layout) -> Codes:
        """The codes in two files of plain rows, which are mapped into memory; whoever maps them compares the `digest`.

        Raises OSError, ValueError where the files do not hold so many rows.
        """
        shape = rows, layout.nbytes
        if ids.stat().st_size != 8 * rows or values.stat().st_size != rows * layout.nbytes:
            raise ValueError(f"{values.parent}: expected {rows} rows of {layout.nbytes} bytes, and their ids")
        return Codes(np.memmap(ids, np.int64, "r"), np.asarray(np.memmap(values, np.uint8, "r", shape=shape)), layout)

    def merged(self, more: Codes) -> Codes:
        """These codes and `more`, of other ids, in the order of their ids."""
        order = np.argsort(np.concatenate([self.ids, more.ids]), kind="stable")
        ids, values = np.concatenate([self.ids, more.ids]), np.concatenate([self.values, more.values])
        return Codes(ids[order], values[order], self.layout)

    @property
    def nbytes(self) -> int:
        """Bytes of ids and values."""
        return self.ids.nbytes + self.values.nbytes

    @cached_property
    def digest(self) -> str:
        """Tells these codes from others, and from damaged ones."""
        return array_digest(self.ids, self.values)

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """The columns of the layout by name, each (n,) or (n, width)."""
        return self.layout.unpack(self.values)

    @property
    def hold_vectors(self) -> bool:
        """True where a code is one float32 array."""
        return self.layout.holds_vectors

    @property
    def vectors(self) -> NDArray[np.float32]:
        """(n, d) float32. Raises DataError where the columns are not those of `Layout.vectors`."""
        if not self.hold_vectors:
            raise DataError(f"codes of layout {self.layout.name!r} hold no vectors")
        return self.values.view("<f4").astype(np.float32, copy=False)

    @staticmethod
    def of_columns(ids: NDArray[np.int64], layout: Layout, columns: Mapping[str, NDArray[Any]]) -> Codes:
        """Codes from the columns of a layout, each (n,) or (n, width). Raises DataError where they do not fit it."""
        return Codes(ids, layout.pack(columns), layout)

    @staticmethod
    def of_vectors(ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> Codes:
        """Codes that are vectors as they are, from (n, d) float32."""
        vectors = np.ascontiguousarray(vectors, "<f4")
        layout = Layout.vectors(vectors.shape[1])
        return Codes(ids, vectors.view(np.uint8).reshape(len(vectors), layout.nbytes), layout)


def _read_only(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The ids, contiguous, as a view that cannot be written to."""
    view = np.ascontiguousarray(ids, np.int64).view()
    view.flags.writeable = False
    return view


def _dtype(column: Column) -> np.dtype[Any]:
    return np.dtype(np.uint8 if column.dtype == "bytes" else column.dtype).newbyteorder("<")


def words_of(bits: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(n, bytes) of packed bits as (n, ceil(bytes/8)) little-endian words, signed, the last one filled with zeros: a
    query in SQL."""
    padded = np.zeros((len(bits), -(-bits.shape[1] // 8) * 8), np.uint8)
    padded[:, : bits.shape[1]] = bits
    return padded.view("<i8")
