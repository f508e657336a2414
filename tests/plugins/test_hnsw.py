"""The graph: what it finds, that equals are no trouble, and that a damaged cache is built anew."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("hnswlib", reason="the graph is an extra")

import xmr_core as xmr
from xmr_core.testing import clustered, conformance
from xmr_hnsw import Hnsw, HnswIndex
from xmr_hnsw.groups import Groups

TestHnsw = conformance("indexer", Hnsw)
TestSmallHnsw = conformance("indexer", Hnsw, config={"m": 8, "ef_construction": 50, "ef": 48})


def codes_of(embeddings: xmr.Embeddings, **options: int) -> tuple[Hnsw, xmr.Codes]:
    fitted = Hnsw(**options).fit(embeddings)
    return fitted, fitted.encode(embeddings, np.arange(len(embeddings)) * 2)


def built(embeddings: xmr.Embeddings, **options: int) -> HnswIndex:
    fitted, codes = codes_of(embeddings, **options)
    index = fitted.build(codes)
    assert isinstance(index, HnswIndex)
    return index


def recall(index: HnswIndex, queries: xmr.Embeddings, among: NDArray[np.int64] | None = None) -> float:
    scan = index.scan if among is None else index.scan.among(among)
    found, truth = index.search(queries, 10, among=among).ids, scan.search(queries.values, 10).ids
    return float(np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(found, truth, strict=True)]))


@pytest.fixture(scope="module")
def points() -> xmr.Embeddings:
    return clustered("l2", 3000, 32, 300)


@pytest.fixture(scope="module")
def index(points: xmr.Embeddings) -> HnswIndex:
    return built(points)


# what it finds


def test_the_graph_finds_nearly_all_and_says_that_it_is_not_exact(index: HnswIndex, points: xmr.Embeddings) -> None:
    assert recall(index, points.take(slice(0, 200))) > 0.98
    assert not index.search(points.take(slice(0, 1)), 10).exact


@pytest.mark.parametrize("share", [0.9, 0.5, 0.35])
def test_a_filter_keeps_recall(index: HnswIndex, points: xmr.Embeddings, share: float) -> None:
    among = np.flatnonzero(np.random.default_rng(0).random(3000) < share) * 2
    assert recall(index, points.take(slice(0, 200)), among) > 0.98


def test_a_filter_far_from_the_query_still_gives_k(index: HnswIndex, points: xmr.Embeddings) -> None:
    query = points.take(slice(0, 1))
    far = np.sort(index.scan.search(query.values, 3000).ids[0, 1000:])
    hits = index.search(query, 10, among=far)
    np.testing.assert_array_equal(hits.ids, index.scan.among(far).search(query.values, 10).ids)


@pytest.mark.parametrize(("k", "within"), [(1000, None), (5000, None), (None, 4.0)])
def test_what_wants_much_is_scanned(
    index: HnswIndex, points: xmr.Embeddings, k: int | None, within: float | None
) -> None:
    hits = index.search(points.take(slice(0, 3)), k, within)
    assert hits.exact
    np.testing.assert_array_equal(hits.ids, index.scan.search(points.values[:3], k, within).ids)


def test_more_candidates_raise_recall(points: xmr.Embeddings) -> None:
    recalls = [recall(built(points, m=4, ef_construction=8, ef=ef), points.take(slice(0, 200))) for ef in (1, 64)]
    assert recalls[1] > recalls[0]


def test_the_same_seed_builds_the_same_graph(points: xmr.Embeddings, tmp_path: Path) -> None:
    files = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        built(points.take(slice(0, 500)), seed=seed).save(tmp_path / name)
        files.append((tmp_path / name / "graph.bin").read_bytes())
    assert files[0] == files[1] != files[2]


# equals


def test_equal_vectors_are_grouped_in_the_order_of_their_first() -> None:
    vectors = np.array([[3, 1], [-0.0, 2], [3, 1], [5, 5], [0, 2], [3, 1]], np.float32)
    groups = Groups.of(vectors)
    np.testing.assert_array_equal(groups.members, [0, 2, 5, 1, 4, 3])
    np.testing.assert_array_equal(groups.starts, [0, 3, 5, 6])
    np.testing.assert_array_equal(groups.firsts, [0, 1, 3])


def test_groups_expand_to_their_first_allowed_members() -> None:
    groups = Groups(np.array([0, 2, 5, 1, 4, 3]), np.array([0, 3, 5, 6]), np.zeros(6))
    members, owners = groups.expanded(np.array([2, 0]), 2)
    np.testing.assert_array_equal(members, [3, 0, 2])
    np.testing.assert_array_equal(owners, [0, 1, 1])
    members, owners = groups.only(np.array([False, True, False, False, True, True])).expanded(np.array([0, 1, 2]), 9)
    np.testing.assert_array_equal(members, [5, 1, 4])
    np.testing.assert_array_equal(owners, [0, 1, 1])


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
def test_a_collection_of_many_equals_is_searched_well(metric: xmr.Metric) -> None:
    """A plain hnswlib graph finds three in four of these: equals link to one another and to nothing else."""
    points = xmr.Embeddings(np.repeat(clustered(metric, 60, 16).values, 50, axis=0), metric)
    index = built(points)
    hits, want = index.search(points.take(slice(0, None, 50)), 30), index.scan.search(points.values[::50], 30)
    np.testing.assert_array_equal(hits.ids, want.ids)


# the cache


def saved(index: HnswIndex, folder: Path) -> Path:
    assert index.save(folder)
    return folder


def test_a_saved_graph_answers_alike(index: HnswIndex, points: xmr.Embeddings, tmp_path: Path) -> None:
    loaded = index.indexer.load_index(saved(index, tmp_path), index.codes)
    assert loaded is not None
    want = index.search(points, 10)
    np.testing.assert_array_equal(loaded.search(points, 10).ids, want.ids)


@pytest.mark.parametrize("name", ["graph.bin", "about.json"])
def test_a_file_that_is_cut_short_is_not_loaded(index: HnswIndex, name: str, tmp_path: Path) -> None:
    file = saved(index, tmp_path) / name
    for length in (0, 10, file.stat().st_size - 1):
        file.write_bytes(file.read_bytes()[:length])
        assert index.indexer.load_index(tmp_path, index.codes) is None


def test_a_flipped_bit_is_noticed(index: HnswIndex, tmp_path: Path) -> None:
    file = saved(index, tmp_path) / "graph.bin"
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 1
    file.write_bytes(bytes(whole))
    assert index.indexer.load_index(tmp_path, index.codes) is None


def test_a_graph_of_other_codes_or_options_is_not_loaded(
    index: HnswIndex, points: xmr.Embeddings, tmp_path: Path
) -> None:
    saved(index, tmp_path)
    others = index.codes.take(slice(0, 2999))
    moved = xmr.Codes(index.codes.ids + 1, index.codes.values, index.codes.layout)
    assert index.indexer.load_index(tmp_path, others) is None
    assert index.indexer.load_index(tmp_path, moved) is None
    assert Hnsw(ef=100).fit(points).load_index(tmp_path, index.codes) is None


# refusals


def test_a_missing_hnswlib_is_reported_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted, codes = codes_of(clustered("l2", 20))
    monkeypatch.setitem(sys.modules, "hnswlib", None)
    with pytest.raises(xmr.PluginError, match=r"pip install 'xmr\[hnsw\]'"):
        fitted.build(codes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"m": 1}, "m=1: must be between 2 and 512"),
        ({"m": 10**9}, "m=1000000000: must be between 2 and 512"),
        ({"m": 32, "ef_construction": 16}, "ef_construction=16: must be 32 or more"),
        ({"ef": 0}, "ef=0: must be between 1 and 100,000"),
        ({"threads": 0}, "threads=0: must be between 1 and 256, or None"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(xmr.ConfigError, match=message):
        Hnsw(**options)
