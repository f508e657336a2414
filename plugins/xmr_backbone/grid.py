"""Regions from any network of timm or torchvision whose weights lie in a file: ResNet-152 at 448 pixels, as in DAN.

Nothing is downloaded: the package gives the architecture, the user the weights.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_backbone.config import GridConfig
from xmr_core.plugin import Form, decode_images

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

__all__ = ["Grid"]

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and deviation of its colours, from 0 to 1
BATCH = 16  # pictures through the network at once
WRAPPED = ("state_dict", "model")  # under which a training script may have put the weights


class Grid(xmr.Encoder[GridConfig]):
    """The last feature map of a network, a region a place of it, row by row from the upper left."""

    name: ClassVar[str] = "grid"
    needs_fit: ClassVar[bool] = False
    cacheable: ClassVar[bool] = True
    forms: ClassVar[Mapping[str, Form]] = {xmr.IMAGE: "regions"}

    @xmr.takes(GridConfig)
    def __init__(self) -> None: ...

    def weights_digest(self) -> str:
        """sha256 of the file of weights. Raises ConfigError where it cannot be read."""
        return _digest(self.config.weights)

    def encode(self, items: xmr.Items) -> xmr.Features:
        """Features (n, side * side, d) float16. Raises DataError with the bad keys, PluginError, ConfigError."""
        import torch

        self.require_modality(items.modality)
        network = _network(self.config)
        maps = [self._no_regions(network)] if not len(items) else []
        inputs = decode_images(items, lambda picture: _as_input(picture, self.config.side, network), None)
        for batch in _batches(inputs):
            with torch.inference_mode():
                made = network.regions(torch.from_numpy(batch)).cpu().numpy()  # (b, t, d)
            maps.append(_halved(made, self))
        return xmr.Features(items.modality, np.concatenate(maps), metric=self.metric)

    def _no_regions(self, network: Network) -> NDArray[np.float16]:
        import torch

        with torch.inference_mode():
            one = network.regions(torch.zeros(1, 3, self.config.side, self.config.side))
        return np.empty((0, *one.shape[1:]), np.float16)


class Network:
    """A network in eval mode, on its device, with the colours it was trained on."""

    def __init__(self, module: Any, maps: Callable[..., Any], colours: tuple[Any, Any], device: str) -> None:
        self.module, self._maps, self.device = module.to(device).eval(), maps, device
        self.mean, self.deviation = (np.asarray(colour, np.float32) for colour in colours)  # (3,) each

    def regions(self, pixels: torch.Tensor) -> torch.Tensor:
        """(b, 3, side, side) to (b, t, d). Raises ConfigError where the network has no map of places."""
        try:
            made: torch.Tensor = self._maps(pixels.to(self.device))
        except AssertionError as error:  # of a transformer that knows one size
            raise xmr.ConfigError("side", pixels.shape[-1], f"cannot be taken by the network: {error}") from None
        if made.ndim == 3:  # a transformer's: a class token, perhaps registers, then places
            return made[:, getattr(self.module, "num_prefix_tokens", 0) :]
        if made.ndim != 4:
            raise xmr.ConfigError("model", type(self.module).__name__, f"gives no feature map, but {tuple(made.shape)}")
        channels_last = made.shape[3] == getattr(self.module, "num_features", None) != made.shape[1]
        return made.flatten(1, 2) if channels_last else made.flatten(2).transpose(1, 2)


@functools.lru_cache(maxsize=2)
def _network(config: GridConfig) -> Network:
    """The network of a config, once a process."""
    import torch

    with torch.random.fork_rng(devices=[]):  # what torch fills new layers with is nobody else's business
        module, maps, colours = (_of_timm if config.package == "timm" else _of_torchvision)(config.model)
    try:
        module.load_state_dict(_weights(Path(config.weights)))
    except RuntimeError as error:
        told = " ".join(str(error).split())[:200]
        raise xmr.ConfigError("weights", config.weights, f"do not fit {config.model!r}: {told}") from None
    wanted = "cuda" if config.device == "auto" and torch.cuda.is_available() else config.device
    try:
        return Network(module, maps, colours, "cpu" if wanted == "auto" else wanted)
    except (RuntimeError, AssertionError) as error:  # no name of a device, or of one that is not there
        raise xmr.ConfigError("device", config.device, " ".join(str(error).split())[:200]) from None


def _of_timm(model: str) -> tuple[Any, Any, tuple[Any, Any]]:
    timm: Any = _package("timm", "pip install timm")
    try:
        module = timm.create_model(model, pretrained=False)
    except RuntimeError as error:  # timm's word for an unknown name
        raise xmr.ConfigError("model", model, f"timm has none of that name ({error})") from None
    told = getattr(module, "default_cfg", None) or {}
    return module, module.forward_features, (told.get("mean", IMAGENET[0]), told.get("std", IMAGENET[1]))


def _of_torchvision(model: str) -> tuple[Any, Any, tuple[Any, Any]]:
    from torch import nn

    models: Any = _package("torchvision.models", "pip install torchvision")
    make = getattr(models, model, None)
    if not callable(make):
        raise xmr.ConfigError("model", model, "torchvision has none of that name")
    module = make(weights=None)
    if hasattr(module, "features"):
        return module, module.features, IMAGENET
    if not hasattr(module, "avgpool"):
        raise xmr.ConfigError("model", model, "has neither `features` nor `avgpool`; timm has a network like it")
    layers = itertools.takewhile(lambda layer: layer[0] != "avgpool", module.named_children())  # a ResNet's
    return module, nn.Sequential(*(layer for _, layer in layers)), IMAGENET


def _package(name: str, install: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise xmr.PluginError(f"{name.partition('.')[0]} is not installed; {install} ({error})") from None


def _weights(file: Path) -> Any:
    """The arrays of a file of weights; nothing in it is run. Raises ConfigError, PluginError."""
    import torch

    read: Any = functools.partial(torch.load, map_location="cpu", weights_only=True)
    if file.suffix == ".safetensors":
        read = _package("safetensors.torch", "pip install safetensors").load_file
    try:
        told = read(file)
    except Exception as error:  # a file of anything; among them the refusal to run what is in it
        raise _unreadable(file, error) from None
    if not isinstance(told, Mapping):
        raise _unreadable(file, TypeError(f"holds {type(told).__name__}, not arrays by name"))
    return next((told[key] for key in WRAPPED if isinstance(told.get(key), Mapping)), told)


def _unreadable(file: object, error: Exception) -> xmr.ConfigError:
    return xmr.ConfigError("weights", str(file), f"cannot be read: {str(error).splitlines()[0]}")


@functools.cache
def _digest(file: str) -> str:
    try:
        with Path(file).open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(file, error) from None


def _as_input(picture: Image, side: int, network: Network) -> NDArray[np.float32]:
    """(3, side, side) float32: resized without cropping, colours as the network was trained on them."""
    from PIL.Image import Resampling

    resized = np.asarray(picture.resize((side, side), Resampling.BICUBIC), np.float32) / 255  # (side, side, 3)
    return np.ascontiguousarray(((resized - network.mean) / network.deviation).transpose(2, 0, 1))


def _batches(inputs: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    while batch := list(itertools.islice(inputs, BATCH)):
        yield np.stack(batch)


def _halved(regions: NDArray[np.float32], encoder: Grid) -> NDArray[np.float16]:
    """As float16. Raises DataError where numbers are too large for it."""
    with np.errstate(over="ignore"):
        halves = regions.astype(np.float16)
    if not np.isfinite(halves).all():
        raise xmr.DataError(f"{encoder!r}: the network gives NaN or numbers beyond {np.finfo(np.float16).max:g}")
    return halves
