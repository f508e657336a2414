"""What changed since a revision, as `xmr.changes` tells it. See `revisions` for how it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmr_core.store import Changes

if TYPE_CHECKING:
    from xmr_storage.connection import Connection

__all__ = ["changes", "links_changed"]


def changes(con: Connection, name: str, version: int, modality: str, since: int) -> Changes | None:
    """What became of the codes of a modality since a revision; None where that cannot be told."""
    if not con.columns("changes"):  # an older file, open for reading only
        return None
    rows = con.rows(
        """
        SELECT revision, first_id, last_id, removed
        FROM xmr.changes
        WHERE revision >= $1
            AND (space = '' AND modality = '' OR space = $2 AND version = $3 AND modality IN ('', $4))
        ORDER BY revision, removed DESC
        """,
        [since, name, version, modality],
    )
    if all(row[0] != since for row in rows):  # too old, or of another history
        return None
    later = [row[1:] for row in rows if row[0] != since]
    if any(first is None and removed for first, _, removed in later):
        return None
    return _of([(first, last, bool(removed)) for first, last, removed in later if first is not None])


def links_changed(con: Connection, since: int) -> bool:
    """True unless it is known that no link came or went since a revision."""
    if not con.columns("changes"):
        return True
    rows = con.rows(
        """
        SELECT max(CASE WHEN revision = $1 THEN 1 ELSE 0 END),
            max(CASE WHEN revision > $1 AND (modality = 'pairs' OR removed) THEN 1 ELSE 0 END)
        FROM xmr.changes
        WHERE revision >= $1 AND space = ''
        """,
        [since],
    )
    return tuple(rows[0]) != (1, 0)


def _of(ranges: list[tuple[int, int, bool]]) -> Changes:
    """The last that happened to each id, of ranges of ids in the order in which they came or went."""
    ids = [np.arange(first, last + 1) for first, last, _ in ranges]
    gone = [np.full(len(range_), removed) for range_, (_, _, removed) in zip(ids, ranges, strict=True)]
    nothing: NDArray[np.int64] = np.empty(0, np.int64)
    backwards = np.concatenate([nothing, *ids])[::-1]
    different, latest = np.unique(backwards, return_index=True)
    removed = np.concatenate([np.empty(0, bool), *gone])[::-1][latest]
    return Changes(different[~removed], different[removed])
