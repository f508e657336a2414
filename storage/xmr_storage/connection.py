"""What the modules of a SQL store need of an open database: a `Connection`, which each database has one of."""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from xmr_core.errors import StorageError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Connection"]


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
    def condition(self, query: str, parameters: Sequence[Any]) -> pa.Table:
        """All rows of a query that a condition of the user's is part of.

        Raises DataError where it is no single SELECT, or the database does not understand it.
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

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside happens whole or not at all; nested, the outermost counts."""
        with self.lock:
            if not self._depth:
                self.require_writable()
                self.execute(self.begin)
            self._depth += 1
            try:
                yield
            except BaseException:
                self._depth -= 1
                if not self._depth:
                    with contextlib.suppress(Exception):  # the first error is the one to report
                        self.execute("ROLLBACK")
                raise
            self._depth -= 1
            if not self._depth:
                self.execute("COMMIT")
