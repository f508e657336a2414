"""Computing attention: of given items, of stored items, and as rows for the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmr_core.components import Fuser
from xmr_core.errors import ConfigError, DataError
from xmr_core.explain.attention import Attention
from xmr_core.recipes import Pipeline
from xmr_core.store import AttentionRows, Store
from xmr_core.types import Features, Items

__all__ = ["attend", "of_stored", "require", "rows"]

BLOCK = 256  # items whose features are held at once


def require(pipeline: Pipeline) -> Fuser:
    """The fuser of a pipeline that attends. Raises ConfigError where none does."""
    first = pipeline.fusers[0] if pipeline.encoder and pipeline.fusers else None
    if first is None or type(first).attention is Fuser.attention:
        raise _without(pipeline)
    return first


def attend(pipeline: Pipeline, items: Items, features: Iterable[Features] | None = None) -> list[Attention]:
    """The attention of items of one modality, in their order; `features` are theirs in blocks, if they are known.

    Raises ConfigError where the pipeline pays none.
    """
    require(pipeline)
    made: list[Attention] = []
    for block in pipeline.features(items) if features is None else features:
        made += _attend(pipeline, items.take(np.arange(len(made), len(made) + len(block))), block)
    return made


def _attend(pipeline: Pipeline, items: Items, features: Features) -> Iterator[Attention]:
    fuser, encoder = require(pipeline), pipeline.encoder
    assert encoder is not None, "require has seen to it"
    weights = fuser.attention(features)  # (n, steps, t)
    if weights is None:
        raise _without(pipeline)
    words: Sequence[Sequence[str]] = encoder.tokens(items) or [()] * len(items)
    real = np.full(len(items), weights.shape[2]) if features.mask is None else features.mask.sum(axis=1)
    for i in range(len(items)):
        seen, stored = weights[i, :, : real[i]].copy(), int(items.ids[i]) if items.stored else None
        yield Attention(items.modality, seen, items.data[i], tuple(words[i]), items.keys[i], stored)


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
            found |= dict(zip(block.tolist(), attend(pipeline, items), strict=True))
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
