"""The catalyzer: a network that maps vectors onto the unit sphere, neighbours near, the whole spread evenly.

Source: Sablayrolles, Douze, Schmid, Jegou, "Spreading vectors for similarity search", ICLR 2019. A quantizer whose
cells are all alike, such as the lattice, then wastes none of its codes. A second network leads back from points to
vectors, so that the first candidates of a search can be compared again where nothing of the vectors is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.search.distances import unit
from xmr_core.types import as_vectors
from xmr_spreading.lattice import largest_r2, sphere_lattice
from xmr_spreading.learning import learning_vectors, width_checked

__all__ = ["Catalyzer", "CatalyzerConfig"]

ROWS = 4096  # vectors that pass the network at once
CHOICES = {
    "schedule": ("quick", "paper"),
    "loss": ("auto", "nearest", "rank"),
    "metric": ("cosine", "l2"),
    "device": ("auto", "cpu", "cuda"),
}
LEAST = {"dim": 2, "hidden": 1, "inverse": 0, "k_pos": 1, "k_neg": 1, "epochs": 0, "through": 0, "r2": 0}


@dataclass(frozen=True)
class CatalyzerConfig:
    """Options of `catalyzer`."""

    dim: int = (
        24  # dimensions given; the lattice has good radii at 24, 32 and 40. More: nearer to the original, coarser
    )
    hidden: int = 768  # width of the two hidden layers: encoding takes time with its square
    inverse: int = 1024  # width of the hidden layers that lead back, for `rerank`; 0: none, a third less training time
    lambda_: float | None = 0.01  # weight of spreading against order; None tries six, for two to three times the time
    loss: str = "auto"  # of order: the paper's "rank"; "nearest": find the nearest of the batch among rounded points;
    # "auto": "rank" in the paper's schedule, "nearest" in the quick one
    restore: float = 1.0  # weight of the way back against order
    schedule: str = "quick"  # or "paper": 160 epochs of small batches, hours instead of minutes
    epochs: int = 0  # passes over the vectors; 0: the schedule's own, 100 or 160
    k_pos: int = 10  # loss "rank": a positive is one of so many nearest in input space
    k_neg: int = 50  # loss "rank": the negative is the one of this rank in output space
    through: int = 0  # train end to end through the lattice of this squared radius; 0: the loss sees no quantizer
    r2: int = 0  # the lattice in which validation measures recall; 0: the largest of 64 bits
    metric: str = "cosine"  # of what it gives, or "l2": the same order on the sphere
    device: str = "auto"  # where it trains: a GPU where there is one, else "cpu"
    seed: int = 0  # start, validation part, order of batches

    def __post_init__(self) -> None:
        for field, choices in CHOICES.items():
            if getattr(self, field) not in choices:
                raise xmr.ConfigError(field, getattr(self, field), f"must be one of {', '.join(choices)}")
        for field, least in LEAST.items():
            if getattr(self, field) < least:
                raise xmr.ConfigError(field, getattr(self, field), f"must be {least} or more")
        if self.lambda_ is not None and not 0 <= self.lambda_ < np.inf:
            raise xmr.ConfigError("lambda_", self.lambda_, "must be 0 or more, or None to choose it")
        if not 0 <= self.restore < np.inf:
            raise xmr.ConfigError("restore", self.restore, "must be 0 or more")
        for r2 in {self.r2 or largest_r2(self.dim), self.through} - {0}:
            sphere_lattice(self.dim, r2)


class Catalyzer(xmr.Fuser):
    """A vector to a point of the unit sphere. Pictures and texts are taken as points of one space."""

    name: ClassVar[str] = "catalyzer"
    Config: ClassVar[type[CatalyzerConfig]] = CatalyzerConfig
    config: CatalyzerConfig

    @property
    def metric(self) -> xmr.Metric:
        """As the config says; the points are the same."""
        return cast(xmr.Metric, self.config.metric)

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
        length does not count. Raises ConfigError where `inverse` is 0, DataError, NotFittedError."""
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
