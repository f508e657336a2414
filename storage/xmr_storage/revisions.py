"""The revision of a library: one number that grows with every committed change, and what each change did to codes.

A revision is a count of changes, times 2**31, and 31 random bits: so it grows, and a file that was copied and changed
in two ways has no later revision in common with its copy. It is a row of `xmr.meta` that every change updates before
anything else, in which the database sees that two of them happen at once. See `history` for what is read of it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Changing", "begin", "read", "resume"]

STEP = 1 << 31
RANDOM = STEP - (1 << 20)  # room for what one change does, see `Changing.seen`
RUNS = 1000  # of consecutive ids, that one change of a space is told in; beyond that, all of it may have changed
KEPT = 10_000  # rows of `xmr.changes`
FEW = 8  # rows that are written as values sooner than as a table
PRUNED = 256  # revisions between two looks at how many there are

Row = tuple[str, int, str, int | None, int | None, bool]  # space, version, modality, first_id, last_id, removed


class _Database(Protocol):
    """What of a connection is used here."""

    changing: Changing | None

    def execute(self, query: str, parameters: Sequence[Any] | None = None) -> Any: ...

    def rows(self, query: str, parameters: Sequence[Any] | None = None) -> list[Any]: ...

    def insert(self, target: str, table: pa.Table) -> None: ...


def read(con: _Database) -> int:
    """The latest committed revision; 0 of a library that was last written before there were revisions."""
    table = "SELECT max(CAST(value AS BIGINT)) FROM xmr.meta WHERE key = 'revision'"
    if con.changing is not None:  # the row is the one of the change that is being made
        table = "SELECT max(revision) FROM xmr.changes"
    ((value,),) = con.rows(table)
    return int(value or 0)


def begin(con: _Database) -> Changing:
    """The change that the open transaction makes; raises LockedError where somebody else makes one."""
    step = STEP + secrets.randbelow(RANDOM)
    found = con.rows(
        f"""
        UPDATE xmr.meta
        SET value = CAST(CAST(value AS BIGINT) - CAST(value AS BIGINT) % {STEP} + $1 AS VARCHAR)
        WHERE key = 'revision'
        RETURNING CAST(value AS BIGINT)
        """,
        [step],
    )
    if not found:
        con.execute("INSERT INTO xmr.meta (key, value) VALUES ('revision', $1)", [str(step)])
    return Changing(int(found[0][0]) if found else step)


def resume(con: _Database, changing: Changing) -> bool:
    """Continue the history of an export, whose rows have come in the place of this library's; False where it has none.

    The change that restores it writes nothing of its own then: what follows is as it would have been.
    """
    rows = con.rows("SELECT CAST(value AS BIGINT) FROM xmr.meta WHERE key = 'revision'")
    if rows:
        changing.revision, changing.writes = int(rows[0][0]), False
    else:
        con.execute("INSERT INTO xmr.meta (key, value) VALUES ('revision', $1)", [str(changing.revision)])
    changing.unknown()
    return bool(rows)


class Changing:
    """A change that is being made. What is noted here is written into `xmr.changes` before it is committed."""

    def __init__(self, revision: int) -> None:
        self.revision = revision
        self.next_id = 0  # above the ids that came
        self.writes = True
        self.notes = 0
        self._came: dict[tuple[str, int, str], list[NDArray[np.int64]]] = {}
        self._went: dict[tuple[str, int, str], list[NDArray[np.int64]]] = {}
        self._unknown: set[tuple[str, int]] = set()
        self._links = False

    @property
    def seen(self) -> int:
        """A revision for whoever reads inside the transaction: another one after each note."""
        return self.revision + self.notes

    def use(self, ids: NDArray[np.int64]) -> None:
        """These ids are in use from now on."""
        self.next_id = max(self.next_id, int(ids.max()) + 1 if len(ids) else 0)

    def came(self, space: str, version: int, modality: str, ids: NDArray[np.int64]) -> None:
        """Codes of these ids were inserted, or replaced."""
        self.notes += 1
        self._came.setdefault((space, version, modality), []).append(ids)

    def went(self, ids: NDArray[np.int64], space: str = "", version: int = 0, modality: str = "") -> None:
        """Codes of these ids were deleted: of a version and a modality, or of all."""
        self.notes += 1
        self._went.setdefault((space, version, modality), []).append(ids)
        for key, noted in self._came.items():
            if not space or key == (space, version, modality):
                noted[:] = [came[~np.isin(came, ids)] for came in noted]

    def unknown(self, space: str = "", version: int = 0) -> None:
        """Anything may have happened to the codes of a version, or to all of the library."""
        self.notes += 1
        self._unknown.add((space, version))

    def touched(self, space: str, version: int) -> NDArray[np.int64] | None:
        """Ascending, the ids whose codes of a version came or went; None where those of any may have."""
        if {("", 0), (space, 0), (space, version)} & self._unknown:
            return None
        ids = [np.empty(0, np.int64)]
        for noted in (self._came, self._went):
            for (name, number, _), own in noted.items():
                ids += own if (name, number) in (("", 0), (space, version)) else []
        return np.unique(np.concatenate(ids))

    def links(self) -> None:
        """Links came or went."""
        self.notes += 1
        self._links = True

    def write(self, con: _Database) -> None:
        """Write the notes, as the last statements of the transaction, and delete what is older than anybody needs."""
        if not self.writes:
            return

        rows = list(self._rows())
        if len(rows) <= FEW:
            values = [value for row in rows for value in (self.revision, *row)]
            width = len(values) // len(rows)
            holders = [f"${number + 1}" for number in range(len(values))]
            tuples = [", ".join(holders[start : start + width]) for start in range(0, len(values), width)]
            con.execute(f"INSERT INTO xmr.changes VALUES ({'), ('.join(tuples)})", values)
        else:
            self._insert(con, rows)
        if self.next_id:
            con.execute(
                "UPDATE xmr.meta SET value = $1 WHERE key = 'next_id' AND CAST(value AS BIGINT) < $2",
                [str(self.next_id), self.next_id],
            )
        if self.revision // STEP % PRUNED == 0:
            _prune(con)

    def _insert(self, con: _Database, rows: list[Row]) -> None:
        import pyarrow as pa

        columns = [pa.array(column) for column in zip(*rows, strict=True)]
        names = ("space", "version", "modality", "first_id", "last_id", "removed")
        kinds = (pa.string(), pa.int32(), pa.string(), pa.int64(), pa.int64(), pa.bool_())
        table = {name: column.cast(kind) for name, column, kind in zip(names, columns, kinds, strict=True)}
        con.insert("changes", pa.table({"revision": pa.array([self.revision] * len(columns[0])), **table}))

    def _rows(self) -> Iterator[Row]:
        """One row that says there was this change, and those that say what it did."""
        yield "", 0, "", None, None, False
        if self._links:
            yield "", 0, "pairs", None, None, False
        unknown = set(self._unknown)
        ranges: list[Row] = []
        for noted, removed in ((self._went, True), (self._came, False)):
            for (space, version, modality), ids in noted.items():
                runs = _runs(np.unique(np.concatenate(ids)))
                if len(runs) > RUNS:
                    unknown.add((space, version))
                else:
                    ranges += [(space, version, modality, first, last, removed) for first, last in runs.tolist()]
        yield from ((space, version, "", None, None, True) for space, version in sorted(unknown))
        yield from (row for row in ranges if not {row[:2], ("", 0)} & unknown)


def _runs(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """(r, 2) the first and the last of consecutive ids; `ids` (n,) ascend."""
    if not len(ids):
        return np.empty((0, 2), np.int64)
    ends = np.flatnonzero(np.diff(ids) != 1)
    return np.stack([ids[np.r_[0, ends + 1]], ids[np.r_[ends, len(ids) - 1]]], axis=1)


def _prune(con: _Database) -> None:
    """Delete all but the latest rows."""
    oldest = con.rows("SELECT revision FROM xmr.changes ORDER BY revision DESC LIMIT 1 OFFSET $1", [KEPT])
    if oldest:
        con.execute("DELETE FROM xmr.changes WHERE revision <= $1", [oldest[0][0]])
