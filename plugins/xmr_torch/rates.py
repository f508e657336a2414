"""Learning rates over the course of a training, as shares of the highest.

`progress` is the share of the training that is done, from 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["Course", "constant", "cosine", "geometric", "halves", "one_cycle", "steps"]

Course = Callable[[float], float]  # progress to a share of the highest rate


def constant(progress: float) -> float:
    """1 throughout."""
    return 1.0


def one_cycle(progress: float, start: float = 0.02, rise: float = 20.0, peak: float = 0.0) -> float:
    """From `start` up in a straight line, by `rise` over a whole training, until it meets a cosine that falls from 1 at
    `peak` to 0."""
    return min(start + rise * progress, cosine(max(0.0, progress - peak) / (1 - peak)))


def cosine(progress: float) -> float:
    """From 1 down to 0 along a cosine."""
    return 0.5 + 0.5 * math.cos(math.pi * progress)


def geometric(progress: float, last: float) -> float:
    """From 1 down to `last`, each step by the same factor."""
    return math.pow(last, progress)


def steps(progress: float, shares: tuple[float, ...]) -> float:
    """One share after another, each for as long."""
    return shares[min(len(shares) - 1, int(len(shares) * progress))]


def halves(progress: float) -> float:
    """1 for the first half, a tenth for the second."""
    return 1.0 if progress < 0.5 else 0.1
