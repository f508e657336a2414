"""Fusers that align images and texts: ridge regression, canonical correlations, contrastive networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_align import Cca, Contrastive, Ridge
from xmr_align.cca import canonical
from xmr_align.inputs import Aligned, aligned, held_out, mean_recall, numbered, rooted, vectors_of
from xmr_align.moments import moments
from xmr_align.network import standard
from xmr_align.objective import contrastive
from xmr_align.ridge import PENALTIES
from xmr_align.training import Training, batches, epochs_for
from xmr_core.measures import recall_both_ways
from xmr_core.plugin import unit
from xmr_core.progress import Run, use_run
from xmr_core.recipes import Pipeline
from xmr_core.testing import conformance
from xmr_torch.computing import outputs

LINKS = np.array([[0, 0], [1, 1]])
QUICK: dict[str, Any] = {"dim": 16, "hidden": 32, "epochs": 4, "batch": 16}

TestRidge = conformance("fuser", Ridge)
TestCca = conformance("fuser", Cca, config={"dim": 8})
TestContrastive = conformance("fuser", Contrastive, config=QUICK)

FUSERS = [Ridge(), Cca(dim=16), Contrastive(dim=32, hidden=64, epochs=30, batch=64)]


def seen(n: int = 300, captions: int = 2, seed: int = 0) -> xmr.FeaturePairs:
    """n images of 24 dimensions and their captions of 40: noisy linear views of the same 8 numbers."""
    rng = np.random.default_rng(seed)
    views = np.random.default_rng(99)
    meaning = rng.standard_normal((n, 8))
    links = np.stack([np.repeat(np.arange(n), captions), np.arange(n * captions)], axis=1)
    images = meaning @ views.standard_normal((8, 24)) + 0.2 * rng.standard_normal((n, 24)) + 3
    texts = meaning[links[:, 0]] @ views.standard_normal((8, 40)) + 0.2 * rng.standard_normal((len(links), 40)) - 1
    return paired(images, texts, links)


def paired(images: NDArray[Any], texts: NDArray[Any], links: NDArray[np.int64]) -> xmr.FeaturePairs:
    sides = [
        xmr.Features.of_vectors(modality, vectors.astype(np.float32))
        for modality, vectors in ((xmr.IMAGE, images), (xmr.TEXT, texts))
    ]
    return xmr.FeaturePairs(sides[0], sides[1], links)


@pytest.mark.parametrize("fuser", FUSERS, ids=lambda fuser: fuser.name)
def test_images_never_seen_find_their_captions_and_captions_their_image(fuser: xmr.Fuser) -> None:
    fitted, new = fuser.fit(seen()), seen(100, seed=1)
    images, texts = fitted.fuse(new.images), fitted.fuse(new.texts)
    assert images.values.shape[1] == texts.values.shape[1] and images.metric == texts.metric == "cosine"
    for way in recall_both_ways(images, texts, new.links):
        assert way.r5 > 0.8  # by chance .05, and .1 for images


@pytest.mark.parametrize("fuser", FUSERS, ids=lambda fuser: fuser.name)
def test_embeddings_have_length_one(fuser: xmr.Fuser) -> None:
    pairs = seen(100)
    fitted = fuser.fit(pairs)
    for side in (pairs.images, pairs.texts):
        assert np.linalg.norm(fitted.fuse(side).values, axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("fuser", FUSERS, ids=lambda fuser: fuser.name)
def test_regions_count_as_their_mean(fuser: xmr.Fuser) -> None:
    pairs = seen(100)
    fitted = fuser.fit(pairs)
    vectors = pairs.images.vectors
    regions = np.stack([vectors - 1, vectors + 1, vectors * 99], axis=1)
    mask = np.array([[True, True, False]]).repeat(len(vectors), axis=0)
    got = fitted.fuse(xmr.Features(xmr.IMAGE, regions, mask)).values
    np.testing.assert_allclose(got, fitted.fuse(pairs.images).values, atol=1e-4)


@pytest.mark.parametrize("fuser", FUSERS, ids=lambda fuser: fuser.name)
def test_pairs_without_captions_are_refused(fuser: xmr.Fuser) -> None:
    pairs = seen(10)
    with pytest.raises(xmr.DataError, match="learns from images with captions"):
        fuser.fit(xmr.FeaturePairs(pairs.images, pairs.texts, pairs.links[:2]))
    alone = xmr.Features(xmr.TEXT, np.zeros((0, 1, 0), np.float32))
    with pytest.raises(xmr.DataError, match="there are no texts"):
        fuser.fit(xmr.FeaturePairs(pairs.images, alone, np.zeros((0, 2), np.int64)))


def test_word_ids_are_refused() -> None:
    with pytest.raises(xmr.DataError, match="ridge takes vectors or regions, got word ids of texts"):
        vectors_of(xmr.Features(xmr.TEXT, np.ones((2, 3), np.int32)), "ridge")


# what is learned from


def test_moments_count_every_link_once() -> None:
    rng = np.random.default_rng(0)
    links = np.array([[0, 0], [0, 1], [2, 1], [3, 4], [1, 3], [3, 2]])
    data = Aligned(rng.random((5, 3), np.float32), rng.random((6, 2), np.float32), links)
    both = np.hstack([data.images[links[:, 0]], data.texts[links[:, 1]]]).astype(np.float64)  # (p, 3 + 2)
    want, found = np.cov(both.T, bias=True), moments(data, links, texts=True)
    np.testing.assert_allclose(found.images, want[:3, :3], atol=1e-9)
    np.testing.assert_allclose(found.cross, want[:3, 3:], atol=1e-9)
    np.testing.assert_allclose(found.texts, want[3:, 3:], atol=1e-9)
    np.testing.assert_allclose(np.append(found.image_mean, found.text_mean), both.mean(axis=0))


def test_moments_in_blocks_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = seen(50)
    data = Aligned(pairs.images.vectors, pairs.texts.vectors, pairs.links)
    want = moments(data, data.links, texts=True)
    monkeypatch.setattr("xmr_align.moments.BLOCK", 7)
    found = moments(data, data.links, texts=True)
    np.testing.assert_allclose(found.cross, want.cross)
    np.testing.assert_allclose(found.images, want.images)


def test_what_is_held_out_shares_no_image_and_no_text() -> None:
    links = np.array([(i, j) for i in range(40) for j in (2 * i, 2 * i + 1, (2 * i + 2) % 80)])
    learn, held = held_out(links, 1000)
    assert len(np.unique(held[:, 0])) == 4
    assert not set(learn[:, 0]) & set(held[:, 0]) and not set(learn[:, 1]) & set(held[:, 1])


def test_recall_for_choosing_is_that_of_the_measures() -> None:
    rng = np.random.default_rng(0)
    images, texts = (rng.standard_normal((n, 4)).astype(np.float32) for n in (30, 60))
    links = np.stack([np.arange(60) % 30, np.arange(60)], axis=1)
    ways = recall_both_ways(xmr.Embeddings(images, "cosine"), xmr.Embeddings(texts, "cosine"), links)
    want = np.mean([[way.r1, way.r5, way.r10] for way in ways])
    assert mean_recall(images, texts, links) == pytest.approx(want)


def test_recall_counts_ties_against() -> None:
    same = np.ones((20, 3), np.float32)
    assert mean_recall(same, same, np.stack([np.arange(20)] * 2, axis=1)) == 0


# ridge


def test_ridge_is_the_regression_of_scikit_learn() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    pairs = seen(60)
    x, y = pairs.images.vectors[pairs.links[:, 0]].astype(np.float64), pairs.texts.vectors
    penalty = 0.5
    alpha = penalty * len(x) * x.var(axis=0).mean()
    oracle = linear_model.Ridge(alpha=alpha).fit(x, y)
    want = oracle.predict(pairs.images.vectors) - y.mean(axis=0)
    want /= np.linalg.norm(want, axis=1, keepdims=True)
    np.testing.assert_allclose(Ridge(penalty=penalty).fit(pairs).fuse(pairs.images).values, want, atol=1e-4)


def test_ridge_leaves_texts_in_their_space() -> None:
    pairs = seen(60)
    texts = pairs.texts.vectors - pairs.texts.vectors.mean(axis=0)
    want = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    np.testing.assert_allclose(Ridge().fit(pairs).fuse(pairs.texts).values, want, atol=1e-5)


def test_the_penalty_of_the_best_recall_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    recalls = iter([0.1, 0.2, 0.3, 0.9, 0.4, 0.3, 0.2])
    monkeypatch.setattr("xmr_align.ridge.mean_recall", lambda *_: next(recalls))
    assert Ridge().fit(seen(100)).state["penalty"] == np.float32(PENALTIES[3])
    assert Ridge(penalty=5.0).fit(seen(100)).state["penalty"] == 5


# cca


def test_cca_finds_the_correlations_of_scikit_learn() -> None:
    decomposition = pytest.importorskip("sklearn.cross_decomposition")
    pairs = seen(200, captions=1)
    x, y = pairs.images.vectors[:, :5].astype(np.float64), pairs.texts.vectors[:, :4].astype(np.float64)
    oracle = decomposition.CCA(n_components=3, max_iter=5000, tol=1e-9).fit(x, y)
    u, v = oracle.transform(x, y)
    want = [abs(np.corrcoef(u[:, i], v[:, i])[0, 1]) for i in range(3)]
    fitted = Cca(dim=3, penalty=0.0).fit(paired(x, y, pairs.links))
    np.testing.assert_allclose(fitted.state["correlations"], want, atol=1e-4)


def test_canonical_directions_are_uncorrelated_with_one_another() -> None:
    rng = np.random.default_rng(0)
    both = rng.standard_normal((100, 9)) @ rng.standard_normal((9, 9))
    c = np.cov(both.T)
    a, b, correlations = canonical(c[:5, :5], c[:5, 5:], c[5:, 5:], 0.0)
    np.testing.assert_allclose(a.T @ c[:5, :5] @ a, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(b.T @ c[5:, 5:] @ b, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(a.T @ c[:5, 5:] @ b, np.diag(correlations), atol=1e-9)


def test_cca_without_penalty_says_so_where_dimensions_depend_on_one_another() -> None:
    pairs = seen(60)
    twice = np.zeros((60, 3))
    with pytest.raises(xmr.ConfigError, match="is too small: dimensions depend"):
        Cca(penalty=0.0).fit(paired(twice, pairs.texts.vectors, pairs.links))


def test_cca_gives_as_many_directions_as_the_narrower_side_has() -> None:
    fitted = Cca(dim=256).fit(seen(60))
    assert fitted.fuse(seen(60).texts).values.shape == (120, 24)


# contrastive


def test_the_loss_is_worked_out_by_hand() -> None:
    scores = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    rows = [np.log(1 + np.exp(-2.0)), np.log(1 + np.exp(-1.0))]
    assert float(contrastive(scores, torch.eye(2) > 0)) == pytest.approx(np.mean(rows))


def test_another_caption_of_the_image_is_no_negative() -> None:
    scores = torch.tensor([[2.0, 9.0, 0.0], [9.0, 2.0, 0.0], [0.0, 0.0, 2.0]])
    related = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]]) > 0
    first, last = np.log(1 + np.exp(-2.0)), np.log(1 + 2 * np.exp(-2.0))
    assert float(contrastive(scores, related)) == pytest.approx((2 * first + last) / 3)


def test_a_batch_has_one_caption_of_an_image_and_an_epoch_all() -> None:
    links = np.stack([np.repeat(np.arange(64), 3), np.arange(192)], axis=1)
    made = batches(links, 16, np.random.default_rng(0))
    assert all(len(np.unique(batch[:, 0])) == 16 for batch in made)
    assert sorted(map(tuple, np.concatenate(made))) == sorted(map(tuple, links))


def test_small_sets_are_seen_more_often() -> None:
    assert [epochs_for(links, 256) for links in (100, 1_500, 30_000)] == [450, 77, 4]


@pytest.mark.parametrize("d", [3, 1280])
def test_inputs_are_scaled_to_one_length_about_their_mean_whatever_their_width(d: int) -> None:
    vectors = (7 + 0.1 * np.random.default_rng(0).standard_normal((500, d))).astype(np.float32)
    scaled = (vectors - vectors.mean(axis=0)) / float(standard(vectors))
    assert np.sqrt((scaled**2).sum(axis=1).mean()) == pytest.approx(4, abs=0.01)


def test_inputs_that_are_all_alike_are_left_unscaled() -> None:
    assert float(standard(np.full((5, 8), 3, np.float32))) == 1


def test_batches_are_of_one_size_so_that_none_lacks_negatives() -> None:
    links = np.stack([np.arange(130)] * 2, axis=1)
    assert [len(batch) for batch in batches(links, 64, np.random.default_rng(0))] == [44, 43, 43]


def test_square_roots_are_taken_of_image_vectors_without_negative_numbers() -> None:
    data, root = rooted(Aligned(np.array([[9, 16], [1, 0]], np.float32), np.ones((2, 1), np.float32), LINKS))
    np.testing.assert_allclose(data.images, [[0.6, 0.8], [1, 0]])
    assert root
    signed = Aligned(np.array([[9, -16], [1, 0]], np.float32), np.ones((2, 1), np.float32), LINKS)
    assert rooted(signed) == (signed, False)


@pytest.mark.parametrize("fuser", [Cca(dim=8), Contrastive(**QUICK)], ids=lambda fuser: fuser.name)
def test_a_state_of_before_square_roots_gives_what_it_gave(fuser: xmr.Fuser) -> None:
    pairs = seen(60)  # with negative numbers: nothing is rooted
    fitted = fuser.fit(pairs)
    (key,) = (name for name in fitted.state if name.endswith("rooted"))
    older = fitted.with_state({name: array for name, array in fitted.state.items() if name != key})
    positive = xmr.Features.of_vectors(xmr.IMAGE, np.abs(pairs.images.vectors))
    np.testing.assert_array_equal(older.fuse(positive).values, fitted.fuse(positive).values)
    newer = fitted.with_state({**fitted.state, key: np.array(True)})
    roots = xmr.Features.of_vectors(xmr.IMAGE, unit(np.sqrt(positive.vectors)))
    np.testing.assert_array_equal(newer.fuse(positive).values, fitted.fuse(roots).values)


def test_equal_texts_are_one() -> None:
    same = numbered(np.array([[1, 0], [0, 1], [1, 0]], np.float32))
    assert same[0] == same[2] != same[1]


def test_rows_full_of_zeros_go_through_the_same_network() -> None:
    pairs = seen(60)
    bags = np.hstack([pairs.texts.vectors > 0, np.zeros((120, 200))])  # most columns of a batch are left out
    data = paired(pairs.images.vectors, bags, pairs.links)
    training = Training(aligned(data, "contrastive"), Contrastive(**QUICK).config)
    training.train()
    heads: Any = training.network
    fitted = Contrastive(**QUICK, state=heads.folded())
    want = unit(outputs(heads.heads["text"], data.texts.vectors).reshape(120, -1))
    np.testing.assert_allclose(fitted.fuse(data.texts).values, want, atol=1e-4)


def test_networks_side_by_side_are_joined_and_weigh_alike() -> None:
    pairs = seen(60)
    fitted = Contrastive(**QUICK, members=4).fit(pairs)
    assert fitted.state["image/narrow"].shape == (4, 32, 4)
    points = fitted.fuse(pairs.images).values.reshape(60, 4, 4)
    np.testing.assert_allclose(np.linalg.norm(points, axis=2), 0.5, atol=1e-6)
    assert not np.allclose(points[:, 0], points[:, 1])


def test_one_network_is_stored_as_before_there_were_several() -> None:
    alone = Contrastive(**QUICK, members=1).fit(seen(60))
    assert alone.state["image/narrow"].shape == (32, 16)
    assert "members" not in Contrastive(**QUICK).first_options()


def test_an_odd_number_of_dimensions_takes_one_network() -> None:
    assert [Contrastive(dim=dim).config.networks for dim in (15, 16)] == [1, 2]
    with pytest.raises(xmr.ConfigError, match="members=3: must divide dim=16"):
        Contrastive(dim=16, members=3)


def test_the_temperature_may_be_learned() -> None:
    fixed, learned = (Contrastive(**QUICK, learn_temperature=learn).fit(seen(60)) for learn in (False, True))
    assert not np.array_equal(fixed.state["image/wide"], learned.state["image/wide"])


def test_a_killed_fit_resumes_and_ends_alike() -> None:
    class Kept(Run):
        def __init__(self, stop: int | None) -> None:
            self.stop, self.arrays = stop, None

        def checkpoint(self, arrays: Any) -> None:
            self.arrays = {name: np.array(array) for name, array in arrays.items()}  # type: ignore[assignment]

        def restore(self) -> Any:
            return self.arrays

        def log(self, what: str, step: int, **figures: float) -> None:
            if step == self.stop:
                raise KeyboardInterrupt

    pairs, fuser = seen(60), Contrastive(**QUICK)
    want = fuser.fit(pairs)
    run = Kept(stop=2)
    with use_run(run), pytest.raises(KeyboardInterrupt):
        fuser.fit(pairs)
    run.stop = None
    assert run.arrays is not None
    with use_run(run):
        again = fuser.fit(pairs)
    for name, array in want.state.items():
        np.testing.assert_array_equal(again.state[name], array)


def test_hashing_by_content() -> None:
    rng = np.random.default_rng(0)
    meaning = rng.standard_normal((300, 16)).astype(np.float32)
    noisy = meaning + 0.2 * rng.standard_normal((300, 16)).astype(np.float32)
    links = np.stack([np.arange(300)] * 2, axis=1)
    pairs = xmr.Pairs(xmr.Items(xmr.IMAGE, meaning), xmr.Items(xmr.TEXT, noisy), links)
    recipe = "precomputed(dim=16) >> contrastive(dim=32, hidden=64, epochs=20, batch=64) >> itq(bits=32) >> hamming"
    pipeline = Pipeline.parse(recipe).fit(pairs)
    images, texts = pipeline.embed(pairs.images), pipeline.embed(pairs.texts)
    assert images.metric == "hamming" and images.dim == 32
    assert recall_both_ways(images, texts, links)[1].r10 > 0.5  # by chance .03
