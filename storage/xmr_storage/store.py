"""A library in a SQL database: `SqlStore` is what every such store has in common.

A store author writes a `Connection` to the database, and a subclass of `SqlStore` that says how it is opened:

    class MyStore(SqlStore):
        name, schemes = "mine", ("mine",)

        @classmethod
        def open(cls, url, read_only=False):
            return cls(MyConnection(url, read_only)).prepared()

and extends, where the database can do it, `_publish_codes` (codes in its own SQL), `sql`, `live`, `compact`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

from xmr_core.errors import Finding, StorageError
from xmr_core.store import Changes
from xmr_storage import checks, history, metadata, migrations, orphans, revisions, transfer
from xmr_storage.codes import table_name
from xmr_storage.connection import Connection
from xmr_storage.ids import count_ids
from xmr_storage.items import SqlItems
from xmr_storage.records import records
from xmr_storage.spaces import SqlSpaces

__all__ = ["Connection", "SqlStore"]


class SqlStore(SqlItems, SqlSpaces):
    """A library in the schema `xmr` of a SQL database."""

    exports: ClassVar[bool] = True

    def __init__(self, connection: Connection) -> None:
        """A store over an open database; `prepared` makes or checks the library in it."""
        self.db = connection
        self._asked: tuple[int, int] | None = None  # what `_news` is about: since which revision, up to which
        self._news: history.News | None = None

    def prepared(self) -> Self:
        """This store, with a library in it: checked where one is there, else made. Closes the database on failure.

        Raises StorageError, SchemaVersionError.
        """
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise
        return self

    def _prepare(self) -> None:
        from xmr_storage.schema import FORMAT_VERSION, LATER

        tables = self.db.tables()
        if "meta" in tables:
            found = migrations.format_of(self.db)
            if self.read_only:
                self._orphans = orphans.find(self.db)
                return
            if found < FORMAT_VERSION:
                migrations.migrate(self.db)
            elif LATER - set(tables):  # made before these tables were thought of
                migrations.make_tables(self.db)
            if not revisions.read(self.db):
                migrations.start_counting(self.db)
            orphans.delete(self.db)
            return
        if tables:
            raise StorageError(f"{self.url}: its schema xmr holds other tables; no library can be made in it")
        if self.read_only:
            raise StorageError(f"{self.url} holds no library; open it for writing to make one")
        with self.db.transaction(counted=False):
            migrations.make_tables(self.db)
            migrations.record(self.db, FORMAT_VERSION)
            migrations.set_format(self.db, FORMAT_VERSION)
            migrations.start_counting(self.db)
            metadata.make_catalog(self.db)
            self.republish()

    def republish(self) -> None:
        """Let the names of all spaces mean their published versions again, after the tables were replaced."""
        with self.transaction():
            tables = self.db.tables("code_")
            for space in records(self.db):
                if space.published and table_name(space.name, space.version) in tables:  # `doctor` tells of the others
                    self.publish(space.name, space.version)

    def close(self) -> None:
        self.db.close()

    @property
    def url(self) -> str:
        return self.db.url

    @property
    def read_only(self) -> bool:
        return self.db.read_only

    def transaction(self) -> AbstractContextManager[None]:
        return self.db.transaction()

    def revision(self) -> int:
        changing = self.db.changing
        if changing is None or not changing.notes:
            return self.db.revision() + bool(self._orphans)  # what was saved of the revision itself still has them
        return changing.seen

    def changes(self, name: str, version: int, modality: str, since: int) -> Changes | None:
        news = self._since(since)
        return None if news is None else news.of(name, version, modality)

    def links_changed(self, since: int) -> bool:
        news = self._since(since)
        return news is None or news.links

    def _since(self, since: int) -> history.News | None:
        """What happened since a revision, read once for all spaces. Inside a transaction it is not written yet."""
        changing, revision = self.db.changing, self.revision()
        if self._orphans or (changing is not None and changing.notes):
            return None
        if (since, revision) != self._asked:
            self._news = history.news(self.db, since)
            self._asked = since, revision
        return self._news

    def has_split(self, split: str) -> bool:
        query = "SELECT 1 FROM xmr.metadata WHERE CAST(split AS VARCHAR) = $1 LIMIT 1"
        return "split" in self.metadata_columns() and bool(self.db.rows(query, [split]))

    def execute(self, query: str, parameters: Sequence[Any] | None = None) -> Any:
        """Run a statement; StorageError with the database's words where it fails."""
        return self.db.execute(query, parameters)

    def rows(self, query: str, parameters: Sequence[Any] | None = None) -> list[Any]:
        """All rows of a query."""
        return self.db.rows(query, parameters)

    def columns(self, table: str) -> dict[str, str]:
        """The columns of a table of the library and their types."""
        return self.db.columns(table)

    def export(self, folder: Path) -> None:
        """Write a Parquet file a table; any `SqlStore` can restore them."""
        transfer.export(self.db, folder, self.folder, self._derived_tables())

    def _derived_tables(self) -> list[str]:
        """The tables that the database makes again from others, for a database to say."""
        return []

    def restore(self, folder: Path) -> None:
        if self.counts().keys() - {"pairs", "labels"} or self.spaces() or self.spaces("answerer"):
            raise StorageError(f"{self.url}: not empty; restore into a new file")
        with self.transaction():
            transfer.restore(self.db, folder)
            if not revisions.resume(self.db, self.db.noted):  # exported before there were counters
                count_ids(self.db)
            metadata.make_catalog(self.db)
            self.republish()

    def doctor(self) -> Iterator[Finding]:
        for finding in self._findings():
            yield Finding(finding, partial(self._mend, finding.mend)) if finding.mend else finding

    def _findings(self) -> Iterator[Finding]:
        """What is wrong, for a database to extend."""
        return checks.doctor(self)

    def _mend(self, mend: Callable[[], object]) -> None:
        with self.transaction():
            self.db.noted.unknown()  # codes, links and names may all be others now
            mend()
