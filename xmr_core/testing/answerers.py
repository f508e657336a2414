"""The laws of an Answerer: features of pictures and questions to the probabilities of answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from xmr_core.components import Form
from xmr_core.errors import DataError
from xmr_core.testing import samples
from xmr_core.testing.contract import (
    Answers,
    Case,
    Laws,
    assert_same,
    feature_arrays,
    read_arrays,
    refuses,
    write_arrays,
)
from xmr_core.types import IMAGE, TEXT, Features
from xmr_core.vqa import Answerer, QuestionFeatures

__all__ = ["AnswererCase", "AnswererLaws"]

FEW = 12  # questions that are asked; all are learnt from


class AnswererCase(Case):
    """An answerer, questions to fit it on, and a few of them to ask."""

    role = "answerer"

    def __init__(self, component: Answerer, questions: QuestionFeatures | None = None) -> None:
        self.component: Answerer = component
        self.given = questions

    @cached_property
    def questions(self) -> QuestionFeatures:
        """What the answerer is fitted on: regions and words where it takes them, else vectors."""
        if self.given is not None:
            return self.given
        accepts = self.component.accepts
        images = _first(("regions", "vector", "tokens"), accepts.get(IMAGE, frozenset()))
        texts = _first(("tokens", "vector", "regions"), accepts.get(TEXT, frozenset()))
        return samples.question_features(images, texts)

    @cached_property
    def few(self) -> QuestionFeatures:
        """A few questions, without their answers."""
        return replace(self.questions.take(np.arange(FEW)), answers=())

    def fit(self, component: Answerer) -> Answerer:
        return component.fit(self.questions)

    def answers(self, component: Answerer) -> Answers:
        return {"probabilities": component.answer(self.few)}

    def inputs(self) -> Iterator[tuple[str, NDArray[Any]]]:
        yield from feature_arrays(self.questions.images, self.questions.questions)
        yield "image_of", self.questions.image_of

    def save(self, folder: Path) -> None:
        for features in (self.few.images, self.few.questions):
            mask = {} if features.mask is None else {"mask": features.mask}
            write_arrays(folder / f"{features.modality}.npz", {"values": features.values, **mask})
        write_arrays(folder / "questions.npz", {"image_of": self.few.image_of})

    @classmethod
    def load(cls, component: Answerer, folder: Path) -> Self:
        case = cls(component)
        arrays = {name: read_arrays(folder / f"{name}.npz") for name in (IMAGE, TEXT, "questions")}
        images, texts = (Features(side, arrays[side]["values"], arrays[side].get("mask")) for side in (IMAGE, TEXT))
        case.few = QuestionFeatures(images, texts, arrays["questions"]["image_of"])
        return case


class AnswererLaws(Laws):
    """The laws of an Answerer."""

    case: ClassVar[AnswererCase]

    def test_it_declares_what_it_takes(self) -> None:
        accepts = self.case.component.accepts
        assert set(accepts) == {IMAGE, TEXT}, f"accepts: forms of {IMAGE}s and {TEXT}s are wanted, got {set(accepts)}"
        for modality, forms in accepts.items():
            known = set(get_args(Form))
            assert forms and set(forms) <= known, f"accepts[{modality!r}]: {set(forms)} of {known}"

    def test_its_answers_are_different_texts(self) -> None:
        answers = self.case.fitted.answers
        assert answers.ndim == 1 and answers.dtype.kind == "U", f"answers: expected (a,) str, got {answers.dtype}"
        assert len(set(answers.tolist())) == len(answers), "answers: one is there twice"

    def test_probabilities_are_a_row_a_question_and_sum_to_one(self) -> None:
        probabilities = self.case.answered["probabilities"]
        want = (len(self.case.few), len(self.case.fitted.answers))
        assert probabilities.shape == want, f"expected {want}, got {probabilities.shape}"
        assert probabilities.dtype == np.float32, f"expected float32, got {probabilities.dtype}"
        assert probabilities.min() >= 0 and np.allclose(probabilities.sum(axis=1), 1, atol=1e-4), (
            "probabilities of a question are 0 or more and sum to 1"
        )

    def test_a_row_does_not_depend_on_its_batch(self) -> None:
        whole = self.case.answered["probabilities"]
        for i in range(len(self.case.few)):
            alone = self.case.fitted.answer(self.case.few.take(np.array([i])))
            assert_same({"row": alone}, {"row": whole[[i]]}, f"question {i}, asked alone")

    def test_the_order_of_questions_changes_nothing(self) -> None:
        order = np.random.default_rng(0).permutation(len(self.case.few))
        shuffled = self.case.fitted.answer(self.case.few.take(order))
        assert_same({"rows": shuffled}, {"rows": self.case.answered["probabilities"][order]}, "in another order")

    def test_padding_changes_nothing(self) -> None:
        few = self.case.few
        padded = replace(few, images=_padded(few.images), questions=_padded(few.questions))
        if (padded.images, padded.questions) == (few.images, few.questions):
            pytest.skip(f"{self.case.component.name} takes vectors, which have no padding")
        assert_same({"probabilities": self.case.fitted.answer(padded)}, self.case.answered, "with more padding")

    def test_nothing_asked_gives_nothing(self) -> None:
        none = self.case.fitted.answer(self.case.few.take(np.arange(0)))
        assert none.shape == (0, len(self.case.fitted.answers)), f"no questions gave {none.shape}"

    def test_regions_of_another_width_are_refused(self) -> None:
        few = self.case.few
        wider = replace(few.images, values=np.concatenate([few.images.values] * 2, axis=2))
        with refuses(DataError, "pictures of twice the width"):
            self.case.fitted.answer(replace(few, images=wider))

    def test_questions_without_answers_teach_nothing(self) -> None:
        if not self.case.component.needs_fit:
            pytest.skip(f"{self.case.component.name} needs no fit")
        with refuses(DataError, "questions without answers to learn from"):
            self.case.component.fit(replace(self.case.questions, answers=()))

    def test_attention_sums_to_one_and_leaves_padding_out(self) -> None:
        paid = self.case.fitted.attention(self.case.few)
        if paid is None:
            pytest.skip(f"{self.case.component.name} pays no attention")
        few = self.case.few
        image_mask = None if few.images.mask is None else few.images.mask[few.image_of]
        sides = ((few.images, image_mask), (few.questions, few.questions.mask))
        for weights, (features, mask) in zip(paid, sides, strict=True):
            n, t = len(few), features.values.shape[1]
            assert weights.ndim == 3 and (weights.shape[0], weights.shape[2]) == (n, t), (
                f"attention to {features.modality}s: expected ({n}, steps, {t}), got {weights.shape}"
            )
            assert np.allclose(weights.sum(axis=2), 1, atol=1e-4), f"attention to {features.modality}s sums not to 1"
            assert mask is None or not (weights * ~mask[:, None]).any(), "padding gets attention"


def _first(wanted: tuple[Form, ...], accepts: frozenset[Form]) -> Form:
    return next((form for form in wanted if form in accepts), wanted[0])


def _padded(features: Features, more: int = 3) -> Features:
    """The same with padded tokens behind; as it is where there is no mask."""
    if features.mask is None:
        return features
    width = [(0, 0), (0, more)] + [(0, 0)] * (features.values.ndim - 2)
    return replace(features, values=np.pad(features.values, width), mask=np.pad(features.mask, ((0, 0), (0, more))))
