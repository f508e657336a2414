"""A condition that is asked again is not asked of the database, unless what it chooses may have changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.library import filters
from xmr_core.library.filters import Filters
from xmr_core.library.library import Library
from xmr_core.search.condition import Condition
from xmr_core.testing import clustered
from xmr_storage.duckdb.store import DuckDBStore

N = 12
VECTORS = clustered("l2", 40, 8, 6).values
EVEN = "bucket % 2 = 0"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "filters.duckdb"


@pytest.fixture
def db(path: Path) -> Iterator[Library]:
    """Texts 0 to 11, each in the bucket of its number, and three images; the last text has no metadata."""
    with xmr.open(path, progress=False) as db:
        add(db, range(N - 1))
        db.add(texts([N - 1]))
        db.add(xmr.Items("image", VECTORS[:3], list("xyz"), metadata={"bucket": [0, 1, 2]}))
        db.fit('precomputed(name="v", metric="l2") >> flat', name="s")
        yield db


def texts(numbers: range | list[int], points: NDArray[np.float32] = VECTORS, **metadata: Any) -> xmr.Items:
    chosen = {"v": points[list(numbers)]}
    return xmr.Items(
        "text", [f"text {n}" for n in numbers], [str(n) for n in numbers], metadata=metadata, vectors=chosen
    )


def add(db: Library, numbers: range | list[int], buckets: list[int] | None = None) -> None:
    db.add(texts(numbers, bucket=list(numbers) if buckets is None else buckets))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The conditions that the database was asked, from here on."""
    noted: list[str] = []
    passing = DuckDBStore.passing

    def counted(self: DuckDBStore, modality: str, where: Condition, coded: Any = None) -> NDArray[np.int64]:
        noted.append(where.sql)
        return passing(self, modality, where, coded)

    monkeypatch.setattr(DuckDBStore, "passing", counted)
    return noted


def keys(db: Library, where: Any, **options: Any) -> list[str]:
    hits = db.search(vector=VECTORS[:1], modality="text", where=where, k=40, **options)
    return sorted((hit.key for hit in hits), key=int)


def test_a_condition_is_asked_once(db: Library, asked: list[str]) -> None:
    assert keys(db, EVEN) == keys(db, EVEN) == ["0", "2", "4", "6", "8", "10"]
    assert asked == [EVEN]


def test_conditions_are_told_apart_by_their_parameters(db: Library) -> None:
    assert keys(db, ("bucket < ?", [2])) == ["0", "1"]
    assert keys(db, ("bucket < ?", [3])) == ["0", "1", "2"]
    assert keys(db, ("bucket < ?", [2])) == ["0", "1"]
    assert keys(db, {"bucket": [2, 3]}) == ["2", "3"]
    assert keys(db, {"bucket": None}) == ["11"]


def test_what_is_added_deleted_and_updated_is_followed(db: Library) -> None:
    assert keys(db, EVEN) == ["0", "2", "4", "6", "8", "10"]
    add(db, [12, 13])
    assert keys(db, EVEN) == ["0", "2", "4", "6", "8", "10", "12"]
    db.delete([2, 12])
    assert keys(db, EVEN) == ["0", "4", "6", "8", "10", "12"]
    add(db, [3, 4], buckets=[20, 21])
    assert keys(db, EVEN) == ["0", "3", "6", "8", "10", "12"]


def test_another_handle_is_followed(db: Library, path: Path) -> None:
    assert keys(db, EVEN)[:2] == ["0", "2"]
    with xmr.open(path, progress=False) as other:
        add(other, [3], buckets=[0])
        assert keys(db, EVEN)[:3] == keys(other, EVEN)[:3] == ["0", "2", "3"]
        other.delete([0])
        assert keys(db, EVEN)[:2] == keys(other, EVEN)[:2] == ["2", "3"]


@pytest.mark.parametrize("begin", [False, True], ids=["at once", "in a transaction"])
def test_sql_is_followed(db: Library, begin: bool) -> None:
    assert keys(db, EVEN)[:2] == ["0", "2"]
    if begin:
        db.sql("BEGIN")
    db.sql("UPDATE xmr.metadata SET bucket = 7 WHERE item_id = 0")
    if begin:
        assert keys(db, EVEN)[:2] == ["0", "2"]
        db.sql("COMMIT")
    assert keys(db, EVEN)[:2] == ["2", "4"]


def test_a_connection_that_is_not_ours_is_followed(db: Library, path: Path) -> None:
    assert keys(db, EVEN)[:2] == ["0", "2"]
    with duckdb.connect(str(path)) as mine:
        for bucket, first in ((7, "2"), (8, "0"), (9, "2")):
            mine.execute("UPDATE xmr.metadata SET bucket = ? WHERE item_id = 0", [bucket])
            assert keys(db, EVEN)[0] == first


def test_a_library_in_memory_is_trusted_until_its_connection_is_given_away(asked: list[str]) -> None:
    with xmr.open(":memory:", progress=False) as db:
        add(db, range(N))
        db.fit('precomputed(name="v", metric="l2") >> flat', name="s")
        assert keys(db, EVEN) == keys(db, EVEN)
        assert asked == [EVEN]
        db.store.connection.execute("UPDATE xmr.metadata SET bucket = 7 WHERE item_id = 0")
        assert keys(db, EVEN)[0] == "2"


@pytest.mark.parametrize(
    "moody",
    [
        "random() < 0.5",
        "current_date > DATE '2000-01-01'",
        "bucket < (SELECT count(*) FROM xmr.items)",
        "len(list_filter([bucket], lambda b: b > 3)) = 1",
        "exists (FROM friends)",
        "mine(bucket)",
    ],
)
def test_a_condition_that_may_choose_others_of_the_same_items_is_asked_each_time(
    db: Library, asked: list[str], moody: str
) -> None:
    db.sql("CREATE TABLE friends AS SELECT 1 AS name")
    db.sql("CREATE MACRO mine(b) AS b < (SELECT sum(name) FROM friends)")
    keys(db, moody)
    keys(db, moody)
    assert asked == [moody, moody]


@pytest.mark.parametrize(
    "where",
    [
        EVEN,
        "bucket IS NULL",
        "bucket IS NULL OR bucket > 5",
        "coalesce(bucket, 0) = 0",
        "catalog.bucket BETWEEN 2 AND 4",
        "bucket > 3 AND key <> '7'",
        "item_id > 3",
        "modality = 'image' OR bucket = 9",
        "text IS NOT NULL",
        "true",
        ("bucket = ? OR bucket = ?", [1, 2]),
    ],
)
@pytest.mark.parametrize("modality", ["text", "image"])
def test_what_passes_is_what_matches_among_the_items_of_a_modality(db: Library, modality: str, where: Any) -> None:
    condition = Condition(*where) if isinstance(where, tuple) else Condition(where)
    passing = np.intersect1d(db.store.passing(modality, condition), db.store.ids(modality))
    assert passing.tolist() == db.store.ids(modality, condition).tolist()


def test_embeddings_without_items_pass_where_nothing_is_known_of_them(db: Library) -> None:
    db.add_embeddings(VECTORS[:5], space="e", recipe="flat", modality="text", ids=range(3, 8))
    db.add_embeddings(VECTORS[:2], space="e", modality="text", ids=[100, 101])

    def ids(where: str) -> list[int]:
        return sorted(db.search(vector=VECTORS[0], space="e", where=where, k=9).ids[0].tolist())[-3:]

    assert ids("bucket IS NULL") == [-1, 100, 101] and ids("bucket > 4") == [5, 6, 7]


def test_a_condition_that_is_wrong_names_the_columns_each_time(db: Library) -> None:
    for _ in range(2):
        with pytest.raises(xmr.DataError, match="columns: item_id, modality, key, source, text, bucket"):
            keys(db, "bucket = 'many'")


def test_filters_keep_few_conditions(db: Library, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "CONDITIONS", 2)
    kept = Filters()
    a, b, c = (Condition(f"bucket = {n}") for n in range(3))
    for where in (a, b, a, c, a, b):
        kept.of(db.store, where, "text", None)
    assert asked == [a.sql, b.sql, c.sql, b.sql]


@pytest.mark.parametrize("share", [0.5, 0.05, 0.005])
def test_a_filtered_graph_is_never_short_and_finds_what_is_nearest(tmp_path: Path, share: float) -> None:
    pytest.importorskip("hnswlib", reason="the graph is an extra")
    n, k = 3000, 10
    points = clustered("l2", n, 16, 40).values
    buckets = np.random.default_rng(0).random(n)
    with xmr.open(tmp_path / "graph.duckdb", progress=False) as db:
        db.add(texts(range(n), points, bucket=buckets))
        db.fit('precomputed(name="v", metric="l2") >> hnsw', name="s")
        for _ in range(2):
            found = db.search(vector=points[:100], where=f"bucket < {share}", k=k).ids
            allowed = np.flatnonzero(buckets < share)
            true = allowed[np.linalg.norm(points[:100, None] - points[allowed], axis=2).argsort(axis=1)[:, :k]]
            assert (found >= 0).all() and np.isin(found, allowed).all()
            same = [len(np.intersect1d(*pair)) for pair in zip(found, true, strict=True)]
            assert sum(same) >= 0.99 * true.size
