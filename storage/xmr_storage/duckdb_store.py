"""A library in a DuckDB file. Bulk rows go through Arrow; every value is bound, every identifier checked and quoted."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import DataError, LockedError, SchemaVersionError, StorageError
from xmr_core.store import ItemRows, LiveEncode, LiveSearch, PartRecord, RunRecord, SpaceRecord, Store
from xmr_core.types import IMAGE, TEXT, Codes, Items, Layout, Pairs

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

__all__ = ["DuckDBStore"]

STORAGE_VERSION = "v1.2.0"  # of new files: what DuckDB 2 writes by default, DuckDB 1 cannot open
RESERVED = ("item_id", "modality", "key", "content", "source", "text", "data")
PRECOMPUTED = "precomputed"  # the extractor of vectors that were given ready-made
BLOCK = 100_000  # rows bound at once


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
        store = cls(path, read_only)
        try:
            store._prepare()
        except BaseException:
            store.close()
            raise
        return store

    def _prepare(self) -> None:
        from xmr_storage import macros, schema

        tables = self.tables()
        if "meta" in tables:
            ((version,),) = self.rows("SELECT value FROM xmr.meta WHERE key = 'format_version'") or [("?",)]
            if version != str(schema.FORMAT_VERSION):
                raise SchemaVersionError(
                    f"{self._path}: the library has format {version}, this version knows {schema.FORMAT_VERSION}; "
                    "upgrade xmr to open it"
                )
            return
        if tables:
            raise StorageError(f"{self._path}: its schema xmr holds other tables; no library can be made in it")
        if self._read_only:
            raise StorageError(f"{self._path} holds no library; open it for writing to make one")
        with self.transaction():
            for statement in schema.ddl():
                self._con.execute(statement)
            self._con.execute("INSERT INTO xmr.meta VALUES ('format_version', $1)", [str(schema.FORMAT_VERSION)])
            self.make_catalog()
            for statement in macros.shared_statements():
                self._con.execute(statement)

    def make_catalog(self) -> None:
        """Make the view `xmr.catalog` anew: items with all columns that metadata has now."""
        self._con.execute(
            """
            CREATE OR REPLACE VIEW xmr.catalog AS
            SELECT i.item_id, i.modality, i.key, i.source, i.text, m.* EXCLUDE (item_id)
            FROM xmr.items AS i LEFT JOIN xmr.metadata AS m ON m.item_id = i.item_id
            """
        )

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
                self._writable()
                self._con.execute("BEGIN")
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

    def _writable(self) -> None:
        if self._read_only:
            raise StorageError(f"{self._path} is open for reading only")

    # statements

    def execute(self, query: str, parameters: Any = None) -> duckdb.DuckDBPyConnection:
        """Run a statement; StorageError with DuckDB's words where it fails."""
        import duckdb

        with self._lock:
            try:
                return self._con.execute(query, parameters)
            except duckdb.Error as error:
                raise StorageError(f"{self._path}: {_first_line(error)}") from error

    def rows(self, query: str, parameters: Any = None) -> list[Any]:
        """All rows of a query."""
        with self._lock:
            return self.execute(query, parameters).fetchall()

    def _arrow(self, query: str, parameters: Any = None) -> pa.Table:
        with self._lock:
            return _arrow_of(self.execute(query, parameters))

    @contextlib.contextmanager
    def _given(self, **tables: pa.Table) -> Iterator[None]:
        """Arrow tables under these names, for one statement."""
        with self._lock:
            for name, table in tables.items():
                self._con.register(name, table)
            try:
                yield
            finally:
                for name in tables:
                    self._con.unregister(name)

    def _insert(self, target: str, table: pa.Table) -> None:
        with self._given(_given_rows=table):
            self.execute(f"INSERT INTO xmr.{target} BY NAME SELECT * FROM _given_rows")

    # items, links, labels

    def match(self, modality: str, keys: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
        """See `Store.match`."""
        import pyarrow as pa

        with self._given(_wanted=pa.table({"place": np.arange(len(keys)), "key": pa.array(keys, pa.string())})):
            found = self._arrow(
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
        tables = ["items", *(_codes_name(space.name, space.version) for space in self.spaces())]
        counts = " UNION ALL ".join(f"SELECT max(item_id) AS top FROM xmr.{table}" for table in tables)
        ((top,),) = self.rows(f"SELECT coalesce(max(top) + 1, 0) FROM ({counts})")
        return int(top)

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
            self._insert("items", table)
            if metadata:
                columns = {name: _column(name, values) for name, values in metadata.items()}
                self._add_columns(columns)
                self._insert("metadata", pa.table({"item_id": rows.ids, **columns}))

    def _add_columns(self, columns: Mapping[str, pa.Array]) -> None:
        from xmr_storage.schema import quoted

        known = {name.lower() for name in self.metadata_columns()}
        new = [name for name in columns if name.lower() not in known]
        for name in new:
            if name.lower() in RESERVED:
                raise DataError(f"metadata {name!r}: the name is taken; every item has {', '.join(RESERVED)}")
            self.execute(f"ALTER TABLE xmr.metadata ADD COLUMN {quoted(name)} {_sql_type(columns[name])}")
        if new:
            self.make_catalog()

    def metadata_columns(self) -> list[str]:
        """The names of the user's own columns."""
        return [name for name in self.columns("metadata") if name != "item_id"]

    def put_links(self, image_ids: NDArray[np.int64], text_ids: NDArray[np.int64]) -> None:
        """See `Store.put_links`."""
        import pyarrow as pa

        with self.transaction(), self._given(_links=pa.table({"image_id": image_ids, "text_id": text_ids})):
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
            with self._given(_relabelled=pa.table({"item_id": ids})):
                self.execute("DELETE FROM xmr.labels WHERE item_id IN (SELECT item_id FROM _relabelled)")
            self._insert("labels", table)

    def ids(self, modality: str | None = None, where: str | None = None) -> NDArray[np.int64]:
        """See `Store.ids`."""
        if where is None:
            query = "SELECT item_id FROM xmr.items WHERE $1 IS NULL OR modality = $1 ORDER BY item_id"
            return _ids(self._arrow(query, [modality]))
        query = (
            f"SELECT item_id FROM xmr.catalog WHERE ($1 IS NULL OR modality = $1) AND (\n{where}\n) ORDER BY item_id"
        )
        import duckdb

        with self._lock:
            try:
                statements = self._con.extract_statements(query)
                if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                    raise DataError(f"where={where!r}: expected one condition")
                return _ids(_arrow_of(self._con.execute(query, [modality])))
            except duckdb.Error as error:
                columns = ", ".join(["item_id", "modality", "key", "source", "text", *self.metadata_columns()])
                raise DataError(f"where={where!r}: {_first_line(error)} (columns: {columns})") from error

    def items(self, ids: NDArray[np.int64], modality: str) -> Items:
        """See `Store.items`. Rows whose vectors were given ready-made have those for data."""
        import pyarrow as pa

        with self._given(_wanted=pa.table({"place": np.arange(len(ids)), "item_id": ids})):
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
        table = self._arrow("SELECT image_id, text_id FROM xmr.pairs ORDER BY image_id, text_id")
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
        with self._given(**given):
            found = self._arrow(
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

        with self._given(_wanted=pa.table({"place": np.arange(len(ids)), "item_id": ids})):
            table = self._arrow(
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

        columns = {"items": "item_id", "metadata": "item_id", "labels": "item_id"}
        columns |= dict.fromkeys(self.tables("code_", "feature_"), "item_id")
        with self.transaction(), self._given(_doomed=pa.table({"item_id": np.unique(ids)})):
            ((count,),) = self.rows("SELECT count(*) FROM xmr.items WHERE item_id IN (SELECT item_id FROM _doomed)")
            for table, column in columns.items():
                self.execute(f"DELETE FROM xmr.{table} WHERE {column} IN (SELECT item_id FROM _doomed)")
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
        """Put another file in the place of this one's, and go on with it."""
        self._writable()
        with self._lock:
            self.close()
            try:
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
        with self._given(_wanted=pa.table({"place": np.arange(len(ids)), "item_id": ids})):
            found = self._arrow(
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
            self._insert(table, pa.table({"item_id": ids, "vector": vector_column(vectors)}))

    def _vector_dim(self, table: str) -> int:
        kind = self.columns(table).get("vector", "")
        found = re.fullmatch(r"FLOAT\[(\d+)\]", kind)
        return int(found[1]) if found else 0

    # spaces and codes

    def spaces(self) -> list[SpaceRecord]:
        """See `Store.spaces`."""
        columns = "space, version, recipe, fingerprint, metric, layout, dim, symbol_bits, seed, created, published"
        records = []
        for row in self.rows(f"SELECT {columns} FROM xmr.spaces ORDER BY space, version"):
            name, version, recipe, fingerprint, metric, kind, dim, symbol_bits, seed, created, published = row
            counted = self.rows(
                f"SELECT modality, count(*) FROM xmr.{_codes_name(name, version)} GROUP BY modality ORDER BY modality"
            )
            records.append(
                SpaceRecord(
                    name,
                    version,
                    recipe,
                    fingerprint,
                    metric,
                    Layout(kind, dim, symbol_bits),
                    seed,
                    created,
                    published,
                    counts={modality: int(count) for modality, count in counted},
                )
            )
        return records

    def load_space(self, name: str, version: int | None = None) -> SpaceRecord:
        """See `Store.load_space`."""
        spaces = self.spaces()
        for space in spaces:
            if space.name == name and (space.version == version if version is not None else space.published):
                return dataclasses.replace(space, parts=self._parts(name, space.version))
        offer = ", ".join(sorted({space.name for space in spaces})) or "none yet: fit one"
        wanted = f"space {name!r}" + (f" version {version}" if version is not None else "")
        raise StorageError(f"{self._path} has no {wanted}; there are {offer}")

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
            PartRecord(role, part, json.loads(options), states.get(position, {}), state_version, fingerprint)
            for position, role, part, options, state_version, fingerprint in parts
        ]

    def put_space(self, space: SpaceRecord) -> None:
        """See `Store.put_space`."""
        from xmr_storage import macros
        from xmr_storage.arrow import blob_of_array
        from xmr_storage.schema import identifier

        table = _codes_name(identifier(space.name, "space"), space.version)
        columns = ", ".join(f"{name} {kind} NOT NULL" for name, kind in macros.code_columns(space.layout))
        layout = space.layout
        with self.transaction():
            self.execute(f"CREATE TABLE xmr.{table} (item_id BIGINT NOT NULL, modality VARCHAR NOT NULL, {columns})")
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
            for position, part in enumerate(space.parts):
                place = [space.name, space.version, position]
                self.execute(
                    "INSERT INTO xmr.parts VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                    [*place, part.role, part.name, json.dumps(part.options), part.version, part.fingerprint],
                )
                for key, array in part.state.items():
                    self.execute(
                        "INSERT INTO xmr.tensors VALUES ($1, $2, $3, $4, $5, $6, $7)",
                        [*place, key, *blob_of_array(array)],
                    )
            if space.sql is not None:
                for statement, given in macros.space_tables(space.name, space.version, layout, space.sql):
                    self._fill(statement, given)

    def _fill(self, statement: str, given: pa.Table | None) -> None:
        with self._given(**({} if given is None else {"_given_rows": given})):
            self.execute(statement)

    def publish(self, name: str, version: int) -> None:
        """See `Store.publish`."""
        from xmr_storage import macros

        space = self.load_space(name, version)
        with self.transaction():
            self.execute("UPDATE xmr.spaces SET published = (version = $2) WHERE space = $1", [name, version])
            for statement in macros.space_statements(name, version, space.layout, space.metric):
                self.execute(statement)

    def drop_space(self, name: str, version: int | None = None) -> None:
        """See `Store.drop_space`."""
        from xmr_storage import macros

        space = self.load_space(name, version)
        doomed = [s for s in self.spaces() if s.name == name and version in (None, s.version)]
        with self.transaction():
            if version is None or space.published:
                for statement in macros.drop_statements(name):
                    self.execute(statement)
            for gone in doomed:
                for table in macros.tables_of(name, gone.version):
                    self.execute(f"DROP TABLE IF EXISTS xmr.{table}")
                for table in ("spaces", "parts", "tensors"):
                    self.execute(f"DELETE FROM xmr.{table} WHERE space = $1 AND version = $2", [name, gone.version])

    def put_codes(self, name: str, version: int, modality: str, codes: Codes) -> None:
        """See `Store.put_codes`."""
        from xmr_storage.arrow import table_of_codes

        with self.transaction():
            self._insert(_codes_name(name, version), table_of_codes(codes, modality))

    def get_codes(self, name: str, version: int, modality: str) -> Codes:
        """See `Store.get_codes`."""
        from xmr_storage import macros
        from xmr_storage.arrow import codes_of_table

        layout = next(s.layout for s in self.spaces() if (s.name, s.version) == (name, version))
        columns = ", ".join(column for column, _ in macros.code_columns(layout))
        table = self._arrow(
            f"SELECT item_id, {columns} FROM xmr.{_codes_name(name, version)} WHERE modality = $1 ORDER BY item_id",
            [modality],
        )
        return codes_of_table(table, layout)

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

    def _asked(self) -> duckdb.DuckDBPyConnection:
        if self._cursor is None:
            self._cursor = self._con.cursor()
        return self._cursor

    def live(self, connection: Any, search: LiveSearch, encode_text: LiveEncode) -> None:
        """See `Store.live`; None means this store's own connection."""
        from xmr_storage import live

        live.attach(self._asked() if connection is None else connection, search, encode_text)

    @classmethod
    def url_of(cls, connection: Any) -> str | None:
        """See `Store.url_of`."""
        import duckdb

        if not isinstance(connection, duckdb.DuckDBPyConnection):
            return None
        query = "SELECT path FROM duckdb_databases() WHERE database_name = current_database()"
        row = connection.execute(query).fetchone()
        return row[0] if row else None

    def export(self, folder: Path) -> None:
        """See `Store.export`; one Parquet file a table."""
        from xmr_storage import transfer

        transfer.export(self, folder)

    def restore(self, folder: Path) -> None:
        """See `Store.restore`."""
        from xmr_storage import transfer

        transfer.restore(self, folder)

    def compact(self) -> tuple[int, int]:
        """See `Store.compact`."""
        from xmr_storage import transfer

        return transfer.compact(self)

    def doctor(self) -> Iterator[str]:
        """See `Store.doctor`."""
        from xmr_storage import transfer

        return transfer.doctor(self)


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
                maker.execute(f"ATTACH {_literal(path)} AS fresh (STORAGE_VERSION '{STORAGE_VERSION}')")
        return duckdb.connect(path, read_only=read_only)
    except duckdb.Error as error:
        raise _opening_error(path, _first_line(error)) from error


def _opening_error(path: str, words: str) -> StorageError:
    if "lock" in words:
        holder = re.search(r"PID (\d+)", words)
        who = f"process {holder[1]}" if holder else "another process"
        return LockedError(f"{path} is held by {who}; close it there, or open read-only beside readers only")
    if "version number" in words:
        return SchemaVersionError(f"{path}: written by a newer DuckDB; upgrade duckdb to open it ({words})")
    if "not a valid DuckDB database" in words:
        return StorageError(f"{path} is no DuckDB database, or is damaged")
    return StorageError(f"{path} cannot be opened: {words}")


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


def _arrow_of(result: Any) -> pa.Table:
    fetch = getattr(result, "to_arrow_table", None) or result.fetch_arrow_table  # the name before DuckDB 1.5
    return fetch()


def _ids(table: pa.Table, column: str = "item_id") -> NDArray[np.int64]:
    return np.asarray(table[column].to_numpy(), np.int64)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _codes_name(space: str, version: int) -> str:
    from xmr_storage.schema import identifier

    return f"code_{identifier(space, 'space')}_v{version:d}"


def _feature_name(extractor: str) -> str:
    from xmr_storage.schema import identifier

    return identifier(f"feature_{extractor}", "extractor")


def _column(name: str, values: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    try:
        column = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise DataError(f"metadata {name!r}: its values have no common type ({error})") from None
    return column.cast(pa.string()) if pa.types.is_null(column.type) else column


def _sql_type(column: pa.Array) -> str:
    import pyarrow.types as types

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
