"""The values that flow: what they take, what they refuse, how bits lie."""

from __future__ import annotations

import numpy as np
import pytest

import xmr_core as xmr
from xmr_core.options import as_float, as_int
from xmr_core.types import as_bits, as_vectors


def test_bit_i_is_bit_i_of_the_little_endian_word() -> None:
    signs = np.zeros((3, 64), bool)
    signs[0, 0] = signs[1, 13] = signs[2, 63] = True
    words = xmr.pack_bits(signs).view("<u8")[:, 0]
    assert words.tolist() == [1, 1 << 13, 1 << 63]


def test_packing_and_unpacking_are_inverse() -> None:
    signs = np.random.default_rng(0).random((50, 40)) > 0.5
    assert (xmr.unpack_bits(xmr.pack_bits(signs)) == signs).all()
    with pytest.raises(xmr.DataError, match="multiple of 8"):
        xmr.pack_bits(signs[:, :7])


def test_vectors_are_made_float32_contiguous_and_finite() -> None:
    strided = np.arange(24, dtype=np.float64).reshape(4, 6)[:, ::2]
    vectors = as_vectors(strided)
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    assert vectors.tolist() == strided.tolist()
    assert as_vectors([1, 2]).shape == (1, 2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1.0, np.inf]], "1 of 1 rows hold NaN or infinity"),
        ([[1e300, 0.0]], "NaN or infinity"),
        (np.ones((1, 2, 3)), r"shape \(n, d\)"),
        ([["a"]], "expected numbers"),
        ([[1.0]], "expected 2 dimensions, got 1"),
    ],
)
def test_vectors_that_cannot_be_used_are_refused(values: object, message: str) -> None:
    with pytest.raises(xmr.DataError, match=message):
        as_vectors(values, dim=2)


def test_bits_must_be_packed() -> None:
    with pytest.raises(xmr.DataError, match="pack_bits makes them"):
        as_bits(np.ones((2, 64)))
    with pytest.raises(xmr.DataError, match=r"expected 64 bits \(8 bytes\), got 16 bits"):
        as_bits(np.ones((2, 2), np.uint8), bits=64)


def test_columns_of_items_must_have_one_length() -> None:
    with pytest.raises(xmr.DataError, match="metadata 'split': expected 2, one for each text, got 1"):
        xmr.Items("text", ["a", "b"], metadata={"split": ["train"]})
    with pytest.raises(xmr.DataError, match="keys: expected 2"):
        xmr.Items("text", ["a", "b"], ["k"])


def test_links_must_point_at_items() -> None:
    sides = xmr.Items("image", ["a.jpg"]), xmr.Items("text", ["a"])
    with pytest.raises(xmr.DataError, match="links"):
        xmr.Pairs(*sides, np.array([[0, 1]]))


def test_codes_are_ascending_and_as_wide_as_their_layout() -> None:
    layout = xmr.Layout.bits(16)
    with pytest.raises(xmr.DataError, match="ascending"):
        xmr.Codes(np.array([2, 1]), np.zeros((2, 2), np.uint8), layout)
    with pytest.raises(xmr.DataError, match="expected uint8"):
        xmr.Codes(np.array([1, 2]), np.zeros((2, 3), np.uint8), layout)


def test_vectors_survive_being_codes() -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    codes = xmr.Codes.of_vectors(np.arange(5), vectors)
    assert codes.layout.nbytes == 12
    assert (codes.vectors == vectors).all()


def test_bits_are_not_fused_further() -> None:
    with pytest.raises(xmr.DataError, match="cannot be fused"):
        xmr.Embeddings(np.zeros((1, 8), np.uint8), "hamming").as_features("image")


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3)])
def test_a_whole_number_may_be_counted_by_anyone(value: object) -> None:
    assert type(as_int(value, "k", 1)) is int
    assert as_int(value, "k", 1, 3) == 3


@pytest.mark.parametrize("value", [True, np.True_, 3.0, np.float64(3), "3", None, np.arange(3), -1, 9])
def test_what_is_no_whole_number_in_range_is_refused_by_name(value: object) -> None:
    with pytest.raises(xmr.ConfigError, match=r"^rows=.*: must be a whole number, from 0 to 8$"):
        as_int(value, "rows", 0, 8, xmr.ConfigError)


def test_a_finite_number_is_cut_to_float32() -> None:
    assert [as_float(value, "x") for value in (2, np.float32(0.5), np.int8(-3))] == [2.0, 0.5, -3.0]
    assert as_float(-1e300, "x") == -float(np.finfo(np.float32).max)
    for value in (True, "2", None, np.nan, np.inf, 10**400):
        with pytest.raises(xmr.DataError, match=r"^x="):
            as_float(value, "x")


def test_embeddings_under_another_metric_have_the_same_values() -> None:
    vectors = xmr.Embeddings(np.eye(3, dtype=np.float32), "l2")
    other = vectors.under("ip")
    assert other.metric == "ip" and other.values is vectors.values and vectors.metric == "l2"
    assert vectors.under("l2") is vectors
    with pytest.raises(xmr.DataError, match="expected packed bits"):
        vectors.under("hamming")
