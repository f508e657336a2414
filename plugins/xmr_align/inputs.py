"""What the fusers of this package learn from: one vector an item, and pairs held out to choose options by.

Letters: n images, m texts, p links between them, d dimensions.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.plugin import as_vectors, unit

__all__ = ["Aligned", "aligned", "held_out", "mean_recall", "numbered", "rooted", "roots", "vectors_of"]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Links = NDArray[np.int64]  # (p, 2): positions of an image and of a text

FEWEST = 4  # images with captions to learn from
ONE_IN = 10  # images held out at most
RANKS = (1, 5, 10)
BLOCK = 1024  # items whose regions are averaged at once


@dataclass(frozen=True, eq=False)
class Aligned:
    """Vectors of both modalities, and which belong together."""

    images: Floats  # (n, d)
    texts: Floats  # (m, e)
    links: Links


def aligned(pairs: xmr.FeaturePairs, name: str) -> Aligned:
    """The vectors of pairs. Raises DataError where a modality or the links between them are missing."""
    for side in (pairs.images, pairs.texts):
        if not len(side):
            raise xmr.DataError(f"{name} learns from images with captions; there are no {side.modality}s")
    count = len(np.unique(pairs.links[:, 0]))
    if count < FEWEST:
        raise xmr.DataError(f"{name} learns from images with captions; got {count} of them, {FEWEST} are needed")
    return Aligned(vectors_of(pairs.images, name), vectors_of(pairs.texts, name), pairs.links)


def vectors_of(features: xmr.Features, name: str, d: int | None = None) -> Floats:
    """(n, d) float32, finite: the vector of each item, or the mean of its regions. Raises DataError."""
    values, mask = features.values, features.mask
    if values.ndim != 3:
        raise xmr.DataError(f"{name} takes vectors or regions, got word ids of {features.modality}s")
    told = f"{name}: {features.modality} features"
    if values.shape[1] == 1 and mask is None:
        return as_vectors(features.vectors, told, d)
    means = np.empty((len(values), values.shape[2]), np.float32)
    for start in range(0, len(values), BLOCK):
        rows = slice(start, start + BLOCK)
        block = values[rows].astype(np.float32)  # (b, t, d)
        if mask is None:
            means[rows] = block.mean(axis=1)
        else:
            counts = np.maximum(mask[rows].sum(axis=1), 1)[:, None]
            means[rows] = np.where(mask[rows][..., None], block, 0).sum(axis=1) / counts
    return as_vectors(means, told, d)


def rooted(data: Aligned) -> tuple[Aligned, bool]:
    """The pairs with `roots` of their image vectors where none has a negative number, and whether that is so.

    Means of feature maps after a ReLU are such vectors. Fitted fusers keep the answer in their state.
    """
    if (data.images < 0).any():
        return data, False
    return replace(data, images=roots(data.images)), True


def roots(vectors: Floats) -> Floats:
    """(n, d): the square roots of what is positive, of length 1: a few strong activations no longer drown the others.

    Source: Perronnin et al., "Improving the Fisher kernel", ECCV 2010 (power normalization).
    """
    return unit(np.sqrt(np.maximum(vectors, 0)))


def held_out(links: Links, most: int, seed: int = 0) -> tuple[Links, Links]:
    """Links to learn from and links held out: those of `most` images, at most a tenth of all.

    No image and no text is on both sides; a link that would join them is on neither.
    """
    images = np.unique(links[:, 0])
    chosen = np.random.default_rng(seed).permutation(images)[: min(most, len(images) // ONE_IN)]
    away = np.isin(links[:, 0], chosen)
    shared = np.isin(links[:, 1], links[away, 1])
    return links[~shared], links[away & ~np.isin(links[:, 1], links[~away, 1])]


def mean_recall(images: NDArray[Any], texts: NDArray[Any], links: Links) -> float:
    """The mean of R@1, R@5 and R@10 both ways among these items, by cosine; ties count against.

    Figures for choosing, from one float32 product; `xmr_core.measures` gives those to report.
    """
    scores = unit(images) @ unit(texts).T  # (n, m)
    own = np.zeros(scores.shape, bool)
    own[links[:, 0], links[:, 1]] = True
    found = []
    for score, mine in ((scores, own), (scores.T, own.T)):
        asked = mine.any(axis=1)
        best = np.where(mine, score, -np.inf).max(axis=1, keepdims=True)  # (q, 1)
        ahead = ((score >= best) & ~mine).sum(axis=1)[asked]
        found += [(ahead < k).mean() for k in RANKS]
    return float(np.mean(found))


def numbered(vectors: Floats) -> Links:
    """(m,) a number for each row, the same for equal rows: texts that say the same are one text."""
    digests = [hashlib.sha256(row).digest() for row in np.ascontiguousarray(vectors)]
    return np.unique(np.array(digests, "S32"), return_inverse=True)[1]
