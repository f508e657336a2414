"""Where a pipeline looks: the weights it gives to regions of a picture or to words, step by step; shown, stored, drawn.

(seen,) = db.attention(text="a dog on green grass")
seen.weights                                            # (steps, words), each row sums to 1
seen.draw("dog.png")
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xmr_core.components import Fuser
from xmr_core.errors import ConfigError, DataError
from xmr_core.progress import encode_cached
from xmr_core.store import AttentionRows, Store
from xmr_core.types import IMAGE, Items

if TYPE_CHECKING:
    from PIL.Image import Image

    from xmr_core.recipes import Pipeline

__all__ = ["Attention", "Explained", "attend", "of_stored", "require", "rows"]

BLOCK = 256  # items whose features are at hand at once


@dataclass(frozen=True, eq=False)
class Attention:
    """How one picture or sentence was looked at.

    `weights` (steps, t) float32: row k is step k + 1, sums to 1. `tokens` (t) are the words that they weigh; () for a
    picture, whose t regions lie row by row from the upper left. `data` is the picture or the sentence; `id` is that of
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
        """(steps, side, side): a picture's weights as they lie in it. Raises DataError where they are no square."""
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
        """It as a picture, a column a step: brighter is what a step looked at in a picture, darker in a sentence.

        Written to `file` where one is given. `font` is a TrueType file, for scripts that Pillow's own has not. Raises
        DataError where the picture cannot be read.
        """
        from xmr_core.explain.drawing import draw

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


def require(pipeline: Pipeline) -> Fuser:
    """The fuser of a pipeline that attends. Raises ConfigError where none does."""
    first = pipeline.fusers[0] if pipeline.encoder and pipeline.fusers else None
    if first is None or type(first).attention is Fuser.attention:
        raise _without(pipeline)
    return first


def attend(pipeline: Pipeline, items: Items) -> list[Attention]:
    """The attention of items of one modality, in their order. Raises ConfigError where the pipeline pays none."""
    fuser, encoder = require(pipeline), pipeline.encoder
    assert encoder is not None, "require has seen to it"
    pipeline.require_fit()
    encoder.require_modality(items.modality)
    features = encode_cached(encoder, items)
    weights = fuser.attention(features) if len(items) else np.empty((0, 0, 0), np.float32)  # (n, steps, t)
    if weights is None:
        raise _without(pipeline)
    words: Sequence[Sequence[str]] = encoder.tokens(items) or [()] * len(items)
    real = np.full(len(items), weights.shape[2]) if features.mask is None else features.mask.sum(axis=1)
    return [
        Attention(items.modality, weights[i, :, : real[i]].copy(), items.data[i], tuple(words[i]), items.keys[i])
        for i in range(len(items))
    ]


def of_stored(store: Store, pipeline: Pipeline, ids: NDArray[np.int64]) -> list[Attention]:
    """The attention of stored items, in the order of their ids. Raises DataError where one is not there."""
    require(pipeline)
    kinds = np.array([kind or "" for kind in store.describe(ids)["modality"]])
    lost = ids[kinds == ""]
    if len(lost):
        raise DataError(f"{len(lost)} of these ids name no item, the first is {lost[0]}")
    found: dict[int, Attention] = {}
    for kind in sorted(set(kinds.tolist())):
        ours = np.unique(ids[kinds == kind])
        for block in (ours[start : start + BLOCK] for start in range(0, len(ours), BLOCK)):
            items = store.items(block, kind)
            for item, seen in zip(block.tolist(), attend(pipeline, items), strict=True):
                found[item] = replace(seen, id=item)
    return [found[item] for item in ids.tolist()]


def rows(attentions: Iterable[Attention]) -> AttentionRows:
    """The attention of stored items as rows, one a step and weight; of an item that is there twice, once."""
    seen = list({one.id: one for one in attentions}.values())
    shapes = [one.weights.shape for one in seen]  # steps and t of each
    return AttentionRows(
        ids=_joined([np.full(steps * t, one.id) for one, (steps, t) in zip(seen, shapes, strict=True)]),
        steps=_joined([np.repeat(np.arange(1, steps + 1), t) for steps, t in shapes]),
        positions=_joined([np.tile(np.arange(t), steps) for steps, t in shapes]),
        tokens=[name for one in seen for name in one.names * one.steps],
        weights=_joined([one.weights.ravel() for one in seen]).astype(np.float32),
    )


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _without(pipeline: Pipeline) -> ConfigError:
    name = pipeline.fusers[0].name if pipeline.fusers else pipeline.indexer.name
    return ConfigError(
        f"{pipeline!r}: {name} weighs neither regions nor words, so there is no attention to show; "
        "it takes a fuser that does, right after the encoder"
    )
