"""Words in their order: a text as the numbers of its words, for networks that read sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Self

import numpy as np

import xmr_core as xmr
from xmr_core.plugin import Form
from xmr_words.config import WordsConfig
from xmr_words.splitting import SPLITTER, parted, split, splitter_of, vocabulary

__all__ = ["UNKNOWN", "Words"]

UNKNOWN = "<unk>"  # word 0; no text has it, for no word holds a bracket


class Words(xmr.Encoder[WordsConfig]):
    """Texts to word ids (n, t) int32 with a mask: 0 is `<unk>`, then the words of the training texts.

    State: `words` (w) str, `<unk>` and then the most frequent first: the id of a word is its position; `splitter`
    (1,), the version of the rules that split texts into words.
    """

    name: ClassVar[str] = "words"
    forms: ClassVar[Mapping[str, Form]] = {xmr.TEXT: "tokens"}
    later: ClassVar[frozenset[str]] = frozenset({"segmenter"})

    @xmr.takes(WordsConfig)
    def __init__(self) -> None: ...

    def fit(self, pairs: xmr.Pairs) -> Self:
        """The vocabulary of what is read of the linked texts: words beyond `max_tokens` never reach a network.

        Raises DataError on blank texts, and where no word is left.
        """
        kept, _ = vocabulary(self, pairs, self._read)
        words = np.array([UNKNOWN, *(word for word, _ in kept)])
        return self.with_state({"words": words, "splitter": np.array([SPLITTER])})

    def encode(self, items: xmr.Items) -> xmr.Features:
        """Features (n, t) and their mask, t the most words of a text; 0 where a word is unknown, and at padding.

        A text without a single word, like "?!", is one unknown word. Raises DataError with the keys of blank texts.
        """
        self.require_modality(items.modality)
        self.require_fit()
        number = {word: i for i, word in enumerate(self.state["words"].tolist())}
        rows = [[number.get(word, 0) for word in words] for words in self._words(items)]
        lengths = np.array([len(row) for row in rows], np.int64)  # (n,)
        mask = np.arange(lengths.max(initial=1)) < lengths[:, None]  # (n, t)
        ids = np.zeros(mask.shape, np.int32)
        ids[mask] = [i for row in rows for i in row]
        return xmr.Features(items.modality, ids, mask)

    def tokens(self, items: xmr.Items) -> list[list[str]]:
        """The words of each text, one for each token of `encode`; unknown ones as they are written."""
        self.require_modality(items.modality)
        return list(self._words(items))

    def known_and_unknown(self, items: xmr.Items) -> list[tuple[list[str], list[str]]]:
        """The words of each text that a training text had, and those that none had, in their order."""
        self.require_fit()
        return parted(self.tokens(items), set(self.state["words"].tolist()))

    def _words(self, items: xmr.Items) -> Iterator[list[str]]:
        return (words or [UNKNOWN] for words in self._read(items))

    def _read(self, items: xmr.Items) -> Iterator[list[str]]:
        splitter = splitter_of(self.state) if self.state else SPLITTER
        texts = split(items, splitter=splitter, segmenter=self.config.segmenter)
        return (words[: self.config.max_tokens] for words in texts)
