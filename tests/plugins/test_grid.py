"""Regions from networks of timm and torchvision, which stand-ins play here: weights from a file, any feature map."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import xmr_core as xmr
from xmr_backbone import grid
from xmr_backbone.grid import Grid
from xmr_core.testing import pairs

torch = pytest.importorskip("torch")


class Plain(torch.nn.Module):  # type: ignore[misc]
    """A network of timm's: `forward_features` gives the last map, 8 channels, an eighth of a side."""

    num_features = 8
    default_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 8, 8)
        self.fc = torch.nn.Linear(8, 2)

    def forward_features(self, pixels: Any) -> Any:
        return self.stem(pixels).relu()


class ChannelsLast(Plain):
    """As Swin gives its map."""

    def forward_features(self, pixels: Any) -> Any:
        return super().forward_features(pixels).permute(0, 2, 3, 1)


class Transformer(Plain):
    """Places in a row, after a class token."""

    num_prefix_tokens = 1

    def forward_features(self, pixels: Any) -> Any:
        places = super().forward_features(pixels).flatten(2).transpose(1, 2)
        return torch.cat([places.mean(dim=1, keepdim=True), places], dim=1)


class Picky(Plain):
    """Knows one size of pictures."""

    def forward_features(self, pixels: Any) -> Any:
        assert pixels.shape[-1] == 64, "only 64"
        return super().forward_features(pixels)


class Bare(torch.nn.Module):  # type: ignore[misc]
    """A network of torchvision's with no layer of a known name."""

    def __init__(self, weights: None = None) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 8, 8)


class Flat(Plain):
    """No map at all."""

    def forward_features(self, pixels: Any) -> Any:
        return super().forward_features(pixels).mean(dim=(2, 3))


class ResNet(torch.nn.Module):  # type: ignore[misc]
    """A network of torchvision's: layers, then `avgpool` and what follows."""

    def __init__(self, weights: None = None) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 8, 8)
        self.relu = torch.nn.ReLU()
        self.avgpool = torch.nn.AdaptiveAvgPool2d(1)
        self.fc = torch.nn.Linear(8, 2)


class Vgg(torch.nn.Module):  # type: ignore[misc]
    """Its map comes from `features`."""

    def __init__(self, weights: None = None) -> None:
        super().__init__()
        self.features = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 8, 8), torch.nn.ReLU())
        self.avgpool = torch.nn.AdaptiveAvgPool2d(1)


NETWORKS = {"plain": Plain, "channels_last": ChannelsLast, "transformer": Transformer, "flat": Flat, "picky": Picky}


def create_model(name: str, pretrained: bool) -> Any:
    assert not pretrained
    if name not in NETWORKS:
        raise RuntimeError(f"Unknown model ({name})")
    return NETWORKS[name]()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of weights that fits the networks here."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        file = tmp_path_factory.mktemp("weights") / "weights.pt"
        torch.save({"state_dict": Plain().state_dict()}, file)
    return str(file)


@pytest.fixture(scope="module", autouse=True)
def packages() -> Any:
    """Stand-ins for timm and torchvision, as installed."""
    with pytest.MonkeyPatch.context() as patch:
        timm, vision, models = (ModuleType(name) for name in ("timm", "torchvision", "torchvision.models"))
        timm.create_model = create_model  # type: ignore[attr-defined]
        models.resnet, models.vgg, models.bare = ResNet, Vgg, Bare  # type: ignore[attr-defined]
        for module in (timm, vision, models):
            patch.setitem(sys.modules, module.__name__, module)
        yield
    grid._network.cache_clear()


@pytest.fixture
def pictures() -> xmr.Items:
    return pairs(4).images


def test_regions_are_the_last_map_row_by_row(weights: str, pictures: xmr.Items) -> None:
    encoder = Grid(weights=weights, model="plain", side=64, device="cpu")
    features = encoder.encode(pictures)
    assert (features.values.shape, features.values.dtype) == ((3, 64, 8), np.float16)
    network = Plain()
    network.load_state_dict(torch.load(weights, weights_only=True)["state_dict"])
    image = np.asarray(resized(pictures, 64), np.float32) / 127.5 - 1
    with torch.inference_mode():
        (want,) = network.forward_features(torch.from_numpy(image.transpose(2, 0, 1)[None])).numpy()  # (8, 8, 8)
    np.testing.assert_allclose(features.values[0, 8 * 2 + 5], want[:, 2, 5], atol=2e-3)


def test_a_device_that_is_none_is_refused(weights: str, pictures: xmr.Items) -> None:
    with pytest.raises(xmr.ConfigError, match="device='potato'"):
        Grid(weights=weights, model="plain", side=64, device="potato").encode(pictures)


def resized(pictures: xmr.Items, side: int) -> Any:
    from PIL import Image

    return Image.fromarray(pictures.data[0]).resize((side, side), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("model", ["channels_last", "transformer"])
def test_a_map_may_have_any_order_of_axes(weights: str, pictures: xmr.Items, model: str) -> None:
    plain, other = (Grid(weights=weights, model=name, side=32).encode(pictures).values for name in ("plain", model))
    np.testing.assert_array_equal(plain, other)


@pytest.mark.parametrize("model", ["resnet", "vgg"])
def test_torchvision_gives_what_stands_before_its_pooling(tmp_path: Path, pictures: xmr.Items, model: str) -> None:
    network = {"resnet": ResNet, "vgg": Vgg}[model]()
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    features = Grid(weights=str(tmp_path / "weights.pt"), model=model, package="torchvision", side=64).encode(pictures)
    assert features.values.shape == (3, 64, 8)
    assert (features.values >= 0).all()


def test_side_decides_how_many_regions_there_are(weights: str, pictures: xmr.Items) -> None:
    assert Grid(weights=weights, model="plain", side=112).encode(pictures).values.shape == (3, 14 * 14, 8)


def test_the_fingerprint_knows_the_weights(weights: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save(Plain().state_dict(), file)
    assert Grid(weights=str(file)).weights_digest() != Grid(weights=weights).weights_digest()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "plane"}, "timm has none of that name"),
        ({"model": "flat"}, "gives no feature map"),
        ({"model": "picky"}, "side=224: cannot be taken by the network: only 64"),
        ({"package": "torchvision", "model": "bare"}, "timm has a network like it"),
        ({"package": "keras"}, "must be one of timm, torchvision"),
        ({"package": "torchvision", "model": "nothing"}, "torchvision has none of that name"),
        ({"package": "torchvision", "model": "vgg"}, "do not fit 'vgg'"),
        ({"side": 8}, "must be between 32 and 2,048"),
        ({"weights": "nowhere.pt"}, "cannot be read"),
        ({"weights": ""}, "must be the path of a file"),
    ],
)
def test_what_cannot_work_says_why(weights: str, pictures: xmr.Items, options: dict[str, Any], message: str) -> None:
    with pytest.raises(xmr.ConfigError, match=message):
        Grid(**{"weights": weights, "model": "plain", **options}).encode(pictures)


def test_a_file_that_wants_to_be_run_is_refused(tmp_path: Path, pictures: xmr.Items) -> None:
    torch.save({"weights": Path("x")}, tmp_path / "weights.pt")
    with pytest.raises(xmr.ConfigError, match="cannot be read"):
        Grid(weights=str(tmp_path / "weights.pt"), model="plain").encode(pictures)


def test_numbers_beyond_half_precision_are_refused(tmp_path: Path, pictures: xmr.Items) -> None:
    state = {name: array * 1e6 for name, array in Plain().state_dict().items()}
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(xmr.DataError, match="NaN or numbers beyond 65504"):
        Grid(weights=str(tmp_path / "weights.pt"), model="plain").encode(pictures)


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_a_missing_package_says_what_to_install(
    weights: str, pictures: xmr.Items, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    grid._network.cache_clear()
    with pytest.raises(xmr.PluginError, match=f"{package} is not installed; pip install {package}"):
        Grid(weights=weights, package=package, model="plain").encode(pictures)
