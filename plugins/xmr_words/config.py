"""The options of `bow` and `words`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from xmr_core.plugin import Range
from xmr_words.segmenting import Segmenter

__all__ = ["BowConfig", "WordsConfig"]

Stem = Literal[
    "plural",
    "arabic",
    "danish",
    "dutch",
    "english",
    "finnish",
    "french",
    "german",
    "hindi",
    "hungarian",
    "italian",
    "norwegian",
    "portuguese",
    "romanian",
    "russian",
    "spanish",
    "swedish",
    "tamil",
    "turkish",
]
Segmented = Annotated[
    Segmenter | None,
    "how Chinese is cut into words: jieba by its dictionary (a second to load); None: characters, in bow with pairs",
]
MinCount = Annotated[int, Range(1), "texts in which a word must occur; higher: fewer dimensions, rare words are lost"]


@dataclass(frozen=True)
class BowConfig:
    """What a word is, which words count, and how much."""

    split: Annotated[
        Literal["words", "tags"],
        "words: runs of letters and digits; tags: what stands between commas, blanks and lines",
    ] = "words"
    min_count: MinCount = 1
    max_words: Annotated[
        int, Range(1, 1_000_000), "dimensions at most, the most frequent words kept; a text takes four bytes for each"
    ] = 10_000
    weighting: Annotated[
        Literal["binary", "count", "tfidf"],
        "binary: whether a word occurs; count: how often; tfidf: rare words weigh more",
    ] = "binary"
    stem: Annotated[
        Stem | None,
        "forms of a word as one: plural knows English plurals, a language takes its Snowball stemmer; None: as written",
    ] = None
    normalise: Annotated[bool, "vectors of length 1: long texts weigh no more than short ones"] = False
    segmenter: Segmented = None


@dataclass(frozen=True)
class WordsConfig:
    """Which words count, and how much of a text is read."""

    min_count: Annotated[
        MinCount, "texts in which a word must occur; 1 leaves nothing unknown to learn from, higher: fewer words"
    ] = 2
    max_words: Annotated[
        int, Range(1, 1_000_000), "words at most, the most frequent kept; a network keeps some thousand bytes for each"
    ] = 20_000
    max_tokens: Annotated[
        int, Range(1, 65_536), "words of a text that are read, the rest is not; a batch is as wide as its longest text"
    ] = 128
    segmenter: Segmented = None
