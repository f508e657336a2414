"""Exact search over vectors, held against faiss and against all distances sorted."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

import xmr_core as xmr
from xmr_core.search.vector_indexer import vector_form
from xmr_core.testing import clustered, conformance
from xmr_flat import Flat

TestFlat = conformance("indexer", Flat)


def codes_of(embeddings: xmr.Embeddings) -> tuple[Flat, xmr.Codes]:
    flat = Flat().fit(embeddings)
    return flat, flat.encode(embeddings, np.arange(len(embeddings)) * 3)


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
@pytest.mark.parametrize("k", [1, 10, 2000])
def test_flat_is_the_oracle_to_the_last_id(metric: xmr.Metric, k: int) -> None:
    points = clustered(metric, 1500)
    flat, codes = codes_of(points)
    hits, want = (
        flat.build(codes).search(points.take(slice(0, 100)), k),
        xmr.nearest(flat, points.take(slice(0, 100)), codes, k),
    )
    np.testing.assert_array_equal(hits.ids, want.ids)
    np.testing.assert_array_equal(hits.distances, want.distances)


def test_bags_of_words_full_of_ties_are_ranked_as_the_oracle_ranks_them() -> None:
    words = xmr.Embeddings((np.random.default_rng(0).random((3000, 30)) < 0.1).astype(np.float32), "cosine")
    flat, codes = codes_of(words)
    hits, want = (
        flat.build(codes).search(words.take(slice(0, 50)), 20),
        xmr.nearest(flat, words.take(slice(0, 50)), codes, 20),
    )
    np.testing.assert_array_equal(hits.ids, want.ids)


def test_distances_are_those_of_faiss() -> None:
    points = clustered("l2", 2000)
    flat, codes = codes_of(points)
    index = faiss.IndexFlatL2(points.dim)
    index.add(points.values)
    squares, _ = index.search(points.values[:50], 10)
    np.testing.assert_allclose(
        flat.build(codes).search(points.take(slice(0, 50)), 10).distances ** 2, squares, atol=1e-3
    )


def test_the_metric_is_that_of_the_vectors_it_was_fitted_on() -> None:
    flat, codes = codes_of(clustered("ip", 50))
    assert flat.metric == "ip" and flat.sql_form(codes.layout, "ip") == vector_form(codes.layout.dim, "ip")
    with pytest.raises(xmr.SpaceMismatchError, match="fitted on vectors under ip, the query has l2"):
        flat.build(codes).search(clustered("l2", 1), 3)


def test_codes_of_another_width_are_refused() -> None:
    flat, _ = codes_of(clustered("l2", 20))
    with pytest.raises(xmr.DataError, match="expected codes of 32 dimensions, got 8"):
        flat.build(xmr.Codes.of_vectors(np.arange(5), np.ones((5, 8), np.float32)))


def test_building_needs_a_fit() -> None:
    with pytest.raises(xmr.NotFittedError, match="flat is not fitted"):
        Flat().build(xmr.Codes.of_vectors(np.arange(5), np.ones((5, 8), np.float32)))
