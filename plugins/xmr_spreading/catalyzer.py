"""The catalyzer: a network that maps vectors onto the unit sphere, neighbours near, the whole spread evenly.

Source: Sablayrolles, Douze, Schmid, Jegou, "Spreading vectors for similarity search", ICLR 2019. A quantizer whose
cells are all alike, such as the lattice, then wastes none of its codes. A second network leads back from points to
vectors, so that the first candidates of a search can be compared again where nothing of the vectors is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.plugin import State, Widths, as_vectors, unit, unset
from xmr_spreading.config import CatalyzerConfig
from xmr_spreading.learning import learning_vectors, width_checked

__all__ = ["Catalyzer"]

ROWS = 4096  # vectors that pass the network at once


class Catalyzer(xmr.Fuser[CatalyzerConfig]):
    """A vector to a point of the unit sphere. Pictures and texts are taken as points of one space."""

    name: ClassVar[str] = "catalyzer"
    same_width: ClassVar[bool] = True  # both modalities are points of one space

    @xmr.takes(CatalyzerConfig)
    def __init__(self) -> None: ...

    @classmethod
    def migrate(cls, options: Mapping[str, Any], state: State, version: int) -> tuple[Mapping[str, Any], State]:
        """What is None where it is not set was 0, or "auto"."""
        return super().migrate(unset(options, inverse=0, epochs=0, through=0, r2=0, loss="auto"), state, version)

    @property
    def metric(self) -> xmr.Metric:
        """As the config says; the points are the same."""
        return cast(xmr.Metric, self.config.metric)

    def widths(self, taken: Widths) -> Widths:
        """`dim` of each modality."""
        return dict.fromkeys(taken, self.config.dim)

    def fit(self, pairs: xmr.FeaturePairs) -> Self:
        """A network trained on the vectors of both modalities together; one modality is enough.

        Neighbours are those by l2 where the vectors have that metric or none, else those by cosine: their lengths are
        then dropped. Raises DataError where vectors are too few, all equal, or of two widths.
        """
        from xmr_spreading.training import train

        vectors = learning_vectors(pairs, self.name)
        metric = next(side.metric for side in (pairs.images, pairs.texts) if len(side))
        directions = metric in ("cosine", "ip")
        layers = train(unit(vectors) if directions else vectors, self.config)
        return self.with_state(layers | {"directions": np.array([directions])})

    def fuse(self, features: xmr.Features) -> xmr.Embeddings:
        """(n, dim) float32, rows of length 1. Raises DataError, NotFittedError."""
        self.require_fit()
        vectors = width_checked(features, len(self.state["weights0"]), self.name)
        if self.state["directions"][0]:
            vectors = unit(vectors)
        points = np.empty((len(vectors), self.config.dim), np.float32)
        for start in range(0, len(vectors), ROWS):
            rows = slice(start, start + ROWS)
            points[rows] = unit(run(self.state, vectors[rows]))
        return xmr.Embeddings(points, self.metric)

    def restore(self, embeddings: xmr.Embeddings) -> xmr.Embeddings:
        """(n, d) float32: vectors that points stand for, by cosine where it was trained so, else by l2. A point's
        length does not count. Raises ConfigError where `inverse` is None, DataError, NotFittedError."""
        self.require_fit()
        if "back_weights0" not in self.state:
            raise xmr.ConfigError("catalyzer: it was trained without a way back; give inverse=1024")
        points = unit(as_vectors(embeddings.values, "catalyzer: points", self.config.dim))
        vectors = np.empty((len(points), len(self.state["weights0"])), np.float32)
        for start in range(0, len(points), ROWS):
            rows = slice(start, start + ROWS)
            vectors[rows] = run(self.state, points[rows], "back_")
        return xmr.Embeddings(vectors, "cosine" if self.state["directions"][0] else "l2")


def run(state: Mapping[str, NDArray[Any]], x: NDArray[np.float32], way: str = "") -> NDArray[np.float32]:
    """(n, outputs): the three layers of `network.folded` in numpy, those of the way "" or "back_"."""
    for layer in range(2):
        x = np.maximum(x @ state[f"{way}weights{layer}"] + state[f"{way}bias{layer}"], 0)
    return cast(NDArray[np.float32], x @ state[f"{way}weights2"] + state[f"{way}bias2"])
