"""The alternating schedule of DCMH: each net learns in turn against the other's buffer, then B is learned again.

Source: Jiang & Li, CVPR 2017, algorithm 1. Images and texts are two `Side`s that take the same path. The buffers F
and G hold each pair's outputs as they were when it was last in a batch; only a batch's rows are ever fresh.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xmr_dcmh import objective
from xmr_torch.arrays import Arrays, arrays
from xmr_torch.pairs import Rows, Similar, shuffled
from xmr_torch.trainer import Trainer

Turn = tuple["Side", "Side", Rows]  # the side that learns, the fixed one, positions of pairs (b)


@dataclass(frozen=True)
class Schedule:
    """How the nets are stepped. `rates` (epochs) falls from epoch to epoch."""

    epochs: int
    batch: int
    rates: NDArray[np.float64]
    optimiser: Callable[[Any], torch.optim.Optimizer]  # made of parameter groups
    partition: bool  # True: an epoch sees each pair once; False: each batch is drawn on its own, as the authors do
    gamma: float
    eta: float
    text_first: bool = False


@dataclass(eq=False)
class Side:
    """One modality in training: its net, its inputs, and its buffer."""

    modality: str
    net: nn.Module
    inputs: Callable[[Rows], Tensor]  # positions of items to the net's input, on its device
    items: Rows  # (n,) each training pair's item
    groups: list[dict[str, Any]]  # parameters for the optimiser, each group with its `share` of the rate
    block: int  # items that go through the net at once where no gradient is wanted
    buffer: Tensor = field(init=False)  # (n, c)

    def outputs(self, items: Rows) -> Tensor:
        """(len(items), c) without gradients, in blocks, the net in its evaluation mode."""
        self.net.eval()
        with torch.no_grad():
            starts = range(0, len(items), self.block)
            blocks = [self.net(self.inputs(items[start : start + self.block])) for start in starts]
        self.net.train()
        return torch.cat(blocks)

    def fill(self) -> None:
        """The buffer from one pass: what the first B is made of."""
        distinct, rows = np.unique(self.items, return_inverse=True)
        self.buffer = self.outputs(distinct)[torch.from_numpy(rows)]

    def bit_use(self) -> dict[str, float]:
        """Of the buffer: the mean over bits of |mean of a bit| (0: balanced, 1: dead), and how many codes it has."""
        signs = (self.buffer >= 0).cpu().numpy()
        return {
            f"{self.modality}_imbalance": float(np.abs(2 * signs.mean(axis=0) - 1).mean()),
            f"{self.modality}_codes": float(len(np.unique(np.packbits(signs, axis=1), axis=0))),
        }


class Alternating(Trainer[Turn]):
    """Both nets in training, in place. `validation` gives an epoch's figures, whose mean chooses the best."""

    def __init__(
        self,
        sides: tuple[Side, Side],
        similar: Similar,
        schedule: Schedule,
        seed: int,
        validation: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        """`sides` are image and text; `similar` gives rows of S (b, n)."""
        self.sides, self.similar, self.schedule, self.validation = sides, similar, schedule, validation
        networks = nn.ModuleDict({side.modality: side.net for side in sides})
        groups = [group for side in sides for group in side.groups]
        super().__init__("dcmh", networks, schedule.optimiser(groups), schedule.epochs, schedule.rates[0], seed=seed)

    def start(self) -> None:
        """Fill the buffers."""
        for side in self.sides:
            side.fill()

    def rate(self, epoch: float) -> float:
        """One an epoch."""
        return float(self.schedule.rates[int(epoch)])

    def batches(self, rng: np.random.Generator) -> list[Turn]:
        """One turn of each side after the other, with B (n, c) of the buffers as they are."""
        image, text = self.sides
        self.B = objective.codes(image.buffer, text.buffer)
        turns = [(text, image), (image, text)] if self.schedule.text_first else [(image, text), (text, image)]
        return [(own, other, rows) for own, other in turns for rows in drawn(rng, len(self.B), self.schedule)]

    def loss(self, batch: Turn) -> dict[str, Tensor]:
        """J of a batch; its outputs go into the buffer."""
        own, other, rows = batch
        at = torch.from_numpy(rows)
        outputs = own.net(own.inputs(own.items[rows]))  # (b, c)
        own.buffer[at] = outputs.detach()
        rest = own.buffer.sum(dim=0) - outputs.detach().sum(dim=0)
        weights = (self.schedule.gamma, self.schedule.eta)
        return {"loss": objective.minibatch(outputs, other.buffer, self.B[at], rest, self.similar(rows), *weights)}

    def validate(self) -> Mapping[str, float]:
        """The figures of `validation`."""
        return self.validation()

    def figures(self) -> dict[str, float]:
        """How well the bits are used."""
        return {name: figure for side in self.sides for name, figure in side.bit_use().items()}

    def extra(self) -> Arrays:
        """The buffers."""
        return arrays({side.modality: side.buffer for side in self.sides})

    def restore_extra(self, kept: Arrays) -> None:
        """Put the buffers back."""
        for side in self.sides:
            side.buffer = torch.from_numpy(kept[side.modality]).to(self.device)


def drawn(rng: np.random.Generator, n: int, schedule: Schedule) -> list[Rows]:
    """ceil(n / batch) sets of distinct rows."""
    batch = min(schedule.batch, n)
    each_once = shuffled(n, batch, rng)
    return each_once if schedule.partition else [rng.choice(n, batch, replace=False) for _ in each_once]
