"""Vectors that were made elsewhere: passed on unchanged, or refused with the keys at fault."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xmr_core as xmr
from xmr_core.testing import conformance, ready_made
from xmr_precomputed import Precomputed

TestPrecomputed = conformance("encoder", "precomputed", config={"dim": 32}, samples=ready_made(dim=32))


def encoded(data: Any, modality: str = xmr.IMAGE, keys: tuple[str, ...] = ()) -> Any:
    return Precomputed(dim=3).encode(xmr.Items(modality, data, keys)).vectors


@pytest.mark.parametrize("modality", [xmr.IMAGE, xmr.TEXT])
def test_vectors_come_out_as_they_went_in(modality: str) -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(encoded(vectors, modality), vectors)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64, np.uint8])
def test_other_types_of_number_become_float32(dtype: type) -> None:
    vectors = encoded(np.arange(6).reshape(2, 3).astype(dtype))
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, [[0, 1, 2], [3, 4, 5]])


def test_arrays_that_are_not_contiguous_are_taken() -> None:
    wide = np.arange(12.0).reshape(2, 6)
    np.testing.assert_array_equal(encoded(wide[:, ::2]), wide[:, ::2])


def test_a_list_of_rows_is_taken() -> None:
    np.testing.assert_array_equal(encoded([[1, 2, 3], np.array([4.0, 5, 6])]), [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize("bad", [[1, 2], [1, 2, 3, 4], "dog", b"\xff\xd8", [[1, 2, 3]], [True, False, True]])
def test_what_is_no_vector_of_that_width_is_refused_by_key(bad: object) -> None:
    with pytest.raises(xmr.DataError, match=r"1 of 2 images are no vectors of 3 numbers but .*: 'b'") as raised:
        encoded([[1, 2, 3], bad], keys=("a", "b"))
    assert raised.value.keys == ("b",)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_in_float32_are_refused_by_key(bad: float) -> None:
    with pytest.raises(xmr.DataError, match="hold NaN or infinity: 'b'") as raised:
        encoded([[1, 2, 3], [1, bad, 3]], keys=("a", "b"))
    assert raised.value.keys == ("b",)


def test_the_metric_is_the_one_it_is_told() -> None:
    assert Precomputed(dim=3).metric == "cosine"
    assert Precomputed(dim=3, metric="l2").encode(xmr.Items(xmr.TEXT, np.ones((1, 3)))).metric == "l2"


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(xmr.ConfigError, match="dim=0"):
        Precomputed(dim=0)
    with pytest.raises(xmr.ConfigError, match="metric='hamming': must be one of cosine, ip, l2"):
        Precomputed(dim=3, metric="hamming")
