"""BM25, against scores worked out by hand and against the package bm25s."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import xmr_core as xmr
from xmr_bm25 import Bm25
from xmr_core.testing import conformance
from xmr_words import Bow

TEXTS = ["a dog and a dog", "a cat", "a dog and a cat and a bird", "grass"]


def counts_of_texts() -> xmr.Embeddings:
    """Counts of 60 words in 1,000 texts, frequent words and rare ones, some texts several times."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(2 / np.arange(1, 61), (1000, 60)).astype(np.float32)
    counts[:, 0] += 1  # none is empty
    counts[200:205] = counts[:5]
    return xmr.Embeddings(counts, "cosine")


TestBm25 = conformance("indexer", "bm25", config={"k1": 1.2}, samples=counts_of_texts())

TestBm25ThatKeepsFewTerms = conformance(
    "indexer", "bm25", config={"terms": 4, "variant": "atire"}, samples=counts_of_texts()
)


def paired(texts: list[str]) -> xmr.Pairs:
    """Each text with an image of its own, which nobody looks at."""
    n = len(texts)
    links = np.stack([np.arange(n)] * 2, axis=1)
    return xmr.Pairs(xmr.Items(xmr.IMAGE, [b""] * n), xmr.Items(xmr.TEXT, texts), links)


def scores(recipe: str, query: str, texts: list[str] = TEXTS) -> list[float]:
    """The score of each text for a query, by a pipeline that is fitted on the texts."""
    pipeline = xmr.Pipeline.parse(recipe).fit(paired(texts))
    codes = pipeline.encode(xmr.Items(xmr.TEXT, texts))
    hits = pipeline.indexer.build(codes).search(pipeline.embed(xmr.Items(xmr.TEXT, [query])), len(texts))
    assert hits.exact
    return [-float(hits.distances[0, hits.ids[0].tolist().index(row)]) for row in range(len(texts))]


def test_fitting_never_holds_the_counts_of_all_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xmr_core.progress.BLOCK_BYTES", 1 << 20)
    n = 2000
    pairs = paired([f"word{row} and word{(row + 1) % n}" for row in range(n)])
    pipeline = xmr.Pipeline.parse("bow(weighting='count', min_count=1) >> bm25")
    tracemalloc.start()
    try:
        fitted = pipeline.fit(pairs)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    words = len(fitted.indexer.state["idf"])
    assert words > n
    assert peak < n * words * 4


def test_a_score_worked_out_by_hand() -> None:
    # 4 texts of 5, 2, 8 and 1 words: 4 on average. dog is in 2 texts, cat in 2
    idf = math.log(1 + (4 - 2 + 0.5) / (2 + 0.5))
    first = idf * 2 / (2 + 1.5 * (1 - 0.75 + 0.75 * 5 / 4))
    second = idf * 1 / (1 + 1.5 * (1 - 0.75 + 0.75 * 2 / 4))
    third = 2 * idf * 1 / (1 + 1.5 * (1 - 0.75 + 0.75 * 8 / 4))
    assert scores("bm25", "dog cat") == pytest.approx([first, second, third, 0.0])


def test_a_word_said_twice_in_the_query_counts_twice() -> None:
    assert scores("bm25", "dog dog") == pytest.approx([2 * score for score in scores("bm25", "dog")])


def test_without_k1_repetition_does_not_count_and_without_b_length_does_not() -> None:
    first, _, third, _ = scores("bow(weighting='count') >> bm25(k1=0)", "dog")
    assert first == third > 0
    first, _, third, _ = scores("bow >> bm25(b=0)", "dog")  # bow says whether a word occurs
    assert first == third > 0


@pytest.mark.parametrize("variant", ["lucene", "robertson", "atire"])
@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.4), (2.0, 1.0)])
def test_scores_are_those_of_bm25s(variant: str, k1: float, b: float) -> None:
    bm25s = pytest.importorskip("bm25s")
    counts = counts_of_texts()
    ids = np.arange(len(counts))
    indexer = Bm25(k1=k1, b=b, variant=variant).fit(counts)
    index = indexer.build(indexer.encode(counts, ids))
    corpus = [np.repeat(np.arange(60), row.astype(int)).tolist() for row in counts.values]
    theirs = bm25s.BM25(method=variant, k1=k1, b=b)
    theirs.index((corpus, {str(word): word for word in range(60)}), show_progress=False)
    for query in ([3], [0, 7, 41], [5, 5, 59]):
        asked = xmr.Embeddings(np.bincount(query, minlength=60)[None].astype(np.float32), "cosine")
        hits = index.search(asked, len(counts))
        ours = -hits.distances[0][np.argsort(hits.ids[0])]
        np.testing.assert_allclose(ours, theirs.get_scores([str(word) for word in query]), rtol=2e-5, atol=1e-6)


def test_of_a_text_that_is_too_long_the_rarest_words_are_kept() -> None:
    kept = scores("bow(weighting='count') >> bm25(terms=2)", "bird")
    assert kept[2] > 0
    assert scores("bow(weighting='count') >> bm25(terms=2)", "a")[2] == 0


def test_codes_are_columns_that_a_database_can_read() -> None:
    pipeline = xmr.Pipeline.parse("bm25").fit(paired(TEXTS))
    codes = pipeline.encode(xmr.Items(xmr.TEXT, TEXTS))
    words = pipeline.parts[0].state["words"].tolist()
    columns = codes.columns
    assert [words[i] for i in columns["terms"][0][columns["counts"][0] > 0]] == ["a", "and", "dog"]
    assert columns["counts"][0].tolist() == [2, 1, 2, 0, 0]
    assert columns["length"].tolist() == [5, 2, 8, 1]


@pytest.mark.parametrize("recipe", ["bow(weighting='tfidf') >> bm25", "bow(normalise=True) >> bm25"])
def test_what_is_no_count_is_refused(recipe: str) -> None:
    with pytest.raises(xmr.DataError, match="put bow"):
        xmr.Pipeline.parse(recipe).fit(paired(TEXTS))


def test_bm25_alone_counts_words() -> None:
    pipeline = xmr.Pipeline.parse("bm25(k1=1.2)")
    assert repr(pipeline) == "bow(weighting='count') >> bm25(k1=1.2)"
    assert repr(Bow(weighting="count") >> Bm25(k1=1.2)) == repr(pipeline)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[xmr.Library]:
    """A space of words over four captions."""
    with xmr.open(tmp_path / "words.duckdb", progress=False) as library:
        library.add(xmr.Items(xmr.TEXT, TEXTS, [f"t{i}" for i in range(4)]))
        library.fit("bm25", name="words")
        yield library


def test_a_library_finds_the_texts_that_share_a_word_and_no_others(db: xmr.Library) -> None:
    found = db.search(text="dog", k=4, space="words")
    assert [hit.key for hit in found] == ["t0", "t2"]
    assert found.exact and found.ids.shape == (1, 4)


def test_a_stored_space_answers_alike(db: xmr.Library) -> None:
    before = db.search(text="a cat", k=3, space="words")
    url = db.store.url
    db.close()
    with xmr.open(url) as again:
        after = again.search(text="a cat", k=3, space="words")
        np.testing.assert_array_equal(before.ids, after.ids)
        np.testing.assert_array_equal(before.distances, after.distances)
        assert again.doctor() == []


def test_a_query_of_unknown_words_is_refused(db: xmr.Library) -> None:
    with pytest.raises(xmr.DataError, match="zebra"):
        db.search(text="zebra", space="words")
