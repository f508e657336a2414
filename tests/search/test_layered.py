"""An index that keeps up answers as one that is built over what is there now, for every indexer."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.registry import component
from xmr_core.search.layered import LEAST, Layered
from xmr_core.search.selection import Remembered, Selection
from xmr_core.search.vector_indexer import ScanIndex
from xmr_core.testing import clustered
from xmr_flat import Flat

sys.path.append(str(Path(__file__).parents[1] / "third_party" / "xmr-nearby"))

from xmr_nearby import Pivots  # a package that is not installed

sys.path.pop()

N, DIM, K = 600, 16, 10
RECIPES = {
    "flat": {},
    "hamming": {},
    "hnsw": {"m": 8},
    "kdtree": {},
    "lattice": {},
    "lattice_cached": {"cache": True},
    "lsh": {"tables": 4, "planes": 3},
    "pivots": {},
    "pq": {"bytes": 4, "bits": 8},
    "pq_lists": {"bytes": 4, "lists": 8},
    "pq_fast": {"bytes": 4, "bits": 4, "fast": True},
}
STRANGERS: dict[str, type[xmr.Indexer]] = {"pivots": Pivots}


def kind_of(name: str) -> type[xmr.Indexer]:
    """A built-in indexer, or that of a third-party package."""
    return STRANGERS[name] if name in STRANGERS else type(component("indexer", name.partition("_")[0]))  # type: ignore[return-value]  # by its role


def indexers() -> list[tuple[str, xmr.Metric]]:
    """Every indexer that is installed, under every metric it takes."""
    found: list[tuple[str, xmr.Metric]] = []
    for name in RECIPES:
        if name.startswith("hnsw"):
            pytest.importorskip("hnswlib", reason="the graph is an extra")
        made = kind_of(name)
        found += [(name, metric) for metric in ("l2", "ip", "cosine", "hamming") if metric in made.metrics]
    return found


@dataclass
class Story:
    """An indexer, the points it may be given, and what a library would hold now: the code of each id."""

    indexer: xmr.Indexer
    points: xmr.Embeddings
    there: dict[int, int] = field(default_factory=dict)  # id -> row of `points`

    def codes(self, ids: NDArray[np.int64]) -> xmr.Codes:
        rows = np.array([self.there[number] for number in ids.tolist()], np.int64)
        return self.indexer.encode(self.points.take(rows), ids)

    def all(self) -> xmr.Codes:
        return self.codes(np.array(sorted(self.there), np.int64))


def story(name: str, metric: xmr.Metric) -> Story:
    points = clustered(metric, 2 * N, 64 if metric == "hamming" else 24 if name.startswith("lattice") else DIM, 30)
    points.values[N : N + 40] = points.values[:40]  # equals, so that there are ties
    return Story(kind_of(name)(**RECIPES[name]).fit(points), points)


def steps(tale: Story, layered: Layered, rng: np.random.Generator) -> str:
    """One change at random: what a library tells its index, and what it holds from then on."""
    there, top = np.array(sorted(tale.there), np.int64), max(tale.there, default=-1)
    what = rng.choice(["one more", "many more", "in between", "replace", "delete", "delete and add", "nothing"])
    gone = came = np.empty(0, np.int64)
    if what in ("one more", "many more", "delete and add"):
        came = top + 1 + np.sort(rng.choice(60, 1 if what == "one more" else 20, replace=False))
    if what == "in between":
        came = np.setdiff1d(rng.choice(top + 1, 10), there)
    if what == "replace":
        came = np.sort(rng.choice(there, min(8, len(there)), replace=False))
    if what.startswith("delete"):
        gone = np.sort(rng.choice(there, min(rng.integers(1, 40), len(there)), replace=False))
        gone = np.union1d(gone, [top + 1000])  # one that was never there
    for number in gone.tolist():
        tale.there.pop(number, None)
    for number in came.tolist():
        tale.there[number] = int(rng.integers(len(tale.points)))
    layered.update(tale.codes(came), gone)
    return what


def assert_same_hits(indexer: xmr.Indexer, hits: xmr.Hits, want: xmr.Hits, what: str) -> None:
    """Assert the hits of exact search: all of them, or as many as the indexer promises."""
    finite = np.isfinite(want.distances)
    if indexer.exact or hits.exact:
        assert hits.ids.shape == want.ids.shape, what
        np.testing.assert_allclose(hits.distances[finite], want.distances[finite], rtol=1e-5, atol=1e-3, err_msg=what)
        assert (np.isfinite(hits.distances) == finite).all(), what
    shared = [len(np.intersect1d(a[a >= 0], b[b >= 0])) for a, b in zip(hits.ids, want.ids, strict=True)]
    assert sum(shared) >= indexer.recall_floor * 0.9 * finite.sum(), what  # ties at the end may go either way
    near, far = hits.distances[:, :-1], hits.distances[:, 1:]
    assert (near <= far).all(), what
    tied = (near == far) & (hits.ids[:, :-1] >= 0)
    assert (hits.ids[:, :-1] < hits.ids[:, 1:])[tied & (hits.ids[:, 1:] >= 0)].all(), f"{what}: ties"


@pytest.mark.parametrize(("name", "metric"), indexers())
@pytest.mark.parametrize("seed", range(2))
def test_it_answers_as_exact_search_does_over_what_is_there(name: str, metric: xmr.Metric, seed: int) -> None:
    rng, tale = np.random.default_rng(seed), story(name, metric)
    tale.there = {int(number): int(rng.integers(N)) for number in np.sort(rng.choice(3 * N, N, replace=False))}
    layered = Layered(tale.indexer, tale.indexer.build(tale.all()))
    queries = tale.points.take(rng.choice(2 * N, 20))
    for number in range(9):
        what = f"step {number}: {steps(tale, layered, rng)}"
        codes = tale.all()
        exact = xmr.ExactIndex(tale.indexer, codes)
        assert len(layered) == len(codes), what
        np.testing.assert_array_equal(layered.codes.ids, codes.ids, err_msg=what)
        np.testing.assert_array_equal(layered.codes.values, codes.values, err_msg=what)
        truth = exact.search(queries, K)
        radius = float(np.median(truth.distances[:, -1]))
        some = np.sort(rng.choice(codes.ids, len(codes) // 3, replace=False))
        for asked in ({"k": K}, {"k": K, "among": some}, {"k": K, "within": radius}, {"k": len(codes) + 5}):
            hits, want = layered.search(queries, **asked), exact.search(queries, **asked)
            assert_same_hits(tale.indexer, hits, want, f"{what}, {list(asked)}")
            missing = (want.ids >= 0).sum(axis=1) - (hits.ids >= 0).sum(axis=1)
            assert "within" in asked or not missing.any(), f"{what}, {list(asked)}: too few hits"
        chosen = Selection(some)
        for _ in range(2):
            again = layered.search(queries, K, among=chosen)
            assert np.isin(again.ids[again.ids >= 0], some).all(), what
        assert_same_hits(
            tale.indexer, layered.search(queries, None, radius), exact.search(queries, None, radius), f"{what}, within"
        )


def flat(n: int) -> tuple[xmr.Indexer, xmr.Codes]:
    points = clustered("l2", n, 4)
    fitted = Flat().fit(points)
    return fitted, fitted.encode(points, np.arange(n))


def test_deleting_all_that_is_near_does_not_shorten_the_hits() -> None:
    indexer, codes = flat(500)
    queries = xmr.Embeddings(codes.vectors[:3], "l2")
    layered = Layered(indexer, indexer.build(codes))
    near = np.unique(indexer.build(codes).search(queries, 150).ids)
    layered.update(codes.take(slice(0, 0)), near)
    kept = codes.take(np.setdiff1d(codes.ids, near))
    np.testing.assert_array_equal(layered.search(queries, 10).ids, indexer.build(kept).search(queries, 10).ids)


def test_an_emptied_index_finds_nothing_and_is_filled_again() -> None:
    indexer, codes = flat(20)
    queries = xmr.Embeddings(codes.vectors[:3], "l2")
    layered = Layered(indexer, indexer.build(codes.take(slice(0, 10))))
    layered.update(codes.take(slice(0, 0)), codes.ids)
    assert len(layered) == 0
    assert (layered.search(queries, 5).ids == -1).all()
    assert layered.search(queries, None, 100.0).ids.shape == (3, 0)
    layered.update(codes, codes.ids[:0])
    np.testing.assert_array_equal(layered.search(queries, 5).ids, indexer.build(codes).search(queries, 5).ids)


def test_it_is_due_when_more_than_a_tenth_has_changed() -> None:
    indexer, codes = flat(20 * LEAST)
    layered = Layered(indexer, indexer.build(codes))
    layered.update(codes.take(slice(0, 0)), codes.ids[: 2 * LEAST])
    assert not layered.due
    layered.update(codes.take(slice(0, 0)), codes.ids[2 * LEAST : 2 * LEAST + 1])
    assert layered.due


# codes that grow


def test_codes_grow_without_moving_and_older_ones_stay_as_they_were() -> None:
    _, codes = flat(3000)
    first = codes.take(slice(0, 1000)).extended(codes.take(slice(1000, 1001)))
    second = first.extended(codes.take(slice(1001, 1500)))
    other = first.extended(codes.take(slice(2000, 2001)))  # the room behind `first` is taken
    assert np.shares_memory(first.values, second.values)
    assert not np.shares_memory(first.values, other.values)
    np.testing.assert_array_equal(first.ids, codes.ids[:1001])
    np.testing.assert_array_equal(second.ids, codes.ids[:1500])
    np.testing.assert_array_equal(second.values, codes.values[:1500])
    np.testing.assert_array_equal(other.ids[-1:], [2000])


def test_codes_take_in_larger_ids_of_the_same_layout_alone() -> None:
    _, codes = flat(10)
    with pytest.raises(xmr.DataError, match="larger ids"):
        codes.extended(codes.take(slice(3, 4)))
    wider = xmr.Codes.of_vectors(np.array([99]), np.zeros((1, 5), np.float32))
    with pytest.raises(xmr.DataError, match="same layout"):
        codes.extended(wider)


# filters that come again


class Counting(ScanIndex):
    """Counts how often it gathers the vectors of a filter."""

    gathered = 0

    def _exhaustive(self, queries, k, within, positions):  # type: ignore[no-untyped-def]  # as the base
        before = self.filtered.size
        hits = super()._exhaustive(queries, k, within, positions)
        self.gathered += positions is not None and self.filtered.size != before
        return hits


def test_a_selection_is_gathered_once_and_a_list_of_ids_each_time_until_the_index_grows() -> None:
    indexer, codes = flat(100)
    index = Counting(indexer, codes.take(slice(0, 90)))  # type: ignore[arg-type]  # a Flat
    queries, chosen = xmr.Embeddings(codes.vectors[:1], "l2"), Selection(codes.ids[::2])
    want = index.search(queries, 50, among=codes.ids[::2])
    assert index.gathered == 0
    for _ in range(3):
        np.testing.assert_array_equal(index.search(queries, 50, among=chosen).ids, want.ids)
    assert index.gathered == 1
    index.extend(codes.take(slice(90, 100)))
    assert (index.search(queries, 50, among=chosen).ids >= 0).all()
    assert index.gathered == 2


def test_what_is_remembered_goes_with_its_array_and_when_there_is_too_much() -> None:
    remembered: Remembered[NDArray[np.int64]] = Remembered(limit=100)
    arrays = [np.arange(number, number + 5) for number in range(3)]
    for array in arrays:
        array.flags.writeable = False
        remembered.of(array, lambda array=array: array + 1)  # type: ignore[misc]  # bound now
    assert remembered.size == 80
    made = remembered.of(arrays[2], lambda: pytest.fail("it was remembered"))
    np.testing.assert_array_equal(made, arrays[2] + 1)
    del arrays, array
    assert remembered.size == 0


def test_a_selection_leaves_its_ids_alone_and_takes_them_in_any_order() -> None:
    given = np.array([5, 3, 3, 9])
    selection = Selection(given)
    given[0] = 7
    np.testing.assert_array_equal(selection.ids, [3, 5, 9])
    with pytest.raises(xmr.DataError, match="whole numbers"):
        Selection(np.array([0.5]))
