"""Texts without a language model: `bow`, how often each word of a learnt vocabulary occurs; `words`, which in turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.plugin import Form, Widths
from xmr_words.config import BowConfig
from xmr_words.splitting import SPLITTER, parted, split, splitter_of, vocabulary
from xmr_words.stemming import stemmer
from xmr_words.tokens import Words


class Bow(xmr.Encoder[BowConfig]):
    """Texts to vectors (n, 1, w) over the w words of the training texts; words it never met count nothing.

    State: `words` (w) str, the most frequent first; `idf` (w) float32; `splitter` (1,), the version of the rules that
    split texts into words.
    """

    name: ClassVar[str] = "bow"
    forms: ClassVar[Mapping[str, Form]] = {xmr.TEXT: "vector"}
    later: ClassVar[frozenset[str]] = frozenset({"stem", "segmenter"})

    @xmr.takes(BowConfig)
    def __init__(self) -> None: ...

    def fit(self, pairs: xmr.Pairs) -> Self:
        """The vocabulary of the texts that are linked. Raises DataError on blank texts, and where no word is left."""
        kept, texts = vocabulary(self, pairs, lambda texts: self._split(texts, SPLITTER))
        counts = np.array([count for _, count in kept])
        idf = np.log((1 + texts) / (1 + counts)) + 1  # smoothed: as if one more text held every word
        words = np.array([word for word, _ in kept])
        return self.with_state({"words": words, "idf": idf.astype(np.float32), "splitter": np.array([SPLITTER])})

    def widths(self) -> Widths:
        """A number a word, once these are known."""
        return {xmr.TEXT: len(self.state["words"]) if self.fitted else None}

    def encode(self, items: xmr.Items) -> xmr.Features:
        """Features (n, 1, w); zeros where no word is known. Raises DataError with the keys of blank texts."""
        self.require_modality(items.modality)
        self.require_fit()
        column = {word: i for i, word in enumerate(self.state["words"].tolist())}
        places = [
            row * len(column) + column[word]
            for row, words in enumerate(self._split(items))
            for word in words
            if word in column
        ]
        cells = np.bincount(np.array(places, np.int64), minlength=len(items) * len(column))
        vectors = self._weighted(cells.reshape(len(items), len(column)).astype(np.float32))
        return xmr.Features.of_vectors(items.modality, vectors, self.metric)

    def known_and_unknown(self, items: xmr.Items) -> list[tuple[list[str], list[str]]]:
        """The words of each text that a training text had, and those that none had, in their order."""
        self.require_modality(items.modality)
        self.require_fit()
        texts = split(items, self.config.split, splitter=splitter_of(self.state), segmenter=self.config.segmenter)
        return parted(texts, set(self.state["words"].tolist()), stemmer(self.config.stem) or str)

    def _split(self, items: xmr.Items, splitter: int | None = None) -> Iterator[list[str]]:
        """The words of each text, as they were split when the vocabulary was learned; `splitter` where it is not."""
        version = splitter_of(self.state) if splitter is None else splitter
        texts = split(items, self.config.split, True, version, self.config.segmenter)
        stem = stemmer(self.config.stem)
        return texts if stem is None else (list(map(stem, words)) for words in texts)

    def _weighted(self, counts: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.config.weighting == "binary":
            counts = (counts > 0).astype(np.float32)
        elif self.config.weighting == "tfidf":
            counts = counts * self.state["idf"]
        if self.config.normalise:
            lengths = np.linalg.norm(counts, axis=1, keepdims=True)
            counts = np.divide(counts, lengths, out=np.zeros_like(counts), where=lengths > 0)
        return counts


@xmr.hookimpl
def xmr_encoders() -> list[type[xmr.Encoder]]:
    """The bag of words, and words in their order."""
    return [Bow, Words]
