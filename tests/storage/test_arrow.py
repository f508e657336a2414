"""Codes and states survive the way into typed columns and back, whatever their layout."""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

import xmr_core as xmr
from xmr_core.types import Column
from xmr_storage.arrow import array_of_blob, blob_of_array, codes_of_table, table_of_codes
from xmr_storage.codes import columns_of


@pytest.mark.parametrize(
    "layout",
    [
        *(xmr.Layout.bits(bits) for bits in (8, 16, 32, 64, 72, 128, 256)),
        xmr.Layout.symbols(8, 8),
        xmr.Layout.symbols(5, 4),
        xmr.Layout.symbols(3, 12),
        xmr.Layout.number(24, 64),
        xmr.Layout.number(24, 14),
        xmr.Layout.vectors(7),
        xmr.Layout.opaque(11),
        xmr.Layout("mixed", (Column("c0", "uint8"), Column("norm", "float64"), Column("rest", "int16", 3)), 4),
    ],
    ids=lambda layout: f"{layout.name}{layout.dim}x{layout.nbytes}",
)
def test_codes_come_back_bit_for_bit(layout: xmr.Layout) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (40, layout.nbytes), dtype=np.uint8)
    if layout.name == "float":
        values = rng.normal(size=(40, layout.dim)).astype("<f4").view(np.uint8)
    codes = xmr.Codes(np.arange(0, 120, 3), values, layout)
    table = table_of_codes(codes, "image")
    assert table.column_names[2:] == [column.name for column in layout.columns]
    with duckdb.connect() as con:
        con.execute(f"CREATE TABLE codes ({columns_of(layout)})")
        con.register("given", table)
        con.execute("INSERT INTO codes BY NAME SELECT * FROM given")
        table = con.sql("FROM codes ORDER BY item_id").to_arrow_table()
    back = codes_of_table(table, layout)
    assert (back.values == codes.values).all()
    assert (back.ids == codes.ids).all()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int64).reshape(2, 3),
        np.array(3.5, np.float32),
        np.zeros((0, 4), np.uint8),
        np.array([True, False]),
        np.arange(4, dtype=">f8"),
        np.array(["größe", "", "a\nb"]),
        np.array([], dtype=np.str_),
    ],
    ids=str,
)
def test_a_state_comes_back_as_it_was(array: np.ndarray) -> None:
    back = array_of_blob(*blob_of_array(array))
    assert back.shape == array.shape
    assert back.dtype.kind == array.dtype.kind
    assert (back == array).all()


def test_objects_are_no_state() -> None:
    with pytest.raises(xmr.StateError, match="numbers or texts"):
        blob_of_array(np.array([object()]))
    with pytest.raises(xmr.StateError, match="damaged"):
        array_of_blob("<f4", "[3]", b"1234")


def test_a_layout_survives_json() -> None:
    layout = xmr.Layout(
        "mixed", (Column("c0", "uint8", bits=4), Column("norm", "float64"), Column("tail", "bytes", 3)), 4
    )
    assert xmr.Layout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


@pytest.mark.parametrize(
    "damaged", [{}, [], {"name": "x", "dim": 1, "columns": [{"name": "item_id", "dtype": "int8"}]}, {"name": 3}]
)
def test_a_damaged_layout_is_said_to_be(damaged: Any) -> None:
    with pytest.raises(xmr.StateError, match="layout is damaged"):
        xmr.Layout.from_json(damaged)


@pytest.mark.parametrize(
    "options",
    [
        {"name": "wanted", "dtype": "int8"},
        {"name": "A", "dtype": "int8"},
        {"name": "x); DROP TABLE y", "dtype": "int8"},
        {"name": "x", "dtype": "object"},
        {"name": "x", "dtype": "bytes"},
        {"name": "x", "dtype": "int8", "width": -1},
        {"name": "x", "dtype": "int8", "width": 1.5},
        {"name": "x", "dtype": "int8", "bits": 3},
        {"name": "x", "dtype": "uint8", "bits": 9},
    ],
    ids=str,
)
def test_columns_that_no_database_has_are_refused(options: Any) -> None:
    with pytest.raises(xmr.DataError, match="column"):
        Column(**options)


def test_numbers_that_a_row_cannot_hold_are_refused() -> None:
    with pytest.raises(xmr.DataError, match="300 takes more than 1 bytes"):
        xmr.Layout.number(3, bits=8).pack({"w0": np.array([300], np.uint64)})
    with pytest.raises(xmr.DataError, match="expected Column"):
        xmr.Layout.vectors(3).pack({"vector": np.zeros((2, 4), np.float32)})


def test_no_codes_are_packed_as_no_rows() -> None:
    layout = xmr.Layout("mixed", (Column("c0", "uint8"), Column("rest", "int16", 3)), 4)
    nothing = layout.pack({"c0": np.empty(0, np.int64), "rest": np.empty((0, 3))})
    assert nothing.shape == (0, 7)


def test_what_was_inserted_is_not_held_until_the_commit(tmp_path: Path) -> None:
    with xmr.open(tmp_path / "a.duckdb", progress=False) as db, db.store.transaction():
        vectors = np.ones((1000, 8), np.float32)
        held = weakref.ref(vectors)
        db.store.put_features("trial", np.arange(1000), vectors)
        del vectors
        assert held() is None
        assert db.store.get_features("trial", np.arange(1000))[1].sum() == 8000
