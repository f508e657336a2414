"""What a word is, and which words of some texts make a vocabulary: shared by the encoders of this plugin."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import numpy as np

import xmr_core as xmr

__all__ = ["PATTERNS", "split", "vocabulary"]

WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")  # letters and digits of any script; don't is one word
TAG = re.compile(r"[^,\s]+")
PATTERNS: dict[str, re.Pattern[str]] = {"words": WORD, "tags": TAG}
NAMED = 10  # texts an error message names
LONGEST = 64  # letters; what is longer is an address or a number, no word


def split(texts: xmr.Items, pattern: str = "words") -> Iterator[list[str]]:
    """The words of each text, in order, in lower case. Raises DataError with the keys of blank texts."""
    blank = [
        key for key, text in zip(texts.keys, texts.data, strict=True) if not isinstance(text, str) or not text.strip()
    ]
    if blank:
        named = ", ".join(map(repr, blank[:NAMED])) + (", ..." if len(blank) > NAMED else "")
        raise xmr.DataError(f"{len(blank)} of {len(texts)} texts are blank or no text: {named}", blank)
    find: Callable[[str], list[str]] = PATTERNS[pattern].findall
    for text in texts.data:
        yield [word for word in find(unicodedata.normalize("NFC", text).lower()) if len(word) <= LONGEST]


def vocabulary(
    encoder: xmr.Encoder, pairs: xmr.Pairs, read: Callable[[xmr.Items], Iterable[list[str]]]
) -> tuple[list[tuple[str, int]], int]:
    """Words of the linked texts and in how many they occur, most frequent first; and how many texts these are.

    `read` gives the words of each text that count; `encoder.config` has `min_count`, `max_words`. Raises DataError on
    blank texts, and where no word is left.
    """
    texts = pairs.texts.take(np.unique(pairs.links[:, 1]))
    occurrences: Counter[str] = Counter()  # texts a word occurs in
    for words in read(texts):
        occurrences.update(set(words))
    least = encoder.config.min_count
    frequent = [(word, count) for word, count in occurrences.items() if count >= least]
    if not frequent:
        raise xmr.DataError(f"{encoder!r}: no word occurs in {least} of the {len(texts)} texts; lower min_count")
    frequent.sort(key=lambda entry: (-entry[1], entry[0]))
    return frequent[: encoder.config.max_words], len(texts)
