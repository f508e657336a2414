"""Ridge regression from image vectors to text vectors: an image becomes the mean of the captions that fit it.

Texts keep their own space, so that all that a text encoder knows about words still holds. Closed form, seconds.
Source: Hoerl & Kennard, Technometrics 1970; for retrieval, Socher et al., NIPS 2013, with a network in its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Self

import numpy as np

import xmr_core as xmr
from xmr_align.config import RidgeConfig
from xmr_align.inputs import Aligned, Doubles, Links, aligned, held_out, mean_recall, vectors_of
from xmr_align.moments import Moments, moments
from xmr_core.plugin import current_run, unit

__all__ = ["PENALTIES", "Ridge"]

PENALTIES = (0.03, 0.1, 0.3, 0.6, 1.0, 3.0, 10.0)  # tried where none is given


class Ridge(xmr.Fuser[RidgeConfig]):
    """Image vectors (or means of regions) to the space of the text vectors; both centred and of length 1.

    State: `weights` (d, e), `image_mean` (d,), `text_mean` (e,), all float32; `penalty` (), the one used.
    """

    name: ClassVar[str] = "ridge"
    accepts: ClassVar[frozenset[str]] = frozenset({"vector", "regions"})

    @xmr.takes(RidgeConfig)
    def __init__(self) -> None: ...

    @property
    def metric(self) -> xmr.Metric:
        """cosine."""
        return "cosine"

    def fit(self, pairs: xmr.FeaturePairs) -> Self:
        """The regression over all links; the penalty is that of the best recall among images held out.

        Raises DataError where there are no images with captions.
        """
        data = aligned(pairs, self.name)
        penalty = self._chosen(data) if self.config.penalty is None else self.config.penalty
        whole = moments(data, data.links)
        regularised = whole.images.copy()
        regularised[np.diag_indices_from(regularised)] += penalty * _variance(whole)
        state = {
            "weights": np.linalg.solve(regularised, whole.cross),
            "image_mean": whole.image_mean,
            "text_mean": whole.text_mean,
            "penalty": np.array(penalty),
        }
        return self.with_state({name: array.astype(np.float32) for name, array in state.items()})

    def _chosen(self, data: Aligned) -> float:
        """The penalty of the best recall among images held out; 1 where too few are."""
        learn, held = held_out(data.links, self.config.validation, self.config.seed)
        if not len(held) or not len(learn):
            return 1.0
        recalls = dict(_recalls(data, learn, held))
        run = current_run()
        for step, (penalty, recall) in enumerate(recalls.items()):
            run.log(self.name, step, penalty=penalty, recall=recall)
        return max(PENALTIES, key=lambda penalty: recalls[penalty])

    def fuse(self, features: xmr.Features) -> xmr.Embeddings:
        """(n, e) float32 of length 1. Raises DataError, NotFittedError."""
        self.require_fit()
        side = features.modality
        centre = self.state[f"{side}_mean"]
        vectors = vectors_of(features, self.name, len(centre)) - centre
        if side == xmr.IMAGE:
            vectors = vectors @ self.state["weights"]
        return xmr.Embeddings(unit(vectors), self.metric)


def _variance(found: Moments) -> float:
    """The mean variance of the dimensions of image vectors; 1 where they do not vary at all."""
    return float(np.trace(found.images)) / len(found.images) or 1.0


def _recalls(data: Aligned, learn: Links, held: Links) -> Iterator[tuple[float, float]]:
    """The recall among held-out items under each penalty, from one eigendecomposition."""
    found = moments(data, learn)
    spreads, axes = np.linalg.eigh(found.images)  # (d,), (d, d)
    cross = (axes.T @ found.cross).astype(np.float32)  # (d, e)
    (images, left), (texts, right) = (np.unique(held[:, side], return_inverse=True) for side in (0, 1))
    turned: Doubles = (data.images[images] - found.image_mean) @ axes  # (h, d)
    wanted = data.texts[texts] - found.text_mean.astype(np.float32)
    for penalty in PENALTIES:
        shrunk = turned / (np.maximum(spreads, 0) + penalty * _variance(found))
        yield penalty, mean_recall(shrunk.astype(np.float32) @ cross, wanted, np.stack([left, right], axis=1))
