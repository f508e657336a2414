"""The option of `onnx`, and what `towers.json` says: its keys are the fields of these classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from xmr_core.plugin import ConfigError, Dim, Matches, Range, VectorMetric, checked

__all__ = ["SIDES", "Colour", "ImageTower", "OnnxConfig", "TextTower", "Towers"]

SIDES = Range(1, 8192)  # pixels
Name = Annotated[str, Matches(r"(?s).+", "the name of an input or output of the network")]
File = Annotated[str, Matches(r"(?s).+", "the path of a file, relative to the folder")]


@dataclass(frozen=True)
class OnnxConfig:
    """Where the towers are."""

    folder: Annotated[
        str,
        Matches(r"(?s).+", "the path of a folder"),
        "folder with towers.json and the files that it names; all of them are part of the fingerprint",
    ]


@dataclass(frozen=True)
class Colour:
    """Three finite numbers, of red, green and blue; a rule of an option."""

    positive: bool = False

    def allows(self, value: object) -> bool:
        """True for three numbers, above zero where they divide."""
        return (
            isinstance(value, tuple)
            and len(value) == 3
            and all(isinstance(one, int | float) and not isinstance(one, bool) for one in value)
            and all(math.isfinite(one) and (one > 0 or not self.positive) for one in value)
        )

    def __str__(self) -> str:
        return "three numbers above 0" if self.positive else "three numbers"


@checked
@dataclass(frozen=True)
class ImageTower:
    """The network for images, and how an image becomes its input.

    Raises ConfigError where `resize_side` is less than `side`.
    """

    file: Annotated[File, "the network"]
    side: Annotated[int, SIDES, "pixels of a side of the square that the network takes"]
    mean: Annotated[tuple[float, ...], Colour(), "subtracted from red, green and blue, which go from 0 to 1"]
    deviation: Annotated[tuple[float, ...], Colour(positive=True), "then divided by this"]
    resize: Annotated[
        Literal["shortest", "longest", "stretch"],
        "shortest: the shorter side is resized and the central square cut out; longest: the longer side is resized and "
        "the rest filled with black; stretch: both sides, without regard to proportions",
    ] = "shortest"
    resize_side: Annotated[
        int | None, SIDES, "pixels of the shorter side before the square of `side` is cut out; None: `side`"
    ] = None
    interpolation: Annotated[Literal["bicubic", "bilinear", "lanczos", "nearest"], "how it is resized"] = "bicubic"
    layout: Annotated[Literal["nchw", "nhwc"], "the order of the input's axes: channels before or after pixels"] = (
        "nchw"
    )
    input: Annotated[Name | None, "input that takes the pixels; None: the only one"] = None
    output: Annotated[Name | None, "output with the vectors; None: the only one"] = None

    def __post_init__(self) -> None:
        """Check what joins two keys."""
        if self.resize_side is not None and (self.resize != "shortest" or self.resize_side < self.side):
            raise ConfigError(
                "resize_side", self.resize_side, f"goes with resize 'shortest', and must be {self.side} (side) or more"
            )


@checked
@dataclass(frozen=True)
class TextTower:
    """The network for texts, and how a text becomes its input."""

    file: Annotated[File, "the network"]
    tokenizer: Annotated[File, "tokenizer of the package `tokenizers`, a tokenizer.json"]
    context: Annotated[
        int, Range(1, 1 << 16), "tokens of a text, marks of its beginning and end included; more are cut"
    ]
    padding: Annotated[
        Literal["context", "none"], "context: all texts are filled up to `context` tokens; none: each has its length"
    ] = "context"
    pad: Annotated[int, Range(0, 2**31 - 1), "token that fills up"] = 0
    input: Annotated[Name | None, "input that takes the tokens; None: input_ids, or the only one"] = None
    mask: Annotated[
        Name | None, "input that takes 1 for each token and 0 where it is filled up; None: attention_mask, if any"
    ] = None
    output: Annotated[Name | None, "output with the vectors; None: the only one"] = None


@checked
@dataclass(frozen=True)
class Towers:
    """What `towers.json` says: one tower or both, and the space that they share."""

    width: Annotated[Dim, "dimensions of the vectors"]
    metric: Annotated[VectorMetric, "how the vectors want to be compared"]
    unit: Annotated[bool | None, "divide every vector by its length; None: where the metric is cosine"] = None
    image: Annotated[ImageTower | None, "the network for images"] = None
    text: Annotated[TextTower | None, "the network for texts"] = None
