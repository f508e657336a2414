"""What the modules of a SQL store need of an open database: a `Connection`, which each database has one of."""

from __future__ import annotations

import contextlib
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from xmr_core.errors import LockedError, StorageError
from xmr_storage import revisions

if TYPE_CHECKING:
    import pyarrow as pa

    from xmr_core.store import SpaceRecord

__all__ = ["Connection"]

WAITS = (0.01, 0.03, 0.1)  # seconds between attempts to begin a transaction while somebody else writes


class Connection(ABC):
    """An open database whose schema `xmr` holds a library.

    Values are bound to `$1`, `$2`, ...; rows in bulk are Arrow tables. Column types have the names that DuckDB gives
    them, in any database: BIGINT, INTEGER, SMALLINT, DOUBLE, VARCHAR, BOOLEAN, DATE, TIMESTAMP, BLOB, and FLOAT[d] of
    a vector. Every method raises StorageError with the database's own words where a statement fails, LockedError
    where somebody else holds the database.
    """

    dialect: ClassVar[str] = "postgresql"  # the SQLAlchemy dialect whose DDL the database takes
    has_schemas: ClassVar[bool] = True  # CREATE SCHEMA works
    begin: ClassVar[str] = "BEGIN"

    def __init__(self, url: str, read_only: bool) -> None:
        self.url, self.read_only = url, read_only
        self.lock = threading.RLock()
        self.known_spaces: tuple[Hashable, list[SpaceRecord]] | None = None  # and the state in which they were read
        self.changing: revisions.Changing | None = None  # the change that is being made, inside a transaction
        self._depth = 0

    @abstractmethod
    def close(self) -> None:
        """Close the database."""

    @abstractmethod
    def execute(self, query: str, parameters: Sequence[Any] | None = None) -> Any:
        """Run a statement."""

    @abstractmethod
    def rows(self, query: str, parameters: Sequence[Any] | None = None) -> list[Any]:
        """All rows of a query, as tuples."""

    @abstractmethod
    def arrow(self, query: str, parameters: Sequence[Any] | None = None) -> pa.Table:
        """All rows of a query, as columns; a vector is a fixed-size list, or its bytes as little-endian float32."""

    @abstractmethod
    def condition(self, text: str, query: str, parameters: Sequence[Any]) -> pa.Table:
        """All rows of a query that holds a user's condition; in its `text`, brackets and quotes are closed.

        A tuple among the parameters is a list. Raises DataError where `text` is more or less than one expression, reads
        anything but the database, or is not understood by it; whatever it is, nothing is written.
        """

    @abstractmethod
    def given(self, **tables: pa.Table) -> AbstractContextManager[None]:
        """Make these tables visible to statements, by these names, inside the block."""

    @abstractmethod
    def insert(self, target: str, table: pa.Table) -> None:
        """Insert rows into a table of the library; columns are matched by name, those not given are NULL."""

    @abstractmethod
    def tables(self, *prefixes: str) -> list[str]:
        """The tables of the library whose names begin with one of these, in order; all tables if none is given."""

    @abstractmethod
    def columns(self, table: str) -> dict[str, str]:
        """The columns of a table of the library and their types, in order; none where there is no such table."""

    def retype(self, table: str, column: str, kind: str) -> None:
        """Change the type of a column (a quoted name); its values fit."""
        self.execute(f"ALTER TABLE xmr.{table} ALTER COLUMN {column} TYPE {kind}")

    def write(self, table: str, file: Path) -> None:
        """Write the rows of a table as Parquet, in the order in which they were inserted where that is known."""
        import pyarrow.parquet as parquet

        from xmr_storage.arrow import typed
        from xmr_storage.quoting import quoted

        kinds = self.columns(table)
        rows = self.arrow(f"SELECT {', '.join(map(quoted, kinds))} FROM xmr.{quoted(table)}")
        parquet.write_table(typed(rows, kinds), file, compression="zstd")

    def read(self, table: str, file: Path, kinds: dict[str, str]) -> None:
        """Insert the rows of a Parquet file into a table with columns of these types."""
        import pyarrow as pa
        import pyarrow.parquet as parquet

        from xmr_storage.arrow import typed

        try:
            rows = typed(parquet.read_table(file), kinds)
        except (pa.ArrowException, KeyError) as error:
            raise StorageError(f"{file}: {error}") from error
        self.insert(table, rows)

    def require_writable(self) -> None:
        """Raise StorageError where the database is open for reading only."""
        if self.read_only:
            raise StorageError(f"{self.url} is open for reading only")

    @property
    def writer(self) -> AbstractContextManager[Any]:
        """What the handles of a database in one process take to write one after the other, before any other lock."""
        return self.lock

    @property
    def noted(self) -> revisions.Changing:
        """The change that the open transaction makes, to note there what it does. Raises StorageError outside."""
        if self.changing is None:
            raise StorageError(f"{self.url}: expected a counted transaction")
        return self.changing

    def revision(self) -> int:
        """The latest committed revision."""
        return revisions.read(self)

    def state(self) -> Hashable | None:
        """What differs once tables or rows of `xmr.spaces` may have changed, whoever changed them; None where that
        cannot be told, and they are read each time."""
        return None

    def ending(self, changing: revisions.Changing) -> None:  # noqa: B027 (optional)
        """What to do as the last of a counted transaction: what is derived from the codes follows them."""

    def committed(self, revision: int) -> None:  # noqa: B027 (optional)
        """What to do once a change is committed, while `writer` is still held."""

    @contextlib.contextmanager
    def transaction(self, counted: bool = True) -> Iterator[None]:
        """Everything inside happens whole or not at all; nested, the outermost counts.

        A counted one begins by updating the revision, so that the database itself sees the conflict with whoever
        writes at the same time; LockedError then says to try again. What no search can notice, such as features that
        are kept, needs no count.
        """
        with self.writer, self.lock:
            if not self._depth:
                self.require_writable()
                self.changing = None
                self._begin(counted)
            elif counted and self.changing is None:
                self.changing = revisions.begin(self)
            self._depth += 1
            try:
                yield
                if self._depth == 1 and self.changing is not None:
                    self.ending(self.changing)
                    self.changing.write(self)
            except BaseException:
                self._depth -= 1
                if not self._depth:
                    self._roll_back()
                raise
            self._depth -= 1
            if not self._depth:
                self._commit()

    def _begin(self, counted: bool) -> None:
        """Begin, and where somebody else is just writing, try again for a moment: nothing has been done yet."""
        for wait in (*WAITS, None):
            self.execute(self.begin)
            try:
                self.changing = revisions.begin(self) if counted else None
                return
            except LockedError:
                self._roll_back()
                if wait is None:
                    raise
                time.sleep(wait)
            except BaseException:
                self._roll_back()
                raise

    def _commit(self) -> None:
        changing, self.changing = self.changing, None
        self.execute("COMMIT")
        if changing is not None:
            self.committed(changing.revision)

    def _roll_back(self) -> None:
        self.changing = None
        with contextlib.suppress(Exception):  # the first error is the one to report
            self.execute("ROLLBACK")
