"""Codes of a space version in DuckDB: the tables beside them that SQL needs, and the macros that query them."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from xmr_core.sql import SqlForm
from xmr_storage import codes, encoded, features, legacy, parts
from xmr_storage.quoting import identifier, quoted
from xmr_storage.records import records

if TYPE_CHECKING:
    import pyarrow as pa

    from xmr_core.store import SpaceRecord
    from xmr_storage.connection import Connection
    from xmr_storage.duckdb.searches import Macro

__all__ = [
    "drop",
    "family_statements",
    "find_vectors",
    "forget_macros",
    "library_id",
    "macros_are_current",
    "make",
    "publish",
    "remember_macros",
    "side_tables",
    "statements",
    "tables_of",
    "vector_tables",
    "views",
]


def tables_of(space: str, version: int, form: SqlForm | None = None) -> list[str]:
    """The tables that a version of a space may have beside its codes, without their schema."""
    from xmr_storage.duckdb.macros import checked_space

    kinds = dict.fromkeys((*legacy.TABLES, *(form.views if form else ())))
    return [f"{identifier(kind)}_{checked_space(space)}_v{version:d}" for kind in kinds]


def side_tables(space: str, version: int, form: SqlForm) -> Iterator[tuple[str, str, pa.Table]]:
    """The tables that a version needs beside its codes: name, columns as CREATE TABLE takes them, and rows."""
    import pyarrow as pa

    from xmr_storage.arrow import column_of
    from xmr_storage.duckdb.bodies import DIALECT
    from xmr_storage.duckdb.macros import checked_space

    for name, arrays in form.tables.items():
        columns = ", ".join(f"{quoted(column)} {DIALECT.side_type(array)}" for column, array in arrays.items())
        rows = pa.table({column: column_of(array) for column, array in arrays.items()})
        yield f"{identifier(name)}_{checked_space(space)}_v{version:d}", columns, rows


def make(con: Connection, space: SpaceRecord) -> None:
    """Make the empty table of codes of a new version, and the tables beside it."""
    codes.make(con, space)
    if space.form is not None:
        _make_beside(con, space, space.form)


def _make_beside(con: Connection, space: SpaceRecord, form: SqlForm) -> None:
    present = con.tables()
    for table, columns, rows in side_tables(space.name, space.version, form):
        if table not in present:
            con.execute(f"CREATE TABLE xmr.{table} ({columns})")
            con.insert(table, rows)


def publish(con: Connection, space: SpaceRecord) -> None:
    """Let the views and macros of the space's name mean this version; `space.parts` are needed where it is an old one.

    A version that was stored before spaces described themselves, or by a database that makes no tables beside codes,
    gets its form from its indexer, if that is installed.
    """
    from xmr_storage.duckdb import decoded

    forms = codes.forms(con, space.name)
    known = forms.get(space.version)
    present = con.tables()
    if codes.table_name(space.name, space.version) not in present:
        raise codes.gone(con, space.name, space.version)
    complete = all(f"{table}_{space.name}_v{space.version:d}" in present for table in (known.tables if known else ()))
    if space.version not in forms or not complete:
        known = legacy.form_of(space)
        if known is not None:
            _make_beside(con, space, known)
        codes.describe(con, space, known)
    decoded.make(con, space)
    for statement in statements(con, space):
        con.execute(statement)
    _keep_families(con)


def forget_macros(con: Connection) -> None:
    """Drop the macros of all families: they are made again as spaces are published."""
    from xmr_storage.duckdb import macros

    if con.rows("SELECT 1 FROM xmr.meta WHERE key = 'macros'"):  # a library without has none of this kind
        for name in _families_in_catalog(con):
            for statement in macros.drop_family(name, ()):
                con.execute(statement)
    _note_families(con, ())


def _keep_families(con: Connection, without: str | None = None) -> None:
    """Make the macros of the families that published spaces belong to, and drop those of no space any more."""
    from xmr_storage.duckdb import macros

    wanted, present = _families(con, without), _present_families(con)
    known = [space for space in records(con) if space.published and space.name != without]
    published = [space.name for space in known]
    for name in present - wanted.keys():
        for statement in macros.drop_family(name, published):
            con.execute(statement)
    for name in wanted.keys() - present:
        for macro in wanted[name]:
            for statement in macro.statements():
                con.execute(statement)
    _note_families(con, wanted)
    tables = con.tables("code_")
    whole = (space.name for space in known if codes.table_name(space.name, space.version) in tables)
    con.execute(macros.published_view([name for name in whole if con.columns(f"about_{name}")]))


def _families(con: Connection, without: str | None = None) -> dict[str, list[Macro]]:
    """The macros of the families that published spaces belong to."""
    from xmr_storage.duckdb import macros

    return macros.families(
        (one.name, one.code_layout, codes.forms(con, one.name).get(one.version), one.metric)
        for one in records(con)
        if one.published and one.name != without
    )


def _present_families(con: Connection) -> set[str]:
    """The families that have macros, as it was noted: to ask the catalog for macros takes as long as to make them."""
    rows = con.rows("SELECT value FROM xmr.meta WHERE key = 'families'")
    return set(json.loads(rows[0][0])) if rows else _families_in_catalog(con)


def _note_families(con: Connection, names: Iterable[str]) -> None:
    noted = json.dumps(sorted(names))
    if con.rows("SELECT 1 FROM xmr.meta WHERE key = 'families'"):
        con.execute("UPDATE xmr.meta SET value = $1 WHERE key = 'families' AND value <> $1", [noted])
    else:
        con.execute("INSERT INTO xmr.meta (key, value) VALUES ('families', $1)", [noted])


def _families_in_catalog(con: Connection) -> set[str]:
    rows = con.rows(
        """
        SELECT DISTINCT function_name
        FROM duckdb_functions()
        WHERE schema_name = 'xmr' AND database_name = current_database()
        AND function_name LIKE 'nearest_%' AND parameters[1] = 'codes' AND parameters[2] = 'query'
        """
    )
    return {name.removeprefix("nearest_") for (name,) in rows}


def library_id(con: Connection) -> str:
    """What tells this library from others, also as one of several attached; given to it where it has none."""
    rows = con.rows("SELECT value FROM xmr.meta WHERE key = 'library'")
    if rows:
        return str(rows[0][0])
    made = uuid.uuid4().hex
    con.execute("INSERT INTO xmr.meta (key, value) VALUES ('library', $1)", [made])
    return made


def macros_are_current(con: Connection) -> bool:
    """True where the macros of the library are those that this version of xmr makes."""
    from xmr_storage.duckdb import macros

    return bool(con.rows("SELECT 1 FROM xmr.meta WHERE key = 'macros' AND value = $1", [macros.generation()]))


def remember_macros(con: Connection) -> None:
    """Note that all macros are those of this version."""
    from xmr_storage.duckdb import macros

    if macros_are_current(con):
        return
    con.execute("DELETE FROM xmr.meta WHERE key = 'macros'")
    con.execute("INSERT INTO xmr.meta (key, value) VALUES ('macros', $1)", [macros.generation()])


def statements(con: Connection, space: SpaceRecord) -> list[str]:
    """The statements of the views and macros of a version that describes itself."""
    from xmr_storage.duckdb import decoded, macros

    forms = codes.forms(con, space.name)
    form = forms.get(space.version)
    kept, vectors = space.name in decoded.wanted(con), vector_tables(con, space, form)
    return macros.space_statements(
        *(space.name, space.version, space.code_layout, form, views(forms), space.metric, library_id(con)),
        *(kept, vectors),
    )


def vector_tables(con: Connection, space: SpaceRecord, form: SqlForm | None) -> list[str]:
    """The tables of the vectors that stored items ask with, where codes only stand for vectors."""
    from xmr_storage.duckdb.bodies import approximates

    if form is None or form.query is None or not approximates(space.code_layout, form):
        return []
    noted = dict.fromkeys(encoded.tables(con, space.name, space.version).values())
    return [table for table in noted if features.width(con, table) == form.query.length]


def find_vectors(con: Connection) -> None:
    """Note the vectors that stored items ask with, of published versions from before they were noted."""
    from xmr_storage.duckdb.bodies import approximates

    for space in (space for space in records(con) if space.published):
        form = codes.forms(con, space.name).get(space.version)
        if approximates(space.code_layout, form) and not encoded.tables(con, space.name, space.version):
            loaded = dataclasses.replace(space, parts=parts.get(con, space.name, space.version))
            encoded.note(con, dataclasses.replace(space, kept=legacy.kept_of(loaded)))


def family_statements(con: Connection) -> list[str]:
    """The statements of the macros of all families that published spaces belong to."""
    return [one for family in _families(con).values() for macro in family for one in macro.statements()]


def views(forms: Mapping[int, SqlForm | None]) -> list[str]:
    """The views that any version of a space may have beside its codes."""
    kinds = ("point", *legacy.TABLES, *(view for form in forms.values() if form for view in form.views))
    return list(dict.fromkeys(kinds))


def drop(con: Connection, name: str, versions: Iterable[int], published: bool) -> None:
    """Drop the tables of these versions, and with the published one the views and macros of the name."""
    from xmr_storage.duckdb import macros

    forms, versions = codes.forms(con, name), list(versions)
    if published:
        for statement in macros.drop_statements(name, views(forms)):
            con.execute(statement)
    for version in versions:
        for table in tables_of(name, version, forms.get(version)):
            con.execute(f"DROP TABLE IF EXISTS xmr.{table}")
    codes.drop(con, name, versions)
    if published:
        _keep_families(con, without=name)
