"""Recipes: parsed, never evaluated; printed back; their parts checked against each other."""

from __future__ import annotations

import pytest

import xmr_core as xmr
from xmr_core.recipes import as_pipeline
from xmr_core.registry import calls

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


def test_the_first_option_needs_no_name() -> None:
    assert repr(xmr.Pipeline.parse("hyperplanes(64) >> hamming")) == "hyperplanes(bits=64) >> hamming"
    assert repr(xmr.Pipeline.parse("precomputed(8) >> itq(8, iterations=3) >> hamming")) == repr(
        xmr.Pipeline.parse("precomputed(dim=8) >> itq(bits=8, iterations=3) >> hamming")
    )


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("hyperplanes(64, bits=8) >> hamming", r"hyperplanes\(64, bits=8\): bits is given twice"),
        ("toy >> sign(1) >> hamming", "sign takes no options, got 1"),
        ("hyperplanes('64') >> hamming", "bits='64': must be int"),
    ],
)
def test_a_first_option_without_a_name_is_checked_as_one_with_it(recipe: str, message: str) -> None:
    with pytest.raises(xmr.ConfigError, match=message):
        xmr.Pipeline.parse(recipe)


@pytest.mark.parametrize(
    "recipe",
    [
        "",
        "a >>",
        "a + b",
        "a(1, 2)",
        "a(*[1])",
        "a(b)",
        "a(x=open('f'))",
        "a(**{})",
        "a.b",
        "a; b",
        "a(x=1",
        "lambda: 0",
    ],
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


def parts() -> tuple[xmr.Encoder, xmr.Fuser, xmr.Indexer]:
    from xmr_toy import Toy

    from xmr_hamming import Hamming
    from xmr_sign import Sign

    return Toy(), Sign(), Hamming()


def test_objects_compose_to_the_pipeline_of_their_recipe() -> None:
    toy, sign, hamming = parts()
    composed, parsed = toy >> sign >> hamming, xmr.Pipeline.parse("toy >> sign >> hamming")
    assert isinstance(composed, xmr.Pipeline)
    assert repr(composed) == repr(parsed)
    assert composed.fingerprint() == parsed.fingerprint()


def test_a_chain_without_a_head_goes_on() -> None:
    toy, sign, hamming = parts()
    chain = toy >> sign
    assert repr(chain) == "toy >> sign"
    assert repr(toy >> (sign >> hamming)) == repr(chain >> hamming) == "toy >> sign >> hamming"
    with pytest.raises(xmr.ConfigError, match=r"toy >> sign: a pipeline ends with an indexer, one of .*hamming"):
        as_pipeline(chain)


def test_objects_that_do_not_fit_are_refused_as_soon_as_they_meet() -> None:
    toy, sign, hamming = parts()
    with pytest.raises(xmr.ConfigError, match="toy >> hamming: hamming takes bits, toy gives vectors"):
        toy >> hamming
    with pytest.raises(xmr.ConfigError, match="sign >> sign: sign takes vector, sign gives bits"):
        toy >> sign >> sign
    with pytest.raises(xmr.ConfigError, match="an encoder begins a pipeline"):
        sign >> toy
    with pytest.raises(xmr.ConfigError, match="hamming ends a pipeline"):
        toy >> sign >> hamming >> sign
    with pytest.raises(TypeError):
        toy >> "sign"  # type: ignore[operator]  # that is the point


def test_a_fuser_that_begins_a_chain_of_objects_gets_the_encoder_it_wants() -> None:
    from xmr_toy import Gaze

    from xmr_flat import Flat

    assert repr(Gaze() >> Flat()) == repr(xmr.Pipeline.parse("gaze >> flat"))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            "each(image='lite0', text='minilm') >> itq(bits=16) >> hamming",
            "each >> itq: images have 1280 dimensions, texts have 384 dimensions; to compare them takes one space",
        ),
        (
            "each(image='lite0', text='minilm') >> sign >> hamming",
            "images have 1280 dimensions, texts have 384 dimensions",
        ),
        ("precomputed(dim=12) >> sign >> hamming", "sign: images have 12 dimensions, which is no multiple of 8"),
        ("precomputed(dim=8) >> itq(bits=16) >> hamming", "bits=16: must be at most 8"),
        ("precomputed(dim=8) >> pca(dim=9) >> flat", "dim=9: must be at most 8"),
        ("precomputed(dim=20) >> pq(bytes=8)", "8 .* do not divide 20 dimensions"),
        ("precomputed(dim=20) >> pca(dim=12) >> pq(bytes=8)", "8 .* do not divide 12 dimensions"),
        ("dcmh(bits=24) >> lattice(dim=32)", "lattice takes vectors under cosine or l2"),
        ("dcmh(bits=24) >> identity >> lattice(dim=32)", "dim=32: the vectors have 24 dimensions"),
        ("precomputed(dim=8) >> kdtree(pca=9)", "pca=9: the vectors have 8 dimensions"),
    ],
)
def test_widths_that_do_not_fit_are_refused_when_composed(recipe: str, message: str) -> None:
    with pytest.raises(xmr.ConfigError, match=message):
        xmr.Pipeline.parse(recipe)


@pytest.mark.parametrize(
    "recipe",
    [
        "each(image='lite0', text='bow') >> itq(bits=16) >> hamming",  # how wide bow is, the training texts tell
        "precomputed(dim=24) >> pca(dim=16) >> pq(bytes=8)",
        "dcmh(bits=64) >> sign >> hamming",
        "hyperplanes(bits=64) >> hamming",
    ],
)
def test_widths_that_fit_or_are_not_known_yet_are_not(recipe: str) -> None:
    assert xmr.Pipeline.parse(recipe)


def test_widths_that_a_fit_tells_are_checked_before_anything_is_encoded(pairs: xmr.Pairs) -> None:
    from xmr_toy import Costly

    class Eight(Costly):
        name = "eight"

        def widths(self) -> dict[str, int | None]:
            return {"image": 8, "text": 8}

    xmr.registry.add(Eight)
    Costly.encoded = 0
    with pytest.raises(xmr.ConfigError, match=r"each.* >> itq: images have 8 dimensions, texts have 7 dimensions"):
        xmr.Pipeline.parse("each(image='eight', text='bow') >> itq(bits=8) >> hamming").fit(pairs)
    assert Costly.encoded == 0


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
