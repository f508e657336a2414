"""What changed since a revision, as `xmr.changes` tells it. See `revisions` for how it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmr_core.store import Changes

if TYPE_CHECKING:
    from xmr_storage.connection import Connection

__all__ = ["News", "news"]

Range = tuple[int, int, bool]  # first_id, last_id, removed


@dataclass(frozen=True)
class News:
    """The rows of `xmr.changes` since a revision, in the order in which things happened: space, version, modality,
    first_id, last_id, removed."""

    rows: list[tuple[str, int, str, int | None, int | None, bool]]

    @property
    def links(self) -> bool:
        """True where links came or went."""
        return any(not space and (modality == "pairs" or removed) for space, _, modality, _, _, removed in self.rows)

    def of(self, name: str, version: int, modality: str) -> Changes | None:
        """What became of the codes of a modality; None where that cannot be told. No name stands for the library."""
        ranges: list[Range] = []
        for space, of_version, kind, first, last, removed in self.rows:
            if space and ((space, of_version) != (name, version) or kind not in ("", modality)):
                continue
            if first is None or last is None:
                if removed:
                    return None
                continue
            ranges.append((first, last, removed))
        return _latest(ranges)


def news(con: Connection, since: int) -> News | None:
    """What happened since a revision; None where that is too long ago, or it is none of this history."""
    if not con.columns("changes"):  # an older file, open for reading only
        return None
    columns = "revision, space, version, modality, first_id, last_id, removed"
    rows = con.rows(f"SELECT {columns} FROM xmr.changes WHERE revision >= $1", [since])
    rows.sort(key=lambda row: (row[0], not row[-1]))  # sooner done here than by a statement over few rows
    if not rows or rows[0][0] != since:
        return None
    return News([(*row[1:6], bool(row[6])) for row in rows if row[0] != since])


def _latest(ranges: list[Range]) -> Changes:
    """The last that happened to each id, of ranges of ids in the order in which they came or went."""
    ids = [np.arange(first, last + 1) for first, last, _ in ranges]
    gone = [np.full(len(range_), removed) for range_, (_, _, removed) in zip(ids, ranges, strict=True)]
    nothing: NDArray[np.int64] = np.empty(0, np.int64)
    backwards = np.concatenate([nothing, *ids])[::-1]
    different, latest = np.unique(backwards, return_index=True)
    removed = np.concatenate([np.empty(0, bool), *gone])[::-1][latest]
    return Changes(different[~removed], different[removed])
