"""What the networks are given: regions and word ids as tensors, checked, a few rows at a time.

Letters: b rows of a batch, n regions, t words, d dimensions of a region.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import xmr_core as xmr

__all__ = ["check_regions", "check_words", "regions_of", "words_of"]

Rows = NDArray[np.int64] | slice


def check_regions(features: xmr.Features, width: int | None = None) -> None:
    """Raise DataError unless these are pictures with regions of that width, each with one region at least."""
    values = features.values
    if values.ndim != 3 or not values.shape[2]:
        raise xmr.DataError(f"pictures are given by regions (n, regions, d), got {values.dtype} {values.shape}")
    if width is not None and values.shape[2] != width:
        raise xmr.DataError(
            f"fitted on regions of {width} dimensions, got {values.shape[2]}; "
            "use the picture encoder it was fitted with"
        )
    _check_mask(features, "picture", "region")


def check_words(features: xmr.Features, vocabulary: int | None = None) -> None:
    """Raise DataError unless these are sentences of word ids below `vocabulary`, real words first, one at least."""
    ids = features.values
    if ids.ndim != 2:
        raise xmr.DataError(f"sentences are given by word ids (n, words), got {ids.dtype} {ids.shape}")
    if ids.size and (ids.min() < 0 or (vocabulary is not None and ids.max() >= vocabulary)):
        known = "from 0 up" if vocabulary is None else f"0 to {vocabulary - 1}"
        raise xmr.DataError(
            f"fitted on word ids {known}, got {ids.min()} to {ids.max()}; "
            "use the text encoder it was fitted with, another has another vocabulary"
        )
    _check_mask(features, "sentence", "word")
    mask = features.mask
    if mask is not None and (mask[:, 1:] & ~mask[:, :-1]).any():
        raise xmr.DataError("a sentence has padding before a word; real words come first")


def _check_mask(features: xmr.Features, item: str, token: str) -> None:
    some = features.mask.any(axis=1) if features.mask is not None else np.full(len(features), features.values.shape[1])
    bad = np.flatnonzero(~some.astype(bool))
    if bad.size:
        raise xmr.DataError(f"{bad.size} of {len(features)} {item}s have no {token}, the first is row {bad[0]}")


def regions_of(features: xmr.Features, rows: Rows, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Regions (b, n, d) float32 and their mask (b, n), or None where all are real. Raises DataError on NaN."""
    regions = torch.from_numpy(np.array(features.values[rows])).to(device).float()
    if not torch.isfinite(regions).all():
        raise xmr.DataError("the regions of a picture hold NaN or infinity")
    return regions, None if features.mask is None else torch.from_numpy(features.mask[rows]).to(device)


def words_of(features: xmr.Features, rows: Rows, device: torch.device) -> tuple[Tensor, Tensor]:
    """Word ids (b, t) int64 and their mask (b, t), cut to the longest of these sentences."""
    ids: NDArray[Any] = features.values[rows]
    mask = np.ones(ids.shape, bool) if features.mask is None else features.mask[rows]
    longest = int(mask.sum(axis=1).max(initial=1))
    cut = ids[:, :longest].astype(np.int64), mask[:, :longest].copy()
    return torch.from_numpy(cut[0]).to(device), torch.from_numpy(cut[1]).to(device)
