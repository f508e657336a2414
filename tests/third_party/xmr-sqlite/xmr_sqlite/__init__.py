"""A store over the standard library's sqlite3: `sqlite:///photos.db`, or `sqlite:////absolute/path.db`.

SQLite has no schemas; a database attached as `xmr` takes the place of one, so that the statements of `SqlStore` run as
they are. What is here is the connection: values and columns between Arrow and SQLite, which has no types of its own
for vectors (kept as bytes), dates and times (ISO 8601) and truth (0 and 1), but keeps the name that a column was given.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import quote

import numpy as np

import xmr_core as xmr
from xmr_core.plugin import Store
from xmr_storage.store import Connection, SqlStore

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["SQLiteConnection", "SQLiteStore", "xmr_stores"]

WAIT = 0.2  # seconds for another writer to finish
READ: dict[str, Callable[[Any], Any]] = {
    "BOOLEAN": bool,
    "DATE": date.fromisoformat,
    "TIMESTAMP": datetime.fromisoformat,
}


class SQLiteConnection(Connection):
    """A SQLite file, attached as `xmr` to a database in memory, where the rows that statements are given go."""

    dialect = "sqlite"
    has_schemas = False
    begin = "BEGIN IMMEDIATE"

    def __init__(self, path: str, read_only: bool) -> None:
        super().__init__(path, read_only)
        if not Path(path).parent.is_dir() or (read_only and not Path(path).is_file()):
            raise xmr.StorageError(f"{path}: no such {'file' if Path(path).parent.is_dir() else 'folder'}")
        self.raw = sqlite3.connect(
            "file::memory:", uri=True, timeout=WAIT, isolation_level=None, check_same_thread=False
        )
        try:
            self.execute("ATTACH $1 AS xmr", [f"file:{quote(path)}?mode={'ro' if read_only else 'rwc'}"])
            self.rows("SELECT name FROM xmr.sqlite_master")  # the file is read here
        except BaseException:
            self.raw.close()
            raise

    def close(self) -> None:
        self.raw.close()

    def execute(self, query: str, parameters: Sequence[Any] | None = None) -> sqlite3.Cursor:
        with self.lock, self.errors():
            return self.raw.execute(query, _named(parameters))

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """SQLite's errors as ours."""
        try:
            yield
        except (sqlite3.Error, sqlite3.Warning) as error:  # a second statement is a Warning in Python 3.11
            if "locked" in str(error):
                raise xmr.LockedError(f"{self.url} is held by another writer; try again when it is done") from error
            raise xmr.StorageError(f"{self.url}: {error}") from error
        except UnicodeEncodeError as error:
            raise xmr.DataError(f"text is not valid Unicode: {error}") from error
        except OverflowError as error:
            raise xmr.DataError(f"a number takes more than 64 bits: {error}") from error

    def rows(self, query: str, parameters: Sequence[Any] | None = None) -> list[Any]:
        with self.lock, self.errors():
            return self.execute(query, parameters).fetchall()

    def arrow(self, query: str, parameters: Sequence[Any] | None = None) -> pa.Table:
        import pyarrow as pa

        with self.lock, self.errors():
            found = self.execute(query, parameters)
            names, rows = [column[0] for column in found.description], found.fetchall()
        return pa.table({name: pa.array([row[i] for row in rows]) for i, name in enumerate(names)})

    def condition(self, text: str, query: str, parameters: Sequence[Any]) -> pa.Table:
        if any(isinstance(value, tuple) for value in parameters):
            raise xmr.DataError("SQLite has no lists: write one parameter for each value")
        with self.lock:
            self.rows("SELECT 1")  # a closed database is another matter than a wrong condition
            self.raw.set_authorizer(_only_reading)
            try:
                return self.arrow(query, parameters)
            except xmr.LockedError:
                raise
            except xmr.StorageError as error:
                raise xmr.DataError(str(error).removeprefix(f"{self.url}: ")) from error
            finally:
                self.raw.set_authorizer(None)

    @contextlib.contextmanager
    def given(self, **tables: pa.Table) -> Iterator[None]:
        with self.lock:
            try:
                for name, table in tables.items():
                    self.execute(f"CREATE TEMP TABLE {name} ({', '.join(table.column_names)})")
                    self._fill(name, table)
                yield
            finally:
                for name in tables:
                    with contextlib.suppress(xmr.StorageError):  # closed meanwhile, or rolled back
                        self.execute(f"DROP TABLE IF EXISTS temp.{name}")

    def insert(self, target: str, table: pa.Table) -> None:
        self._fill(f"xmr.{target}", table)

    def _fill(self, target: str, table: pa.Table) -> None:
        names = ", ".join(_quoted(name) for name in table.column_names)
        holders = ", ".join("?" * table.num_columns)
        rows = zip(*(_stored(column) for column in table.columns), strict=True)
        with self.lock, self.errors():
            self.raw.executemany(f"INSERT INTO {target} ({names}) VALUES ({holders})", rows)

    def tables(self, *prefixes: str) -> list[str]:
        found = self.rows("SELECT name FROM xmr.sqlite_master WHERE type = 'table' ORDER BY name")
        return [name for (name,) in found if name.startswith(prefixes or "")]

    def columns(self, table: str) -> dict[str, str]:
        rows = self.rows("SELECT name, type FROM pragma_table_info($1, 'xmr') ORDER BY cid", [table])
        return {name: _kind(declared) for name, declared in rows}

    def retype(self, table: str, column: str, kind: str) -> None:
        """SQLite changes no column: the table is made again, with its rows."""
        kinds = {name: kind if _quoted(name) == column else old for name, old in self.columns(table).items()}
        self.execute("DROP VIEW IF EXISTS xmr.catalog")  # made again by whoever changes columns
        self.execute(f"ALTER TABLE xmr.{table} RENAME TO {table}_before")
        self.execute(f"CREATE TABLE xmr.{table} ({', '.join(f'{_quoted(name)} {k}' for name, k in kinds.items())})")
        moved = (
            _quoted(name) if kind != "TIMESTAMP" or _quoted(name) != column else _midnight(column) for name in kinds
        )
        self.execute(f"INSERT INTO xmr.{table} SELECT {', '.join(moved)} FROM xmr.{table}_before")
        self.execute(f"DROP TABLE xmr.{table}_before")


class Rows:
    """A result that is read already: an open cursor would keep later statements from dropping their tables."""

    def __init__(self, description: Sequence[Any], rows: list[Any]) -> None:
        self.description, self._rows = description, rows

    def fetchmany(self, size: int) -> list[Any]:
        taken, self._rows = self._rows[:size], self._rows[size:]
        return taken

    def fetchall(self) -> list[Any]:
        return self.fetchmany(len(self._rows))


class SQLiteStore(SqlStore):
    """A library in a SQLite file. One process writes at a time, any number read."""

    name: ClassVar[str] = "sqlite"
    schemes: ClassVar[tuple[str, ...]] = ("sqlite",)
    runs_sql: ClassVar[bool] = True
    compacts: ClassVar[bool] = True

    db: SQLiteConnection

    @classmethod
    def open(cls, url: str, read_only: bool = False) -> Self:
        path = url.removeprefix("sqlite:///")
        if path == url or not path:
            raise xmr.StorageError(f"{url}: expected sqlite:///, and the path of a file")
        return cls(SQLiteConnection(str(Path(path).absolute()), read_only)).prepared()

    @property
    def url(self) -> str:
        return f"sqlite:///{self.db.url}"

    @property
    def folder(self) -> Path:
        """`<file>.xmr` beside the database file."""
        return Path(f"{self.db.url}.xmr")

    @property
    def size(self) -> int:
        return Path(self.db.url).stat().st_size

    def describe(self, ids: Any) -> dict[str, list[Any]]:
        """Values of the types that the columns have: SQLite gives numbers and texts."""
        told, kinds = super().describe(ids), self.db.columns("metadata")
        return {name: [_read(value, kinds.get(name, "")) for value in column] for name, column in told.items()}

    def sql(self, query: str, parameters: Any = None) -> Rows | None:
        """The rows of a statement; None where it gives none."""
        with self.db.lock, self.db.errors():
            named = not isinstance(parameters, dict) and "$1" in query  # else ?, or the user's own names
            values = _named(parameters) if named else parameters or ()
            found = self.db.raw.execute(query, values)
            return Rows(found.description, found.fetchall()) if found.description else None

    def compact(self) -> tuple[int, int]:
        self.db.require_writable()
        before = self.size
        self.db.execute("VACUUM xmr")
        return before, self.size


def _named(parameters: Sequence[Any] | None) -> dict[str, Any]:
    """Values for $1, $2, ..., which are names to SQLite."""
    return {str(number): value for number, value in enumerate(parameters or (), 1)}


def _only_reading(action: int, *_: str | None) -> int:
    allowed = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION)
    return sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY


def _stored(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column as SQLite keeps them."""
    import pyarrow.types as types

    if types.is_fixed_size_list(column.type):
        vectors = np.array(column.to_pylist(), "<f4")
        return [vector.tobytes() for vector in vectors]
    values: list[Any] = column.to_pylist()
    if types.is_timestamp(column.type) or types.is_date(column.type):
        return [None if value is None else str(value) for value in values]
    return values


def _read(value: Any, kind: str) -> Any:
    return value if value is None or kind not in READ else READ[kind](value)


def _kind(declared: str) -> str:
    """A column's type by the name that any SQL store gives it."""
    kind = declared.upper().replace(" [", "[")
    return {"TEXT": "VARCHAR", "REAL": "FLOAT"}.get(kind, kind)


def _midnight(column: str) -> str:
    return f"CASE WHEN length({column}) = 10 THEN {column} || ' 00:00:00' ELSE {column} END"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@xmr.hookimpl
def xmr_stores() -> list[type[Store]]:
    """What this plugin brings."""
    return [SQLiteStore]
