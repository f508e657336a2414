"""Views and macros of a file, compared with those that we would write: a file may come from a stranger.

A view or macro can read any file of whoever asks it, and a macro of the name of a built-in function (`max`, even `+`)
takes its place in every statement on that database. Our own statements ask tables alone, never views; and before
a statement of the user's runs, the views and macros of the library are compared, and made again where they differ.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmr_core.errors import StorageError
from xmr_storage import metadata, parts
from xmr_storage.codes import forms
from xmr_storage.connection import Connection
from xmr_storage.quoting import quoted
from xmr_storage.records import records

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["NEEDED", "RESERVED", "differing", "make_again", "present", "require_harmless", "require_plain"]

NEEDED = frozenset(  # the functions that our statements call, by name or by DuckDB's syntax, besides operators
    """
    any_value array_distance array_extract array_inner_product array_slice avg bit_count bool_and count count_star
    current_database current_setting duckdb_columns duckdb_connection_count duckdb_constraints duckdb_databases
    duckdb_functions duckdb_indexes duckdb_schemas duckdb_sequences duckdb_tables duckdb_types duckdb_views error filter
    first flatten getvariable greatest json_serialize_sql len list list_count list_distance list_extract list_filter
    list_inner_product list_position list_unique
    chr concat_ws contains from_hex hex isfinite least query_table regexp_replace replace reverse row_number rpad substr
    list_sum list_transform list_value list_zip log2 max min nullif pragma_database_size random range read_csv read_json
    read_parquet regexp_full_match round row sqrt string_agg struct_extract struct_pack sum typeof unnest xor
    """.split()  # noqa: SIM905 (words on lines are easier to read)
)
RESERVED = frozenset(("search", "search_image", "encode_text", "embed_text", "encode_image", "embed_image"))
OF_VERSION = re.compile(r".*_v\d+", re.IGNORECASE)  # the tables of a version of a space
READS = re.compile(  # what reads more than the database: a function that does, or a file in the place of a table
    r"""
    \b (read_\w+ | \w*_scan | scan_\w+ | parquet_\w+ | glob | sniff_csv | query | getenv | http\w* | json_execute\w*) \(
    | \b query_table \( (?!
        \w+ [,)]
        | regexp_replace \( codes,\ '(\[\^\.\]\*|code_\(\[\^\.\]\*\))\$',\ '\w+?(_\\1)?' \) \)
        | CASE \s+ WHEN\ \(\(codes\ =\ 'xmr\.\w+'\)\)\ THEN\ \('xmr\.\w+'\)\ ELSE\ codes\ END \)
    )
    | (\bFROM | \bJOIN | ,) \s* \(* "[^"]*[./:\\][^"]*"
    """,
    re.IGNORECASE | re.VERBOSE,
)
LOST = re.compile(r'\b(?:NOT )?MATERIALIZED |(?<=\bBIT)\(1\)|"(\w+)"')  # what DuckDB writes otherwise in a file
MADE = re.compile(r"\s*(CREATE\s+(OR\s+REPLACE\s+)?|DROP\s+)(VIEW|MACRO)\b", re.IGNORECASE)

Definitions = dict[str, frozenset[str]]  # name of a view or macro in the schema xmr, and what it is, for each arity


def require_plain(con: Connection, tables: frozenset[str]) -> None:
    """Raise StorageError where something in the file takes the place of what our own statements name.

    Those are macros of the schema that is searched before DuckDB's own, and views where a library has `tables`.
    """
    database = Path(con.url).name.split(".")[0]
    macros = con.rows(
        "SELECT function_name, database_name, schema_name FROM system.main.duckdb_functions() WHERE NOT internal"
    )
    for name, of, schema in macros:
        if of == database and schema == "main" and (name.lower() in NEEDED or not name.replace("_", "").isalnum()):
            raise StorageError(
                f"{con.url}: its macro main.{quoted(name)} takes the place of a function of DuckDB's own, also in the "
                f"statements of a library; if you trust the file, drop it with DuckDB: DROP MACRO main.{quoted(name)}"
            )
    views = con.rows("SELECT view_name, database_name, schema_name FROM system.main.duckdb_views() WHERE NOT internal")
    for name, of, schema in views:
        if of == database and schema == "xmr" and (name.lower() in tables or OF_VERSION.fullmatch(name)):
            raise StorageError(f"{con.url}: expected a table xmr.{name}, got a view, which no library has")


def differing(con: Connection) -> Definitions:
    """The views and macros of the library that are not as we would write them, and what they are; none if missing.

    Those with the names of live functions, which no file has and which would be found before them, are among them.
    """
    ours, found = _ours(con), present(con)
    differ = {name: found.get(name, frozenset()) for name, known in ours.items() if found.get(name) != known}
    return differ | {name: found[name] for name in RESERVED & found.keys()}


def present(con: Connection) -> Definitions:
    """The views and macros of the library's schema."""
    return _of(con.rows(PRESENT))


def require_harmless(con: Connection, found: Definitions) -> None:
    """Raise StorageError where one of these definitions reads anything but the database."""
    for name, definitions in found.items():
        if any(READS.search(text) for text in definitions):
            raise StorageError(
                f"{con.url}: its xmr.{name} is not what a library has there, and reads files or the network; "
                "if you trust the file, open it for writing, which makes it again"
            )


def make_again(con: Connection, found: Definitions) -> None:
    """Drop those with the names of live functions, and create the view of the catalog; macros are the store's."""
    for name in RESERVED & found.keys():
        for text in found[name]:
            kind = {"view": "VIEW", "table_macro": "MACRO TABLE"}.get(text.split()[0], "MACRO")
            con.execute(f"DROP {kind} IF EXISTS xmr.{name}")
    metadata.make_catalog(con)


PRESENT = """
    SELECT view_name, 'view', [], sql, database_name = current_database() AND schema_name = 'xmr'
    FROM system.main.duckdb_views()
    WHERE NOT internal
    UNION ALL
    SELECT function_name, function_type, parameters, macro_definition,
        database_name = current_database() AND schema_name = 'xmr'
    FROM system.main.duckdb_functions()
    WHERE NOT internal
    """


def _of(rows: Sequence[tuple[str, str, list[str], str | None, bool]]) -> Definitions:
    found: dict[str, set[str]] = {}
    for name, kind, parameters, text, is_ours in rows:
        if is_ours:
            kept = LOST.sub(r"\1", text or "")
            found.setdefault(name.lower(), set()).add(f"{kind} {', '.join(parameters)}: {kept}")
    return {name: frozenset(texts) for name, texts in found.items()}


def _ours(con: Connection) -> Definitions:
    """The views and macros that we would write."""
    from xmr_storage.duckdb import codes, macros

    recorder = _Recorder(con)
    metadata.make_catalog(recorder)
    for statement in macros.shared_statements():
        recorder.execute(statement)
    for space in records(con):
        if not space.published:
            continue
        known = space.version in forms(con, space.name)
        loaded = space if known else dataclasses.replace(space, parts=parts.get(con, space.name, space.version))
        codes.publish(recorder, loaded)
    tables = tuple((table, tuple(con.columns(table).items())) for table in con.tables())
    return _made(tables, tuple(recorder.statements))


@lru_cache(maxsize=8)
def _made(tables: tuple[tuple[str, tuple[tuple[str, str], ...]], ...], statements: tuple[str, ...]) -> Definitions:
    """What DuckDB makes of statements, on empty tables in memory. A statement that lacks a table makes nothing."""
    import duckdb

    with duckdb.connect(":memory:", config={"threads": 1, "enable_external_access": False}) as scratch:
        scratch.execute("CREATE SCHEMA xmr")
        for table, columns in tables:
            named = ", ".join(f"{quoted(name)} {kind}" for name, kind in columns)
            scratch.execute(f"CREATE TABLE xmr.{quoted(table)} ({named})")
        for statement in statements:
            with contextlib.suppress(duckdb.CatalogException, duckdb.BinderException):
                scratch.execute(statement)
        return _of(scratch.execute(PRESENT).fetchall())


class _Recorder(Connection):
    """A connection that reads a library, and notes which views and macros would be written. It sees no macros."""

    def __init__(self, con: Connection) -> None:
        super().__init__(con.url, con.read_only)
        self._con = con
        self.statements: list[str] = []

    def execute(self, query: str, parameters: Sequence[Any] | None = None) -> None:
        if MADE.match(query):
            self.statements.append(query)

    def rows(self, query: str, parameters: Sequence[Any] | None = None) -> list[Any]:
        about_macros = "duckdb_functions" in query or "'families'" in query
        return [] if about_macros else self._con.rows(query, parameters)

    def arrow(self, query: str, parameters: Sequence[Any] | None = None) -> pa.Table:
        return self._con.arrow(query, parameters)

    def condition(self, text: str, query: str, parameters: Sequence[Any]) -> pa.Table:
        return self._con.condition(text, query, parameters)

    def tables(self, *prefixes: str) -> list[str]:
        return self._con.tables(*prefixes)

    def columns(self, table: str) -> dict[str, str]:
        return self._con.columns(table)

    def given(self, **tables: pa.Table) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def insert(self, target: str, table: pa.Table) -> None:
        """Nothing is written."""

    @contextlib.contextmanager
    def transaction(self, counted: bool = True) -> Iterator[None]:
        yield

    def close(self) -> None:
        """What it reads from stays open."""
