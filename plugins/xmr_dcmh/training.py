"""The alternating schedule of DCMH: each net learns in turn against the other's buffer, then B is learnt anew.

Source: Jiang & Li, CVPR 2017, algorithm 1. Pictures and texts are two `Side`s that take the same path. The buffers F
and G hold each pair's outputs as they were when it was last in a batch; only a batch's rows are ever fresh.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xmr_core import ConfigError
from xmr_core.nested import below
from xmr_core.progress import current_run
from xmr_dcmh import objective

Rows = NDArray[np.int64]
Arrays = dict[str, NDArray[Any]]
Similar = Callable[[Rows], Tensor]  # positions of pairs (b) to rows of S (b, n)

SAVES = 10  # checkpoints of a fit; each is several times as large as the nets


@dataclass(frozen=True)
class Schedule:
    """How the nets are stepped. `rates` (epochs) falls from epoch to epoch."""

    epochs: int
    batch: int
    rates: NDArray[np.float64]
    optimiser: Callable[[Any], torch.optim.Optimizer]  # made of parameter groups
    partition: bool  # True: an epoch sees each pair once; False: each batch is drawn afresh, as the authors do
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
    optimiser: torch.optim.Optimizer = field(init=False)

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
        distinct, places = np.unique(self.items, return_inverse=True)
        self.buffer = self.outputs(distinct)[torch.from_numpy(places)]

    def weights(self) -> Arrays:
        """The net's tensors, copied."""
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in self.net.state_dict().items()}

    def load(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Put tensors that `weights` gave back into the net."""
        self.net.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})


def train(
    sides: tuple[Side, Side],
    similar: Similar,
    schedule: Schedule,
    seed: int,
    validate: Callable[[], dict[str, float]] | None = None,
) -> None:
    """Train the nets of (image, text) in place; where `validate` is given they end as in the epoch of its best mean.

    A fit that was killed goes on from its last checkpoint, and gives what it would have given. Raises ConfigError
    where the loss stops being finite.
    """
    run = current_run()
    for side in sides:
        side.optimiser = schedule.optimiser(side.groups)
    best: Arrays = {}
    first = _begin(sides, run.restore(), best)
    for epoch in run.track(range(first, schedule.epochs), "dcmh"):
        loss = _epoch(sides, similar, schedule, epoch, seed)
        scores = validate() if validate else {}
        run.log("dcmh", epoch, loss=loss, **scores, **_bit_use(sides))
        if scores:
            _keep_best(best, float(np.mean(list(scores.values()))), sides)
        if (epoch + 1) % math.ceil(schedule.epochs / SAVES) == 0:
            run.checkpoint({"epoch": np.array(epoch + 1), **_checkpoint(sides), **_under("best", best)})
    if best:
        _load(sides, best)


def _keep_best(best: Arrays, score: float, sides: tuple[Side, Side]) -> None:
    """Replace what `best` holds where this score is higher."""
    if not best or score > best["score"]:
        best.update({"score": np.array(score), **_weights(sides)})


def _epoch(sides: tuple[Side, Side], similar: Similar, schedule: Schedule, epoch: int, seed: int) -> float:
    """One turn of each net; gives the mean of the batches' losses. Its randomness comes from seed and epoch alone."""
    random = np.random.default_rng([seed, epoch])
    torch.manual_seed(int(random.integers(1 << 62)))  # dropout's; the caller keeps the global state apart
    image, text = sides
    B = objective.codes(image.buffer, text.buffer)
    turns = [(text, image), (image, text)] if schedule.text_first else [(image, text), (text, image)]
    losses: list[float] = []
    for own, other in turns:
        for group in own.optimiser.param_groups:
            group["lr"] = schedule.rates[epoch] * group["share"]
        for rows in _batches(random, len(B), schedule):
            losses.append(_step(own, other, B, rows, similar, schedule))
    loss = float(np.mean(losses))
    if not math.isfinite(loss):
        raise ConfigError(f"dcmh: the loss is {loss} in epoch {epoch + 1}; a lower rate or larger batch is needed")
    return loss


def _step(own: Side, other: Side, B: Tensor, rows: Rows, similar: Similar, schedule: Schedule) -> float:
    at = torch.from_numpy(rows)
    outputs = own.net(own.inputs(own.items[rows]))  # (b, c)
    own.buffer[at] = outputs.detach()
    rest = own.buffer.sum(dim=0) - outputs.detach().sum(dim=0)
    loss = objective.minibatch(outputs, other.buffer, B[at], rest, similar(rows), schedule.gamma, schedule.eta)
    own.optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    own.optimiser.step()
    return float(loss.detach())


def _batches(random: np.random.Generator, n: int, schedule: Schedule) -> Iterator[Rows]:
    """ceil(n / batch) sets of distinct rows."""
    batch = min(schedule.batch, n)
    order = random.permutation(n)
    for start in range(0, n, batch):
        yield order[start : start + batch] if schedule.partition else random.choice(n, batch, replace=False)


def _bit_use(sides: tuple[Side, Side]) -> dict[str, float]:
    """Of the buffers: the mean over bits of |mean of a bit| (0 is balanced, 1 is dead), and how many codes differ."""
    figures: dict[str, float] = {}
    for side in sides:
        signs = (side.buffer >= 0).cpu().numpy()
        figures[f"{side.modality}_imbalance"] = float(np.abs(2 * signs.mean(axis=0) - 1).mean())
        figures[f"{side.modality}_codes"] = float(len(np.unique(np.packbits(signs, axis=1), axis=0)))
    return figures


def _under(prefix: str, arrays: Mapping[str, Any]) -> Arrays:
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def _weights(sides: tuple[Side, Side]) -> Arrays:
    return {name: array for side in sides for name, array in _under(side.modality, side.weights()).items()}


def _load(sides: tuple[Side, Side], arrays: Mapping[str, NDArray[Any]]) -> None:
    for side in sides:
        side.load(below(side.modality, arrays))


def _checkpoint(sides: tuple[Side, Side]) -> Arrays:
    """All that the next epoch depends on: nets, buffers, the optimisers' memories."""
    arrays = _weights(sides)
    for side in sides:
        arrays[f"buffer/{side.modality}"] = side.buffer.cpu().numpy()
        for index, memory in side.optimiser.state_dict()["state"].items():
            for name, value in memory.items():
                if value is not None:  # SGD without momentum remembers nothing
                    arrays[f"optimiser/{side.modality}/{index}/{name}"] = torch.as_tensor(value).cpu().numpy()
    return arrays


def _begin(sides: tuple[Side, Side], saved: Mapping[str, NDArray[Any]] | None, best: Arrays) -> int:
    """Fill the buffers, or put a checkpoint back; gives the epoch to go on from."""
    if saved is None:
        for side in sides:
            side.fill()
        return 0
    _load(sides, saved)
    best |= below("best", saved)
    for side in sides:
        device = next(side.net.parameters()).device
        side.buffer = torch.from_numpy(saved[f"buffer/{side.modality}"]).to(device)
        memories: dict[int, dict[str, Tensor]] = {}
        for key, array in below(f"optimiser/{side.modality}", saved).items():
            index, name = key.split("/", 1)
            memories.setdefault(int(index), {})[name] = torch.from_numpy(array)
        groups = side.optimiser.state_dict()["param_groups"]
        side.optimiser.load_state_dict({"state": memories, "param_groups": groups})
    return int(saved["epoch"])
