"""Recipes: parsed, never evaluated; printed back; their parts checked against each other."""

from __future__ import annotations

import pytest

import xmr_core as xmr
from xmr_core.recipes import calls

pytestmark = pytest.mark.usefixtures("toy")


@pytest.mark.parametrize(
    "recipe",
    [
        "toy >> flat",
        "toy >> sign >> hamming",
        "toy >> identity(metric='l2') >> sign >> hamming",
        "mortal(epochs=2, grave='a >> b') >> flat",
        "sign >> hamming",
        "hamming",
    ],
)
def test_a_pipeline_prints_the_recipe_it_was_made_from(recipe: str) -> None:
    pipeline = xmr.Pipeline.parse(recipe)
    assert repr(xmr.Pipeline.parse(repr(pipeline))) == repr(pipeline)
    assert [part.name for part in pipeline.parts] == [name for name, _ in calls(recipe)]


def test_options_are_literals() -> None:
    assert calls("a(x=1, y='s', z=(1, 2), u=None, v=-0.5) >> b") == [
        ("a", {"x": 1, "y": "s", "z": (1, 2), "u": None, "v": -0.5}),
        ("b", {}),
    ]


@pytest.mark.parametrize(
    "recipe",
    ["", "a >>", "a + b", "a(1)", "a(x=open('f'))", "a(**{})", "a.b", "a; b", "a(x=1", "lambda: 0"],
)
def test_anything_else_is_refused_as_a_recipe(recipe: str) -> None:
    with pytest.raises(xmr.ConfigError):
        calls(recipe)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("toy >> pq(bytes='8')", "bytes='8': must be int"),
        ("toy >> pq(bytes=True)", "bytes=True: must be int"),
        ("toy >> pq(bytes=8.0)", "bytes=8.0: must be int"),
        ("toy >> hnsw(m=None)", "m=None: must be int"),
        ("mortal(grave=3) >> flat", "grave=3: must be str"),
    ],
)
def test_an_option_of_another_type_is_refused(recipe: str, message: str) -> None:
    with pytest.raises(xmr.ConfigError, match=message):
        xmr.Pipeline.parse(recipe)


def test_pictures_and_texts_of_two_widths_are_not_compared(pairs: xmr.Pairs) -> None:
    with pytest.raises(xmr.ConfigError, match="images have 8 dimensions, texts have 7 dimensions; to compare them"):
        xmr.Pipeline.parse("each(image='toy', text='bow') >> flat").fit(pairs)


def test_the_seed_reaches_every_part_that_has_one() -> None:
    pipeline = xmr.Pipeline.parse("mortal >> flat").with_seed(7)
    assert pipeline.encoder is not None
    assert pipeline.encoder.config.seed == 7


def test_equal_parts_have_equal_fingerprints_and_others_do_not() -> None:
    prints = [xmr.Pipeline.parse(recipe).fingerprint() for recipe in ("toy >> flat", "toy >> flat", "costly >> flat")]
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize("indexer", ["flat", "pq", "hnsw", "kdtree", "lsh"])
def test_inner_products_are_searched_by_all_that_can_keep_their_order(indexer: str) -> None:
    assert xmr.Pipeline.parse(f"gaze >> {indexer}").metric == "ip"


def test_where_they_cannot_be_kept_the_error_says_what_to_put_between() -> None:
    message = r"lattice takes vectors under cosine or l2, gaze gives vectors under ip; put identity\(metric='cosine'\)"
    with pytest.raises(xmr.ConfigError, match=message):
        xmr.Pipeline.parse("gaze >> lattice")
    assert xmr.Pipeline.parse("gaze >> identity(metric='cosine') >> lattice").metric == "cosine"
