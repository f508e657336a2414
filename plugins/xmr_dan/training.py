"""How m-DAN is trained: batches of pictures with a few of their sentences each, the best epoch by pictures held out.

Source: Nam, Ha & Kim, CVPR 2017, section 4.2, for the paper's schedule and loss; the quick schedule is our own.

Letters: p pairs, n pictures, b pictures and s sentences of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import xmr_core as xmr
from xmr_core import measures
from xmr_dan.config import DanConfig
from xmr_dan.inputs import check_regions, check_words, regions_of, words_of
from xmr_dan.matching import Matching
from xmr_dan.objective import contrastive, hardest
from xmr_dan.schedules import paper_sgd
from xmr_torch.arrays import Arrays, arrays, tensors
from xmr_torch.computing import device, has_bfloat16, randomness
from xmr_torch.rates import Course, halves, one_cycle
from xmr_torch.trainer import Trainer

__all__ = ["SCHEDULES", "Schedule", "rows_embedded", "stored_network", "train"]

FEWEST = 10  # pairs to learn from
ONE_IN = 10  # pictures held out at most
SAMPLE = 1000  # pictures whose regions give mean and scale
ROWS = 256  # items that pass the network at once where nothing is learned
TINY = 1e-12  # a variance that is none
MARGINS = {"modern": 0.2, "paper": 100.0}

Links = NDArray[np.int64]  # (p, 2): picture, sentence


@dataclass(frozen=True)
class Schedule:
    """Batches, epochs, rates, and what is left out while training."""

    epochs: int
    batch: int  # pictures
    sentences: int  # of each of them
    dropout: float
    word_dropout: float  # share of words that are read as unknown, so that <unk> learns to stand for any
    optimiser: Callable[[Any], torch.optim.Optimizer]
    rate: float  # the highest learning rate
    course: Course  # what it is multiplied by on the way
    clip: Callable[[Any], object]


SCHEDULES = {
    "quick": Schedule(
        epochs=8,
        batch=128,
        sentences=2,
        dropout=0.3,
        word_dropout=0.1,
        optimiser=lambda p: torch.optim.AdamW(p, weight_decay=0.0),
        rate=1e-3,
        course=one_cycle,
        clip=lambda p: nn.utils.clip_grad_norm_(p, 2.0),
    ),
    "paper": Schedule(
        epochs=60,
        batch=128,
        sentences=1,
        dropout=0.5,
        word_dropout=0.02,
        optimiser=paper_sgd,
        rate=0.1,
        course=halves,
        clip=lambda p: nn.utils.clip_grad_value_(p, 0.1),
    ),
}


def train(pairs: xmr.FeaturePairs, config: DanConfig) -> dict[str, NDArray[Any]]:
    """The tensors of a network trained on the pairs. Resumes from the run's checkpoint where there is one.

    Raises DataError where there is too little to learn from, ConfigError where the loss stops being finite.
    """
    for side, names in ((pairs.images, "pictures"), (pairs.texts, "sentences")):
        if not len(side):
            raise xmr.DataError(f"dan: it learns from pairs of pictures and sentences, there are no {names}")
    check_regions(pairs.images)
    check_words(pairs.texts)
    training = Training(pairs, config)
    training.train()
    return arrays(training.network.state_dict())


class Training(Trainer[Links]):
    """A network in training on the pairs to learn from; a batch is some of their links (s, 2)."""

    checkpoints: ClassVar[int] = 100  # an epoch may take many minutes
    network: Matching

    def __init__(self, pairs: xmr.FeaturePairs, config: DanConfig) -> None:
        self.pairs, self.config, self.schedule = pairs, config, SCHEDULES[config.schedule]
        self.learn, self.held = split(pairs.links, config.validation, config.seed)
        if len(self.learn) < FEWEST:
            raise xmr.DataError(f"dan: got {len(self.learn)} pairs to learn from, at least {FEWEST} are needed")
        self.known = np.sort(self._codes(pairs.links[:, 0], pairs.links[:, 1]))
        where = device(config.device)
        self.unseen = self._unseen().to(where)
        with randomness(config.seed, where):
            network = self._new_network().to(where)
        optimiser = self.schedule.optimiser(network.parameters())
        epochs, rate = config.epochs or self.schedule.epochs, config.rate or self.schedule.rate
        super().__init__("dan", network, optimiser, epochs, rate, self.schedule.course, config.seed)

    def _new_network(self) -> Matching:
        linked = np.unique(self.learn[:, 0])
        rows = np.sort(np.random.default_rng(self.config.seed).permutation(linked)[:SAMPLE])
        dropout = self.schedule.dropout if self.config.dropout is None else self.config.dropout
        return Matching(*standard(self.pairs.images, rows), len(self.unseen), self.config, dropout)

    def _unseen(self) -> Tensor:
        """(vocabulary,) bool: the words that no sentence to learn from has; `<unk>` stands for them."""
        ids = self.pairs.texts.values
        unseen = torch.ones(int(ids.max()) + 1, dtype=torch.bool)
        unseen[torch.from_numpy(np.unique(ids[self.learn[:, 1]]).astype(np.int64))] = False
        unseen[0] = False
        return unseen

    def _codes(self, pictures: Links, sentences: Links) -> Links:
        """One number for each pair."""
        return pictures * len(self.pairs.texts) + sentences

    def batches(self, rng: np.random.Generator) -> list[Links]:
        """Every pair to learn from once."""
        batch, sentences = self.config.batch or self.schedule.batch, self.config.sentences or self.schedule.sentences
        return list(batches(self.learn, batch, sentences, rng))

    def loss(self, batch: Links) -> dict[str, Tensor]:
        """The loss of the batch's pictures (b) and sentences (s)."""
        pictures, rows = np.unique(batch[:, 0], return_inverse=True)  # (b,), (s,)
        own = np.isin(self._codes(pictures[:, None], batch[:, 1]), self.known)  # (b, s)
        regions, region_mask = regions_of(self.pairs.images, pictures, self.device)
        ids, mask = words_of(self.pairs.texts, batch[:, 1], self.device)
        ids = ids * (torch.rand(ids.shape, device=self.device) >= self.schedule.word_dropout)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=has_bfloat16(self.device)):
            v, _ = self.network.pictures(regions, region_mask)
            u, _ = self.network.sentences(ids, mask)
        scores = v.flatten(1) @ u.flatten(1).T  # (b, s)
        row, owned = (torch.from_numpy(array).to(self.device) for array in (rows, own))
        return {"loss": self._loss(scores, row, owned)}

    def _loss(self, scores: Tensor, row: Tensor, own: Tensor) -> Tensor:
        if self.config.loss == "softmax":
            return contrastive(scores, row, own, self.config.temperature * (self.config.steps + 1))
        margin = self.config.margin
        return hardest(scores, row, own, MARGINS[self.config.loss] if margin is None else margin)

    def clip(self) -> None:
        """As the schedule does."""
        self.schedule.clip(self.network.parameters())

    @torch.no_grad()
    def end_epoch(self) -> None:
        """Words that were never seen get the vector of `<unk>`."""
        vectors = self.network.words.embedding.weight
        vectors[self.unseen] = vectors[0].clone()

    def validate(self) -> dict[str, float]:
        """Recall among the pictures held out, both ways."""
        if not len(self.held):
            return {}
        (pictures, left), (sentences, right) = (np.unique(self.held[:, i], return_inverse=True) for i in (0, 1))
        v = self._embedded(self.pairs.images, pictures)
        u = self._embedded(self.pairs.texts, sentences)
        there, back = measures.recall_both_ways(v, u, np.stack([left, right], axis=1))
        recall = float(np.mean([[way.r1, way.r5, way.r10] for way in (there, back)]))
        return {"recall": recall, "image_to_text_r10": there.r10, "text_to_image_r10": back.r10}

    def scored(self, figures: Mapping[str, float]) -> float:
        """The mean recall, at 1, 5 and 10, both ways."""
        return figures["recall"]

    def _embedded(self, features: xmr.Features, rows: NDArray[np.int64]) -> xmr.Embeddings:
        blocks = rows_embedded(self.network, features, rows)
        values = np.concatenate([vectors.reshape(len(vectors), -1) for vectors, _ in blocks])
        self.require_finite("embeddings", values)
        return xmr.Embeddings(values, "ip")


def split(links: Links, validation: int, seed: int) -> tuple[Links, Links]:
    """Pairs to learn from and pairs held out: those of `validation` pictures, at most a tenth of all.

    No picture and no sentence is on both sides; a pair that would join them is on neither.
    """
    pictures = np.unique(links[:, 0])
    held = np.random.default_rng(seed).permutation(pictures)[: min(validation, len(pictures) // ONE_IN)]
    away = np.isin(links[:, 0], held)
    joined = np.isin(links[:, 1], links[away, 1])
    return links[~joined], links[away & ~np.isin(links[:, 1], links[~away, 1])]


def batches(links: Links, batch: int, sentences: int, rng: np.random.Generator) -> Iterator[Links]:
    """Every pair once, in another order each time: `batch` pictures with up to `sentences` of theirs at once."""
    links = links[rng.permutation(len(links))]
    links = links[np.argsort(links[:, 0], kind="stable")]  # each picture's together, in random order
    place = np.arange(len(links)) - np.searchsorted(links[:, 0], links[:, 0])  # 0, 1, ... of each picture
    starts = place % sentences == 0
    groups = np.cumsum(starts) - 1  # (p,): which handful of a picture's sentences
    turn = rng.permutation(int(starts.sum()))[groups]  # (p,)
    order = np.argsort(turn, kind="stable")
    yield from np.split(links[order], np.flatnonzero(np.diff(turn[order] // batch)) + 1)


def standard(features: xmr.Features, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """The mean (d,) and the one scale () with which the regions of these pictures have mean 0 and mean square 1."""
    total, squares, count = np.zeros(features.values.shape[2]), 0.0, 0
    for start in range(0, len(rows), ROWS):
        regions, mask = regions_of(features, rows[start : start + ROWS], torch.device("cpu"))
        x = (regions.flatten(0, 1) if mask is None else regions[mask]).numpy()  # (regions, d)
        total, squares, count = total + x.sum(axis=0), squares + float(np.vdot(x, x)), count + len(x)
    mean = total / count
    variance = squares / count / len(mean) - float(np.square(mean).mean())
    scale = math.sqrt(variance) if variance > TINY else 1.0  # all regions alike: nothing to scale
    return torch.from_numpy(mean).float(), torch.tensor(scale)


def stored_network(config: DanConfig, state: Arrays) -> Matching:
    """The network of a fitted dan, ready to embed."""
    stored, where = tensors(state), device(config.device)
    with randomness(config.seed, where):  # first weights, which are overwritten
        network = Matching(stored["mean"], stored["scale"], len(stored["words.embedding.weight"]), config)
    network.load_state_dict(stored)
    return network.to(where).eval()


Block = tuple[NDArray[np.float32], NDArray[np.float32]]  # vectors (b, K + 1, dim), weights (b, K, n or t)


def rows_embedded(network: Matching, features: xmr.Features, rows: NDArray[np.int64]) -> Iterator[Block]:
    """The steps' vectors and weights of these rows, block by block, in float32."""
    network.eval()
    where = network.mean.device
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        with torch.inference_mode():
            if features.modality == xmr.IMAGE:
                vectors, weights = network.pictures(*regions_of(features, part, where))
            else:
                vectors, weights = network.sentences(*words_of(features, part, where))
        yield vectors.cpu().numpy(), weights.cpu().numpy()
