"""What tells a file and its log from themselves after a write: every commit, of any connection, writes into one.

`ctime` is the system's own, which nobody sets back.
"""

from __future__ import annotations

import os

__all__ = ["Looks", "looks"]

Look = tuple[int, int, int, int, int]
Looks = tuple[Look | None, Look | None]  # of the file, and of its log


def looks(path: str) -> Looks:
    """The device, inode, size and times of a file and of its log; None where there is none."""
    return _look(path), _look(f"{path}.wal")


def _look(path: str) -> Look | None:
    try:
        found = os.stat(path)  # noqa: PTH116  (of a str, in a third of the time)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
