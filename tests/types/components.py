"""What the author and the user of a component know of its options. Read by mypy alone; see `surface.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr


@dataclass(frozen=True)
class HalvesConfig:
    """Options of `Halves`."""

    bits: int = 64
    seed: int = 0


class Halves(xmr.Fuser[HalvesConfig]):
    """A component as a plugin declares it."""

    name = "halves"

    @xmr.takes(HalvesConfig)
    def __init__(self) -> None:
        self.width = self.config.bits // 8

    @property
    def metric(self) -> xmr.Metric:
        """Bits."""
        return "hamming"

    def fuse(self, features: xmr.Features) -> xmr.Embeddings:
        """The config is known."""
        assert_type(self.config, HalvesConfig)
        assert_type(self.config.bits, int)
        self.config.bytes  # type: ignore[attr-defined]
        self.config.bits = 3  # type: ignore[misc]
        return xmr.Embeddings(features.vectors, self.metric)


class Own(xmr.Encoder):
    """A component without options needs no parameter."""

    name = "own"

    def encode(self, items: xmr.Items) -> xmr.Features:
        """Nothing."""
        return xmr.Features.of_vectors(items.modality, np.zeros((len(items), 1), np.float32))


class Undone(xmr.Indexer):
    """Its abstract methods are missing."""


def using(vectors: NDArray[np.float32]) -> None:
    halves = Halves(bits=32)
    assert_type(halves, Halves)
    assert_type(halves.config, HalvesConfig)
    assert_type(halves.with_seed(3), Halves)
    assert_type(Halves(), Halves)
    Halves(bist=32)  # type: ignore[call-arg]
    Halves(bits="32")  # type: ignore[arg-type]
    Undone()  # type: ignore[abstract]
    halves.fuse(vectors)  # type: ignore[arg-type]
