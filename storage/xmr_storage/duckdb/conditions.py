"""What a user's condition may be: one expression that reads the database and nothing else.

It is decided on DuckDB's own parse tree, before the condition becomes part of a statement. Refused are: functions that
read files, settings or the network, or that run text as SQL; tables that the database does not have, which DuckDB would
look for among files and the program's variables; and statements in place of an expression. Views and macros of the
user's own may stand in a condition: what they read is what the user wrote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from xmr_core.errors import DataError
from xmr_storage.duckdb.steady import columns_read

if TYPE_CHECKING:
    import duckdb

__all__ = ["Examined", "check_tables", "examined"]

Tree: TypeAlias = "dict[str, Any] | list[Any] | str | int | float | None"
PARSE = "SELECT json_serialize_sql($1, skip_null := true, skip_empty := true, skip_default := true)"
ROWS_OF = frozenset(("generate_series", "json_each", "json_tree", "range", "repeat", "unnest"))  # table functions
SCALARS = re.compile(  # that do more than compute: of the settings, the process, sequences, files, SQL in a text
    r"""
    current_setting | getenv | getvariable | (curr|next)val | set_?seed | sleep_ms | pg_sleep | current_query
    | write_.* | read_.* | .*_scan | glob | http.* | json_(de)?serialize.* | json_execute.* | query | query_table
    """,
    re.VERBOSE | re.IGNORECASE,
)
SOURCES = frozenset(("EMPTY", "BASE_TABLE", "SUBQUERY", "JOIN", "EXPRESSION_LIST", "TABLE_FUNCTION", "CTE"))


@dataclass(frozen=True)
class Examined:
    """A condition that is sound: the tables it reads beside the catalog, and the columns that alone decide what it
    chooses, None where something else may; all in lower case."""

    tables: frozenset[str]
    columns: frozenset[str] | None


def examined(connection: duckdb.DuckDBPyConnection, text: str) -> Examined:
    """What a condition reads. Raises DataError where it is not one expression that only reads the database."""
    tree = _parsed(connection, text)
    if "error_message" in tree:
        raise DataError(f"expected one condition: {tree['error_message']}")
    selected = [statement.get("node", {}) for statement in tree["statements"]]
    if [len(node.get("select_list", ())) for node in selected] != [1] or selected[0].get("from_table") != {
        "type": "EMPTY"
    }:
        raise DataError("expected one condition")
    faults = [fault for fault in _faults(tree) if fault]
    if faults:
        raise DataError(faults[0])
    tables = frozenset(_tables(tree)) - {name.lower() for name in _names_of_ctes(tree)}
    (condition,) = selected[0]["select_list"]
    return Examined(tables, columns_read(_nodes(condition)))


def _parsed(connection: duckdb.DuckDBPyConnection, text: str) -> dict[str, Any]:
    found = connection.execute(PARSE, [f"SELECT (\n{text}\n)"]).fetchone()
    return _loaded(found[0] if found else "{}")


@lru_cache(maxsize=64)
def _loaded(text: str) -> dict[str, Any]:
    try:
        tree: dict[str, Any] = json.loads(text)
    except RecursionError:
        raise DataError("expected one condition: it is nested too deeply") from None
    return tree


def _nodes(tree: Tree) -> Iterator[dict[str, Any]]:
    """All objects of a parse tree, which may be deeper than Python's stack."""
    left: list[Tree] = [tree]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            yield node
            left += node.values()
        elif isinstance(node, list):
            left += node


def _faults(tree: Tree) -> Iterator[str]:
    """What a condition does that it may not."""
    for node in _nodes(tree):
        name = node.get("function_name")
        if isinstance(name, str) and SCALARS.fullmatch(name):
            yield f"a condition cannot call {name}: it reads the database alone"
        for side in ("from_table", "left", "right"):
            source = node.get(side)
            if isinstance(source, dict) and "class" not in source and not str(source.get("type")).endswith("_NODE"):
                yield _fault_of_source(source)


def _fault_of_source(source: dict[str, Any]) -> str:
    kind = str(source.get("type"))
    if kind not in SOURCES:
        return f"a condition cannot read from {kind.lower().replace('_', ' ')}"
    if kind != "TABLE_FUNCTION":
        return ""
    function = source["function"]
    name, schema = str(function["function_name"]).lower(), str(function.get("schema", "")).lower()
    return "" if name in ROWS_OF or schema == "xmr" else f"a condition cannot read from {name}(): only from tables"


def _tables(tree: Tree) -> Iterator[str]:
    """The tables that a condition reads, in lower case as DuckDB compares names."""
    for node in _nodes(tree):
        if node.get("type") == "BASE_TABLE" and "class" not in node:
            yield str(node["table_name"]).lower()


def _names_of_ctes(tree: Tree) -> Iterator[str]:
    for node in _nodes(tree):
        for entry in node["cte_map"].get("map", ()) if isinstance(node.get("cte_map"), dict) else ():
            yield str(entry["key"])
        if isinstance(node.get("cte_name"), str):
            yield node["cte_name"]


def check_tables(connection: duckdb.DuckDBPyConnection, names: frozenset[str]) -> None:
    """Raise DataError where a name is of no table or view: DuckDB would look for a file or variable of that name."""
    if not names:
        return
    rows = connection.execute(
        """
        SELECT table_name FROM duckdb_tables()
        UNION ALL
        SELECT view_name FROM duckdb_views()
        """
    ).fetchall()
    strange = names - {name.lower() for (name,) in rows}
    if strange:
        raise DataError(f"there is no table {min(strange)!r} in the database")
