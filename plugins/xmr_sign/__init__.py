"""Vectors to bits: a bit says on which side of a boundary a number lies, and zero lies on the upper side.

`sign` cuts at zero and `threshold` at a learned place; `itq` and `hyperplanes` turn the vectors first, and so give any
number of bits. What is learned about pictures and about sentences is learned apart: encoders seldom give both the same
mean, and a common boundary would tell the modalities apart instead of what they show.

Sources: Gong and Lazebnik, "Iterative Quantization", CVPR 2011 (itq); Charikar, STOC 2002 (hyperplanes).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.options import Bits, Range, Seed
from xmr_core.progress import current_run
from xmr_core.search import rotations
from xmr_core.types import as_vectors

Floats = NDArray[np.float32]
Statistic = Literal["median", "mean"]
STATISTICS: dict[str, Callable[[Floats], NDArray[Any]]] = {
    "median": lambda vectors: np.median(vectors, axis=0),
    "mean": lambda vectors: vectors.mean(axis=0, dtype=np.float64),
}
TRAINED_ON = 1 << 16  # rows: itq learns from no more, chosen at random


class BitFuser(xmr.Fuser):
    """A fuser that gives packed bits."""

    @property
    def metric(self) -> xmr.Metric:
        """hamming."""
        return "hamming"


class Sign(BitFuser):
    """One bit a dimension: 1 where the number is zero or more. For vectors that were trained to be cut there."""

    name: ClassVar[str] = "sign"
    needs_fit: ClassVar[bool] = False

    def fuse(self, features: xmr.Features) -> xmr.Embeddings:
        """Bits (n, d / 8). Raises DataError where d is no multiple of 8, or on NaN."""
        return _cut(as_vectors(features.vectors, f"{features.modality} features") >= 0)


@dataclass(frozen=True)
class ThresholdConfig:
    """Where the dimensions are cut."""

    by: Annotated[Statistic, "median: every bit is 1 for half of the training items; mean: quicker, balances less"] = (
        "median"
    )


class Threshold(BitFuser):
    """One bit a dimension: 1 where the number is no less than the median or mean of its dimension and modality."""

    name: ClassVar[str] = "threshold"
    Config: ClassVar[type[ThresholdConfig]] = ThresholdConfig
    config: ThresholdConfig

    def fit(self, pairs: xmr.FeaturePairs) -> Self:
        """The thresholds (d,) of each modality that has features."""
        return self.with_state(_centres(pairs, self.config.by))

    def fuse(self, features: xmr.Features) -> xmr.Embeddings:
        """Bits (n, d / 8). Raises NotFittedError, DataError where d is no multiple of 8."""
        vectors, centre = _placed(self, features)
        return _cut(vectors >= centre)


@dataclass(frozen=True)
class ItqConfig:
    """How many bits, and how long to turn."""

    bits: Annotated[Bits, "bits of a code, at most the width of the vectors; more: higher recall, longer codes"]
    iterations: Annotated[
        int, Range(0, 10_000), "rounds of learning, n bits**2 steps each; 0: a random rotation of the principal axes"
    ] = 50
    seed: Annotated[Seed, "draws the rotation that it starts from"] = 0


class Itq(BitFuser):
    """The widest principal axes, turned so that cutting at zero loses least. Beats `hyperplanes` at equal bits."""

    name: ClassVar[str] = "itq"
    Config: ClassVar[type[ItqConfig]] = ItqConfig
    config: ItqConfig

    def fit(self, pairs: xmr.FeaturePairs) -> Self:
        """The mean of each modality, and `projection` (d, bits). Raises ConfigError where d < bits."""
        means = _centres(pairs, "mean")
        centred = np.concatenate([_vectors(side) - means[side.modality] for side in _sides(pairs)], dtype=np.float64)
        if self.config.bits > centred.shape[1]:
            rule = f"must be at most {centred.shape[1]}, the width of the vectors; hyperplanes gives more"
            raise xmr.ConfigError("bits", self.config.bits, rule)
        rng = np.random.default_rng(self.config.seed)
        if len(centred) > TRAINED_ON:
            centred = centred[rng.choice(len(centred), TRAINED_ON, replace=False)]
        run = current_run()
        turned = rotations.itq(
            centred,
            self.config.bits,
            self.config.iterations,
            rng,
            lambda iteration, loss: run.log(self.name, iteration, loss=loss),
        )
        return self.with_state({**means, "projection": turned.astype(np.float32)})

    def fuse(self, features: xmr.Features) -> xmr.Embeddings:
        """Bits (n, bits / 8). Raises NotFittedError, DataError."""
        return _projected(self, features)


@dataclass(frozen=True)
class HyperplanesConfig:
    """How many planes, and what they pass through."""

    bits: Annotated[Bits, "bits of a code; differing bits estimate the angle: bits * angle / pi, +- sqrt(bits) / 2"]
    centre: Annotated[
        bool, "planes pass through the mean of each modality, so that bits balance; False: through the origin"
    ] = True
    seed: Annotated[Seed, "draws the planes"] = 0


class Hyperplanes(BitFuser):
    """Sides of random hyperplanes: two vectors at angle t agree in each bit with probability 1 - t / pi."""

    name: ClassVar[str] = "hyperplanes"
    Config: ClassVar[type[HyperplanesConfig]] = HyperplanesConfig
    config: HyperplanesConfig

    def fit(self, pairs: xmr.FeaturePairs) -> Self:
        """The mean of each modality (zero without `centre`), and `projection` (d, bits)."""
        means = _centres(pairs, "mean")
        if not self.config.centre:
            means = {modality: np.zeros_like(mean) for modality, mean in means.items()}
        (width,) = {len(mean) for mean in means.values()}
        planes = rotations.hyperplanes(width, self.config.bits, np.random.default_rng(self.config.seed))
        return self.with_state({**means, "projection": planes.astype(np.float32)})

    def fuse(self, features: xmr.Features) -> xmr.Embeddings:
        """Bits (n, bits / 8). Raises NotFittedError, DataError."""
        return _projected(self, features)


def _sides(pairs: xmr.FeaturePairs) -> list[xmr.Features]:
    """Pictures and texts, whichever there are. Raises DataError where neither, or their widths differ."""
    sides = [side for side in (pairs.images, pairs.texts) if len(side)]
    widths = {side.vectors.shape[1] for side in sides}
    if len(widths) != 1:
        got = f"{' and '.join(map(str, sorted(widths)))} dimensions" if widths else "nothing"
        raise xmr.DataError(f"pictures and texts: expected vectors of one width, got {got}")
    return sides


def _vectors(side: xmr.Features) -> Floats:
    return as_vectors(side.vectors, f"{side.modality} features")


def _centres(pairs: xmr.FeaturePairs, by: Statistic) -> dict[str, NDArray[Any]]:
    """The median or mean (d,) float32 of each modality that has features, by its name."""
    return {side.modality: STATISTICS[by](_vectors(side)).astype(np.float32) for side in _sides(pairs)}


def _placed(fuser: xmr.Fuser, features: xmr.Features) -> tuple[Floats, Floats]:
    """The vectors (n, d), and what was learned as the centre (d,) of their modality."""
    fuser.require_fit()
    centre = fuser.state.get(features.modality)
    if centre is None:
        raise xmr.DataError(f"{fuser.name} was fitted without {features.modality}s; fit again on pairs that have them")
    return as_vectors(features.vectors, f"{features.modality} features", dim=len(centre)), centre


def _projected(fuser: xmr.Fuser, features: xmr.Features) -> xmr.Embeddings:
    """Bits of the centred vectors, projected; in float64, where a batch does not change a row."""
    vectors, centre = _placed(fuser, features)
    return _cut((vectors - centre.astype(np.float64)) @ fuser.state["projection"].astype(np.float64) >= 0)


def _cut(upper: NDArray[np.bool_]) -> xmr.Embeddings:
    return xmr.Embeddings(xmr.pack_bits(upper), "hamming")


@xmr.hookimpl
def xmr_fusers() -> list[type[xmr.Fuser]]:
    """Four ways to bits."""
    return [Sign, Threshold, Itq, Hyperplanes]
