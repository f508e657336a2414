"""Regions of pictures, kept in files beside the database and read back by mapping them into memory.

They are too large for a table: 49 regions of 1,280 numbers take 125 KB a picture in float16. A folder holds those of
one encoder:

    values       rows of (tokens, dim), appended as they are made
    digests      the sha256 of each row's picture, appended after its values: the rows that count are those in both
    shape.json   dtype, tokens and dim of a row

A process that is killed leaves at most a torn tail, which is not counted and is overwritten by the next. Rows are found
by what a picture is, not by its id: an id of an `add` that failed may come to mean another picture, a digest cannot.
The folder is a cache; it may be deleted at any time.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import DataError, not_written
from xmr_core.store import Store
from xmr_core.types import IMAGE

__all__ = ["Regions", "digests_of", "forget", "kept_of"]

DIGEST = np.dtype("S32")  # numpy leaves zeros at the end out of comparisons; among digests of 32 bytes that is the same
GONE = b""  # the digest of a row that is blanked
FOLDER = "features"  # of the regions of all encoders, in the store's folder


def digests_of(contents: Iterable[str]) -> NDArray[np.bytes_]:
    """(n,) digests, from sha256 in hexadecimal as a store keeps them."""
    return np.array([bytes.fromhex(content) for content in contents], DIGEST)


def kept_of(store: Store, ids: NDArray[np.int64]) -> NDArray[np.bytes_]:
    """Digests of the stored items of these ids; none where no regions are kept. For `forget`, once they are deleted."""
    if store.folder is None or not (store.folder / FOLDER).is_dir():
        return np.empty(0, DIGEST)
    rows = store.describe(ids)
    keys = [key for key, modality in zip(rows["key"], rows["modality"], strict=True) if modality == IMAGE]
    return digests_of(store.match(IMAGE, keys)[1])


def forget(store: Store, digests: NDArray[np.bytes_]) -> None:
    """Blank what is kept of these pictures, by whichever encoder."""
    for folder in sorted((store.folder / FOLDER).glob("*/")) if store.folder and len(digests) else ():
        Regions(folder).blank(digests)


class Regions:
    """The regions that one encoder gave, in a folder of their own. Raises StorageError where it cannot be written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shape, self.dtype = _shape(folder / "shape.json")

    @staticmethod
    def of(folder: Path, encoder: str) -> Regions:
        """Those of an encoder, named with its fingerprint, in the folder of a store."""
        return Regions(folder / FOLDER / encoder)

    @property
    def _row(self) -> int:
        """Bytes of a row; 0 where nothing is kept yet."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __len__(self) -> int:
        """Rows that are whole."""
        sizes = [_size(self.folder / "values") // max(1, self._row), _size(self.folder / "digests") // DIGEST.itemsize]
        return min(sizes) if self._row else 0

    def find(self, digests: NDArray[np.bytes_]) -> NDArray[np.int64]:
        """(n,) the rows of these digests, the first where one is there twice, -1 where none is."""
        kept = self._digests()
        if not len(kept):
            return np.full(len(digests), -1)
        order = np.argsort(kept, kind="stable")
        places = np.searchsorted(kept, digests, sorter=order).clip(max=len(kept) - 1)
        rows = order[places]
        return np.where(kept[rows] == digests, rows, -1)

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """(n, tokens, dim) of these rows: mapped, nothing read yet, where they follow each other; else a copy."""
        values = self._mapped()
        first = int(rows[0]) if len(rows) else 0
        if np.array_equal(rows, np.arange(first, first + len(rows))):
            return values[first : first + len(rows)]
        return np.asarray(values[rows])

    def append(self, digests: NDArray[np.bytes_], values: NDArray[Any]) -> None:
        """Keep the regions (n, tokens, dim) of pictures. Raises DataError where they are of another shape."""
        try:
            if not self._row:
                self._begin(values)
            if (values.shape[1:], values.dtype) != (self.shape, self.dtype):
                raise DataError(
                    f"{self.folder.name}: kept are {self.dtype} {self.shape} a picture, "
                    f"got {values.dtype} {values.shape[1:]}; a cacheable encoder gives as many to all"
                )
            count = len(self)
            _write(self.folder / "values", count * self._row, np.ascontiguousarray(values))
            _write(self.folder / "digests", count * DIGEST.itemsize, digests)
        except OSError as error:
            hint = f"regions of {values[:1].nbytes >> 10} KB an image are kept there"
            raise not_written(self.folder, error, hint) from error

    def blank(self, digests: NDArray[np.bytes_]) -> None:
        """Overwrite the rows of these digests with zeros."""
        rows = np.flatnonzero(np.isin(self._digests(), digests))
        if len(rows):
            self._mapped("r+")[rows] = 0
            np.memmap(self.folder / "digests", DIGEST, "r+", shape=(len(self),))[rows] = GONE

    def _digests(self) -> NDArray[np.bytes_]:
        count = len(self)
        return np.fromfile(self.folder / "digests", DIGEST, count) if count else np.empty(0, DIGEST)

    def _mapped(self, mode: Any = "r") -> NDArray[Any]:
        if not len(self):
            return np.empty((0, *self.shape), self.dtype)
        return np.memmap(self.folder / "values", self.dtype, mode, shape=(len(self), *self.shape))

    def _begin(self, values: NDArray[Any]) -> None:
        """An empty folder for rows of this kind."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        half = self.folder / f"{uuid.uuid4().hex}.half"
        half.write_text(json.dumps({"dtype": values.dtype.str, "shape": values.shape[1:]}))
        half.replace(self.folder / "shape.json")
        self.shape, self.dtype = values.shape[1:], values.dtype


def _shape(file: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of a row; () of nothing where the file is missing or damaged, and all is begun anew."""
    try:
        told = json.loads(file.read_text())
        shape: Sequence[int] = told["shape"]
        return tuple(int(size) for size in shape), np.dtype(told["dtype"])
    except (OSError, ValueError, KeyError, TypeError):
        return (0,), np.dtype(np.float16)


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _write(file: Path, offset: int, array: NDArray[Any]) -> None:
    """Write from `offset` on, whatever lay there, and onto the disk before going on."""
    with file.open("r+b" if file.exists() else "wb") as out:
        out.truncate(offset)
        out.seek(offset)
        array.tofile(out)
        out.flush()
        os.fsync(out.fileno())
