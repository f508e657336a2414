"""Options of the fusers that align images and texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from xmr_core.plugin import Batch, ConfigError, Device, Dim, Dropout, Epochs, Range, Rate, Seed, Validation

__all__ = ["CcaConfig", "ContrastiveConfig", "RidgeConfig"]

HELD_OUT = "images held out, at most a tenth, to choose the penalty; then all are learned from"


@dataclass(frozen=True)
class RidgeConfig:
    """How closely images follow the training captions."""

    penalty: Annotated[
        float | None, Range(above=0), "times the mean variance of image vectors; None: best of seven"
    ] = None
    validation: Annotated[Validation, HELD_OUT] = 1000
    seed: Annotated[Seed, "of the images held out"] = 0


@dataclass(frozen=True)
class CcaConfig:
    """How many directions, and how far noise is kept out of them."""

    dim: Annotated[Dim, "directions kept, at most the smaller width; more: finer, larger vectors"] = 256
    penalty: Annotated[float | None, Range(0), "times the mean variance of either side; None: the best of five"] = None
    power: Annotated[float, Range(0, 16), "directions are weighted by correlation**power; 0: all alike"] = 1.0
    validation: Annotated[Validation, HELD_OUT] = 1000
    seed: Annotated[Seed, "of the images held out"] = 0


@dataclass(frozen=True)
class ContrastiveConfig:
    """The networks, and how they are trained."""

    dim: Dim = 512
    hidden: Annotated[int, Range(1, 65_536), "units between input and output; more: slower in proportion"] = 1024
    dropout: Dropout = 0.3
    temperature: Annotated[float, Range(0.01, 10), "divides cosines; lower: the hardest negatives count more"] = 0.035
    learn_temperature: Annotated[bool, "let training change the temperature, from that value on"] = False
    batch: Annotated[Batch, "images in a step, one caption each; more: more negatives"] = 256
    epochs: Annotated[Epochs | None, "times every caption is seen; None: 4, more below 30,000 captions"] = None
    rate: Rate = 1e-3
    decay: Annotated[float, Range(0), "weight decay of AdamW; small data sets want more"] = 0.01
    validation: Annotated[Validation, "images, at most a tenth, held out to choose the best epoch; 0: the last"] = 1000
    device: Device = "auto"
    seed: Seed = 0
    members: Annotated[
        int | None,
        Range(1, 64),
        "networks trained side by side, each with its share of `dim` and with `hidden` units of its own; more: better "
        "recall, slower in proportion; None: 2, or 1 where `dim` is odd",
    ] = None

    def __post_init__(self) -> None:
        """Raises ConfigError where the networks cannot share the dimensions evenly."""
        if self.dim % self.networks:
            raise ConfigError("members", self.members, f"must divide dim={self.dim}")

    @property
    def networks(self) -> int:
        """How many there are."""
        return self.members or (1 if self.dim % 2 else 2)
