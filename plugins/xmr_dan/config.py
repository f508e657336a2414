"""The options of `dan` and `rdan`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from xmr_core.plugin import Batch, Device, Dim, Dropout, Epochs, Range, Rate, Seed, Validation

__all__ = ["DanConfig", "RdanConfig"]

Schedule = Literal["quick", "paper"]


@dataclass(frozen=True)
class DanConfig:
    """What is attended to, what is learned from, and for how long."""

    steps: Annotated[
        int,
        Range(0, 64),
        "steps of attention; an embedding has (steps + 1) * dim numbers; 0: means alone, no attention",
    ] = 2
    dim: Annotated[Dim, "dimensions of embedded words and of what a step gives; half of them train twice as fast"] = 512
    loss: Annotated[
        Literal["softmax", "modern", "paper"],
        "softmax: against all wrong pairs of a batch; modern: against the hardest alone; paper: that, not normalised",
    ] = "softmax"
    margin: Annotated[
        float | None,
        Range(above=0),
        "margin by which a pair should beat the hardest wrong one; None: 0.2, and 100 under the paper's loss",
    ] = None
    temperature: Annotated[
        float, Range(above=0), "temperature of the softmax, per step; lower: only the hardest wrong pairs count"
    ] = 0.05
    schedule: Annotated[Schedule, "quick: minutes on two cores; paper: SGD for 60 epochs"] = "quick"
    epochs: Annotated[Epochs | None, "passes over the pairs; None: the schedule's own"] = None
    batch: Annotated[
        Batch | None, "images in a step; more: harder wrong pairs, more memory; None: the schedule's own"
    ] = None
    sentences: Annotated[
        int | None,
        Range(1, 1024),
        "captions of each image in a batch; more: fewer passes over the regions; None: the schedule's own",
    ] = None
    rate: Annotated[
        Rate | None, "highest learning rate; too high a rate ends in an error; None: the schedule's own"
    ] = None
    dropout: Annotated[
        Dropout | None,
        "share of dimensions left out while training; small data sets want more; None: the schedule's own",
    ] = None
    validation: Annotated[
        Validation, "images held out to choose the best epoch, at most a tenth; 0: the last epoch is kept"
    ] = 300
    device: Device = "auto"
    seed: Annotated[Seed, "draws the first weights, the images held out, and the order of batches"] = 0


@dataclass(frozen=True)
class RdanConfig:
    """What is learned, and for how long."""

    steps: Annotated[
        int, Range(0, 64), "times that image and question are looked at; 0: their means alone, no attention"
    ] = 2
    dim: Annotated[
        Dim, "width of memory and words; 256 takes half the time, and is enough for few kinds of questions"
    ] = 512
    answers: Annotated[
        int,
        Range(2, 1_000_000),
        "the most frequent answers that it can give; questions with other answers are not learned from",
    ] = 2000
    soft: Annotated[bool, "learn what share of people gave each answer, where several did, not the commonest alone"] = (
        False
    )
    dropout: Annotated[
        Dropout, "share of units left out while training; the paper has 0.5, which takes many epochs"
    ] = 0.2
    schedule: Annotated[Schedule, "quick: Adam, minutes; paper: SGD for 60 epochs, practical with a GPU"] = "quick"
    epochs: Annotated[Epochs | None, "passes over the questions; None: the schedule's own"] = None
    batch: Annotated[
        Batch | None,
        "questions in a step, all those of some images; more: quicker epochs, fewer steps; None: the schedule's own",
    ] = None
    rate: Annotated[
        Rate | None, "highest learning rate; too high a rate ends in an error; None: the schedule's own"
    ] = None
    validation: Annotated[
        Validation, "images held out to choose the best epoch, at most a tenth; 0: the last epoch is kept"
    ] = 1000
    device: Device = "auto"
    seed: Annotated[Seed, "draws the first weights, the images held out, and the order of batches"] = 0
