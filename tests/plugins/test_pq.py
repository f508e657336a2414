"""Codebooks, rotations, codes and hits of `pq`, held against faiss, plain sums, and figures known beforehand."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.progress import Run, use_run
from xmr_core.search.distances import distances
from xmr_core.testing import clustered, conformance
from xmr_pq import PQ
from xmr_pq.engine import threads
from xmr_pq.training import eigenvalue_allocation

TestPQ = conformance("indexer", PQ)
TestPQOfThreeBits = conformance("indexer", PQ, config={"bytes": 6, "bits": 3, "rotation": "opq"})
TestPQFastScan = conformance("indexer", PQ, config={"bits": 4, "fast": True})
TestPQInvertedFastScan = conformance("indexer", PQ, config={"bits": 4, "lists": 16, "probes": 8, "fast": True})

METRICS: tuple[xmr.Metric, ...] = ("l2", "ip", "cosine")
WAYS: tuple[dict[str, Any], ...] = (  # of searching that cannot miss here: every list is probed
    {},
    {"bits": 4},
    {"bits": 4, "fast": True},
    {"bits": 4, "lists": 8, "probes": 8},
    {"bits": 4, "lists": 8, "probes": 8, "fast": True},
)

Floats = NDArray[np.float32]


def normal(n: int, d: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def mixed(n: int, d: int) -> Floats:
    """Vectors whose dimensions correlate: what a rotation is for."""
    spread = np.geomspace(4, 0.1, d).astype(np.float32)
    return (normal(n, d) * spread) @ np.linalg.qr(normal(d, d, 1))[0]


def fitted(vectors: Floats, metric: xmr.Metric = "l2", **options: Any) -> tuple[PQ, xmr.Codes]:
    """A fitted indexer, and the codes of what it was fitted on."""
    pq = PQ(**options).fit(xmr.Embeddings(vectors, metric))
    return pq, pq.encode(xmr.Embeddings(vectors, metric), np.arange(len(vectors)))


def error(pq: PQ, codes: xmr.Codes, vectors: Floats) -> float:
    """The mean squared distance of vectors to what their codes stand for."""
    return float(np.square(pq.decode(codes) - vectors).sum(axis=1).mean())


def assert_same(hits: xmr.Hits, want: xmr.Hits) -> None:
    assert np.array_equal(hits.ids, want.ids)
    assert np.array_equal(hits.distances, want.distances)


# distances


@pytest.mark.parametrize("rotation", ["none", "opq"])
@pytest.mark.parametrize("metric", METRICS)
def test_a_distance_is_that_to_what_the_code_stands_for(metric: xmr.Metric, rotation: str) -> None:
    pq, codes = fitted(mixed(600, 32), metric, bits=4, rotation=rotation)
    queries = normal(20, 32, 2)
    want = distances(queries, pq.decode(codes), metric)
    assert pq.distances(xmr.Embeddings(queries, metric), codes) == pytest.approx(want, rel=1e-4, abs=1e-4)


def test_distances_are_those_of_faiss() -> None:
    vectors, queries = normal(1000, 32), normal(20, 32, 1)
    pq, codes = fitted(vectors)
    oracle = faiss.IndexPQ(32, 8, 8)
    faiss.copy_array_to_vector(pq.codebooks.ravel(), oracle.pq.centroids)
    oracle.is_trained = True
    oracle.add(vectors)
    assert np.array_equal(faiss.vector_to_array(oracle.codes).reshape(-1, 8), codes.values)
    squared, ids = oracle.search(queries, 10)
    hits = pq.build(codes).search(xmr.Embeddings(queries, "l2"), 10)
    assert hits.distances == pytest.approx(np.sqrt(squared), rel=1e-5)
    assert (hits.ids == ids).mean() > 0.99  # but for near ties


def test_cosine_allows_for_the_length_of_what_a_code_stands_for() -> None:
    vectors = clustered("cosine", 2000, 32).values
    pq, codes = fitted(vectors[50:], "cosine", bytes=4)
    truth = distances(vectors[:50], vectors[50:], "cosine").argmin(axis=1)
    lengths = np.linalg.norm(pq.decode(codes), axis=1)
    shown = pq.distances(xmr.Embeddings(vectors[:50], "cosine"), codes)
    products = (1 - shown) * lengths
    assert lengths.std() > 0.01
    assert (shown.argmin(axis=1) == truth).mean() >= (products.argmax(axis=1) == truth).mean()


def test_a_zero_query_is_at_one_from_everything_under_cosine() -> None:
    pq, codes = fitted(normal(300, 16), "cosine", bits=4, bytes=4)
    hits = pq.build(codes).search(xmr.Embeddings(np.zeros((1, 16)), "cosine"), 5)
    assert (hits.distances == 1).all() and hits.ids.tolist() == [[0, 1, 2, 3, 4]]


# codebooks


def test_as_many_centroids_as_vectors_code_without_error() -> None:
    vectors = normal(200, 8)
    pq, codes = fitted(vectors, bytes=8)
    assert np.array_equal(pq.decode(codes), vectors)
    queries = xmr.Embeddings(normal(10, 8, 1), "l2")
    assert pq.distances(queries, codes) == pytest.approx(distances(queries.values, vectors, "l2"), rel=1e-6)


def test_equal_vectors_have_equal_codes_in_any_batch() -> None:
    vectors = np.repeat(normal(40, 16), 3, axis=0)  # fewer than centroids, and each thrice
    pq, codes = fitted(vectors, bytes=2)
    assert len(np.unique(codes.values, axis=0)) == 40
    alone = [pq.encode(xmr.Embeddings(row, "l2"), np.arange(1)).values[0] for row in vectors]
    assert np.array_equal(alone, codes.values)


def test_eight_bytes_on_the_sphere_of_24_dimensions_err_by_a_twenty_fourth() -> None:
    directions = normal(8000, 24)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    pq, _ = fitted(directions[:6000])
    rest = directions[6000:]
    codes = pq.encode(xmr.Embeddings(rest, "l2"), np.arange(len(rest)))
    assert error(pq, codes, rest) == pytest.approx(1 / 24, abs=0.003)


def test_more_bytes_err_less_and_recall_more() -> None:
    vectors = clustered("l2", 2000, 32).values
    truth = distances(vectors[:50], vectors, "l2").argsort(axis=1, kind="stable")[:, :10]
    errors, recalls = [], []
    for size in (2, 4, 8, 16):
        pq, codes = fitted(vectors, bytes=size)
        ids = pq.build(codes).search(xmr.Embeddings(vectors[:50], "l2"), 10).ids
        errors.append(error(pq, codes, vectors))
        recalls.append(np.mean([np.isin(want, have).mean() for want, have in zip(truth, ids, strict=True)]))
    assert errors == sorted(errors, reverse=True)
    assert recalls == sorted(recalls)


def test_few_vectors_train_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    fitted(normal(1700, 32), lists=40)
    fitted(normal(300, 32), rotation="opq")
    assert capfd.readouterr() == ("", "")


def test_the_same_seed_learns_the_same_however_many_threads() -> None:
    vectors = normal(18_000, 64)
    with threads(worth=False):
        one = fitted(vectors, bytes=2)[0]
    many = fitted(vectors, bytes=2)[0]
    assert one.fingerprint() == many.fingerprint()


def test_another_seed_learns_something_else() -> None:
    books = [fitted(normal(400, 16), bits=4, bytes=4, seed=seed)[0].codebooks for seed in (0, 1)]
    assert not np.array_equal(*books)


def test_the_number_of_threads_is_given_back() -> None:
    before = faiss.omp_get_max_threads()
    with threads(worth=False):
        assert faiss.omp_get_max_threads() == 1
    assert faiss.omp_get_max_threads() == before


# the rotation


def test_a_rotation_is_orthogonal_and_errs_less() -> None:
    vectors = mixed(3000, 32)
    plain, plainly = fitted(vectors, bits=4)
    turned, codes = fitted(vectors, bits=4, rotation="opq")
    rotation = turned.state["rotation"]
    assert rotation @ rotation.T == pytest.approx(np.eye(32), abs=1e-5)
    assert error(turned, codes, vectors) < 0.8 * error(plain, plainly, vectors)


class Log(Run):
    """A run that keeps what is logged."""

    def __init__(self) -> None:
        self.errors: list[float] = []

    def log(self, what: str, step: int, **figures: float) -> None:
        self.errors.append(figures["error"])


def test_the_error_falls_while_the_rotation_is_learned() -> None:
    log = Log()
    with use_run(log):
        fitted(mixed(2000, 32), bits=4, rotation="opq")
    assert 1 < len(log.errors) <= 20
    assert (np.diff(log.errors) <= 1e-3 * log.errors[0]).all()
    assert log.errors[-1] < log.errors[0]


def test_eigenvalues_are_dealt_in_equal_products() -> None:
    vectors = normal(5000, 4) * np.array([8, 4, 2, 1], np.float32)
    axes = eigenvalue_allocation(vectors, 2)
    spread = (vectors @ axes.T).std(axis=0).reshape(2, 2)
    assert spread.prod(axis=1) == pytest.approx([8, 8], rel=0.1)  # 8 with 1, 4 with 2


# search


@pytest.fixture(scope="module", params=METRICS)
def far_off(request: pytest.FixtureRequest) -> xmr.Embeddings:
    """Vectors far from the origin, where float32 sums are poor, and each part is wide."""
    return xmr.Embeddings(clustered("l2", 3000, 64).values + 20, request.param)


def test_a_scan_finds_what_plain_sums_find_to_the_last_bit(far_off: xmr.Embeddings) -> None:
    pq = PQ(bytes=2).fit(far_off)
    codes = pq.encode(far_off, np.arange(len(far_off)))
    queries = far_off.take(slice(0, 300))
    for k in (1, 10, 100):
        assert_same(pq.build(codes).search(queries, k), xmr.nearest(pq, queries, codes, k))


@pytest.mark.parametrize("options", WAYS, ids=str)
@pytest.mark.parametrize("metric", METRICS)
def test_ties_at_the_end_go_to_the_smaller_id(metric: xmr.Metric, options: dict[str, Any]) -> None:
    vectors = np.tile(normal(30, 16), (100, 1))  # every code a hundred times
    pq, codes = fitted(vectors, metric, **{"bytes": 4, **options})
    queries = xmr.Embeddings(normal(20, 16, 1), metric)
    assert_same(pq.build(codes).search(queries, 10), xmr.nearest(pq, queries, codes, 10))


@pytest.mark.parametrize("options", WAYS[1:], ids=str)
@pytest.mark.parametrize("metric", METRICS)
def test_what_faiss_ranks_roughly_is_ranked_truly(metric: xmr.Metric, options: dict[str, Any]) -> None:
    embeddings = clustered(metric, 3000)
    pq, codes = fitted(embeddings.values, metric, **options)
    queries = embeddings.take(slice(0, 100))
    found, want = pq.build(codes).search(queries, 10), xmr.nearest(pq, queries, codes, 10)
    recalled = [np.isin(w, f).mean() for w, f in zip(want.ids, found.ids, strict=True)]
    assert np.mean(recalled) > 0.99
    assert found.exact == (metric != "cosine" and not {"fast", "lists"} & options.keys())


@pytest.mark.parametrize("bits", [1, 2, 3, 5, 6, 7])
def test_symbols_of_any_size_are_packed_as_faiss_reads_them(bits: int) -> None:
    embeddings = clustered("l2", 800)
    pq, codes = fitted(embeddings.values, bits=bits, bytes=bits)  # 8 symbols
    assert codes.layout == xmr.Layout.symbols(8, bits, name="pq") and codes.values.max() < 2**bits
    queries = embeddings.take(slice(0, 20))
    assert_same(pq.build(codes).search(queries, 10), xmr.nearest(pq, queries, codes, 10))


@pytest.fixture(scope="module")
def inverted() -> Iterator[tuple[PQ, xmr.Codes, xmr.Embeddings]]:
    """Many lists, of which a query looks into one."""
    embeddings = clustered("l2", 1000)
    pq, codes = fitted(embeddings.values, bits=4, lists=100, probes=1)
    yield pq, codes, embeddings.take(slice(0, 20))


def test_lists_that_hold_too_few_cost_no_hits(inverted: tuple[PQ, xmr.Codes, xmr.Embeddings]) -> None:
    pq, codes, queries = inverted
    assert_same(pq.build(codes).search(queries, 90), xmr.nearest(pq, queries, codes, 90))


def test_a_radius_costs_no_hits_that_lie_in_other_lists(inverted: tuple[PQ, xmr.Codes, xmr.Embeddings]) -> None:
    pq, codes, queries = inverted
    radius = float(np.median(xmr.nearest(pq, queries, codes, 5).distances[:, -1]))
    hits, want = (index.search(queries, 5, within=radius) for index in (pq.build(codes), xmr.ExactIndex(pq, codes)))
    assert np.array_equal(hits.ids >= 0, want.ids >= 0)


def test_lists_leave_codes_and_distances_as_they_are() -> None:
    embeddings = clustered("l2", 600)
    plain, codes = fitted(embeddings.values, bits=4)
    inverted, listed = fitted(embeddings.values, bits=4, lists=10)
    assert np.array_equal(codes.values, listed.values)
    assert np.array_equal(plain.distances(embeddings, codes), inverted.distances(embeddings, listed))


def test_fewer_vectors_than_lists_make_fewer_lists() -> None:
    pq, codes = fitted(normal(20, 16), bytes=4, lists=64)
    assert len(pq.state["lists"]) == 20
    assert pq.build(codes).search(xmr.Embeddings(normal(1, 16), "l2"), 20).ids.min() == 0


# refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bytes": 0}, "bytes=0: must be between 1 and 1,024"),
        ({"bits": 9}, "bits=9: must be between 1 and 8"),
        ({"bytes": 4, "bits": 5}, "4 bytes must hold a whole number of symbols"),
        ({"rotation": "pca"}, "rotation='pca': must be 'opq' or None"),
        ({"lists": -1}, "lists=-1"),
        ({"probes": 0}, "probes=0"),
        ({"fast": True}, "say bits=4"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(xmr.ConfigError, match=message.replace("(", r"\(")):
        PQ(**options)


def test_parts_that_do_not_divide_the_dimensions_are_refused_with_the_nearest_that_do() -> None:
    with pytest.raises(xmr.ConfigError, match="8 parts do not divide 30 dimensions; bytes may be 5, 6, 10"):
        PQ(bytes=8).fit(xmr.Embeddings(normal(300, 30), "l2"))


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(xmr.DataError, match="no vectors"):
        PQ().fit(xmr.Embeddings(np.zeros((0, 16)), "l2"))


def test_a_query_under_another_metric_is_refused() -> None:
    pq, codes = fitted(normal(300, 16), "cosine", bits=4, bytes=4)
    with pytest.raises(xmr.SpaceMismatchError, match="fitted under cosine, the vectors have l2"):
        pq.build(codes).search(xmr.Embeddings(normal(1, 16), "l2"), 5)


def test_missing_faiss_is_reported_with_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(xmr.PluginError, match="pip install faiss-cpu"):
        fitted(normal(300, 16), bits=4)
