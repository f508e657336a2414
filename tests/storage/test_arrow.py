"""Codes and states survive the way into typed columns and back, whatever their layout."""

from __future__ import annotations

import numpy as np
import pytest

import xmr_core as xmr
from xmr_storage.arrow import array_of_blob, blob_of_array, codes_of_table, table_of_codes
from xmr_storage.duckdb import macros


@pytest.mark.parametrize(
    "layout",
    [
        *(xmr.Layout("bits", bits, 1) for bits in (8, 16, 32, 64, 72, 128, 256)),
        xmr.Layout("pq", 8, 8),
        xmr.Layout("pq", 5, 4),
        xmr.Layout("pq", 3, 12),
        xmr.Layout("lattice", 24, 64),
        xmr.Layout("lattice", 24, 14),
        xmr.Layout("float", 7, 32),
    ],
    ids=lambda layout: f"{layout.kind}{layout.dim}x{layout.symbol_bits}",
)
def test_codes_come_back_bit_for_bit(layout: xmr.Layout) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (40, layout.nbytes), dtype=np.uint8)
    if layout.kind == "float":
        values = rng.normal(size=(40, layout.dim)).astype("<f4").view(np.uint8)
    codes = xmr.Codes(np.arange(0, 120, 3), values, layout)
    table = table_of_codes(codes, "image")
    assert table.column_names[2:] == [name for name, _ in macros.code_columns(layout)]
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
