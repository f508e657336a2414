"""Spaces that answer questions about images: learned from questions with answers, asked, and measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import ConfigError, DataError, StorageError, named
from xmr_core.explain.attention import Attention
from xmr_core.images import Images, unreadable
from xmr_core.library.content import content_of, fault_of_text
from xmr_core.library.evaluation import keep
from xmr_core.library.fitting import resumable
from xmr_core.library.session import Session
from xmr_core.library.spaces import Space, check_name, check_seed, record_of
from xmr_core.options import as_int
from xmr_core.progress import current_run
from xmr_core.recipes import Pipeline, Recipe, as_pipeline
from xmr_core.registry import require
from xmr_core.store import Store
from xmr_core.types import IMAGE, TEXT, Ids, Int, Items, Texts, as_ids
from xmr_core.vqa import Answers, QuestionFeatures, Questions, accuracies, frequent_answers

__all__ = ["AnswerEvaluation", "AnswerFigure", "answer", "ask", "best_answers", "evaluate", "learn"]

IMAGES = 256  # whose questions are answered at once
PROTOCOL = (
    "accuracy of the VQA evaluation, mean over questions (one human answer: right or wrong), answers as written; "
    "majority: always the answer that is most frequent among the questions of the row"
)


def learn(session: Session, recipe: Recipe, questions: Questions, name: str, seed: Int) -> Space:
    """See `Library.learn`."""
    store, seed = session.store, check_seed(seed)
    pipeline = as_pipeline(recipe, "answerer").with_seed(seed)
    require(pipeline.parts)
    name = check_name(name)
    if not isinstance(questions, Questions):
        raise DataError(f"learn: expected Questions, as datasets.vqa gives them, got {type(questions).__name__}")
    if store.read_only:
        raise StorageError(f"{store.url} is open for reading only")
    _require_answers(questions)
    questions = _stored(store, questions)
    notes = {"recipe": repr(pipeline), "seed": seed, "questions": questions.name, "count": len(questions)}
    with resumable(session, name, 0, notes, _content(store, pipeline, questions)):
        fitted = pipeline.fit_questions(questions)
        store.put_space(record_of(name, 0, fitted, None, seed))
    return session.space(name, role="answerer")


def answer(
    session: Session, image: Images | None, question: Texts | None, k: Int, name: str | None, item: Int | Ids | None
) -> Answers:
    """See `Library.answer`."""
    most = as_int(k, "k", 1, error=ConfigError)
    space = session.space(name, role="answerer")
    questions = _asked(session.store, image, question, item)
    with session.run():
        return ask(space, questions, most)


def ask(space: Space, questions: Questions, k: int = 5) -> Answers:
    """The k most probable answers to each question, with the attention that was paid on the way.

    Raises DataError where an image cannot be read, a question is blank, or none of its words is known.
    """
    pipeline = space.pipeline
    features = pipeline.question_features(questions)
    tokens = pipeline.encoder.tokens(questions.texts) if pipeline.encoder else None
    unknown = _unknown(space.name, questions, features, tokens) if tokens else []
    texts, probabilities = _best(pipeline, features, k)
    return Answers(texts, probabilities, _attention(pipeline, questions, features, tokens), unknown)


def best_answers(pipeline: Pipeline, questions: Questions) -> list[str]:
    """(n,) the most probable answer to each question; in blocks of bounded memory, each image encoded once."""
    best = np.empty(len(questions), object)
    order = np.argsort(questions.image_of, kind="stable")
    ends = np.searchsorted(questions.image_of[order], np.arange(IMAGES, len(questions.images), IMAGES))
    for rows in current_run().track(np.split(order, ends), "answering questions", len(order), len):
        if len(rows):
            best[rows] = _best(pipeline, pipeline.question_features(questions.take(rows)), 1)[0][:, 0]
    return [str(answer) for answer in best]


def _best(pipeline: Pipeline, features: QuestionFeatures, k: int) -> tuple[NDArray[np.str_], NDArray[np.float32]]:
    """(n, k) answers and their probabilities, ties to the answer that was more frequent in training."""
    answerer = pipeline.answerer
    probabilities = answerer.answer(features)  # (n, a)
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return answerer.answers[order], np.take_along_axis(probabilities, order, axis=1)


def _unknown(name: str, questions: Questions, features: QuestionFeatures, tokens: list[list[str]]) -> list[list[str]]:
    """The words of each question that training never met. Raises DataError where these are all."""
    unknown = [
        [word for word, number in zip(words, row, strict=False) if not number]
        for words, row in zip(tokens, features.questions.values, strict=True)
    ]
    lost = [i for i, words in enumerate(tokens) if len(unknown[i]) == len(words)]
    if lost:
        raise DataError(
            f"none of the words of {named([questions.texts.data[i] for i in lost])} is known: the questions that "
            f"{name!r} learned from have none of them; ask in their words",
            [questions.texts.keys[i] for i in lost],
        )
    return unknown


def _attention(
    pipeline: Pipeline, questions: Questions, features: QuestionFeatures, tokens: list[list[str]] | None
) -> list[tuple[Attention, Attention]]:
    """What was paid to the image and to the words of each question."""
    paid = pipeline.answerer.attention(features)
    if paid is None:
        return []
    images, texts = questions.images, questions.texts
    words = tokens or [[]] * len(questions)
    made = []
    for i, image in enumerate(questions.image_of.tolist()):
        regions = _real(paid[0][i], features.images.mask, image)
        read = _real(paid[1][i], features.questions.mask, i)
        stored = int(images.ids[image]) if images.stored else None
        seen = Attention(IMAGE, regions, images.data[image], (), images.keys[image], stored)
        made.append((seen, Attention(TEXT, read, texts.data[i], tuple(words[i]), texts.keys[i])))
    return made


def _real(weights: NDArray[np.float32], mask: NDArray[np.bool_] | None, row: int) -> NDArray[np.float32]:
    """The weights (steps, t) of what is no padding."""
    return weights if mask is None else weights[:, : int(mask[row].sum())].copy()


def _require_answers(questions: Questions) -> None:
    bare = [key for key, human in zip(questions.texts.keys, questions.answers, strict=True) if not human]
    if not len(questions) or bare:
        told = f"{len(bare)} of {len(questions)} questions have no answer: {named(bare)}" if bare else "no questions"
        raise DataError(f"{told}; give triples of picture, question and answers", bare)


def _contents(images: Items) -> list[str]:
    """The sha256 of each picture. Raises DataError that names all that cannot be read."""
    contents, faults = [], {}
    for key, picture in zip(images.keys, images.data, strict=True):
        try:
            contents.append(content_of(picture))
        except DataError as error:
            faults[key] = str(error)
    if faults:
        raise unreadable(faults)
    return contents


def _stored(store: Store, questions: Questions) -> Questions:
    """The same questions about the library's own pictures, whose features are kept, where it has all of them."""
    images = questions.images
    ids, known = store.match(IMAGE, images.keys)
    if not (ids >= 0).all() or any(content_of(data) != own for data, own in zip(images.data, known, strict=True)):
        return questions
    kept = store.items(ids, IMAGE)
    return Questions(kept, questions.texts, questions.image_of, questions.answers, questions.name, questions.protocol)


def _content(store: Store, pipeline: Pipeline, questions: Questions) -> Iterator[bytes]:
    """What is learned from what, as bytes."""
    images = questions.images
    contents = store.match(IMAGE, images.keys)[1] if images.stored else _contents(images)
    yield repr(pipeline).encode()
    for column in (images.keys, contents, questions.texts.data, questions.answers):
        yield repr(list(column)).encode()
    yield questions.image_of.tobytes()


def _asked(store: Store, image: Any, question: Any, item: Any) -> Questions:
    """The questions of a call of `Library.answer`: one or many pictures, given or stored, and one or many questions."""
    if (image is None) == (item is None):
        raise DataError("answer: give image, or item, the id of a stored picture")
    texts = _texts(question)
    images = _pictures(image) if item is None else _items(store, item)
    sizes = {len(images), len(texts)} - {1}
    if len(sizes) > 1 or 0 in sizes:
        raise DataError(f"answer: {len(images)} pictures and {len(texts)} questions; give as many, or one of either")
    image_of = np.arange(len(texts)) if len(images) == len(texts) else np.zeros(len(texts), np.int64)
    if len(images) > len(texts):
        image_of, texts = np.arange(len(images)), texts.take(np.zeros(len(images), np.int64))
    return Questions(images, texts, image_of)


def _texts(question: Any) -> Items:
    given = list(question) if isinstance(question, (list, tuple)) else [question]
    for place, fault in enumerate(map(fault_of_text, given)):
        if fault:
            raise DataError(f"question {place}: {fault}" if len(given) > 1 else f"question: {fault}")
    return Items(TEXT, given)


def _pictures(image: Any) -> Items:
    given = list(image) if isinstance(image, (list, tuple)) else [image]
    return Items(IMAGE, given, [str(one) if isinstance(one, (str, Path)) else str(i) for i, one in enumerate(given)])


def _items(store: Store, item: Any) -> Items:
    ids = as_ids(item, "item")
    kinds = store.describe(ids)["modality"]
    other = [int(own) for own, kind in zip(ids, kinds, strict=True) if kind != IMAGE]
    if other:
        raise DataError(f"item={other[0]}: no picture of this library has this id")
    return store.items(ids, IMAGE)


@dataclass(frozen=True)
class AnswerFigure:
    """How many questions of one type, or of all, are answered rightly, beside the best that one answer alone can do."""

    type: str  # "all", or a type of the questions
    accuracy: float
    majority: str  # the answer that is most frequent among them,
    majority_accuracy: float  # and how right it is when it is always given
    n_questions: int


@dataclass(frozen=True)
class AnswerEvaluation:
    """Figures of an answerer, and all that is needed to say what they mean."""

    answerer: str
    recipe: str
    fingerprint: str
    seed: int
    questions: str
    protocol: str
    figures: Sequence[AnswerFigure] = ()

    @property
    def accuracy(self) -> float:
        """The mean over all questions."""
        return self.figures[0].accuracy

    @property
    def majority(self) -> float:
        """What the most frequent answer alone gives over all questions."""
        return self.figures[0].majority_accuracy

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The figures as dicts, for tables and JSON."""
        return [asdict(figure) for figure in self.figures]

    def __str__(self) -> str:
        lines = [
            f"{self.recipe} (answerer {self.answerer!r}, seed {self.seed}, {self.fingerprint[:12]})",
            f"{self.questions}; {self.protocol}",
            f"{'questions':16} {'accuracy':>8} {'majority':>8}",
        ]
        for row in self.figures:
            lines.append(
                f"{row.type:16} {row.accuracy:8.4f} {row.majority_accuracy:8.4f}  "
                f"{row.n_questions} questions, most often {row.majority!r}"
            )
        return "\n".join(lines)


def evaluate(session: Session, questions: Questions, name: str | None) -> AnswerEvaluation:
    """See `Library.evaluate_answers`."""
    space = session.space(name, role="answerer")
    if not isinstance(questions, Questions):
        raise DataError(f"evaluate_answers: expected Questions, got {type(questions).__name__}")
    _require_answers(questions)
    questions = _stored(session.store, questions)
    with session.run():
        right = accuracies(best_answers(space.pipeline, questions), questions.answers)  # (n,)
    record = space.record
    made = AnswerEvaluation(
        record.name,
        record.recipe,
        record.fingerprint,
        record.seed or 0,
        questions.protocol or f"{questions.name}: {len(questions):,} questions",
        PROTOCOL,
        tuple(_figures(questions, right)),
    )
    values = ({"accuracy": row.accuracy, "majority": row.majority_accuracy} for row in made.figures)
    rows = zip((f"answers, {row.type}" for row in made.figures), values, strict=True)
    keep(session.store, record.name, record.version, asdict(made), rows)
    return made


def _figures(questions: Questions, right: NDArray[np.float64]) -> Iterator[AnswerFigure]:
    types = np.array(questions.types)
    for kind in ["all", *sorted(set(questions.types))]:
        rows = np.arange(len(questions)) if kind == "all" else np.flatnonzero(types == kind)
        answers = [questions.answers[i] for i in rows.tolist()]
        (majority,) = frequent_answers(answers, 1)
        share = accuracies([majority] * len(rows), answers).mean()
        yield AnswerFigure(kind, float(right[rows].mean()), majority, float(share), len(rows))
