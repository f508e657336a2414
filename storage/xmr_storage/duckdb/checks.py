"""What `doctor` looks for in a DuckDB file alone: views and macros that differ from those that this version writes.

What it would write is asked of DuckDB: the same statements are run over empty tables of the same columns, in memory.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import duckdb

from xmr_core.errors import Finding, XmrError
from xmr_core.store import SpaceRecord
from xmr_storage import codes as stored
from xmr_storage import legacy, metadata
from xmr_storage.codes import table_name as codes_table
from xmr_storage.duckdb import codes, decoded, macros
from xmr_storage.quoting import quoted
from xmr_storage.records import records

if TYPE_CHECKING:
    from xmr_storage.connection import Connection
    from xmr_storage.store import SqlStore

__all__ = ["findings"]

OFFLINE: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "threads": 1,  # nothing is in its tables
}
DEFINED = """
    SELECT view_name, sql FROM duckdb_views()
    WHERE schema_name = 'xmr' AND database_name = current_database() AND NOT internal
    UNION ALL
    SELECT function_name, string_agg(concat_ws(' ', parameters, macro_definition), ';' ORDER BY len(parameters))
    FROM duckdb_functions()
    WHERE schema_name = 'xmr' AND database_name = current_database() AND NOT internal
    GROUP BY function_name
    """
# what DuckDB prints otherwise once it has read a definition from a file: quotes, hints that it does not keep, ...
SPELLINGS = (
    (r'"|\b(NOT )?MATERIALIZED\b', ""),
    (r" CROSS JOIN ", ","),
    (r"\bBIT\(1\)", "BIT"),
    (r"\(lambda (\w+): ", r"(\1 -> "),
    (r"\s+", ""),
)
OLDER_CATALOG = """
    CREATE VIEW xmr.catalog AS
    SELECT i.item_id, i.modality, i.key, i.source, i.text, m.* EXCLUDE (item_id)
    FROM xmr.items AS i LEFT JOIN xmr.metadata AS m ON m.item_id = i.item_id
    """  # as the first format had it, which is as good
NAMED = 4  # objects that a finding names
CODE_VIEW = re.compile(r"code_([a-z][a-z0-9_]*)")

Shapes = tuple[tuple[str, str], ...]  # tables and their columns, as they are declared
Objects = Mapping[str, str]  # name of a view or macro, without its schema, to what it is defined as


def findings(store: SqlStore) -> Iterator[Finding]:
    """Views, macros and side tables that are missing or altered, and those that are left of dropped spaces."""
    con = store.db
    there = _defined(con.rows(DEFINED))
    shapes, current = _shapes(con, ("items", "metadata")), f"CREATE VIEW xmr.catalog AS {metadata.catalog(con)}"
    wanted = (_written(shapes, (statement,)).get("catalog") for statement in (current, OLDER_CATALOG))
    if there.get("catalog") is not None and there["catalog"] not in wanted:  # one that is gone is told already
        what = "the view xmr.catalog differs from what this version writes; repair writes it again"
        yield Finding(what, partial(metadata.make_catalog, con))
    if not codes.macros_are_current(con):  # written by another version, and open for reading only
        return
    shared = tuple(macros.shared_statements() + codes.family_statements(con))
    yield from _different(there, _written((), shared), "", store.republish)
    known = records(con)
    for space in (space for space in known if space.published):
        with contextlib.suppress(XmrError):  # told by the checks of spaces, or by whoever loads it
            yield from _of_space(store, there, space)
    yield from _left_over(store, there, known)


def _of_space(store: SqlStore, there: Objects, space: SpaceRecord) -> Iterator[Finding]:
    con, of = store.db, f"of space {space.name!r} "
    publish = partial(store.publish, space.name, space.version)
    for table in _wrong_tables(con, store.load_space(space.name, space.version)):
        what = f"the table xmr.{table} {of}is gone or has other rows; repair writes it again"
        yield Finding(what, partial(_rewrite, con, table, publish))
        return
    kept = decoded.differs(con, space)
    if kept is not None:
        what = f"the table xmr.{kept} {of}is gone, or not in step with its codes; repair makes it again"
        yield Finding(what, partial(_rewrite, con, kept, publish))
        return
    tables = [table for table in con.tables() if table.endswith(f"_{space.name}_v{space.version}")]
    tables += codes.vector_tables(con, space, stored.forms(con, space.name).get(space.version))
    yield from _different(there, _written(_shapes(con, tables), tuple(codes.statements(con, space))), of, publish)


def _wrong_tables(con: Connection, space: SpaceRecord) -> Iterator[str]:
    """The tables beside the codes that lack, or differ from, what the indexer writes if it is installed."""
    form = legacy.form_of(space)
    for table, _, rows in codes.side_tables(space.name, space.version, form) if form else ():
        kinds = con.columns(table)
        if not set(rows.column_names) <= kinds.keys():  # the first format had columns that nothing reads any more
            yield table
            continue
        stored_rows = f"SELECT {', '.join(map(quoted, rows.column_names))} FROM xmr.{table}"
        wanted = ", ".join(f"{quoted(name)}::{kinds[name]}" for name in rows.column_names)
        with con.given(_wanted_rows=rows):
            ((count, other),) = con.rows(
                f"""
                SELECT (SELECT count(*) FROM xmr.{table}), count(*)
                FROM ({stored_rows} EXCEPT ALL SELECT {wanted} FROM _wanted_rows) AS other
                """
            )
        if other or count != len(rows):
            yield table


def _rewrite(con: Connection, table: str, publish: partial[None]) -> None:
    con.execute(f"DROP TABLE IF EXISTS xmr.{table}")
    publish()  # which makes the tables that are not there


def _different(there: Objects, wanted: Objects, of: str, mend: Callable[[], object]) -> Iterator[Finding]:
    wrong = sorted(name for name, definition in wanted.items() if there.get(name) != definition)
    if wrong:
        gone = all(name not in there for name in wrong)
        named = ", ".join(f"xmr.{name}" for name in wrong[:NAMED]) + (", ..." if len(wrong) > NAMED else "")
        how = "gone" if gone else "gone, or differ from what this version writes"
        yield Finding(f"{len(wrong)} views and macros {of}are {how} ({named}); repair writes them again", mend)


def _shapes(con: Connection, tables: Iterable[str]) -> Shapes:
    """The columns of tables, as they are declared."""
    return tuple(
        (table, ", ".join(f"{quoted(name)} {kind}" for name, kind in con.columns(table).items())) for table in tables
    )


@lru_cache(maxsize=100)
def _written(tables: Shapes, statements: tuple[str, ...]) -> Objects:
    """What statements define over tables. A statement over a table that is not among them is left out."""
    with duckdb.connect(":memory:", config=OFFLINE) as scratch:
        scratch.execute("CREATE SCHEMA xmr")
        for table, columns in tables:
            with contextlib.suppress(duckdb.Error):  # a table of the user's, of types of the user's
                scratch.execute(f"CREATE TABLE xmr.{quoted(table)} ({columns})")
        for statement in statements:
            with contextlib.suppress(duckdb.Error):
                scratch.execute(statement)
        return _defined(scratch.execute(DEFINED).fetchall())


def _defined(rows: Iterable[tuple[str, str]]) -> Objects:
    """The views and macros of the schema xmr, in one spelling."""
    made = dict(rows)
    for pattern, spelling in SPELLINGS:
        made = {name: re.sub(pattern, spelling, definition) for name, definition in made.items()}
    return made


def _left_over(store: SqlStore, there: Objects, known: list[SpaceRecord]) -> Iterator[Finding]:
    """Views and macros of names that mean no version; a name is published again if its version is there."""
    published = {space.name for space in known if space.published}
    for view, definition in there.items():
        match = CODE_VIEW.fullmatch(view)
        meant = re.search(rf"xmr\.{view}_v(\d+)", definition)
        if not match or not meant or match[1] in published:
            continue
        name, version = match[1], int(meant[1])
        if codes_table(name, version) in store.db.tables() and not any(space.name == name for space in known):
            continue  # only its row is lost, which is found already
        if any((space.name, space.version) == (name, version) for space in known):
            what = f"xmr.{view} means version {version} of space {name!r}, which is not published; repair publishes it"
            yield Finding(what, partial(store.publish, name, version))
        else:
            what = f"views and macros of a space {name!r} are left, which does not exist; repair drops them"
            yield Finding(what, partial(_drop, store, name))


def _drop(store: SqlStore, name: str) -> None:
    for statement in macros.drop_statements(name, codes.views(stored.forms(store.db, name))):
        store.db.execute(statement)
