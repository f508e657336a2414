"""BitFuser: a linear hasher says what it learns; centring, projection, bits and checks are inherited."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.search.hashing import BitFuser
from xmr_core.testing import conformance


@dataclass(frozen=True)
class TwinAxesConfig:
    bits: int = 8
    seed: int = 0


class TwinAxes(BitFuser):
    """The axes along which images and their texts vary together: partial least squares."""

    name: ClassVar[str] = "twin_axes"
    Config: ClassVar[type[TwinAxesConfig]] = TwinAxesConfig
    same_width: ClassVar[bool] = False
    config: TwinAxesConfig

    def learn(self, centred: Mapping[str, NDArray[np.float32]], pairs: xmr.FeaturePairs) -> dict[str, NDArray[Any]]:
        if len(centred) < 2:
            raise xmr.DataError("twin_axes: learns from pairs of images and texts")
        x, y = (centred[modality][pairs.links[:, i]] for i, modality in enumerate((xmr.IMAGE, xmr.TEXT)))
        left, _, right = np.linalg.svd(x.astype(np.float64).T @ y)
        bits = self.config.bits
        return {"projection/image": left[:, :bits], "projection/text": right[:bits].T}


class Folded(BitFuser):
    """Not linear: the size of each number, against its mean."""

    name: ClassVar[str] = "folded"

    def learn(self, centred: Mapping[str, NDArray[np.float32]], pairs: xmr.FeaturePairs) -> dict[str, NDArray[Any]]:
        return {"mean": np.abs(np.concatenate(list(centred.values()))).mean(axis=0)}

    def project(self, centred: NDArray[np.float64], modality: str) -> NDArray[np.float64]:
        return np.abs(centred) - self.state["mean"]


TestFolded = conformance("fuser", Folded)


def pairs(n: int = 200, image: int = 24, text: int = 16) -> xmr.FeaturePairs:
    """Vectors of two widths about one of 12 hidden numbers each, away from the origin."""
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((n, 12))
    sides = [
        (hidden @ rng.standard_normal((12, dim)) + 0.1 * rng.standard_normal((n, dim)) + 5).astype("f4")
        for dim in (image, text)
    ]
    features = (xmr.Features.of_vectors(m, side) for m, side in zip((xmr.IMAGE, xmr.TEXT), sides, strict=True))
    return xmr.FeaturePairs(*features, np.stack([np.arange(n)] * 2, axis=1))


def test_pairs_of_two_widths_get_like_bits_in_half_a_screen() -> None:
    given = pairs()
    hasher = TwinAxes().fit(given)
    image, text = (xmr.unpack_bits(hasher.fuse(side).values) for side in (given.images, given.texts))
    assert (image == text).mean() > 0.85
    assert abs(image.mean() - 0.5) < 0.1  # centred


def test_a_bit_is_the_sign_of_the_centred_projection() -> None:
    given = pairs()
    hasher = TwinAxes().fit(given)
    x = given.images.vectors
    plain = (x - x.mean(axis=0, dtype=np.float64)) @ hasher.state["projection/image"] >= 0
    assert (xmr.unpack_bits(hasher.fuse(given.images).values) == plain).mean() > 0.999  # but for rounding


def test_what_is_learned_is_kept_in_float32() -> None:
    assert {array.dtype for array in TwinAxes().fit(pairs()).state.values()} == {np.dtype(np.float32)}


def test_one_width_is_asked_for_where_the_projection_is_shared() -> None:
    with pytest.raises(xmr.DataError, match="vectors of one width, got 16 and 24 dimensions"):
        Folded().fit(pairs())


def on_images_alone(given: xmr.FeaturePairs) -> Folded:
    nothing = xmr.Features("text", np.zeros((0, 1, 0), np.float32))
    return Folded().fit(xmr.FeaturePairs(given.images, nothing, np.zeros((0, 2), np.int64)))


def test_a_width_that_was_not_fitted_is_refused() -> None:
    alone = on_images_alone(pairs(image=16))
    for side in (pairs().images, pairs(text=24).texts):
        with pytest.raises(xmr.DataError, match="expected 16 dimensions, got 24"):
            alone.fuse(side)


def test_a_hasher_fitted_on_images_alone_hashes_texts_of_their_space_as_images() -> None:
    given = pairs(image=16)
    alone = on_images_alone(given)
    as_texts = xmr.Features.of_vectors(xmr.TEXT, given.images.vectors)
    np.testing.assert_array_equal(alone.fuse(as_texts).values, alone.fuse(given.images).values)


def test_a_modality_that_was_not_fitted_is_refused_where_each_has_its_own_projection() -> None:
    given = pairs()
    state = TwinAxes().fit(given).state
    alone = TwinAxes().with_state({name: array for name, array in state.items() if "text" not in name})
    with pytest.raises(xmr.DataError, match="twin_axes was fitted without texts"):
        alone.fuse(given.texts)
