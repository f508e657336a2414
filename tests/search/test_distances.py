"""True distances by the book, and the scan that proves itself exact."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from xmr_core.search import distances as module
from xmr_core.search.distances import Scan, distances, hamming_counts, own_distances, pair_distances, reach, unit
from xmr_core.search.hits import empty_hits, hits_of_pairs, select, stacked
from xmr_core.testing import clustered
from xmr_core.types import Hits, Metric, unpack_bits

REAL = Path(os.environ.get("XMR_DATA") or Path(__file__).parents[3] / "shared" / "data")
METRICS: tuple[Metric, ...] = ("l2", "ip", "cosine")
Floats = NDArray[np.float32]


@pytest.fixture
def vectors() -> Floats:
    values: Floats = clustered("l2", 600, 24).values
    values[300:320] = values[:20]
    return values


def by_the_book(a: NDArray[Any], b: NDArray[Any], metric: Metric) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    if metric == "l2":
        return float(np.linalg.norm(a - b))
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return float(-(a @ b) if metric == "ip" else 1 - (a @ b / lengths if lengths else 0))


def plainly(
    queries: Floats, vectors: Floats, ids: NDArray[np.int64], metric: Metric, k: Any, within: Any = None
) -> Hits:
    return select(distances(queries, vectors, metric), ids, k, within)


def assert_same(hits: Hits, want: Hits) -> None:
    np.testing.assert_array_equal(hits.ids, want.ids)
    np.testing.assert_array_equal(hits.distances, want.distances)


# distances


@pytest.mark.parametrize("metric", METRICS)
def test_distances_are_those_of_the_book(metric: Metric, vectors: Floats) -> None:
    want = [[by_the_book(a, b, metric) for b in vectors[:50]] for a in vectors[50:60]]
    np.testing.assert_allclose(distances(vectors[50:60], vectors[:50], metric), want, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("metric", METRICS)
def test_pairs_have_the_distances_of_the_table(metric: Metric, vectors: Floats) -> None:
    rows, places = np.arange(60).repeat(600), np.tile(np.arange(600), 60)
    pairs = pair_distances(vectors[:60], vectors, rows, places, metric)
    np.testing.assert_array_equal(pairs.reshape(60, 600), distances(vectors[:60], vectors, metric))


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("offset", [0, 1000])
def test_a_vector_is_at_zero_from_itself(metric: Metric, offset: float, vectors: Floats) -> None:
    moved = (vectors + offset).astype(np.float32)
    assert (np.diagonal(distances(moved, moved, metric)) == 0).all()


def test_near_vectors_far_from_the_origin_keep_their_distance() -> None:
    a, b = np.full((1, 3), 1000, np.float32), np.full((1, 3), 1000, np.float32)
    b[0, 0] += 0.125
    assert distances(a, b, "l2") == 0.125


def test_parallel_vectors_are_at_cosine_zero() -> None:
    counts = np.random.default_rng(0).integers(0, 9, (200, 24)).astype(np.float32)
    assert (np.diagonal(distances(counts, 3 * counts, "cosine")) == 0).all()


def test_a_zero_vector_is_at_cosine_one_from_everything_and_itself() -> None:
    values = np.array([[0, 0], [3, 4]], np.float32)
    np.testing.assert_array_equal(distances(values, values, "cosine"), [[1, 1], [1, 0]])
    assert pair_distances(values, values, np.array([0]), np.array([0]), "cosine") == 1


def test_unit_vectors_keep_their_direction_and_zeros() -> None:
    np.testing.assert_allclose(unit(np.array([[3, 4], [0, 0]], np.float32)), [[0.6, 0.8], [0, 0]], rtol=1e-7)


# hits


def test_pairs_become_hits_in_order_with_ties_to_the_smaller_id() -> None:
    rows, ids = np.array([1, 1, 1, 0]), np.array([9, 4, 5, 7])
    hits = hits_of_pairs(3, rows, ids, np.array([2, 2, 1, 3], np.float32), 2)
    np.testing.assert_array_equal(hits.ids, [[7, -1], [5, 4], [-1, -1]])
    np.testing.assert_array_equal(hits.distances, [[3, np.inf], [1, 2], [np.inf, np.inf]])


def test_all_pairs_are_hits_where_no_k_is_given() -> None:
    hits = hits_of_pairs(2, np.array([0, 1, 1]), np.array([3, 2, 1]), np.zeros(3, np.float32), None)
    np.testing.assert_array_equal(hits.ids, [[3, -1], [1, 2]])


def test_stacked_hits_are_as_wide_as_the_widest() -> None:
    one = Hits(np.array([[1, 2]]), np.zeros((1, 2), np.float32), True)
    hits = stacked([empty_hits(1, 0), one], None)
    np.testing.assert_array_equal(hits.ids, [[-1, -1], [1, 2]])
    assert hits.exact


# scan


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("cells", [1 << 22, 500])  # one block, and many
@pytest.mark.parametrize("k", [1, 10, 700, None])
def test_a_scan_finds_what_all_distances_sorted_give(
    metric: Metric, cells: int, k: int | None, vectors: Floats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CELLS", cells)
    ids = np.random.default_rng(0).permutation(600)
    within = None if k else float(np.median(distances(vectors[:20], vectors, metric)))
    hits = Scan(vectors, ids, metric).search(vectors[:20], k, within)
    assert hits.exact
    assert_same(hits, plainly(vectors[:20], vectors, ids, metric, k, within))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [5, None])
def test_a_scan_keeps_to_its_radius(metric: Metric, k: int | None, vectors: Floats) -> None:
    scan, far = Scan(vectors, np.arange(600), metric), distances(vectors[:9], vectors, metric)
    for within in (float(far.min()) - 1, float(np.sort(far, axis=1)[:, 3].mean()), float(far.max())):
        assert_same(scan.search(vectors[:9], k, within), plainly(vectors[:9], vectors, scan.ids, metric, k, within))


@pytest.mark.parametrize("few", [0, 1 << 15], ids=["float32 first", "all in float64"])
@pytest.mark.parametrize("metric", METRICS)
def test_a_scan_for_one_query_finds_what_all_distances_sorted_give(
    metric: Metric, few: int, vectors: Floats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FEW", few)
    vectors[40:44] = 0
    ids = np.random.default_rng(1).permutation(600).astype(np.int64)
    for row in (3, 41, 310):
        query = vectors[row : row + 1]
        far = np.sort(distances(query, vectors, metric)[0])
        for k, within in ((1, None), (25, None), (700, None), (25, float(far[7]))):
            hits = Scan(vectors, ids, metric).search(query, k, within)
            assert hits.exact
            assert_same(hits, plainly(query, vectors, ids, metric, k, within))


@pytest.mark.parametrize("chunk", [1 << 17, 100], ids=["at once", "in blocks"])
@pytest.mark.parametrize("metric", METRICS)
def test_candidates_of_their_own_have_the_distances_of_pairs(
    metric: Metric, chunk: int, vectors: Floats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    vectors[5], before = 0, vectors.copy()
    places = np.random.default_rng(0).integers(0, 600, (9, 7))
    places[:, 0], places[:, 1] = 5, np.arange(9)
    found = own_distances(vectors[:9], vectors, places, metric)
    rows = np.repeat(np.arange(9), 7)
    want = pair_distances(vectors[:9], vectors, rows, places.ravel(), metric).reshape(9, 7)
    assert found.dtype == np.float32 and np.allclose(found, want, rtol=1e-6, atol=1e-12)
    assert (vectors == before)[6:].all(), "what is compared is not changed"


@pytest.mark.parametrize("metric", METRICS)
def test_a_scan_settles_ties_of_whole_collections(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CELLS", 700)
    words = (np.random.default_rng(0).random((900, 12)) < 0.2).astype(np.float32)  # few distances, and many of each
    ids = np.random.default_rng(1).permutation(900)
    assert_same(Scan(words, ids, metric).search(words[:30], 10), plainly(words[:30], words, ids, metric, 10))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e18, 1e30])
def test_a_scan_is_exact_beyond_what_float32_can_square(metric: Metric, scale: float, vectors: Floats) -> None:
    values = (vectors * np.float32(scale)).astype(np.float32)
    with np.errstate(over="ignore"):  # an inner product of such lengths is infinite in float32
        want = plainly(values[:9], values, np.arange(600), metric, 10)
        hits = Scan(values, np.arange(600), metric).search(values[:9], 10)
    if metric != "ip" or scale < 1:
        assert_same(hits, want)


@pytest.mark.parametrize("metric", METRICS)
def test_a_scan_is_exact_where_lengths_drown_the_differences(metric: Metric, vectors: Floats) -> None:
    values = (vectors + 3000).astype(np.float32)
    hits = Scan(values, np.arange(600), metric).search(values[:9], 10)
    assert_same(hits, plainly(values[:9], values, np.arange(600), metric, 10))


def test_a_scan_among_ids_keeps_to_them(vectors: Floats) -> None:
    scan = Scan(vectors, np.arange(600) * 2, "l2")
    hits = scan.among(np.array([3, 8, 1198, 9999])).search(vectors[:1], 3)
    assert sorted(hits.ids[0]) == [-1, 8, 1198]


def test_a_scan_of_nothing_finds_nothing() -> None:
    nothing = np.zeros((0, 3), np.float32)
    assert (Scan(nothing, np.arange(0), "l2").search(np.ones((2, 3), np.float32), 4).ids == -1).all()
    assert Scan(np.ones((2, 3), np.float32), np.arange(2), "l2").search(nothing, 4).ids.shape == (0, 4)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", [3, 1000])
def test_float32_never_shows_more_than_reach_allows(metric: Metric, dim: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.lognormal(0, 2, (400, dim)).astype(np.float32)
    scan, queries = Scan(values, np.arange(400), metric), values[::10]
    squares = np.square(queries).sum(axis=1)
    shown, true = scan._shown(queries, squares, slice(None)), distances(queries, values, metric)
    for row, query in enumerate(queries):
        lengths = np.full(400, np.linalg.norm(query))
        assert (shown[row] <= reach(true[row], lengths, scan.longest, dim, metric)).all()


@pytest.mark.skipif(not (REAL / "sift").exists(), reason="the SIFT descriptors are not here")
def test_the_neighbours_of_real_descriptors_are_those_published_with_them() -> None:
    base, queries, truth = (np.load(REAL / "sift" / f"{name}.npy") for name in ("base", "query", "groundtruth"))
    scan = Scan(base.astype(np.float32), np.arange(len(base)), "l2")
    np.testing.assert_array_equal(scan.search(queries[:100].astype(np.float32), 100).ids, truth[:100])


# bits


@pytest.mark.parametrize("width", [1, 2, 3, 8, 9, 16, 31, 32, 64])
def test_hamming_counts_are_the_bits_that_differ(width: int) -> None:
    rng = np.random.default_rng(width)
    codes = rng.integers(0, 256, (50, width), dtype=np.uint8)
    codes[0], codes[1] = 0, 255  # as far as can be
    counts = hamming_counts(codes[:7], codes)
    bits = unpack_bits(codes)
    np.testing.assert_array_equal(counts, (bits[:7, None] != bits).sum(axis=2))
    assert counts[0, 1] == width * 8
