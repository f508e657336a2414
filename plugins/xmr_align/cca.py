"""Regularised canonical correlation analysis: the directions of image and text vectors that go together most.

Solved in float64 by Cholesky factors and a singular value decomposition. Sources: Hotelling, Biometrika 1936; Hardoon
et al., Neural Computation 2004 (for retrieval, regularised); Gong et al., IJCV 2014 (weighted by correlation).
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_align.config import CcaConfig
from xmr_align.inputs import Aligned, Doubles, aligned, held_out, mean_recall, rooted, roots, vectors_of
from xmr_align.moments import Moments, moments
from xmr_core.plugin import current_run, unit

__all__ = ["PENALTIES", "Cca"]

PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0)  # tried where none is given
ROOTED = f"{xmr.IMAGE}_rooted"  # in the state

State = dict[str, NDArray[Any]]


class Cca(xmr.Fuser[CcaConfig]):
    """Both modalities to their canonical directions: (n, dim), or as many as the narrower side has; of length 1.

    State: `image` (d, dim), `text` (e, dim), their means `image_mean`, `text_mean`, and `correlations` (dim,);
    `image_rooted` () bool, whether image vectors are replaced by their square roots; absent: they are not.
    """

    name: ClassVar[str] = "cca"
    accepts: ClassVar[frozenset[str]] = frozenset({"vector", "regions"})

    @xmr.takes(CcaConfig)
    def __init__(self) -> None: ...

    @property
    def metric(self) -> xmr.Metric:
        """cosine."""
        return "cosine"

    def fit(self, pairs: xmr.FeaturePairs) -> Self:
        """The directions over all links; the penalty is that of the best recall among images held out.

        Raises DataError where there are no images with captions, ConfigError where penalty=0 has no solution.
        """
        data, root = rooted(aligned(pairs, self.name))
        penalty = self._chosen(data) if self.config.penalty is None else self.config.penalty
        solved = self._solved(moments(data, data.links, texts=True), penalty)
        return self.with_state({**solved, ROOTED: np.array(root)})

    def _chosen(self, data: Aligned) -> float:
        """The penalty of the best recall among images held out; 0.3 where too few are."""
        learn, held = held_out(data.links, self.config.validation, self.config.seed)
        if not len(held) or not len(learn):
            return 0.3
        (images, left), (texts, right) = (np.unique(held[:, side], return_inverse=True) for side in (0, 1))
        links, recalls = np.stack([left, right], axis=1), {}
        part = moments(data, learn, texts=True)
        for step, penalty in enumerate(PENALTIES):
            tried = self.with_state(self._solved(part, penalty))
            there = tried.fuse(xmr.Features.of_vectors(xmr.IMAGE, data.images[images]))
            back = tried.fuse(xmr.Features.of_vectors(xmr.TEXT, data.texts[texts]))
            recalls[penalty] = mean_recall(there.values, back.values, links)
            current_run().log(self.name, step, penalty=penalty, recall=recalls[penalty])
        return max(PENALTIES, key=lambda penalty: recalls[penalty])

    def _solved(self, found: Moments, penalty: float) -> State:
        assert found.texts is not None  # asked for
        image, text, correlations = canonical(found.images, found.cross, found.texts, penalty)
        kept = slice(self.config.dim)
        weights = correlations[kept] ** self.config.power
        state = {
            "image": image[:, kept] * weights,
            "text": text[:, kept] * weights,
            "correlations": correlations[kept],
            "image_mean": found.image_mean,
            "text_mean": found.text_mean,
        }
        return {name: array.astype(np.float32) for name, array in state.items()}

    def fuse(self, features: xmr.Features) -> xmr.Embeddings:
        """(n, dim) float32 of length 1. Raises DataError, NotFittedError."""
        self.require_fit()
        centre = self.state[f"{features.modality}_mean"]
        vectors = vectors_of(features, self.name, len(centre))
        if features.modality == xmr.IMAGE and self.state.get(ROOTED, False):
            vectors = roots(vectors)
        return xmr.Embeddings(unit((vectors - centre) @ self.state[features.modality]), self.metric)


def canonical(xx: Doubles, xy: Doubles, yy: Doubles, penalty: float) -> tuple[Doubles, Doubles, Doubles]:
    """Directions A (d, k) and B (e, k) with A' xx A = B' yy B = 1 and A' xy B diagonal, and that diagonal, descending.

    xx (d, d), xy (d, e), yy (e, e) are covariances; `penalty` times the mean variance is added to the diagonals of xx
    and yy first. With Cholesky factors xx = L L' and yy = M M', it takes the singular vectors of L^-1 xy M^-T. Raises
    ConfigError where xx or yy is singular.
    """
    try:
        left, right = (np.linalg.cholesky(_regularised(c, penalty)) for c in (xx, yy))
    except np.linalg.LinAlgError:
        raise xmr.ConfigError("penalty", penalty, "is too small: dimensions depend on one another") from None
    whitened = np.linalg.solve(right, np.linalg.solve(left, xy).T).T  # (d, e)
    u, correlations, vt = np.linalg.svd(whitened, full_matrices=False)
    return np.linalg.solve(left.T, u), np.linalg.solve(right.T, vt.T), correlations


def _regularised(covariance: Doubles, penalty: float) -> Doubles:
    diagonal = penalty * (float(np.trace(covariance)) / len(covariance) or 1.0)
    return covariance + diagonal * np.eye(len(covariance))
