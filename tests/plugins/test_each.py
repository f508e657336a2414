"""One encoder a modality, as one: the features of the parts, cached where theirs are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import xmr_core as xmr
from xmr_core.progress import Run, use_run
from xmr_core.testing import conformance
from xmr_core.testing import pairs as shapes
from xmr_each import Each
from xmr_words import Bow

pytest.importorskip("efficientnet_lite_pytorch")

TestEach = conformance("encoder", "each", config={"text": "words(min_count=1)"})


def test_features_are_those_of_the_parts() -> None:
    pairs = shapes(8)
    each = Each(image="lite0", text="bow(min_count=2)").fit(pairs)
    bow = Bow(min_count=2).fit(pairs)
    assert each.forms == {"image": "vector", "text": "vector"}
    np.testing.assert_array_equal(each.encode(pairs.texts).values, bow.encode(pairs.texts).values)
    assert sorted(each.state) == ["text/idf", "text/splitter", "text/words"]


def test_forms_and_words_are_those_of_the_parts() -> None:
    pairs = shapes(8)
    each = Each(text="words(min_count=1)").fit(pairs)
    assert each.forms == {"image": "regions", "text": "tokens"}
    assert each.tokens(pairs.texts.take(np.array([0]))) == [["a", "red", "square", "on", "a", "dark", "ground"]]
    assert each.tokens(pairs.images) is None


def test_the_fingerprint_knows_what_the_parts_learnt() -> None:
    one, two = (Each(image="lite0", text="bow").fit(shapes(n)) for n in (8, 20))
    assert one.fingerprint() != two.fingerprint() != Each(image="lite0", text="bow").fingerprint()


def test_a_part_must_take_its_modality() -> None:
    with pytest.raises(xmr.ConfigError, match="text='lite0': must be an encoder that gives one vector of each text or"):
        Each(text="lite0")


def test_before_it_is_fitted_it_says_so() -> None:
    with pytest.raises(xmr.NotFittedError, match="each is not fitted"):
        Each(image="lite0", text="bow").encode(xmr.Items(xmr.TEXT, ["a"]))


def test_a_part_that_was_killed_finds_its_own_checkpoint() -> None:
    class Parts(Run):
        begun: tuple[str, ...] = ()

        def begin(self, part: str) -> None:
            self.begun += (part,)

    with use_run(Parts()) as run:
        Each(image="lite0", text="bow").fit(shapes(8))
    assert run.begun == ("0_each_image", "0_each_text", "0_each")  # type: ignore[attr-defined]


@pytest.mark.usefixtures("toy")
def test_parts_are_cached_by_the_library(tmp_path: Path, pairs: xmr.Pairs) -> None:
    from xmr_toy import Costly

    with xmr.open(tmp_path / "each.duckdb", progress=False) as db:
        db.add(pairs)
        before = Costly.encoded
        db.fit("each(image='costly', text='costly') >> flat", name="first")
        db.fit("each(image='costly', text='costly') >> flat", name="second")
    assert Costly.encoded - before == 12
