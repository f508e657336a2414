"""The options of `bm25`, and the formulas that `variant` chooses between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from xmr_core.plugin import Range

__all__ = ["Bm25Config", "inverse_frequency", "saturated"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Bm25Config:
    """How much repeated words, long texts and rare words count."""

    k1: Annotated[
        float, Range(0.0, 10.0), "how much repetition counts: 0 not at all; higher: the tenth occurrence still adds"
    ] = 1.5
    b: Annotated[
        float, Range(0.0, 1.0), "how much longer texts are discounted: 0 not at all, 1 in proportion to their length"
    ] = 0.75
    variant: Annotated[
        Literal["lucene", "robertson", "atire"],
        "lucene: every shared word counts; robertson: words in half of the texts or more count nothing; "
        "atire: words in all texts count nothing",
    ] = "lucene"
    terms: Annotated[
        int | None,
        Range(1, 65_535),
        "distinct words that are kept of a text, the rarest first, 3 to 5 bytes each; None: all of the longest text "
        "that it is fitted on",
    ] = None


def inverse_frequency(variant: str, occurrences: Floats, texts: int) -> Floats:
    """(w,) the weight of words by the number of `texts` that each occurs in: rare words say more. 0 or more.

    Source: Kamphuis et al., "Which BM25 do you mean?", ECIR 2020, table 1.
    """
    if variant == "atire":
        return np.asarray(np.log(texts / np.maximum(occurrences, 1)))
    odds = (texts - occurrences + 0.5) / (occurrences + 0.5)
    return np.asarray(np.log(1 + odds) if variant == "lucene" else np.log(np.maximum(odds, 1)))


def saturated(config: Bm25Config, counts: Floats, lengths: Floats) -> Floats:
    """The weight of words by how often each occurs in its text; `lengths` are relative to the average."""
    weights = counts / (counts + config.k1 * (1 - config.b + config.b * lengths))
    return weights * (config.k1 + 1) if config.variant == "atire" else weights
