"""First and second moments of linked vectors, a link counting once: what closed forms are solved from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xmr_align.inputs import Aligned, Doubles, Floats, Links

__all__ = ["Moments", "moments"]

BLOCK = 8192  # rows whose products are summed at once


@dataclass(frozen=True, eq=False)
class Moments:
    """Means and covariances over p links, in float64."""

    image_mean: Doubles  # (d,)
    text_mean: Doubles  # (e,)
    images: Doubles  # (d, d)
    cross: Doubles  # (d, e)
    texts: Doubles | None  # (e, e)
    count: int  # p


def moments(pairs: Aligned, links: Links, texts: bool = False) -> Moments:
    """The moments over these links; those among `texts` where they are asked for."""
    p = len(links)
    own, captions = _counts(links[:, 0], len(pairs.images)), _counts(links[:, 1], len(pairs.texts))
    image_mean = own @ pairs.images.astype(np.float64) / p
    text_mean = captions @ pairs.texts.astype(np.float64) / p
    cross = np.zeros((len(image_mean), len(text_mean)))
    order = np.argsort(links[:, 0], kind="stable")
    linked, starts = np.unique(links[order, 0], return_index=True)
    ends = np.append(starts[1:], p)
    step = max(1, BLOCK * len(linked) // p)
    for first in range(0, len(linked), step):  # so many images that their texts fit a block
        block = slice(first, first + step)
        at = order[starts[first] : ends[block][-1]]
        sums = np.add.reduceat(pairs.texts[links[at, 1]] - text_mean, starts[block] - starts[first])  # (b, e)
        cross += (pairs.images[linked[block]] - image_mean).T @ sums
    return Moments(
        image_mean,
        text_mean,
        _covariance(pairs.images, own, image_mean) / p,
        cross / p,
        _covariance(pairs.texts, captions, text_mean) / p if texts else None,
        p,
    )


def _counts(positions: NDArray[np.int64], n: int) -> Doubles:
    return np.bincount(positions, minlength=n).astype(np.float64)


def _covariance(vectors: Floats, weights: Doubles, mean: Doubles) -> Doubles:
    """(d, d): the sum of outer products of centred vectors, times their weights (n,)."""
    total = np.zeros((vectors.shape[1],) * 2)
    rows = np.flatnonzero(weights)
    for start in range(0, len(rows), BLOCK):
        at = rows[start : start + BLOCK]
        centred = (vectors[at] - mean) * np.sqrt(weights[at, None])
        total += centred.T @ centred
    return total
