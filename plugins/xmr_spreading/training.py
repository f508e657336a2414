"""How a catalyzer is trained: anchors with a near and a far vector each, the far ones looked up anew every epoch.

Source: Sablayrolles, Douze, Schmid, Jegou, "Spreading vectors for similarity search", ICLR 2019. Positives come from
the nearest in input space, negatives are the 50th nearest in output space, and a validation part of the learning set,
never a query, decides which lambda and which epoch are best.

Letters: n learning vectors, v validation queries, d dimensions in, dim out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import xmr_core as xmr
from xmr_core import runs
from xmr_spreading.indexer import Lattice
from xmr_spreading.lattice import SphereLattice
from xmr_spreading.network import Network, folded
from xmr_spreading.objective import koleo, rank_loss

if TYPE_CHECKING:
    from xmr_spreading.catalyzer import CatalyzerConfig

__all__ = ["SCHEDULES", "Schedule", "neighbours", "train"]

LAMBDAS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
HELD = 20  # one vector in so many is a validation query,
HELD_MOST = 2000  # but no more than these
STEPS = 20  # fewest of an epoch: small learning sets get small batches
ROWS = 8192  # vectors embedded, or looked up, at once

Arrays = Mapping[str, NDArray[Any]]
Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Schedule:
    """Batches, epochs and learning rates."""

    epochs: int
    batch: int
    trial: int  # epochs that each lambda gets where it is to be chosen
    references: int  # vectors among which negatives are looked for, drawn every epoch
    validate: int  # epochs from one validation to the next
    optimiser: Callable[[Any], torch.optim.Optimizer]
    rate: Callable[[float], float]  # learning rate at a share of the way


def _four_steps(progress: float) -> float:
    """The paper's rates, a quarter of the epochs each."""
    return (0.1, 0.1, 0.05, 0.01)[min(3, int(4 * progress))]


def _one_cycle(progress: float) -> float:
    """A tenth of the way up, then down along a cosine."""
    return 3e-3 * min(0.04 + 9.6 * progress, 0.5 + 0.5 * math.cos(math.pi * max(0.0, progress - 0.1) / 0.9))


SCHEDULES = {
    "paper": Schedule(160, 64, 10, 1 << 62, 10, lambda p: torch.optim.SGD(p, momentum=0.9), _four_steps),
    "quick": Schedule(30, 1024, 8, 20_000, 5, lambda p: torch.optim.Adam(p), _one_cycle),
}


@dataclass(frozen=True)
class Lessons:
    """What is learned from, and what shows how well it is."""

    vectors: Tensor  # (n, d)
    positives: Positions  # (n, k_pos)
    queries: Tensor  # (v, d), not among the vectors
    truth: Positions  # (v,), the nearest vector of each


def train(vectors: NDArray[np.float32], config: CatalyzerConfig) -> dict[str, NDArray[Any]]:
    """The layers of a catalyzer trained on vectors (n, d), with the `lambda` and validation `recall` of its training.

    Goes on from the run's checkpoint where there is one. Raises DataError where the vectors are too few or all equal.
    """
    run = runs.current()
    lessons = _lessons(vectors, config, _device(config.device))
    saved: Arrays = run.restore() or {}
    trials = saved.get("trials", np.zeros((0, 2)))  # lambda, recall
    for lambda_ in LAMBDAS[len(trials) :] if config.lambda_ is None else ():
        trial = Training(lessons, config, lambda_, SCHEDULES[config.schedule].trial, f"catalyzer, lambda {lambda_}")
        trial.go(saved, {"trials": trials})
        trials, saved = np.vstack([trials, [lambda_, trial.recall]]), {}
    lambda_ = float(trials[trials[:, 1].argmax(), 0]) if config.lambda_ is None else config.lambda_
    training = Training(lessons, config, lambda_, config.epochs or SCHEDULES[config.schedule].epochs, "catalyzer")
    training.go(saved, {"trials": trials})
    return folded(training.network) | {"lambda": np.array([lambda_]), "recall": np.array([training.recall])}


def _lessons(vectors: NDArray[np.float32], config: CatalyzerConfig, device: torch.device) -> Lessons:
    n = len(vectors)
    held = np.zeros(n, bool)
    held[np.random.default_rng(config.seed).permutation(n)[: min(HELD_MOST, n // HELD)]] = True
    kept, queries = vectors[~held], vectors[held]
    most = max(config.k_pos, config.k_neg)
    if len(kept) <= most or not len(queries):
        raise xmr.DataError(
            f"catalyzer: {n} vectors, of which {len(queries)} validate, are too few to have {most} neighbours each; "
            "give more vectors, or a smaller k_pos and k_neg"
        )
    if (kept == kept[0]).all():
        raise xmr.DataError(f"catalyzer: all {n} vectors are equal, there is nothing to spread")
    x, q = (torch.from_numpy(rows).to(device) for rows in (kept, queries))
    positives = neighbours(x, x, config.k_pos, np.arange(len(kept)), "catalyzer: neighbours")
    return Lessons(x, positives, q, neighbours(q, x, 1, np.full(len(q), -1), "catalyzer: validation")[:, 0])


class Training:
    """One network on its way: `go` trains it to the end of its epochs, and leaves the best of them in `network`."""

    def __init__(self, lessons: Lessons, config: CatalyzerConfig, lambda_: float, epochs: int, what: str) -> None:
        self.lessons, self.config, self.lambda_, self.epochs, self.what = lessons, config, lambda_, epochs, what
        self.schedule = SCHEDULES[config.schedule]
        x = lessons.vectors
        generator = torch.Generator().manual_seed(config.seed)
        shift, scale = x.mean(dim=0).cpu(), x.std().cpu()
        self.network = Network(x.shape[1], config.hidden, config.dim, shift, scale, generator).to(x.device)
        self.optimiser = self.schedule.optimiser(self.network.parameters())
        self.through = SphereLattice(config.dim, config.through) if config.through else None
        self.epoch = 0
        self.recall = -1.0  # of the best epoch,
        self.best: Arrays = {}  # whose parameters these are

    def go(self, saved: Arrays, more: Arrays) -> None:
        """Train from `saved` on, or from the start where it is empty; `more` is kept beside each checkpoint."""
        run = runs.current()
        if saved:
            self._restore(saved)
        for epoch in run.track(range(self.epoch, self.epochs), self.what):
            self.epoch = epoch
            figures = self._learn(np.random.default_rng([self.config.seed, self.epoch]))
            if (self.epoch + 1) % self.schedule.validate == 0 or self.epoch + 1 == self.epochs:
                figures["recall"] = self._validate()
            run.log(self.what, self.epoch, **figures)
            run.checkpoint({**self._arrays(), **more})
        self.network.load_state_dict({name: torch.from_numpy(array) for name, array in self.best.items()})

    def _learn(self, rng: np.random.Generator) -> dict[str, float]:
        """One epoch; the mean of the loss's terms."""
        x = self.lessons.vectors
        batch = min(self.schedule.batch, max(len(x) // STEPS, 64), len(x))
        negatives = self._negatives(rng)  # (n,)
        picks = rng.integers(self.config.k_pos, size=len(x))
        positives = np.take_along_axis(self.lessons.positives, picks[:, None], axis=1)[:, 0]  # (n,)
        anchors = rng.permutation(len(x))
        steps = len(x) // batch  # what is left over comes in another epoch
        sums = torch.zeros(2)
        for step in range(steps):
            rows = anchors[step * batch : (step + 1) * batch]
            for group in self.optimiser.param_groups:
                group["lr"] = self.schedule.rate((self.epoch + step / steps) / self.epochs)
            sums += self._step(np.concatenate([rows, positives[rows], negatives[rows]]))
        rank, spread = (sums / steps).tolist()
        return {"rank": rank, "koleo": spread}

    def _step(self, rows: Positions) -> Tensor:
        points = self._points(self.lessons.vectors[torch.from_numpy(rows).to(self.lessons.vectors.device)])
        anchors, positives, negatives = points.chunk(3)
        if self.through:
            positives, negatives = (straight_through(points, self.through) for points in (positives, negatives))
        rank, spread = rank_loss(anchors, positives, negatives), koleo(anchors)
        self.optimiser.zero_grad()
        torch.autograd.backward(rank + self.lambda_ * spread)
        self.optimiser.step()
        return torch.stack([rank, spread]).detach().cpu()

    def _points(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=_has_bfloat16(x.device)):
            points: Tensor = self.network(x)
        return points

    @torch.no_grad()
    def _embed(self, x: Tensor) -> Tensor:
        """(n, dim), as the trained network will give it."""
        self.network.eval()
        points = torch.cat([self._points(rows) for rows in torch.split(x, ROWS)])
        self.network.train()
        return points

    def _negatives(self, rng: np.random.Generator) -> Positions:
        """(n,): the k_neg-th nearest of each vector in output space; among a sample of references, the one whose rank
        there stands for it."""
        points = self._embed(self.lessons.vectors)
        n = len(points)
        references = np.sort(rng.permutation(n)[: self.schedule.references])
        own = np.full(n, -1)
        own[references] = np.arange(len(references))
        rank = max(1, round(self.config.k_neg * len(references) / n))
        return references[neighbours(points, points[torch.from_numpy(references)], rank, own)[:, -1]]

    def _validate(self) -> float:
        """Recall@10 of the held queries over the learning vectors, both by way of the lattice; keeps the best."""
        indexer = Lattice(r2=self.config.r2)
        points, queries = (
            xmr.Embeddings(self._embed(x).cpu().numpy(), "cosine") for x in (self.lessons.vectors, self.lessons.queries)
        )
        index = indexer.build(indexer.encode(points, np.arange(len(points))))
        found = index.search(queries, 10).ids == self.lessons.truth[:, None]  # (v, 10)
        recall = float(found.any(axis=1).mean())
        if recall > self.recall:
            self.recall, self.best = recall, _numbers(self.network.state_dict())
        return recall

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """All that a checkpoint needs."""
        kept = {"network": self.network.state_dict(), "best": {k: torch.from_numpy(v) for k, v in self.best.items()}}
        kept |= {f"optimiser {i}": state for i, state in self.optimiser.state_dict()["state"].items()}
        arrays = {
            f"{part}/{name}": array for part, tensors in kept.items() for name, array in _numbers(tensors).items()
        }
        return arrays | {"epoch": np.array([self.epoch + 1]), "recall": np.array([self.recall])}

    def _restore(self, saved: Arrays) -> None:
        parts: dict[str, dict[str, Tensor]] = {}
        for key, array in saved.items():
            part, _, name = key.partition("/")
            if name:
                parts.setdefault(part, {})[name] = torch.from_numpy(array.copy())
        self.network.load_state_dict(parts["network"])
        self.best = _numbers(parts.get("best", {}))
        optimiser = self.optimiser.state_dict()
        optimiser["state"] = {int(part.split()[1]): state for part, state in parts.items() if part[:3] == "opt"}
        self.optimiser.load_state_dict(optimiser)
        self.epoch, self.recall = int(saved["epoch"][0]), float(saved["recall"][0])


def straight_through(points: Tensor, lattice: SphereLattice) -> Tensor:
    """The lattice points nearest to points of the sphere, with the gradient of what was rounded."""
    rounded = lattice.closest(points.detach().cpu().numpy()) / np.float32(math.sqrt(lattice.r2))
    return points + (torch.from_numpy(rounded).to(points.device) - points).detach()


def neighbours(x: Tensor, references: Tensor, k: int, own: Positions, what: str = "") -> Positions:
    """(n, k): the nearest references of each row by Euclidean distance, exact, without the row's own place in them
    (`own` (n,), -1 where it has none); `what` shows the progress."""
    found = np.empty((len(x), k), np.int64)
    starts = range(0, len(x), ROWS)
    for start in runs.current().track(starts, what) if what else starts:
        rows = slice(start, start + ROWS)
        near = _nearest(x[rows], references, min(k + 1, len(references)))
        drop = near == own[rows, None]
        drop[~drop.any(axis=1), k:] = True
        found[rows] = near[~drop].reshape(-1, k)
    return found


def _nearest(x: Tensor, references: Tensor, k: int) -> Positions:
    """(n, k) positions of the nearest references, ascending distance."""
    if x.device.type == "cpu":
        import faiss

        positions: Positions = faiss.knn(x.numpy(), references.numpy(), k)[1]
        return positions
    squares = references.square().sum(dim=1) - 2 * x @ references.T
    return np.asarray(squares.topk(k, largest=False).indices.cpu())


def _numbers(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors.items()}


def _device(name: str) -> torch.device:
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def _has_bfloat16(device: torch.device) -> bool:
    """True where bfloat16 products are quicker than float32 ones: twice or more, at no loss of recall."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    look = getattr(torch.cpu, "get_capabilities", None)  # torch before 2.11 cannot say
    return look is not None and bool(look().get("avx512_bf16"))
