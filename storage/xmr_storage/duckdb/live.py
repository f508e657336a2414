"""Functions that want Python, given to a DuckDB connection: `xmr.search`, `xmr.encode_text`, `xmr.embed_text`.

A Python function does not persist, and a macro over one does, to fail in the next process. So these macros live in a
database in memory, attached as `xmr_live`, in its schema xmr; and the connection's search path names both schemas xmr,
the file's and this one, in which DuckDB then looks for `xmr.anything`, in that order. Nothing is written into the
file, which may be open for reading only.

What else was tried: a schema xmr in `temp` (DuckDB allows none), a database named xmr (then every `xmr.` is ambiguous),
`temp.search` (not the name asked for), and a view or macro in the file (the trap).

The price: `search_path` is the connection's, so each cursor of it registers anew and USE undoes it; and the tables of
schema xmr are found by their bare names, after the user's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from xmr_core.errors import DataError, StorageError

if TYPE_CHECKING:
    import duckdb

    from xmr_core.store import LiveEncode, LiveSearch

__all__ = ["attach"]

LIVE = "xmr_live"


def attach(connection: duckdb.DuckDBPyConnection, search: LiveSearch, encode_text: LiveEncode) -> None:
    """Give `connection` the live functions; a second time changes nothing.

    `search(text, k, space)` gives ids and distances, `encode_text(text, space)` the words of a code or the numbers of a
    vector; `space` is None where the statement names none. They are called while the connection runs a statement, so
    they must not use that very connection (it would wait for itself for ever): a cursor of it will do. Raises
    StorageError where the connection is in a transaction that has written.
    """
    import duckdb

    try:
        connection.execute(f"ATTACH IF NOT EXISTS ':memory:' AS {LIVE} (READ_WRITE)")
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {LIVE}.xmr")
        for statement in _macros(_functions(connection, search, encode_text)):
            connection.execute(statement)
        connection.execute("SET search_path = $1", [_search_path(connection)])
    except duckdb.Error as error:
        raise StorageError(f"register: the live functions cannot be made here: {error}") from error


def _functions(
    connection: duckdb.DuckDBPyConnection, search: LiveSearch, encode_text: LiveEncode
) -> tuple[str, str, str]:
    """The names of the three Python functions, made where they are not there.

    They are the database's, which other connections share and none but the maker may remove; so each library has its
    own, named by the identity of the object behind `search`, which lives as long as they do.
    """
    owner = id(getattr(search, "__self__", search))
    names = f"xmr_search_{owner}", f"xmr_encode_{owner}", f"xmr_embed_{owner}"
    known = "SELECT count(*) FROM duckdb_functions() WHERE function_name = $1"
    if connection.execute(known, [names[0]]).fetchall() == [(0,)]:
        text_and_space, hits = ["VARCHAR", "VARCHAR"], "STRUCT(item_id BIGINT, distance FLOAT)[]"
        _create(connection, names[0], _hits_of(search), ["VARCHAR", "BIGINT", "VARCHAR"], hits)
        words = _code_of(encode_text, int, "the space compares vectors: xmr.embed_text gives them")
        _create(connection, names[1], words, text_and_space, "BIGINT[]")
        vector = _code_of(encode_text, float, "the space compares bits: xmr.encode_text gives them")
        _create(connection, names[2], vector, text_and_space, "FLOAT[]")
    return names


def _create(connection: Any, name: str, function: Callable[..., Any], parameters: list[str], returns: str) -> None:
    connection.create_function(name, function, parameters, returns, null_handling="special")  # space may be NULL


def _macros(functions: tuple[str, str, str]) -> list[str]:
    search, encode, embed = functions
    return [
        f"""
        CREATE OR REPLACE MACRO {LIVE}.xmr.search(query, k := 10, space := NULL) AS TABLE
        SELECT h.hit.item_id AS item_id, h.hit.distance AS distance
        FROM (SELECT unnest({search}(query, k, space)) AS hit) AS h
        ORDER BY distance, item_id
        """,
        f"CREATE OR REPLACE MACRO {LIVE}.xmr.encode_text(query, space := NULL) AS {encode}(query, space)",
        f"CREATE OR REPLACE MACRO {LIVE}.xmr.embed_text(query, space := NULL) AS {embed}(query, space)",
    ]


def _hits_of(search: LiveSearch) -> Callable[[str | None, int | None, str | None], Any]:
    def hits(text: str | None, k: int | None, space: str | None) -> list[dict[str, Any]]:
        if text is None or k is None:
            return []
        ids, distances = search(text, k, space)
        return [{"item_id": item, "distance": distance} for item, distance in zip(ids, distances, strict=True)]

    return hits


def _code_of(encode_text: LiveEncode, kind: type[int] | type[float], otherwise: str) -> Callable[..., Any]:
    def code(text: str | None, space: str | None) -> list[int] | list[float] | None:
        numbers = None if text is None else encode_text(text, space)
        if numbers and not isinstance(numbers[0], kind):
            raise DataError(otherwise)
        return numbers

    return code


def _search_path(connection: duckdb.DuckDBPyConnection) -> str:
    """The connection's search path, and after it the library's schema and the live one."""
    path, current = connection.execute("SELECT current_setting('search_path'), current_database()").fetchall()[0]
    libraries = connection.execute(
        """
        SELECT database_name
        FROM duckdb_schemas()
        WHERE schema_name = 'xmr' AND database_name <> $1
        ORDER BY database_name <> current_database(), database_name
        LIMIT 1
        """,
        [LIVE],
    ).fetchall()
    path = path or f"{_quoted(current)}.main"
    wanted = [f"{_quoted(database)}.xmr" for (database,) in [*libraries, (LIVE,)]]
    return ",".join([path, *(entry for entry in wanted if not {entry, entry.replace('"', "")} & set(path.split(",")))])


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
