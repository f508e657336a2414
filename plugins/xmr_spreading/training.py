"""How a catalyzer is trained: on anchors with a near and a far vector each, or on crowds of neighbours.

Source: Sablayrolles, Douze, Schmid, Jegou, "Spreading vectors for similarity search", ICLR 2019, for the loss "rank":
positives come from the nearest in input space, negatives are the 50th nearest in output space, looked up anew every
epoch. The loss "nearest" is ours: a batch is some crowds of neighbours, in which every vector has to find its nearest
among points with as much noise as the lattice adds by rounding. A validation part of the learning set, never a query,
decides which lambda and which epoch are best.

Letters: n learning vectors, v validation queries, d dimensions in, dim out.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import xmr_core as xmr
from xmr_core.plugin import current_run, rerank, unit
from xmr_spreading.config import CatalyzerConfig, Loss
from xmr_spreading.indexer import Lattice
from xmr_spreading.lattice import SphereLattice, largest_r2, sphere_lattice
from xmr_spreading.network import Network, folded
from xmr_spreading.objective import koleo, nearest_loss, rank_loss
from xmr_torch.arrays import Arrays
from xmr_torch.computing import device, has_bfloat16
from xmr_torch.rates import Course, one_cycle, steps
from xmr_torch.trainer import Trainer

__all__ = ["SCHEDULES", "Schedule", "neighbours", "train"]

LAMBDAS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
HELD = 20  # one vector in so many is a validation query,
HELD_MOST = 2000  # but no more than these
SHARPNESS = 1.5  # at first, over the noise of a coordinate; then it is learned
STEPS = 20  # fewest of an epoch: small learning sets get small batches
ROWS = 8192  # vectors embedded, or looked up, at once
CROWD = 32  # neighbours that come into a batch together, under the loss "nearest"
CANDIDATES = 100  # of a validation query, where vectors are restored

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Schedule:
    """Batches, epochs and learning rates."""

    epochs: int
    batch: int
    trial: int  # epochs that each lambda gets where it is to be chosen
    references: int  # vectors among which negatives are looked for, drawn every epoch
    validate: int  # epochs from one validation to the next
    loss: Loss  # of order
    optimiser: Callable[[Any], torch.optim.Optimizer]
    rate: Course  # learning rate on the way


def _four_steps(progress: float) -> float:
    """The paper's rates, a quarter of the epochs each."""
    return steps(progress, (0.1, 0.1, 0.05, 0.01))


def _one_cycle(progress: float) -> float:
    """A tenth of the way up, then down along a cosine."""
    return 2e-3 * one_cycle(progress, start=0.04, rise=9.6, peak=0.1)


SCHEDULES = {
    "paper": Schedule(160, 64, 10, 1 << 62, 10, "rank", lambda p: torch.optim.SGD(p, momentum=0.9), _four_steps),
    "quick": Schedule(100, 1024, 8, 20_000, 5, "nearest", lambda p: torch.optim.Adam(p), _one_cycle),
}


@dataclass(frozen=True)
class Lessons:
    """What is learned from, and what shows how well it is."""

    vectors: Tensor  # (n, d)
    positives: Positions  # (n, k) the nearest others of each: k_pos, or those of a crowd
    queries: Tensor  # (v, d), not among the vectors
    truth: Positions  # (v,), the nearest vector of each


def train(vectors: NDArray[np.float32], config: CatalyzerConfig) -> dict[str, NDArray[Any]]:
    """The layers of a catalyzer trained on vectors (n, d), with the `lambda` and validation `recall` of its training.

    Goes on from the run's checkpoint where there is one. Raises DataError where the vectors are too few or all equal.
    """
    run = current_run()
    if config.loss is None:
        config = replace(config, loss=SCHEDULES[config.schedule].loss)
    lessons = _lessons(vectors, config, device(config.device))
    saved: Arrays = run.restore() or {}
    trials = saved.get("extra/trials", np.zeros((0, 2)))  # lambda, recall
    for lambda_ in LAMBDAS[len(trials) :] if config.lambda_ is None else ():
        epochs = SCHEDULES[config.schedule].trial
        trial = Training(lessons, config, lambda_, epochs, f"catalyzer, lambda {lambda_}", trials)
        trial.train(saved)
        trials, saved = np.vstack([trials, [lambda_, trial.score]]), {}
    lambda_ = float(trials[trials[:, 1].argmax(), 0]) if config.lambda_ is None else config.lambda_
    epochs = config.epochs or SCHEDULES[config.schedule].epochs
    training = Training(lessons, config, lambda_, epochs, "catalyzer", trials)
    training.train(saved)
    return folded(training.network) | {"lambda": np.array([lambda_]), "recall": np.array([training.score])}


def _lessons(vectors: NDArray[np.float32], config: CatalyzerConfig, where: torch.device) -> Lessons:
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
    x, q = (torch.from_numpy(rows).to(where) for rows in (kept, queries))
    k = config.k_pos if config.loss == "rank" else min(CROWD, len(kept)) - 1
    positives = neighbours(x, x, k, np.arange(len(kept)), "catalyzer: neighbours")
    return Lessons(x, positives, q, neighbours(q, x, 1, np.full(len(q), -1), "catalyzer: validation")[:, 0])


class Training(Trainer[Positions]):
    """A network in training; a batch is positions of learning vectors. Its checkpoints keep the `trials` (t, 2) so far:
    a lambda and its recall."""

    checkpoints: ClassVar[int] = 200  # a trial is so short that one in several epochs would never be written
    remedy: ClassVar[str] = "vectors of about length 1, or a smaller lambda_ or restore, may help"
    network: Network

    def __init__(
        self,
        lessons: Lessons,
        config: CatalyzerConfig,
        lambda_: float,
        epochs: int,
        name: str,
        trials: NDArray[np.float64],
    ) -> None:
        self.lessons, self.config, self.lambda_, self.trials = lessons, config, lambda_, trials
        self.schedule = SCHEDULES[config.schedule]
        x = lessons.vectors
        generator = torch.Generator().manual_seed(config.seed)
        shift, scale = x.mean(dim=0).cpu(), x.std().cpu()
        self.lattice = sphere_lattice(config.dim, config.r2 or largest_r2(config.dim))
        self.noise = _rounding(self.lattice)
        sizes = (x.shape[1], config.hidden, config.dim)
        network = Network(*sizes, shift, scale, generator, config.inverse or 0, SHARPNESS / self.noise).to(x.device)
        self.through = sphere_lattice(config.dim, config.through) if config.through is not None else None
        optimiser = self.schedule.optimiser(network.parameters())
        super().__init__(name, network, optimiser, epochs, 1.0, self.schedule.rate, config.seed)

    def random(self) -> np.random.Generator:
        """From the seed and the epoch; torch's comes from it once the batches are drawn."""
        return np.random.default_rng([self.seed, self.epoch])

    def batches(self, rng: np.random.Generator) -> list[Positions]:
        """Triples or crowds; see there."""
        batches = list(self._triples(rng) if self.config.loss == "rank" else self._crowds(rng))
        self.noises = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        return batches

    def _batch(self) -> int:
        n = len(self.lessons.vectors)
        return min(self.schedule.batch, max(n // STEPS, 64), n)

    def _triples(self, rng: np.random.Generator) -> Iterator[Positions]:
        """Anchors, then positives, then negatives: each vector is an anchor once; what fills no batch waits."""
        n, batch = len(self.lessons.vectors), self._batch()
        negatives = self._negatives(rng)  # (n,)
        picks = rng.integers(self.config.k_pos, size=n)
        positives = np.take_along_axis(self.lessons.positives, picks[:, None], axis=1)[:, 0]  # (n,)
        anchors = rng.permutation(n)
        for start in range(0, n - batch + 1, batch):
            rows = anchors[start : start + batch]
            yield np.concatenate([rows, positives[rows], negatives[rows]])

    def _crowds(self, rng: np.random.Generator) -> Iterator[Positions]:
        """Vectors drawn at random, each with its neighbours; as many vectors in all as there are."""
        n, batch = len(self.lessons.vectors), self._batch()
        for _ in range(n // batch):
            middles = rng.integers(n, size=max(2, batch // CROWD))
            yield np.unique(np.concatenate([middles, self.lessons.positives[middles].ravel()]))

    def loss(self, batch: Positions) -> dict[str, Tensor]:
        """Order, spread by `lambda_`, and the way back."""
        x = self.lessons.vectors[torch.from_numpy(batch).to(self.device)]
        points = self._points(x)
        order, anchors, stored = self._ordered(x, points) if self.config.loss == "nearest" else self._ranked(points)
        spread = koleo(anchors)
        terms = {"loss": order + self.lambda_ * spread, "order": order, "koleo": spread}
        if self.config.inverse:
            with self._quick():
                back = self.network.restored(stored)
            terms["restored"] = (back - self.network.standard(x[: len(back)])).square().mean()
            terms["loss"] = terms["loss"] + self.config.restore * terms["restored"]
        return terms

    def _ordered(self, x: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The loss "nearest"; anchors; what is stored of them."""
        stored = self._stored(points)
        with torch.no_grad():
            nearest = torch.cdist(x, x).fill_diagonal_(torch.inf).argmin(dim=1)
        return nearest_loss(points, stored, nearest, self.network.log_sharpness.exp()), points, stored

    def _ranked(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The loss "rank"; anchors; what is stored of them."""
        anchors, positives, negatives = points.chunk(3)
        if self.through is not None:
            positives, negatives = (straight_through(near, self.through) for near in (positives, negatives))
        return rank_loss(anchors, positives, negatives), anchors, self._stored(anchors)

    def _stored(self, points: Tensor) -> Tensor:
        """Points as they come back from their codes: rounded, or with noise of the size of rounding."""
        if self.through is not None:
            return straight_through(points, self.through)
        noise = torch.randn(points.shape, generator=self.noises).to(points.device)
        return nn.functional.normalize(points + self.noise * noise, dim=1)

    def _quick(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=has_bfloat16(self.device))

    def _points(self, x: Tensor) -> Tensor:
        with self._quick():
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

    def validate(self) -> dict[str, float]:
        """Recall@10 of the held queries over the learning vectors, by way of the lattice and, where there is a way
        back, of restored vectors; not in every epoch."""
        if (self.epoch + 1) % self.schedule.validate and self.epoch + 1 < self.epochs:
            return {}
        indexer = Lattice(r2=self.lattice.r2)
        points, queries = (
            xmr.Embeddings(self._embed(x).cpu().numpy(), "cosine") for x in (self.lessons.vectors, self.lessons.queries)
        )
        codes = indexer.encode(points, np.arange(len(points)))
        hits = indexer.build(codes).search(queries, CANDIDATES)
        found = {"recall": hits.ids[:, :10]}
        if self.config.inverse:
            given = xmr.Embeddings(self.network.standard(self.lessons.queries).cpu().numpy(), "l2")
            found["reranked"] = rerank(hits, given, codes, lambda some: self._restored(indexer.decode(some))).ids
        return {name: float((ids == self.lessons.truth[:, None]).any(axis=1).mean()) for name, ids in found.items()}

    def scored(self, figures: Mapping[str, float]) -> float:
        """The larger of both recalls."""
        return max(figures.values())

    def extra(self) -> Arrays:
        """The trials."""
        return {"trials": self.trials}

    @torch.no_grad()
    def _restored(self, points: NDArray[np.float32]) -> xmr.Embeddings:
        """Standard vectors (n, d), as the trained network will give them."""
        self.network.eval()
        parts = torch.split(torch.from_numpy(points).to(self.lessons.vectors.device), ROWS)
        vectors = torch.cat([self.network.restored(part) for part in parts])
        self.network.train()
        return xmr.Embeddings(vectors.cpu().numpy(), "l2")


@functools.cache
def _rounding(lattice: SphereLattice) -> float:
    """The mean size of what rounding to the lattice adds to a coordinate of a point of the sphere."""
    x = unit(np.random.default_rng(0).standard_normal((4096, lattice.dim)).astype(np.float32))
    return float(np.sqrt(np.square(lattice.closest(x) / math.sqrt(lattice.r2) - x).mean()))


def straight_through(points: Tensor, lattice: SphereLattice) -> Tensor:
    """The lattice points nearest to points of the sphere, with the gradient of what was rounded."""
    rounded = lattice.closest(points.detach().cpu().numpy()) / np.float32(math.sqrt(lattice.r2))
    return points + (torch.from_numpy(rounded).to(points.device) - points).detach()


def neighbours(x: Tensor, references: Tensor, k: int, own: Positions, what: str = "") -> Positions:
    """(n, k): the nearest references of each row by Euclidean distance, exact, without the row's own place in them
    (`own` (n,), -1 where it has none); `what` shows the progress."""
    found = np.empty((len(x), k), np.int64)
    starts = range(0, len(x), ROWS)
    for start in current_run().track(starts, what) if what else starts:
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
