"""An open DuckDB file. Bulk rows go through Arrow; every value is bound, every identifier checked and quoted."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmr_core.errors import DataError, DiskFullError, LockedError, StorageError
from xmr_storage import revisions
from xmr_storage.connection import Connection
from xmr_storage.duckdb.comments import describe
from xmr_storage.duckdb.conditions import Examined, check_tables, examined
from xmr_storage.duckdb.instances import Instance, acquire, first_line
from xmr_storage.duckdb.looks import looks
from xmr_storage.quoting import literal, quoted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from xmr_storage.revisions import Changing

__all__ = ["DuckDBConnection"]

EXAMINED = 1000  # conditions that are remembered
FULL = ("No space left", "File too large", "Disk quota exceeded", "not enough space on the disk")  # the system's words
BATCH = 100_000  # rows that are held at once as a table is written
DEFINING = ("CREATE", "ALTER", "DROP", "ATTACH", "DETACH", "COPY")  # how statements begin that change tables


@dataclass
class Catalog:
    """The tables of the library, and the columns of tables and views with their types; what was asked for so far."""

    at: int  # the count of definitions that it is of
    names: list[str] | None = None
    columns: dict[str, dict[str, str]] = field(default_factory=dict)


class DuckDBConnection(Connection):
    """A connection to a DuckDB file, made where it does not exist, or to one in memory."""

    def __init__(self, path: str, read_only: bool) -> None:
        super().__init__(path, read_only)
        self.instance = acquire(path, read_only)
        self._generation = self.instance.generation
        self._opened = [self.instance.connect()]  # for our statements, and from the first on for the user's
        self._finalizer = weakref.finalize(self, _let_go, self.instance, self._opened)  # also as the program ends
        self._known = Catalog(-1)
        self._examined: dict[str, Examined] = {}  # conditions that are sound
        self._defines = False  # the open transaction has made, changed or dropped a table
        self._keeps: tuple[int, bool] = (-1, False)  # whether there are tables of decoded codes, at which definitions

    @property
    def raw(self) -> duckdb.DuckDBPyConnection:
        """This handle's own connection to the database. Raises StorageError in a forked child."""
        self.instance.require_process()
        self._connect_again()
        return self._opened[0]

    def _connect_again(self) -> None:
        """Connect to the database if it was given up, or its file replaced, since this handle was connected to it."""
        if self._generation == self.instance.generation or not self._finalizer.alive:
            return
        if self._depth:
            raise StorageError(f"{self.url}: the transaction is lost with the connection; nothing of it was kept")
        with self.lock:
            _disconnect(self._opened)
            generation = self.instance.generation
            self._opened[:] = [self.instance.connect()]
            self._generation = generation

    def close(self) -> None:
        self._finalizer()

    @property
    def writer(self) -> AbstractContextManager[Any]:
        self.instance.require_process()
        return self.instance.writer

    def revision(self) -> int:
        instance = self.instance
        instance.require_process()
        if not self._finalizer.alive:
            raise StorageError(f"{self.url} is closed")
        known = instance.revision
        while known is None:
            generation, found = instance.generation, super().revision()
            with instance.guard:
                if instance.revision is None and instance.generation == generation:  # else what was committed is later
                    instance.revision = found
                known = instance.revision
        return known

    def committed(self, revision: int) -> None:
        with self.instance.guard:
            self.instance.revision = revision

    def state(self) -> Hashable | None:
        looks = self.looks()
        return None if looks is None else (self.revision(), self.instance.definitions, looks)

    def looks(self) -> Hashable | None:
        """What the file and its log look like: every commit, of any connection, writes into one of them. None of what
        is in memory."""
        path = self.instance.path
        return None if path.startswith(":memory:") else looks(path)

    @property
    def has_cursor(self) -> bool:
        """True where `cursor` was called."""
        return len(self._opened) > 1 and self._generation == self.instance.generation

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection for the user's statements, since the live functions use `raw` while those run."""
        self.instance.require_process()
        self._connect_again()
        if not self.has_cursor:
            self._opened.append(self.instance.connect())
        return self._opened[1]

    def execute(self, query: str, parameters: Any = None) -> duckdb.DuckDBPyConnection:
        self.instance.require_process()  # before the lock, which a thread of the parent may hold for ever in a child
        with self.lock, self.errors():
            raw = self.raw
            begin = query.lstrip()[:6].upper()
            if begin.startswith(DEFINING):
                self.define()
            if begin != "SELECT" and ("xmr.spaces" in query or "xmr.forms" in query):
                self.known_spaces = None
            return raw.execute(query, parameters)

    @contextlib.contextmanager
    def errors(self, whole: bool = False, used: duckdb.DuckDBPyConnection | None = None) -> Iterator[None]:
        """DuckDB's errors as StorageError, in its first line or its `whole` words, and Ctrl-C as what it is.

        A database that DuckDB does not use any more after an error is opened again by the next statement. `used` is the
        connection whose statement runs inside, `raw` without it.
        """
        import duckdb

        try:
            yield
        except duckdb.InterruptException as error:
            raise KeyboardInterrupt from error
        except duckdb.Error as error:
            if isinstance(error, duckdb.FatalException):
                self.instance.give_up(self._generation)
            raise self._storage_error(error, whole) from error
        except UnicodeEncodeError as error:
            raise DataError(f"text is not valid Unicode: {error}") from error
        except RuntimeError as error:
            if str(error).startswith("Unable to cast Python instance"):  # of text that is not valid Unicode
                raise DataError("a parameter cannot be given to DuckDB: it is not valid Unicode") from error
            if str(error) != "Query interrupted":
                raise
            _stop(used or self._opened[0])
            raise KeyboardInterrupt from error

    def _storage_error(self, error: duckdb.Error, whole: bool) -> StorageError:
        import duckdb

        words = str(error) if whole else first_line(error)
        if any(sign in str(error) for sign in FULL):
            return DiskFullError(
                f"{self.url}: the disk is full; nothing of this call was kept. Free some space: {self.url}.xmr holds "
                f"only what can be computed again, and `delete` needs next to none ({words})"
            )
        if isinstance(error, duckdb.TransactionException) and "onflict" in words:
            return LockedError(f"{self.url} is being changed by another connection; try again when it is done")
        return StorageError(f"{self.url}: {words}")

    def rows(self, query: str, parameters: Any = None) -> list[Any]:
        self.instance.require_process()
        with self.lock:
            return self.execute(query, parameters).fetchall()

    def arrow(self, query: str, parameters: Any = None) -> pa.Table:
        self.instance.require_process()
        with self.lock:
            return _arrow_of(self.execute(query, parameters))

    def condition(self, text: str, query: str, parameters: Any) -> pa.Table:
        self.instance.require_process()
        with self.lock, self._condition_errors():
            check_tables(self.raw, self.examined(text).tables)
            values = [list(value) if isinstance(value, tuple) else value for value in parameters]
            return _arrow_of(self.raw.execute(query, values))

    def examined(self, text: str) -> Examined:
        """What a condition reads. Raises DataError where it is not one expression that only reads the database."""
        known = self._examined.get(text)
        if known is None:
            raw = self.raw
            with self.lock, self._condition_errors():
                known = examined(raw, text)
            if len(self._examined) >= EXAMINED:
                self._examined.clear()
            self._examined[text] = known
        return known

    @contextlib.contextmanager
    def _condition_errors(self) -> Iterator[None]:
        """DuckDB's errors over a condition as DataError: it is the user's."""
        import duckdb

        with self.errors():
            try:
                yield
            except (duckdb.ConnectionException, duckdb.FatalException, duckdb.InterruptException, duckdb.IOException):
                raise  # no fault of the condition
            except duckdb.Error as error:
                raise DataError(first_line(error)) from error

    @contextlib.contextmanager
    def given(self, **tables: pa.Table) -> Iterator[None]:
        self.instance.require_process()
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
        from xmr_storage.duckdb import rowwise

        if rowwise.are_few(table):
            self.execute(*rowwise.insertion(target, table))
            return
        with self.given(_given_rows=_poured(table)):
            self.execute(f"INSERT INTO xmr.{target} BY NAME SELECT * FROM _given_rows")

    def tables(self, *prefixes: str) -> list[str]:
        known = self._catalog()
        if known.names is None:
            query = """
                SELECT table_name
                FROM duckdb_tables()
                WHERE schema_name = 'xmr' AND database_name = current_database()
                ORDER BY table_name
                """
            known.names = [name for (name,) in self.rows(query)]
        return [name for name in known.names if name.startswith(prefixes or "")]

    def columns(self, table: str) -> dict[str, str]:
        described = self._catalog().columns
        if table not in described:
            described[table] = self._describe(table)
        return dict(described[table])

    def _describe(self, table: str) -> dict[str, str]:
        """The columns of one table or view: `duckdb_columns()` would bind every view that there is."""
        import duckdb

        try:
            return {name: kind for name, kind, *_ in self.rows(f"DESCRIBE xmr.{quoted(table)}")}
        except StorageError as error:
            if isinstance(error.__cause__, duckdb.CatalogException):  # there is none
                return {}
            raise

    def _catalog(self) -> Catalog:
        """What is known of the catalog, nothing where some handle has made or dropped a table since: asking the
        database takes it longer than most of what is then done."""
        self.instance.require_process()
        if self._known.at != self.instance.definitions:
            self._known = Catalog(self.instance.definitions)
        return self._known

    def ending(self, changing: Changing) -> None:
        """Keep tables of decoded codes in step with the codes."""
        from xmr_storage.duckdb import decoded

        at = self.instance.definitions
        if self._keeps[0] != at:
            self._keeps = at, bool(decoded.wanted(self))
        if self._keeps[1]:
            decoded.follow(self, changing)

    def define(self) -> None:
        """Tables or columns may have changed, here and for other handles."""
        self._defines = True
        self.instance.definitions += 1

    def _commit(self) -> None:
        revision, defines = self.changing.revision if self.changing else None, self._defines
        try:
            if defines:
                describe(self)
            super()._commit()
        except DiskFullError:  # as it was committed, or as DuckDB then moved the log into the file
            if revision is None or revisions.read(self) != revision:
                raise
            self.committed(revision)
        finally:
            self._defined()
        self.instance.tidy(whole=defines)

    def _roll_back(self) -> None:
        super()._roll_back()
        self._defined()

    def _defined(self) -> None:
        """What was defined in the transaction is seen by other handles from now on, or by none."""
        if self._defines:
            self._defines = False
            self.instance.definitions += 1

    def write(self, table: str, file: Path) -> None:
        """Write a table as Parquet, without holding it in memory."""
        rows = f"SELECT * FROM xmr.{quoted(table)} ORDER BY rowid"
        if self.read_only:  # DuckDB itself writes no files then
            self._stream(rows, self.columns(table), file)
            return
        self.execute(f"COPY ({rows}) TO {literal(str(file))} (FORMAT parquet, COMPRESSION zstd)")

    def _stream(self, query: str, kinds: dict[str, str], file: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as parquet

        from xmr_storage.arrow import typed

        with self.lock, self.errors():
            batches = _batches_of(self.raw.execute(query))
            first = next(batches, None)
            rows = typed(self.arrow(f"{query} LIMIT 0") if first is None else pa.Table.from_batches([first]), kinds)
            with parquet.ParquetWriter(file, rows.schema, compression="zstd") as writer:
                writer.write_table(rows)
                for batch in batches:
                    writer.write_table(typed(pa.Table.from_batches([batch]), kinds))

    def read(self, table: str, file: Path, kinds: dict[str, str]) -> None:
        """Insert the rows of a Parquet file, without holding them in memory."""
        names = ", ".join(f"{quoted(name)}::{kind} AS {quoted(name)}" for name, kind in kinds.items())
        self.execute(f"INSERT INTO xmr.{table} BY NAME SELECT {names} FROM read_parquet({literal(str(file))})")

    def replace_file(self, fresh: Path, modified: int) -> None:
        """Put another file in the place of this one's, and continue with it.

        Raises LockedError where another connection of this process is open: both would continue to write into the
        file that is gone; and where the file was written after `modified`, in nanoseconds as the system tells it.
        """
        self.require_writable()
        with self.writer, self.lock:
            self.instance.require_only_handle()
            _disconnect(self._opened)
            self.instance.replace(fresh, modified)


def _let_go(instance: Instance, opened: list[duckdb.DuckDBPyConnection]) -> None:
    """Close the connections of a handle, and the database with the last handle."""
    if instance.is_here:
        _disconnect(opened)
    instance.release()


def _stop(connection: duckdb.DuckDBPyConnection) -> None:
    """End the statement that Ctrl-C has left: DuckDB's threads would go on with it, and it would keep its locks."""
    with contextlib.suppress(Exception):  # the connection is closed, or its transaction has failed with the statement
        connection.interrupt()
        connection.execute("SELECT 1")


def _poured(table: pa.Table) -> pa.RecordBatchReader:
    """The rows of a table, to be read once. DuckDB holds what was registered in a transaction until its end, and would
    hold a second copy of all that a long transaction writes; of a reader nothing is left when it has been read."""
    import pyarrow as pa

    left = table.to_batches()[::-1]

    def batches() -> Iterator[pa.RecordBatch]:
        while left:
            yield left.pop()

    return pa.RecordBatchReader.from_batches(table.schema, batches())


def _disconnect(opened: list[duckdb.DuckDBPyConnection]) -> None:
    for connection in reversed(opened):
        connection.close()
    del opened[1:]


def _batches_of(result: Any) -> Iterator[pa.RecordBatch]:
    fetch = getattr(result, "to_arrow_reader", None) or result.fetch_record_batch  # the name before DuckDB 1.5
    yield from fetch(BATCH)


def _arrow_of(result: Any) -> pa.Table:
    fetch = getattr(result, "to_arrow_table", None) or result.fetch_arrow_table  # the name before DuckDB 1.5
    return fetch()
