"""Images through their captions, and several spaces as one, with fusions worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xmr_core as xmr

pytestmark = pytest.mark.usefixtures("toy")

CAPTIONS = ["a red dog", "a big red dog", "a green cat", "a cat and a dog", "a bird", "the white bird sings"]


@pytest.fixture
def db(tmp_path: Path, pictures: list[Path]) -> Iterator[xmr.Library]:
    """Four images: 0 has two captions with a dog, 1 and 2 share one, 3 has none with a dog. Ids: images 0 to 3, texts 4
    to 9. A space of both modalities, one of words, one of binary words compared by cosine."""
    links = np.array([[0, 0], [0, 1], [1, 2], [1, 3], [2, 3], [2, 4], [3, 5]])
    images = xmr.Items(xmr.IMAGE, pictures, [f"i{i}" for i in range(4)], metadata={"owner": ["me", "me", "you", "you"]})
    texts = xmr.Items(xmr.TEXT, CAPTIONS, [f"t{i}" for i in range(6)], metadata={"owner": ["me"] * 3 + ["you"] * 3})
    with xmr.open(tmp_path / "hybrid.duckdb", progress=False) as library:
        library.add(xmr.Pairs(images, texts, links))
        library.fit("costly >> flat", name="both")
        library.fit("bm25", name="words")
        library.fit("bow >> flat", name="cosine")
        yield library


def keys(found: xmr.Results) -> list[str]:
    return [hit.key for hit in found]


def test_a_text_finds_texts_in_a_space_of_words(db: xmr.Library) -> None:
    assert keys(db.search(text="dog", space="words")) == ["t0", "t1", "t3"]


def test_images_are_reached_through_their_best_caption(db: xmr.Library) -> None:
    texts = db.search(text="dog", space="words")
    images = db.search(text="dog", space="words", modality="image")
    assert keys(images) == ["i0", "i1", "i2"]  # i0 by t0, i1 and i2 by t3; i3 has no dog
    np.testing.assert_array_equal(images.distances[0, :3], texts.distances[0, [0, 2, 2]])
    assert images.modality == "image" and images.exact


def test_a_condition_is_on_the_images_and_costs_no_hits(db: xmr.Library) -> None:
    found = db.search(text="dog", space="words", modality="image", where="owner = 'you'", k=1)
    assert keys(found) == ["i2"]  # through a caption of mine or yours
    assert len(db.search(text="red", space="cosine", modality="image", where="owner = 'you'", k=2)) == 2


def test_within_holds_for_images_through_captions(db: xmr.Library) -> None:
    best = float(db.search(text="dog", space="words", k=1).distances[0, 0])
    assert keys(db.search(text="dog", space="words", modality="image", within=best)) == ["i0"]


def test_a_stored_image_finds_nothing_in_a_space_that_does_not_encode_it(db: xmr.Library) -> None:
    with pytest.raises(xmr.DataError, match="bow encodes text, not image"):
        db.search(item=0, space="words")


def test_without_links_images_cannot_be_reached(tmp_path: Path) -> None:
    with xmr.open(tmp_path / "texts.duckdb", progress=False) as db:
        db.add(xmr.Items(xmr.TEXT, CAPTIONS))
        db.fit("bm25", name="words")
        with pytest.raises(xmr.DataError, match="has text, and no image is linked to one"):
            db.search(text="dog", space="words", modality="image")


# several spaces


def test_fusion_of_two_spaces_by_hand(db: xmr.Library) -> None:
    both = keys(db.search(text="a dog", space="both", k=4))
    words = keys(db.search(text="a dog", space="words", modality="image", k=4))
    score = {key: sum(1 / (60 + 1 + ranking.index(key)) for ranking in (both, words) if key in ranking) for key in both}
    found = db.search(text="a dog", spaces=["both", "words"], k=4)
    assert keys(found) == sorted(score, key=lambda key: (-score[key], key))
    np.testing.assert_allclose(found.distances[0], [-score[hit.key] for hit in found], rtol=1e-6)
    for hit in found:
        ranks = {"both": both.index(hit.key) + 1, **({"words": words.index(hit.key) + 1} if hit.key in words else {})}
        assert hit.ranks == ranks


def test_results_say_which_spaces_were_fused(db: xmr.Library) -> None:
    found = db.search(text="dog", spaces=["both", "words"], k=3)
    assert (found.spaces, found.space, found.modality) == (("both", "words"), "both + words", "image")
    assert found.ranks is not None and found.ranks.shape == (1, 3, 2)
    one = db.search(text="dog", space="both")
    assert one.spaces == ("both",) and one.ranks is None and one[0].ranks == {}


def test_three_spaces_and_many_queries(db: xmr.Library) -> None:
    queries = ["a dog", "a bird", "red"]
    whole = db.search(text=queries, spaces=["both", "words", "cosine"], k=3)
    assert whole.ids.shape == (3, 3)
    for row, query in enumerate(queries):
        alone = db.search(text=query, spaces=["both", "words", "cosine"], k=3)
        np.testing.assert_array_equal(alone.ids[0], whole.ids[row])
        np.testing.assert_array_equal(alone.distances[0], whole.distances[row])


def test_texts_are_found_where_they_are_asked_for(db: xmr.Library) -> None:
    found = db.search(text="dog", spaces=["both", "words"], modality="text", k=6)
    assert found.modality == "text" and len(found) == 6
    assert {hit.key for hit in found if "words" in hit.ranks} == {"t0", "t1", "t3"}


def test_spaces_of_texts_alone_find_texts(db: xmr.Library) -> None:
    assert db.search(text="dog", spaces=["words", "cosine"], k=2).modality == "text"


@pytest.mark.parametrize("where", ["owner = 'me'", "owner = 'you'", "key IN ('i3')"])
def test_k_are_found_where_k_match(db: xmr.Library, where: str) -> None:
    match = len(db.store.ids("image", where))
    found = db.search(text="dog", spaces=["both", "words"], k=match, where=where)
    assert len(found) == match
    assert np.isin(found.ids[0], db.store.ids("image", where)).all()


def test_a_space_that_knows_no_word_of_a_query_has_no_say(db: xmr.Library) -> None:
    alone = db.search(text="a zebra dog", spaces=["both"], k=4)
    found = db.search(text=["zebra", "zebra dog"], spaces=["both", "words"], k=4)
    assert all(set(hit.ranks) == {"both"} for hit in found.of(0))
    assert any("words" in hit.ranks for hit in found.of(1))
    assert found.unknown_words == [] == alone.unknown_words  # the space of both reads all words


def test_a_word_that_no_space_knows_is_told_and_alone_refused(db: xmr.Library) -> None:
    assert db.search(text="zebra dog", spaces=["words", "cosine"]).unknown_words == [["zebra"]]
    with pytest.raises(xmr.DataError, match="zebra"):
        db.search(text="zebra", spaces=["words", "cosine"])


def test_an_item_may_ask_in_several_spaces(db: xmr.Library) -> None:
    found = db.search(item=4, spaces=["both", "words"], k=1)
    assert found.modality == "image" and len(found) == 1


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"text": "dog", "spaces": []}, "expected a list of names"),
        ({"text": "dog", "spaces": "words"}, "expected a list of names"),
        ({"text": "dog", "spaces": ["words", "words"]}, "each once"),
        ({"text": "dog", "spaces": ["both", "words"], "within": 0.5}, "within: for one space"),
        ({"text": "dog", "spaces": ["both", "words"], "space": "both"}, "space: for one space"),
        ({"text": "dog", "spaces": ["both", "words"], "explain": True, "rerank": 5}, "explain and rerank: for one"),
        ({"vector": np.ones(3), "spaces": ["both", "words"]}, "vector: for one space"),
        ({"spaces": ["both", "words"]}, "give one of text, image, item"),
        ({"item": 0, "spaces": ["both", "words"]}, "'words' encodes text, not image: leave it out"),
        ({"text": "dog", "spaces": ["both", "words"], "k": 0}, "k="),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_several_spaces_cannot_answer_is_refused(db: xmr.Library, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(xmr.DataError, match=message):
        db.search(**asked)
