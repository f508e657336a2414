"""The user's own columns keep their types: into the database, through conditions, out of it, and in an export."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import xmr_core as xmr
from xmr_storage.kinds import arrow_type, plain_type, sql_type, wider

NOON = dt.datetime(2024, 5, 1, 12, 30, 1, 250)
MIDNIGHT = dt.datetime(2024, 5, 1)

KEPT: list[tuple[str, Any, str, list[Any], str]] = [
    ("lists of texts", [["a", "b, c"], []], "VARCHAR[]", [["a", "b, c"], []], "list_contains(own, 'b, c')"),
    ("lists of lists", [[[1], [2]], None], "BIGINT[][]", [[[1], [2]], None], "own[2][1] = 2"),
    ("vectors", np.array([[1, 2], [3, 4]], "f4"), "DOUBLE[]", [[1.0, 2.0], [3.0, 4.0]], "own[1] = 1"),
    ("a struct", [{"w": 1, "of": "x"}], 'STRUCT("w" BIGINT, "of" VARCHAR)', [{"w": 1, "of": "x"}], "own.w = 1"),
    ("decimals", [Decimal("12.50"), None], "DECIMAL(4,2)", [Decimal("12.50"), None], "own = 12.5"),
    ("times", [dt.time(9, 5), None], "TIME", [dt.time(9, 5), None], "own < TIME '10:00'"),
    ("bytes", [b"\0\xff", b""], "BLOB", [b"\0\xff", b""], r"own = '\x00\xff'::BLOB"),
    ("bits of 64", np.array([2**64 - 1, 0], np.uint64), "UBIGINT", [2**64 - 1, 0], "own > 9223372036854775807"),
    ("large whole numbers", [2**64 - 1, None], "UBIGINT", [2**64 - 1, None], "own IS NOT NULL"),
    ("19 digits", [1294030472427835393, 0], "BIGINT", [1294030472427835393, 0], "own = 1294030472427835393"),
    ("timestamps", [NOON, None], "TIMESTAMP", [NOON, None], "own > DATE '2024-05-01'"),
    ("nanoseconds", np.array(["2024-05-01", "NaT"], "M8[ns]"), "TIMESTAMP", [MIDNIGHT, None], "own IS NOT NULL"),
    ("dates", [NOON.date(), None], "DATE", [NOON.date(), None], "own = DATE '2024-05-01'"),
    ("booleans", [True, None], "BOOLEAN", [True, None], "own"),
    ("small numbers", np.array([0.5, 2], np.float16), "DOUBLE", [0.5, 2.0], "own = 0.5"),
    ("texts and NaN", np.array(["Ann", float("nan")], object), "VARCHAR", ["Ann", None], "own = 'Ann'"),
    ("texts and NaT", ["Ann", np.datetime64("NaT")], "VARCHAR", ["Ann", None], "own = 'Ann'"),
    ("numbers of NumPy", [np.float16(0.5), np.float32(2), np.int8(1)], "DOUBLE", [0.5, 2.0, 1.0], "own = 0.5"),
    ("a number and NaT", [np.float16(1), np.datetime64("NaT")], "DOUBLE", [1.0, None], "own = 1"),
    ("NaT and NaN", ["a", np.datetime64("NaT"), np.float16("nan")], "VARCHAR", ["a", None, None], "own = 'a'"),
    ("categories of Arrow", pa.array(["Ann", None]).dictionary_encode(), "VARCHAR", ["Ann", None], "own = 'Ann'"),
]  # fmt: skip


def library(folder: Path, name: str = "m") -> xmr.Library:
    return xmr.open(folder / f"{name}.duckdb", progress=False)


def add(db: xmr.Library, values: Any, key: str = "k") -> None:
    keys = [f"{key}{i}" for i in range(len(values))]
    db.store.put_items(rows(db, keys), {"own": values})


def rows(db: xmr.Library, keys: list[str]) -> Any:
    from xmr_core.store import ItemRows

    none = [None] * len(keys)
    ids = np.arange(len(keys)) + db.store.next_id()
    return ItemRows("text", ids, keys, keys, none, keys, none)


def kept(db: xmr.Library) -> list[Any]:
    return [value for (value,) in db.sql("SELECT own FROM xmr.catalog ORDER BY item_id").fetchall()]


@pytest.mark.parametrize(
    ("values", "kind", "back", "where"), [case[1:] for case in KEPT], ids=[case[0] for case in KEPT]
)
def test_a_column_keeps_its_type(tmp_path: Path, values: Any, kind: str, back: list[Any], where: str) -> None:
    with library(tmp_path) as db:
        add(db, values)
        assert sql_type(arrow_type(db.store.columns("metadata")["own"])) == kind
        assert kept(db) == back
        assert db.store.ids(where=where).tolist() == [0]
        db.export(tmp_path / "out")
        with library(tmp_path, "again") as again:
            again.restore(tmp_path / "out")
            assert kept(again) == back
            assert again.store.columns("metadata") == db.store.columns("metadata")
            add(again, values, "more")  # a restored column takes more


def test_a_missing_value_of_pandas_is_null(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    with library(tmp_path) as db:
        add(db, ["Ann", pandas.NA, pandas.NaT, float("nan"), None])
        assert kept(db) == ["Ann", None, None, None, None]


def test_a_column_of_missing_values_takes_the_type_of_what_comes_later(tmp_path: Path) -> None:
    with library(tmp_path) as db:
        add(db, [float("nan"), None])
        add(db, [["a"]], "later")
        assert kept(db) == [None, None, ["a"]]


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        ([1], [Decimal("0.5")], [Decimal("1.0"), Decimal("0.5")]),
        ([Decimal("1.5")], [Decimal("100.25")], [Decimal("1.50"), Decimal("100.25")]),
        ([Decimal("1.5")], [7], [Decimal("1.5"), Decimal("7.0")]),
        ([1], np.array([2], np.uint64), [1, 2]),
        ([-1], [2**64 - 1], [Decimal(-1), Decimal(2**64 - 1)]),
        ([[1]], [[0.5]], [[1.0], [0.5]]),
        ([[1]], [[]], [[1], []]),
        ([{"a": 1}], [{"b": "x"}], [{"a": 1, "b": None}, {"a": None, "b": "x"}]),
        ([{"a": 1, "b": "x"}], [{"b": "y"}], [{"a": 1, "b": "x"}, {"a": None, "b": "y"}]),
    ],
)
def test_columns_widen_where_nothing_is_lost(tmp_path: Path, first: Any, second: Any, both: list[Any]) -> None:
    with library(tmp_path) as db:
        add(db, first)
        add(db, second, "later")
        assert kept(db) == both


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([["a"]], ["a"]),
        ([{"a": 1}], [{"a": "x"}]),
        ([b"x"], ["x"]),
        ([Decimal("0.1")], [0.1]),
        ([dt.time(1)], [NOON]),
        ([0.5], [2**53 + 1]),
        ([2**53 + 1], [0.5]),
        ([Decimal("1e20")], [Decimal("1e-20")]),
    ],
)
def test_a_column_refuses_what_it_could_not_keep(tmp_path: Path, first: Any, second: Any) -> None:
    with library(tmp_path) as db:
        add(db, first)
        with pytest.raises(xmr.DataError, match=r"metadata 'own': the column holds .*, these values are"):
            add(db, second, "later")
        assert len(kept(db)) == 1


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ([1, "a"], "no common type"),
        ([["a"], "a"], "no common type"),
        ([dt.timedelta(1)], "no column can hold duration"),
        ([{}], "no column can hold struct"),
        ([Decimal(10) ** 50], "no column can hold decimal256"),
        (np.array([1], "M8[ns]"), "times are kept in microseconds"),
        ([object()], "no common type"),
    ],
)
def test_what_no_column_can_hold_is_refused(tmp_path: Path, values: Any, match: str) -> None:
    with library(tmp_path) as db, pytest.raises(xmr.DataError, match=match):
        add(db, values)


@pytest.mark.parametrize(
    "kind", ["BIGINT", "FLOAT[3]", "VARCHAR[][]", "DECIMAL(9,2)", 'STRUCT("a b" TIME, "c""" STRUCT("d" BLOB)[])[]']
)
def test_types_are_written_as_they_were_read(kind: str) -> None:
    assert sql_type(arrow_type(kind)) == kind


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "INT; DROP TABLE t",
        "VARCHAR)",
        "STRUCT(a)",
        "STRUCT()",
        "DECIMAL(99,2)",
        "DECIMAL(a,b)",
        "[]",
        "TIME TIME",
        "STRUCT(a " * 99 + "TIME" + ")" * 99,
    ],
)
def test_what_is_no_type_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        arrow_type(kind)


def test_nothing_holds_texts_and_numbers() -> None:
    assert wider(pa.string(), pa.int64()) is None
    assert plain_type(pa.duration("s")) is None


@pytest.mark.parametrize(
    "values",
    [
        [np.datetime64("2024-05-01", "s"), np.float32(1)],
        [[np.datetime64("NaT"), np.float16(1)]],
        [{"a": [np.datetime64("NaT"), np.float64(1)]}],
        [Decimal("1E+999999999")],
        [[Decimal("1E-999999999"), 1]],
    ],
    ids=repr,
)
def test_what_pyarrow_would_crash_or_hang_on_is_refused(tmp_path: Path, values: list[Any]) -> None:
    with library(tmp_path) as db, pytest.raises(xmr.DataError, match="own"):
        add(db, values)


def test_a_missing_time_before_a_number_of_numpy_is_missing(tmp_path: Path) -> None:
    with library(tmp_path) as db:
        add(db, [np.datetime64("NaT"), np.float16(1)])  # pyarrow 26 crashes on it
        assert kept(db) == [None, 1.0]
