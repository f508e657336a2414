"""How r-DAN is trained: all questions of some pictures a step, the best epoch by pictures that were held out.

Source: Nam, Ha & Kim, "Dual Attention Networks for Multimodal Reasoning and Matching", CVPR 2017, section 4. The paper
draws single questions; all questions of a picture at once share its regions, and an epoch is several times quicker.

Letters: n questions, m pictures, b questions of a batch, r regions, t words, a answers, h answers of one question.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import xmr_core as xmr
from xmr_core.plugin import accuracies, below, frequent_answers
from xmr_dan.config import RdanConfig
from xmr_dan.inputs import check_regions, check_words, regions_of
from xmr_dan.joint import Batch, JointNetwork, answer_loss
from xmr_dan.schedules import paper_sgd
from xmr_torch.arrays import Arrays, arrays, tensors
from xmr_torch.computing import device, has_bfloat16, randomness
from xmr_torch.rates import Course, halves, one_cycle
from xmr_torch.trainer import Trainer

__all__ = ["SCHEDULES", "Inputs", "Schedule", "stored", "targets", "train"]

ONE_IN = 10  # pictures held out at most
VALIDATED = 512  # questions answered at once

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Schedule:
    """Batches, epochs and learning rates."""

    epochs: int
    batch: int
    rate: float
    optimiser: Callable[[Any], torch.optim.Optimizer]
    course: Course  # what the rate is multiplied by on the way
    clip: float  # of the gradient: by its norm
    word_dropout: float  # share of words that are read as unknown, so that the unknown word learns to stand for any


SCHEDULES = {
    "quick": Schedule(10, 512, 1e-3, torch.optim.Adam, one_cycle, 1.0, 0.01),
    "paper": Schedule(60, 128, 0.1, paper_sgd, halves, 0.1, 0.01),
}


class Inputs:
    """Questions as the network takes them; the features stay where they are, and are converted batch by batch."""

    def __init__(self, questions: xmr.QuestionFeatures) -> None:
        self.questions, self.image_of = questions, questions.image_of
        ids, mask = questions.questions.values, questions.questions.mask
        marked = ids if mask is None else np.where(mask, ids, -1)  # (n, t), -1 at padding
        self.wordings, wording = np.unique(marked, axis=0, return_inverse=True)  # (s, t)
        self.wording = wording.reshape(-1)  # (n,)

    def check(self, network: JointNetwork) -> None:
        """Raise DataError where the features are not of the kind that the network was trained on."""
        check_regions(self.questions.images, network.start.project.in_features)
        check_words(self.questions.questions, network.sentences.embedding.num_embeddings)

    def batch(self, rows: Rows, device: torch.device) -> Batch:
        """The questions at these positions."""
        pictures, picture = np.unique(self.image_of[rows], return_inverse=True)
        wordings, wording = np.unique(self.wording[rows], return_inverse=True)
        ids = self.wordings[wordings]  # (s, t)
        ids = ids[:, : max(1, int((ids >= 0).sum(axis=1).max()))]
        return Batch(
            *regions_of(self.questions.images, pictures, device),
            _tensor(picture, device),
            _tensor(ids.clip(0).astype(np.int64), device),
            _tensor(ids >= 0, device),
            _tensor(wording, device),
        )


def targets(answers: Sequence[Sequence[str]], known: Sequence[str], soft: bool) -> tuple[Rows, NDArray[np.float32]]:
    """(n, h) places in `known` and (n, h) their shares, which sum to 1, or to 0 where none is known.

    The commonest answer has all of it; where `soft`, each has the share of people who gave it.
    """
    place = {answer: i for i, answer in enumerate(known)}
    counts = [Counter(human).most_common(None if soft else 1) for human in answers]
    h = max(len(own) for own in counts)
    places, shares = np.zeros((len(counts), h), np.int64), np.zeros((len(counts), h), np.float32)
    for row, own in enumerate(counts):
        for column, (answer, count) in enumerate(own):
            if answer in place:
                places[row, column], shares[row, column] = place[answer], count
    return places, shares / np.maximum(shares.sum(axis=1, keepdims=True), 1)


def train(questions: xmr.QuestionFeatures, config: RdanConfig) -> dict[str, NDArray[Any]]:
    """The state of an r-DAN trained on questions. Raises DataError, ConfigError: see `Rdan.fit`."""
    if not questions.answers or not all(questions.answers):
        raise xmr.DataError("rdan: expected questions with answers to learn from")
    times = Counter(answer for human in questions.answers for answer in set(human))
    if max(times.values()) < 2:
        raise xmr.DataError(f"rdan: no answer occurs in two of {len(questions)} questions; all are too rare to learn")
    known = frequent_answers(questions.answers, config.answers)
    if len(known) < 2:
        raise xmr.DataError(f"rdan: all {len(questions)} questions have one answer, {known[0]!r}; nothing to choose")
    check_regions(questions.images)
    check_words(questions.questions)
    training = Training(questions, known, config)
    training.train()
    network = {f"net/{name}": array for name, array in arrays(training.network.state_dict()).items()}
    return {"answers": np.array(known), "accuracy": np.array([training.score]), **network}


class Training(Trainer[Rows]):
    """A network in training; a batch is positions of questions, all those of some pictures."""

    network: JointNetwork

    def __init__(self, questions: xmr.QuestionFeatures, known: Sequence[str], config: RdanConfig) -> None:
        self.config, self.known, self.answers = config, np.array(known), questions.answers
        self.schedule, where = SCHEDULES[config.schedule], device(config.device)
        self.inputs = Inputs(questions)
        self.places, self.shares = targets(questions.answers, known, config.soft)
        learn, self.held = self._split(len(questions.images))
        self.learn = learn[np.argsort(questions.image_of[learn], kind="stable")]  # those of a picture together
        if not len(self.learn):
            raise xmr.DataError("rdan: no question is left to learn from; hold out fewer pictures, or give more")
        width = int(questions.images.values.shape[2])
        words = int(questions.questions.values.max(initial=0)) + 1
        with randomness(config.seed, where):
            network = _network(width, words, len(known), config).to(where)
        seen = self.inputs.wordings[np.unique(self.inputs.wording[self.learn])]
        self.unseen = _tensor(np.setdiff1d(np.arange(1, words), seen), where)
        optimiser = self.schedule.optimiser(network.parameters())
        epochs, rate = config.epochs or self.schedule.epochs, config.rate or self.schedule.rate
        super().__init__("rdan", network, optimiser, epochs, rate, self.schedule.course, config.seed)

    def _split(self, pictures: int) -> tuple[Rows, Rows]:
        """Positions of questions to learn from, whose answers are known, and of those about pictures held out."""
        order = np.random.default_rng(self.config.seed).permutation(pictures)
        held = np.isin(self.inputs.image_of, order[: min(self.config.validation, pictures // ONE_IN)])
        return np.flatnonzero(~held & (self.shares.sum(axis=1) > 0)), np.flatnonzero(held)

    def random(self) -> np.random.Generator:
        """Both generators from the seed and the epoch, each in its own way: trainings of old give the same."""
        torch.manual_seed(self.seed + self.epoch + 1)
        return np.random.default_rng([self.seed, self.epoch])

    def batches(self, rng: np.random.Generator) -> list[Rows]:
        """Positions of questions, each once: pictures in random order, cut where a batch is full."""
        image_of = self.inputs.image_of[self.learn]
        starts = np.flatnonzero(np.diff(image_of, prepend=-1))
        groups = np.split(self.learn, starts[1:])  # the questions of each picture
        order = rng.permutation(len(groups))
        before = np.cumsum([0, *(len(groups[i]) for i in order[:-1])])
        full = before // (self.config.batch or self.schedule.batch)
        return [
            np.concatenate([groups[i] for i in part]) for part in np.split(order, np.flatnonzero(np.diff(full)) + 1)
        ]

    def loss(self, batch: Rows) -> dict[str, Tensor]:
        """Cross-entropy with the answers that people gave."""
        asked = self.inputs.batch(batch, self.device)
        heard = torch.rand(asked.ids.shape, device=self.device) >= self.schedule.word_dropout
        with torch.autocast(self.device.type, torch.bfloat16, enabled=has_bfloat16(self.device)):
            scores, _, _ = self.network(replace(asked, ids=asked.ids * heard))
        scores = scores.float()
        wanted = torch.zeros_like(scores)
        wanted.scatter_add_(1, _tensor(self.places[batch], self.device), _tensor(self.shares[batch], self.device))
        return {"loss": answer_loss(scores, wanted)}

    def clip(self) -> None:
        """By the norm."""
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.schedule.clip)

    @torch.no_grad()
    def end_epoch(self) -> None:
        """Words that no question to learn from has get the vector of the unknown word."""
        vectors = self.network.sentences.embedding.weight
        vectors[self.unseen] = vectors[0].clone()

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """Accuracy on the pictures held out, by all human answers."""
        if not len(self.held):
            return {}
        self.network.eval()
        order = self.held[np.argsort(self.inputs.image_of[self.held], kind="stable")]
        blocks = [order[start : start + VALIDATED] for start in range(0, len(order), VALIDATED)]
        best = [self.network(self.inputs.batch(rows, self.device))[0].argmax(dim=1).cpu().numpy() for rows in blocks]
        given = self.known[np.concatenate(best)].tolist()
        return {"accuracy": float(accuracies(given, [self.answers[i] for i in order.tolist()]).mean())}

    def better(self, score: float) -> bool:
        """A later epoch of the same accuracy is surer of it."""
        return score >= self.score


def stored(state: Arrays, config: RdanConfig) -> JointNetwork:
    """The network of a state, ready to answer."""
    weights = below("net", state)
    where = device(config.device)
    with randomness(config.seed, where):  # first weights, which are overwritten
        width, words = weights["start.project.weight"].shape[1], len(weights["sentences.embedding.weight"])
        network = _network(width, words, len(state["answers"]), config)
    network.load_state_dict(tensors(weights))
    return network.to(where).eval()


def _network(width: int, words: int, answers: int, config: RdanConfig) -> JointNetwork:
    return JointNetwork(width, words, answers, config.dim, config.steps, config.dropout)


def _tensor(array: NDArray[Any], where: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(where)
