"""Rows that should not be there: those of something that is gone, and those that are there twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from xmr_core.errors import Finding
from xmr_storage.quoting import quoted

if TYPE_CHECKING:
    from xmr_storage.connection import Connection

__all__ = ["counted", "keep_one", "orphans", "twice"]


def counted(con: Connection, rows: str) -> int:
    """How many rows there are: `rows` is what follows FROM."""
    ((count,),) = con.rows(f"SELECT count(*) FROM {rows}")
    return int(count)


def orphans(con: Connection, table: str, what: str, condition: str) -> Iterator[Finding]:
    """Rows of a table for which a condition holds that must not hold; mending deletes them."""
    count = counted(con, f"xmr.{table} WHERE {condition}")
    if count:
        delete = partial(con.execute, f"DELETE FROM xmr.{table} WHERE {condition}")
        yield Finding(f"{count} {what}; repair deletes them", delete)


def twice(con: Connection, table: str, keys: Sequence[str], what: str) -> Iterator[Finding]:
    """Rows of a table that agree in `keys`; mending keeps the last of each."""
    count = repeated(con, table, keys)
    if count:
        yield Finding(f"{count} {what} are there twice; repair keeps the last", partial(keep_one, con, table, keys))


def repeated(con: Connection, table: str, keys: Sequence[str]) -> int:
    """How many rows are there beside the first of those that agree in `keys`."""
    named = ", ".join(map(quoted, keys))
    return counted(con, f"xmr.{table}") - counted(con, f"(SELECT DISTINCT {named} FROM xmr.{table}) AS one")


def keep_one(con: Connection, table: str, keys: Sequence[str]) -> None:
    """Delete all but the last of the rows that agree in `keys`."""
    import pyarrow as pa

    from xmr_storage.arrow import typed

    named = ", ".join(map(quoted, keys))
    same = " AND ".join(f"t.{quoted(key)} IS NOT DISTINCT FROM g.{quoted(key)}" for key in keys)
    kinds = con.columns(table)
    columns = ", ".join(f"t.{quoted(name)}" for name in kinds)
    groups = f"SELECT {named} FROM xmr.{table} GROUP BY {named} HAVING count(*) > 1"
    found = con.arrow(f"SELECT {columns} FROM xmr.{table} AS t JOIN ({groups}) AS g ON {same}")
    last = {key: row for row, key in enumerate(zip(*(found[key].to_pylist() for key in keys), strict=True))}
    kept = typed(found.take(pa.array(sorted(last.values()), pa.int64())), kinds)
    with con.given(_kept=kept.select(list(keys))):
        con.execute(f"DELETE FROM xmr.{table} AS t WHERE EXISTS (SELECT 1 FROM _kept AS g WHERE {same})")
    con.insert(table, kept)
