"""What a statement of the user's may have done to a library: nothing, something to its items, or anything."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import duckdb

__all__ = ["EFFECTS", "Effect", "effect"]

Effect = Literal["nothing", "items", "anything", "ended"]

EFFECTS: tuple[Effect, ...] = ("nothing", "items", "anything")  # the worse ones later
WRITES = re.compile(
    r"\b(insert|update|delete|merge|truncate|drop|create|alter|copy|import|execute|commit|end|call|replace)\b", re.I
)
OF_ITEMS = {"metadata", "labels"}  # a condition finds others then, but no code, link or space has changed
OF_NOTHING = {"attention", "catalog", "changes", "metrics", "migrations", "runs", "sources", "training"}
READING = {"SELECT", "EXPLAIN", "SET", "VARIABLE_SET", "LOAD", "PREPARE"}


def effect(con: duckdb.DuckDBPyConnection, query: str, tables: Callable[[], list[str]]) -> Effect:
    """The effect of a query, judged by the tables of the library that it names; "ended" of what ends a transaction.

    It errs on the side of caution: reading `xmr.items` into another table counts as changing it, and a prepared
    statement may do anything.
    """
    if not WRITES.search(query):
        return "nothing"
    kinds = {statement.type.name for statement in con.extract_statements(query)}
    if kinds == {"TRANSACTION"}:
        return "ended"
    if kinds <= READING:
        return "nothing"
    if kinds & {"EXECUTE", "TRANSACTION", "MULTI"}:
        return "anything"
    words = set(re.findall(r"\w+", query.lower()))
    named = words & {"catalog", *(table.lower() for table in tables())}
    if not named:
        return "anything" if "xmr" in words else "nothing"
    if named <= OF_NOTHING:
        return "nothing"
    return "items" if named <= OF_ITEMS | OF_NOTHING else "anything"
