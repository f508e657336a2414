"""The laws of an Encoder: images and texts to features, a row each, whatever the company."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from xmr_core.components import Encoder, Form
from xmr_core.errors import DataError
from xmr_core.testing import samples
from xmr_core.testing.contract import Answers, Case, Laws, assert_same, read_arrays, refuses, write_arrays
from xmr_core.types import IMAGE, METRICS, TEXT, Features, Items, Pairs

__all__ = ["EncoderCase", "EncoderLaws"]

FEW = 6  # items that are encoded; all pairs are fitted on


class EncoderCase(Case):
    """An encoder, pairs to fit it on, and a few of their items to encode."""

    role = "encoder"

    def __init__(self, component: Encoder, pairs: Pairs | None = None) -> None:
        self.component: Encoder = component
        self.given = pairs

    @cached_property
    def pairs(self) -> Pairs:
        """What the encoder is fitted on."""
        return samples.pairs() if self.given is None else self.given

    @cached_property
    def few(self) -> dict[str, Items]:
        """A few items of each modality that the encoder takes."""
        sides = {IMAGE: self.pairs.images, TEXT: self.pairs.texts}
        return {
            modality: sides[modality].take(np.arange(min(FEW, len(sides[modality]))))
            for modality in self.component.forms
        }

    def fit(self, component: Encoder) -> Encoder:
        return component.fit(self.pairs)

    def answers(self, component: Encoder) -> Answers:
        return {modality: _real(component.encode(items)) for modality, items in self.few.items()}

    def inputs(self) -> Iterator[tuple[str, NDArray[Any]]]:
        for items in (self.pairs.images, self.pairs.texts):
            for key, datum in zip(items.keys, items.data, strict=True):
                yield f"{items.modality} {key}", np.asarray(datum)
            if items.labels is not None:
                yield f"labels of {items.modality}s", items.labels
        yield "links", self.pairs.links

    def save(self, folder: Path) -> None:
        for modality, items in self.few.items():
            if isinstance(items.vectors, Mapping) and items.vectors:
                named: dict[str, NDArray[Any]] = {name: np.asarray(own) for name, own in items.vectors.items()}
                write_arrays(folder / f"{modality}.named.npz", named)
            if _ready_made(items):
                write_arrays(folder / f"{modality}.npz", {"vectors": np.asarray(items.data)})
            else:
                data = [_as_text(datum, folder / f"{modality}{i}.png") for i, datum in enumerate(items.data)]
                (folder / f"{modality}.json").write_text(json.dumps(data))

    @classmethod
    def load(cls, component: Encoder, folder: Path) -> Self:
        case = cls(component)
        case.few = {
            modality: Items(modality, _data(folder, modality), vectors=_named(folder, modality))
            for modality in component.forms
        }
        return case


class EncoderLaws(Laws):
    """The laws of an Encoder."""

    case: ClassVar[EncoderCase]

    def test_it_declares_what_it_gives(self) -> None:
        forms, metric = dict(self.case.component.forms), self.case.component.metric
        assert forms and set(forms) <= {IMAGE, TEXT}, f"forms: image and text are known, got {forms}"
        assert set(forms.values()) <= set(get_args(Form)), f"forms: expected {get_args(Form)}, got {forms}"
        assert metric in METRICS, f"metric: expected one of {METRICS}, got {metric!r}"

    def test_features_have_the_form_it_declares(self) -> None:
        for modality, items in self.case.few.items():
            features, form = self.case.fitted.encode(items), self.case.component.forms[modality]
            assert features.modality == modality, f"{modality}s came back as {features.modality}s"
            assert len(features) == len(items), f"{len(items)} {modality}s gave {len(features)} rows"
            types = {"vector": ["float32"], "regions": ["float32", "float16"], "tokens": ["int32"]}[form]
            assert features.values.dtype.name in types, f"{form} of {modality}s: got {features.values.dtype}"
            if form == "vector":
                assert features.values.shape[1] == 1, f"a vector is one token an item, got {features.values.shape[1]}"
                assert features.mask is None or features.mask.all(), "a vector needs no mask"

    def test_regions_that_are_kept_are_as_many_for_every_item(self) -> None:
        for modality, items in self.case.few.items():
            part = self.case.fitted.part(modality)
            if part.cacheable and part.forms[modality] == "regions":
                masks = [part.encode(items.take(np.array([i]))).mask for i in range(len(items))]
                assert all(mask is None for mask in masks), f"regions of {modality}s are cacheable and have a mask"
                return
        pytest.skip(f"no regions of {self.case.component.name} are kept")

    def test_words_are_told_one_a_token(self) -> None:
        for modality, items in self.case.few.items():
            told = self.case.fitted.tokens(items)
            if told is not None:
                features = self.case.fitted.encode(items)
                mask = np.ones(features.values.shape[:2], bool) if features.mask is None else features.mask
                counts = [[len(words) for words in told], mask.sum(axis=1).tolist()]
                assert counts[0] == counts[1], f"{modality}s have {counts[0]} words and {counts[1]} tokens"
                return
        pytest.skip(f"{self.case.component.name} gives no words")

    def test_features_are_finite(self) -> None:
        for modality, values in self.case.answered.items():
            assert np.isfinite(values).all(), f"features of {modality}s hold NaN or infinity"

    def test_a_row_does_not_depend_on_its_batch(self) -> None:
        for items in self.case.few.values():
            whole = self.case.fitted.encode(items)
            for i in range(len(items)):
                alone = self.case.fitted.encode(items.take(np.array([i])))
                assert_same({"row": _real(alone)}, {"row": _real(whole, i)}, f"{items.modality} {i}, encoded alone")

    def test_rows_come_in_the_order_of_the_items(self) -> None:
        for items in self.case.few.values():
            whole = self.case.fitted.encode(items)
            backwards = self.case.fitted.encode(items.take(np.arange(len(items))[::-1]))
            for i in range(len(items)):
                row = {"row": _real(backwards, len(items) - 1 - i)}
                assert_same(row, {"row": _real(whole, i)}, f"{items.modality} {i}, encoded in another order")

    def test_nothing_in_gives_nothing_out(self) -> None:
        for modality, items in self.case.few.items():
            features = self.case.fitted.encode(items.take(np.arange(0)))
            assert len(features) == 0, f"no {modality}s gave {len(features)} rows"

    def test_another_modality_is_refused(self) -> None:
        with refuses(DataError, "a modality that it does not take"):
            self.case.fitted.encode(Items("sound", ["hark"]))

    def test_a_picture_is_the_same_as_path_bytes_array_or_image(self, tmp_path: Path) -> None:
        want = self.case.fitted.encode(self._pictures([_square()]))
        for what, datum in _ways_to_give(_square(), tmp_path / "square.png").items():
            got = self.case.fitted.encode(self._pictures([datum]))
            assert_same({"features": _real(got)}, {"features": _real(want)}, f"an image given as {what}")

    def test_a_picture_may_have_any_mode_and_size(self) -> None:
        from PIL import Image

        picture = Image.fromarray(_square())
        odd = [picture.convert("L"), picture.convert("RGBA"), picture.convert("P"), picture.resize((300, 17))]
        features = self.case.fitted.encode(self._pictures(odd))
        assert np.isfinite(_real(features)).all(), "grey, transparent, palette or odd-sized images gave NaN"

    def test_unreadable_pictures_are_named(self) -> None:
        good, whole = _square(), _as_png(_square())
        items = self._pictures([good, whole[: len(whole) // 2], good, b"no picture at all"])
        with refuses(DataError, "a truncated image among good ones") as raised:
            self.case.fitted.encode(items)
        self._names(raised[0], [items.keys[1], items.keys[3]])

    def test_empty_sentences_are_named(self) -> None:
        if _takes_vectors(self._few(TEXT)):
            pytest.skip("it takes ready-made vectors")
        items = Items(TEXT, ["a red square", "", " \n"], keys=["good", "empty", "blank"])
        with refuses(DataError, "an empty text among good ones") as raised:
            self.case.fitted.encode(items)
        self._names(raised[0], ["empty", "blank"])

    def test_unknown_words_are_no_error(self) -> None:
        if _takes_vectors(self._few(TEXT)):
            pytest.skip("it takes ready-made vectors")
        features = self.case.fitted.encode(Items(TEXT, ["qzxv wvwq", "ὕδωρ 水 💧"]))
        assert np.isfinite(_real(features)).all(), "texts of unknown words gave NaN"

    def test_nan_is_refused(self) -> None:
        for modality, items in self.case.few.items():
            if _ready_made(items):
                values: Any = np.array(items.data)
                values[1, 0] = np.nan
                with refuses(DataError, f"NaN in the vector of a {modality}"):
                    self.case.fitted.encode(Items(modality, values))
                return
        pytest.skip("it takes no ready-made vectors")

    def _few(self, modality: str) -> Items:
        if modality not in self.case.few:
            pytest.skip(f"{self.case.component.name} takes no {modality}s")
        return self.case.few[modality]

    def _pictures(self, data: Sequence[object]) -> Items:
        if _takes_vectors(self._few(IMAGE)):
            pytest.skip("it takes ready-made vectors")
        return Items(IMAGE, data, keys=[f"picture {i}" for i in range(len(data))])

    @staticmethod
    def _names(error: Exception, keys: list[str]) -> None:
        named = getattr(error, "keys", ())
        assert list(named) == keys, f"DataError.keys: expected {keys}, got {list(named)}"
        for key in keys:
            assert key in str(error), f"the message does not name {key!r}: {error}"


def _real(features: Features, row: int | None = None) -> NDArray[Any]:
    """The real tokens of all items, or of one, a row each: padding is nobody's business."""
    mask = np.ones(features.values.shape[:2], bool) if features.mask is None else features.mask
    rows = slice(None) if row is None else slice(row, row + 1)
    real: NDArray[Any] = features.values[rows][mask[rows]]
    return real


def _ready_made(items: Items) -> bool:
    """True where the items are vectors that were made elsewhere."""
    return isinstance(items.data, np.ndarray) and items.data.dtype.kind == "f"


def _takes_vectors(items: Items) -> bool:
    """True where the items are vectors, or have some by name: what else they hold is not looked at."""
    return _ready_made(items) or bool(items.vectors)


def _square() -> NDArray[np.uint8]:
    return samples.picture("square", "red", np.random.default_rng(0))


def _as_png(picture: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return file.getvalue()


def _ways_to_give(picture: NDArray[np.uint8], file: Path) -> dict[str, Any]:
    from PIL import Image

    file.write_bytes(_as_png(picture))
    return {"a path": file, "a str": str(file), "bytes": file.read_bytes(), "an image": Image.fromarray(picture)}


def _as_text(datum: object, file: Path) -> str:
    """A text or a path as it is; any other image as the path of a file that holds it."""
    if isinstance(datum, str | Path):
        return str(datum)
    file.write_bytes(datum if isinstance(datum, bytes) else _as_png(np.asarray(datum)))
    return str(file)


def _named(folder: Path, modality: str) -> dict[str, Any]:
    """The vectors that items have by name."""
    file = folder / f"{modality}.named.npz"
    return dict(read_arrays(file)) if file.exists() else {}


def _data(folder: Path, modality: str) -> Any:
    ready_made = folder / f"{modality}.npz"
    if ready_made.exists():
        return read_arrays(ready_made)["vectors"]
    return json.loads((folder / f"{modality}.json").read_text())
