"""Tables of what codes stand for: the same rows as decoding gives, whatever happens to the codes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest

import xmr_core as xmr
from xmr_core.errors import DataError, StorageError
from xmr_core.sql import Decoded, Derive, SqlForm, array, number, row
from xmr_core.store import SpaceRecord
from xmr_core.types import Codes, Column, Layout
from xmr_storage.duckdb.decoded import decoding, select
from xmr_storage.duckdb.store import DuckDBStore

DIM = 8
RECIPE = "precomputed(dim=8) >> lattice(r2=5)"
SEARCH = "FROM xmr.topk_points((SELECT list(0.5 + d) FROM range(8) AS r(d)), 10)"


def vectors(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[xmr.Library]:
    """Forty images in the space `points`, whose points are kept."""
    with xmr.open(tmp_path / "points.duckdb", progress=False) as library:
        library.add(xmr.Items("image", vectors(40), keys=[f"item {i}" for i in range(40)]))
        library.fit(RECIPE, name="points")
        library.materialize("points")
        yield library


def tables(db: xmr.Library) -> list[str]:
    assert isinstance(db.store, DuckDBStore)
    return db.store.db.tables("point_")


def assert_in_step(db: xmr.Library, space: str = "points") -> None:
    """The view gives what decoding the codes gives, row for row, and reads the table."""
    assert isinstance(db.store, DuckDBStore)
    version = db.space(space).record.version
    decoded = decoding(db.store.db, space, version)
    assert decoded is not None
    kept = db.sql(f"FROM xmr.{decoded.name}_{space} ORDER BY ALL").fetchall()
    assert kept == db.store.rows(f"{select(decoded, f'{space}_v{version}')} ORDER BY ALL")
    assert kept
    assert kept == db.sql(f"SELECT * EXCLUDE (_w0) FROM xmr.{decoded.name}_{space}_v{version} ORDER BY ALL").fetchall()
    assert db.doctor() == []


def test_a_search_finds_the_same_with_and_without_the_table(db: xmr.Library) -> None:
    kept = db.sql(SEARCH).fetchall()
    assert len(kept) == 10
    db.materialize("points", drop=True)
    assert tables(db) == []
    assert db.sql(SEARCH).fetchall() == kept


def test_the_rows_of_the_table_are_the_decoded_codes(db: xmr.Library) -> None:
    assert tables(db) == ["point_points_v1"]
    assert_in_step(db)
    db.materialize()  # once more changes nothing
    assert_in_step(db)


def test_items_added_replaced_and_deleted_are_so_in_the_table(db: xmr.Library) -> None:
    db.add(xmr.Items("image", vectors(20, 1), keys=[f"new {i}" for i in range(20)]))
    assert_in_step(db)
    db.upsert(xmr.Items("image", vectors(10, 2), keys=[f"item {i}" for i in range(5)] + [f"new {i}" for i in range(5)]))
    assert_in_step(db)
    db.delete(ids=range(30, 45))
    assert_in_step(db)
    assert db.sql("SELECT count(*) FROM xmr.point_points").fetchone() == (45,)


def test_one_item_more_writes_one_row_more(db: xmr.Library) -> None:
    before = dict(db.sql("SELECT item_id, rowid FROM xmr.point_points_v1").fetchall())
    db.add(xmr.Items("image", vectors(1, 1), keys=["new"]))
    after = dict(db.sql("SELECT item_id, rowid FROM xmr.point_points_v1").fetchall())
    assert len(after) == 41
    assert before.items() <= after.items()


def test_a_change_that_fails_leaves_table_and_codes_as_they_were(db: xmr.Library) -> None:
    class StoppedError(Exception):
        pass

    with pytest.raises(StoppedError), db.store.transaction():
        db.delete(ids=range(10))
        raise StoppedError
    assert_in_step(db)
    assert db.sql("SELECT count(*) FROM xmr.point_points").fetchone() == (40,)


def test_items_deleted_in_sql_are_gone_from_the_table(db: xmr.Library, tmp_path: Path) -> None:
    db.sql("DELETE FROM xmr.items WHERE item_id < 10")
    assert db.sql("SELECT min(item_id) FROM xmr.point_points").fetchone() == (10,)
    db.close()
    with duckdb.connect(tmp_path / "points.duckdb") as other:
        other.execute("DELETE FROM xmr.items WHERE item_id < 20")
    with xmr.open(tmp_path / "points.duckdb") as again:
        assert again.sql("SELECT min(item_id) FROM xmr.point_points").fetchone() == (20,)


def test_the_published_version_has_the_table(db: xmr.Library) -> None:
    db.fit("precomputed(dim=8) >> lattice(r2=7)", name="points")
    assert tables(db) == ["point_points_v2"]
    assert_in_step(db)
    db.publish("points", 1)
    assert tables(db) == ["point_points_v1"]
    assert_in_step(db)


def test_a_version_that_is_not_decoded_has_none_and_a_later_one_has(db: xmr.Library) -> None:
    db.fit("precomputed(dim=8) >> flat", name="points")
    assert tables(db) == []
    assert db.doctor() == []
    db.publish("points", 1)
    assert_in_step(db)


def test_dropping_the_space_drops_the_table_and_the_wish(db: xmr.Library) -> None:
    db.drop("points")
    assert tables(db) == []
    db.fit(RECIPE, name="points")
    assert tables(db) == []
    assert db.doctor() == []


def test_the_table_survives_compaction_and_another_process(db: xmr.Library, tmp_path: Path) -> None:
    db.delete(ids=range(5))
    db.compact()
    assert_in_step(db)
    db.close()
    with xmr.open(tmp_path / "points.duckdb") as again:
        again.add(xmr.Items("image", vectors(3, 4), keys=["a", "b", "c"]))
        assert_in_step(again)


def test_an_export_leaves_the_table_out_and_restore_makes_it(db: xmr.Library, tmp_path: Path) -> None:
    found = db.sql(SEARCH).fetchall()
    db.export(tmp_path / "export")
    assert not list((tmp_path / "export").glob("point_*"))
    with xmr.open(tmp_path / "copy.duckdb") as copy:
        copy.restore(tmp_path / "export")
        assert_in_step(copy)
        assert copy.sql(SEARCH).fetchall() == found


def test_what_another_version_of_xmr_has_written_is_made_again(db: xmr.Library, tmp_path: Path) -> None:
    """It knows no such tables: it leaves them as they are, and notes other macros."""
    db.close()
    with duckdb.connect(tmp_path / "points.duckdb") as other:
        other.execute("DELETE FROM xmr.point_points_v1 WHERE item_id < 10")
        other.execute("UPDATE xmr.meta SET value = 'other' WHERE key = 'macros'")
    with xmr.open(tmp_path / "points.duckdb") as again:
        assert_in_step(again)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM xmr.point_points_v1 WHERE item_id = 7",
        "INSERT INTO xmr.point_points_v1 FROM xmr.point_points_v1 WHERE item_id = 7",
        "UPDATE xmr.point_points_v1 SET vector = (SELECT vector FROM xmr.point_points_v1 WHERE item_id = 8)",
        "DROP TABLE xmr.point_points_v1",
    ],
)
def test_doctor_tells_and_repairs_a_table_that_is_not_in_step(db: xmr.Library, tmp_path: Path, statement: str) -> None:
    db.close()
    with duckdb.connect(tmp_path / "points.duckdb") as other:
        other.execute(statement)
    with xmr.open(tmp_path / "points.duckdb") as again:
        (finding,) = again.doctor()
        assert finding == (
            "the table xmr.point_points_v1 of space 'points' is gone, or not in step with its codes; "
            "repair makes it again"
        )
        again.doctor(repair=True)
        assert_in_step(again)


def test_every_form_that_decodes_has_its_table(tmp_path: Path) -> None:
    """Also one of a stranger, whose columns have the names of the code's own."""
    halves = Derive({"c0": row("c0") * number(0.5), "both": array(row("c0"), row("c1"))})
    decoded = Decoded("half", (halves,), (Column("c0", "float32"), Column("both", "float32", 2)))
    layout = Layout("mine", (Column("c0", "uint8"), Column("c1", "uint8")), 2)
    values = np.arange(20, dtype=np.uint8).reshape(10, 2)
    store = DuckDBStore.open(str(tmp_path / "mine.duckdb"))
    space = SpaceRecord("mine", 1, "mine", "0" * 64, "l2", layout, None, form=SqlForm(decoded=decoded))
    store.put_space(space)
    store.publish("mine", 1)
    store.put_codes("mine", 1, "image", Codes(np.arange(10), values, layout))
    store.materialize("mine")
    store.put_codes("mine", 1, "text", Codes(np.arange(5, 15), values, layout))
    rows = store.rows("FROM xmr.half_mine ORDER BY ALL")
    assert rows[:2] == [(0, "image", 0.0, (0.0, 1.0)), (1, "image", 1.0, (2.0, 3.0))]
    assert len(rows) == 20
    assert rows == store.rows(f"{select(decoded, 'mine_v1')} ORDER BY ALL")
    assert store.db.tables("half_") == ["half_mine_v1"]
    store.close()


def test_what_cannot_be_materialized_is_told(db: xmr.Library, tmp_path: Path) -> None:
    db.add_embeddings(vectors(5), space="plain", recipe="flat")
    with pytest.raises(DataError, match="space 'plain': its codes are compared as they are stored; nothing is decoded"):
        db.materialize("plain")
    assert db.doctor() == []
    with pytest.raises(StorageError, match="has no space 'other'"):
        db.materialize("other")
    with pytest.raises(DataError, match="drop is True or False, got 'yes'"):
        db.materialize("points", drop="yes")  # type: ignore[arg-type]  # what is tested
    db.close()
    with xmr.open(tmp_path / "points.duckdb", read_only=True) as reader:
        with pytest.raises(StorageError, match="open for reading only"):
            reader.materialize("points")
        assert len(reader.sql(SEARCH).fetchall()) == 10
