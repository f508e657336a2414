"""Four ways from vectors to bits."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.progress import Run, use_run
from xmr_core.search.distances import Scan, hamming_counts
from xmr_core.search.rotations import random_rotation
from xmr_core.testing import conformance, feature_pairs
from xmr_sign import Hyperplanes, Itq, Sign, Threshold

TestSign = conformance("fuser", Sign)
TestThreshold = conformance("fuser", Threshold)
TestThresholdByMean = conformance("fuser", Threshold, config={"by": "mean"})
TestItq = conformance("fuser", Itq, config={"bits": 16})
TestHyperplanes = conformance("fuser", Hyperplanes, config={"bits": 64})

Floats = NDArray[np.float32]


def both(images: Floats, texts: Floats) -> xmr.FeaturePairs:
    sides = xmr.Features.of_vectors(xmr.IMAGE, images), xmr.Features.of_vectors(xmr.TEXT, texts)
    return xmr.FeaturePairs(*sides, links=np.empty((0, 2), np.int64))


def bits(fuser: xmr.Fuser, vectors: Floats, modality: str = xmr.IMAGE) -> NDArray[np.bool_]:
    return xmr.unpack_bits(fuser.fuse(xmr.Features.of_vectors(modality, vectors)).values)


def recall(fuser: xmr.Fuser, vectors: Floats) -> float:
    """The share of the true 10 neighbours of 200 vectors among the 10 nearest codes."""
    codes = fuser.fuse(xmr.Features.of_vectors(xmr.IMAGE, vectors)).values
    return shared(hamming_counts(codes[:200], codes), vectors)


def shared(counts: NDArray[np.int64], vectors: Floats) -> float:
    truth = Scan(vectors, np.arange(len(vectors)), "cosine").search(vectors[:200], 10).ids
    found = np.argsort(counts, axis=1, kind="stable")[:, :10]
    return float(np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(found, truth, strict=True)]))


@pytest.fixture(scope="module")
def vectors() -> Floats:
    """A few directions hold most of the spread, as in the features of real encoders."""
    rng = np.random.default_rng(0)
    turned = rng.standard_normal((1500, 64)) / np.arange(1, 65) @ random_rotation(64, rng)
    return turned.astype(np.float32)


# sign


def test_sign_learns_nothing_and_keeps_its_fingerprint(vectors: Floats) -> None:
    fitted = Sign().fit(both(vectors, vectors))
    assert fitted.state == {} and fitted.fingerprint() == Sign().fingerprint()


def test_zero_counts_as_positive_and_bit_zero_comes_first() -> None:
    vectors = np.array([[0, -1, -1, -1, -1, -1, -1, 2], [-0.0, 1, -1, -1, -1, -1, -1, -1]], np.float32)
    embeddings = Sign().fuse(xmr.Features.of_vectors(xmr.TEXT, vectors))
    np.testing.assert_array_equal(embeddings.values, [[0b10000001], [0b00000011]])
    assert embeddings.metric == "hamming"


def test_a_width_that_is_no_multiple_of_eight_is_refused() -> None:
    with pytest.raises(xmr.DataError, match="multiple of 8"):
        bits(Sign(), np.ones((2, 9), np.float32))


# threshold


def test_every_bit_parts_each_modality_in_halves_by_its_median() -> None:
    rng = np.random.default_rng(0)
    images, texts = rng.exponential(size=(101, 8)) + 5, rng.exponential(size=(51, 8)) - 7  # a wide gap between them
    fitted = Threshold().fit(both(images.astype(np.float32), texts.astype(np.float32)))
    assert (bits(fitted, images.astype(np.float32)).sum(axis=0) == 51).all()  # the median itself counts as above
    assert (bits(fitted, texts.astype(np.float32), xmr.TEXT).sum(axis=0) == 26).all()


def test_a_threshold_by_mean_is_the_mean() -> None:
    images = np.repeat(np.array([[0], [0], [9]], np.float32), 8, axis=1)
    fitted = Threshold(by="mean").fit(both(images, images))
    np.testing.assert_array_equal(fitted.state["image"], np.full(8, 3))
    assert bits(fitted, np.full((1, 8), 3, np.float32)).all()


def test_a_modality_that_was_not_there_to_fit_is_cut_where_the_other_is() -> None:
    fitted = Threshold().fit(both(np.full((3, 8), 2, np.float32), np.zeros((0, 0), np.float32)))
    assert bits(fitted, np.full((1, 8), 2, np.float32), xmr.TEXT).all()
    assert not bits(fitted, np.ones((1, 8), np.float32), xmr.TEXT).any()


def test_another_statistic_is_refused() -> None:
    with pytest.raises(xmr.ConfigError, match="by='mode': must be one of median, mean"):
        Threshold(by="mode")


# itq


def test_itq_projects_along_orthonormal_columns() -> None:
    projection = Itq(bits=16).fit(feature_pairs()).state["projection"]
    np.testing.assert_allclose(projection.T @ projection, np.eye(16), atol=1e-6)


def test_itq_logs_a_loss_that_never_rises() -> None:
    losses: list[float] = []

    class Log(Run):
        def log(self, what: str, step: int, **figures: float) -> None:
            losses.append(figures["loss"])

    with use_run(Log()):
        Itq(bits=16, iterations=20).fit(feature_pairs())
    assert len(losses) == 20 and (np.diff(losses) <= 1e-9).all()


def test_itq_keeps_more_neighbours_than_random_planes(vectors: Floats) -> None:
    pairs = both(vectors, vectors)
    learned, random = (recall(made.fit(pairs), vectors) for made in (Itq(bits=32), Hyperplanes(bits=32)))
    assert learned > random + 0.05


def test_itq_keeps_as_many_neighbours_as_that_of_faiss(vectors: Floats) -> None:
    theirs = faiss.ITQTransform(64, 32, True)
    theirs.train(vectors)
    codes = xmr.pack_bits(theirs.apply(vectors) >= 0)
    fitted = Itq(bits=32).fit(both(vectors, vectors))
    assert recall(fitted, vectors) > shared(hamming_counts(codes[:200], codes), vectors) - 0.03


def test_itq_of_more_bits_than_dimensions_is_refused() -> None:
    with pytest.raises(xmr.ConfigError, match="bits=64: must be at most 32"):
        Itq(bits=64).fit(feature_pairs())


@pytest.mark.parametrize("fuser", [Itq, Hyperplanes])
@pytest.mark.parametrize("count", [0, 12])
def test_bits_come_in_bytes(fuser: type[xmr.Fuser], count: int) -> None:
    with pytest.raises(xmr.ConfigError, match="multiple of 8"):
        fuser(bits=count)


def test_modalities_of_different_widths_are_refused() -> None:
    with pytest.raises(xmr.DataError, match="one width, got 8 and 16 dimensions"):
        Itq(bits=8).fit(both(np.ones((3, 8), np.float32), np.ones((3, 16), np.float32)))


# hyperplanes


def test_differing_bits_estimate_the_angle() -> None:
    vectors = np.array([[1, 0, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 1, 0], [-1, 0, 0, 0]], np.float32)
    made = bits(Hyperplanes(bits=8192, centre=False).fit(both(vectors, vectors)), vectors)
    angles = (made[0] != made).mean(axis=1) * np.pi
    np.testing.assert_allclose(angles, np.arccos([1, 0.6, 0, -1]), atol=0.05)


def test_recall_rises_with_bits(vectors: Floats) -> None:
    pairs = both(vectors, vectors)
    recalls = [recall(Hyperplanes(bits=count).fit(pairs), vectors) for count in (16, 64, 256, 1024)]
    assert recalls == sorted(recalls) and recalls[-1] > 0.6


def test_centred_planes_balance_the_bits_of_vectors_that_are_all_positive(vectors: Floats) -> None:
    positive = np.abs(vectors) + 1
    centred, plain = (
        bits(Hyperplanes(bits=256, centre=centre).fit(both(positive, positive)), positive) for centre in (True, False)
    )
    assert np.abs(centred.mean(axis=0) - 0.5).mean() < 0.1 < np.abs(plain.mean(axis=0) - 0.5).mean()
