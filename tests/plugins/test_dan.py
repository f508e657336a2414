"""m-DAN: its layers, its loss, its embeddings whatever the batch, its training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core import measures
from xmr_core.progress import Run, use_run
from xmr_core.testing import conformance, feature_pairs
from xmr_dan import training
from xmr_dan.dan import Dan
from xmr_dan.nets import Dropout, Sentences, TextStep, VisualStep, masked_mean, masked_softmax
from xmr_dan.objective import contrastive, hardest, similarity

TestDan = conformance("fuser", "dan", config={"dim": 8, "epochs": 2})
TestPaperDan = conformance("fuser", "dan", config={"dim": 8, "epochs": 1, "loss": "paper", "schedule": "paper"})

SMALL: dict[str, Any] = {"dim": 16, "epochs": 2}
Ids = NDArray[np.int32]


def regions(n: int = 12, places: int = 5, dim: int = 6, seed: int = 0) -> xmr.Features:
    values = np.random.default_rng(seed).standard_normal((n, places, dim)).astype(np.float32)
    return xmr.Features("image", values)


def sentences(lengths: list[int], words: int = 30, seed: int = 1) -> xmr.Features:
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    ids = np.random.default_rng(seed).integers(1, words, mask.shape)
    return xmr.Features("text", np.where(mask, ids, 0).astype(np.int32), mask)


def book(pictures: int = 60, each: int = 2, topics: int = 100) -> xmr.FeaturePairs:
    """Pictures of 4 regions, of which 2 show something that the sentences name among other words."""
    rng = np.random.default_rng(0)
    shown = np.stack([rng.permutation(topics)[:2] for _ in range(pictures)])  # (pictures, 2)
    looks = rng.standard_normal((topics, 12))
    values = 0.3 * rng.standard_normal((pictures, 4, 12))
    for row, things in enumerate(shown):
        values[row, rng.permutation(4)[:2]] += looks[things]
    said = np.repeat(shown, each, axis=0)[:, ::-1] + 1
    ids = np.concatenate([said, rng.integers(topics + 1, topics + 20, (len(said), 3))], axis=1)
    texts = xmr.Features("text", rng.permuted(ids, axis=1).astype(np.int32), np.ones(ids.shape, bool))
    links = np.stack([np.repeat(np.arange(pictures), each), np.arange(pictures * each)], axis=1)
    return xmr.FeaturePairs(xmr.Features("image", values.astype(np.float32)), texts, links)


@pytest.fixture(scope="module")
def fitted() -> Dan:
    return Dan(**SMALL).fit(book())


def rows(features: xmr.Features, at: Any) -> xmr.Features:
    return replace(features, values=features.values[at], mask=None if features.mask is None else features.mask[at])


# layers


def test_a_sentence_reads_the_same_alone_and_in_any_company() -> None:
    torch.manual_seed(0)
    net = Sentences(30, 8)
    texts = sentences([3, 7, 1, 5])
    ids, mask = torch.from_numpy(texts.values).long(), torch.from_numpy(texts.mask)
    together = net(ids, mask)
    for row, length in enumerate([3, 7, 1, 5]):
        alone = net(ids[row : row + 1, :length], mask[row : row + 1, :length])
        assert torch.allclose(together[row, :length], alone[0], atol=1e-6)
        assert not together[row, length:].any()


def test_a_word_is_the_sum_of_both_directions() -> None:
    torch.manual_seed(0)
    net = Sentences(30, 8)
    ids = torch.tensor([[4, 9, 2]])
    states, _ = net.lstm(net.embedding(ids))
    assert torch.allclose(net(ids, torch.ones(1, 3, dtype=torch.bool)), states[..., :8] + states[..., 8:])


def test_the_last_word_of_a_sentence_counts() -> None:
    net = Sentences(30, 8)
    mask = torch.ones(1, 3, dtype=torch.bool)
    assert not torch.allclose(net(torch.tensor([[4, 9, 2]]), mask)[:, 0], net(torch.tensor([[4, 9, 3]]), mask)[:, 0])


def test_padding_has_no_weight_and_no_part_in_a_mean() -> None:
    mask = torch.tensor([[True, True, False]])
    weights = masked_softmax(torch.tensor([[1.0, 1.0, 99.0]]), mask)
    assert weights.tolist() == [[0.5, 0.5, 0.0]]
    assert masked_mean(torch.tensor([[[2.0], [4.0], [99.0]]]), mask).tolist() == [[3.0]]


def test_a_visual_step_is_the_paper_s_formula() -> None:
    torch.manual_seed(0)
    step, v, memory = VisualStep(6, 4), torch.randn(1, 5, 6), torch.randn(1, 4)
    W, W_m, w_h, P = step.scores.of_inputs, step.scores.of_memory, step.scores.score.weight[0], step.project
    h = [torch.tanh(W(v[0, n])) * torch.tanh(W_m(memory[0])) for n in range(5)]
    a = torch.stack([w_h @ each for each in h]).softmax(dim=0)
    want = torch.tanh(P(sum((a[n] * v[0, n] for n in range(5)), torch.zeros(6))))  # tanh outside of the sum
    context, weights = step(v, memory)
    assert torch.allclose(weights[0], a) and torch.allclose(context[0], want, atol=1e-6)


def test_a_text_step_has_no_projection_and_no_tanh() -> None:
    step, u, mask = TextStep(4), 9 * torch.randn(1, 3, 4), torch.ones(1, 3, dtype=torch.bool)
    context, weights = step(u, torch.randn(1, 4), mask)
    assert torch.allclose(context[0], weights[0] @ u[0], atol=1e-5)


def test_dropout_leaves_out_the_same_dimensions_of_all_words() -> None:
    torch.manual_seed(0)
    dropped = Dropout(0.5).train()(torch.ones(2, 7, 100))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped)) and not torch.equal(dropped[0], dropped[1])
    assert torch.equal(Dropout(0.5).eval()(torch.ones(2, 7, 3)), torch.ones(2, 7, 3))


# the loss


def test_the_similarity_is_the_sum_over_all_steps_from_0() -> None:
    v = torch.tensor([[[1.0, 0.0], [2.0, 1.0]]])  # (1, K + 1 = 2, 2)
    u = torch.tensor([[[3.0, 5.0], [1.0, 1.0]]])
    assert similarity(v, u).tolist() == [3.0 + 3.0]


def test_the_loss_of_three_sentences_by_hand() -> None:
    scores = torch.tensor([[1.0, 2.0, 5.0], [4.0, 0.0, 3.0]])  # 2 pictures, 3 sentences
    own = torch.tensor([[True, True, False], [False, False, True]])
    row = torch.tensor([0, 0, 1])
    # wrong pictures 4, 0, 5; wrong sentences 5, 5, 4; margin 2
    want = [(2 - 1 + 4) + (2 - 1 + 5), (2 - 2 + 0) + (2 - 2 + 5), (2 - 3 + 5) + (2 - 3 + 4)]
    assert hardest(scores, row, own, margin=2.0).item() == pytest.approx(sum(want) / 3)


def test_before_training_the_loss_is_twice_the_margin() -> None:
    scores = torch.zeros(4, 4)
    assert hardest(scores, torch.arange(4), torch.eye(4, dtype=torch.bool), margin=100.0).item() == 200.0


def test_the_softmax_is_over_the_wrong_ones_and_the_pair_itself() -> None:
    scores = torch.tensor([[1.0, 2.0, 5.0], [4.0, 0.0, 3.0]])
    own = torch.tensor([[True, True, False], [False, False, True]])
    e = np.exp
    pictures = [e(1) / (e(1) + e(4)), e(2) / (e(2) + e(0)), e(3) / (e(3) + e(5))]
    texts = [e(1) / (e(1) + e(5)), e(2) / (e(2) + e(5)), e(3) / (e(3) + e(4) + e(0))]
    want = -np.log(pictures).mean() - np.log(texts).mean()
    assert contrastive(scores * 3, torch.tensor([0, 0, 1]), own, temperature=3.0).item() == pytest.approx(want)


@pytest.mark.parametrize("loss", [contrastive, hardest])
def test_a_batch_without_wrong_ones_teaches_nothing(loss: Any) -> None:
    scores = torch.tensor([[1.0, 2.0]], requires_grad=True)
    value = loss(scores, torch.tensor([0, 0]), torch.ones(1, 2, dtype=torch.bool), 1.0)
    value.backward()
    assert value.item() == 0 and scores.grad is not None and not scores.grad.any()


# embeddings


@pytest.mark.parametrize("loss", ["softmax", "modern", "paper"])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_pair_s_score_is_the_inner_product_of_its_embeddings(steps: int, loss: str) -> None:
    pairs = book()
    dan = Dan(steps=steps, loss=loss, **SMALL).fit(pairs)
    images, texts = rows(pairs.images, pairs.links[:, 0]), rows(pairs.texts, pairs.links[:, 1])
    v, u = dan.fuse(images).values, dan.fuse(texts).values
    assert v.shape[1] == (steps + 1) * 16
    scores = dan.pair_scores(images, texts)
    assert np.allclose(scores, (v * u).sum(axis=1), rtol=1e-5, atol=1e-5)


def test_scores_of_as_many_pictures_as_sentences_are_wanted(fitted: Dan) -> None:
    with pytest.raises(xmr.DataError, match="a sentence for each picture"):
        fitted.pair_scores(regions(3, dim=12), sentences([2, 2]))


def test_the_modern_steps_have_length_one_and_the_paper_s_have_not() -> None:
    for loss, unit in (("softmax", True), ("modern", True), ("paper", False)):
        vectors = Dan(loss=loss, **SMALL).fit(book()).fuse(book().images).values.reshape(-1, 3, 16)
        assert np.allclose(np.linalg.norm(vectors, axis=2), 1) is unit


def test_neither_order_nor_company_nor_padding_changes_a_sentence(fitted: Dan) -> None:
    texts = sentences([4, 1, 9, 2, 2, 7], words=100)
    whole, order = fitted.fuse(texts).values, np.array([3, 5, 0, 2, 1, 4])
    assert np.allclose(fitted.fuse(rows(texts, order)).values, whole[order], atol=1e-6)
    for row, length in enumerate([4, 1, 9, 2, 2, 7]):
        alone = xmr.Features("text", texts.values[row : row + 1, :length])  # no mask: all are real
        assert np.allclose(fitted.fuse(alone).values, whole[row : row + 1], atol=1e-6)


def test_grids_of_different_sizes_in_one_batch(fitted: Dan) -> None:
    pictures = regions(2, places=9, dim=12)
    mask = np.array([[True] * 9, [True] * 4 + [False] * 5])
    mixed = fitted.fuse(replace(pictures, mask=mask)).values
    small = fitted.fuse(xmr.Features("image", pictures.values[1:, :4])).values
    assert np.allclose(mixed[1:], small, atol=1e-6) and not np.allclose(mixed[0], fitted.fuse(pictures).values[1])
    attention = fitted.attention(replace(pictures, mask=mask))
    assert attention is not None and not attention[1, :, 4:].any() and np.allclose(attention.sum(axis=2), 1)


def test_blocks_change_nothing(fitted: Dan, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = book()
    whole = fitted.fuse(pairs.texts).values, fitted.attention(pairs.images)
    monkeypatch.setattr(training, "ROWS", 7)
    assert np.allclose(fitted.fuse(pairs.texts).values, whole[0], atol=1e-6)
    assert np.allclose(fitted.attention(pairs.images), whole[1], atol=1e-6)


def test_half_precision_regions_are_taken(fitted: Dan) -> None:
    pictures = book().images
    half = xmr.Features("image", pictures.values.astype(np.float16))
    assert np.allclose(fitted.fuse(half).values, fitted.fuse(pictures).values, atol=0.01)


def test_without_steps_there_is_no_attention() -> None:
    dan = Dan(steps=0, **SMALL).fit(book())
    assert dan.attention(book().images) is None
    moved = replace(book().images, values=book().images.values[:, [3, 1, 0, 2]])  # a mean does not care where they are
    assert np.allclose(dan.fuse(moved).values, dan.fuse(book().images).values, atol=1e-6)


# unknown words


def test_words_that_were_never_seen_are_read_as_unknown(fitted: Dan) -> None:
    unseen = next(i for i in range(1, 120) if not (book().texts.values == i).any())
    ids = np.array([[5, unseen, 7], [5, 0, 7]], np.int32)
    first, second = fitted.fuse(xmr.Features("text", ids)).values
    assert np.allclose(first, second, atol=1e-6)


def test_the_unknown_word_is_learnt(fitted: Dan) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(fitted.config.seed)
        untrained = training.Training(book(), fitted.config).network.words.embedding.weight[0].detach().numpy()
    assert not np.allclose(fitted.state["words.embedding.weight"][0], untrained)


def test_a_sentence_of_one_unknown_word_has_an_embedding(fitted: Dan) -> None:
    assert np.isfinite(fitted.fuse(xmr.Features("text", np.zeros((1, 1), np.int32))).values).all()


# training


def test_a_hundred_pairs_are_learnt_by_heart() -> None:
    pairs = book(pictures=100, each=1)
    dan = Dan(dim=32, epochs=100, rate=3e-3, batch=100, dropout=0.0, validation=0).fit(pairs)
    there, back = measures.recall_both_ways(dan.fuse(pairs.images), dan.fuse(pairs.texts), pairs.links)
    assert there.r1 > 0.95 and back.r1 > 0.95


def test_batches_hold_every_pair_once_in_another_order_each_epoch() -> None:
    links = book(pictures=20, each=5).links
    epochs = [list(training.batches(links, 4, 2, np.random.default_rng(seed))) for seed in (0, 1)]
    for batches in epochs:
        assert sorted(map(tuple, np.concatenate(batches))) == sorted(map(tuple, links))
        assert all(len(batch) <= 8 for batch in batches)
    assert not np.array_equal(epochs[0][0], epochs[1][0])


def test_no_picture_and_no_sentence_is_learnt_from_and_held_out() -> None:
    links = np.array([(p, s) for p in range(40) for s in (2 * p, 2 * p + 1, (2 * p + 2) % 80)])  # many to many
    learn, held = training.split(links, 300, seed=0)
    assert len(np.unique(held[:, 0])) == 4
    for side in (0, 1):
        assert not set(learn[:, side]) & set(held[:, side])


class Log(Run):
    """Keeps the log and the last checkpoint, and may be killed after some epochs."""

    def __init__(self, lives: int = 1000) -> None:
        self.figures: list[dict[str, float]] = []
        self.kept: dict[str, NDArray[Any]] | None = None
        self.lives = lives

    def log(self, what: str, step: int, **figures: float) -> None:
        self.figures.append(figures)

    def checkpoint(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.kept = {name: array.copy() for name, array in arrays.items()}
        self.lives -= 1
        if not self.lives:
            raise KeyboardInterrupt

    def restore(self) -> dict[str, NDArray[Any]] | None:
        return self.kept


@pytest.mark.parametrize("schedule", ["quick", "paper"])
def test_a_killed_training_goes_on_as_if_nothing_had_been(schedule: str) -> None:
    dan = Dan(dim=8, epochs=4, schedule=schedule)
    log = Log(lives=2)
    with use_run(log):
        with pytest.raises(KeyboardInterrupt):
            dan.fit(book())
        resumed = dan.fit(book())
    assert len(log.figures) == 4
    assert resumed.fingerprint() == dan.fit(book()).fingerprint()


def test_the_epoch_that_recalls_most_is_kept() -> None:
    log, pairs = Log(), book(pictures=100)
    with use_run(log):
        dan = Dan(dim=8, epochs=6, rate=0.02).fit(pairs)
    held = training.split(pairs.links, dan.config.validation, dan.config.seed)[1]
    (pictures, left), (texts, right) = (np.unique(held[:, i], return_inverse=True) for i in (0, 1))
    ways = measures.recall_both_ways(
        dan.fuse(rows(pairs.images, pictures)), dan.fuse(rows(pairs.texts, texts)), np.stack([left, right], axis=1)
    )
    recall = np.mean([[way.r1, way.r5, way.r10] for way in ways])
    assert recall == pytest.approx(max(figures["recall"] for figures in log.figures))


def test_the_loss_of_the_paper_falls_below_its_margin() -> None:
    log = Log()
    with use_run(log):
        Dan(dim=32, loss="paper", schedule="paper", epochs=10, dropout=0.0).fit(book(each=1))
    losses = [figures["loss"] for figures in log.figures]
    assert losses[-1] < losses[0]


def test_a_seed_gives_one_training_and_another_seed_another() -> None:
    biases = [Dan(dim=8, epochs=1, seed=seed).fit(book()).state["visual_start.project.bias"] for seed in (0, 0, 1)]
    assert np.array_equal(biases[0], biases[1]) and not np.array_equal(biases[0], biases[2])


def test_a_training_that_blows_up_says_so() -> None:
    with pytest.raises(xmr.ConfigError, match=r"dan: the (loss is|embeddings are) .* in epoch \d+; a lower rate"):
        Dan(dim=8, loss="paper", rate=1e37, schedule="paper").fit(book())


# what is refused


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (regions(2, dim=5), "fitted on regions of 12 dimensions, got 5"),
        (xmr.Features("image", np.zeros((2, 3), np.int32)), "pictures are given by regions"),
        (xmr.Features("text", np.zeros((2, 3, 4), np.float32)), "sentences are given by word ids"),
        (xmr.Features("text", np.full((2, 3), 7000, np.int32)), "another has another vocabulary"),
        (xmr.Features("text", np.full((2, 3), -1, np.int32)), "another has another vocabulary"),
        (xmr.Features("text", np.zeros((2, 3), np.int32), np.zeros((2, 3), bool)), "2 of 2 sentences have no word"),
        (xmr.Features("text", np.zeros((2, 0), np.int32)), "2 of 2 sentences have no word"),
        (replace(regions(2, dim=12), mask=np.zeros((2, 5), bool)), "2 of 2 pictures have no region"),
        (xmr.Features("text", np.zeros((1, 2), np.int32), np.array([[False, True]])), "padding before a word"),
        (xmr.Features("sound", np.zeros((1, 2), np.int32)), "pictures and sentences, not sound"),
        (xmr.Features("image", np.full((1, 2, 12), np.inf, np.float32)), "NaN or infinity"),
    ],
)  # fmt: skip
def test_features_of_another_kind_are_refused(fitted: Dan, features: xmr.Features, message: str) -> None:
    with pytest.raises(xmr.DataError, match=message):
        fitted.fuse(features)


def test_one_modality_alone_teaches_nothing() -> None:
    pairs = feature_pairs("regions", "tokens")
    nothing = xmr.Features("text", np.zeros((0, 1), np.int32))
    with pytest.raises(xmr.DataError, match="there are no sentences"):
        Dan(**SMALL).fit(replace(pairs, texts=nothing, links=np.zeros((0, 2), np.int64)))


@pytest.mark.parametrize("where", ["potato", "cuda:-7"])
def test_a_device_that_is_none_is_refused(where: str) -> None:
    with pytest.raises(xmr.ConfigError, match=f"device='{where}'"):
        Dan(**SMALL, device=where).fit(book())


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(xmr.ConfigError, match="there is no GPU"):
        Dan(**SMALL, device="cuda").fit(book())


def test_too_few_pairs_teach_nothing() -> None:
    with pytest.raises(xmr.DataError, match="got 4 pairs to learn from, at least 10"):
        Dan(**SMALL).fit(book(pictures=4, each=1))


@pytest.mark.parametrize(
    ("option", "value"),
    [("steps", -1), ("dim", 0), ("loss", "hinge"), ("temperature", 0.0), ("schedule", "slow"), ("margin", 0.0),
     ("epochs", 0), ("batch", 0), ("sentences", 0), ("rate", -1.0), ("dropout", 1.0), ("validation", -1), ("seed", -1)],
)  # fmt: skip
def test_options_out_of_range_are_refused(option: str, value: Any) -> None:
    with pytest.raises(xmr.ConfigError, match=f"{option}="):
        Dan(**{option: value})
