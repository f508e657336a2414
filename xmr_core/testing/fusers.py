"""The laws of a Fuser: features to one embedding an item, whichever modality is at hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from xmr_core.components import Form, Fuser
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
from xmr_core.types import IMAGE, METRICS, TEXT, FeaturePairs, Features

__all__ = ["FuserCase", "FuserLaws"]

FEW = 8  # items that are fused; all pairs are fitted on


class FuserCase(Case):
    """A fuser, features of pairs to fit it on, and a few of them to fuse."""

    role = "fuser"

    def __init__(self, component: Fuser, pairs: FeaturePairs | None = None) -> None:
        self.component: Fuser = component
        self.given = pairs

    @cached_property
    def pairs(self) -> FeaturePairs:
        """What the fuser is fitted on: vectors where it takes them, regions and tokens where it does not."""
        if self.given is not None:
            return self.given
        accepts = self.component.accepts
        images = _first(("vector", "regions", "tokens"), accepts)
        texts = _first(("vector", "tokens", "regions"), accepts)
        return samples.feature_pairs(images, texts)

    @cached_property
    def few(self) -> dict[str, Features]:
        """A few items' features of each modality."""
        return {side.modality: _rows(side, slice(0, FEW)) for side in (self.pairs.images, self.pairs.texts)}

    def fit(self, component: Fuser) -> Fuser:
        return component.fit(self.pairs)

    def answers(self, component: Fuser) -> Answers:
        return {modality: component.fuse(features).values for modality, features in self.few.items()}

    def inputs(self) -> Iterator[tuple[str, NDArray[Any]]]:
        yield from feature_arrays(self.pairs.images, self.pairs.texts)
        yield "links", self.pairs.links
        if self.pairs.labels is not None:
            yield "labels", self.pairs.labels

    def save(self, folder: Path) -> None:
        for modality, features in self.few.items():
            mask = {} if features.mask is None else {"mask": features.mask}
            metric = np.array(features.metric or "")
            write_arrays(folder / f"{modality}.npz", {"values": features.values, "metric": metric, **mask})

    @classmethod
    def load(cls, component: Fuser, folder: Path) -> Self:
        case = cls(component)
        case.few = {}
        for modality in (IMAGE, TEXT):
            arrays = read_arrays(folder / f"{modality}.npz")
            metric: Any = str(arrays["metric"]) or None
            case.few[modality] = Features(modality, arrays["values"], arrays.get("mask"), metric)
        return case


class FuserLaws(Laws):
    """The laws of a Fuser."""

    case: ClassVar[FuserCase]

    def test_it_declares_what_it_takes_and_gives(self) -> None:
        component = self.case.component
        known = set(get_args(Form))
        assert component.accepts and set(component.accepts) <= known, f"accepts: {set(component.accepts)} of {known}"
        assert component.metric in METRICS, f"metric: expected one of {METRICS}, got {component.metric!r}"

    def test_embeddings_are_a_row_an_item_under_its_metric(self) -> None:
        for modality, features in self.case.few.items():
            embeddings = self.case.fitted.fuse(features)
            assert len(embeddings) == len(features), f"{len(features)} {modality}s gave {len(embeddings)} rows"
            assert embeddings.metric == self.case.fitted.metric, (
                f"the fuser's metric is {self.case.fitted.metric}, its embeddings have {embeddings.metric}"
            )

    def test_both_modalities_meet_in_one_space(self) -> None:
        widths = {modality: values.shape[1] for modality, values in self.case.answered.items()}
        assert len(set(widths.values())) == 1, f"pictures and sentences must have one width to be compared: {widths}"

    def test_one_modality_is_enough(self) -> None:
        for modality in self.case.few:
            fresh = self.case.fitted.with_state(self.case.fitted.state)  # has seen nothing of the other one
            alone = {modality: fresh.fuse(self.case.few[modality]).values}
            assert_same(alone, {modality: self.case.answered[modality]}, f"{modality}s without the other modality")

    def test_a_row_does_not_depend_on_its_batch(self) -> None:
        for modality, features in self.case.few.items():
            for i in range(len(features)):
                alone = self.case.fitted.fuse(_rows(features, slice(i, i + 1))).values
                whole = self.case.answered[modality][i : i + 1]
                assert_same({"row": alone}, {"row": whole}, f"{modality} {i}, fused alone")

    def test_padding_changes_nothing(self) -> None:
        padded = {m: _padded(features, 3) for m, features in self.case.few.items() if features.mask is not None}
        if not padded:
            pytest.skip(f"{self.case.component.name} takes vectors, which have no padding")
        for modality, features in padded.items():
            longer = {modality: self.case.fitted.fuse(features).values}
            assert_same(longer, {modality: self.case.answered[modality]}, "with three more padded tokens")

    def test_nothing_in_gives_nothing_out(self) -> None:
        for modality, features in self.case.few.items():
            embeddings = self.case.fitted.fuse(_rows(features, slice(0, 0)))
            assert len(embeddings) == 0, f"no {modality}s gave {len(embeddings)} rows"

    def test_non_contiguous_features_are_taken(self) -> None:
        for modality, features in self.case.few.items():
            strided = replace(features, values=np.repeat(features.values, 2, axis=-1)[..., ::2])
            assert_same(
                {modality: self.case.fitted.fuse(strided).values},
                {modality: self.case.answered[modality]},
                "from a non-contiguous array",
            )

    def test_regions_in_half_precision_are_taken(self) -> None:
        halves = {m: replace(f, values=f.values.astype(np.float16)) for m, f in self.case.few.items() if _real(f)}
        if "regions" not in self.case.component.accepts or not halves:
            pytest.skip(f"{self.case.component.name} takes no regions")
        for modality, features in halves.items():
            single = replace(features, values=features.values.astype(np.float32))
            want = {modality: self.case.fitted.fuse(single).values}
            assert_same({modality: self.case.fitted.fuse(features).values}, want, "the same numbers in float16")

    def test_nan_is_refused(self) -> None:
        for modality, features in self.case.few.items():
            if _real(features):
                values = features.values.copy()
                values[0, 0, 0] = np.nan
                with refuses(DataError, f"NaN in the features of {modality}s"):
                    self.case.fitted.fuse(replace(features, values=values))

    def test_another_width_than_it_was_fitted_on_is_refused(self) -> None:
        if not self.case.component.needs_fit:
            pytest.skip(f"{self.case.component.name} needs no fit and takes any width")
        for modality, features in self.case.few.items():
            if features.values.ndim == 3:
                wider = np.concatenate([features.values] * 2, axis=2)
                with refuses(DataError, f"{modality}s of twice the width"):
                    self.case.fitted.fuse(replace(features, values=wider))

    def test_attention_sums_to_one_and_leaves_padding_out(self) -> None:
        for modality, features in self.case.few.items():
            weights = self.case.fitted.attention(features)
            if weights is None:
                pytest.skip(f"{self.case.component.name} pays no attention to {modality}s")
            n, t = features.values.shape[:2]
            assert weights.ndim == 3 and (weights.shape[0], weights.shape[2]) == (n, t), (
                f"attention: expected ({n}, steps, {t}), got {weights.shape}"
            )
            assert np.allclose(weights.sum(axis=2), 1, atol=1e-4), "attention of an item does not sum to 1"
            if features.mask is not None:
                assert not (weights * ~features.mask[:, None]).any(), "padding gets attention"


def _first(wanted: tuple[Form, ...], accepts: frozenset[str]) -> Form:
    return next((form for form in wanted if form in accepts), wanted[0])


def _real(features: Features) -> bool:
    """True where tokens are vectors, not numbers of words."""
    return features.values.dtype.kind == "f"


def _rows(features: Features, rows: slice) -> Features:
    return replace(features, values=features.values[rows], mask=None if features.mask is None else features.mask[rows])


def _padded(features: Features, more: int) -> Features:
    assert features.mask is not None
    width = [(0, 0), (0, more)] + [(0, 0)] * (features.values.ndim - 2)
    return replace(features, values=np.pad(features.values, width), mask=np.pad(features.mask, ((0, 0), (0, more))))
