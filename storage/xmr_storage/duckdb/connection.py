"""An open DuckDB file. Bulk rows go through Arrow; every value is bound, every identifier checked and quoted."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmr_core.errors import DataError, LockedError, SchemaVersionError, StorageError
from xmr_storage.connection import Connection
from xmr_storage.quoting import literal, quoted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

__all__ = ["STORAGE_VERSION", "DuckDBConnection", "first_line"]

STORAGE_VERSION = "v1.2.0"  # of new files: what DuckDB 2 writes by default, DuckDB 1 cannot open


class DuckDBConnection(Connection):
    """A connection to a DuckDB file, made where it does not exist, or to one in memory."""

    def __init__(self, path: str, read_only: bool) -> None:
        super().__init__(path, read_only)
        self.raw = _connect(path, read_only)
        self._cursor: duckdb.DuckDBPyConnection | None = None

    def close(self) -> None:
        if self._cursor is not None:
            self._cursor.close()
            self._cursor = None
        self.raw.close()

    @property
    def has_cursor(self) -> bool:
        """True where `cursor` was called."""
        return self._cursor is not None

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection for the user's statements, since the live functions use `raw` while those run."""
        if self._cursor is None:
            self._cursor = self.raw.cursor()
        return self._cursor

    def execute(self, query: str, parameters: Any = None) -> duckdb.DuckDBPyConnection:
        with self.lock, self.errors():
            return self.raw.execute(query, parameters)

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """DuckDB's errors as StorageError, and its word for Ctrl-C as what it is."""
        import duckdb

        try:
            yield
        except duckdb.Error as error:
            raise StorageError(f"{self.url}: {first_line(error)}") from error
        except UnicodeEncodeError as error:
            raise DataError(f"text is not valid Unicode: {error}") from error
        except RuntimeError as error:
            if str(error) == "Query interrupted":
                raise KeyboardInterrupt from error
            raise

    def rows(self, query: str, parameters: Any = None) -> list[Any]:
        with self.lock:
            return self.execute(query, parameters).fetchall()

    def arrow(self, query: str, parameters: Any = None) -> pa.Table:
        with self.lock:
            return _arrow_of(self.execute(query, parameters))

    def condition(self, query: str, parameters: Any) -> pa.Table:
        import duckdb

        with self.lock:
            try:
                statements = self.raw.extract_statements(query)
                if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                    raise DataError("expected one condition")
                return _arrow_of(self.raw.execute(query, parameters))
            except duckdb.ConnectionException as error:
                raise StorageError(f"{self.url}: {first_line(error)}") from error
            except duckdb.Error as error:
                raise DataError(first_line(error)) from error

    @contextlib.contextmanager
    def given(self, **tables: pa.Table) -> Iterator[None]:
        with self.lock:
            try:
                for name, table in tables.items():
                    with self.errors():
                        self.raw.register(name, table)
                yield
            finally:
                for name in tables:
                    with contextlib.suppress(Exception):  # closed meanwhile
                        self.raw.unregister(name)

    def insert(self, target: str, table: pa.Table) -> None:
        with self.given(_given_rows=table):
            self.execute(f"INSERT INTO xmr.{target} BY NAME SELECT * FROM _given_rows")

    def tables(self, *prefixes: str) -> list[str]:
        names = self.rows(
            """
            SELECT table_name
            FROM duckdb_tables()
            WHERE schema_name = 'xmr' AND database_name = current_database()
            ORDER BY table_name
            """
        )
        return [name for (name,) in names if name.startswith(prefixes or "")]

    def columns(self, table: str) -> dict[str, str]:
        rows = self.rows(
            """
            SELECT column_name, data_type
            FROM duckdb_columns()
            WHERE schema_name = 'xmr' AND database_name = current_database() AND table_name = $1
            ORDER BY column_index
            """,
            [table],
        )
        return dict(rows)

    def write(self, table: str, file: Path) -> None:
        """Write a table as Parquet, without holding it in memory."""
        rows = f"SELECT * FROM xmr.{quoted(table)} ORDER BY rowid"
        self.execute(f"COPY ({rows}) TO {literal(str(file))} (FORMAT parquet, COMPRESSION zstd)")

    def read(self, table: str, file: Path, kinds: dict[str, str]) -> None:
        """Insert the rows of a Parquet file, without holding them in memory."""
        names = ", ".join(f"{quoted(name)}::{kind} AS {quoted(name)}" for name, kind in kinds.items())
        self.execute(f"INSERT INTO xmr.{table} BY NAME SELECT {names} FROM read_parquet({literal(str(file))})")

    def replace_file(self, fresh: Path) -> None:
        """Put another file in the place of this one's, and continue with it.

        Raises LockedError where another connection of this process is open: both would continue to write into the
        file that is gone.
        """
        self.require_writable()
        with self.lock:
            self.close()
            try:
                _require_alone(self.url)
                fresh.replace(self.url)
            finally:
                self.raw = _connect(self.url, self.read_only)


def first_line(error: Exception) -> str:
    """DuckDB's message without the statement that it quotes below."""
    return str(error).strip().split("\n", 1)[0]


def _connect(path: str, read_only: bool) -> duckdb.DuckDBPyConnection:
    import duckdb

    try:
        fresh = not path.startswith(":memory:") and not Path(path).exists()
        if fresh and read_only:
            raise StorageError(f"{path}: no such file")
        if fresh and not Path(path).parent.is_dir():
            raise StorageError(f"{path}: its folder does not exist")
        if fresh:  # the storage version is given here alone, so that other connections need no setting to match
            with duckdb.connect() as maker:
                maker.execute(f"ATTACH {literal(path)} AS fresh (STORAGE_VERSION '{STORAGE_VERSION}')")
        return duckdb.connect(path, read_only=read_only)
    except duckdb.Error as error:
        raise _opening_error(path, first_line(error)) from error


def _require_alone(path: str) -> None:
    """Raise LockedError where a connection of this process is open on the file; DuckDB then refuses another mode."""
    import duckdb

    try:
        duckdb.connect(path, read_only=True).close()
    except duckdb.ConnectionException as error:
        raise LockedError(
            f"{path}: another connection of this process is open on it; close it first ({first_line(error)})"
        ) from error


def _opening_error(path: str, words: str) -> StorageError:
    if "set lock" in words:
        holder = re.search(r"PID (\d+)", words)
        who = f"process {holder[1]}" if holder else "another process"
        return LockedError(f"{path} is held by {who}; close it there, or open read-only beside readers only")
    if "version number" in words:
        return SchemaVersionError(f"{path}: written by a newer DuckDB; upgrade duckdb to open it ({words})")
    if "not a valid DuckDB database" in words:
        return StorageError(f"{path} is no DuckDB database, or is damaged")
    return StorageError(f"{path} cannot be opened: {words}")


def _arrow_of(result: Any) -> pa.Table:
    fetch = getattr(result, "to_arrow_table", None) or result.fetch_arrow_table  # the name before DuckDB 1.5
    return fetch()
