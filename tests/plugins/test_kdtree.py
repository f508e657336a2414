"""The tree's answers, held against brute force to the last bit, and the promises of its shortcuts."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import cKDTree

import xmr_core as xmr
import xmr_kdtree
from xmr_core.testing import clustered, conformance
from xmr_kdtree import KDTree, principal_axes

TestKDTree = conformance("indexer", KDTree)
TestKDTreeProjected = conformance("indexer", KDTree, config={"pca": 4})
TestKDTreeApproximate = conformance("indexer", KDTree, config={"eps": 0.5})
TestKDTreeCandidates = conformance(
    "indexer", KDTree, config={"pca": 8, "candidates": 300}, samples=clustered("cosine", 1000)
)

METRICS: tuple[xmr.Metric, ...] = ("l2", "ip", "cosine")

Floats = NDArray[np.float32]


def normal(n: int, d: int, metric: xmr.Metric = "l2", seed: int = 0) -> xmr.Embeddings:
    return xmr.Embeddings(np.random.default_rng(seed).standard_normal((n, d)), metric)


def built(embeddings: xmr.Embeddings, **options: Any) -> tuple[KDTree, xmr.Codes, xmr.Index]:
    tree = KDTree(**options).fit(embeddings)
    codes = tree.encode(embeddings, np.arange(len(embeddings)) * 2)
    return tree, codes, tree.build(codes)


def assert_same(hits: xmr.Hits, want: xmr.Hits) -> None:
    assert np.array_equal(hits.ids, want.ids)
    assert np.array_equal(hits.distances, want.distances)


def assert_exact(embeddings: xmr.Embeddings, queries: xmr.Embeddings, k: int | None, **options: Any) -> None:
    """Assert the hits of brute force, ids and distances, to the last bit."""
    tree, codes, index = built(embeddings, **options)
    hits = index.search(queries, k)
    assert hits.exact
    assert_same(hits, xmr.nearest(tree, queries, codes, k))


# exact


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("d", [2, 8, 16])
def test_ten_thousand_vectors_are_searched_as_by_brute_force(d: int, metric: xmr.Metric) -> None:
    assert_exact(normal(10_000, d, metric), normal(50, d, metric, 1), 10)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("options", [{}, {"pca": 3}, {"pca": 16}, {"leaf": 1}], ids=str)
def test_a_projection_and_the_size_of_leaves_change_no_answer(options: dict[str, Any], metric: xmr.Metric) -> None:
    embeddings = clustered(metric, 2000, 16)
    for k in (1, 10, 300, 5000):
        assert_exact(embeddings, embeddings.take(slice(0, 40)), k, **options)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("pca", [0, 2])
def test_ties_go_to_the_smaller_id(pca: int, metric: xmr.Metric) -> None:
    grid = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 4), axis=-1).reshape(-1, 4)  # 2401 points, countless ties
    embeddings = xmr.Embeddings(np.concatenate([grid, grid]), metric)
    assert_exact(embeddings, xmr.Embeddings(grid[::50], metric), 10, pca=pca)


def test_a_leaf_of_equal_vectors_comes_to_an_end() -> None:
    embeddings = xmr.Embeddings(np.ones((20_000, 3)), "l2")
    _, _, index = built(embeddings)
    assert index.search(embeddings.take(slice(0, 2)), 3).ids.tolist() == [[0, 2, 4]] * 2


@pytest.mark.parametrize("pca", [0, 2])
def test_zero_vectors_are_at_one_from_everything_under_cosine(pca: int) -> None:
    vectors = normal(500, 4).values.copy()
    vectors[::5] = 0
    assert_exact(xmr.Embeddings(vectors, "cosine"), xmr.Embeddings(vectors[:10], "cosine"), 450, pca=pca)
    assert_exact(xmr.Embeddings(vectors, "cosine"), xmr.Embeddings(vectors[:10], "cosine"), 20, pca=pca)


def test_lengths_that_differ_by_magnitudes_are_searched_as_by_brute_force_under_ip() -> None:
    scales = np.geomspace(1e-3, 1e3, 3000)[:, None]
    embeddings = xmr.Embeddings(normal(3000, 6).values * scales, "ip")
    assert_exact(embeddings, embeddings.take(slice(0, None, 100)), 10)
    assert_exact(embeddings, embeddings.take(slice(0, None, 100)), 10, pca=2)


def test_distances_are_those_of_scipy() -> None:
    embeddings, queries = normal(2000, 5), normal(30, 5, seed=1)
    gaps, places = cKDTree(embeddings.values).query(queries.values, 7)
    hits = built(embeddings)[2].search(queries, 7)
    assert np.array_equal(hits.ids, places * 2)
    assert hits.distances == pytest.approx(gaps, rel=1e-6)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("options", [{}, {"pca": 2}, {"eps": 1.0}, {"pca": 2, "candidates": 20}], ids=str)
def test_a_radius_holds_what_brute_force_finds_there(options: dict[str, Any], metric: xmr.Metric) -> None:
    embeddings = clustered(metric, 1500, 8)
    tree, codes, index = built(embeddings, **options)
    queries = embeddings.take(slice(0, 30))
    radius = float(np.median(xmr.nearest(tree, queries, codes, 12).distances[:, -1]))
    for k in (10, None):
        assert_same(index.search(queries, k, within=radius), xmr.nearest(tree, queries, codes, k, radius))


@pytest.mark.parametrize("k", [10, None])
def test_much_that_is_near_is_compared_in_pieces(k: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = clustered("l2", 1500, 8)
    tree, codes, index = built(embeddings, pca=2)
    queries = embeddings.take(slice(0, 30))
    want = xmr.nearest(tree, queries, codes, k, 2.0)
    for crowded, pairs in ((1, 100), (10**9, 100), (50, 500)):
        monkeypatch.setattr(xmr_kdtree, "CROWDED", crowded)
        monkeypatch.setattr(xmr_kdtree, "PAIRS", pairs)
        assert_same(index.search(queries, k, within=2.0), want)


# shortcuts


@pytest.mark.parametrize("eps", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("pca", [0, 3])
def test_no_hit_is_farther_than_eps_allows(pca: int, eps: float) -> None:
    embeddings, queries = clustered("l2", 3000, 8), normal(50, 8, seed=1)
    tree, codes, index = built(embeddings, eps=eps, pca=pca)
    hits, truth = index.search(queries, 10), xmr.nearest(tree, queries, codes, 10)
    assert not hits.exact
    assert (hits.distances <= truth.distances * (1 + eps) * (1 + 1e-6)).all()


def test_more_candidates_recall_more() -> None:
    embeddings, queries = normal(3000, 16), normal(50, 16, seed=1)
    recalls = []
    for candidates in (10, 50, 200, 1000):
        tree, codes, index = built(embeddings, pca=4, candidates=candidates)
        want, found = xmr.nearest(tree, queries, codes, 10).ids, index.search(queries, 10).ids
        recalls.append(np.mean([np.isin(w, f).mean() for w, f in zip(want, found, strict=True)]))
    assert recalls == sorted(recalls) and recalls[-1] > 0.9 > recalls[0]


def test_fewer_candidates_than_k_cost_no_hits() -> None:
    embeddings = normal(500, 16)
    hits = built(embeddings, pca=4, candidates=5)[2].search(embeddings.take(slice(0, 3)), 50)
    assert (hits.ids >= 0).all() and not hits.exact


def test_principal_axes_are_those_of_the_singular_vectors() -> None:
    vectors = normal(400, 6).values.astype(np.float64) * np.array([6, 5, 4, 3, 2, 1])
    axes = principal_axes(vectors, 3)
    _, _, want = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    assert axes.T @ axes == pytest.approx(np.eye(3), abs=1e-12)
    assert np.abs(np.sum(axes * want[:3].T, axis=0)) == pytest.approx([1, 1, 1])


# refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"leaf": 0}, "leaf=0"),
        ({"eps": -0.5}, "eps=-0.5"),
        ({"eps": float("nan")}, "eps=nan"),
        ({"pca": -1}, "pca=-1"),
        ({"candidates": -1}, "candidates=-1"),
        ({"candidates": 50}, "say pca=8"),
        ({"candidates": 50, "pca": 8, "eps": 0.1}, "give one"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(xmr.ConfigError, match=message):
        KDTree(**options)


def test_more_axes_than_dimensions_are_refused() -> None:
    with pytest.raises(xmr.ConfigError, match="pca=9: the vectors have 4 dimensions"):
        KDTree(pca=9).fit(normal(10, 4))


def test_no_vectors_to_learn_axes_from_are_refused() -> None:
    with pytest.raises(xmr.DataError, match="no vectors"):
        KDTree(pca=2).fit(normal(0, 4))


def test_missing_scipy_is_reported_with_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.spatial", None)
    with pytest.raises(xmr.PluginError, match="pip install scipy"):
        built(normal(10, 4))
