"""Small networks that bring an image and its captions together and push all others of a batch apart.

Several are trained side by side and their points joined: they err in different ways. Source: the objective of Radford
et al., ICML 2021 (CLIP), over vectors of encoders that stay as they are.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np

import xmr_core as xmr
from xmr_align.config import ContrastiveConfig
from xmr_align.inputs import aligned, rooted, roots, vectors_of
from xmr_core.plugin import unit

__all__ = ["Contrastive"]

ROOTED = f"{xmr.IMAGE}/rooted"  # in the state


class Contrastive(xmr.Fuser[ContrastiveConfig]):
    """Vectors (or means of regions) of both modalities to (n, dim) of length 1.

    State: of each modality `wide` (d, k * hidden), `narrow` (k, hidden, dim / k), or (hidden, dim) where k is 1, and
    their biases, under `image/` and `text/`;
    `image/rooted` () bool, whether image vectors are replaced by their square roots; absent: they are not.
    """

    name: ClassVar[str] = "contrastive"
    accepts: ClassVar[frozenset[str]] = frozenset({"vector", "regions"})
    later: ClassVar[frozenset[str]] = frozenset({"members"})

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

        data, root = rooted(aligned(pairs, self.name))
        return self.with_state({**trained(data, self.config), ROOTED: np.array(root)})

    def fuse(self, features: xmr.Features) -> xmr.Embeddings:
        """(n, dim) float32 of length 1. Raises DataError, NotFittedError."""
        self.require_fit()
        wide, wide_bias, narrow, narrow_bias = (
            self.state[f"{features.modality}/{name}"] for name in ("wide", "wide_bias", "narrow", "narrow_bias")
        )
        vectors = vectors_of(features, self.name, len(wide))
        if features.modality == xmr.IMAGE and self.state.get(ROOTED, False):
            vectors = roots(vectors)
        hidden = np.maximum(vectors @ wide + wide_bias, 0)  # (n, k * hidden)
        narrow = narrow.reshape(-1, *narrow.shape[-2:])  # (k, hidden, e); of one network it is stored without k
        layers = zip(np.split(hidden, len(narrow), axis=1), narrow, narrow_bias.reshape(len(narrow), -1), strict=True)
        points = [unit(own @ layer + bias) for own, layer, bias in layers]  # k times (n, e)
        return xmr.Embeddings(unit(np.concatenate(points, axis=1)), self.metric)
