"""What the modules of a store need of an open database."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Connection"]


class Connection(Protocol):
    """An open database: statements with values bound to `$1`, `$2`, ..., and rows in bulk as Arrow tables.

    Every method raises StorageError with the database's own words where a statement fails.
    """

    @property
    def url(self) -> str:
        """What the database was opened with; it begins every error."""

    def execute(self, query: str, parameters: Sequence[Any] | None = None) -> Any:
        """Run a statement."""

    def rows(self, query: str, parameters: Sequence[Any] | None = None) -> list[Any]:
        """All rows of a query, as tuples."""

    def arrow(self, query: str, parameters: Sequence[Any] | None = None) -> pa.Table:
        """All rows of a query, as columns."""

    def given(self, **tables: pa.Table) -> AbstractContextManager[None]:
        """Make these tables visible to statements, by these names, inside the block."""

    def insert(self, target: str, table: pa.Table) -> None:
        """Insert rows into a table of the library; columns are matched by name."""

    def tables(self, *prefixes: str) -> list[str]:
        """The tables of the library whose names begin with one of these; all tables if none is given."""
