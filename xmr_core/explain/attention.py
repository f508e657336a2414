"""Where a pipeline looks: the weights it gives to regions of an image or to words, step by step; shown, stored, drawn.

(seen,) = db.attention(text="a dog on green grass")
seen.weights                                            # (steps, words), each row sums to 1
seen.draw("dog.png")
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import DataError
from xmr_core.explain.drawing import draw
from xmr_core.types import IMAGE

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Attention", "Explained"]


@dataclass(frozen=True, eq=False)
class Attention:
    """How one image or text was looked at.

    `weights` (steps, t) float32: row k is step k + 1, sums to 1. `tokens` (t) are the words that they weigh; () for a
    image, whose t regions lie row by row from the upper left. `data` is the image or the text; `id` is that of
    a stored item, None where it was given.
    """

    modality: str
    weights: NDArray[np.float32]
    data: Any
    tokens: tuple[str, ...] = ()
    key: str = ""
    id: int | None = None

    @property
    def steps(self) -> int:
        """How often it looked."""
        return len(self.weights)

    @property
    def maps(self) -> NDArray[np.float32]:
        """(steps, side, side): an image's weights as they lie in it. Raises DataError where they are no square."""
        side = math.isqrt(self.weights.shape[1])
        if self.modality != IMAGE or side * side != self.weights.shape[1]:
            raise DataError(f"{self.modality} {self.key!r}: {self.weights.shape[1]} weights lie on no square grid")
        return self.weights.reshape(self.steps, side, side)

    @property
    def names(self) -> list[str]:
        """(t,) what each weight belongs to: a word, or "row,column" of a region, from 0."""
        if self.tokens:
            return list(self.tokens)
        side = max(1, math.isqrt(self.weights.shape[1]))
        return [f"{place // side},{place % side}" for place in range(self.weights.shape[1])]

    def strongest(self, k: int = 3) -> list[list[tuple[str, float]]]:
        """The k words or regions of most weight in each step, with their weights; the first among equals."""
        order = np.argsort(-self.weights, axis=1, kind="stable")[:, :k]
        return [[(self.names[i], float(row[i])) for i in best] for row, best in zip(self.weights, order, strict=True)]

    def draw(self, file: str | Path | None = None, font: str | Path | None = None) -> Image:
        """It drawn as an image, a column a step: brighter is what a step looked at in an image, darker in a text.

        Written to `file` where one is given. `font` is a TrueType file, for scripts that Pillow's own has not. Raises
        DataError where the image cannot be read.
        """
        return draw([self], file, font)

    def _repr_png_(self) -> bytes:
        png = io.BytesIO()
        self.draw().save(png, "PNG")
        return png.getvalue()

    def __repr__(self) -> str:
        looked = "; ".join(", ".join(f"{name} {weight:.2f}" for name, weight in step) for step in self.strongest())
        return f"<attention of {self.modality} {self.key!r}, {self.steps} steps: {looked}>"


@dataclass(frozen=True, eq=False)
class Explained:
    """What `explain=True` adds to a search: the attention of the queries (q), and how to get that of items by id."""

    queries: Sequence[Attention]
    of: Callable[[NDArray[np.int64]], list[Attention]]
