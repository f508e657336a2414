"""Vectors to bits: a bit says on which side of a boundary a number lies, and zero lies on the upper side.

`sign` cuts at zero and `threshold` at a learned place; `itq` and `hyperplanes` turn the vectors first, and so give any
number of bits. What is learned about pictures and about sentences is learned apart: encoders seldom give both the same
mean, and a common boundary would tell the modalities apart instead of what they show.

Sources: Gong and Lazebnik, "Iterative Quantization", CVPR 2011 (itq); Charikar, STOC 2002 (hyperplanes).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.plugin import BitFuser, Bits, Range, Seed, Widths, as_vectors, current_run, hyperplanes, itq

Floats = NDArray[np.float32]
Statistic = Literal["median", "mean"]
STATISTICS: dict[str, Callable[[Floats], NDArray[Any]]] = {
    "median": lambda vectors: np.median(vectors, axis=0),
    "mean": lambda vectors: vectors.mean(axis=0, dtype=np.float64),
}
TRAINED_ON = 1 << 16  # rows: itq learns from no more, chosen at random


class Sign(BitFuser):
    """One bit a dimension: 1 where the number is zero or more. For vectors that were trained to be cut there."""

    name: ClassVar[str] = "sign"
    needs_fit: ClassVar[bool] = False

    def widths(self, taken: Widths) -> Widths:
        """A bit a dimension. Raises ConfigError where these do not make whole bytes."""
        return _bits_of(self, taken)

    def fit(self, pairs: xmr.FeaturePairs) -> Self:
        """Itself: there is nothing to learn."""
        return self

    def fuse(self, features: xmr.Features) -> xmr.Embeddings:
        """Bits (n, d / 8). Raises DataError where d is no multiple of 8, or on NaN."""
        return self.cut(as_vectors(features.vectors, f"{features.modality} features"))


@dataclass(frozen=True)
class ThresholdConfig:
    """Where the dimensions are cut."""

    by: Annotated[Statistic, "median: every bit is 1 for half of the training items; mean: quicker, balances less"] = (
        "median"
    )


class Threshold(BitFuser[ThresholdConfig]):
    """One bit a dimension: 1 where the number is no less than the median or mean of its dimension and modality."""

    name: ClassVar[str] = "threshold"

    @xmr.takes(ThresholdConfig)
    def __init__(self) -> None: ...

    def widths(self, taken: Widths) -> Widths:
        """A bit a dimension. Raises ConfigError where these do not make whole bytes."""
        return _bits_of(self, taken)

    def centre(self, vectors: Floats) -> NDArray[Any]:
        """The median or mean (d,)."""
        return STATISTICS[self.config.by](vectors)


@dataclass(frozen=True)
class ItqConfig:
    """How many bits, and how long to turn."""

    bits: Annotated[Bits, "bits of a code, at most the width of the vectors; more: higher recall, longer codes"]
    iterations: Annotated[
        int, Range(0, 10_000), "rounds of learning, n bits**2 steps each; 0: a random rotation of the principal axes"
    ] = 50
    seed: Annotated[Seed, "draws the rotation that it starts from"] = 0


class Itq(BitFuser[ItqConfig]):
    """The widest principal axes, turned so that cutting at zero loses least. Beats `hyperplanes` at equal bits."""

    name: ClassVar[str] = "itq"

    @xmr.takes(ItqConfig)
    def __init__(self) -> None: ...

    def widths(self, taken: Widths) -> Widths:
        """`bits` of each modality. Raises ConfigError where vectors have fewer dimensions."""
        for width in taken.values():
            if width is not None:
                self._require_width(width)
        return dict.fromkeys(taken, self.config.bits)

    def _require_width(self, width: int) -> None:
        if self.config.bits > width:
            rule = f"must be at most {width}, the width of the vectors; hyperplanes gives more"
            raise xmr.ConfigError("bits", self.config.bits, rule)

    def learn(self, centred: Mapping[str, Floats], pairs: xmr.FeaturePairs) -> dict[str, NDArray[Any]]:
        """`projection` (d, bits). Raises ConfigError where d < bits."""
        vectors = np.concatenate(list(centred.values()), dtype=np.float64)
        self._require_width(vectors.shape[1])
        rng = np.random.default_rng(self.config.seed)
        if len(vectors) > TRAINED_ON:
            vectors = vectors[rng.choice(len(vectors), TRAINED_ON, replace=False)]
        run = current_run()
        turned = itq(
            vectors,
            self.config.bits,
            self.config.iterations,
            rng,
            lambda iteration, loss: run.log(self.name, iteration, loss=loss),
        )
        return {"projection": turned}


@dataclass(frozen=True)
class HyperplanesConfig:
    """How many planes, and what they pass through."""

    bits: Annotated[Bits, "bits of a code; differing bits estimate the angle: bits * angle / pi, +- sqrt(bits) / 2"]
    centre: Annotated[
        bool, "planes pass through the mean of each modality, so that bits balance; False: through the origin"
    ] = True
    seed: Annotated[Seed, "draws the planes"] = 0


class Hyperplanes(BitFuser[HyperplanesConfig]):
    """Sides of random hyperplanes: two vectors at angle t agree in each bit with probability 1 - t / pi."""

    name: ClassVar[str] = "hyperplanes"

    @xmr.takes(HyperplanesConfig)
    def __init__(self) -> None: ...

    def widths(self, taken: Widths) -> Widths:
        """`bits` of each modality."""
        return dict.fromkeys(taken, self.config.bits)

    def centre(self, vectors: Floats) -> NDArray[Any]:
        """The mean (d,), or zero."""
        return super().centre(vectors) if self.config.centre else np.zeros(vectors.shape[1])

    def learn(self, centred: Mapping[str, Floats], pairs: xmr.FeaturePairs) -> dict[str, NDArray[Any]]:
        """`projection` (d, bits), from the seed alone."""
        width = next(iter(centred.values())).shape[1]
        return {"projection": hyperplanes(width, self.config.bits, np.random.default_rng(self.config.seed))}


def _bits_of(fuser: BitFuser, taken: Widths) -> Widths:
    """A bit a dimension. Raises ConfigError where these do not make whole bytes."""
    for modality, width in taken.items():
        if width is not None and width % 8:
            raise xmr.ConfigError(
                f"{fuser.name}: {modality}s have {width} dimensions, which is no multiple of 8; "
                "itq(bits=...) or hyperplanes(bits=...) give any number of bits"
            )
    return taken


@xmr.hookimpl
def xmr_fusers() -> list[type[xmr.Fuser]]:
    """Four ways to bits."""
    return [Sign, Threshold, Itq, Hyperplanes]
