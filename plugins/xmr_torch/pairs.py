"""What networks that hash or match pairs are trained on: pairs held out, which pairs are similar, batches, the score.

Letters: p pairs, n of them to learn from, b of a batch, v held out, l labels, c bits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xmr_core.plugin import Embeddings, average_precision, between, pack_bits

__all__ = ["Rows", "Similar", "hashing_map", "shuffled", "similarities", "split"]

ONE_IN = 5  # images held out at most
QUERIES = 256  # ranked at once

Rows = NDArray[np.int64]
Similar = Callable[[Rows], Tensor]  # positions of pairs (b) to rows of S (b, n), 1 where two pairs are similar


def split(links: Rows, validation: int, seed: int) -> tuple[Rows, Rows]:
    """Positions of pairs (n) to learn from and (v) held out, ascending: about `validation` of them, at most a fifth of
    the images. All pairs of an image are on one side."""
    images, sizes = np.unique(links[:, 0], return_counts=True)
    order = np.random.default_rng(seed).permutation(len(images))
    enough = np.searchsorted(np.cumsum(sizes[order]), validation, side="right")
    held = images[order[: min(int(enough), len(images) // ONE_IN)]]
    away = np.isin(links[:, 0], held)
    return np.flatnonzero(~away), np.flatnonzero(away)


def similarities(links: Rows, labels: NDArray[np.uint8] | None, where: torch.device) -> Similar:
    """S among the pairs that have these links (n, 2) and labels (n, l), row by row: never the whole of S in memory.

    Pairs are similar that share a label; without labels, those of one image or one text.
    """
    if labels is not None:
        given = torch.from_numpy(labels.astype(np.float32)).to(where)  # (n, l)
        return lambda at: (given[torch.from_numpy(at)] @ given.T > 0).to(given.dtype)
    linked = torch.from_numpy(links).to(where)  # (n, 2)
    return lambda at: (linked[torch.from_numpy(at), None] == linked).any(dim=2).float()


def shuffled(n: int, batch: int, rng: np.random.Generator) -> list[Rows]:
    """Each of n positions once, `batch` at a time; the last batch may be smaller."""
    order = rng.permutation(n)
    return [order[start : start + batch] for start in range(0, n, batch)]


def hashing_map(images: NDArray[np.float32], texts: NDArray[np.float32], similar: Similar) -> dict[str, float]:
    """MAP both ways among v pairs whose outputs (v, c) are cut at zero: full Hamming ranking, ties by expectation."""
    image, text = (Embeddings(pack_bits(outputs >= 0), "hamming") for outputs in (images, texts))
    blocks = [np.arange(start, min(start + QUERIES, len(images))) for start in range(0, len(images), QUERIES)]

    def mean_ap(asked: Embeddings, found: Embeddings) -> float:
        distances = between(asked, found)
        each = [average_precision(distances(slice(at[0], at[-1] + 1)), similar(at).numpy() > 0) for at in blocks]
        return float(np.concatenate(each).mean())

    return {"map_image_to_text": mean_ap(image, text), "map_text_to_image": mean_ap(text, image)}
