"""A library in a DuckDB file: what it has beside any `SqlStore` is codes in SQL, live functions and compaction."""

from __future__ import annotations

import os
import stat
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import DataError, Finding, StorageError, XmrError
from xmr_core.search.condition import Condition
from xmr_core.store import Live, SpaceRecord
from xmr_core.types import Head
from xmr_storage import orphans
from xmr_storage.duckdb import codes
from xmr_storage.duckdb.connection import DuckDBConnection
from xmr_storage.duckdb.instances import first_line
from xmr_storage.ids import highest_id, ids_of
from xmr_storage.metadata import CATALOG
from xmr_storage.records import find, records
from xmr_storage.store import SqlStore

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from xmr_storage.duckdb.live import LiveLibrary
    from xmr_storage.duckdb.statements import Effect

__all__ = ["DuckDBStore"]


class DuckDBStore(SqlStore):
    """A library in the schema `xmr` of a DuckDB file. One process writes a file, or any number read it."""

    name: ClassVar[str] = "duckdb"
    schemes: ClassVar[tuple[str, ...]] = ("", "duckdb")
    runs_sql: ClassVar[bool] = True
    has_macros: ClassVar[bool] = True
    has_live_functions: ClassVar[bool] = True
    compacts: ClassVar[bool] = True

    db: DuckDBConnection
    _live: LiveLibrary | None = None
    _shared: bool = False  # somebody else has, or may have, a connection to the database
    _done: Effect = "nothing"  # what statements have done since a transaction of the user's last ended

    @classmethod
    def open(cls, url: str, read_only: bool = False) -> Self:
        """The library of a file; `:memory:` keeps nothing."""
        path = url.removeprefix("duckdb://").removeprefix("/") if url.startswith("duckdb:///") else url
        if not path.startswith(":memory:"):  # absolute, so that chdir moves nothing and DuckDB sees a file in any name
            path = _real_path(path)
            if Path(path).name.split(".")[0].lower() == "xmr":
                raise StorageError(
                    f"{path}: choose another name: in a database called xmr, SQL cannot tell `xmr.` from its schema xmr"
                )
        store = cls(DuckDBConnection(path, read_only))
        if not store.db.instance.plain:
            store._require_plain()
        store.prepared()
        if not read_only and store.folder is not None and store.db.instance.handles == 1:
            from xmr_storage import transfer
            from xmr_storage.duckdb import compaction

            compaction.remove_halves(Path(path), everywhere=False)
            transfer.remove_halves(store.folder)
        return store

    @classmethod
    def read_table(cls, files: Sequence[Path]) -> pa.Table:
        """The rows of files of one kind, by DuckDB's own readers."""
        from xmr_storage.duckdb.reading import read_table

        return read_table(files)

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB connection itself, for what SQL alone cannot say."""
        self._share()
        return self.db.raw

    def _share(self) -> None:
        """Somebody else gets a connection to the database, or runs SQL of their own on it."""
        self._shared = self.db.instance.shared = True

    @property
    def folder(self) -> Path | None:
        """`<file>.xmr` beside the database file."""
        return None if self.url.startswith(":memory:") else Path(f"{self.url}.xmr")

    @property
    def size(self) -> int:
        return 0 if self.folder is None else Path(self.url).stat().st_size

    def mark(self, where: Condition) -> Hashable | None:
        """The revision and, since SQL of a connection that is not ours counts none, what the file and its log look
        like: every commit writes into one of them. Memory is trusted while nobody else has had a connection to it."""
        if self.db.changing is not None or (self.folder is None and self._shared):
            return None
        columns = self._steady(where)
        if columns is None:
            return None
        return self.revision(), self.db.looks()

    def _steady(self, where: Condition) -> frozenset[str] | None:
        """The columns that alone decide what a condition chooses, in lower case; None where something else may."""
        try:
            columns = self.db.examined(where.sql).columns
        except DataError:  # told when it is asked
            return None
        known = {name.lower() for name in (*CATALOG, *self.metadata_columns())}
        return columns if columns is not None and columns <= known else None

    def passing(self, modality: str, where: Condition, coded: tuple[str, int] | None = None) -> NDArray[np.int64]:
        """Where only columns of the user's decide, and an item without any does not pass, the catalog's join, most of
        the work, is left out: one reads `xmr.metadata`."""
        columns = self._steady(where)
        if not columns or not columns <= {name.lower() for name in self.metadata_columns()}:
            return self.ids(modality, where, coded)
        query = f"""
            SELECT item_id FROM xmr.metadata AS catalog WHERE (\n{where.sql}\n)
            UNION ALL
            SELECT -1 FROM (SELECT 1) AS bare LEFT JOIN xmr.metadata AS catalog ON FALSE WHERE (\n{where.sql}\n)
            """
        try:
            found = ids_of(self.db.condition(where.sql, query, where.values))
        except DataError:  # told with the columns there are
            return self.ids(modality, where, coded)
        return self.ids(modality, where, coded) if (found < 0).any() else found

    def _prepare(self) -> None:
        super()._prepare()
        if not self.read_only and not codes.macros_are_current(self.db):
            with self.transaction():
                for table in self._derived_tables():  # another version may have changed codes, and not these
                    self.db.execute(f"DROP TABLE xmr.{table}")
                self.republish()

    def republish(self) -> None:
        """Create all macros again, those of the library and those of each published space."""
        from xmr_storage.duckdb import macros

        with self.transaction():
            codes.forget_macros(self.db)
            for statement in macros.shared_statements():
                self.execute(statement)
            codes.find_vectors(self.db)
            super().republish()
            codes.remember_macros(self.db)

    def _require_plain(self) -> None:
        from xmr_storage.duckdb import definitions
        from xmr_storage.schema import TABLES

        try:
            definitions.require_plain(self.db, frozenset(TABLES))
        except BaseException:
            self.close()
            raise
        self.db.instance.plain = True

    def _compare(self) -> None:
        """Once a database: make views and macros again that are not as we would write them, or refuse those that read
        more than the database where they cannot be."""
        from xmr_storage.duckdb import definitions

        instance = self.db.instance
        if instance.compared == instance.generation:
            return
        found = None
        try:
            found = definitions.differing(self.db)
            if found and not self.read_only:
                with self.transaction():
                    definitions.make_again(self.db, found)
                    self.republish()
                    self.db.define()
                found = {}
        except XmrError:  # damaged, or being changed
            found = definitions.present(self.db) if found is None else found
        definitions.require_harmless(self.db, found)
        instance.compared = instance.generation

    def _make_codes(self, space: SpaceRecord) -> None:
        codes.make(self.db, space)

    def _publish_codes(self, space: SpaceRecord) -> None:
        codes.publish(self.db, space)

    def _drop_codes(self, name: str, versions: Iterable[int], published: bool) -> None:
        codes.drop(self.db, name, versions, published)

    def _derived_tables(self) -> list[str]:
        from xmr_storage.duckdb import decoded

        return decoded.tables(self.db)

    def materialize(self, name: str, drop: bool = False) -> None:
        from xmr_storage.duckdb import decoded

        space = find(self.db, name, None)
        with self.transaction():
            decoded.note(self.db, name, not drop)
            self.publish(name, space.version)
            if drop:
                decoded.drop(self.db, name)
            elif decoded.decoding(self.db, name, space.version) is None:  # known once it is published, of older files
                raise DataError(f"space {name!r}: its codes are compared as they are stored; nothing is decoded")

    def drop_space(self, name: str, version: int | None = None, role: Head = "indexer") -> None:
        from xmr_storage.duckdb import decoded

        with self.transaction():
            super().drop_space(name, version, role)
            if role == "indexer" and name in decoded.wanted(self.db) and name not in {s.name for s in records(self.db)}:
                decoded.note(self.db, name, False)

    def _findings(self) -> Iterator[Finding]:
        from xmr_storage.duckdb import checks

        found = list(super()._findings())
        yield from found
        if not any(finding.startswith("the table") for finding in found):
            yield from checks.findings(self)

    def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> Any:
        """A DuckDB relation, or None where the statement gives no rows."""
        import duckdb

        if not isinstance(query, str):
            raise DataError(f"sql: expected the text of a statement, got {type(query).__name__}")
        if parameters is not None and (
            isinstance(parameters, (str, bytes)) or not isinstance(parameters, (Sequence, Mapping))
        ):
            raise DataError(f"sql: expected parameters as a list or a dict, got {type(parameters).__name__}")
        self._share()  # a relation can write too
        cursor = self.db.cursor()
        try:
            with self.db.errors(whole=True, used=cursor), self.db.instance.running_on(cursor):
                relation = cursor.sql(query, params=parameters)
                result = relation if relation is None else relation.execute()
            self._notice(query)
            return result
        except StorageError as error:
            if self.read_only and isinstance(error.__cause__, duckdb.PermissionException):
                words = first_line(error.__cause__)
                hint = "a library that is only read opens no other file: open it for writing"
                raise StorageError(f"{self.url}: {words}; {hint}") from error.__cause__
            raise

    def _notice(self, query: str) -> None:
        """Count what a statement of the user's may have changed, now and again when a transaction of theirs ends."""
        from xmr_storage.duckdb import statements

        if self.read_only:
            return
        if statements.WRITES.search(query):
            self.db.define()
        done = statements.effect(self.db.cursor(), query, self.db.tables)
        if done == "ended":
            done, self._done = self._done, "nothing"
        else:
            self._done = max(done, self._done, key=statements.EFFECTS.index)
        if done != "nothing":
            with self.transaction():
                if done == "anything":
                    self.db.noted.use(np.array([highest_id(self.db)]))
                    self.db.noted.unknown()
                    orphans.delete(self.db)

    def live(self, connection: Any, live: Live) -> None:
        from xmr_storage.duckdb.live import LiveLibrary, attach

        self._share()
        if connection is None:
            self._compare()
        with self.db.errors():
            if self._live is None:
                self._live = LiveLibrary(self.url, live)
            if connection is not None:
                attach(connection, self._live)
            elif not self.db.has_cursor:  # once: in a transaction that has failed it could not be done again
                attach(self.db.cursor(), self._live, keep=False)

    def close(self) -> None:
        if self._live is not None:
            self._live.close()
            self._live = None
        super().close()

    @classmethod
    def url_of(cls, connection: Any) -> str | None:
        import duckdb

        if not isinstance(connection, duckdb.DuckDBPyConnection):
            return None
        query = """
            SELECT path
            FROM duckdb_databases()
            WHERE database_name = current_database()
            AND EXISTS (
                SELECT 1
                FROM duckdb_tables()
                WHERE database_name = current_database() AND schema_name = 'xmr' AND table_name = 'meta'
            )
            """
        try:
            row = connection.execute(query).fetchone()
        except duckdb.Error as error:
            raise StorageError(f"register: the connection cannot be used: {first_line(error)}") from error
        return row[0] if row else None

    def compact(self) -> tuple[int, int]:
        from xmr_storage.duckdb import compaction

        if self.folder is None:
            return 0, 0
        return compaction.compact(self.db, self.republish)


def _real_path(path: str) -> str:
    """The absolute path of a file, without links. Raises StorageError where it can be none."""
    try:
        real = os.path.realpath(path)
        mode = os.stat(real).st_mode  # noqa: PTH116 (a Path would be made for this alone)
    except (FileNotFoundError, NotADirectoryError):
        return real  # which DuckDB makes, or says why it cannot
    except (OSError, ValueError) as error:
        raise StorageError(f"{path[:200]!r} cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening a pipe would wait for ever
        raise StorageError(f"{path}: expected a DuckDB file, got a pipe or a device")
    return real
