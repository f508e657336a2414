"""Formats of a library: numbered steps, each taken once, and recorded in the file with the version that took it.

A library of an older format is brought up to date when it is opened for writing, in one transaction: it has the new
format, or the old one and nothing of the new. Opened for reading only it stays as it is, and a table that is missing
says that nothing is known. A new format needs a step here, a library of it in `tests/golden`, and FORMAT_VERSION
raised; a table that older versions can do without needs none of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from xmr_core.errors import SchemaVersionError

if TYPE_CHECKING:
    from xmr_storage.connection import Connection

__all__ = ["STEPS", "Step", "format_of", "known", "make_tables", "migrate", "record", "set_format", "start_counting"]


@dataclass(frozen=True)
class Step:
    """What leads to a format from the one before it. `take` runs inside the transaction of the whole migration."""

    format: int
    what: str
    take: Callable[[Connection], None]


def make_tables(con: Connection) -> None:
    """Make the tables of the schema that are not there."""
    from xmr_storage import schema

    with con.transaction(counted=False):  # what the count is written into may just be made
        for statement in schema.ddl(con.tables(), con.dialect, con.has_schemas):
            con.execute(statement)


def start_counting(con: Connection) -> None:
    """Begin to count ids and revisions, by what is there."""
    from xmr_storage.ids import count_ids

    with con.transaction():
        count_ids(con)
        con.noted.unknown()


def _second(con: Connection) -> None:
    make_tables(con)
    start_counting(con)


STEPS: Sequence[Step] = (
    Step(2, "records of migrations, of changes, and of where items and components came from", _second),
)


def format_of(con: Connection) -> int:
    """The format of the library. Raises SchemaVersionError where this version does not know it."""
    from xmr_storage.schema import FORMAT_VERSION

    rows = con.rows("SELECT value FROM xmr.meta WHERE key = 'format_version'")
    values = [value for (value,) in rows]
    if len(values) != 1 or not str(values[0]).isdecimal() or not int(values[0]):
        told = ", ".join(map(str, values)) or "no format"
        raise SchemaVersionError(f"{con.url}: the library says {told} of its format; restore it from an export")
    found = int(values[0])
    if found > FORMAT_VERSION:
        raise SchemaVersionError(
            f"{con.url}: the library has format {found}{_writer(con, found)}, this version of xmr ({_release()}) knows "
            f"formats up to {FORMAT_VERSION}; upgrade xmr to open it: pip install --upgrade xmr"
        )
    return found


def known(version: object) -> bool:
    """True for the number of a format that this version can bring up to date."""
    from xmr_storage.schema import FORMAT_VERSION

    return isinstance(version, int) and not isinstance(version, bool) and 1 <= version <= FORMAT_VERSION


def migrate(con: Connection) -> int:
    """Bring the library up to date, whole or not at all; the format that it had."""
    with con.transaction():
        had = format_of(con)  # inside the transaction: another writer may have been here
        for step in STEPS:
            if step.format > had:
                step.take(con)
                record(con, step.format)
                set_format(con, step.format)
        make_tables(con)
    return had


def record(con: Connection, version: int) -> None:
    """Remember that the library got this format now, from this version of xmr."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    con.execute("INSERT INTO xmr.migrations (format, applied, xmr) VALUES ($1, $2, $3)", [version, now, _release()])


def set_format(con: Connection, version: int) -> None:
    """Let the library say that it has this format."""
    con.execute("DELETE FROM xmr.meta WHERE key = 'format_version'")
    con.execute("INSERT INTO xmr.meta (key, value) VALUES ('format_version', $1)", [str(version)])


def _writer(con: Connection, version: int) -> str:
    """Which version of xmr gave the library its format, for a message; "" where it does not say."""
    if not {"format", "xmr"} <= con.columns("migrations").keys():
        return ""
    rows = con.rows("SELECT xmr FROM xmr.migrations WHERE format = $1", [version])
    return f", written by xmr {rows[0][0]}" if rows else ""


def _release() -> str:
    from xmr_core import __version__

    return __version__
