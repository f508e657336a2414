"""Vectors as they come, or at length 1."""

from __future__ import annotations

import numpy as np
import pytest

import xmr_core as xmr
from xmr_core.testing import conformance
from xmr_identity import Identity

TestIdentity = conformance("fuser", Identity)
TestNormalised = conformance("fuser", Identity, config={"metric": "l2", "normalise": True})

FEATURES = xmr.Features.of_vectors(xmr.TEXT, np.array([[3, 4], [0, 0], [0, 2]], np.float32))


def test_vectors_are_left_as_they_are() -> None:
    embeddings = Identity(metric="ip").fuse(FEATURES)
    np.testing.assert_array_equal(embeddings.values, FEATURES.vectors)
    assert embeddings.metric == "ip"


def test_normalised_vectors_have_length_one_and_zeros_stay() -> None:
    embeddings = Identity(normalise=True).fuse(FEATURES)
    np.testing.assert_allclose(embeddings.values, [[0.6, 0.8], [0, 0], [0, 1]], rtol=1e-6)


@pytest.mark.parametrize("metric", ["hamming", "dot"])
def test_a_metric_that_is_none_of_vectors_is_refused(metric: str) -> None:
    with pytest.raises(xmr.ConfigError, match="must be one of cosine, ip, l2"):
        Identity(metric=metric)
