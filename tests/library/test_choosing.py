"""`fit` without a recipe: what it chooses for what is there, and that it says why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import xmr_core as xmr
from xmr_core.library import choosing
from xmr_core.testing import pairs as shapes

VECTORS = ("precomputed(dim=8) >> flat", "precomputed(dim=8) >> sign >> hamming")


@pytest.fixture
def db(tmp_path: Path) -> Iterator[xmr.Library]:
    with xmr.open(tmp_path / "chosen.duckdb", progress=False) as library:
        yield library


def test_vectors_are_compared_as_they_are(db: xmr.Library) -> None:
    db.add(xmr.Items("image", np.random.default_rng(0).normal(size=(20, 8))))
    space = db.fit()
    assert (space.name, space.record.recipe) == ("auto", "precomputed(dim=8) >> flat")
    assert space.choice is not None
    assert space.choice.why == "the items are vectors already"


def test_vectors_of_two_widths_are_aligned(db: xmr.Library, tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    content = rng.normal(size=(60, 4))
    rows = [{"image": f"{row}.png", "text": f"caption {row}"} for row in range(60)]
    for row in range(60):
        Image.new("RGB", (8, 8), (row, 0, 0)).save(tmp_path / f"{row}.png")
    sides = (content @ rng.normal(size=(4, 12)), content @ rng.normal(size=(4, 9)))
    db.add(rows, folder=tmp_path, vectors={"own": sides})
    space = db.fit()
    assert space.choice is not None
    assert space.choice.why.startswith("vectors 'own' of images and of captions")
    assert "precomputed(name='own')" in space.choice.recipe
    assert space.choice.trials[0].recall == 1
    caption = int(db.store.ids("text", "text = 'caption 7'")[0])
    assert db.search(item=caption, k=1)[0].key == "7.png"


def test_networks_are_not_tried_on_few_captions(aligned: xmr.Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    networks = "precomputed(dim=8) >> contrastive >> flat"
    monkeypatch.setattr(choosing, "ALIGNED", (*VECTORS, networks))
    trial = choosing._aligned(aligned, seed=0).trials[-1]
    assert (trial.recipe, trial.recall, trial.why_not) == (networks, None, "not tried: networks need 2,000 captions")


def test_texts_alone_are_searched_by_meaning_or_by_words(db: xmr.Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "CAPTIONS", ("nothing >> flat", "bow >> flat"))
    db.add([{"text": "a dog"}, {"text": "a cat"}])
    assert db.fit().record.recipe == "bow >> flat"
    assert db.search(text="dog", modality="text", k=1)[0].data == "a dog"


def test_without_anything_installed_it_says_what_is_missing(db: xmr.Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "CAPTIONS", ("nothing >> flat",))
    db.add([{"text": "a dog"}])
    with pytest.raises(xmr.DataError, match="no encoder 'nothing' installed"):
        db.fit()


def test_an_empty_library_has_nothing_to_fit_on(db: xmr.Library) -> None:
    with pytest.raises(xmr.DataError, match="nothing to fit on"):
        db.fit()


# trials on held-out images


@pytest.fixture
def aligned() -> xmr.Pairs:
    """1,000 images and captions as vectors of 8 numbers that agree roughly."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(1000, 8)).astype("f4")
    texts = images + 0.5 * rng.normal(size=(1000, 8)).astype("f4")
    links = np.stack([np.arange(1000)] * 2, axis=1)
    return xmr.Pairs(xmr.Items("image", images), xmr.Items("text", texts), links)


def test_the_best_on_held_out_images_is_taken(aligned: xmr.Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "ALIGNED", VECTORS[::-1])
    choice = choosing._aligned(aligned, seed=0)
    assert choice.recipe == VECTORS[0]
    recalls = {trial.recipe: trial.recall for trial in choice.trials}
    assert (recalls[VECTORS[0]] or 0) > 0.9
    assert (recalls[VECTORS[1]] or 0) < 0.9
    assert choice.held_out == 100
    assert choice.chance == pytest.approx(10 / 100)
    assert "recall@10 0.9" in str(choice)
    assert "chance 0.100" in str(choice)


def test_trials_end_where_nothing_can_be_better_by_five_points(
    aligned: xmr.Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "ALIGNED", VECTORS)
    same = xmr.Pairs(aligned.images, xmr.Items("text", aligned.images.data), aligned.links)
    choice = choosing._aligned(same, seed=0)
    assert choice.recipe == VECTORS[0]
    assert [trial.recall for trial in choice.trials] == [1.0, None]
    assert "not tried: it cannot be better by five points" in str(choice)


def test_of_few_images_twenty_are_held_out(aligned: xmr.Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "ALIGNED", VECTORS)
    few = np.arange(45)
    pairs = xmr.Pairs(aligned.images.take(few), aligned.texts.take(few), np.stack([few, few], axis=1))
    assert choosing._aligned(pairs, seed=0).held_out == 20


def test_the_simplest_is_taken_where_several_are_as_good(aligned: xmr.Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    twin = "precomputed(dim=8) >> identity >> flat"
    monkeypatch.setattr(choosing, "ALIGNED", (twin, VECTORS[0]))
    assert choosing._aligned(aligned, seed=0).recipe == twin


def test_a_candidate_that_cannot_be_fitted_leaves_the_others(
    aligned: xmr.Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = "precomputed(dim=9) >> flat"
    monkeypatch.setattr(choosing, "ALIGNED", (broken, VECTORS[0]))
    choice = choosing._aligned(aligned, seed=0)
    assert choice.recipe == VECTORS[0]
    assert "are not vectors of 9" in choice.trials[0].why_not or "9 numbers" in choice.trials[0].why_not


def test_held_out_captions_are_not_learned_from(aligned: xmr.Pairs) -> None:
    shared = np.concatenate([aligned.links, [[0, 5]]])  # one caption of two images
    learn, test = choosing._parts(xmr.Pairs(aligned.images, aligned.texts, shared), np.array([5, 6]))
    assert len(test.images) == 1  # image 6; image 5 has only the shared caption
    assert len(learn.images) == 998
    assert not {id(row) for row in test.texts.keys} & {id(row) for row in learn.texts.keys}


def test_few_images_get_the_simplest_without_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "ALIGNED", ("bow >> flat", "words >> dan >> flat"))
    choice = choosing._aligned(shapes(20), seed=0)
    assert (choice.recipe, choice.held_out) == ("bow >> flat", 0)
