"""Hamming search, held against counted bits in a stable sort."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

import xmr_core as xmr
import xmr_hamming
from xmr_core.testing import conformance
from xmr_hamming import Hamming

TestHamming = conformance("indexer", Hamming)

WIDTHS = [8, 16, 24, 32, 64, 128, 160, 256, 512]


def made(bits: int, n: int = 3000) -> tuple[xmr.Codes, xmr.Embeddings]:
    """Random codes with ids that are no positions, and queries."""
    values = np.random.default_rng(bits).integers(0, 256, (n + 20, bits // 8), dtype=np.uint8)
    return Hamming().encode(xmr.Embeddings(values[20:], "hamming"), np.arange(n) * 5 + 2), xmr.Embeddings(
        values[:20], "hamming"
    )


def counts(queries: xmr.Embeddings, codes: xmr.Codes) -> NDArray[np.int64]:
    bits, others = xmr.unpack_bits(queries.values), xmr.unpack_bits(codes.values)
    differing: NDArray[np.int64] = np.stack([(row != others).sum(axis=1) for row in bits])
    return differing


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("k", [1, 10, 29, 31, 500, 3000, 4000])  # by faiss up to 30, by sorting from there
def test_hits_are_a_stable_sort_of_counted_bits(bits: int, k: int) -> None:
    codes, queries = made(bits)
    hits, far = Hamming().build(codes).search(queries, k), counts(queries, codes)
    order = np.argsort(far, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(hits.ids[:, :3000], codes.ids[order])
    np.testing.assert_array_equal(hits.distances[:, :3000], np.take_along_axis(far, order, axis=1))
    assert (hits.ids[:, 3000:] == -1).all() and np.isposinf(hits.distances[:, 3000:]).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_faiss_by_counting_gives_ties_to_the_smaller_position(threads: int) -> None:
    codes = np.random.default_rng(0).integers(
        0, 4, (200_000, 2), dtype=np.uint8
    )  # more than one block of faiss, 5 bits
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        _, places = faiss.knn_hamming(codes[:3], codes, 100, variant="mc")
    finally:
        faiss.omp_set_num_threads(before)
    order = np.argsort(xmr_hamming.hamming_counts(codes[:3], codes), axis=1, kind="stable")
    np.testing.assert_array_equal(places, order[:, :100])


@pytest.mark.parametrize("radius", [-1, 0, 20, 27.5, 64, 1e9])
@pytest.mark.parametrize("among", [None, np.arange(0, 9000, 4)])
def test_a_radius_gives_all_that_differ_in_no_more_bits(radius: float, among: NDArray[np.int64] | None) -> None:
    codes, queries = made(64)
    hits, far = Hamming().build(codes).search(queries, None, within=radius, among=among), counts(queries, codes)
    for row in range(len(queries)):
        near = far[row] <= radius
        if among is not None:
            near &= np.isin(codes.ids, among)
        order = np.lexsort((codes.ids[near], far[row][near]))
        np.testing.assert_array_equal(hits.ids[row][hits.ids[row] >= 0], codes.ids[near][order])


def test_a_radius_cuts_the_nearest() -> None:
    codes, queries = made(64)
    hits, whole = (Hamming().build(codes).search(queries, 10, within=within) for within in (18, None))
    np.testing.assert_array_equal(hits.ids, np.where(whole.distances <= 18, whole.ids, -1))


@pytest.mark.parametrize("k", [3, 300, None])
def test_blocks_of_queries_change_nothing(k: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    codes, queries = made(64)
    index = Hamming().build(codes)
    want = index.search(queries, k, within=25)
    monkeypatch.setattr(xmr_hamming, "BLOCK", 7000)
    monkeypatch.setattr(xmr_hamming, "COUNTERS", 1000)
    monkeypatch.setattr(xmr_hamming, "LOOKUPS", 3)
    np.testing.assert_array_equal(index.search(queries, k, within=25).ids, want.ids)


def test_queries_of_another_width_are_refused() -> None:
    codes, _ = made(64, 10)
    with pytest.raises(xmr.DataError, match="expected queries of 64 bits, got 32"):
        Hamming().build(codes).search(xmr.Embeddings(np.zeros((1, 4), np.uint8), "hamming"), 3)


def test_vectors_are_refused() -> None:
    with pytest.raises(xmr.SpaceMismatchError, match="hamming compares hamming, the query has cosine"):
        Hamming().encode(xmr.Embeddings(np.ones((1, 8), np.float32), "cosine"), np.arange(1))
