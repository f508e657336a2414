"""Functions that want Python, given to a DuckDB connection: `xmr.search`, `xmr.encode_text` and their like.

A Python function does not persist, and a macro over one does, to fail in the next process. So these macros live in a
database in memory, attached as `xmr_live`, in its schema xmr; and the connection's search path names both schemas xmr,
the file's and this one, in which DuckDB then looks for `xmr.anything`, in that order. Nothing is written into the
file, which may be open for reading only.

A database instance, with all its connections, has one catalog of Python functions, which holds bare pointers to them:
what is called after the connection that made it was closed must still be there. So the functions are those of this
module, which are never gone; they and the macros are made once an instance and never replaced; and which library a
connection asks is a variable of that connection, which the macros hand over. A library that was closed meanwhile is an
error in our words. They answer faults instead of raising them, since DuckDB repeats the traceback of what is raised.

What else was tried: a schema xmr in `temp` (DuckDB allows none), a database named xmr (then every `xmr.` is ambiguous),
`temp.search` (not the name asked for), and a view or macro in the file (the trap).

The price: `search_path` and variables are the connection's, so each cursor of it registers for itself and USE undoes
it; and the tables of schema xmr are found by their bare names, after the user's own.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from xmr_core.errors import DataError, StorageError, XmrError
from xmr_core.store import Live, LiveQuery
from xmr_storage.quoting import literal, quoted

if TYPE_CHECKING:
    import duckdb

__all__ = ["LiveLibrary", "attach"]

LIVE = "xmr_live"
LIBRARY = "xmr_library"  # the variable of a connection that says which library it asks
T = TypeVar("T")
WORDS, NUMBERS = "words", "numbers"  # what an encoder gives: of bits, of a vector
NOTHING = "STRUCT(xmr_nothing_has_this_type INTEGER)"
CLOSED = "the library behind this connection is closed; open it, and register the connection with it: xmr.register(con)"

_guard = threading.Lock()  # one connection at a time makes functions, as two would be a conflict of transactions
_numbers = itertools.count(1)
_libraries: weakref.WeakValueDictionary[str, LiveLibrary] = weakref.WeakValueDictionary()


@dataclass(eq=False)
class LiveLibrary:
    """An open library as SQL asks it. Calls come from any thread that runs a statement, and take turns.

    Connections that were registered keep it; `close` makes their functions say that it is closed.
    """

    url: str
    live: Live
    token: str = field(init=False)
    lock: threading.RLock = field(default_factory=threading.RLock, init=False)
    kept_by: weakref.WeakSet[Any] = field(default_factory=weakref.WeakSet, init=False)  # connections

    def __post_init__(self) -> None:
        self.token = f"{self.url}#{next(_numbers)}"
        _libraries[self.token] = self

    def close(self) -> None:
        """Answer no more."""
        _libraries.pop(self.token, None)


def attach(connection: duckdb.DuckDBPyConnection, library: LiveLibrary, keep: bool = True) -> None:
    """Give `connection` the live functions of a library; a second time changes nothing.

    The library is called while the connection runs a statement, so it must not use that very connection (it would wait
    for itself for ever): a cursor of it will do. With `keep`, the connection keeps the library until it is closed.
    Raises StorageError where they cannot be made.
    """
    import duckdb

    try:
        with _guard, connection.cursor() as maker:  # outside any transaction of the user's
            _make(maker)
        if keep:
            _keep(connection, library)
        connection.execute(f"SET VARIABLE {LIBRARY} = {literal(library.token)}")
        connection.execute("SET search_path = $1", [_search_path(connection)])
    except duckdb.Error as error:
        raise StorageError(f"register: the live functions cannot be made here: {error}") from error


def _make(connection: Any) -> None:
    """Make the functions and the macros of a database instance, if it has none."""
    known = connection.execute(
        "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_name IN (SELECT unnest($1))",
        [list(FUNCTIONS)],
    ).fetchall()
    for name, (function, parameters, returns) in FUNCTIONS.items():
        if (name,) not in known:
            connection.create_function(name, function, parameters, returns, null_handling="special")
    connection.execute(f"ATTACH IF NOT EXISTS ':memory:' AS {LIVE} (READ_WRITE)")
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {LIVE}.xmr")
    for statement in _macros():
        connection.execute(statement)
    if len(known) < len(FUNCTIONS):  # just made, so that nobody calls them yet
        for statement in _comments():
            connection.execute(statement)


def _keep(connection: Any, library: LiveLibrary) -> None:
    """Let a connection hold the library: as part of a function, which no call can reach, since nothing has its type."""
    if connection in library.kept_by:
        return

    def keeper(nothing: object) -> int:
        return id(library)

    connection.create_function(f"xmr_keeps_{next(_numbers)}", keeper, [NOTHING], "BIGINT")
    library.kept_by.add(connection)


# the functions, as DuckDB calls them

HIT = "STRUCT(item_id BIGINT, modality VARCHAR, distance FLOAT, fault VARCHAR)[]"


def _search(
    token: str | None,
    text: str | None,
    image: str | None,
    k: str | None,
    space: str | None,
    modality: str | None,
    within: str | None,
    items: list[int] | None,
    exact: bool | None,
) -> list[dict[str, Any]]:
    """The hits of a query; one of a fault alone where there is one."""
    if text is None and image is None:
        return []

    def found(live: Live) -> list[dict[str, Any]]:
        query = LiveQuery(text, image, _whole(k), space, modality, _number(within), items, bool(exact))
        ids, kind, distances = live.search(query)
        pairs = zip(ids, distances, strict=True)
        return [{"item_id": item, "modality": kind, "distance": d, "fault": None} for item, d in pairs]

    hits, fault = _asked(token, found)
    return [{**dict.fromkeys(("item_id", "modality", "distance")), "fault": fault}] if hits is None else hits


def _encode(
    token: str | None, kind: str, text: str | None, image: str | None, space: str | None
) -> dict[str, Any] | None:
    """The words or numbers that text or image is encoded as, or a fault."""
    if text is None and image is None:
        return None

    def made(live: Live) -> list[int] | list[float]:
        numbers = live.encode(text, image, space)
        if numbers and isinstance(numbers[0], int) != (kind == WORDS):
            other = ("embed", "vectors") if kind == WORDS else ("encode", "bits")
            raise DataError(f"the space compares {other[1]}: xmr.{other[0]}_{'image' if text is None else 'text'}")
        return numbers

    numbers, fault = _asked(token, made)
    words = numbers if kind == WORDS else None
    return {"words": words, "numbers": None if kind == WORDS else numbers, "fault": fault}


def _asked(token: str | None, ask: Callable[[Live], T]) -> tuple[T | None, str | None]:
    """What a library answers, or what is wrong. Never raises: DuckDB would show a traceback."""
    try:
        library = _library(token)
        with library.lock:
            return ask(library.live), None
    except XmrError as error:
        return None, str(error)
    except BaseException as error:
        return None, f"{type(error).__name__}: {error}"


def _library(named: str | None) -> LiveLibrary:
    """The library of a token, or the only open one of a file that is named by its path or, without suffix, its name."""
    if named is None:
        raise StorageError("this connection is not registered: xmr.register(con) in Python gives it a library")
    found = _libraries.get(named)
    if found is not None:
        return found
    if "#" in named:
        raise StorageError(CLOSED)
    there = [library for library in list(_libraries.values()) if named in (library.url, Path(library.url).stem)]
    if not there:
        known = ", ".join(sorted({Path(library.url).stem for library in list(_libraries.values())}))
        raise StorageError(f"library {named!r} is not open here; there are {known or 'none'}")
    return there[-1]


def _whole(k: str | None) -> int | None:
    number = _number(k, "k")
    if number is not None and number != int(number):
        raise DataError(f"k={k}: expected a whole number, or NULL for all")
    return None if number is None else int(number)


def _number(text: str | None, name: str = "within") -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        raise DataError(f"{name}={text!r}: expected a number") from None


FUNCTIONS: dict[str, tuple[Callable[..., Any], list[str], str]] = {
    "xmr_live_search": (_search, [*["VARCHAR"] * 7, "BIGINT[]", "BOOLEAN"], HIT),
    "xmr_live_encode": (_encode, ["VARCHAR"] * 5, "STRUCT(words BIGINT[], numbers FLOAT[], fault VARCHAR)"),
}


# the macros over them


def _macros() -> list[str]:
    return [
        _search_macro("search", "query", "query::VARCHAR, NULL"),
        _search_macro("search_image", "path", "NULL, path::VARCHAR"),
        _encode_macro("encode_text", "query", WORDS, "query::VARCHAR, NULL"),
        _encode_macro("embed_text", "query", NUMBERS, "query::VARCHAR, NULL"),
        _encode_macro("encode_image", "path", WORDS, "NULL, path::VARCHAR"),
        _encode_macro("embed_image", "path", NUMBERS, "NULL, path::VARCHAR"),
    ]


def _comments() -> Iterator[str]:
    """What `xmr.help()` and clients show, in the form of the comments on the macros of a file."""
    narrows = "space names the space; modality, within and items := [ids] narrow it; exact := true asks no index."
    searches = {
        "search": ("The k nearest to a text, as db.search(text=...) finds them", "'a dog', 10"),
        "search_image": ("The k nearest to an image file, as db.search(image=...) finds them", "'dog.jpg', 10"),
    }
    for name, (meaning, example) in searches.items():
        told = literal(f"{meaning}. {narrows}\nExample: FROM xmr.{name}({example})")
        yield f"COMMENT ON MACRO TABLE {LIVE}.xmr.{name} IS {told}"
    for of, example in (("text", "'a dog'"), ("image", "'dog.jpg'")):
        what = "a text" if of == "text" else "an image file"
        for verb, gives in (("encode", "The words of the code"), ("embed", "The vector")):
            spaces = "a space of bits" if verb == "encode" else "a space of anything but bits"
            told = (
                f"{gives} of {what}, in {spaces}: a query for its macros.\nExample: SELECT xmr.{verb}_{of}({example})"
            )
            yield f"COMMENT ON MACRO {LIVE}.xmr.{verb}_{of} IS {literal(told)}"


ASKED = f"coalesce(library, getvariable('{LIBRARY}'))::VARCHAR"


def _search_macro(name: str, given: str, query: str) -> str:
    options = "space := NULL, modality := NULL, within := NULL, items := NULL, exact := FALSE, library := NULL"
    arguments = "k::VARCHAR, space::VARCHAR, modality::VARCHAR, within::VARCHAR, items::BIGINT[], exact::BOOLEAN"
    return f"""
        CREATE MACRO IF NOT EXISTS {LIVE}.xmr.{name}({given}, k := 10, {options}) AS TABLE
        SELECT h.hit.item_id AS item_id, h.hit.modality AS modality, h.hit.distance AS distance
        FROM (SELECT unnest(xmr_live_search({ASKED}, {query}, {arguments})) AS hit) AS h
        WHERE CASE WHEN h.hit.fault IS NULL THEN TRUE ELSE error('xmr.{name}: ' || h.hit.fault)::BOOLEAN END
        ORDER BY h.hit.distance, h.hit.item_id
        """


def _encode_macro(name: str, given: str, kind: str, query: str) -> str:
    return f"""
        CREATE MACRO IF NOT EXISTS {LIVE}.xmr.{name}({given}, space := NULL, library := NULL) AS (
            SELECT CASE
                WHEN e.answer.fault IS NULL THEN e.answer.{kind} ELSE error('xmr.{name}: ' || e.answer.fault)
            END
            FROM (SELECT xmr_live_encode({ASKED}, '{kind}', {query}, space::VARCHAR) AS answer) AS e
        )
        """


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
    path = path or f"{quoted(current)}.main"
    wanted = [f"{quoted(database)}.xmr" for (database,) in [*libraries, (LIVE,)]]
    return ",".join([path, *(entry for entry in wanted if not {entry, entry.replace('"', "")} & set(path.split(",")))])
