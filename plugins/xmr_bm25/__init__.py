"""BM25: texts ranked by the words that they share with a query; rare words and short texts count more.

Source: Robertson & Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009; the variants are those of
Kamphuis et al., ECIR 2020. Letters: n texts, q queries, w words of the vocabulary, t words that are kept of a text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_bm25.config import Bm25Config, inverse_frequency, saturated
from xmr_bm25.index import Bm25Index

LARGEST_COUNT = 255  # occurrences of a word in a text that are told apart


class Bm25(xmr.Indexer[Bm25Config]):
    """Counts of words, stored as the words that occur. The distance is the negative BM25 score; 0: no word in common.

    The metric under which counts arrive plays no part. State: `idf` (w) float64, `average` (1,) the mean number of
    words in a text, `terms` (1,) how many distinct words are kept of a text.
    """

    name: ClassVar[str] = "bm25"
    exact: ClassVar[bool] = True
    recall_floor: ClassVar[float] = 1.0
    encoder_wanted: ClassVar[str] = "bow(weighting='count')"
    no_match: ClassVar[float] = 0.0
    additive: ClassVar[bool] = True

    @xmr.takes(Bm25Config)
    def __init__(self) -> None: ...

    def fit(self, embeddings: xmr.Embeddings) -> Self:
        """How rare each word is, and how long texts are. Raises DataError where values are not counts."""
        return self.fit_blocks([embeddings])

    def fit_blocks(self, blocks: Iterable[xmr.Embeddings]) -> Self:
        """The same, block by block: counts are as wide as the vocabulary, and those of all texts may not fit."""
        occurrences: NDArray[np.int64] = np.zeros(1, np.int64)  # (w,) texts that each word occurs in
        texts, words, most = 0, 0.0, 1
        for block in blocks:
            counts = _counts(super().queries(block))
            occurs = counts > 0
            occurrences = occurrences + occurs.sum(axis=0)
            texts += len(counts)
            words += float(counts.sum(dtype=np.float64))
            most = max(most, int(occurs.sum(axis=1).max(initial=1)))
        idf = inverse_frequency(self.config.variant, occurrences.astype(np.float64), texts)
        return self.with_state(
            {
                "idf": idf,
                "average": np.array([max(1.0, words / max(texts, 1))]),
                "terms": np.array([max(1, min(self.config.terms or most, len(idf)))]),
            }
        )

    def queries(self, embeddings: xmr.Embeddings) -> xmr.Embeddings:
        """Counts over the words that were fitted. Raises NotFittedError, DataError, SpaceMismatchError."""
        self.require_fit()
        words = len(self.state["idf"])
        if super().queries(embeddings).dim != words:
            raise xmr.DataError(f"bm25: expected counts of {words} words, got {embeddings.dim}")
        _counts(embeddings)
        return embeddings

    @property
    def layout(self) -> xmr.Layout:
        """The columns of a text: `terms`, the positions of its words, `counts`, how often each, and `length`."""
        words, kept = len(self.state["idf"]), int(self.state["terms"][0])
        number = "uint16" if words <= 1 << 16 else "uint32"
        columns = (xmr.Column("terms", number, kept), xmr.Column("counts", "uint8", kept))
        return xmr.Layout("terms", (*columns, xmr.Column("length", "uint32")), words)

    def encode(self, embeddings: xmr.Embeddings, ids: NDArray[np.int64]) -> xmr.Codes:
        """The words of each text, ascending, with their counts; where there are too many, the rarest."""
        counts = self.queries(embeddings).values
        layout = self.layout
        kept = int(self.state["terms"][0])
        terms, held = np.zeros((len(counts), kept), np.int64), np.zeros((len(counts), kept), np.uint8)
        for row, values in enumerate(counts):
            words = np.flatnonzero(values)
            if len(words) > kept:
                words = np.sort(words[np.argsort(-self.state["idf"][words], kind="stable")[:kept]])
            terms[row, : len(words)], held[row, : len(words)] = words, np.minimum(values[words], LARGEST_COUNT)
        columns = {"terms": terms, "counts": held, "length": counts.sum(axis=1, dtype=np.float64).astype(np.uint32)}
        return xmr.Codes.of_columns(ids, layout, columns)

    def weights(self, codes: xmr.Codes) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """(n, t) the words of each text, and (n, t) what each adds to the score of a query that has it; 0 at padding.

        Raises DataError where the codes have another layout.
        """
        if codes.layout != self.layout:
            raise xmr.DataError(f"bm25: expected codes of {self.layout}, got {codes.layout}")
        columns = codes.columns
        terms, counts = columns["terms"].astype(np.int64), columns["counts"].astype(np.float64)
        lengths = columns["length"][:, None] / self.state["average"][0]  # (n, 1)
        present = counts > 0
        weights = saturated(self.config, np.where(present, counts, 1.0), lengths) * self.state["idf"][terms]
        return terms, np.where(present, weights, 0.0)

    def build(self, codes: xmr.Codes) -> xmr.Index:
        """An inverted index: the texts of each word, with what the word adds to their scores."""
        return Bm25Index(self, codes)

    def distances(self, queries: xmr.Embeddings, codes: xmr.Codes) -> NDArray[np.float32]:
        """(q, n) the negative scores, word by word."""
        asked = self.queries(queries).values.astype(np.float64)
        terms, weights = self.weights(codes)
        scores = np.zeros((len(asked), len(codes)))
        for position in range(terms.shape[1]):
            scores += asked[:, terms[:, position]] * weights[:, position]
        return (0.0 - scores).astype(np.float32)


def _counts(embeddings: xmr.Embeddings) -> NDArray[np.float32]:
    """(n, w) how often each word occurs. Raises DataError where these are other numbers."""
    values: NDArray[np.float32] = embeddings.values
    if (values < 0).any() or (values != np.floor(values)).any():
        raise xmr.DataError(
            "bm25 takes counts of words, whole numbers from 0; put bow(weighting='count') before it, not normalised"
        )
    return values


@xmr.hookimpl
def xmr_indexers() -> list[type[xmr.Indexer]]:
    """The indexer of words."""
    return [Bm25]
