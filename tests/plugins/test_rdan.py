"""r-DAN: its network against the paper's formulas, what it learns, and that neither batch nor padding matters."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.progress import Run, use_run
from xmr_core.testing import conformance
from xmr_dan import rdan_training
from xmr_dan.joint import Batch, Groups, JointNetwork, answer_loss
from xmr_dan.nets import text_start
from xmr_dan.rdan import Rdan
from xmr_dan.rdan_training import Training, targets

TestRdan = conformance("answerer", "rdan", config={"dim": 16, "epochs": 2, "batch": 16})

LIGHT, KIND = 1, 2  # the word that makes the question; 3 to 5 say nothing
QUICK = {"dim": 16, "epochs": 12, "batch": 16, "rate": 0.02, "dropout": 0.0}
NOTHING: list[list[str]] = []


def questions(n: int = 80, seed: int = 0) -> xmr.QuestionFeatures:
    """Two questions a picture of three regions: how light it is (two answers), and what kind (three), each told by
    numbers of one region somewhere. Questions have two to four words, one of which matters."""
    rng = np.random.default_rng(seed)
    light, kind = rng.integers(2, size=n), rng.integers(3, size=n)
    regions = rng.normal(0, 0.1, (n, 3, 6)).astype(np.float32)
    place = rng.integers(3, size=n)
    regions[np.arange(n), place, light] += 2
    regions[np.arange(n), (place + 1) % 3, 3 + kind] += 2
    lengths = rng.integers(2, 5, 2 * n)
    mask = np.arange(4) < lengths[:, None]
    words = np.where(mask, rng.integers(3, 6, (2 * n, 4)), 0)
    words[np.arange(2 * n), rng.integers(lengths)] = np.tile([LIGHT, KIND], n)
    answers = [[said] for i in range(n) for said in (("dark", "light")[light[i]], ("cat", "dog", "owl")[kind[i]])]
    return xmr.QuestionFeatures(
        xmr.Features(xmr.IMAGE, regions),
        xmr.Features(xmr.TEXT, words.astype(np.int32), mask),
        np.repeat(np.arange(n), 2),
        answers,
    )


@pytest.fixture(scope="module")
def fitted() -> Rdan:
    return Rdan(**QUICK).fit(questions())


def changed(asked: xmr.QuestionFeatures, **fields: Any) -> xmr.QuestionFeatures:
    return dataclasses.replace(asked, **fields)


# the network


def plainly(network: JointNetwork, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores (b, a) and the last weights, by the steps of `nets`, question by question."""
    regions, words = batch.regions[batch.picture], network.sentences(batch.ids, batch.mask)[batch.wording]
    mask = batch.mask[batch.wording]
    memory = network.start(regions) * text_start(words, mask)
    for look, read in zip(network.visual, network.text, strict=True):
        v, of_regions = look(regions, memory)
        u, of_words = read(words, memory, mask)
        memory = memory + v * u
    return network.answer(memory), of_regions, of_words


def test_what_is_computed_once_a_picture_is_what_the_paper_computes_for_each_question() -> None:
    torch.manual_seed(0)
    network = JointNetwork(region_dim=6, vocabulary=9, answers=4, dim=8, steps=2).eval()
    mask = torch.tensor([[True, True, False], [True, True, True]])
    ids = torch.randint(1, 9, (2, 3)) * mask
    batch = Batch(torch.rand(3, 5, 6), None, torch.tensor([2, 0, 2, 2, 1]), ids, mask, torch.tensor([0, 1, 1, 0, 1]))
    with torch.no_grad():
        scores, seen, read = network(batch)
        wanted, of_regions, of_words = plainly(network, batch)
    torch.testing.assert_close(scores, wanted)
    torch.testing.assert_close(seen[-1], of_regions)
    torch.testing.assert_close(read[-1], of_words)


def test_rows_are_laid_out_by_group_and_picked_again() -> None:
    groups = Groups(torch.tensor([1, 0, 1, 1]), 3)
    rows = torch.arange(8.0).view(4, 2)
    laid = groups.lay(rows)
    assert laid.shape == (3, 3, 2)
    assert laid[1].tolist() == [[0, 1], [4, 5], [6, 7]]
    assert laid[2].abs().sum() == 0
    assert torch.equal(groups.pick(laid), rows)


def test_the_loss_is_the_cross_entropy_of_shares() -> None:
    scores = torch.tensor([[0.0, 0.0], [0.0, float(np.log(3))]])
    shares = torch.tensor([[0.5, 0.5], [0.0, 1.0]])
    assert answer_loss(scores, shares).item() == pytest.approx((np.log(2) + np.log(4 / 3)) / 2)


def test_targets_are_the_commonest_answer_or_what_share_gave_each() -> None:
    human = [["a", "b", "a", "c"], ["c"], ["b", "b"]]
    places, shares = targets(human, ["a", "b"], soft=False)
    assert places[:, 0].tolist() == [0, 0, 1]
    assert shares[:, 0].tolist() == [1, 0, 1]
    places, shares = targets(human, ["a", "b"], soft=True)
    assert places[0].tolist() == [0, 1, 0]
    assert shares[0].tolist() == pytest.approx([2 / 3, 1 / 3, 0])
    assert shares[1].sum() == 0


# what it learns


def test_it_answers_what_needs_picture_and_question(fitted: Rdan) -> None:
    asked = questions(40, seed=1)
    given = fitted.answers[fitted.answer(asked).argmax(axis=1)]
    assert np.mean([own == human for own, (human,) in zip(given, asked.answers, strict=True)]) > 0.95
    assert sorted(fitted.answers) == ["cat", "dark", "dog", "light", "owl"]
    assert fitted.state["accuracy"][0] > 0.9


def test_probabilities_and_attention_sum_to_one(fitted: Rdan) -> None:
    asked = questions(9, seed=2)
    np.testing.assert_allclose(fitted.answer(asked).sum(axis=1), 1, rtol=1e-5)
    attention = fitted.attention(asked)
    assert attention is not None
    regions, words = attention
    assert (regions.shape, words.shape) == ((18, 2, 3), (18, 2, 4))
    np.testing.assert_allclose(regions.sum(axis=2), 1, rtol=1e-5)
    np.testing.assert_allclose(words.sum(axis=2), 1, rtol=1e-5)
    assert asked.questions.mask is not None
    assert not words[np.broadcast_to(~asked.questions.mask[:, None], words.shape)].any()


def test_it_reads_the_word_that_matters(fitted: Rdan) -> None:
    asked = questions(40, seed=3)
    attention = fitted.attention(asked)
    assert attention is not None
    matters = np.isin(asked.questions.values, [LIGHT, KIND])  # (n, t)
    assert attention[1].max(axis=1)[matters].mean() > attention[1].max(axis=1)[~matters].mean()


def test_neither_order_nor_batch_nor_padding_matters(fitted: Rdan) -> None:
    asked = questions(8, seed=4)
    whole = fitted.answer(asked)
    order = np.random.default_rng(0).permutation(len(asked))
    np.testing.assert_allclose(fitted.answer(asked.take(order)), whole[order], atol=1e-6)
    np.testing.assert_allclose(fitted.answer(asked.take(np.array([3]))), whole[[3]], atol=1e-6)
    mask = asked.questions.mask
    assert mask is not None
    padded = xmr.Features(xmr.TEXT, np.pad(asked.questions.values, ((0, 0), (0, 3))), np.pad(mask, ((0, 0), (0, 3))))
    np.testing.assert_allclose(fitted.answer(changed(asked, questions=padded)), whole, atol=1e-6)
    more = np.pad(asked.images.values, ((0, 0), (0, 2), (0, 0)), constant_values=9)
    hidden = xmr.Features(xmr.IMAGE, more, np.pad(np.ones((8, 3), bool), ((0, 0), (0, 2))))
    np.testing.assert_allclose(fitted.answer(changed(asked, images=hidden)), whole, atol=1e-6)


def test_half_precision_regions_do(fitted: Rdan) -> None:
    asked = questions(8, seed=5)
    half = xmr.Features(xmr.IMAGE, asked.images.values.astype(np.float16))
    np.testing.assert_allclose(fitted.answer(changed(asked, images=half)), fitted.answer(asked), atol=5e-3)


def test_a_seed_gives_one_network_and_leaves_torch_alone() -> None:
    before = torch.random.get_rng_state()
    one, two = (Rdan(**QUICK | {"epochs": 1}).fit(questions(20)) for _ in range(2))
    other = Rdan(**QUICK | {"epochs": 1, "seed": 1}).fit(questions(20))
    assert one.fingerprint() == two.fingerprint() != other.fingerprint()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_state_is_all_it_needs(fitted: Rdan) -> None:
    again = Rdan.load(fitted.options(), fitted.state, fitted.version)
    np.testing.assert_array_equal(again.answer(questions(5)), fitted.answer(questions(5)))


class Kept(Run):
    """Keeps checkpoints, and stops the training after so many epochs."""

    def __init__(self, stop: int) -> None:
        self.stop, self.arrays = stop, None

    def checkpoint(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.arrays = {name: array.copy() for name, array in arrays.items()}
        self.stop -= 1
        if not self.stop:
            raise KeyboardInterrupt

    def restore(self) -> dict[str, NDArray[Any]] | None:
        return self.arrays


def test_a_stopped_training_goes_on_as_if_nothing_had_been() -> None:
    plan = QUICK | {"epochs": 4, "dropout": 0.1}
    whole = Rdan(**plan).fit(questions(20))
    kept = Kept(stop=2)
    with use_run(kept):
        with pytest.raises(KeyboardInterrupt):
            Rdan(**plan).fit(questions(20))
        resumed = Rdan(**plan).fit(questions(20))
    assert resumed.fingerprint() == whole.fingerprint()


def test_pictures_held_out_teach_nothing() -> None:
    asked = questions(40)
    training = Training(asked, ["cat", "dog", "owl", "light", "dark"], Rdan(**QUICK).config)
    held, learnt = (set(asked.image_of[rows].tolist()) for rows in (training.held, training.learn))
    assert len(held) == 4
    assert not held & learnt
    batches = training.batches(np.random.default_rng(0))
    assert sorted(np.concatenate(batches).tolist()) == sorted(training.learn.tolist())
    assert max(map(len, batches)) <= 16 + 1


def test_words_that_were_not_learnt_are_the_unknown_word() -> None:
    asked = questions(20)
    words = asked.questions.values.copy()
    words[0, 0] = 9
    state = Rdan(**QUICK | {"epochs": 1, "seed": 2}).fit(
        changed(asked, questions=xmr.Features(xmr.TEXT, words, asked.questions.mask))
    )
    vectors = state.state["net/sentences.embedding.weight"]
    assert [np.array_equal(vectors[i], vectors[0]) for i in (1, 7, 8)] == [False, True, True]


def test_answers_beyond_the_most_frequent_are_not_learnt_from() -> None:
    asked = questions(40)
    fitted = Rdan(answers=2, **QUICK | {"epochs": 1}).fit(asked)
    assert len(fitted.answers) == 2
    assert fitted.answer(asked).shape == (80, 2)


def test_no_steps_mean_no_attention() -> None:
    fitted = Rdan(steps=0, **QUICK | {"epochs": 1}).fit(questions(20))
    assert fitted.attention(questions(3)) is None
    assert fitted.answer(questions(3)).shape == (6, 5)


def test_the_papers_schedule_and_soft_targets_run() -> None:
    asked = questions(12)
    said = [[*human, *human, "who knows"] for human in asked.answers]
    plan = QUICK | {"schedule": "paper", "soft": True, "epochs": 2}
    assert "who knows" not in Rdan(**plan).fit(changed(asked, answers=said)).answers


# what cannot be


def test_answers_that_are_all_rare_or_all_one_are_refused() -> None:
    asked = questions(4)
    with pytest.raises(xmr.DataError, match="no answer occurs in two of 8 questions"):
        Rdan(**QUICK).fit(changed(asked, answers=[[str(i)] for i in range(8)]))
    with pytest.raises(xmr.DataError, match="all 8 questions have one answer, 'yes'"):
        Rdan(**QUICK).fit(changed(asked, answers=[["yes"]] * 8))
    with pytest.raises(xmr.DataError, match="expected questions with answers"):
        Rdan(**QUICK).fit(changed(asked, answers=NOTHING))


def test_features_of_another_model_are_refused(fitted: Rdan) -> None:
    asked = questions(4)
    narrow = xmr.Features(xmr.IMAGE, asked.images.values[:, :, :5].copy())
    with pytest.raises(xmr.DataError, match="regions of 6 dimensions, got 5"):
        fitted.answer(changed(asked, images=narrow))
    other = xmr.Features(xmr.TEXT, asked.questions.values + np.int32(50), asked.questions.mask)
    with pytest.raises(xmr.DataError, match="another vocabulary"):
        fitted.answer(changed(asked, questions=other))


def test_an_unfitted_one_says_so() -> None:
    with pytest.raises(xmr.NotFittedError):
        Rdan().answer(questions(2))
    with pytest.raises(xmr.NotFittedError):
        Rdan().answers


def test_a_loss_that_explodes_is_told_with_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rdan_training, "answer_loss", lambda scores, shares: scores.sum() * float("inf"))
    with pytest.raises(xmr.ConfigError, match=r"rdan: the loss is \S+ in epoch 1; a lower rate than 0\.02 "):
        Rdan(**QUICK).fit(questions(12))


@pytest.mark.parametrize(
    "options",
    [
        {"steps": -1},
        {"dim": 0},
        {"answers": 1},
        {"dropout": 1.0},
        {"schedule": "slow"},
        {"epochs": 0},
        {"rate": -1.0},
        {"rate": math.nan},
        {"rate": math.inf},
        {"seed": -1},
    ],
)
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(xmr.ConfigError):
        Rdan(**options)
