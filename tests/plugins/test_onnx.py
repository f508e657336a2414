"""Towers from ONNX files: tiny ones, made here, that know colours."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xmr_core as xmr
from xmr_core.testing import conformance
from xmr_core.testing.contract import in_new_process

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
tokenizers = pytest.importorskip("tokenizers")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from xmr_onnx import Onnx  # noqa: E402
from xmr_onnx.config import ImageTower  # noqa: E402
from xmr_onnx.external import external_files  # noqa: E402
from xmr_onnx.network import as_input  # noqa: E402

WIDTH, SIDE, CONTEXT = 16, 32, 6
COLOURS = {"red": (210, 50, 40), "green": (40, 170, 60), "blue": (50, 70, 200), "yellow": (230, 200, 40)}
WORDS = ["[PAD]", "[UNK]", "[CLS]", *COLOURS]
TURNED = np.linalg.qr(np.random.default_rng(0).standard_normal((WIDTH, WIDTH)))[0][:3]  # (3, width) orthonormal
HUES = np.array(list(COLOURS.values())) / 255 - 0.4  # (4, 3)


def save(file: Path, nodes: list[Any], inputs: list[Any], constants: Mapping[str, Any], shape: list[Any]) -> Any:
    """An ONNX file with one output, `vectors`."""
    output = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, shape)
    held = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "tower", inputs, [output], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, file)
    return model


def image_network(file: Path, batch: object = "b", layout: str = "nchw") -> Any:
    """The mean colour, as a vector."""
    shape = [batch, 3, SIDE, SIDE] if layout == "nchw" else [batch, SIDE, SIDE, 3]
    nodes = [
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[2, 3] if layout == "nchw" else [1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "turn"], ["vectors"]),
    ]
    inputs = [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)]
    return save(file, nodes, inputs, {"turn": TURNED.astype(np.float32)}, [batch, WIDTH])


def text_network(file: Path, batch: object = "b", kind: int = TensorProto.INT64, masked: bool = False) -> Any:
    """The sum of the colours that a text names."""
    table = np.concatenate([np.zeros((1, 3)), np.full((2, 3), 0.01), HUES]) @ TURNED  # (words, width)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"], axis=0),
        helper.make_node("ReduceSum", ["rows", "axes"], ["vectors"], keepdims=0),
    ]
    inputs = [helper.make_tensor_value_info("input_ids", kind, [batch, "t"])]
    constants = {"table": table.astype(np.float32), "axes": np.array([1])}
    if masked:
        inputs.append(helper.make_tensor_value_info("attention_mask", TensorProto.INT64, [batch, "t"]))
        constants["last"] = np.array([2])
        nodes[1:] = [
            helper.make_node("Cast", ["attention_mask"], ["real"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["real", "last"], ["column"]),
            helper.make_node("Mul", ["rows", "column"], ["kept"]),
            helper.make_node("ReduceSum", ["kept", "axes"], ["vectors"], keepdims=0),
        ]
    return save(file, nodes, inputs, constants, [batch, WIDTH])


def tokenizer(file: Path) -> None:
    """One token a word, after a mark of the beginning."""
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    made.normalizer = tokenizers.normalizers.Lowercase()
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 2)])
    made.save(str(file))


SAID: dict[str, Any] = {
    "width": WIDTH,
    "metric": "cosine",
    "image": {"file": "image.onnx", "side": SIDE, "mean": [0.4, 0.4, 0.4], "deviation": [1, 1, 1]},
    "text": {"file": "text.onnx", "tokenizer": "tokenizer.json", "context": CONTEXT},
}


def say(folder: Path, **changes: Any) -> Path:
    """Write towers.json: keys of the top as they are, of a tower as `image__side`; None leaves one out."""
    told = json.loads(json.dumps(SAID))
    for name, value in changes.items():
        where, _, key = name.rpartition("__")
        within = told[where] if where else told
        within[key] = value
        if value is None:
            del within[key]
    (folder / "towers.json").write_text(json.dumps(told))
    return folder


def make(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    image_network(folder / "image.onnx")
    text_network(folder / "text.onnx")
    tokenizer(folder / "tokenizer.json")
    return say(folder)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A folder with two towers."""
    return make(tmp_path / "clip")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of images and nothing else: five of each colour."""
    from PIL import Image

    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        for i in range(5):
            pixels = np.clip(rng.normal(colour, 12, (40, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{'abcde'[i]}{list(COLOURS).index(name)}.png")
    return folder


def colour_of(key: str) -> str:
    return list(COLOURS)[int(Path(key).stem[1:])]


# the contract


def towers_of_the_contract() -> str:
    import atexit
    import tempfile

    folder = tempfile.TemporaryDirectory(prefix="xmr-towers-")
    atexit.register(folder.cleanup)
    return str(make(Path(folder.name) / "clip"))


TestOnnx = conformance("encoder", "onnx", config={"folder": towers_of_the_contract()})


# what it gives


def images(*colours: tuple[int, int, int]) -> xmr.Items:
    return xmr.Items(xmr.IMAGE, [np.full((40, 60, 3), colour, np.uint8) for colour in colours])


def texts(*data: str) -> xmr.Items:
    return xmr.Items(xmr.TEXT, list(data))


def test_images_and_texts_share_a_space(clip: Path) -> None:
    encoder = Onnx(folder=str(clip))
    pictures, words = encoder.encode(images(*COLOURS.values())), encoder.encode(texts(*COLOURS))
    assert pictures.vectors.shape == words.vectors.shape == (4, WIDTH)
    assert np.linalg.norm(pictures.vectors, axis=1) == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal((words.vectors @ pictures.vectors.T).argmax(axis=1), range(4))
    np.testing.assert_allclose(pictures.vectors, HUES @ TURNED / np.linalg.norm(HUES, axis=1, keepdims=True), atol=1e-5)


def test_it_declares_what_the_file_says(clip: Path) -> None:
    encoder = Onnx(folder=str(say(clip, metric="ip")))
    assert (encoder.metric, encoder.widths()) == ("ip", {"image": WIDTH, "text": WIDTH})
    assert encoder.encode(texts("red")).metric == "ip"


@pytest.mark.parametrize(("metric", "unit", "length"), [("cosine", None, 1), ("ip", None, 0.54), ("l2", True, 1)])
def test_vectors_have_length_one_where_cosine_or_the_file_says_so(
    clip: Path, metric: str, unit: bool | None, length: float
) -> None:
    vectors = Onnx(folder=str(say(clip, metric=metric, unit=unit))).encode(texts("red")).vectors
    assert np.linalg.norm(vectors) == pytest.approx(length, abs=0.03)


@pytest.mark.parametrize(("left", "gone"), [("image", "text"), ("text", "image")])
def test_one_tower_is_enough(clip: Path, left: str, gone: str) -> None:
    encoder = Onnx(folder=str(say(clip, **{gone: None})))
    assert dict(encoder.forms) == {left: "vector"}
    with pytest.raises(xmr.DataError, match=f"onnx encodes {left}, not {gone}"):
        encoder.encode(texts("red") if gone == "text" else images((1, 2, 3)))


def test_no_files_but_those_of_its_towers_are_needed(clip: Path) -> None:
    (clip / "image.onnx").unlink()
    assert Onnx(folder=str(say(clip, image=None))).encode(texts("red")).vectors.shape == (1, WIDTH)


def test_texts_longer_than_the_context_are_cut(clip: Path) -> None:
    encoder = Onnx(folder=str(clip))
    long, longer = encoder.encode(texts("red " * (CONTEXT - 1), "red " * (CONTEXT - 1) + "blue " * 90)).vectors
    np.testing.assert_array_equal(long, longer)


def test_a_network_with_a_mask_does_not_see_what_fills_up(clip: Path) -> None:
    plain = Onnx(folder=str(clip)).encode(texts("red", "red blue")).vectors
    text_network(clip / "text.onnx", masked=True)
    filled = Onnx(folder=str(say(clip, text__pad=6))).encode(texts("red", "red blue")).vectors  # 6 is yellow
    np.testing.assert_allclose(filled, plain, atol=1e-6)


def test_texts_may_keep_their_lengths(clip: Path) -> None:
    plain = Onnx(folder=str(clip)).encode(texts("red", "a red and blue", "red")).vectors
    own = Onnx(folder=str(say(clip, text__padding="none", text__pad=6))).encode(texts("red", "a red and blue", "red"))
    np.testing.assert_allclose(own.vectors, plain, atol=1e-6)


def test_tokens_come_in_the_type_that_the_network_takes(clip: Path) -> None:
    plain = Onnx(folder=str(clip)).encode(texts("red")).vectors
    text_network(clip / "text.onnx", kind=TensorProto.INT32)
    np.testing.assert_array_equal(Onnx(folder=str(clip)).encode(texts("red")).vectors, plain)


@pytest.mark.parametrize("batch", [1, 3])
def test_networks_exported_with_a_fixed_batch_take_any_number(clip: Path, batch: int) -> None:
    encoder = Onnx(folder=str(clip))
    sides = images(*COLOURS.values()), texts(*COLOURS)
    plain = [encoder.encode(side).vectors for side in sides]
    image_network(clip / "image.onnx", batch)
    text_network(clip / "text.onnx", batch)
    for side, vectors in zip(sides, plain, strict=True):
        np.testing.assert_allclose(encoder.encode(side).vectors, vectors, atol=1e-6)


# an image becomes an input


def tower(**options: Any) -> ImageTower:
    return ImageTower(**{"file": "x", "side": 4, "mean": (0.0, 0.0, 0.0), "deviation": (1.0, 1.0, 1.0)} | options)


def flag() -> Any:
    """8 x 4 pixels: red, green, green, blue columns of two pixels each."""
    from PIL import Image

    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, :2, 0], pixels[:, 2:6, 1], pixels[:, 6:, 2] = 255, 255, 255
    return Image.fromarray(pixels)


def test_the_central_square_is_cut_out() -> None:
    pixels = as_input(flag(), tower())
    assert pixels.shape == (3, 4, 4)
    assert (pixels[1] == 1).all() and not pixels[[0, 2]].any()


def test_a_larger_resize_cuts_more_away() -> None:
    from PIL import Image

    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[2:6, 2:6] = 255
    assert (as_input(Image.fromarray(pixels), tower(resize_side=8)) == 1).all()


def test_stretching_keeps_the_borders() -> None:
    columns = as_input(flag(), tower(resize="stretch", interpolation="nearest"))[:, 0]  # (3, 4)
    np.testing.assert_array_equal(columns, [[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]])


def test_the_rest_is_black_where_the_longer_side_decides() -> None:
    pixels = as_input(flag(), tower(resize="longest", interpolation="nearest"))
    assert not pixels[:, [0, 3]].any()
    np.testing.assert_array_equal(pixels[:, 1], [[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]])


def test_colours_are_centred_and_scaled() -> None:
    pixels = as_input(flag(), tower(mean=(0.0, 0.5, 0.25), deviation=(1.0, 0.25, 0.5)))
    np.testing.assert_allclose(pixels[:, 0, 0], [0, 2, -0.5])


def test_channels_may_come_last(clip: Path) -> None:
    plain = Onnx(folder=str(clip)).encode(images(*COLOURS.values())).vectors
    image_network(clip / "image.onnx", layout="nhwc")
    last = Onnx(folder=str(say(clip, image__layout="nhwc"))).encode(images(*COLOURS.values())).vectors
    np.testing.assert_allclose(last, plain, atol=1e-6)


# what towers.json may not say


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": None}, "towers.json: width missing"),
        ({"width": "16"}, "towers.json: width='16': must be int"),
        ({"metric": "hamming"}, "metric='hamming': must be one of cosine, ip, l2"),
        ({"colour": 1}, "unknown key 'colour'; known are width, metric, unit, image, text"),
        ({"image": None, "text": None}, "has no tower; expected image, text or both"),
        ({"image": 3}, "image: expected an object, got 3"),
        ({"image__side": None}, "towers.json: image: side missing"),
        ({"image__side": 0}, "image: side=0: must be between 1 and 8,?192"),
        ({"image__mean": [1, 2]}, r"image: mean=\(1, 2\): must be three numbers"),
        ({"image__mean": 0.5}, "image: mean=0.5: must be tuple"),
        ({"image__deviation": [1, 0, 1]}, r"deviation=\(1, 0, 1\): must be three numbers above 0"),
        ({"image__resize": "crop"}, "resize='crop': must be one of shortest, longest, stretch"),
        ({"image__resize_side": 8}, r"resize_side=8: goes with resize 'shortest', and must be 32 \(side\) or more"),
        ({"image__crop": True}, "image: unknown key 'crop'"),
        ({"text__context": None, "text__tokenizer": None}, "text: tokenizer, context missing"),
        ({"text__padding": "left"}, "padding='left': must be one of context, none"),
        ({"text__file": "other.onnx"}, "there is no file 'other.onnx' in the folder"),
        ({"text__tokenizer": "../tokenizer.json"}, "'../tokenizer.json' is outside the folder"),
        ({"image__file": "/etc/passwd"}, "'/etc/passwd' is outside the folder"),
        ({"image__file": "."}, "there is no file '.' in the folder"),
    ],
)
def test_a_wrong_declaration_is_refused_by_key(clip: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(xmr.ConfigError, match=message):
        Onnx(folder=str(say(clip, **changes)))


def test_a_link_out_of_the_folder_is_refused(clip: Path, tmp_path: Path) -> None:
    (clip / "image.onnx").rename(tmp_path / "image.onnx")
    (clip / "image.onnx").symlink_to(tmp_path / "image.onnx")
    with pytest.raises(xmr.ConfigError, match=r"'image.onnx' is outside the folder"):
        Onnx(folder=str(clip))


@pytest.mark.parametrize("told", ["", "{", "[]", "3", "\xff"])
def test_what_is_not_an_object_is_refused(clip: Path, told: str) -> None:
    (clip / "towers.json").write_bytes(told.encode("latin-1"))
    with pytest.raises(xmr.ConfigError, match=r"towers.json: (not JSON|expected an object)"):
        Onnx(folder=str(clip))


def test_a_folder_without_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(xmr.ConfigError, match=r"holds no readable towers.json \(No such file"):
        xmr.Pipeline.parse(f"onnx({str(tmp_path)!r}) >> flat")


# networks that do not fit what the file says


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 8}, r"image.onnx: output 'vectors' has shape .*expected \(images or texts, 8\)"),
        ({"image__output": "pooled"}, "image.onnx: output 'pooled' is none of vectors"),
        ({"image__input": "image"}, "image.onnx: input 'image' is none of pixels"),
        ({"image__file": "tokenizer.json"}, "tokenizer.json: not an ONNX file"),
        ({"image__side": 16}, "image.onnx: cannot be run"),
        ({"image__file": "text.onnx"}, "text.onnx: cannot be run"),
    ],
)
def test_an_image_network_that_does_not_fit_is_refused(clip: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(xmr.ConfigError, match=message):
        Onnx(folder=str(say(clip, **changes))).encode(images((1, 2, 3)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text__tokenizer": "towers.json"}, "towers.json: tokenizers cannot read it"),
        ({"text__mask": "attention_mask"}, "mask 'attention_mask' is none of input_ids"),
    ],
)
def test_a_text_network_that_does_not_fit_is_refused(clip: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(xmr.ConfigError, match=message):
        Onnx(folder=str(say(clip, **changes))).encode(texts("red"))


def test_one_network_with_both_towers_is_refused(clip: Path) -> None:
    shapes = {"input_ids": (TensorProto.INT64, ["b", "t"]), "pixel_values": (TensorProto.FLOAT, ["b", 3, 32, 32])}
    inputs = [helper.make_tensor_value_info(name, *shape) for name, shape in shapes.items()]
    nodes = [helper.make_node("ReduceMean", ["pixel_values"], ["vectors"], axes=[2, 3], keepdims=0)]
    save(clip / "text.onnx", nodes, inputs, {}, ["b", "d"])
    with pytest.raises(xmr.ConfigError, match="also takes pixel_values; export each tower as a network of its own"):
        Onnx(folder=str(say(clip, width=3))).encode(texts("red"))


def test_nan_names_its_items(clip: Path) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "turn"], ["turned"]),
        helper.make_node("Log", ["turned"], ["vectors"]),
    ]
    inputs = [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["b", 3, SIDE, SIDE])]
    save(clip / "image.onnx", nodes, inputs, {"turn": np.ones((3, WIDTH), np.float32)}, ["b", WIDTH])
    with pytest.raises(xmr.DataError, match="gives NaN or infinity for 1 images") as raised:
        Onnx(folder=str(clip)).encode(images((250, 250, 250), (0, 0, 0)))
    assert raised.value.keys == ("1",)


# the fingerprint


def test_the_fingerprint_covers_every_file(clip: Path) -> None:
    seen = {Onnx(folder=str(clip)).fingerprint()}
    changes = [
        lambda: image_network(clip / "image.onnx", 2),
        lambda: text_network(clip / "text.onnx", 2),
        lambda: (clip / "tokenizer.json").write_text((clip / "tokenizer.json").read_text() + "\n"),
        lambda: say(clip, image__interpolation="bilinear"),
    ]
    for change in changes:
        change()
        seen.add(Onnx(folder=str(clip)).fingerprint())
    assert len(seen) == 1 + len(changes)
    (clip / "README.md").write_text("no part of it")
    assert Onnx(folder=str(clip)).fingerprint() in seen


def external(clip: Path, location: str) -> None:
    model = onnx.load(clip / "image.onnx")
    onnx.external_data_helper.convert_model_to_external_data(model, location=location, size_threshold=0)
    onnx.save(model, clip / "image.onnx")


def test_the_fingerprint_covers_weights_in_files_of_their_own(clip: Path) -> None:
    plain = Onnx(folder=str(clip)).encode(images((1, 2, 3))).vectors
    external(clip, "weights.bin")
    assert external_files((clip / "image.onnx").read_bytes()) == {"weights.bin"}
    before = Onnx(folder=str(clip)).fingerprint()
    np.testing.assert_array_equal(Onnx(folder=str(clip)).encode(images((1, 2, 3))).vectors, plain)
    (clip / "weights.bin").write_bytes((clip / "weights.bin").read_bytes()[::-1])
    assert Onnx(folder=str(clip)).fingerprint() != before
    (clip / "weights.bin").unlink()
    with pytest.raises(xmr.ConfigError, match=r"there is no file 'weights.bin'"):
        Onnx(folder=str(clip)).fingerprint()


def test_weights_outside_the_folder_are_refused(clip: Path) -> None:
    external(clip, "weights.bin")
    model = onnx.load(clip / "image.onnx", load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../weights.bin"
    (clip / "image.onnx").write_bytes(model.SerializeToString())
    encoder = Onnx(folder=str(clip))
    for use in (encoder.fingerprint, lambda: encoder.encode(images((1, 2, 3)))):
        with pytest.raises(xmr.ConfigError, match=r"'\.\./weights.bin' is outside the folder"):
            use()


@pytest.mark.parametrize("model", [b"\x0a\x05abc", b"\x0b", b"\xff", b"\xff" * 12])
def test_what_is_no_protocol_buffer_is_told(model: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut short|wire type"):
        external_files(model)


# from a bare folder of images to a search


@pytest.mark.parametrize("rest", ["flat", "itq(bits=16) >> hamming"])
def test_a_bare_folder_of_images_is_searched_by_text(
    clip: Path, photos: Path, rest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with xmr.open("photos.duckdb", progress=False) as db:
        db.add("photos/")
        db.fit(f'onnx(folder="clip/") >> {rest}')
        for colour in COLOURS:
            assert [colour_of(hit.key) for hit in db.search(text=f"something {colour}", k=5)] == [colour] * 5
    with xmr.open("photos.duckdb", progress=False) as db:  # the towers are read again, nothing is fitted again
        assert colour_of(db.search(text="BLUE", k=1)[0].key) == "blue"
        assert [colour_of(hit.key) for hit in db.search(image=next(photos.glob("b2*")), k=5, modality="image")] == [
            "blue"
        ] * 5


@pytest.mark.parametrize("rest", ["flat", "itq(bits=16) >> hamming"])
def test_the_command_line_needs_two_commands_before_a_search(clip: Path, photos: Path, rest: str) -> None:
    folder, command = photos.parent, ["-c", "from xmr_core.cli import main; main()"]
    in_new_process([*command, "add", "my.duckdb", "photos"], folder)
    in_new_process([*command, "fit", "my.duckdb", f'onnx("clip/") >> {rest}'], folder)
    told = json.loads(in_new_process([*command, "search", "my.duckdb", "a green one", "-k", "5", "--json"], folder))
    assert [colour_of(hit["key"]) for hit in told["hits"]] == ["green"] * 5


def test_a_search_for_captions_where_there_are_none_says_what_there_is(clip: Path, photos: Path) -> None:
    from typer.testing import CliRunner

    from xmr_core.cli.app import app

    file = str(photos.parent / "my.duckdb")
    with xmr.open(file, progress=False) as db:
        db.add(photos)
        db.fit(f"onnx({str(clip)!r}) >> flat")
    ran = CliRunner().invoke(app, ["search", file, "--image", str(photos / "a0.png")])
    assert ran.exit_code == 0
    assert "it holds images alone: --modality image" in ran.stderr


def test_towers_that_changed_are_not_searched_with(clip: Path, photos: Path, tmp_path: Path) -> None:
    with xmr.open(tmp_path / "photos.duckdb", progress=False) as db:
        db.add(photos)
        db.fit(f"onnx({str(clip)!r}) >> flat", name="clip")
    say(clip, image__interpolation="bilinear")
    with (
        xmr.open(tmp_path / "photos.duckdb", progress=False) as db,
        pytest.raises(xmr.SpaceMismatchError, match="onnx is not what it was fitted with"),
    ):
        db.search(text="red")


def test_captions_that_come_later_get_codes_too(clip: Path, photos: Path, tmp_path: Path) -> None:
    with xmr.open(tmp_path / "photos.duckdb", progress=False) as db:
        db.add(photos)
        db.fit(f"onnx({str(clip)!r}) >> itq(bits=16) >> hamming")
        db.add(xmr.Items(xmr.TEXT, ["a red thing", "a blue thing"], keys=["red", "blue"]))
        assert db.search(image=next(photos.glob("a2*")), k=1, modality="text")[0].key == "blue"


def test_towers_of_two_folders_stand_side_by_side(clip: Path) -> None:
    recipe = f"each(image='onnx({str(clip)!r})', text='onnx({str(clip)!r})')".replace(f"'{clip}'", f'"{clip}"')
    both = xmr.Pipeline.parse(f"{recipe} >> flat").encoder
    assert both is not None
    want = Onnx(folder=str(clip)).encode(texts("red")).vectors
    np.testing.assert_array_equal(both.encode(texts("red")).vectors, want)


def test_it_needs_no_torch(clip: Path, photos: Path) -> None:
    look = (
        "import sys, xmr_onnx, xmr_core as xmr; "
        f"e = xmr_onnx.Onnx(folder={str(clip)!r}); e.encode(xmr.Items('text', ['red'])); "
        f"e.encode(xmr.Items('image', [{str(next(photos.glob('a2*')))!r}])); print('torch' in sys.modules)"
    )
    assert in_new_process(["-c", look], photos).strip() == "False"


def test_a_missing_package_is_named(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from xmr_onnx import network

    network._image_network.cache_clear()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(xmr.PluginError, match=r"onnxruntime is not installed; pip install 'xmr\[onnx\]'"):
        Onnx(folder=str(clip)).encode(images((1, 2, 3)))
