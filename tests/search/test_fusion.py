"""Rankings fused by reciprocal rank and followed along links, against sums worked out by hand and the slow loop."""

from __future__ import annotations

import numpy as np
import pytest

import xmr_core as xmr
from xmr_core.search.fusion import by_links, reciprocal_rank
from xmr_flat import Flat


def ranking(*ids: int, exact: bool = True) -> xmr.Hits:
    """One query's hits, at distances 0, 1, 2, ..."""
    return xmr.Hits(np.array([ids], np.int64), np.arange(len(ids), dtype=np.float32)[None], exact)


def test_scores_are_sums_of_reciprocal_ranks() -> None:
    hits, ranks = reciprocal_rank([ranking(7, 3, 9), ranking(3, 5, 7)], k=4)
    # 3: 1/62 + 1/61; 7: 1/61 + 1/63; 5: 1/62; 9: 1/63
    assert hits.ids.tolist() == [[3, 7, 5, 9]]
    np.testing.assert_allclose(hits.distances, [[-1 / 62 - 1 / 61, -1 / 61 - 1 / 63, -1 / 62, -1 / 63]], rtol=1e-6)
    assert ranks.tolist() == [[[2, 1], [1, 3], [0, 2], [3, 0]]]


def test_two_middling_ranks_beat_one_first() -> None:
    hits, _ = reciprocal_rank([ranking(1, 8, 8 + 1), ranking(2, 8, 10), ranking(4, 8, 11)], k=1)
    assert hits.ids.tolist() == [[8]]  # 3/62 against 1/61


def test_ties_go_to_the_smaller_id() -> None:
    hits, _ = reciprocal_rank([ranking(9, 2), ranking(2, 9)], k=2)
    assert hits.ids.tolist() == [[2, 9]]
    assert hits.distances[0, 0] == hits.distances[0, 1]


def test_what_is_missing_has_no_rank_and_the_rest_is_padded() -> None:
    hits, ranks = reciprocal_rank([ranking(-1, -1), ranking(5, -1)], k=3)
    assert hits.ids.tolist() == [[5, -1, -1]]
    assert hits.distances.tolist() == [[pytest.approx(-1 / 61), np.inf, np.inf]]
    assert ranks.tolist() == [[[0, 1], [0, 0], [0, 0]]]


def test_one_ranking_keeps_its_order_and_exactness_is_that_of_all() -> None:
    hits, _ = reciprocal_rank([ranking(4, 1, 3)], k=2)
    assert hits.ids.tolist() == [[4, 1]] and hits.exact
    assert not reciprocal_rank([ranking(4), ranking(4, exact=False)], k=1)[0].exact


# links


def best_of_links(
    distances: np.ndarray, ids: np.ndarray, links: np.ndarray, k: int | None, within: float | None
) -> list[tuple[int, float]]:
    """The slow loop: each linked item at the smallest distance of those that lead to it."""
    best: dict[int, float] = {}
    for source, target in links.tolist():
        distance = float(distances[ids.tolist().index(source)])
        if within is None or distance <= within:
            best[target] = min(distance, best.get(target, np.inf))
    return sorted(best.items(), key=lambda entry: (entry[1], entry[0]))[:k]


@pytest.mark.parametrize(("k", "within"), [(1, None), (3, None), (40, None), (None, 1.0), (4, 2.0)])
def test_an_item_is_as_near_as_the_nearest_that_leads_to_it(k: int | None, within: float | None) -> None:
    rng = np.random.default_rng(0)
    points = xmr.Embeddings(rng.integers(0, 3, (60, 2)).astype(np.float32), "l2")  # many are equally far
    ids = np.arange(60) * 2
    flat = Flat().fit(points)
    index = flat.build(flat.encode(points, ids))
    links = np.unique(np.stack([rng.choice(ids[:50], 90), rng.integers(0, 25, 90)], axis=1), axis=0)
    queries = xmr.Embeddings(rng.integers(0, 3, (5, 2)).astype(np.float32), "l2")
    hits = by_links(index, queries, links, k, within)
    truth = flat.distances(queries, index.codes)
    for query in range(5):
        found = hits.ids[query] >= 0
        pairs = list(zip(hits.ids[query][found].tolist(), hits.distances[query][found].tolist(), strict=True))
        assert pairs == best_of_links(truth[query], ids, links, k, within)
    assert hits.exact and (k is None or hits.ids.shape == (5, k))


def test_without_links_nothing_is_reached() -> None:
    points = xmr.Embeddings(np.eye(3, dtype=np.float32), "l2")
    flat = Flat().fit(points)
    index = flat.build(flat.encode(points, np.arange(3)))
    hits = by_links(index, points, np.zeros((0, 2), np.int64), 2, None)
    assert (hits.ids == -1).all() and hits.ids.shape == (3, 2)
