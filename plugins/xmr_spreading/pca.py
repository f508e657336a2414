"""Principal components: the plain way to fewer dimensions, and the control for what a catalyzer adds."""

from __future__ import annotations

from typing import ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.plugin import Widths, unit
from xmr_spreading.config import PcaConfig
from xmr_spreading.learning import learning_vectors, width_checked

__all__ = ["Pca"]


class Pca(xmr.Fuser[PcaConfig]):
    """Centre, turn to the widest directions, cut."""

    name: ClassVar[str] = "pca"
    same_width: ClassVar[bool] = True  # both modalities are points of one space

    @xmr.takes(PcaConfig)
    def __init__(self) -> None: ...

    @property
    def metric(self) -> xmr.Metric:
        """cosine on the unit sphere, else l2."""
        return "cosine" if self.config.normalise else "l2"

    def widths(self, taken: Widths) -> Widths:
        """`dim` of each modality. Raises ConfigError where vectors have fewer dimensions."""
        for modality, width in taken.items():
            if width is not None and width < self.config.dim:
                raise xmr.ConfigError("dim", self.config.dim, f"must be at most {width}, the width of the {modality}s")
        return dict.fromkeys(taken, self.config.dim)

    def fit(self, pairs: xmr.FeaturePairs) -> Self:
        """The mean and the widest directions of the vectors of both modalities. Raises DataError."""
        vectors = learning_vectors(pairs, self.name)
        if min(vectors.shape) < self.config.dim:
            n, d = vectors.shape
            raise xmr.DataError(f"pca(dim={self.config.dim}): too few for it: {n} vectors of {d} dimensions")
        mean = vectors.mean(axis=0, dtype=np.float64)
        spreads, axes = np.linalg.eigh(_scatter(vectors, mean) / len(vectors))  # ascending
        axes = axes[:, : -self.config.dim - 1 : -1]  # (d, dim)
        if self.config.whiten:
            widths = np.sqrt(np.maximum(spreads[: -self.config.dim - 1 : -1], 0))
            axes = axes / np.maximum(widths, 1e-6 * max(widths[0], 1e-30))
        return self.with_state({"mean": mean.astype(np.float32), "axes": axes.astype(np.float32)})

    def fuse(self, features: xmr.Features) -> xmr.Embeddings:
        """(n, dim) float32. Raises DataError, NotFittedError."""
        self.require_fit()
        vectors = width_checked(features, len(self.state["mean"]), self.name)
        values = cast(NDArray[np.float32], (vectors - self.state["mean"]) @ self.state["axes"])
        return xmr.Embeddings(unit(values) if self.config.normalise else values, self.metric)


def _scatter(vectors: NDArray[np.float32], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """(d, d): the sum of outer products of centred vectors, in blocks."""
    total = np.zeros((vectors.shape[1],) * 2)
    for start in range(0, len(vectors), 65536):
        centred = vectors[start : start + 65536] - mean
        total += centred.T @ centred
    return total
