"""What a component may use while it works, without asking for it: progress, a log, checkpoints, the feature cache.

The library sets a `Run` around its work; outside one, `current_run()` gives a silent Run that keeps nothing. So a
component that trains writes `run = current_run()` and can be used alone, in a test, or under a progress bar, unchanged.

    run = current_run()
    start = run.restore()                                  # None, or the arrays of the last checkpoint
    for epoch in run.track(range(epochs), "dcmh"):
        run.log("dcmh", epoch, loss=loss, map=score)       # into the runs of the library
        run.checkpoint({"weights": w, "epoch": np.array(epoch)})
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from xmr_core.components import Encoder, Fuser, KeptVectors
from xmr_core.types import Features, Items

__all__ = ["Run", "current_run", "encode_blocks", "encode_cached", "kept_vectors", "use_run"]

T = TypeVar("T")

FIRST = 256  # items in the first block, before it is known how large their features are
BATCH = 4096  # items in a block at most, after that
BLOCK_BYTES = 1 << 26  # of features in a block: some hundred images by regions, thousands by one vector


class Run:
    """A silent run: no progress shown, nothing logged or kept. The library's own run overrides these."""

    def track(
        self, steps: Iterable[T], what: str, total: int | None = None, size: Callable[[T], int] | None = None
    ) -> Iterator[T]:
        """The steps, with a progress bar where somebody watches: what is done, how fast, and the time that remains.

        `total` where `len(steps)` is not known. `size` gives how many items a step is, where items are to be counted;
        `total` is their number then.
        """
        yield from steps

    def log(self, what: str, step: int, **figures: float) -> None:
        """Keep figures of one step: losses, validation measures, seconds."""

    def begin(self, part: str) -> None:
        """The pipeline says which of its parts works from here on; checkpoints are kept apart by it."""

    def checkpoint(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep arrays from which `restore` lets a killed fit go on; replaces the last ones whole or not at all."""

    def restore(self) -> dict[str, NDArray[Any]] | None:
        """The arrays of the last checkpoint of the same component on the same data, or None."""
        return None

    def cached(self, encoder: Encoder, items: Items) -> Features | None:
        """Features by way of the library's cache, or None where there is none."""
        return None


_current: ContextVar[Run] = ContextVar("xmr_run", default=Run())  # noqa: B039 (a Run keeps no state)


def current_run() -> Run:
    """The run that is set, or a silent one."""
    return _current.get()


@contextmanager
def use_run(run: Run) -> Iterator[Run]:
    """Make `run` the current one inside a `with`."""
    token = _current.set(run)
    try:
        yield run
    finally:
        _current.reset(token)


def encode_cached(encoder: Encoder, items: Items, batch: int = 256) -> Features:
    """`encoder.encode` in batches, by way of the library's cache where the encoder is `cacheable`.

    A component that is built on another encoder (DCMH on a picture backbone) calls this and never computes twice.
    """
    encoder = encoder.part(items.modality)
    if encoder.cacheable and len(items):
        cached = current_run().cached(encoder, items)
        if cached is not None:
            return cached
    n = len(items)
    if n <= batch:
        return encoder.encode(items)
    parts = [
        encoder.encode(items.take(np.arange(start, min(start + batch, n))))
        for start in current_run().track(
            range(0, n, batch), f"{encoder.name}: {items.modality}s", n, lambda start: min(batch, n - start)
        )
    ]
    return concatenate(parts)


def encode_blocks(encoder: Encoder, items: Items) -> Iterator[Features]:
    """The features of items of one modality by `encode_cached`, in blocks of bounded memory."""
    start, size = 0, FIRST
    while start < len(items):
        features = encode_cached(encoder, items.take(np.arange(start, min(start + size, len(items)))))
        yield features
        start += len(features)
        size = max(1, min(BATCH, BLOCK_BYTES * len(features) // max(1, features.values.nbytes)))


def kept_vectors(encoder: Encoder | None, fusers: Sequence[Fuser]) -> dict[str, KeptVectors]:
    """Where a library keeps, of each modality, exactly what an indexer after these components takes; none where it
    keeps nothing of the kind, as behind a fuser that changes vectors."""
    if encoder is None or not all(fuser.unchanged for fuser in fusers):
        return {}
    kept = {modality: encoder.part(modality).kept(modality) for modality in encoder.forms}
    return {modality: vectors for modality, vectors in kept.items() if vectors is not None}


def concatenate(parts: Sequence[Features]) -> Features:
    """Features of consecutive batches as one; token axes are padded to the longest, with zeros under the mask."""
    tokens = max(part.values.shape[1] for part in parts)
    ragged = any(part.mask is not None or part.values.shape[1] != tokens for part in parts)
    values = np.concatenate([_padded(part.values, tokens) for part in parts])
    if not ragged:
        return Features(parts[0].modality, values, metric=parts[0].metric)
    masks = [part.mask if part.mask is not None else np.ones(part.values.shape[:2], bool) for part in parts]
    mask = np.concatenate([_padded(mask, tokens) for mask in masks])
    return Features(parts[0].modality, values, mask, parts[0].metric)


def _padded(array: NDArray[Any], tokens: int) -> NDArray[Any]:
    missing = tokens - array.shape[1]
    return array if not missing else np.pad(array, [(0, 0), (0, missing)] + [(0, 0)] * (array.ndim - 2))
