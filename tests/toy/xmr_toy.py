"""A plugin for the tests: encoders that need no training, one that dies in it, and one that counts its work."""

from __future__ import annotations

import os
import signal
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core import vqa
from xmr_core.plugin import Form, current_run, decode_image, decode_images

COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "white": (1, 1, 1), "black": (0, 0, 0)}


class Toy(xmr.Encoder):
    """A picture is its mean colour, a sentence the mean of the colours it names; both as 8 numbers."""

    name = "toy"
    needs_fit = False
    metric: ClassVar[xmr.Metric] = "l2"

    def encode(self, items: xmr.Items) -> xmr.Features:
        rows = [self._picture(item) if items.modality == xmr.IMAGE else self._sentence(item) for item in items.data]
        return xmr.Features.of_vectors(items.modality, np.array(rows, np.float32).reshape(-1, 8))

    @staticmethod
    def _picture(item: Any) -> list[float]:
        colour = np.asarray(decode_image(item), np.float32).mean(axis=(0, 1)) / 255
        return [*colour, 0, 0, 0, 0, 0]

    @staticmethod
    def _sentence(text: str) -> list[float]:
        if not text.strip():
            raise xmr.DataError("empty text")
        named = [COLOURS[word] for word in text.split() if word in COLOURS] or [(0.5, 0.5, 0.5)]
        return [*np.mean(named, axis=0), 0, 0, 0, 0, zlib.crc32(text.encode()) % 7 / 1000]


@dataclass(frozen=True)
class MortalConfig:
    """The process is killed at this epoch of the first try, told by a file."""

    epochs: int = 5
    dies_at: int = 3
    grave: str = ""
    seed: int = 0


class Mortal(Toy):
    """Counts epochs, keeps checkpoints, and kills its own process once, where `grave` does not exist yet."""

    name = "mortal"
    needs_fit = True
    Config = MortalConfig

    def fit(self, pairs: xmr.Pairs) -> Mortal:
        run = current_run()
        kept = run.restore()
        start = 0 if kept is None else int(kept["epoch"]) + 1
        for epoch in run.track(range(start, self.config.epochs), "mortal"):
            if epoch == self.config.dies_at and self.config.grave and not os.path.exists(self.config.grave):  # noqa: PTH110
                open(self.config.grave, "w").close()  # noqa: PTH123
                os.kill(os.getpid(), signal.SIGKILL)
            run.log("mortal", epoch, loss=1.0 / (epoch + 1))
            run.checkpoint({"epoch": np.array(epoch)})
        return self.with_state({"started_at": np.array(start), "epochs": np.array(self.config.epochs)})


class Costly(Toy):
    """Counts how many items it ever encoded; its features are worth keeping."""

    name = "costly"
    cacheable = True
    encoded: ClassVar[int] = 0

    def encode(self, items: xmr.Items) -> xmr.Features:
        Costly.encoded += len(items)
        return super().encode(items)


class Patches(xmr.Encoder):
    """A picture is the mean colours of its quarters, as four regions; counts how many it ever encoded."""

    name = "patches"
    needs_fit = False
    cacheable = True
    forms: ClassVar[Mapping[str, Form]] = {xmr.IMAGE: "regions"}
    encoded: ClassVar[int] = 0

    def encode(self, items: xmr.Items) -> xmr.Features:
        self.require_modality(items.modality)
        Patches.encoded += len(items)
        regions = np.zeros((len(items), 4, 3), np.float16)
        for row, picture in enumerate(decode_images(items, lambda image: image.resize((2, 2)))):
            regions[row] = np.asarray(picture).reshape(4, 3) / 255
        return xmr.Features(items.modality, regions, metric=self.metric)


class Gaze(xmr.Fuser):
    """Looks twice: at everything alike, then the more the later a region or word stands."""

    name = "gaze"
    needs_fit = False
    metric: ClassVar[xmr.Metric] = "ip"
    accepts = frozenset({"regions", "tokens"})
    encoder_wanted = "each(image='patches', text='words(min_count=1)')"

    def fuse(self, features: xmr.Features) -> xmr.Embeddings:
        values = features.values.astype(np.float32)
        if values.ndim == 2:
            values = np.sin(values[:, :, None] * [1, 2, 3])  # (n, t, 3)
        seen = self.attention(features) @ values  # (n, 2, 3)
        return xmr.Embeddings(seen.reshape(len(seen), 6), self.metric)

    def attention(self, features: xmr.Features) -> NDArray[np.float32]:
        n, t = features.values.shape[:2]
        mask = np.ones((n, t)) if features.mask is None else features.mask
        weights = np.stack([mask, mask * np.arange(1, t + 1)], axis=1)  # (n, 2, t)
        return (weights / weights.sum(axis=2, keepdims=True)).astype(np.float32)


class Mirror(xmr.Fuser):
    """The negated vectors, and the way back."""

    name = "mirror"
    needs_fit = False
    metric: ClassVar[xmr.Metric] = "ip"

    def fuse(self, features: xmr.Features) -> xmr.Embeddings:
        return xmr.Embeddings(-features.vectors, self.metric)

    def restore(self, embeddings: xmr.Embeddings) -> xmr.Embeddings:
        return xmr.Embeddings(-embeddings.values, self.metric)


@dataclass(frozen=True)
class GuessConfig:
    """The process is killed after the first of two epochs, once, told by a file."""

    grave: str = ""
    seed: int = 0


class Guess(xmr.Answerer):
    """Answers with what was said of the picture whose mean colour is nearest; looks at all regions and words alike."""

    name = "guess"
    Config = GuessConfig
    accepts: ClassVar[Mapping[str, frozenset[Form]]] = {
        xmr.IMAGE: frozenset({"regions"}),
        xmr.TEXT: frozenset({"tokens"}),
    }
    encoder_wanted = "each(image='patches', text='words(min_count=1)')"

    @property
    def answers(self) -> NDArray[np.str_]:
        self.require_fit()
        return self.state["answers"]

    def fit(self, questions: xmr.QuestionFeatures) -> Guess:
        run = current_run()
        started = 0 if run.restore() is None else 1
        run.log("guess", started, loss=1.0)
        run.checkpoint({"epoch": np.array(started)})
        if self.config.grave and not os.path.exists(self.config.grave):  # noqa: PTH110
            open(self.config.grave, "w").close()  # noqa: PTH123
            os.kill(os.getpid(), signal.SIGKILL)
        known = vqa.frequent_answers(questions.answers, 100)
        if not known:
            raise xmr.DataError("questions without answers")
        colours, said = self._colours(questions), np.array([human[0] for human in questions.answers])
        means = np.stack([colours[said == answer].mean(axis=0) for answer in known])  # (a, 3)
        return self.with_state({"answers": np.array(known), "means": means, "started_at": np.array(started)})

    def answer(self, questions: xmr.QuestionFeatures) -> NDArray[np.float32]:
        self.require_fit()
        colours = self._colours(questions)
        if colours.shape[1] != self.state["means"].shape[1]:
            raise xmr.DataError(f"regions of {colours.shape[1]} numbers")
        away = np.linalg.norm(colours[:, None] - self.state["means"], axis=2)  # (n, a)
        weights = np.exp(-9 * away)
        return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)

    def attention(self, questions: xmr.QuestionFeatures) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self._alike(questions.images)[questions.image_of], self._alike(questions.questions)

    def _colours(self, questions: xmr.QuestionFeatures) -> NDArray[np.float32]:
        """(n, d) the mean over the regions of each question's picture."""
        images = questions.images
        means = self._alike(images) @ images.values.astype(np.float32)  # (m, 1, d)
        return means[questions.image_of, 0]

    @staticmethod
    def _alike(features: xmr.Features) -> NDArray[np.float32]:
        """(n, 1, t) weights, the same for all that is no padding."""
        mask = np.ones(features.values.shape[:2]) if features.mask is None else features.mask
        return (mask / mask.sum(axis=1, keepdims=True))[:, None].astype(np.float32)


@xmr.hookimpl
def xmr_answerers() -> list[type[xmr.Answerer]]:
    return [Guess]


@xmr.hookimpl
def xmr_encoders() -> list[type[xmr.Encoder]]:
    return [Toy, Mortal, Costly, Patches]


@xmr.hookimpl
def xmr_fusers() -> list[type[xmr.Fuser]]:
    return [Gaze, Mirror]
