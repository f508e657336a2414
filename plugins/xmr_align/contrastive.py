"""Two small networks that bring an image and its captions together and push all others of a batch apart.

Source: the objective of Radford et al., ICML 2021 (CLIP), over vectors of encoders that stay as they are.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np

import xmr_core as xmr
from xmr_align.config import ContrastiveConfig
from xmr_align.inputs import aligned, vectors_of
from xmr_core.plugin import unit

__all__ = ["Contrastive"]


class Contrastive(xmr.Fuser[ContrastiveConfig]):
    """Vectors (or means of regions) of both modalities to (n, dim) of length 1.

    State: of each modality `wide` (d, hidden), `narrow` (hidden, dim) and their biases, under `image/` and `text/`.
    """

    name: ClassVar[str] = "contrastive"
    accepts: ClassVar[frozenset[str]] = frozenset({"vector", "regions"})

    @xmr.takes(ContrastiveConfig)
    def __init__(self) -> None: ...

    @property
    def metric(self) -> xmr.Metric:
        """cosine."""
        return "cosine"

    def fit(self, pairs: xmr.FeaturePairs) -> Self:
        """Both networks, trained on the links. A fit that was killed resumes from its last checkpoint.

        Raises DataError where there are no images with captions, ConfigError where the loss stops being finite.
        """
        from xmr_align.training import trained

        return self.with_state(trained(aligned(pairs, self.name), self.config))

    def fuse(self, features: xmr.Features) -> xmr.Embeddings:
        """(n, dim) float32 of length 1. Raises DataError, NotFittedError."""
        self.require_fit()
        wide, wide_bias, narrow, narrow_bias = (
            self.state[f"{features.modality}/{name}"] for name in ("wide", "wide_bias", "narrow", "narrow_bias")
        )
        vectors = vectors_of(features, self.name, len(wide))
        hidden = np.maximum(vectors @ wide + wide_bias, 0)
        return xmr.Embeddings(unit(hidden @ narrow + narrow_bias), self.metric)
