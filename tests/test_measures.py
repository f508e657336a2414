"""Measures against numbers worked out by hand, against sklearn where nothing ties, against chance where things do."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from xmr_core import ConfigError, DataError, Embeddings, measures, pack_bits
from xmr_core.measures import (
    PairRecall,
    average_precision,
    between,
    bit_use,
    chance_map,
    chance_pair_recall,
    first_found_at,
    map_at,
    mean_average_precision,
    pair_ranks,
    pair_recall,
    precision_at,
    precision_recall_by_radius,
    recall_against,
    recall_both_ways,
    share_label,
)

ONE = np.ones((1, 1), np.uint8)


def labels_of(*relevant: int) -> NDArray[np.uint8]:
    """One label; 1 for the items that have it."""
    return np.array(relevant, np.uint8)[:, None]


def at(*distances: float) -> measures.Score:
    """The distances of a single query."""
    return lambda part: np.array([distances])


def random_codes(n: int, bits: int, seed: int) -> Embeddings:
    return Embeddings(pack_bits(np.random.default_rng(seed).random((n, bits)) < 0.5), "hamming")


def random_labels(n: int, seed: int) -> NDArray[np.uint8]:
    return (np.random.default_rng(seed).random((n, 5)) < 0.2).astype(np.uint8)


# average precision


def test_average_precision_of_ranks_1_3_and_4() -> None:
    relevant = np.array([[True, False, True, True]])
    assert average_precision(np.array([[0.1, 0.2, 0.3, 0.4]]), relevant) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


def test_average_precision_equals_sklearns_where_nothing_ties() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    distances, relevant = rng.random((20, 50)), rng.random((20, 50)) < 0.3
    oracle = [metrics.average_precision_score(r, -d) for d, r in zip(distances, relevant, strict=True)]
    np.testing.assert_allclose(average_precision(distances, relevant), oracle)
    np.testing.assert_allclose(average_precision(distances, relevant, ties="id"), oracle)


def test_two_tied_items_of_which_one_is_relevant_give_the_mean_of_both_orders() -> None:
    assert average_precision(np.array([[5, 5]]), np.array([[False, True]])) == pytest.approx((1 + 1 / 2) / 2)


def test_tied_items_give_the_mean_over_all_their_orders() -> None:
    distances = np.array([0, 1, 1, 1, 1, 2, 2, 3])
    relevant = np.array([False, True, False, True, False, True, False, True])
    orders = [
        average_precision(np.argsort([0, *middle, 5, 6, 7])[None] * 1.0, relevant[None])[0]
        for middle in itertools.permutations([1, 2, 3, 4])
    ]
    swapped = [
        average_precision(np.argsort([0, *middle, 6, 5, 7])[None] * 1.0, relevant[None])[0]
        for middle in itertools.permutations([1, 2, 3, 4])
    ]
    assert average_precision(distances[None], relevant[None])[0] == pytest.approx(np.mean(orders + swapped))


def test_the_expectation_equals_monte_carlo() -> None:
    rng = np.random.default_rng(1)
    distances, relevant = rng.integers(0, 4, (1, 40)), rng.random((1, 40)) < 0.4
    shuffled = distances + rng.random((40_000, 40))
    sampled = average_precision(shuffled, np.broadcast_to(relevant, shuffled.shape))
    error = 4 * sampled.std() / np.sqrt(len(sampled))
    assert average_precision(distances, relevant)[0] == pytest.approx(sampled.mean(), abs=error)


def test_the_expectation_at_k_equals_monte_carlo_also_where_k_cuts_a_tie() -> None:
    rng = np.random.default_rng(2)
    distances, relevant = rng.integers(0, 3, (1, 30)), rng.random((1, 30)) < 0.4
    shuffled = distances + rng.random((40_000, 30))
    sampled = average_precision(shuffled, np.broadcast_to(relevant, shuffled.shape), k=12, over="possible")
    error = 4 * sampled.std() / np.sqrt(len(sampled))
    assert average_precision(distances, relevant, k=12, over="possible")[0] == pytest.approx(sampled.mean(), abs=error)


def test_counting_and_sorting_agree() -> None:
    rng = np.random.default_rng(3)
    distances, relevant = rng.integers(0, 9, (30, 70)), rng.random((30, 70)) < 0.3
    np.testing.assert_allclose(
        average_precision(distances, relevant), average_precision(distances.astype(np.float32) - 4, relevant)
    )


def test_the_expectation_does_not_change_when_the_database_is_permuted() -> None:
    rng = np.random.default_rng(4)
    distances, relevant, order = rng.integers(0, 9, (30, 70)), rng.random((30, 70)) < 0.3, rng.permutation(70)
    np.testing.assert_allclose(
        average_precision(distances[:, order], relevant[:, order]), average_precision(distances, relevant)
    )


def test_ties_by_id_put_the_smaller_position_first() -> None:
    relevant = np.array([[False, True]])
    assert average_precision(np.array([[5, 5]]), relevant, ties="id") == pytest.approx(1 / 2)
    assert average_precision(np.array([[5, 5]]), relevant[:, ::-1], ties="id") == pytest.approx(1)


def test_a_query_with_nothing_relevant_adds_zero() -> None:
    queries = np.array([[1, 0], [0, 1]], np.uint8)
    items = np.array([[1, 0], [1, 0]], np.uint8)
    assert mean_average_precision(lambda part: np.zeros((2, 2))[part], queries, items) == pytest.approx(1 / 2)


def test_sharing_one_label_of_many_is_enough() -> None:
    queries, items = np.array([[1, 1, 0]]), np.array([[0, 1, 1], [0, 0, 1], [1, 1, 0], [0, 0, 0]])
    assert share_label(queries, items).tolist() == [[True, False, True, False]]


def test_blocks_of_queries_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    score = between(random_codes(31, 16, 0), random_codes(57, 16, 1))
    labels, queries = random_labels(57, 2), random_labels(31, 3)
    whole = mean_average_precision(score, queries, labels)
    monkeypatch.setattr(measures, "BLOCK_CELLS", 200)
    assert mean_average_precision(score, queries, labels) == pytest.approx(whole)


def test_map_of_hamming_codes_equals_the_slow_loop() -> None:
    queries, items = random_codes(10, 16, 0), random_codes(40, 16, 1)
    query_labels, labels = random_labels(10, 2), random_labels(40, 3)
    slow = []
    for code, wanted in zip(queries.values, query_labels, strict=True):
        distances = np.unpackbits(code ^ items.values, axis=1).sum(axis=1)
        hits = [bool((labels[i] & wanted).any()) for i in np.argsort(distances, kind="stable")]
        found = [sum(hits[: rank + 1]) / (rank + 1) for rank, hit in enumerate(hits) if hit]
        slow.append(sum(found) / max(1, len(found)))
    assert mean_average_precision(between(queries, items), query_labels, labels, ties="id") == pytest.approx(
        np.mean(slow)
    )


def test_three_measures_are_called_map_at_k() -> None:
    labels, score = labels_of(1, 0, 1, 1, 1), at(0.1, 0.2, 0.3, 0.4, 0.5)
    gained = 1 + 2 / 3  # ranks 1 and 3 of the first 3
    assert map_at(score, ONE, labels, 3, "all") == pytest.approx(gained / 4)
    assert map_at(score, ONE, labels, 3, "possible") == pytest.approx(gained / 3)
    assert map_at(score, ONE, labels, 3, "found", ties="id") == pytest.approx(gained / 2)


def test_map_over_what_was_found_wants_a_definite_order() -> None:
    with pytest.raises(ConfigError, match="ties='expected': must be 'id' where over='found'"):
        map_at(at(1, 2), ONE, labels_of(1, 0), 1, "found")


def test_precision_at_2_with_a_tie_at_its_edge() -> None:
    labels = labels_of(1, 1, 0)
    assert precision_at(at(0, 1, 1), ONE, labels, 2) == pytest.approx((1 + 1 / 2) / 2)
    assert precision_at(at(0, 1, 1), ONE, labels, 2, ties="id") == pytest.approx(1)
    assert precision_at(at(0, 1, 1), ONE, labels, 10) == pytest.approx(2 / 10)


def test_chance_is_the_mean_over_random_rankings() -> None:
    queries, labels, rng = random_labels(40, 0), random_labels(60, 1), np.random.default_rng(5)
    sampled = [
        mean_average_precision(lambda part: rng.random((len(queries[part]), 60)), queries, labels) for _ in range(300)
    ]
    assert chance_map(queries, labels) == pytest.approx(np.mean(sampled), abs=0.003)


def test_labels_of_another_width_are_refused() -> None:
    with pytest.raises(DataError, match=r"expected \(q, l\) and \(n, l\), got \(1, 1\) and \(3, 2\)"):
        chance_map(ONE, np.ones((3, 2), np.uint8))


def test_nan_has_no_place_in_a_ranking() -> None:
    with pytest.raises(DataError, match="NaN"):
        mean_average_precision(at(0, np.nan), ONE, labels_of(1, 0))


def test_a_score_of_another_shape_is_refused() -> None:
    with pytest.raises(DataError, match=r"expected distances \(1, 3\), got \(1, 2\)"):
        mean_average_precision(at(0, 1), ONE, labels_of(1, 0, 1))


def test_embeddings_of_different_metrics_cannot_be_compared() -> None:
    with pytest.raises(DataError, match="queries have 16 dimensions under hamming, items 16 under l2"):
        between(random_codes(2, 16, 0), Embeddings(np.zeros((2, 16), np.float32), "l2"))


# lookup by radius


def test_precision_and_recall_by_radius_are_micro_averaged() -> None:
    distances = np.array([[0, 1, 1], [2, 2, 1]], np.uint8)
    queries, labels = np.array([[1, 0], [0, 1]], np.uint8), np.array([[1, 0], [0, 1], [1, 1]], np.uint8)
    lookup = precision_recall_by_radius(lambda part: distances[part], queries, labels, bits=2)
    # within 0: item 0 of query 0 (true). Within 1: all of query 0 (2 of 3), item 2 of query 1 (true). Within 2: all
    assert lookup.precision == pytest.approx([1, 3 / 4, 4 / 6])
    assert lookup.recall == pytest.approx([1 / 4, 3 / 4, 1])


def test_at_the_full_radius_recall_is_one_and_precision_the_base_rate() -> None:
    query_labels, labels = random_labels(10, 2), random_labels(40, 3)
    lookup = precision_recall_by_radius(
        between(random_codes(10, 16, 0), random_codes(40, 16, 1)), query_labels, labels, 16
    )
    assert (len(lookup.radius), lookup.recall[-1]) == (17, 1)
    assert lookup.precision[-1] == pytest.approx(share_label(query_labels, labels).mean())


def test_a_radius_that_finds_nothing_has_precision_zero() -> None:
    lookup = precision_recall_by_radius(lambda part: np.array([[3]], np.uint8), ONE, ONE, bits=8)
    assert lookup.precision.tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1]


def test_lookup_wants_counts_of_bits() -> None:
    with pytest.raises(DataError, match="expected counts of differing bits, 0 to 8, got float64"):
        precision_recall_by_radius(at(0.5), ONE, ONE, bits=8)


# pairs


def test_the_best_of_a_pictures_sentences_counts() -> None:
    distances = np.array([[3.0, 1, 2, 9], [1, 2, 3, 4]])
    links = np.array([[0, 0], [0, 2], [1, 3]])
    assert pair_ranks(lambda part: distances[part], links, (2, 4)).tolist() == [1, 3]


def test_ties_never_favour_the_truth() -> None:
    assert pair_ranks(lambda part: np.zeros((1, 4)), np.array([[0, 0], [0, 1]]), (1, 4)).tolist() == [2]


def test_a_query_without_a_true_item_ranks_last() -> None:
    assert pair_ranks(lambda part: np.zeros((2, 3))[part], np.array([[1, 0]]), (2, 3)).tolist() == [3, 2]


def test_ranks_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    distances = np.random.default_rng(0).integers(0, 9, (23, 40))
    links = np.array([[i, (7 * i) % 40] for i in range(23)] + [[3, 1], [3, 2]])
    whole = pair_ranks(lambda part: distances[part], links, (23, 40))
    monkeypatch.setattr(measures, "BLOCK_CELLS", 100)
    assert pair_ranks(lambda part: distances[part], links, (23, 40)).tolist() == whole.tolist()


def test_recall_and_ranks_of_pairs_count_from_one() -> None:
    assert pair_recall(np.array([0, 1, 4, 9, 10])) == PairRecall(1 / 5, 3 / 5, 4 / 5, 5, 5.8)
    assert pair_recall(np.array([0, 1])).median == 1  # floor(0.5) + 1


def test_three_pictures_with_two_sentences_each() -> None:
    images = Embeddings(np.array([[1, 0], [0, 1], [-1, 0]], np.float32), "cosine")
    turned = np.array([[1, 0.1], [0.2, 1], [0.1, 1], [1, 0.3], [-1, 0.1], [-1, -0.1]], np.float32)
    links = np.array([[0, 0], [0, 1], [1, 2], [1, 3], [2, 4], [2, 5]])
    there, back = recall_both_ways(images, Embeddings(turned, "cosine"), links)
    assert there.r1 == 1
    assert back == pair_recall(np.array([0, 1, 0, 1, 0, 0]))


def test_links_beyond_the_items_are_refused() -> None:
    with pytest.raises(DataError, match=r"links: positions must lie in 0\.\.0 and 0\.\.1"):
        pair_ranks(at(0, 1), np.array([[0, 2]]), (1, 2))


def test_chance_of_pairs_with_one_true_item() -> None:
    chance = chance_pair_recall(np.ones(7), 100)
    assert chance == PairRecall(pytest.approx(0.01), pytest.approx(0.05), pytest.approx(0.1), 50, pytest.approx(50.5))


def test_chance_of_pairs_equals_random_rankings() -> None:
    rng, counts = np.random.default_rng(0), np.array([5] * 60 + [1] * 40)
    links = np.array([[i, j] for i, count in enumerate(counts) for j in rng.choice(80, count, replace=False)])
    drawn = [pair_recall(pair_ranks(lambda part: rng.random((100, 80)), links, (100, 80))) for _ in range(300)]
    chance = chance_pair_recall(counts, 80)
    for name in ("r1", "r5", "r10"):
        assert getattr(chance, name) == pytest.approx(np.mean([getattr(one, name) for one in drawn]), abs=0.01)
    assert chance.mean == pytest.approx(np.mean([one.mean for one in drawn]), rel=0.02)
    assert chance.median == pytest.approx(np.median([one.median for one in drawn]), abs=1)


# recall of an index


def test_recall_is_the_share_of_true_neighbours_that_were_found_in_any_order() -> None:
    truth, found = np.array([[1, 2, 3], [4, 5, 6]]), np.array([[2, 1, 9], [7, 8, 4]])
    assert recall_against(truth, found, 2) == pytest.approx(2 / 4)
    assert recall_against(truth, found, 3) == pytest.approx(3 / 6)


def test_padding_is_neither_missed_nor_found() -> None:
    assert recall_against(np.array([[1, -1]]), np.array([[1, -1]]), 2) == 1
    assert recall_against(np.array([[1, 2]]), np.array([[1, -1]]), 2) == 1 / 2


def test_the_nearest_neighbour_is_looked_for_among_the_first_r() -> None:
    truth, found = np.array([[1, 2], [4, 5]]), np.array([[1, 9], [9, 4]])
    assert (first_found_at(truth, found, 1), first_found_at(truth, found, 2)) == (0.5, 1)


def test_recall_wants_as_many_true_neighbours_as_it_asks_for() -> None:
    with pytest.raises(DataError, match="expected 5 true neighbours a query, got 2"):
        recall_against(np.array([[1, 2]]), np.array([[1, 2]]), 5)


# bits


def test_bits_that_are_always_one_half_the_time_and_never_on() -> None:
    signs = np.zeros((4, 8), bool)
    signs[:, 0], signs[:2, 1] = True, True
    use = bit_use(pack_bits(signs))
    assert use.balance[:3].tolist() == [1, 0, -1]
    assert use.entropy[:3].tolist() == [0, 1, 0]
    assert (use.n, use.distinct) == (4, 2)


@pytest.mark.parametrize("bits", [8, 64, 72, 256])
def test_distinct_codes_are_counted_at_any_width(bits: int) -> None:
    codes = random_codes(50, bits, 0).values
    assert bit_use(np.concatenate([codes, codes])).distinct == len({code.tobytes() for code in codes})


def test_no_codes_have_no_use() -> None:
    use = bit_use(np.empty((0, 8), np.uint8))
    assert (use.n, use.distinct) == (0, 0)
