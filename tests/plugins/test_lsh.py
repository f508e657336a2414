"""Hash tables, probing, and what theory says they find."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.testing import clustered, conformance
from xmr_lsh import Lsh, LshIndex, on_sphere
from xmr_lsh.tables import Tables, keys_of, probed

TestLsh = conformance("indexer", Lsh)
TestLshByItq = conformance("indexer", Lsh, config={"rotation": "itq"})
TestLshThroughTheOrigin = conformance("indexer", Lsh, config={"tables": 16, "planes": 6, "centre": False})

Floats = NDArray[np.float32]


def pairs_at(angle: float, n: int = 4000, dim: int = 64) -> tuple[Floats, Floats]:
    """n random directions, and for each another at that angle."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, n, dim))
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    b -= (a * b).sum(axis=1, keepdims=True) * a
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    return a.astype(np.float32), (np.cos(angle) * a + np.sin(angle) * b).astype(np.float32)


def built(embeddings: xmr.Embeddings, **options: object) -> tuple[Lsh, LshIndex]:
    fitted = Lsh(**options).fit(embeddings)
    index = fitted.build(fitted.encode(embeddings, np.arange(len(embeddings))))
    assert isinstance(index, LshIndex)
    return fitted, index


def candidates(lsh: Lsh, index: LshIndex, queries: Floats, probes: int) -> list[NDArray[np.int64]]:
    assert index.tables is not None
    items, limits = index.tables.candidates(lsh.probing(queries, index.scan.longest), probes)
    return np.split(items, limits[1:-1])


def recall(index: LshIndex, queries: xmr.Embeddings) -> float:
    found, truth = index.search(queries, 10).ids, index.scan.search(queries.values, 10).ids
    return float(np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(found, truth, strict=True)]))


# theory


@pytest.mark.parametrize("angle", [0.2, 0.8, 1.5, 2.5])
def test_two_vectors_share_a_bit_as_often_as_their_angle_says(angle: float) -> None:
    a, b = pairs_at(angle)
    lsh = Lsh(tables=16, planes=8, centre=False).fit(xmr.Embeddings(a, "cosine"))
    same = (lsh.probing(a, 1) >= 0) == (lsh.probing(b, 1) >= 0)
    assert same.mean() == pytest.approx(1 - angle / np.pi, abs=0.01)


@pytest.mark.parametrize(("tables", "planes"), [(1, 8), (4, 8), (8, 12)])
def test_planted_neighbours_are_found_as_often_as_the_closed_form_says(tables: int, planes: int) -> None:
    angle = 0.5
    items, queries = pairs_at(angle)
    lsh, index = built(xmr.Embeddings(items, "cosine"), tables=tables, planes=planes, centre=False)
    found = [row in near for row, near in enumerate(candidates(lsh, index, queries, 1))]
    expected = 1 - (1 - (1 - angle / np.pi) ** planes) ** tables
    assert np.mean(found) == pytest.approx(expected, abs=0.03)


def test_with_one_probe_candidates_are_those_that_share_a_bucket() -> None:
    points = clustered("cosine", 500)
    lsh, index = built(points, tables=3, planes=6)
    keys = keys_of(lsh.probing(points.values, 1))
    for row, near in enumerate(candidates(lsh, index, points.values[:50], 1)):
        np.testing.assert_array_equal(near, np.flatnonzero((keys == keys[row]).any(axis=1)))


def test_under_ip_the_angle_on_the_sphere_falls_as_the_inner_product_rises() -> None:
    rng = np.random.default_rng(0)
    items, query = (rng.standard_normal((300, 9)) * rng.lognormal(size=(300, 1))).astype(np.float32), rng.normal(size=9)
    longest = float(np.linalg.norm(items, axis=1).max())
    placed = on_sphere(items, longest)
    np.testing.assert_allclose(np.linalg.norm(placed, axis=1), longest, rtol=1e-5)
    np.testing.assert_array_equal(np.argsort(-(placed @ np.append(query, 0))), np.argsort(-(items @ query)))


# probing


@pytest.mark.parametrize("probes", [1, 2, 3, 7, 32, 200, 256])
def test_the_nearest_buckets_are_those_of_the_least_squared_margins(probes: int) -> None:
    margins = np.random.default_rng(0).standard_normal((20, 2, 8)).astype(np.float32)
    every = np.array(list(itertools.product([0, 1], repeat=8)))  # all sets of planes
    buckets = probed(margins, probes)
    for query, table in np.ndindex(20, 2):
        costs = np.sort(every @ np.square(margins[query, table]))[:probes]
        crossed = buckets[query, table] ^ keys_of(margins[query, table])
        sets = crossed[:, None] >> np.arange(8) & 1
        np.testing.assert_allclose(sets @ np.square(margins[query, table]), costs, rtol=1e-5)
        assert crossed[0] == 0 and len(np.unique(crossed)) == probes


def test_more_probes_than_buckets_are_all_buckets() -> None:
    margins = np.ones((1, 1, 3), np.float32)
    assert sorted(probed(margins, 100)[0, 0]) == list(range(8))


def test_probing_all_buckets_finds_every_item_once() -> None:
    keys = np.random.default_rng(0).integers(0, 16, (100, 3))
    items, limits = Tables(keys, 4).candidates(np.ones((2, 3, 4), np.float32), 16)
    np.testing.assert_array_equal(items, np.tile(np.arange(100), 2))
    np.testing.assert_array_equal(limits, [0, 100, 200])


def test_empty_buckets_hold_nothing() -> None:
    tables = Tables(np.zeros((5, 1), np.int64), 4)  # all in bucket 0
    items, limits = tables.candidates(np.array([[[1, 1, 1, 1]], [[-1, -1, -1, -1]]], np.float32), 1)
    np.testing.assert_array_equal(limits, [0, 0, 5])
    np.testing.assert_array_equal(items, np.arange(5))


# the index


@pytest.mark.parametrize("option", ["probes", "tables"])
def test_recall_rises_with(option: str) -> None:
    points = clustered("l2", 4000, 32, 100)
    queries = points.take(slice(0, 100))
    few = {"planes": 10, "tables": 2, "probes": 2}
    recalls = [recall(built(points, **{**few, option: more})[1], queries) for more in (2, 8, 32)]
    assert recalls == sorted(recalls) and recalls[-1] > recalls[0] + 0.2


def test_learned_planes_recall_more_where_directions_differ_in_width() -> None:
    points = clustered("l2", 4000, 32, 100)
    wide = xmr.Embeddings(points.values * np.linspace(3, 0.1, 32, dtype=np.float32), "l2")
    learned, random = (
        recall(built(wide, planes=10, tables=4, probes=4, rotation=rotation)[1], wide.take(slice(0, 100)))
        for rotation in ("itq", "none")
    )
    assert learned > random


def test_k_are_found_where_the_buckets_hold_fewer() -> None:
    points = clustered("cosine", 200)
    _, index = built(points, planes=16, tables=1, probes=1)
    hits, want = index.search(points, 50), index.scan.search(points.values, 50)
    assert (hits.ids >= 0).all()
    alone = np.array([len(near) < 50 for near in candidates(index.indexer, index, points.values, 1)])
    np.testing.assert_array_equal(hits.ids[alone], want.ids[alone])


def test_planes_are_chosen_for_eight_items_a_bucket() -> None:
    assert Lsh().fit(clustered("l2", 1024)).state["normals"].shape == (8, 32, 7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"planes": 99}, "planes=99: must be between 1 and 32"),
        ({"tables": 0}, "tables=0: must be between 1 and 256"),
        ({"probes": 1000}, "probes=1000: must be between 1 and 512"),
        ({"rotation": "opq"}, "rotation='opq': must be 'itq' or None"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(xmr.ConfigError, match=message):
        Lsh(**options)


def test_learned_planes_are_no_more_than_dimensions() -> None:
    with pytest.raises(xmr.ConfigError, match="planes=12: must be at most 8"):
        Lsh(planes=12, rotation="itq").fit(clustered("l2", 100, 8))


def test_a_fit_on_nothing_is_refused() -> None:
    with pytest.raises(xmr.DataError, match="nothing to fit on"):
        Lsh().fit(clustered("l2", 10).take(slice(0, 0)))
