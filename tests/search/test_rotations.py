"""Rotations keep lengths, and the learned one brings vectors nearer to the corners of the cube."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from xmr_core.search.rotations import hyperplanes, itq, principal_axes, random_rotation
from xmr_core.testing import clustered


@pytest.fixture(scope="module")
def centred() -> NDArray[np.float64]:
    values = clustered("l2", 1500, 48, 40).values.astype(np.float64) * np.linspace(2, 0.2, 48)
    centred: NDArray[np.float64] = values - values.mean(axis=0)
    return centred


def cornered(projected: NDArray[np.float64]) -> float:
    """The mean cosine of vectors (n, b) to the nearest corner of the cube: 1 where they lie on the diagonals."""
    lengths = np.linalg.norm(projected, axis=1) * np.sqrt(projected.shape[1])
    return float((np.abs(projected).sum(axis=1) / lengths).mean())


def test_a_random_rotation_is_orthogonal() -> None:
    rotation = random_rotation(20, np.random.default_rng(0))
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(20), atol=1e-12)


def test_principal_axes_spread_most_and_widest_first(centred: NDArray[np.float64]) -> None:
    spread = (centred @ principal_axes(centred, 5)).var(axis=0)
    widest = np.sort(np.linalg.eigvalsh(centred.T @ centred / len(centred)))[::-1][:5]
    np.testing.assert_allclose(spread, widest)


def test_itq_is_orthogonal_and_its_loss_never_rises(centred: NDArray[np.float64]) -> None:
    losses: list[float] = []
    turned = itq(centred, 16, 30, np.random.default_rng(0), lambda iteration, loss: losses.append(loss))
    np.testing.assert_allclose(turned.T @ turned, np.eye(16), atol=1e-6)
    assert len(losses) == 30 and (np.diff(losses) <= 1e-9).all()


def test_itq_comes_nearer_to_the_corners_than_a_random_rotation(centred: NDArray[np.float64]) -> None:
    learned, random = (centred @ itq(centred, 16, rounds, np.random.default_rng(0)) for rounds in (50, 0))
    assert cornered(learned) > cornered(random) + 0.01


def test_itq_is_as_good_as_that_of_faiss(centred: NDArray[np.float64]) -> None:
    theirs = faiss.ITQTransform(48, 16, True)
    theirs.train(centred.astype(np.float32))
    ours = centred @ itq(centred, 16, 50, np.random.default_rng(0))
    assert cornered(ours) > cornered(theirs.apply(centred.astype(np.float32)).astype(np.float64)) - 0.005


@pytest.mark.parametrize("cosine", [-0.5, 0.0, 0.6, 0.95])
def test_hyperplanes_part_two_vectors_as_often_as_their_angle_says(cosine: float) -> None:
    pair = np.array([[1, 0], [cosine, np.sqrt(1 - cosine**2)]])
    sides = pair @ hyperplanes(2, 100_000, np.random.default_rng(0)) >= 0
    assert (sides[0] == sides[1]).mean() == pytest.approx(1 - np.arccos(cosine) / np.pi, abs=0.005)
