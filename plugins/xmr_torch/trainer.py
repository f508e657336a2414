"""The training loop: epochs, learning rates, validation, the best epoch, checkpoints, progress, and failures told.

It holds no mathematics. A subclass says what a batch is and what the loss of a batch is; all else has a default:

    class Regression(Trainer[NDArray[np.int64]]):
        def batches(self, rng):
            return shuffled(len(self.x), 128, rng)

        def loss(self, batch):
            return {"loss": (self.network(self.x[batch]) - self.y[batch]).square().mean()}

    training = Regression("regression", network, torch.optim.Adam(network.parameters()), epochs=10, rate=1e-3)
    training.train()  # training.network is that of the best epoch
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xmr_core.plugin import ConfigError, below, current_run
from xmr_torch.arrays import Arrays, arrays, optimiser_arrays, restore_optimiser, tensors
from xmr_torch.computing import randomness
from xmr_torch.rates import Course, constant

__all__ = ["Trainer"]

Batch = TypeVar("Batch")
RISING = 0.01  # a last epoch that improves the best score by more than this share has not converged

log = logging.getLogger("xmr.training")


class Trainer(ABC, Generic[Batch]):
    """A network in training: `train` goes through the epochs and leaves the best one's weights in `network`.

    All randomness of an epoch comes from `seed` and its number, so a training that resumes from a checkpoint ends as
    one that was never interrupted.
    """

    checkpoints: ClassVar[int] = 10  # of a training, at most; more: less is lost, more is written
    remedy: ClassVar[str] = "a lower rate than {rate:.3g} or a larger batch is needed"  # where a loss is not finite

    def __init__(
        self,
        name: str,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        epochs: int,
        rate: float,
        course: Course = constant,
        seed: int = 0,
    ) -> None:
        """`name` is shown beside progress and in errors. `rate` is the highest learning rate, `course` what it is
        multiplied by on the way; a parameter group of the optimiser may have a `share`, another factor."""
        self.name, self.network, self.optimiser, self.epochs, self.seed = name, network, optimiser, epochs, seed
        self.highest, self.course = rate, course
        self.epoch = 0  # the one in progress, from 0
        self.score = math.nan  # of the best epoch in validation,
        self.best_epoch = -1  # its number,
        self.best: dict[str, NDArray[Any]] = {}  # and its weights; empty where nothing is held out

    # what a subclass says

    @abstractmethod
    def batches(self, rng: np.random.Generator) -> Sequence[Batch]:
        """The batches of an epoch, in order."""

    @abstractmethod
    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """`loss`, which is minimised, and whatever else of the batch is to be logged; scalars."""

    def rate(self, epoch: float) -> float:
        """The learning rate; 2.5 is half-way through the third epoch."""
        return self.highest * self.course(epoch / self.epochs)

    def clip(self) -> None:
        """Limit the gradients, before each step."""

    def start(self) -> None:
        """Prepare a training that does not resume."""

    def end_epoch(self) -> None:
        """Whatever follows the last step of an epoch, before validation."""

    def validate(self) -> Mapping[str, float]:
        """Figures on what is held out; none where nothing is, or it is not the turn of this epoch."""
        return {}

    def scored(self, figures: Mapping[str, float]) -> float:
        """The score of an epoch, of its figures in validation; larger is better."""
        return float(np.mean(list(figures.values())))

    def better(self, score: float) -> bool:
        """True where an epoch of this score replaces the best so far."""
        return score > self.score

    def figures(self) -> Mapping[str, float]:
        """More to log after each epoch."""
        return {}

    def extra(self) -> Arrays:
        """What the next epoch depends on besides weights and optimiser, for checkpoints."""
        return {}

    def restore_extra(self, kept: Arrays) -> None:
        """The inverse of `extra`."""

    def random(self) -> np.random.Generator:
        """Seed torch for this epoch, and give what `batches` draws from."""
        rng = np.random.default_rng([self.seed, self.epoch])
        torch.manual_seed(int(rng.integers(1 << 62)))
        return rng

    # the loop

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self.network.parameters()).device

    def train(self, saved: Arrays | None = None) -> None:
        """Train to the end: from the checkpoint `saved`, by default the current run's, or from the start without one.

        Raises ConfigError where the loss stops being finite.
        """
        run = current_run()
        kept = run.restore() if saved is None else saved
        every = math.ceil(self.epochs / self.checkpoints)
        with randomness(self.seed, self.device):
            if kept:
                self._restore(kept)
            else:
                self.start()
            for epoch in run.track(range(self.epoch, self.epochs), self.name):
                self.epoch = epoch
                learned = self._learn()
                self.end_epoch()
                run.log(self.name, epoch, **learned, **self._validated(), **self.figures())
                if (epoch + 1) % every == 0:
                    run.checkpoint(self._checkpoint())
        if self.best:
            self.network.load_state_dict(tensors(self.best))
        self.network.eval()

    def require_finite(self, what: str, values: Any) -> None:
        """Raise ConfigError unless all values are finite."""
        if not np.isfinite(values).all():
            told = f"is {values}" if np.ndim(values) == 0 else "are not finite"
            remedy = self.remedy.format(rate=self.highest)
            raise ConfigError(f"{self.name}: the {what} {told} in epoch {self.epoch + 1}; {remedy}")

    def _learn(self) -> dict[str, float]:
        """One epoch; the means over batches of what `loss` gives."""
        batches = self.batches(self.random())
        self.network.train()
        figures: dict[str, list[float]] = {}
        for step, batch in enumerate(current_run().track(batches, f"{self.name}, epoch {self.epoch + 1}")):
            rate = self.rate(self.epoch + step / len(batches))
            for group in self.optimiser.param_groups:
                group["lr"] = rate * group.get("share", 1.0)
            for name, value in self._step(batch).items():
                figures.setdefault(name, []).append(value)
        return {name: float(np.mean(values)) for name, values in figures.items()}

    def _step(self, batch: Batch) -> dict[str, float]:
        terms = self.loss(batch)
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(terms["loss"])
        self.clip()
        self.optimiser.step()
        values = {name: float(term.detach()) for name, term in terms.items()}
        self.require_finite("loss", values["loss"])
        return values

    def _validated(self) -> Mapping[str, float]:
        """The figures of validation; keeps the epoch where it is the best."""
        figures = self.validate()
        if figures:
            score, before = self.scored(figures), self.score
            if not self.best or self.better(score):
                self.score, self.best_epoch, self.best = score, self.epoch, arrays(self.network.state_dict())
            if self.epoch + 1 == self.epochs > 2:
                self._warn(score, before)
        return figures

    def _warn(self, score: float, before: float) -> None:
        """Say so where the scores suggest another number of epochs, or another rate."""
        if score - before > RISING * abs(before):
            log.warning(
                "%s: validation still rose in the last epoch, from %.4g to %.4g; more than %d epochs may do better",
                self.name, before, score, self.epochs,
            )  # fmt: skip
        elif self.best_epoch == 0 and score < self.score:
            log.warning(
                "%s: validation never rose after the first epoch, %.4g, to %.4g; a lower rate may do better",
                self.name, self.score, score,
            )  # fmt: skip

    def _checkpoint(self) -> dict[str, NDArray[Any]]:
        """All that the next epoch depends on."""
        kept = {
            "network": arrays(self.network.state_dict()),
            "best": self.best,
            "optimiser": optimiser_arrays(self.optimiser),
            "extra": self.extra(),
        }
        flat = {f"{part}/{name}": array for part, named in kept.items() for name, array in named.items()}
        figures = {"epoch": self.epoch + 1, "score": self.score, "best_epoch": self.best_epoch}
        return {**flat, **{name: np.array(figure) for name, figure in figures.items()}}

    def _restore(self, kept: Arrays) -> None:
        self.network.load_state_dict(tensors(below("network", kept)))
        self.best = below("best", kept)
        restore_optimiser(self.optimiser, below("optimiser", kept))
        self.restore_extra(below("extra", kept))
        self.epoch, self.score, self.best_epoch = int(kept["epoch"]), float(kept["score"]), int(kept["best_epoch"])
