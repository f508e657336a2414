"""The databases and indexes that `databases.py` compares: each is loaded, built, searched and changed in the same way.

Every class follows the documentation of its database for local, embedded use. All graphs have M = 16 and
ef_construction = 200, distances are squared Euclidean, and `effort` is the width of a graph's walk (ef), which
`databases.py` chooses to reach the recall wanted. Of options that matter for
speed, the fastest documented one is taken.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]

M, EF_CONSTRUCTION, ROWS = 16, 200, 1_000  # ROWS: inserted at a time where a database limits it


def lists(vectors: Vectors) -> Any:
    """The rows (n, d) as an Arrow column of fixed-size lists."""
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])


def blocks(n: int) -> Iterator[range]:
    """The rows 0 to n - 1, `ROWS` at a time."""
    return (range(start, min(start + ROWS, n)) for start in range(0, n, ROWS))


class Database(ABC):
    """One database: `load` makes its rows durable, `build` its index; `below` keeps rows of a smaller `bucket`."""

    name: ClassVar[str]
    package: ClassVar[str]  # the module that it needs
    durable: ClassVar[bool] = True  # False: an index in memory, whose changes last as long as the process
    efforts: ClassVar[tuple[int, ...]] = (16, 24, 32, 48, 64, 96, 128, 192, 256, 512)

    def __init__(self, folder: Path) -> None:
        self.folder, self.effort = folder, self.efforts[-1]

    @abstractmethod
    def load(self, vectors: Vectors, buckets: Ids) -> None:
        """Store rows with ids 0 .. n-1, a bucket and a name each."""

    @abstractmethod
    def build(self) -> None:
        """Build the index over what was loaded, and keep it on disk."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything."""

    @abstractmethod
    def open(self) -> None:
        """Open what was closed."""

    @abstractmethod
    def search(self, query: Vectors, k: int, below: int | None = None) -> Any:
        """The ids of the k nearest of one query (d,)."""

    @abstractmethod
    def insert(self, item: int, vector: Vectors) -> None:
        """Add one row."""

    @abstractmethod
    def delete(self, item: int) -> None:
        """Remove one row."""

    def batch(self, queries: Vectors, k: int) -> Any:
        """The ids of the k nearest of each query; one by one where the database takes no more."""
        return [self.search(query, k) for query in queries]


class Xmr(Database):
    """This library: texts with ready-made vectors and two columns in a DuckDB file, `hnsw` over them."""

    name, package = "xmr", "xmr_core"
    efforts: ClassVar[tuple[int, ...]] = (64,)  # an option of the fitted space: the default is taken as it is

    def load(self, vectors: Vectors, buckets: Ids) -> None:
        import pyarrow as pa

        self.open()
        rows = pa.table(
            {
                "key": [str(item) for item in range(len(vectors))],
                "text": [f"text {item}" for item in range(len(vectors))],
                "bucket": buckets,
                "name": [f"name {bucket}" for bucket in buckets.tolist()],
                "vector": lists(vectors),
            }
        )
        self.db.add(rows, vectors={"v": (None, "vector")})

    def build(self) -> None:
        self.db.fit('precomputed(name="v", metric="l2") >> hnsw', name="v")
        self.search(
            np.zeros(self.db.space("v").pipeline.indexer.dim, np.float32), 1
        )  # its index is built when searched

    def open(self) -> None:
        import xmr_core as xmr

        self.db = xmr.open(self.folder / "library.duckdb", progress=False)

    def close(self) -> None:
        self.db.close()

    def search(self, query: Vectors, k: int, below: int | None = None) -> Any:
        where = None if below is None else f"bucket < {below:d}"
        return self.db.search(vector=query, k=k, where=where, modality="text").ids

    def batch(self, queries: Vectors, k: int) -> Any:
        return self.db.search(vector=queries, k=k, modality="text").ids

    def insert(self, item: int, vector: Vectors) -> None:
        row = {"key": str(item), "text": f"text {item}", "bucket": 0, "name": "new", "vector": vector}
        self.db.add([row], vectors={"v": (None, "vector")})

    def delete(self, item: int) -> None:
        self.db.delete([item])


class Hnswlib(Database):
    """The graph alone, in memory; a filter is a function that the walk calls for every candidate."""

    name, package, durable = "hnswlib", "hnswlib", False

    def load(self, vectors: Vectors, buckets: Ids) -> None:
        self.vectors, self.buckets = vectors, buckets
        self.allowed: dict[int, NDArray[np.bool_]] = {}  # the rows of a condition, made when it is first asked

    def build(self) -> None:
        import hnswlib

        self.graph = hnswlib.Index("l2", self.vectors.shape[1])
        self.graph.init_index(len(self.vectors) + 1_000, M=M, ef_construction=EF_CONSTRUCTION, random_seed=1)
        self.graph.add_items(self.vectors)
        self.graph.save_index(str(self.folder / "graph.bin"))

    def open(self) -> None:
        import hnswlib

        self.graph = hnswlib.Index("l2", self.vectors.shape[1])
        self.graph.load_index(str(self.folder / "graph.bin"), max_elements=len(self.vectors) + 1_000)

    def close(self) -> None:
        del self.graph

    def search(self, query: Vectors, k: int, below: int | None = None) -> Any:
        self.graph.set_ef(self.effort)
        if below is not None and below not in self.allowed:
            self.allowed[below] = self.buckets < below
        try:
            return self.graph.knn_query(query, k, 1, None if below is None else self.allowed[below].__getitem__)[0]
        except RuntimeError:  # it gives k or nothing
            return np.full(k, -1)

    def batch(self, queries: Vectors, k: int) -> Any:
        self.graph.set_ef(self.effort)
        return self.graph.knn_query(queries, k)[0]

    def insert(self, item: int, vector: Vectors) -> None:
        self.graph.add_items(vector, [item])

    def delete(self, item: int) -> None:
        self.graph.mark_deleted(item)


class Faiss(Database):
    """IndexHNSWFlat in memory; a filter is a bitmap over all rows. A graph of faiss cannot forget a row."""

    name, package, durable = "faiss HNSW", "faiss", False

    def load(self, vectors: Vectors, buckets: Ids) -> None:
        self.vectors, self.buckets = vectors, buckets
        self.allowed: dict[int | None, Any] = {None: None}  # the bitmap of a condition, made when it is first asked

    def build(self) -> None:
        import faiss

        self.index = faiss.IndexHNSWFlat(self.vectors.shape[1], M)
        self.index.hnsw.efConstruction = EF_CONSTRUCTION
        self.index.add(self.vectors)
        faiss.write_index(self.index, str(self.folder / "index.faiss"))

    def open(self) -> None:
        import faiss

        self.index = faiss.read_index(str(self.folder / "index.faiss"))

    def close(self) -> None:
        del self.index

    def search(self, query: Vectors, k: int, below: int | None = None) -> Any:
        return self._search(query[None], k, below)

    def batch(self, queries: Vectors, k: int) -> Any:
        return self._search(queries, k, None)

    def _search(self, queries: Vectors, k: int, below: int | None) -> Any:
        import faiss

        if below is not None and below not in self.allowed:
            self.allowed[below] = faiss.IDSelectorBitmap(np.packbits(self.buckets < below, bitorder="little"))
        parameters = faiss.SearchParametersHNSW(efSearch=self.effort, sel=self.allowed[below])
        return self.index.search(queries, k, params=parameters)[1]

    def insert(self, item: int, vector: Vectors) -> None:
        self.index.add(vector[None])

    def delete(self, item: int) -> None:
        raise NotImplementedError


class Usearch(Database):
    """The graph alone, in memory, float32; its Python interface has no filter."""

    name, package, durable = "usearch", "usearch", False

    def load(self, vectors: Vectors, buckets: Ids) -> None:
        self.vectors = vectors

    def _empty(self) -> Any:
        from usearch.index import Index

        shape = {"connectivity": M, "expansion_add": EF_CONSTRUCTION, "dtype": "f32"}
        return Index(ndim=self.vectors.shape[1], metric="l2sq", **shape)

    def build(self) -> None:
        self.index = self._empty()
        self.index.add(np.arange(len(self.vectors)), self.vectors)
        self.index.save(str(self.folder / "index.usearch"))

    def open(self) -> None:
        self.index = self._empty()
        self.index.load(str(self.folder / "index.usearch"))

    def close(self) -> None:
        del self.index

    def search(self, query: Vectors, k: int, below: int | None = None) -> Any:
        if below is not None:
            raise NotImplementedError
        self.index.expansion_search = self.effort
        return self.index.search(query, k).keys

    def batch(self, queries: Vectors, k: int) -> Any:
        self.index.expansion_search = self.effort
        return self.index.search(queries, k).keys

    def insert(self, item: int, vector: Vectors) -> None:
        self.index.add(item, vector)

    def delete(self, item: int) -> None:
        self.index.remove(item)


class Zvec(Database):
    """zvec: HNSW in contiguous memory, an inverted index over the bucket."""

    name, package = "zvec", "zvec"

    def load(self, vectors: Vectors, buckets: Ids) -> None:
        import zvec

        graph = zvec.HnswIndexParam(zvec.MetricType.L2, M, EF_CONSTRUCTION, use_contiguous_memory=True)
        fields = [
            zvec.FieldSchema("bucket", zvec.DataType.INT32, index_param=zvec.InvertIndexParam(True)),
            zvec.FieldSchema("name", zvec.DataType.STRING),
        ]
        vector = zvec.VectorSchema("vector", zvec.DataType.VECTOR_FP32, vectors.shape[1], index_param=graph)
        schema = zvec.CollectionSchema("rows", fields=fields, vectors=[vector])
        self.rows = zvec.create_and_open(path=str(self.folder / "rows"), schema=schema)
        for block in blocks(len(vectors)):
            self.rows.insert([self._row(item, vectors[item], int(buckets[item])) for item in block])
        self.rows.flush()

    def _row(self, item: int, vector: Vectors, bucket: int) -> Any:
        import zvec

        return zvec.Doc(id=str(item), vectors={"vector": vector}, fields={"bucket": bucket, "name": f"name {bucket}"})

    def build(self) -> None:
        self.rows.optimize()
        self.rows.flush()

    def open(self) -> None:
        import zvec

        self.rows = zvec.open(str(self.folder / "rows"))

    def close(self) -> None:
        self.rows.close()

    def search(self, query: Vectors, k: int, below: int | None = None) -> Any:
        import zvec

        asked = zvec.Query(field_name="vector", vector=query, param=zvec.HnswQueryParam(ef=self.effort))
        condition = None if below is None else f"bucket < {below}"
        found = self.rows.query(asked, topk=k, filter=condition, output_fields=[])
        return [int(row.id) for row in found]

    def insert(self, item: int, vector: Vectors) -> None:
        self.rows.insert(self._row(item, vector, 0))
        self.rows.flush()

    def delete(self, item: int) -> None:
        self.rows.delete(str(item))
        self.rows.flush()


class LanceDB(Database):
    """LanceDB: one partition of HNSW over plain vectors, a BTree over the bucket."""

    name, package = "LanceDB", "lancedb"

    def load(self, vectors: Vectors, buckets: Ids) -> None:
        import lancedb

        rows = self._table(np.arange(len(vectors)), vectors, buckets)
        self.table = lancedb.connect(self.folder / "lance").create_table("rows", rows)

    def _table(self, ids: Ids, vectors: Vectors, buckets: Ids) -> Any:
        import pyarrow as pa

        names = [f"name {bucket}" for bucket in buckets.tolist()]
        return pa.table({"id": ids, "bucket": buckets, "name": names, "vector": lists(vectors)})

    def build(self) -> None:
        with warnings.catch_warnings(action="ignore"):
            graph = {"index_type": "IVF_HNSW_FLAT", "num_partitions": 1, "m": M, "ef_construction": EF_CONSTRUCTION}
            self.table.create_index(metric="l2", vector_column_name="vector", **graph)
            self.table.create_scalar_index("bucket")

    def open(self) -> None:
        import lancedb

        self.table = lancedb.connect(self.folder / "lance").open_table("rows")

    def close(self) -> None:
        del self.table

    def search(self, query: Vectors, k: int, below: int | None = None) -> Any:
        asked = self.table.search(query).select(["id", "_distance"]).limit(k).nprobes(1).ef(self.effort)
        if below is not None:
            asked = asked.where(f"bucket < {below}", prefilter=True)
        return asked.to_arrow()["id"].to_numpy()

    def insert(self, item: int, vector: Vectors) -> None:
        self.table.add(self._table(np.array([item]), vector[None], np.array([0])))

    def delete(self, item: int) -> None:
        self.table.delete(f"id = {item}")


class Chroma(Database):
    """Chroma's persistent client."""

    name, package = "Chroma", "chromadb"
    efforts: ClassVar[tuple[int, ...]] = (96,)  # an option of the collection

    def load(self, vectors: Vectors, buckets: Ids) -> None:
        self._client()
        graph = {"space": "l2", "ef_construction": EF_CONSTRUCTION, "max_neighbors": M, "ef_search": self.efforts[0]}
        self.rows = self.client.create_collection("rows", configuration={"hnsw": graph})
        for block in blocks(len(vectors)):
            columns = [{"bucket": int(buckets[item]), "name": f"name {buckets[item]}"} for item in block]
            self.rows.add(
                [str(item) for item in block], embeddings=vectors[block.start : block.stop], metadatas=columns
            )

    def _client(self) -> None:
        import chromadb

        settings = chromadb.Settings(anonymized_telemetry=False)
        self.client = chromadb.PersistentClient(str(self.folder / "chroma"), settings)

    def build(self) -> None:
        """It builds while it loads."""

    def open(self) -> None:
        self._client()
        self.rows = self.client.get_collection("rows")

    def close(self) -> None:
        del self.rows, self.client

    def search(self, query: Vectors, k: int, below: int | None = None) -> Any:
        return [int(item) for item in self._query(query[None], k, below)[0]]

    def batch(self, queries: Vectors, k: int) -> Any:
        return [[int(item) for item in row] for row in self._query(queries, k, None)]

    def _query(self, queries: Vectors, k: int, below: int | None) -> Any:
        condition: Any = None if below is None else {"bucket": {"$lt": below}}
        return self.rows.query(query_embeddings=queries, n_results=k, where=condition, include=[])["ids"]

    def insert(self, item: int, vector: Vectors) -> None:
        self.rows.add([str(item)], embeddings=vector[None], metadatas=[{"bucket": 0, "name": "new"}])

    def delete(self, item: int) -> None:
        self.rows.delete([str(item)])


class SqliteVec(Database):
    """sqlite-vec: exhaustive search in SQLite, the bucket as a metadata column of its virtual table."""

    name, package = "sqlite-vec", "sqlite_vec"
    efforts: ClassVar[tuple[int, ...]] = (0,)

    def open(self) -> None:
        import sqlite_vec

        try:
            import pysqlite3 as sqlite3  # where Python's own was built without extensions
        except ImportError:
            import sqlite3
        self.db = sqlite3.connect(self.folder / "rows.db")
        self.db.enable_load_extension(True)
        sqlite_vec.load(self.db)

    def load(self, vectors: Vectors, buckets: Ids) -> None:
        self.open()
        width = vectors.shape[1]
        self.db.execute(f"CREATE VIRTUAL TABLE rows USING vec0(vector float[{width}], bucket integer, +name text)")
        rows = ((item, vectors[item].tobytes(), bucket) for item, bucket in enumerate(buckets.tolist()))
        with self.db:
            self.db.executemany("INSERT INTO rows (rowid, vector, bucket, name) VALUES (?, ?, ?3, 'name ' || ?3)", rows)

    def build(self) -> None:
        """There is no index."""

    def close(self) -> None:
        self.db.close()

    def search(self, query: Vectors, k: int, below: int | None = None) -> Any:
        condition = "" if below is None else f" AND bucket < {below:d}"
        found = self.db.execute(
            f"SELECT rowid FROM rows WHERE vector MATCH ? AND k = {k:d}{condition}", [query.tobytes()]
        )
        return [item for (item,) in found]

    def insert(self, item: int, vector: Vectors) -> None:
        with self.db:
            self.db.execute(
                "INSERT INTO rows (rowid, vector, bucket, name) VALUES (?, ?, 0, 'new')", [item, vector.tobytes()]
            )

    def delete(self, item: int) -> None:
        with self.db:
            self.db.execute("DELETE FROM rows WHERE rowid = ?", [item])


class DuckDBVss(Database):
    """DuckDB with its extension vss: an HNSW index over a FLOAT[d] column. A filter is applied after the index."""

    name, package = "DuckDB vss", "duckdb"

    def open(self) -> None:
        import duckdb

        self.db = duckdb.connect(str(self.folder / "rows.duckdb"))
        self.db.execute("LOAD vss; SET hnsw_enable_experimental_persistence = true")

    def load(self, vectors: Vectors, buckets: Ids) -> None:
        import pyarrow as pa

        self.open()
        self.width = vectors.shape[1]
        given = pa.table({"id": np.arange(len(vectors)), "bucket": buckets, "vector": lists(vectors)})
        self.db.register("given", given)
        self.db.execute("CREATE TABLE rows AS SELECT id, bucket, 'name ' || bucket AS name, vector FROM given")

    def build(self) -> None:
        options = f"metric = 'l2sq', M = {M}, ef_construction = {EF_CONSTRUCTION}"
        self.db.execute(f"CREATE INDEX graph ON rows USING HNSW (vector) WITH ({options})")

    def close(self) -> None:
        self.db.close()

    def search(self, query: Vectors, k: int, below: int | None = None) -> Any:
        condition = "" if below is None else f"WHERE bucket < {below:d} "
        self.db.execute(f"SET hnsw_ef_search = {self.effort:d}")
        order = f"ORDER BY array_distance(vector, ?::FLOAT[{self.width}]) LIMIT {k:d}"
        return [
            item for (item,) in self.db.execute(f"SELECT id FROM rows {condition}{order}", [query.tolist()]).fetchall()
        ]

    def insert(self, item: int, vector: Vectors) -> None:
        self.db.execute("INSERT INTO rows VALUES (?, 0, 'new', ?)", [item, vector.tolist()])

    def delete(self, item: int) -> None:
        self.db.execute("DELETE FROM rows WHERE id = ?", [item])


DATABASES: tuple[type[Database], ...] = (
    Xmr,
    Hnswlib,
    Faiss,
    Usearch,
    Zvec,
    LanceDB,
    Chroma,
    SqliteVec,
    DuckDBVss,
)
