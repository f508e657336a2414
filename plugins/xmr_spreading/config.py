"""The options of `catalyzer`, `lattice` and `pca`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from xmr_core.plugin import Device, Dim, Epochs, Range, Seed
from xmr_spreading.lattice import MAX_DIM, MAX_R2, largest_r2, sphere_lattice

__all__ = ["CatalyzerConfig", "LatticeConfig", "Loss", "PcaConfig"]

Loss = Literal["nearest", "rank"]
Radius = Annotated[int, Range(1, MAX_R2)]


@dataclass(frozen=True)
class CatalyzerConfig:
    """What the network is, what it is trained for, and for how long."""

    dim: Annotated[
        int,
        Range(2, MAX_DIM),
        "dimensions given; the lattice has good radii at 24, 32 and 40; more: closer to the original, coarser codes",
    ] = 24
    hidden: Annotated[int, Range(1, 16_384), "width of the two hidden layers; encoding takes time with its square"] = (
        768
    )
    inverse: Annotated[
        int | None,
        Range(1, 16_384),
        "width of the hidden layers that lead back, for rerank; None: none, a third less training time",
    ] = 1024
    lambda_: Annotated[
        float | None,
        Range(0),
        "weight of spreading against order; None: six are tried, for two to three times the time",
    ] = 0.01
    loss: Annotated[
        Loss | None,
        "loss of order; rank: the paper's; nearest: find the nearest vector of the batch among rounded points; "
        "None: the schedule's own, rank under paper and nearest under quick",
    ] = None
    restore: Annotated[float, Range(0), "weight of the way back against order"] = 1.0
    schedule: Annotated[Literal["quick", "paper"], "quick: minutes; paper: 160 epochs of small batches, hours"] = (
        "quick"
    )
    epochs: Annotated[
        Epochs | None, "passes over the vectors; None: the schedule's own, 100 under quick and 160 under paper"
    ] = None
    k_pos: Annotated[
        int, Range(1, 10_000), "under loss rank: a positive is one of so many nearest vectors in input space"
    ] = 10
    k_neg: Annotated[
        int, Range(1, 10_000), "under loss rank: the negative is the vector of this rank in output space"
    ] = 50
    through: Annotated[
        Radius | None,
        "train end to end through the lattice of this squared radius; None: the loss sees no quantizer",
    ] = None
    r2: Annotated[
        Radius | None,
        "squared radius of the lattice in which validation measures recall; None: the largest of 64 bits",
    ] = None
    metric: Annotated[
        Literal["cosine", "l2"], "metric of the points it gives; both give the same order on the sphere"
    ] = "cosine"
    device: Device = "auto"
    seed: Annotated[Seed, "draws the first weights, the validation part, and the order of batches"] = 0

    def __post_init__(self) -> None:
        for r2 in (self.r2 or largest_r2(self.dim), self.through):
            if r2 is not None:
                sphere_lattice(self.dim, r2)


@dataclass(frozen=True)
class LatticeConfig:
    """Which lattice, and how its points are compared."""

    dim: Annotated[
        int | None,
        Range(1, MAX_DIM),
        "dimensions of the vectors; given, an impossible lattice is refused at once; None: those of the vectors",
    ] = None
    r2: Annotated[
        Radius | None,
        "squared radius; more: more points and bytes (in 24 dimensions 3, 10 and 79 take 2, 4 and 8 bytes); "
        "None: the most points that 64 bits can number",
    ] = None
    distance: Annotated[
        Literal["asymmetric", "symmetric"],
        "symmetric rounds queries too: coarser, and all that two stored codes can tell by themselves",
    ] = "asymmetric"
    cache: Annotated[
        bool, "keep decoded points in memory, dim bytes a vector, so that batches of queries need not decode"
    ] = True

    def __post_init__(self) -> None:
        if self.dim is not None:
            sphere_lattice(self.dim, self.r2 or largest_r2(self.dim))


@dataclass(frozen=True)
class PcaConfig:
    """How many components, and on what scale."""

    dim: Annotated[Dim, "dimensions kept; more: closer to the original, and larger codes after it"] = 24
    whiten: Annotated[
        bool, "give every direction the same spread: evens the space out, and magnifies what is noise"
    ] = False
    normalise: Annotated[bool, "scale onto the unit sphere, compared by cosine; else l2"] = True
