"""A plugin for the tests: encoders that need no training, one that dies in it, and one that counts its work."""

from __future__ import annotations

import os
import signal
import zlib
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

import xmr_core as xmr
from xmr_core import pictures, runs

COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "white": (1, 1, 1), "black": (0, 0, 0)}


class Toy(xmr.Encoder):
    """A picture is its mean colour, a sentence the mean of the colours it names; both as 8 numbers."""

    name = "toy"
    needs_fit = False
    metric: ClassVar[xmr.Metric] = "l2"

    def encode(self, items: xmr.Items) -> xmr.Features:
        rows = [self._picture(item) if items.modality == xmr.IMAGE else self._sentence(item) for item in items.data]
        return xmr.Features.of_vectors(items.modality, np.array(rows, np.float32).reshape(-1, 8))

    @staticmethod
    def _picture(item: Any) -> list[float]:
        colour = np.asarray(pictures.decode(item), np.float32).mean(axis=(0, 1)) / 255
        return [*colour, 0, 0, 0, 0, 0]

    @staticmethod
    def _sentence(text: str) -> list[float]:
        if not text.strip():
            raise xmr.DataError("empty text")
        named = [COLOURS[word] for word in text.split() if word in COLOURS] or [(0.5, 0.5, 0.5)]
        return [*np.mean(named, axis=0), 0, 0, 0, 0, zlib.crc32(text.encode()) % 7 / 1000]


@dataclass(frozen=True)
class MortalConfig:
    """The process is killed at this epoch of the first try, told by a file."""

    epochs: int = 5
    dies_at: int = 3
    grave: str = ""
    seed: int = 0


class Mortal(Toy):
    """Counts epochs, keeps checkpoints, and kills its own process once, where `grave` does not exist yet."""

    name = "mortal"
    needs_fit = True
    Config = MortalConfig

    def fit(self, pairs: xmr.Pairs) -> Mortal:
        run = runs.current()
        kept = run.restore()
        start = 0 if kept is None else int(kept["epoch"]) + 1
        for epoch in run.track(range(start, self.config.epochs), "mortal"):
            if epoch == self.config.dies_at and self.config.grave and not os.path.exists(self.config.grave):  # noqa: PTH110
                open(self.config.grave, "w").close()  # noqa: PTH123
                os.kill(os.getpid(), signal.SIGKILL)
            run.log("mortal", epoch, loss=1.0 / (epoch + 1))
            run.checkpoint({"epoch": np.array(epoch)})
        return self.with_state({"started_at": np.array(start), "epochs": np.array(self.config.epochs)})


class Costly(Toy):
    """Counts how many items it ever encoded; its features are worth keeping."""

    name = "costly"
    cacheable = True
    encoded: ClassVar[int] = 0

    def encode(self, items: xmr.Items) -> xmr.Features:
        Costly.encoded += len(items)
        return super().encode(items)


@xmr.hookimpl
def xmr_encoders() -> list[type[xmr.Encoder]]:
    return [Toy, Mortal, Costly]
