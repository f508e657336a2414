"""Digests of arrays and files that tell damage and difference apart, at the speed of memory.

CRC-32 over blocks, by several threads, and SHA-256 over their list. They guard a cache against accidents, as CRC does,
not against somebody who can write into it.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["array_digest", "file_digest"]

BLOCK = 1 << 22  # bytes that a thread takes at once
THREADS = 8  # at most


def array_digest(*arrays: NDArray[Any]) -> str:
    """The digest of arrays: types, shapes and contents."""
    views = [np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in arrays]
    blocks = [view[start : start + BLOCK] for view in views for start in range(0, len(view), BLOCK)]
    return _joined([[array.dtype.str, list(array.shape)] for array in arrays], _each(zlib.crc32, blocks))


def file_digest(file: Path) -> str:
    """The digest of a file's content. Raises OSError."""
    size = file.stat().st_size

    def block(start: int) -> int:
        with file.open("rb", buffering=0) as opened:
            opened.seek(start)
            return zlib.crc32(opened.read(BLOCK))

    return _joined(size, _each(block, range(0, size, BLOCK)))


def _each(function: Callable[[Any], Any], blocks: Iterable[Any]) -> list[Any]:
    """The results in order; in threads, where there are several blocks: zlib and files let the interpreter run on."""
    listed = list(blocks)
    workers = min(len(listed), THREADS, os.cpu_count() or 1)
    if workers < 2:
        return [function(block) for block in listed]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, listed))


def _joined(about: object, sums: list[int]) -> str:
    return hashlib.sha256(json.dumps([about, sums]).encode()).hexdigest()
