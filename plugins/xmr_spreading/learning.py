"""What the fusers of this package learn from, checked: the vectors of both modalities as points of one space."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.plugin import as_vectors

__all__ = ["learning_vectors", "width_checked"]


def learning_vectors(pairs: xmr.FeaturePairs, name: str) -> NDArray[np.float32]:
    """(n, d) float32: pictures' vectors, then texts'; a modality may be missing. Raises DataError."""
    sides = [side for side in (pairs.images, pairs.texts) if len(side)]
    if not sides:
        raise xmr.DataError(f"{name}: no vectors to learn from")
    vectors = [as_vectors(side.vectors, f"{side.modality} features") for side in sides]
    if vectors[0].shape[1] != vectors[-1].shape[1]:
        raise xmr.DataError(
            f"{name}: pictures have {vectors[0].shape[1]} dimensions and texts {vectors[-1].shape[1]}; "
            "put a fuser before it that brings them into one space"
        )
    return np.concatenate(vectors) if len(vectors) > 1 else vectors[0]


def width_checked(features: xmr.Features, d: int, name: str) -> NDArray[np.float32]:
    """(n, d) float32, finite. Raises DataError where the width is another."""
    return as_vectors(features.vectors, f"{name}: {features.modality} features", d)
