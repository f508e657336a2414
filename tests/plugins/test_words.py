"""Bag of words, against scikit-learn and numbers worked out by hand; words in their order."""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

import xmr_core as xmr
from xmr_core.registry import default
from xmr_core.testing import conformance
from xmr_words import Bow, Words, segmenting
from xmr_words.splitting import split
from xmr_words.stemming import singular

TestBow = conformance("encoder", "bow", config={"weighting": "tfidf", "normalise": True})

TestWords = conformance("encoder", "words")

TEXTS = ["A red dog; a RED ball", "the dog's ball", "Größe, größe über alles", "red"]


def paired(texts: list[str]) -> xmr.Pairs:
    """Each text with a picture of its own, which nobody looks at."""
    n = len(texts)
    links = np.stack([np.arange(n)] * 2, axis=1)
    return xmr.Pairs(xmr.Items(xmr.IMAGE, [b""] * n), xmr.Items(xmr.TEXT, texts), links)


def fitted(texts: list[str] = TEXTS, **options: object) -> Bow:
    return Bow(**options).fit(paired(texts))


def vectors(bow: Bow, *texts: str) -> list[list[float]]:
    return bow.encode(xmr.Items(xmr.TEXT, texts)).vectors.tolist()


def test_the_vocabulary_is_the_most_frequent_words_first() -> None:
    assert fitted().state["words"].tolist() == [
        "ball", "red", "a", "alles", "dog", "dog's", "größe", "the", "über",
    ]  # fmt: skip


def test_binary_count_and_tfidf_of_one_text() -> None:
    texts = ["dog dog cat", "dog"]
    assert vectors(fitted(texts), "dog dog cat") == [[1, 1]]
    assert vectors(fitted(texts, weighting="count"), "dog dog cat") == [[2, 1]]
    idf = [np.log(3 / 3) + 1, np.log(3 / 2) + 1]  # dog is in both texts, cat in one
    np.testing.assert_allclose(vectors(fitted(texts, weighting="tfidf"), "dog dog cat"), [[2 * idf[0], idf[1]]])


def test_tfidf_agrees_with_scikit_learn() -> None:
    text = pytest.importorskip("sklearn.feature_extraction.text")
    bow = fitted(weighting="tfidf", normalise=True)
    theirs = text.TfidfVectorizer(vocabulary=bow.state["words"].tolist(), token_pattern=r"[^\W_]+(?:'[^\W_]+)*")
    np.testing.assert_allclose(vectors(bow, *TEXTS), theirs.fit_transform(TEXTS).toarray(), atol=1e-6)


def test_min_count_counts_texts_not_occurrences() -> None:
    assert fitted(["dog dog dog", "cat", "cat"], min_count=2).state["words"].tolist() == ["cat"]


def test_max_words_keeps_the_most_frequent() -> None:
    assert fitted(max_words=2).state["words"].tolist() == ["ball", "red"]


def test_tags_are_what_stands_between_commas_blanks_and_lines() -> None:
    bow = fitted(["new-york, c++\nb&w sky"], split="tags")
    assert bow.state["words"].tolist() == ["b&w", "c++", "new-york", "sky"]


def test_one_letter_written_in_two_ways_is_one_word() -> None:
    assert vectors(fitted(["caf\u00e9"]), "CAFE\u0301") == [[1]]


def test_only_unknown_words_give_zeros() -> None:
    assert not np.any(vectors(fitted(normalise=True), "quark", "!!!"))


def test_normalised_vectors_have_length_one() -> None:
    lengths = np.linalg.norm(vectors(fitted(normalise=True, weighting="count"), *TEXTS), axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-6)


def test_the_vocabulary_is_that_of_the_linked_texts_alone() -> None:
    texts = xmr.Items(xmr.TEXT, ["dog", "cat"])
    pairs = xmr.Pairs(xmr.Items(xmr.IMAGE, [b""]), texts, np.array([[0, 1]]))
    assert Bow().fit(pairs).state["words"].tolist() == ["cat"]


def test_blank_texts_are_refused_by_key_when_fitting_too() -> None:
    texts = xmr.Items(xmr.TEXT, ["dog", " \n", ""], ["a", "b", "c"])
    with pytest.raises(xmr.DataError, match="2 of 3 texts are blank or not text: 'b', 'c'") as raised:
        Bow().fit(xmr.Pairs(xmr.Items(xmr.IMAGE, [b""] * 3), texts, np.array([[0, 0], [1, 1], [2, 2]])))
    assert raised.value.keys == ("b", "c")


def test_a_number_among_the_texts_is_refused_by_key() -> None:
    with pytest.raises(xmr.DataError, match="not text: '1'"):
        fitted().encode(xmr.Items(xmr.TEXT, ["dog", 7]))


def test_a_vocabulary_of_no_words_is_refused() -> None:
    with pytest.raises(xmr.DataError, match="no word occurs in 9 of the 4 texts; lower min_count"):
        fitted(min_count=9)


@pytest.mark.parametrize(
    ("option", "value"), [("split", "letters"), ("weighting", "bm25"), ("min_count", 0), ("max_words", 0)]
)
def test_an_option_out_of_range_is_refused(option: str, value: object) -> None:
    with pytest.raises(xmr.ConfigError, match=f"{option}="):
        Bow(**{option: value})


def test_what_is_too_long_to_be_a_word_is_left_out() -> None:
    assert fitted(["dog " + "x" * 65]).state["words"].tolist() == ["dog"]


# words in their order


def read(words: Words, *texts: str) -> tuple[list[list[int]], list[list[bool]]]:
    features = words.encode(xmr.Items(xmr.TEXT, texts))
    assert features.mask is not None
    return features.values.tolist(), features.mask.tolist()


def test_ids_go_by_frequency_after_the_unknown_word() -> None:
    words = Words().fit(paired(["a red dog", "a dog", "a cat"]))
    assert words.state["words"].tolist() == ["<unk>", "a", "dog"]
    assert read(words, "dog, a CAT a", "Dog") == ([[2, 1, 0, 1], [2, 0, 0, 0]], [[True] * 4, [True] + [False] * 3])


def test_a_text_of_no_word_is_one_unknown_word() -> None:
    words = Words().fit(paired(["a dog", "a"]))
    assert read(words, "?!", "zebra") == ([[0], [0]], [[True], [True]])
    assert words.tokens(xmr.Items(xmr.TEXT, ["?!", "A zebra"])) == [["<unk>"], ["a", "zebra"]]


def test_what_follows_the_last_token_is_not_read() -> None:
    words = Words(max_tokens=2).fit(paired(["a dog", "a dog a cat"]))
    assert read(words, "dog a dog dog")[0] == [[2, 1]]
    assert words.tokens(xmr.Items(xmr.TEXT, ["dog a dog dog"])) == [["dog", "a"]]


def test_the_vocabulary_holds_no_word_that_is_never_read() -> None:
    words = Words(max_tokens=2, min_count=1).fit(paired(["a dog runs", "a dog sleeps"]))
    assert words.state["words"].tolist() == ["<unk>", "a", "dog"]
    assert read(words, "runs") == ([[0]], [[True]])


def test_max_words_does_not_count_the_unknown_word() -> None:
    assert Words(max_words=1).fit(paired(["a dog", "a dog a"])).state["words"].tolist() == ["<unk>", "a"]


def test_blank_texts_are_refused_by_words_too() -> None:
    with pytest.raises(xmr.DataError, match="1 of 2 texts are blank or not text: '1'"):
        Words().fit(paired(["a", "a"])).encode(xmr.Items(xmr.TEXT, ["a", " "]))


@pytest.mark.parametrize("option", ["min_count", "max_words", "max_tokens"])
def test_an_option_of_words_out_of_range_is_refused(option: str) -> None:
    with pytest.raises(xmr.ConfigError, match=f"{option}=0"):
        Words(**{option: 0})


# scripts


def words_of(text: str, **options: object) -> list[str]:
    (words,) = split(xmr.Items(xmr.TEXT, [text]), **options)  # type: ignore[arg-type]
    return words


@pytest.mark.parametrize(
    "text",
    [
        "एक कुत्ता दौड़ता है",  # Hindi: vowel signs are marks
        "தமிழ் நாய்",  # Tamil
        "çiçek ığdır",  # Turkish
        "한국어 개",  # Korean
        "naïve café",
    ],
)
def test_a_mark_belongs_to_the_letter_before_it(text: str) -> None:
    assert words_of(text) == unicodedata.normalize("NFC", text).split()
    assert words_of(unicodedata.normalize("NFD", text)) == words_of(text)


def test_the_turkish_capital_with_a_dot_is_an_i() -> None:
    assert words_of("İstanbul") == ["istanbul"]


@pytest.mark.parametrize(("pointed", "plain"), [("كِتَابٌ", "كتاب"), ("שָׁלוֹם", "שלום"), ("می\u200cخواهم", "میخواهم")])
def test_vowel_points_and_joiners_do_not_count(pointed: str, plain: str) -> None:
    assert words_of(pointed) == [plain]


def test_chinese_is_characters_and_pairs_of_them() -> None:
    assert words_of("一只狗,很快", bigrams=True) == ["一", "只", "狗", "一只", "只狗", "很", "快", "很快"]
    assert words_of("一只狗") == ["一", "只", "狗"]


def test_thai_is_split_where_a_letter_begins_and_not_at_its_marks() -> None:
    assert words_of("วิ่ง") == ["วิ่", "ง"]


def test_full_width_letters_and_punctuation_are_plain_ones() -> None:
    assert words_of("\uff24\uff4f\uff47\uff0c\uff43\uff41\uff54\uff11") == ["dog", "cat1"]


def test_tags_know_the_commas_of_chinese() -> None:
    assert words_of("狗\uff0c猫\u3001鸟\uff1bnew-york, c++", pattern="tags") == ["狗", "猫", "鸟", "new-york", "c++"]


def test_a_vocabulary_of_the_first_version_splits_as_it_was_learned() -> None:
    old = Bow(None, {"words": np.array(["क", "त", "एक"]), "idf": np.ones(3, np.float32)})
    assert vectors(old, "एक कुत्ता") == [[1, 1, 1]]
    assert vectors(fitted(["एक कुत्ता"]), "एक कुत्ता") == [[1, 1]]


def test_a_chinese_word_finds_the_caption_that_has_it() -> None:
    bow = fitted(["一只狗在草地上奔跑", "一只猫坐在椅子上", "一只狗在水里游泳"])
    shared = np.array(vectors(bow, "狗")) @ np.array(vectors(bow, "一只狗在草地上奔跑", "一只猫坐在椅子上")).T
    assert shared.tolist() == [[1, 0]]


# what training never met


def test_known_words_are_told_from_unknown_ones() -> None:
    asked = xmr.Items(xmr.TEXT, ["a red zebra and a red quark", "zebra", "ball"])
    assert fitted().known_and_unknown(asked) == [
        (["a", "red"], ["zebra", "and", "quark"]),
        ([], ["zebra"]),
        (["ball"], []),
    ]
    assert Words(min_count=1).fit(paired(TEXTS)).known_and_unknown(asked)[1] == ([], ["zebra"])


def test_encoders_of_two_modalities_hand_the_question_on() -> None:
    each = default().find("encoder", "each")(image="lite0", text="bow")
    text = each.with_state({f"text/{name}": array for name, array in fitted().state.items()})
    assert text.known_and_unknown(xmr.Items(xmr.TEXT, ["red zebra"])) == [(["red"], ["zebra"])]


# stems


@pytest.mark.parametrize(
    ("word", "stem"),
    [
        *[("dogs", "dog"), ("boxes", "box"), ("berries", "berry"), ("dishes", "dish"), ("tomatoes", "tomato")],
        *[("horses", "horse"), ("trees", "tree"), ("children", "child"), ("people", "person"), ("leaves", "leaf")],
        *[("glass", "glass"), ("bus", "bus"), ("gas", "gas"), ("iris", "iris"), ("is", "is"), ("news", "news")],
    ],
)
def test_english_plurals_meet_their_singular(word: str, stem: str) -> None:
    assert singular(word) == stem
    bow = fitted([stem, "another"], stem="plural")
    assert vectors(bow, word) == vectors(bow, stem)


def test_a_stem_is_known_whatever_its_form() -> None:
    bow = fitted(["a dog", "two cats"], stem="plural")
    assert bow.known_and_unknown(xmr.Items(xmr.TEXT, ["dogs cat bird"])) == [(["dogs", "cat"], ["bird"])]


def test_a_language_takes_its_snowball_stemmer() -> None:
    pytest.importorskip("snowballstemmer")
    bow = fitted(["ein laufender Hund"], stem="german")
    assert vectors(bow, "laufende Hunde") == vectors(bow, "laufend Hund")


# Chinese by a dictionary

SENTENCES = ["我来到北京清华大学", "小狗在草地上奔跑", "a dog 与 小猫"]


def test_jieba_cuts_chinese_into_the_words_of_its_dictionary() -> None:
    pytest.importorskip("jieba")
    found = list(split(xmr.Items(xmr.TEXT, SENTENCES), segmenter="jieba"))
    assert found[0] == ["我", "来到", "北京", "清华大学"]
    assert found[2] == ["a", "dog", "与", "小猫"]


def test_bow_also_knows_the_words_inside_words() -> None:
    pytest.importorskip("jieba")
    bow = fitted(SENTENCES, segmenter="jieba")
    words = set(bow.state["words"].tolist())
    assert {"清华", "大学", "清华大学", "草地"} <= words
    assert "到北" not in words  # a pair of characters that is no word


def test_other_scripts_are_split_into_characters_beside_jieba() -> None:
    pytest.importorskip("jieba")
    thai = xmr.Items(xmr.TEXT, ["\u0e19\u0e49\u0e19 \u5317\u4eac"])  # a mark stays with its letter
    assert list(split(thai, segmenter="jieba")) == [["\u0e19\u0e49", "\u0e19", "\u5317\u4eac"]]


def test_a_network_reads_the_words_that_jieba_cuts() -> None:
    pytest.importorskip("jieba")
    words = Words(min_count=1, segmenter="jieba").fit(paired(SENTENCES))
    assert words.tokens(xmr.Items(xmr.TEXT, SENTENCES[:1])) == [["我", "来到", "北京", "清华大学"]]
    assert words.known_and_unknown(xmr.Items(xmr.TEXT, ["北京上海"])) == [(["北京"], ["上海"])]


def test_without_jieba_the_segmenter_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jieba", None)
    segmenting.segmenter.cache_clear()
    with pytest.raises(xmr.PluginError, match=r"segmenter='jieba' needs jieba: pip install 'xmr\[chinese\]'"):
        fitted(SENTENCES, segmenter="jieba")


def test_jieba_leaves_no_cache_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jieba")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    segmenting.segmenter.cache_clear()
    fitted(SENTENCES, segmenter="jieba")
    assert list(tmp_path.iterdir()) == []


def test_the_segmenter_changes_no_fingerprint_at_its_default() -> None:
    assert "segmenter" in Bow.later
    assert "segmenter" in Words.later
    assert fitted(SENTENCES).fingerprint() == fitted(SENTENCES, segmenter=None).fingerprint()


def test_captions_in_chinese_are_found_by_their_words(tmp_path: Path) -> None:
    pytest.importorskip("jieba")
    with xmr.open(tmp_path / "chinese.duckdb", progress=False) as db:
        db.add([{"text": text} for text in SENTENCES])
        db.fit("bow(weighting='count', segmenter='jieba') >> bm25", name="words", where="true")
        assert [hit.data for hit in db.search(text="大学", space="words")] == [SENTENCES[0]]
        assert db.search(text="北京 上海", space="words").unknown_words == [["上海"]]
