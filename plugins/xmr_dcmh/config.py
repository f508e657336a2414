"""The options of `dcmh` and of its image network `cnnf`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from xmr_core.plugin import Batch, Bits, Device, Dropout, Epochs, Range, Rate, Seed, Validation

__all__ = ["CnnfConfig", "DcmhConfig"]


@dataclass(frozen=True)
class DcmhConfig:
    """What is learned, from what, and for how long."""

    bits: Bits = 64
    image: Annotated[
        str, 'image encoder whose vectors feed the layers that are learned; "cnnf" is the paper\'s, trained as a whole'
    ] = "lite0"
    text: Annotated[str, "text encoder, fitted on the training texts"] = "bow"
    tune: Annotated[
        bool, "train the image encoder's own network too: 100 times slower, and only practical with a GPU"
    ] = False
    image_hidden: Annotated[
        int | None, Range(1, 32_768), "units between image vectors and bits; None: a single linear layer"
    ] = None
    hidden: Annotated[
        int, Range(1, 32_768), "units between text vectors and bits; fewer: quicker, smaller, less accurate"
    ] = 8192
    dropout: Annotated[
        Dropout, "share of hidden units left out while training; the paper has none, and small sets are overfitted"
    ] = 0.5
    centre: Annotated[bool, "subtract the mean of the training texts' vectors"] = True
    gamma: Annotated[
        float,
        Range(0),
        "weight of outputs being near their codes; the paper's 1 does a little worse under the quick schedule",
    ] = 3.0
    eta: Annotated[
        float, Range(0), "weight of bits being balanced; the paper's 1 oscillates under the quick schedule"
    ] = 0.01
    schedule: Annotated[
        Literal["quick", "paper"], "quick: Adam, minutes on two cores; paper: plain SGD for 500 epochs"
    ] = "quick"
    epochs: Annotated[Epochs | None, "passes over the pairs; None: the schedule's own"] = None
    batch: Annotated[Batch | None, "pairs in a step; more: fewer steps, more memory; None: the schedule's own"] = None
    rate: Annotated[
        Rate | None,
        "first learning rate; too high gives one code for everything, or an error; None: the schedule's own",
    ] = None
    text_first: Annotated[
        bool, "train the text net first in each epoch, as the authors' code does; the paper begins with the image net"
    ] = False
    validation: Annotated[
        Validation, "pairs held out to choose the best epoch, at most a fifth; 0: the last epoch is kept"
    ] = 1000
    device: Device = "auto"
    seed: Annotated[Seed, "draws the first weights, the pairs held out, and the order of batches"] = 0


@dataclass(frozen=True)
class CnnfConfig:
    """Where the weights are."""

    weights: Annotated[
        str | None, "path of imagenet-vgg-f.mat (MatConvNet); None: random weights, to be trained inside dcmh"
    ] = None
