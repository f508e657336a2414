"""Answerers in a library: learnt from questions about pictures, kept in the file, asked, and measured."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from xmr_core.components import Encoder
from xmr_core.errors import ConfigError, DataError, SpaceMismatchError, StateError, StorageError, named
from xmr_core.explain.attention import Attention
from xmr_core.images import unreadable
from xmr_core.library.content import content_of, fault_of_text
from xmr_core.library.run import LibraryRun
from xmr_core.library.spaces import leave_no_empty
from xmr_core.progress import current_run, encode_cached, use_run
from xmr_core.registry import Role, calls, default, make
from xmr_core.store import AnswererRecord, PartRecord, RunRecord, Store
from xmr_core.types import IMAGE, TEXT, Items, as_ids
from xmr_core.vqa import Answerer, Answers, QuestionFeatures, Questions, accuracies, frequent_answers

__all__ = ["AnswerEvaluation", "AnswerFigure", "Learnt", "asked", "evaluate", "learn"]

PICTURES = 256  # pictures whose questions are answered at once
PROTOCOL = (
    "accuracy of the VQA evaluation, mean over questions (one human answer: right or wrong), answers as written; "
    "majority: always the answer that is most frequent among the questions of the row"
)


@dataclass(frozen=True, eq=False, repr=False)
class Learnt:
    """An encoder and an answerer that fit together: what a recipe like `each >> rdan` stands for, and `learn` gives.

    Raises ConfigError, in a sentence, where the answerer does not take what the encoder gives.
    """

    encoder: Encoder
    answerer: Answerer
    name: str = ""
    seed: int = 0

    @staticmethod
    def parse(recipe: str) -> Learnt:
        """The two of a recipe; one that is an answerer alone is given the encoder which that answerer wants, if any.

        Raises ConfigError, UnknownComponentError.
        """
        parts = calls(recipe)
        last: type[Answerer] = default().find("answerer", parts[-1][0])
        if len(parts) == 1 and last.encoder_wanted:
            parts = [*calls(last.encoder_wanted, most=1), *parts]
        if len(parts) != 2:
            raise ConfigError(f"{recipe!r}: expected an encoder and an answerer, like 'each >> {parts[-1][0]}'")
        (name, options), (_, own) = parts
        return Learnt(
            cast(Encoder, make("encoder", name, options)), cast(Answerer, make("answerer", parts[-1][0], own))
        )

    def called(self, name: str, seed: int) -> Learnt:
        """The same under a name, each part that has a `seed` given this one."""
        return Learnt(self.encoder.with_seed(seed), self.answerer.with_seed(seed), name, seed)

    def __post_init__(self) -> None:
        for modality, forms in self.answerer.accepts.items():
            given = self.encoder.forms.get(modality, "nothing")
            if given not in forms:
                raise ConfigError(
                    f"{self.encoder.name} >> {self.answerer.name}: {self.answerer.name} takes "
                    f"{' or '.join(sorted(forms))} for {modality}s, {self.encoder.name} gives {given}"
                )

    @staticmethod
    def load(store: Store, name: str) -> Learnt:
        """The answerer as it was stored. Raises StorageError, UnknownComponentError, StateVersionError, and
        SpaceMismatchError where other weights are installed than it was learnt on."""
        record = store.load_answerer(name)
        made: dict[str, Any] = {}
        for part in record.parts:
            made[part.role] = (
                default().find(cast(Role, part.role), part.name).load(part.options, part.state, part.version)
            )
            if made[part.role].fingerprint() != part.fingerprint:
                raise SpaceMismatchError(
                    f"answerer {name!r}: {part.name} is not what it was learnt with: other weights are installed; "
                    "install those again, or learn again"
                )
        if set(made) != {"encoder", "answerer"}:
            raise StateError(f"answerer {name!r}: its parts are damaged ({', '.join(made) or 'none'}); learn it again")
        return Learnt(made["encoder"], made["answerer"], name, record.seed)

    def record(self) -> AnswererRecord:
        """What a store keeps of it."""
        parts = [
            PartRecord(role, part.name, part.stored.options, part.stored.state, part.stored.version, part.fingerprint())
            for role, part in (("encoder", self.encoder), ("answerer", self.answerer))
        ]
        return AnswererRecord(self.name, repr(self), self.fingerprint(), self.seed, parts=parts)

    def fingerprint(self) -> str:
        """sha256 (hex) over both parts."""
        return hashlib.sha256((self.encoder.fingerprint() + self.answerer.fingerprint()).encode()).hexdigest()

    def __repr__(self) -> str:
        return f"{self.encoder!r} >> {self.answerer!r}"

    def fit(self, questions: Questions) -> Learnt:
        """Both parts fitted: the encoder on pictures and questions, the answerer on what it makes of them."""
        run = current_run()
        run.begin(f"0_{self.encoder.name}")
        encoder = self.encoder.fit(questions.pairs)
        features = Learnt(encoder, self.answerer).features(questions)
        run.begin(f"1_{self.answerer.name}")
        return Learnt(encoder, self.answerer.fit(features), self.name, self.seed)

    def features(self, questions: Questions) -> QuestionFeatures:
        """The questions as the answerer takes them. Raises DataError with the keys of what cannot be read."""
        images, texts = (encode_cached(self.encoder, items) for items in (questions.images, questions.texts))
        return QuestionFeatures(images, texts, questions.image_of, questions.answers)

    def ask(self, questions: Questions, k: int = 5) -> Answers:
        """The k most probable answers to each question, with the attention that was paid on the way.

        Raises DataError where a picture cannot be read, a question is blank, or none of its words is known.
        """
        features = self.features(questions)
        tokens = self.encoder.tokens(questions.texts)
        unknown = self._unknown(questions, features, tokens) if tokens else []
        texts, probabilities = self._best(features, k)
        return Answers(texts, probabilities, self._attention(questions, features, tokens), unknown)

    def best(self, questions: Questions) -> list[str]:
        """(n,) the most probable answer to each question; in blocks of bounded memory, each picture encoded once."""
        best = np.empty(len(questions), object)
        order = np.argsort(questions.image_of, kind="stable")
        ends = np.searchsorted(questions.image_of[order], np.arange(PICTURES, len(questions.images), PICTURES))
        for rows in current_run().track(np.split(order, ends), f"answering, {PICTURES} pictures at a time"):
            if len(rows):
                best[rows] = self._best(self.features(questions.take(rows)), 1)[0][:, 0]
        return [str(answer) for answer in best]

    def _best(self, features: QuestionFeatures, k: int) -> tuple[NDArray[np.str_], NDArray[np.float32]]:
        """(n, k) answers and their probabilities, ties to the answer that was more frequent in training."""
        probabilities = self.answerer.answer(features)  # (n, a)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
        return self.answerer.answers[order], np.take_along_axis(probabilities, order, axis=1)

    def _unknown(self, questions: Questions, features: QuestionFeatures, tokens: list[list[str]]) -> list[list[str]]:
        """The words of each question that training never met. Raises DataError where these are all."""
        unknown = [
            [word for word, number in zip(words, row, strict=False) if not number]
            for words, row in zip(tokens, features.questions.values, strict=True)
        ]
        lost = [i for i, words in enumerate(tokens) if len(unknown[i]) == len(words)]
        if lost:
            raise DataError(
                f"none of the words of {named([questions.texts.data[i] for i in lost])} is known: the questions that "
                f"{self.name or self.answerer.name!r} was learnt from have none of them; ask in their words",
                [questions.texts.keys[i] for i in lost],
            )
        return unknown

    def _attention(
        self, questions: Questions, features: QuestionFeatures, tokens: list[list[str]] | None
    ) -> list[tuple[Attention, Attention]]:
        """What was paid to the picture and to the words of each question."""
        paid = self.answerer.attention(features)
        if paid is None:
            return []
        images, texts = questions.images, questions.texts
        words = tokens or [[]] * len(questions)
        made = []
        for i, picture in enumerate(questions.image_of.tolist()):
            regions, read = (
                _real(paid[0][i], features.images.mask, picture),
                _real(paid[1][i], features.questions.mask, i),
            )
            stored = int(images.ids[picture]) if images.stored else None
            seen = Attention(IMAGE, regions, images.data[picture], (), images.keys[picture], stored)
            made.append((seen, Attention(TEXT, read, texts.data[i], tuple(words[i]), texts.keys[i])))
        return made


def _real(weights: NDArray[np.float32], mask: NDArray[np.bool_] | None, row: int) -> NDArray[np.float32]:
    """The weights (steps, t) of what is no padding."""
    return weights if mask is None else weights[:, : int(mask[row].sum())].copy()


def learn(store: Store, learner: Learnt, questions: Questions, progress: bool | None) -> Learnt:
    """See `Library.learn`."""
    if not isinstance(questions, Questions):
        raise DataError(f"learn: expected Questions, as datasets.vqa gives them, got {type(questions).__name__}")
    if store.read_only:
        raise StorageError(f"{store.url} is open for reading only")
    _require_answers(questions)
    questions = _stored(store, questions)
    folder = _checkpoints(store, learner, questions)
    notes = {"recipe": repr(learner), "seed": learner.seed, "questions": questions.name, "count": len(questions)}
    with LibraryRun(store, learner.name, 0, notes, progress, folder) as run, use_run(run):
        fitted = learner.fit(questions)
        store.put_answerer(fitted.record())
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
        leave_no_empty(folder.parent)
    return fitted


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


def _checkpoints(store: Store, learner: Learnt, questions: Questions) -> Path | None:
    if store.folder is None:
        return None
    images = questions.images
    contents = store.match(IMAGE, images.keys)[1] if images.stored else _contents(images)
    digest = hashlib.sha256(repr(learner).encode())
    for column in (images.keys, contents, questions.texts.data, questions.answers):
        digest.update(repr(list(column)).encode())
    digest.update(questions.image_of.tobytes())
    return store.folder / "checkpoints" / digest.hexdigest()[:16]


def asked(store: Store, image: Any, question: Any, item: Any) -> Questions:
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


def evaluate(store: Store, learnt: Learnt, questions: Questions) -> AnswerEvaluation:
    """See `Library.evaluate_answers`."""
    if not isinstance(questions, Questions):
        raise DataError(f"evaluate_answers: expected Questions, got {type(questions).__name__}")
    _require_answers(questions)
    questions = _stored(store, questions)
    right = accuracies(learnt.best(questions), questions.answers)  # (n,)
    made = AnswerEvaluation(
        learnt.name,
        repr(learnt),
        learnt.fingerprint(),
        learnt.seed,
        questions.protocol or f"{questions.name}: {len(questions):,} questions",
        PROTOCOL,
        tuple(_figures(questions, right)),
    )
    if not store.read_only:
        _keep(store, made)
    return made


def _figures(questions: Questions, right: NDArray[np.float64]) -> Iterator[AnswerFigure]:
    types = np.array(questions.types)
    for kind in ["all", *sorted(set(questions.types))]:
        rows = np.arange(len(questions)) if kind == "all" else np.flatnonzero(types == kind)
        answers = [questions.answers[i] for i in rows.tolist()]
        (majority,) = frequent_answers(answers, 1)
        share = accuracies([majority] * len(rows), answers).mean()
        yield AnswerFigure(kind, float(right[rows].mean()), majority, float(share), len(rows))


def _keep(store: Store, made: AnswerEvaluation) -> None:
    run = uuid.uuid4().hex[:12]
    notes = {key: value for key, value in asdict(made).items() if key not in ("figures", "answerer")}
    for row in made.figures:
        figures = {"accuracy": row.accuracy, "majority": row.majority_accuracy}
        store.put_run(RunRecord(run, made.answerer, 0, f"answers, {row.type}", 0, figures, notes))
