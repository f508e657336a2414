"""What a word is in any script, and which words of some texts make a vocabulary: shared by the encoders of this plugin.

Text is folded before it is split: compatibility forms become plain (full-width letters and punctuation, ligatures),
case is dropped, and so are soft hyphens, joiners, and the vowel points of Arabic and Hebrew, which most texts omit.
A combining mark belongs to the letter before it. Scripts that put no blanks between words (Chinese, Japanese, Thai,
Lao, Khmer, Burmese) are split into characters; `bigrams` adds every pair of neighbours, which finds most words without
a dictionary (McNamee & Mayfield, "Character n-gram tokenization for European language text retrieval", 2004; the same
default as in Lucene's CJK analyser).
"""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_words.segmenting import Segmenter
from xmr_words.segmenting import segmenter as load_segmenter

__all__ = ["PATTERNS", "SPLITTER", "parted", "split", "splitter_of", "vocabulary"]

SPLITTER = 2  # the version of these rules, kept in states; 1 cut words at combining marks
PATTERNS = ("words", "tags")
TAG = re.compile("[^,\\s\uff0c\u3001\uff1b]+")  # the comma, and those of Chinese and Japanese
OLD_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
OLD_TAG = re.compile(r"[^,\s]+")
LONGEST = 64  # characters; what is longer is an address or a number, not a word

MARKED = (range(0x20000), range(0xE0100, 0xE01F0))  # where Unicode keeps its combining marks
HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
UNSPACED = (
    "\u0e00-\u0e7f\u0e80-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff" + HAN  # Kana
)
HAN_OR_NOT = re.compile(f"([{HAN}]+)|([^{HAN}]+)")
DROPPED = dict.fromkeys(
    [
        *(0x00AD, 0x0640, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF),  # soft hyphen, tatweel, joiners and the like
        *range(0x064B, 0x0660),  # Arabic vowel points
        0x0670,
        *(point for point in range(0x0591, 0x05C8) if unicodedata.category(chr(point)) == "Mn"),  # Hebrew points
        *range(0xFE00, 0xFE10),  # variation selectors
    ]
)
FOLDED: dict[int, str | None] = {**DROPPED, 0x2019: "'"}  # one apostrophe, as people type it


def split(
    texts: xmr.Items,
    pattern: str = "words",
    bigrams: bool = False,
    splitter: int = SPLITTER,
    segmenter: Segmenter | None = None,
) -> Iterator[list[str]]:
    """The words of each text, in order, in lower case. Raises DataError with the keys of blank texts.

    `pattern` "tags" takes whatever stands between commas, blanks and lines. `bigrams` adds pairs of neighbouring
    characters in scripts without blanks; `segmenter` cuts Chinese by a dictionary instead, where `bigrams` adds the
    words inside words. `splitter` 1 splits as states of the first version expect.
    """
    checked = texts.texts()
    if splitter == 1:
        find = _old(pattern)
    elif pattern == "tags":
        find = _tags
    else:
        find = functools.partial(_words, bigrams=bigrams, cut=load_segmenter(segmenter, inner=bigrams))
    for text in checked:
        yield [word for word in find(text) if len(word) <= LONGEST]


def splitter_of(state: Mapping[str, NDArray[Any]]) -> int:
    """The version of the rules by which a vocabulary was learned; states of the first version do not say."""
    return int(state["splitter"][0]) if "splitter" in state else 1


def parted(
    texts: Iterable[list[str]], known: Collection[str], find: Callable[[str], str] = str
) -> list[tuple[list[str], list[str]]]:
    """The distinct words of each text, those whose `find(word)` is known and those whose is not, in their order."""
    distinct = [list(dict.fromkeys(words)) for words in texts]
    return [
        ([word for word in words if find(word) in known], [word for word in words if find(word) not in known])
        for words in distinct
    ]


def _old(pattern: str) -> Callable[[str], list[str]]:
    words = OLD_TAG if pattern == "tags" else OLD_WORD
    return lambda text: words.findall(unicodedata.normalize("NFC", text).lower())


def _tags(text: str) -> list[str]:
    return TAG.findall(_lower(unicodedata.normalize("NFC", text)))


def _words(text: str, bigrams: bool, cut: Callable[[str], list[str]] | None) -> list[str]:
    if text.isascii():  # most texts are, and need none of the rest
        return OLD_WORD.findall(text.lower())
    folded = unicodedata.normalize("NFC", _lower(unicodedata.normalize("NFKC", text))).translate(FOLDED)
    words: list[str] = []
    for spaced, unspaced in _word().findall(folded):
        if spaced:
            words.append(spaced)
            continue
        for han, others in HAN_OR_NOT.findall(unspaced) if cut else [("", unspaced)]:
            words += cut(han) if cut and han else _characters(others, bigrams)
    return words


def _characters(text: str, bigrams: bool) -> list[str]:
    """The characters of a run, each with its marks, and with `bigrams` each pair of neighbours."""
    characters = _character().findall(text)
    return characters + [left + right for left, right in itertools.pairwise(characters)] * bigrams


def _lower(text: str) -> str:
    return text.lower().replace("i\u0307", "i")  # the Turkish capital I with its dot is two characters in lower case


@functools.cache
def _marks() -> str:
    """All combining marks, as ranges of a character class."""
    points = [point for some in MARKED for point in some if unicodedata.category(chr(point)) in ("Mn", "Mc", "Me")]
    marks = set(points)
    starts = [point for point in points if point - 1 not in marks]
    ends = [point for point in points if point + 1 not in marks]
    return "".join(f"{chr(start)}-{chr(end)}" for start, end in zip(starts, ends, strict=True))


@functools.cache
def _word() -> re.Pattern[str]:
    """Words of letters, digits and their marks (don't is one), or runs of a script without blanks."""
    letter = rf"(?:(?![{UNSPACED}])[^\W_][{_marks()}]*)"
    return re.compile(rf"({letter}+(?:'{letter}+)*)|((?:(?=[{UNSPACED}])[^\W_][{_marks()}]*)+)")


@functools.cache
def _character() -> re.Pattern[str]:
    return re.compile(rf"[^\W_][{_marks()}]*")


def vocabulary(
    encoder: xmr.Encoder, pairs: xmr.Pairs, read: Callable[[xmr.Items], Iterable[list[str]]]
) -> tuple[list[tuple[str, int]], int]:
    """Words of the linked texts (of all, if none is linked) and in how many they occur, most frequent first; how many
    texts these are.

    `read` gives the words of each text that count; `encoder.config` has `min_count`, `max_words`. Raises DataError on
    blank texts, and where no word is left.
    """
    texts = pairs.texts.take(np.unique(pairs.links[:, 1])) if len(pairs.links) else pairs.texts
    occurrences: Counter[str] = Counter()  # texts a word occurs in
    for words in read(texts):
        occurrences.update(set(words))
    least = encoder.config.min_count
    frequent = [(word, count) for word, count in occurrences.items() if count >= least]
    if not frequent:
        raise xmr.DataError(f"{encoder!r}: no word occurs in {least} of the {len(texts)} texts; lower min_count")
    frequent.sort(key=lambda entry: (-entry[1], entry[0]))
    return frequent[: encoder.config.max_words], len(texts)
