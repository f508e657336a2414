"""Checks of the tables themselves, of the counters of the library, and of the view of all items."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from xmr_core.errors import Finding
from xmr_storage import ids, metadata, revisions
from xmr_storage.quoting import quoted

if TYPE_CHECKING:
    from xmr_storage.connection import Connection
    from xmr_storage.spaces import SqlSpaces

__all__ = ["findings", "is_beyond_repair"]

TRUTH = ("items", "spaces")  # nothing that is left could say what was in them


def is_beyond_repair(store: SqlSpaces) -> bool:
    """True where a table without which nothing can be judged is gone or of another shape."""
    return any(_lacking(store.db, table) for table in TRUTH)


def findings(store: SqlSpaces) -> Iterator[Finding]:
    """Tables and columns that are gone, and a catalog that lacks a column."""
    from xmr_storage.schema import LATER, TABLES

    con = store.db
    present, lacking_items = set(con.tables()), is_beyond_repair(store)
    for table in TABLES:
        if table not in present and not (table in LATER and con.read_only):
            yield _gone(con, table)
        elif table in present and (lacking := _lacking(con, table)):
            yield Finding(f"xmr.{table} lacks the columns {', '.join(lacking)}; restore an export into a new file")
    if not lacking_items:
        yield from _counters(con)
    if present >= {"items", "metadata"} and not lacking_items and not _has_catalog(con):
        yield Finding(
            "the view xmr.catalog is gone, or lacks columns of xmr.metadata; repair makes it again",
            lambda: metadata.make_catalog(con),
        )


def _counters(con: Connection) -> Iterator[Finding]:
    """The counter of ids, and the history of changes."""
    told = [value for (value,) in con.rows("SELECT value FROM xmr.meta WHERE key = 'next_id'")]
    if revisions.read(con):  # else the file was never written by a version that counts
        top = ids.highest_in_use(con)
        if len(told) != 1 or not told[0].isdecimal() or int(told[0]) <= top:
            what = f"the counter of ids says {' and '.join(told) or 'nothing'}, the highest in use is {top}"
            yield Finding(f"{what}; repair sets it", partial(ids.count_ids, con))
    if con.columns("changes"):
        wrong = "SELECT count(*) FROM xmr.changes WHERE revision > $1 OR last_id < first_id"
        ((count,),) = con.rows(wrong, [con.revision()])
        if count:
            forget = partial(con.execute, "DELETE FROM xmr.changes")
            yield Finding(f"{count} rows of xmr.changes cannot be; repair empties it, and all is loaded again", forget)


def _gone(con: Connection, table: str) -> Finding:
    if table in TRUTH:
        return Finding(f"the table xmr.{table} is gone; restore an export into a new file")
    what = f"the table xmr.{table} is gone; restore an export to have its rows again, or repair makes an empty one"
    return Finding(what, lambda: _make(con, table))


def _make(con: Connection, table: str) -> None:
    from xmr_storage import schema

    for statement in schema.ddl(schema.TABLES.keys() - {table}, con.dialect, con.has_schemas):
        con.execute(statement)


def _lacking(con: Connection, table: str) -> list[str]:
    """The columns that a table should have and has not; all of them where it is gone."""
    from xmr_storage.schema import TABLES

    there = con.columns(table)
    return [column.name for column in TABLES[table].columns if column.name not in there]


def _has_catalog(con: Connection) -> bool:
    from xmr_core.errors import StorageError

    columns = [*metadata.CATALOG, *metadata.names(con)]
    try:
        con.rows(f"SELECT {', '.join(map(quoted, columns))} FROM xmr.catalog LIMIT 1")
    except StorageError:
        return False
    return True
