"""A library in a DuckDB file. Bulk rows go through Arrow; every value is bound, every identifier checked and quoted."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import DataError, LockedError, SchemaVersionError, StateError, StorageError
from xmr_core.store import (
    AnswererRecord,
    AttentionRows,
    ItemRows,
    LiveEncode,
    LiveSearch,
    PartRecord,
    RunRecord,
    SpaceRecord,
    Store,
)
from xmr_core.types import IMAGE, TEXT, Codes, Items, Layout, Pairs
from xmr_storage.duckdb import codes as code_tables

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

__all__ = ["DuckDBStore"]

STORAGE_VERSION = "v1.2.0"  # of new files: what DuckDB 2 writes by default, DuckDB 1 cannot open
RESERVED = ("item_id", "modality", "key", "content", "source", "text", "data")
PRECOMPUTED = "precomputed"  # the extractor of vectors that were given ready-made
ANSWERER = 0  # the version of an answerer's parts; those of spaces count from 1
HOLDS = {("DOUBLE", "BIGINT"), ("TIMESTAMP", "DATE")}  # (a, b): column type a takes values of b as they are


class DuckDBStore(Store):
    """A library in the schema `xmr` of a DuckDB file. One process writes a file, or any number read it."""

    name: ClassVar[str] = "duckdb"
    schemes: ClassVar[tuple[str, ...]] = ("", "duckdb")

    def __init__(self, path: str, read_only: bool) -> None:
        """Use `open`."""
        self._path, self._read_only = path, read_only
        self._lock = threading.RLock()
        self._depth = 0
        self._con = _connect(path, read_only)
        self._cursor: duckdb.DuckDBPyConnection | None = None

    @classmethod
    def open(cls, url: str, read_only: bool = False) -> DuckDBStore:
        """See `Store.open`. `:memory:` keeps nothing."""
        path = url.removeprefix("duckdb://").removeprefix("/") if url.startswith("duckdb:///") else url
        if not path.startswith(":memory:"):  # absolute, so that chdir moves nothing and DuckDB sees a file in any name
            path = os.path.realpath(path)
            if Path(path).name.split(".")[0].lower() == "xmr":
                raise StorageError(
                    f"{path}: choose another name: in a database called xmr, SQL cannot tell `xmr.` from its schema xmr"
                )
        store = cls(path, read_only)
        try:
            store._prepare()
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def read_table(cls, files: Sequence[Path]) -> pa.Table:
        """See `Store.read_table`."""
        from xmr_storage.duckdb.reading import read_table

        return read_table(files)

    def _prepare(self) -> None:
        from xmr_storage import schema

        tables = self.tables()
        if "meta" in tables:
            (version,) = self.rows("SELECT max(value) FROM xmr.meta WHERE key = 'format_version'")[0]
            if version != str(schema.FORMAT_VERSION):
                raise SchemaVersionError(
                    f"{self._path}: the library has format {version or '?'}, this version knows "
                    f"{schema.FORMAT_VERSION}; upgrade xmr to open it"
                )
            if not self._read_only and schema.TABLES.keys() - tables:  # made before these tables were thought of
                self._make_tables(tables)
            return
        if tables:
            raise StorageError(f"{self._path}: its schema xmr holds other tables; no library can be made in it")
        if self._read_only:
            raise StorageError(f"{self._path} holds no library; open it for writing to make one")
        with self.transaction():
            self._make_tables()
            self._con.execute("INSERT INTO xmr.meta VALUES ('format_version', $1)", [str(schema.FORMAT_VERSION)])
            self.make_catalog()
            self.make_macros()

    def _make_tables(self, present: Collection[str] = ()) -> None:
        from xmr_storage import schema

        with self.transaction():
            for statement in schema.ddl(present):
                self.execute(statement)

    def make_catalog(self) -> None:
        """Make the view `xmr.catalog` anew: items with all columns that metadata has now."""
        self._con.execute(
            """
            CREATE OR REPLACE VIEW xmr.catalog AS
            SELECT i.item_id, i.modality, i.key, i.source, i.text, m.* EXCLUDE (item_id)
            FROM xmr.items AS i LEFT JOIN xmr.metadata AS m ON m.item_id = i.item_id
            """
        )

    def make_macros(self) -> None:
        """Make the macros anew, those of all and those of each published space."""
        from xmr_storage.duckdb import macros

        with self.transaction():
            for statement in macros.shared_statements():
                self.execute(statement)
            for space in self._records():
                if space.published:
                    self.publish(space.name, space.version)

    def close(self) -> None:
        """See `Store.close`."""
        if self._cursor is not None:
            self._cursor.close()
            self._cursor = None
        self._con.close()

    @property
    def url(self) -> str:
        """See `Store.url`."""
        return self._path

    @property
    def read_only(self) -> bool:
        """See `Store.read_only`."""
        return self._read_only

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB connection itself, for what SQL alone cannot say."""
        return self._con

    @property
    def folder(self) -> Path | None:
        """`<file>.xmr` beside the database file."""
        return None if self._path.startswith(":memory:") else Path(f"{self._path}.xmr")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """See `Store.transaction`."""
        with self._lock:
            if not self._depth:
                self.require_writable()
                self.execute("BEGIN")
            self._depth += 1
            try:
                yield
            except BaseException:
                self._depth -= 1
                if not self._depth:
                    with contextlib.suppress(Exception):  # the first error is the one to hear of
                        self._con.execute("ROLLBACK")
                raise
            self._depth -= 1
            if not self._depth:
                self.execute("COMMIT")

    def require_writable(self) -> None:
        """Raise StorageError where the file is open for reading only."""
        if self._read_only:
            raise StorageError(f"{self._path} is open for reading only")

    # statements

    def execute(self, query: str, parameters: Any = None) -> duckdb.DuckDBPyConnection:
        """Run a statement; StorageError with DuckDB's words where it fails."""
        with self._lock, self._told():
            return self._con.execute(query, parameters)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """DuckDB's errors as StorageError, and its word for Ctrl-C as what it is."""
        import duckdb

        try:
            yield
        except duckdb.Error as error:
            raise StorageError(f"{self._path}: {_first_line(error)}") from error
        except UnicodeEncodeError as error:
            raise DataError(f"a text is no valid Unicode: {error}") from error
        except RuntimeError as error:
            if str(error) == "Query interrupted":
                raise KeyboardInterrupt from error
            raise

    def rows(self, query: str, parameters: Any = None) -> list[Any]:
        """All rows of a query."""
        with self._lock:
            return self.execute(query, parameters).fetchall()

    def arrow(self, query: str, parameters: Any = None) -> pa.Table:
        with self._lock:
            return _arrow_of(self.execute(query, parameters))

    @contextlib.contextmanager
    def given(self, **tables: pa.Table) -> Iterator[None]:
        """Arrow tables under these names, for one statement."""
        with self._lock:
            try:
                for name, table in tables.items():
                    with self._told():
                        self._con.register(name, table)
                yield
            finally:
                for name in tables:
                    with contextlib.suppress(Exception):  # closed meanwhile
                        self._con.unregister(name)

    def insert(self, target: str, table: pa.Table) -> None:
        with self.given(_given_rows=table):
            self.execute(f"INSERT INTO xmr.{target} BY NAME SELECT * FROM _given_rows")

    # items, links, labels

    def match(self, modality: str, keys: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
        """See `Store.match`."""
        import pyarrow as pa

        with self.given(_wanted=pa.table({"place": np.arange(len(keys)), "key": pa.array(keys, pa.string())})):
            found = self.arrow(
                """
                SELECT w.place, i.item_id, i.content
                FROM _wanted AS w JOIN xmr.items AS i ON i.key = w.key AND i.modality = $1
                """,
                [modality],
            )
        ids, contents = np.full(len(keys), -1, np.int64), np.full(len(keys), None, object)
        places = found["place"].to_numpy()
        ids[places] = found["item_id"].to_numpy()
        contents[places] = found["content"].to_numpy()
        return ids, contents

    def next_id(self) -> int:
        """See `Store.next_id`."""
        tables = ["items", *self._code_tables()]
        counts = " UNION ALL ".join(f"SELECT max(item_id) AS top FROM xmr.{table}" for table in tables)
        mark = "SELECT value::BIGINT - 1 FROM xmr.meta WHERE key = 'next_id'"
        ((top,),) = self.rows(f"SELECT coalesce(max(top) + 1, 0) FROM ({counts} UNION ALL {mark})")
        return int(top)

    def _mark_ids(self) -> None:
        """Remember how far ids went: one that is deleted is never given again, tables of the user's may name it."""
        top = self.next_id()
        self.execute("DELETE FROM xmr.meta WHERE key = 'next_id'")
        self.execute("INSERT INTO xmr.meta VALUES ('next_id', $1)", [str(top)])

    def put_items(self, rows: ItemRows, metadata: Mapping[str, Sequence[Any]]) -> None:
        """See `Store.put_items`."""
        import pyarrow as pa

        table = pa.table(
            {
                "item_id": rows.ids,
                "modality": pa.array([rows.modality]).take(pa.array(np.zeros(len(rows.ids), np.int8))),
                "key": pa.array(rows.keys, pa.string()),
                "content": pa.array(rows.content, pa.string()),
                "source": pa.array(rows.source, pa.string()),
                "text": pa.array(rows.text, pa.string()),
                "data": pa.array(rows.blob, pa.binary()),
            }
        )
        with self.transaction():
            self.insert("items", table)
            if metadata:
                columns = {name: _column(name, values) for name, values in metadata.items()}
                self._fit_columns(columns)
                self.insert("metadata", pa.table({"item_id": rows.ids, **columns}))

    def _fit_columns(self, columns: Mapping[str, pa.Array]) -> None:
        """Add the columns of metadata that are new, and widen those that could not hold the values as they are."""
        from xmr_storage.quoting import quoted

        _check_columns(list(columns))
        known = {name.lower(): kind for name, kind in self.columns("metadata").items()}
        changed = False
        for name, column in columns.items():
            old, new = known.get(name.lower()), _sql_type(column)
            if old is None:
                self.execute(f"ALTER TABLE xmr.metadata ADD COLUMN {quoted(name)} {new or 'VARCHAR'}")
            elif new in (None, old) or (old, new) in HOLDS:
                continue
            elif (new, old) in HOLDS or not self.rows(
                f"SELECT 1 FROM xmr.metadata WHERE {quoted(name)} IS NOT NULL LIMIT 1"
            ):
                self.execute(f"ALTER TABLE xmr.metadata ALTER COLUMN {quoted(name)} TYPE {new}")
            else:
                raise DataError(f"metadata {name!r}: the column holds {old}, these values are {new}; give one type")
            changed = True
        if changed:
            self.make_catalog()

    def metadata_columns(self) -> list[str]:
        """The names of the user's own columns."""
        return [name for name in self.columns("metadata") if name != "item_id"]

    def put_links(self, image_ids: NDArray[np.int64], text_ids: NDArray[np.int64]) -> None:
        """See `Store.put_links`."""
        import pyarrow as pa

        with self.transaction(), self.given(_links=pa.table({"image_id": image_ids, "text_id": text_ids})):
            self.execute(
                """
                INSERT INTO xmr.pairs
                SELECT image_id, text_id FROM _links
                EXCEPT
                SELECT image_id, text_id FROM xmr.pairs
                ORDER BY image_id, text_id
                """
            )

    def put_labels(self, ids: NDArray[np.int64], labels: NDArray[np.uint8], names: Sequence[str]) -> None:
        """See `Store.put_labels`."""
        import pyarrow as pa

        rows, columns = np.nonzero(labels)
        table = pa.table({"item_id": ids[rows], "label": pa.array(names, pa.string()).take(pa.array(columns))})
        with self.transaction():
            with self.given(_relabelled=pa.table({"item_id": ids})):
                self.execute("DELETE FROM xmr.labels WHERE item_id IN (SELECT item_id FROM _relabelled)")
            self.insert("labels", table)

    def ids(self, modality: str | None = None, where: str | None = None) -> NDArray[np.int64]:
        """See `Store.ids`."""
        if where is not None and (not isinstance(where, str) or where != where.encode("utf-8", "replace").decode()):
            raise DataError(f"where={where!r}: expected a SQL condition")
        if where is None:
            query = "SELECT item_id FROM xmr.items WHERE $1 IS NULL OR modality = $1 ORDER BY item_id"
            return _ids(self.arrow(query, [modality]))
        import duckdb

        query = (
            f"SELECT item_id FROM xmr.catalog WHERE ($1 IS NULL OR modality = $1) AND (\n{where}\n) ORDER BY item_id"
        )
        with self._lock:
            try:
                statements = self._con.extract_statements(query)
                if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                    raise DataError(f"where={where!r}: expected one condition")
                return _ids(_arrow_of(self._con.execute(query, [modality])))
            except duckdb.ConnectionException as error:
                raise StorageError(f"{self._path}: {_first_line(error)}") from error
            except duckdb.Error as error:
                columns = ", ".join(["item_id", "modality", "key", "source", "text", *self.metadata_columns()])
                raise DataError(f"where={where!r}: {_first_line(error)} (columns: {columns})") from error

    def items(self, ids: NDArray[np.int64], modality: str) -> Items:
        """See `Store.items`. Rows whose vectors were given ready-made have those for data."""
        import pyarrow as pa

        with self.given(_wanted=pa.table({"place": np.arange(len(ids)), "item_id": ids})):
            rows = self.rows(
                """
                SELECT i.key, i.text, i.source, i.data
                FROM _wanted AS w JOIN xmr.items AS i USING (item_id)
                ORDER BY w.place
                """
            )
        if len(rows) != len(ids):
            raise DataError(f"{len(ids) - len(rows)} of {len(ids)} ids name no item")
        data: list[Any] = [
            text if text is not None else blob if blob is not None else source for _, text, source, blob in rows
        ]
        bare = [place for place, entry in enumerate(data) if entry is None]
        if bare:
            found, vectors = self.get_features(PRECOMPUTED, ids[bare])
            for place, vector in zip(np.array(bare)[found], vectors, strict=True):
                data[place] = vector
        return Items(modality, data, [row[0] for row in rows], ids, stored=True)

    def pairs(self, where: str | None = None) -> Pairs:
        """See `Store.pairs`."""
        images, texts = (self.items(self.ids(modality, where), modality) for modality in (IMAGE, TEXT))
        links = self.links()
        links = links[np.isin(links[:, 0], images.ids) & np.isin(links[:, 1], texts.ids)]
        places = [np.searchsorted(side.ids, links[:, column]) for column, side in enumerate((images, texts))]
        names = [name for (name,) in self.rows("SELECT DISTINCT label FROM xmr.labels ORDER BY label")]
        images, texts = (self._labelled(side, names) for side in (images, texts))
        return Pairs(images, texts, np.stack(places, axis=1), names, name=where or "all items")

    def links(self) -> NDArray[np.int64]:
        """See `Store.links`."""
        table = self.arrow("SELECT image_id, text_id FROM xmr.pairs ORDER BY image_id, text_id")
        return np.stack([_ids(table, "image_id"), _ids(table, "text_id")], axis=1)

    def _labelled(self, items: Items, names: Sequence[str]) -> Items:
        if not names:
            return items
        return Items(
            items.modality, items.data, items.keys, items.ids, labels=self.labels(items.ids, names), stored=True
        )

    def labels(self, ids: NDArray[np.int64], names: Sequence[str] | None = None) -> NDArray[np.uint8]:
        """See `Store.labels`."""
        if names is None:
            names = [name for (name,) in self.rows("SELECT DISTINCT label FROM xmr.labels ORDER BY label")]
        import pyarrow as pa

        given = {
            "_wanted": pa.table({"place": np.arange(len(ids)), "item_id": ids}),
            "_names": pa.table({"position": np.arange(len(names)), "label": pa.array(names, pa.string())}),
        }
        with self.given(**given):
            found = self.arrow(
                """
                SELECT w.place, n.position
                FROM xmr.labels JOIN _wanted AS w USING (item_id) JOIN _names AS n USING (label)
                """
            )
        labels = np.zeros((len(ids), len(names)), np.uint8)
        labels[found["place"].to_numpy(), found["position"].to_numpy()] = 1
        return labels

    def describe(self, ids: NDArray[np.int64]) -> Mapping[str, Sequence[Any]]:
        """See `Store.describe`."""
        import pyarrow as pa

        with self.given(_wanted=pa.table({"place": np.arange(len(ids)), "item_id": ids})):
            table = self.arrow(
                """
                SELECT w.item_id, c.* EXCLUDE (item_id)
                FROM _wanted AS w LEFT JOIN xmr.catalog AS c ON c.item_id = w.item_id
                ORDER BY w.place
                """
            )
        return {name: table[name].to_pylist() for name in table.column_names}

    def counts(self) -> Mapping[str, int]:
        """See `Store.counts`."""
        rows = self.rows("SELECT modality, count(*) FROM xmr.items GROUP BY modality ORDER BY modality")
        ((links,),) = self.rows("SELECT count(*) FROM xmr.pairs")
        ((labels,),) = self.rows("SELECT count(DISTINCT label) FROM xmr.labels")
        return {**{modality: int(count) for modality, count in rows}, "pairs": int(links), "labels": int(labels)}

    def delete(self, ids: NDArray[np.int64]) -> int:
        """See `Store.delete`."""
        import pyarrow as pa

        features = [table for table in self.tables("feature_") if self._vector_dim(table)]
        with self.transaction(), self.given(_doomed=pa.table({"item_id": np.unique(ids)})):
            self._mark_ids()
            ((count,),) = self.rows("SELECT count(*) FROM xmr.items WHERE item_id IN (SELECT item_id FROM _doomed)")
            for table in ("items", "metadata", "labels", "attention", *self._code_tables(), *features):
                self.execute(f"DELETE FROM xmr.{table} WHERE item_id IN (SELECT item_id FROM _doomed)")
            for column in ("image_id", "text_id"):
                self.execute(f"DELETE FROM xmr.pairs WHERE {column} IN (SELECT item_id FROM _doomed)")
        return int(count)

    def tables(self, *prefixes: str) -> list[str]:
        """The tables of the library whose names begin so; all without a prefix."""
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
        """The columns of a table of the library and their SQL types, in order."""
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

    def replace_file(self, fresh: Path) -> None:
        """Put another file in the place of this one's, and go on with it.

        Raises LockedError where another connection of this process is open: it, and we with it, would go on writing
        into the file that is gone.
        """
        self.require_writable()
        with self._lock:
            self.close()
            try:
                _require_alone(self._path)
                fresh.replace(self._path)
            finally:
                self._con = _connect(self._path, self._read_only)

    # features

    def get_features(self, extractor: str, ids: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """See `Store.get_features`."""
        import pyarrow as pa

        from xmr_storage.arrow import vectors_of_column

        table = _feature_name(extractor)
        dim = self._vector_dim(table)
        have = np.zeros(len(ids), bool)
        if not dim:
            return have, np.zeros((0, 0), np.float32)
        with self.given(_wanted=pa.table({"place": np.arange(len(ids)), "item_id": ids})):
            found = self.arrow(
                f"SELECT w.place, f.vector FROM _wanted AS w JOIN xmr.{table} AS f USING (item_id) ORDER BY w.place"
            )
        have[found["place"].to_numpy()] = True
        return have, vectors_of_column(found["vector"], dim)

    def put_features(self, extractor: str, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """See `Store.put_features`."""
        import pyarrow as pa

        from xmr_storage.arrow import vector_column

        table, dim = _feature_name(extractor), vectors.shape[1]
        with self.transaction():
            stored = self._vector_dim(table)
            if stored not in (0, dim):
                raise DataError(f"features of {extractor}: expected {stored} dimensions, got {dim}")
            self.execute(f"CREATE TABLE IF NOT EXISTS xmr.{table} (item_id BIGINT NOT NULL, vector FLOAT[{dim:d}])")
            self.insert(table, pa.table({"item_id": ids, "vector": vector_column(vectors)}))

    def _vector_dim(self, table: str) -> int:
        kind = self.columns(table).get("vector", "")
        found = re.fullmatch(r"FLOAT\[(\d+)\]", kind)
        return int(found[1]) if found else 0

    # spaces and codes

    def spaces(self) -> list[SpaceRecord]:
        """See `Store.spaces`."""
        tables = set(self._code_tables())
        return [self._counted(space, tables) for space in self._records()]

    def _records(self) -> list[SpaceRecord]:
        """All spaces and versions, their codes not counted."""
        columns = "space, version, recipe, fingerprint, metric, layout, dim, symbol_bits, seed, created, published"
        rows = self.rows(f"SELECT {columns} FROM xmr.spaces ORDER BY space, version")
        return [
            SpaceRecord(name, version, recipe, fingerprint, metric, Layout(kind, dim, bits), seed, created, published)
            for name, version, recipe, fingerprint, metric, kind, dim, bits, seed, created, published in rows
        ]

    def _counted(self, space: SpaceRecord, tables: Collection[str]) -> SpaceRecord:
        table = code_tables.table_name(space.name, space.version)
        if table not in tables:  # `doctor` tells, `drop_space` cures
            return space
        rows = self.rows(f"SELECT modality, count(*) FROM xmr.{table} GROUP BY modality ORDER BY modality")
        return dataclasses.replace(space, counts={modality: int(count) for modality, count in rows})

    def _code_tables(self) -> list[str]:
        """The tables of codes that are there; a user's own `code_...` is none."""
        tables = set(self.tables("code_"))
        return [name for name in (code_tables.table_name(s.name, s.version) for s in self._records()) if name in tables]

    def _record(self, name: str, version: int | None) -> SpaceRecord:
        """One of `_records`. Raises StorageError where it is not there."""
        records = self._records()
        for space in records:
            if space.name == name and (space.version == version if version is not None else space.published):
                return space
        versions = ", ".join(str(space.version) for space in records if space.name == name)
        if versions:
            wanted = "published version" if version is None else f"version {version}"
            raise StorageError(f"{self._path}: space {name!r} has no {wanted}; there are {versions}")
        offer = ", ".join(sorted({space.name for space in records})) or "none yet: fit one"
        raise StorageError(f"{self._path} has no space {name!r}; there are {offer}")

    def load_space(self, name: str, version: int | None = None) -> SpaceRecord:
        """See `Store.load_space`."""
        space = self._counted(self._record(name, version), self._code_tables())
        return dataclasses.replace(space, parts=self._parts(name, space.version))

    def _parts(self, name: str, version: int) -> list[PartRecord]:
        from xmr_storage.arrow import array_of_blob

        parts = self.rows(
            """
            SELECT position, role, name, options, state_version, fingerprint
            FROM xmr.parts
            WHERE space = $1 AND version = $2
            ORDER BY position
            """,
            [name, version],
        )
        tensors = self.rows(
            "SELECT position, name, dtype, shape, data FROM xmr.tensors WHERE space = $1 AND version = $2",
            [name, version],
        )
        states: dict[int, dict[str, NDArray[Any]]] = {}
        for position, key, dtype, shape, blob in tensors:
            states.setdefault(position, {})[key] = array_of_blob(dtype, shape, blob)
        return [
            PartRecord(role, part, _options(options), states.get(position, {}), state_version, fingerprint)
            for position, role, part, options, state_version, fingerprint in parts
        ]

    def put_space(self, space: SpaceRecord) -> None:
        """See `Store.put_space`."""
        layout = space.layout
        with self.transaction():
            code_tables.make(self, space)
            self.execute(
                "INSERT INTO xmr.spaces VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, false)",
                [
                    space.name,
                    space.version,
                    space.recipe,
                    space.fingerprint,
                    space.metric,
                    layout.kind,
                    layout.dim,
                    layout.symbol_bits,
                    space.seed,
                    _now(),
                ],
            )
            self._put_parts(space.name, space.version, space.parts)

    def _put_parts(self, name: str, version: int, parts: Sequence[PartRecord]) -> None:
        from xmr_storage.arrow import blob_of_array

        for position, part in enumerate(parts):
            place = [name, version, position]
            self.execute(
                "INSERT INTO xmr.parts VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                [*place, part.role, part.name, json.dumps(part.options), part.version, part.fingerprint],
            )
            for key, array in part.state.items():
                self.execute(
                    "INSERT INTO xmr.tensors VALUES ($1, $2, $3, $4, $5, $6, $7)",
                    [*place, key, *blob_of_array(array)],
                )

    def _drop_parts(self, name: str, version: int) -> None:
        for table in ("parts", "tensors"):
            self.execute(f"DELETE FROM xmr.{table} WHERE space = $1 AND version = $2", [name, version])

    def publish(self, name: str, version: int) -> None:
        """See `Store.publish`."""
        space = self._record(name, version)
        with self.transaction():
            self.execute("UPDATE xmr.spaces SET published = (version = $2) WHERE space = $1", [name, space.version])
            code_tables.publish(self, space)

    def drop_space(self, name: str, version: int | None = None) -> None:
        """See `Store.drop_space`."""
        doomed = [s for s in self._records() if s.name == name and version in (None, s.version)]
        if not doomed:
            self._record(name, version)
        with self.transaction():
            self._mark_ids()
            code_tables.drop(self, name, [gone.version for gone in doomed], any(gone.published for gone in doomed))
            for gone in doomed:
                for table in ("spaces", "attention"):
                    self.execute(f"DELETE FROM xmr.{table} WHERE space = $1 AND version = $2", [name, gone.version])
                self._drop_parts(name, gone.version)

    def put_codes(self, name: str, version: int, modality: str, codes: Codes) -> None:
        """See `Store.put_codes`."""
        with self.transaction():
            code_tables.put(self, name, version, modality, codes)

    def get_codes(self, name: str, version: int, modality: str) -> Codes:
        """See `Store.get_codes`."""
        return code_tables.get(self, self._record(name, version), modality)

    def coded_ids(self, name: str, version: int, modality: str) -> NDArray[np.int64]:
        """See `Store.coded_ids`."""
        return code_tables.coded_ids(self, name, version, modality)

    def put_attention(self, name: str, version: int, rows: AttentionRows) -> None:
        """See `Store.put_attention`."""
        import pyarrow as pa

        table = pa.table(
            {
                "item_id": rows.ids,
                "step": rows.steps,
                "position": rows.positions,
                "token": pa.array(rows.tokens, pa.string()),
                "weight": rows.weights,
            }
        )
        with self.transaction(), self.given(_looked=table):
            self.execute(
                """
                DELETE FROM xmr.attention
                WHERE space = $1 AND version = $2 AND item_id IN (SELECT item_id FROM _looked)
                """,
                [name, version],
            )
            self.execute(
                "INSERT INTO xmr.attention BY NAME SELECT *, $1 AS space, $2 AS version FROM _looked", [name, version]
            )

    # answerers

    def answerers(self) -> list[AnswererRecord]:
        """See `Store.answerers`."""
        if "answerers" not in self.tables("answerers"):  # an older file, open for reading only
            return []
        columns = "answerer, recipe, fingerprint, seed, created"
        return [AnswererRecord(*row) for row in self.rows(f"SELECT {columns} FROM xmr.answerers ORDER BY answerer")]

    def load_answerer(self, name: str) -> AnswererRecord:
        """See `Store.load_answerer`."""
        known = {answerer.name: answerer for answerer in self.answerers()}
        if name not in known:
            offer = f"there are {', '.join(known)}" if known else "there are none yet: learn one"
            raise StorageError(f"{self._path} has no answerer {name!r}; {offer}")
        return dataclasses.replace(known[name], parts=self._parts(name, ANSWERER))

    def put_answerer(self, answerer: AnswererRecord) -> None:
        """See `Store.put_answerer`."""
        name = answerer.name
        with self.transaction():
            self._forget_answerer(name)
            self.execute(
                "INSERT INTO xmr.answerers VALUES ($1, $2, $3, $4, $5)",
                [name, answerer.recipe, answerer.fingerprint, answerer.seed, _now()],
            )
            self._put_parts(name, ANSWERER, answerer.parts)

    def drop_answerer(self, name: str) -> None:
        """See `Store.drop_answerer`."""
        self.load_answerer(name)
        with self.transaction():
            self._forget_answerer(name)

    def _forget_answerer(self, name: str) -> None:
        self.execute("DELETE FROM xmr.answerers WHERE answerer = $1", [name])
        self._drop_parts(name, ANSWERER)

    # runs, SQL, whole files

    def put_run(self, record: RunRecord) -> None:
        """See `Store.put_run`."""
        with self.transaction():
            if not self.rows("SELECT 1 FROM xmr.runs WHERE run_id = $1", [record.run]):
                self.execute(
                    "INSERT INTO xmr.runs VALUES ($1, $2, $3, $4, $5)",
                    [record.run, record.space, record.version, json.dumps(record.notes), _now()],
                )
            for name, value in record.figures.items():
                self.execute(
                    "INSERT INTO xmr.metrics VALUES ($1, $2, $3, $4, $5)",
                    [record.run, record.what, record.step, name, float(value)],
                )

    def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> Any:
        """See `Store.sql`; a DuckDB relation, or None where the statement gives no rows.

        It has a cursor of its own, since the live functions use the store's connection while the statement runs.
        """
        import duckdb

        try:
            relation = self._asked().sql(query, params=parameters)
            return relation if relation is None else relation.execute()
        except duckdb.Error as error:
            raise StorageError(f"{self._path}: {error}") from error
        except UnicodeEncodeError as error:
            raise DataError(f"the query is no valid Unicode: {error}") from error

    def _asked(self) -> duckdb.DuckDBPyConnection:
        if self._cursor is None:
            self._cursor = self._con.cursor()
        return self._cursor

    def live(self, connection: Any, search: LiveSearch, encode_text: LiveEncode) -> None:
        """See `Store.live`; None means this store's own connection."""
        from xmr_storage.duckdb import live

        with self._told():
            if connection is not None:
                live.attach(connection, search, encode_text)
            elif self._cursor is None:  # once: in a transaction that has failed it could not be done again
                live.attach(self._asked(), search, encode_text)

    @classmethod
    def url_of(cls, connection: Any) -> str | None:
        """See `Store.url_of`."""
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
            raise StorageError(f"register: the connection cannot be used: {_first_line(error)}") from error
        return row[0] if row else None

    def export(self, folder: Path) -> None:
        """See `Store.export`; one Parquet file a table."""
        from xmr_storage.duckdb import transfer

        transfer.export(self, folder)

    def restore(self, folder: Path) -> None:
        """See `Store.restore`."""
        from xmr_storage.duckdb import transfer

        transfer.restore(self, folder)

    def compact(self) -> tuple[int, int]:
        """See `Store.compact`."""
        from xmr_storage.duckdb import transfer

        return transfer.compact(self)

    def doctor(self) -> Iterator[str]:
        """See `Store.doctor`."""
        from xmr_storage.duckdb import transfer

        return transfer.doctor(self)


def _connect(path: str, read_only: bool) -> duckdb.DuckDBPyConnection:
    import duckdb

    from xmr_storage.quoting import literal

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
        raise _opening_error(path, _first_line(error)) from error


def _require_alone(path: str) -> None:
    """Raise LockedError where a connection of this process is open on the file; DuckDB then refuses another mode."""
    import duckdb

    try:
        duckdb.connect(path, read_only=True).close()
    except duckdb.ConnectionException as error:
        raise LockedError(
            f"{path}: another connection of this process is open on it; close it first ({_first_line(error)})"
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


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


def _arrow_of(result: Any) -> pa.Table:
    fetch = getattr(result, "to_arrow_table", None) or result.fetch_arrow_table  # the name before DuckDB 1.5
    return fetch()


def _options(text: str) -> dict[str, Any]:
    try:
        options = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StateError(f"the stored options of a component are damaged: {error}") from None
    if not isinstance(options, dict):
        raise StateError(f"the stored options of a component are damaged: {text[:80]}")
    return options


def _check_columns(names: Sequence[str]) -> None:
    """Raise DataError on names of metadata that cannot be columns."""
    for name in names:
        if not isinstance(name, str) or not name or "\0" in name:
            raise DataError(f"metadata {name!r}: expected a name")
        if name.lower() in RESERVED:
            raise DataError(f"metadata {name!r}: the name is taken; every item has {', '.join(RESERVED)}")
    if len({name.lower() for name in names}) < len(names):
        raise DataError(f"metadata {', '.join(names)}: two names differ by case alone, SQL takes them for one")


def _ids(table: pa.Table, column: str = "item_id") -> NDArray[np.int64]:
    return np.asarray(table[column].to_numpy(), np.int64)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _feature_name(extractor: str) -> str:
    from xmr_storage.quoting import identifier

    return identifier(f"feature_{extractor}", "extractor")


def _column(name: str, values: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    try:
        column = pa.array(values)
    except (ValueError, TypeError, NotImplementedError, OverflowError) as error:  # Arrow's own are among them
        raise DataError(f"metadata {name!r}: its values have no common type ({error})") from None
    if pa.types.is_float16(column.type):
        return column.cast(pa.float32())
    if pa.types.is_timestamp(column.type) and column.type.tz:  # else the session's time zone would decide
        return column.cast(pa.timestamp("us"))  # UTC
    return column


def _sql_type(column: pa.Array) -> str | None:
    """The type of the column that is made for these values; None where all are missing."""
    import pyarrow.types as types

    if types.is_null(column.type):
        return None
    for is_type, name in (
        (types.is_boolean, "BOOLEAN"),
        (types.is_integer, "BIGINT"),
        (types.is_floating, "DOUBLE"),
        (types.is_timestamp, "TIMESTAMP"),
        (types.is_date, "DATE"),
    ):
        if is_type(column.type):
            return name
    return "VARCHAR"
