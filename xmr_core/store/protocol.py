"""What a library needs of a database. `xmr_storage` implements it on DuckDB; a plugin may bring another.

Rows are plain values. Everything between `with store.transaction()` happens whole or not at all. What a store can do
beyond searching is declared by its class variables; methods for what it does not declare raise StorageError.
`xmr_core.testing.conformance("store", ...)` tries all of it. For a SQL database, `xmr_storage.store.SqlStore` has all
but the connection.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from xmr_core.components import Provider
from xmr_core.errors import Finding, StorageError
from xmr_core.search.condition import Condition, Where
from xmr_core.search.live import Live
from xmr_core.store.records import AttentionRows, Changes, ItemRows, RunRecord, SpaceRecord
from xmr_core.types import Codes, Head, Items, Pairs

__all__ = ["Store"]


class Store(ABC):
    """A database that holds a library. Raises StorageError and its kin, never the database's own errors."""

    name: ClassVar[str]
    schemes: ClassVar[tuple[str, ...]]  # of the URLs it opens; "" is a plain path

    # what it can do, if asked
    runs_sql: ClassVar[bool] = False  # `sql` runs the user's statements
    has_macros: ClassVar[bool] = False  # a published space can be searched in SQL, where its indexer says how
    has_live_functions: ClassVar[bool] = False  # `live` gives a connection xmr.search and xmr.encode_text
    exports: ClassVar[bool] = False  # `export` and `restore`
    compacts: ClassVar[bool] = False  # `compact`
    keeps_attention: ClassVar[bool] = True  # `put_attention`
    keeps_answerers: ClassVar[bool] = True  # spaces that answer questions
    replaces: ClassVar[bool] = False  # `replace_items`, `replace_vectors`, `drop_links`
    keeps_sources: ClassVar[bool] = False  # `put_source` and what asks for it
    many_writers: ClassVar[bool] = False  # several processes may write at once

    @classmethod
    @abstractmethod
    def open(cls, url: str, read_only: bool = False) -> Store:
        """The store at `url`, made where it is not there. Raises StorageError, SchemaVersionError, LockedError."""

    @classmethod
    def read_table(cls, files: Sequence[Path]) -> Any:
        """The rows of files (CSV, Parquet, JSON, ...) of one kind as an Arrow table. Raises DataError naming the file.

        A store whose database has readers offers them here, whether or not a library is open.
        """
        raise StorageError(f"the store {cls.name!r} does not read tables")

    @classmethod
    def trial_url(cls, folder: Path) -> str:
        """The URL of a new database in an empty folder, for the contract suite; a store on a server makes its own."""
        return f"{cls.schemes[-1]}:///{folder.absolute() / 'trial'}.{cls.name}"

    @abstractmethod
    def close(self) -> None:
        """Let go of the database."""

    @property
    @abstractmethod
    def url(self) -> str:
        """What it was opened with."""

    @property
    @abstractmethod
    def read_only(self) -> bool:
        """True where nothing can be written."""

    @property
    @abstractmethod
    def folder(self) -> Path | None:
        """Where caches may lie, beside the database; None where there is no such place."""

    @property
    def size(self) -> int:
        """Bytes that the database takes; 0 where the store cannot tell."""
        return 0

    @property
    def cache_size(self) -> int:
        """Bytes of the caches in `folder`."""
        if self.folder is None or not self.folder.exists():
            return 0
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """Everything inside happens whole or not at all; may be nested, the outermost counts."""

    def revision(self) -> int:
        """A number that grows with every committed change of what a search may find; the same for all handles.

        Cheap enough to be compared at each search. It also names the history that led there: a copy of the database
        that is changed in another way has other revisions. Inside a transaction, its handle sees a number of its own,
        which is no revision of the database before it is committed. Raises StorageError where the handle cannot be
        used: it is closed, or was opened in a process that this one was forked from. A store that does not count gives
        another number each time: what was loaded is then never trusted.
        """
        return time.monotonic_ns()

    def changes(self, name: str, version: int, modality: str, since: int) -> Changes | None:
        """What became of the codes of a modality since the revision `since`; the name "" stands for the whole library.

        None where that is not known, and all must be loaded again: `since` is too old, is none of this history, or what
        happened has not been written down.
        """
        return Changes(np.empty(0, np.int64), np.empty(0, np.int64)) if since == self.revision() else None

    def mark(self, where: Condition) -> Hashable | None:
        """A value that differs once other items may match a condition, whoever changed them; compared at each search.

        None where that cannot be told, as of a condition on the present time: the ids are then asked for each time.
        """
        return None

    def links_changed(self, since: int) -> bool:
        """False where it is known that links are what they were at the revision `since`."""
        return since != self.revision()

    # items, links, labels

    @abstractmethod
    def match(self, modality: str, keys: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
        """(n,) ids of the items with these keys, -1 where new, and (n,) their content hashes (None where new)."""

    @abstractmethod
    def next_id(self) -> int:
        """The smallest id above all in use."""

    @abstractmethod
    def put_items(self, rows: ItemRows, metadata: Mapping[str, Sequence[Any]]) -> None:
        """Insert items and their metadata; a column of metadata that is new is added to `xmr.metadata`."""

    def replace_items(self, rows: ItemRows) -> None:
        """Give stored items, by id, the content of these rows; keys, metadata, links and labels stay.

        Where the hash of the content is another, all that was made of the old goes with it: features, named vectors,
        attention, and the codes in every version of every space. Raises DataError where an id does not exist.
        """
        raise self._lacks("replacing items")

    def typed_metadata(self, metadata: Mapping[str, Sequence[Any]]) -> Mapping[str, Any]:
        """The columns in the types in which they will be kept, so that a long column has one type in all its blocks.

        What is given back has `take(rows)`, or is a list. Raises DataError on what no column can hold.
        """
        return metadata

    @abstractmethod
    def update_metadata(self, ids: NDArray[np.int64], metadata: Mapping[str, Sequence[Any]]) -> NDArray[np.int64]:
        """Set these columns of stored items, where a value is not missing; the ids of the items that changed."""

    def put_vectors(self, modality: str, name: str, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Keep ready-made vectors (n, d) of items that have none of this name.

        Raises DataError where those of the same name and modality have another width.
        """
        raise self._lacks("named vectors")

    def replace_vectors(self, modality: str, name: str, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Keep ready-made vectors (n, d) in the place of those before; the items' codes and attention go.

        Raises DataError where those of the same name and modality have another width.
        """
        raise self._lacks("replacing vectors")

    def get_vectors(
        self, modality: str, name: str, ids: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """(n,) which items have the vector, and (m, d) the vectors of those, in the order of `ids`."""
        return np.zeros(len(ids), bool), np.zeros((0, 0), np.float32)

    def vector_widths(self, modality: str) -> Mapping[str, int]:
        """The names of the vectors that items of a modality have, and their dimensions."""
        return {}

    @abstractmethod
    def put_links(self, image_ids: NDArray[np.int64], text_ids: NDArray[np.int64]) -> None:
        """Insert the links (p,) that are not there yet."""

    def drop_links(self, image_ids: NDArray[np.int64], text_ids: NDArray[np.int64]) -> None:
        """Delete these links (p,), where they are there."""
        raise self._lacks("dropping links")

    @abstractmethod
    def put_labels(self, ids: NDArray[np.int64], labels: NDArray[np.uint8], names: Sequence[str]) -> None:
        """Set the labels (n, l) of items; zeros are not stored."""

    @abstractmethod
    def ids(
        self, modality: str | None = None, where: Where | None = None, coded: tuple[str, int] | None = None
    ) -> NDArray[np.int64]:
        """Ascending ids of the items that match `where`, a condition on `xmr.catalog` (items and metadata).

        `coded` chooses among what has a code in a version of a space, items or not. Raises DataError where `where` is
        not one condition, or reads more than the database.
        """

    def passing(self, modality: str, where: Condition, coded: tuple[str, int] | None = None) -> NDArray[np.int64]:
        """As `ids`, to filter codes of that modality by: ids that have no such code may be among them, in any order,
        where a store finds them sooner so. Raises DataError."""
        return self.ids(modality, where, coded)

    @abstractmethod
    def items(self, ids: NDArray[np.int64], modality: str) -> Items:
        """Items by ids, in their order, with keys and data, `stored`; labels and metadata are left out."""

    @abstractmethod
    def pairs(self, where: Where | None = None) -> Pairs:
        """The items that match `where`, the links between them, and their labels."""

    @abstractmethod
    def links(self) -> NDArray[np.int64]:
        """(p, 2) int64: ids of the picture and the sentence of every pair, ascending."""

    @abstractmethod
    def labels(self, ids: NDArray[np.int64], names: Sequence[str] | None = None) -> NDArray[np.uint8]:
        """(n, l) uint8: which labels items have; the columns are `names`, or all labels in alphabetical order."""

    def has_split(self, split: str) -> bool:
        """True where items have this value in a column `split`; one of numbers has none."""
        if "split" not in self.metadata_columns():
            return False
        return split in self.describe(self.ids())["split"]

    @abstractmethod
    def metadata_columns(self) -> list[str]:
        """The names of the user's own columns."""

    @abstractmethod
    def describe(self, ids: NDArray[np.int64]) -> Mapping[str, Sequence[Any]]:
        """Columns of `xmr.catalog` for these ids, in their order: item_id, modality, key, source, text, metadata."""

    @abstractmethod
    def counts(self) -> Mapping[str, int]:
        """How many items of each modality, links, labels."""

    @abstractmethod
    def delete(self, ids: NDArray[np.int64]) -> int:
        """Delete items with their links, labels, features and codes; how many items there were."""

    # where items came from: a source is a name, and a stamp tells a file from what it is later

    def put_source(self, source: str, ids: NDArray[np.int64], stamps: Sequence[str]) -> None:
        """Remember that these items (n,) came from a source, and no others."""
        raise self._lacks("sources of items")

    def get_source(self, source: str) -> tuple[NDArray[np.int64], Sequence[str]]:
        """(n,) ascending ids of the items that came from a source and are still there, and their stamps."""
        return np.empty(0, np.int64), []

    def sourced_elsewhere(self, source: str, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Ascending, those of the ids that came from another source."""
        return np.empty(0, np.int64)

    # features

    @abstractmethod
    def get_features(self, extractor: str, ids: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """(n,) which ids have features of this extractor, and (m, d) the features of those, in the order of `ids`."""

    @abstractmethod
    def put_features(self, extractor: str, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Keep features (n, d) of items that have none of this extractor."""

    # spaces and codes; `role` tells a space that searches from one of the same name that answers

    @abstractmethod
    def spaces(self, role: Head = "indexer") -> list[SpaceRecord]:
        """All spaces of a role and their versions, without their parts, by name and version."""

    def uncounted(self, role: Head = "indexer") -> list[SpaceRecord]:
        """As `spaces`, for whoever does not read `counts`: a store need not count the codes."""
        return self.spaces(role)

    @abstractmethod
    def load_space(self, name: str, version: int | None = None, role: Head = "indexer") -> SpaceRecord:
        """A space with its parts; the published version unless one is named. Raises StorageError where none is."""

    def providers(self, name: str, version: int) -> Sequence[Provider]:
        """Who brought the components of a space, by position; an answerer's version is 0. None where nobody knows."""
        return ()

    @abstractmethod
    def put_space(self, space: SpaceRecord) -> None:
        """Write a new version of a space, with its parts and an empty table of codes.

        A space that answers has no codes, and replaces the one of its name.
        """

    def put_training(self, name: str, version: int, ids: NDArray[np.int64]) -> None:  # noqa: B027 (optional)
        """Remember the items (n,) that a new version of a space was fitted on. A store may do without."""

    def training_ids(self, name: str, version: int) -> NDArray[np.int64] | None:
        """(n,) ascending ids of the items that a version was fitted on; None where the store does not know."""
        return None

    @abstractmethod
    def publish(self, name: str, version: int) -> None:
        """Let the name mean this version, in SQL too, at once."""

    def materialize(self, name: str, drop: bool = False) -> None:
        """Keep what the codes of a space stand for as a table, in step with them, so that SQL need not decode them in
        every query; or `drop` it. Also of versions that are published later, and of the library that is restored.

        Raises StorageError where the space does not exist, DataError where its codes are not decoded.
        """
        raise self._lacks("tables of decoded codes")

    @abstractmethod
    def drop_space(self, name: str, version: int | None = None, role: Head = "indexer") -> None:
        """Drop a version of a space and its codes, or all versions."""

    @abstractmethod
    def put_codes(self, name: str, version: int, modality: str, codes: Codes) -> None:
        """Insert codes of items that have none in this version."""

    @abstractmethod
    def get_codes(self, name: str, version: int, modality: str, ids: NDArray[np.int64] | None = None) -> Codes:
        """All codes of a modality, or those of `ids` that have one; ascending by id."""

    def coded_ids(self, name: str, version: int, modality: str) -> NDArray[np.int64]:
        """The ids of `get_codes`, without the codes where the store can read them alone."""
        return self.get_codes(name, version, modality).ids

    def put_attention(self, name: str, version: int, rows: AttentionRows) -> None:
        """Keep the attention of items in this version, in the place of what was kept of them before."""
        raise self._lacks("attention")

    # runs, SQL, whole files

    @abstractmethod
    def put_run(self, record: RunRecord) -> None:
        """Keep figures of a fit or an evaluation."""

    @abstractmethod
    def latest_runs(self, limit: int) -> list[RunRecord]:
        """The latest runs, the last first: of each thing that a run logged the figures of its last step."""

    def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> Any:
        """The database's own result of a query; None if there are no rows to have.

        It has the `description`, `fetchmany` and `fetchall` of a DB-API cursor. Raises StorageError with the
        database's words.
        """
        raise self._lacks("SQL statements")

    def live(self, connection: Any, live: Live) -> None:
        """Give a connection the functions `xmr.search`, `xmr.encode_text` and their like; None means the store's own.

        They call `live` until the store or the connection is closed.
        """
        raise self._lacks("live functions")

    @classmethod
    def url_of(cls, connection: Any) -> str | None:
        """The URL of the database that a connection of the user's is open on; None where it is not of this kind."""
        return None

    def export(self, folder: Path) -> None:
        """Write everything into `folder`, which must be empty or new; `restore` reads it back bit for bit."""
        raise self._lacks("export")

    def restore(self, folder: Path) -> None:
        """Read what `export` wrote into this store, which must be empty."""
        raise self._lacks("restore")

    def compact(self) -> tuple[int, int]:
        """Reclaim disk space from deleted rows; bytes before and after."""
        raise self._lacks("compaction")

    @abstractmethod
    def doctor(self) -> Iterator[Finding]:
        """What is inconsistent in the database, without changing it; what only the library can see is not included."""

    def _lacks(self, what: str) -> StorageError:
        return StorageError(f"{self.url}: the store {self.name!r} does not support {what}")
