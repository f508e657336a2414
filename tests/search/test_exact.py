"""Exact selection: ascending, ties to the smaller id, padded; against a plain sort."""

from __future__ import annotations

import numpy as np
import pytest

import xmr_core as xmr
from xmr_core.search.hits import check_search, positions_of, select


def plain(distances: np.ndarray, ids: np.ndarray, k: int) -> list[int]:
    order = sorted(range(len(ids)), key=lambda i: (distances[i], ids[i]))
    found = [int(ids[i]) for i in order if np.isfinite(distances[i]) and ids[i] >= 0][:k]
    return found + [-1] * (k - len(found))


@pytest.mark.parametrize("k", [1, 3, 10, 50, 60])
def test_it_is_a_sort_by_distance_then_id(k: int) -> None:
    rng = np.random.default_rng(k)
    distances = rng.integers(0, 6, (20, 50)).astype(np.float32)  # many ties
    ids = rng.permutation(1000)[:50]
    hits = select(distances, ids, k)
    assert hits.ids.tolist() == [plain(row, ids, k) for row in distances]


def test_ids_may_differ_by_row_and_minus_one_is_nothing() -> None:
    hits = select(np.array([[1, 0, 2]], np.float32), np.array([[7, -1, 3]]), 3)
    assert hits.ids.tolist() == [[7, 3, -1]]
    assert hits.distances.tolist() == [[1, 2, np.inf]]


def test_within_is_inclusive_and_without_k_gives_all() -> None:
    hits = select(np.array([[3, 1, 2], [9, 9, 1]], np.float32), np.arange(3), None, within=2)
    assert hits.ids.tolist() == [[1, 2], [2, -1]]


def test_positions_of_leaves_out_what_is_not_there() -> None:
    ids = np.array([2, 4, 8], np.int64)
    assert positions_of(ids, np.array([9, 4, 1, 2, 4])).tolist() == [0, 1]
    assert positions_of(ids[:0], np.array([1])).tolist() == []


@pytest.mark.parametrize(("k", "within"), [(None, None), (0, None), (None, np.nan)])
def test_a_search_for_nothing_is_refused(k: int | None, within: float | None) -> None:
    with pytest.raises(xmr.DataError):
        check_search(k, within)


@pytest.mark.parametrize("step", [1, 3, 100], ids=["no gap", "gaps", "many gaps"])
@pytest.mark.parametrize("share", [0.9, 0.3, 0.01])
def test_positions_of_are_those_of_the_ids_in_common(step: int, share: float) -> None:
    rng = np.random.default_rng(0)
    ids = np.arange(50, 350, step) if step < 100 else np.cumsum(rng.integers(1, step, 300))
    among = np.flatnonzero(rng.random(int(ids[-1]) + 100) < share)
    assert positions_of(ids, among).tolist() == np.flatnonzero(np.isin(ids, among)).tolist()
    ends = np.array([0, np.iinfo(np.int64).max])
    assert positions_of(ends, np.array([5, ends[1]])).tolist() == [1]
