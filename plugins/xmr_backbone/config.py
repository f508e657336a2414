"""The options of `lite0_grid` and `grid`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from xmr_core.plugin import Device, Matches, Range

__all__ = ["SIDE", "STRIDE", "GridConfig", "Lite0GridConfig"]

SIDE = 224  # pixels of a side, as the networks were trained
STRIDE = 32  # pixels of a side that become one position of the last feature map


@dataclass(frozen=True)
class Lite0GridConfig:
    """How finely it looks."""

    side: Annotated[
        int,
        Range(STRIDE, 64 * STRIDE, step=STRIDE),
        "pixels of a side; 224: 7 x 7 regions, 288: 9 x 9, 448: 14 x 14 in four times the time and space",
    ] = SIDE


@dataclass(frozen=True)
class GridConfig:
    """Which network, and how finely it looks."""

    weights: Annotated[
        str,
        Matches(r"(?s).+", "the path of a file"),
        "path of the weights, from torch.save or .safetensors; they are part of the fingerprint",
    ]
    model: Annotated[str, "name of the network in the package; larger: better regions, slower"] = "resnet50"
    package: Annotated[Literal["timm", "torchvision"], "package that has the network"] = "timm"
    side: Annotated[
        int,
        Range(32, 2048),
        "pixels of a side; most networks divide by 32: 7 x 7 regions; 448: 14 x 14 in four times the time and space",
    ] = SIDE
    device: Device = "auto"
