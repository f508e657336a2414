"""Questions about pictures: what an answerer learns from and is asked, what it gives, and the contract between.

    Questions -> Encoder -> QuestionFeatures -> Answerer -> probabilities (n, a) -> Answers

Letters for sizes: m pictures, n questions, a answers to choose from, k of them shown, r regions, t words.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self, overload

import numpy as np
from numpy.typing import NDArray

from xmr_core.components import C, Component, Form
from xmr_core.errors import DataError
from xmr_core.explain.attention import Attention
from xmr_core.explain.drawing import draw
from xmr_core.types import IMAGE, TEXT, Features, Items, Pairs, as_array

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Answer", "Answerer", "Answers", "QuestionFeatures", "Questions", "accuracies", "frequent_answers"]

ENOUGH = 3  # people who agree make an answer wholly right


@dataclass(frozen=True, eq=False)
class Questions:
    """Questions about pictures, and what people answered: what the readers of question sets return.

    `images` (m) are the distinct pictures, `texts` (n) the questions, `image_of` (n,) int64 the position of each
    question's picture. `answers` (n) holds each question's human answers, one or several; () where nobody answered.
    A column `type` of `texts.metadata` divides the questions where accuracy is told. `protocol` says in a line what
    figures measured on them mean; `skipped` maps the key of what was left out to the reason.
    """

    images: Items
    texts: Items
    image_of: NDArray[np.int64]
    answers: Sequence[Sequence[str]] = ()
    name: str = "questions"
    protocol: str = ""
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.images.modality, self.texts.modality) != (IMAGE, TEXT):
            raise DataError(
                f"questions: expected {IMAGE}s and {TEXT}s, got {self.images.modality}s and {self.texts.modality}s"
            )
        object.__setattr__(self, "image_of", _places(self.image_of, len(self.images), len(self.texts)))
        answers = self.answers if len(self.answers) else [()] * len(self.texts)
        object.__setattr__(self, "answers", _checked_answers(answers, self.texts.keys))

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def pairs(self) -> Pairs:
        """Pictures and questions as pairs: `db.add` takes them, encoders are fitted on them."""
        links = np.stack([self.image_of, np.arange(len(self))], axis=1)
        return Pairs(self.images, self.texts, links, name=self.name)

    @property
    def types(self) -> Sequence[str]:
        """(n,) the kind of each question, or nothing where the data have none."""
        return [str(kind) for kind in self.texts.metadata.get("type", ())]

    def take(self, positions: NDArray[np.int64]) -> Questions:
        """The questions at these positions, in their order, with the pictures that they are about."""
        images, image_of = np.unique(self.image_of[positions], return_inverse=True)
        answers = [self.answers[i] for i in positions]
        return replace(
            self, images=self.images.take(images), texts=self.texts.take(positions), image_of=image_of, answers=answers
        )


@dataclass(frozen=True, eq=False)
class QuestionFeatures:
    """Questions as an encoder gives them: what answerers are fitted on, and asked.

    `images` (m) are the features of distinct pictures, `questions` (n) those of the questions, `image_of` (n,) int64
    positions in `images`. `answers` (n) holds the human answers of each, () where it is to be answered.
    """

    images: Features
    questions: Features
    image_of: NDArray[np.int64]
    answers: Sequence[Sequence[str]] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_of", _places(self.image_of, len(self.images), len(self.questions)))
        if len(self.answers) not in (0, len(self)):
            raise DataError(f"answers: expected those of {len(self)} questions, got {len(self.answers)}")

    def __len__(self) -> int:
        return len(self.questions)

    def take(self, positions: NDArray[np.int64]) -> QuestionFeatures:
        """The questions at these positions, in their order, with the pictures that they are about."""
        images, image_of = np.unique(self.image_of[positions], return_inverse=True)
        answers = [self.answers[i] for i in positions] if self.answers else ()
        return QuestionFeatures(_rows(self.images, images), _rows(self.questions, positions), image_of, answers)


class Answerer(Component[C], ABC):
    """Features of pictures and of questions to answers: `fit(questions)`, `answer(questions)`.

    `accepts` names the forms it takes of each modality. `encoder_wanted` is the recipe of the encoder that stands
    before it where a recipe is the answerer alone; "" where none is implied. Word 0 of tokens is the unknown one.
    """

    accepts: ClassVar[Mapping[str, frozenset[Form]]] = {IMAGE: frozenset({"vector"}), TEXT: frozenset({"vector"})}
    encoder_wanted: ClassVar[str] = ""

    @abstractmethod
    def fit(self, questions: QuestionFeatures) -> Self:
        """A new, fitted answerer. Raises DataError where nothing can be learnt from the questions."""

    @property
    @abstractmethod
    def answers(self) -> NDArray[np.str_]:
        """(a,) the answers it chooses from, those that were most frequent in training first."""

    @abstractmethod
    def answer(self, questions: QuestionFeatures) -> NDArray[np.float32]:
        """(n, a) the probability of each answer; a row sums to 1 and never depends on its batch or on padding."""

    def attention(self, questions: QuestionFeatures) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """(n, steps, r) weights over regions and (n, steps, t) over words, which sum to 1 and are 0 at padding; None
        where it pays none."""
        return None


@dataclass(frozen=True)
class Answer:
    """One answer to one question, and how probable it is among all that are known."""

    text: str
    probability: float
    question: int = 0


@dataclass(frozen=True, eq=False)
class Answers(Sequence[Answer]):
    """The answers to one question or many, most probable first; iterating gives `Answer`s, question by question.

    `texts` (n, k) and `probabilities` (n, k) float32 are the same as arrays. `attention` (n) is what was paid to the
    picture and to the words of each question on the way, nothing where the answerer pays none; `unknown` (n) are the
    words of each question that training never met.
    """

    texts: NDArray[np.str_]
    probabilities: NDArray[np.float32]
    attention: Sequence[tuple[Attention, Attention]] = ()
    unknown: Sequence[Sequence[str]] = ()

    @property
    def best(self) -> list[str]:
        """(n,) the most probable answer to each question."""
        return [str(text) for text in self.texts[:, 0]]

    def of(self, question: int) -> list[Answer]:
        """The answers to one question of many."""
        rows = zip(self.texts[question], self.probabilities[question], strict=True)
        return [Answer(str(text), float(probability), question) for text, probability in rows]

    def draw(self, file: str | Path | None = None, question: int = 0, font: str | Path | None = None) -> Image:
        """A question and its picture with the attention to both, a row each: see `Attention.draw`. Raises DataError."""
        if not self.attention:
            raise DataError("draw: the answerer pays no attention, there is nothing to draw")
        if not 0 <= question < len(self.attention):
            raise DataError(f"draw: expected a question from 0 to {len(self.attention) - 1}, got {question}")
        return draw(self.attention[question], file, font)

    def __len__(self) -> int:
        return int(self.texts.size)

    @overload
    def __getitem__(self, place: int) -> Answer: ...
    @overload
    def __getitem__(self, place: slice) -> list[Answer]: ...
    def __getitem__(self, place: int | slice) -> Answer | list[Answer]:
        return list(self)[place]

    def __iter__(self) -> Iterator[Answer]:
        for question in range(len(self.texts)):
            yield from self.of(question)

    def __repr__(self) -> str:
        return "\n".join(f"{one.question:4}  {one.probability:6.4f}  {one.text}" for one in self)


def accuracies(given: Sequence[str], answers: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """(n,) how right each given answer is by what people answered: the accuracy of the VQA evaluation.

    An answer is worth min(agreeing / 3, 1) against some people; its accuracy is the mean of that over all ways to leave
    one of the h people out: 0.3, 0.6, 0.9, 1 for 1, 2, 3, 4 of ten. Where fewer than four answered, all that are left
    (h - 1) must agree instead of three; one human answer alone is right or wrong. Answers are compared as they are
    written. Raises DataError where a question has none, or not one given answer.

    Source: Antol et al., "VQA: Visual Question Answering", ICCV 2015, and its published evaluation.
    """
    if len(given) != len(answers):
        raise DataError(f"{len(given)} answers are given to {len(answers)} questions; expected one each")
    bare = sum(not human for human in answers)
    if bare:
        raise DataError(f"{bare} of {len(answers)} questions have no answer to compare with")
    agreeing = np.array([list(human).count(own) for own, human in zip(given, answers, strict=True)], float)  # (n,)
    people = np.array([len(human) for human in answers], float)
    enough = np.clip(people - 1, 1, ENOUGH)
    left_in, left_out = np.minimum(agreeing / enough, 1), np.minimum(np.maximum(agreeing - 1, 0) / enough, 1)
    mean = (agreeing * left_out + (people - agreeing) * left_in) / people
    return np.where(people == 1, agreeing, mean)


def frequent_answers(answers: Sequence[Sequence[str]], most: int) -> list[str]:
    """The `most` answers that are the commonest of most questions, most frequent first, ties in alphabetical order."""
    counts = Counter(commonest(human) for human in answers if human)
    return [answer for answer, _ in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:most]]


def commonest(human: Sequence[str]) -> str:
    """The answer that most people gave; among equals the one given first."""
    return Counter(human).most_common(1)[0][0]


def _places(values: object, pictures: int, questions: int) -> NDArray[np.int64]:
    places = as_array(values, "image_of")
    if places.shape != (questions,) or (places.size and places.dtype.kind not in "iu"):
        raise DataError(f"image_of: expected {questions} whole numbers, got {places.dtype} {places.shape}")
    if places.size and not 0 <= places.min() <= places.max() < pictures:
        raise DataError(f"image_of: positions must lie in 0..{pictures - 1}, got {places.min()} to {places.max()}")
    return places.astype(np.int64)


def _checked_answers(answers: Sequence[Sequence[str]], keys: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    if len(answers) != len(keys):
        raise DataError(f"answers: expected {len(keys)}, the answers of each question, got {len(answers)}")
    for key, human in zip(keys, answers, strict=True):
        if isinstance(human, str) or not all(isinstance(own, str) and own for own in human):
            raise DataError(f"answers of question {key!r}: expected a list of texts, got {human!r}", [key])
    return tuple(tuple(human) for human in answers)


def _rows(features: Features, positions: NDArray[np.int64]) -> Features:
    mask = None if features.mask is None else features.mask[positions]
    return replace(features, values=features.values[positions], mask=mask)
