"""The networks of DCMH, leaf to whole: CNN-F for pictures, two fully connected layers for texts, a head over features.

Sources: Jiang & Li, CVPR 2017, tables 1 and 2; Chatfield et al., "Return of the Devil in the Details", BMVC 2014.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xmr_core import DataError

SPREAD = 0.01  # standard deviation of the first weights and biases, as the authors set it
CNNF_SIDE, CNNF_DIM = 224, 4096
CNNF_FILTERS = {  # MATLAB's layout: height, width, channels in, channels out
    "conv1": (11, 11, 3, 64),
    "conv2": (5, 5, 64, 256),
    "conv3": (3, 3, 256, 256),
    "conv4": (3, 3, 256, 256),
    "conv5": (3, 3, 256, 256),
    "full6": (6, 6, 256, 4096),
    "full7": (1, 1, 4096, 4096),
}


class Standardise(nn.Module):
    """(x - mean) / scale, both (d): learnt from the training vectors, and fixed."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.scale


class Head(nn.Module):
    """Vectors (b, d) to (b, bits): fully connected layers, ReLU and dropout between them, identity at the end."""

    def __init__(self, mean: Tensor, scale: Tensor, hidden: Sequence[int], bits: int, dropout: float) -> None:
        super().__init__()
        self.standard = Standardise(mean, scale)
        layers: list[nn.Module] = []
        for wide, narrow in pairwise([len(mean), *hidden, bits]):
            layers += [nn.Linear(wide, narrow), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers[:-2])
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=SPREAD)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.layers(self.standard(x)))


class Net(nn.Module):
    """One modality whole: a head over vectors, or over what a backbone makes of pixels (b, 3, h, w)."""

    def __init__(self, head: Head, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.head, self.backbone = head, backbone

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(x if self.backbone is None else self.backbone(x)))


class CnnF(nn.Module):
    """CNN-F up to full7: pixels (b, 3, 224, 224) of 0..255 to (b, 4096). It subtracts its mean picture itself."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((3, CNNF_SIDE, CNNF_SIDE), 127.0))
        self.conv1 = nn.Conv2d(3, 64, 11, stride=4)
        self.conv2 = nn.Conv2d(64, 256, 5, padding=2)
        self.conv3 = nn.Conv2d(256, 256, 3, padding=1)
        self.conv4 = nn.Conv2d(256, 256, 3, padding=1)
        self.conv5 = nn.Conv2d(256, 256, 3, padding=1)
        self.full6 = nn.Conv2d(256, CNNF_DIM, 6)
        self.full7 = nn.Conv2d(CNNF_DIM, CNNF_DIM, 1)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)  # 54, 27, 13, 6 as with the weights' padding below and right
        self.norm = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2)  # torch divides alpha by size: 1e-4 an element

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.pool(self.norm(self.relu(self.conv1(pixels - self.mean))))  # (b, 64, 27, 27)
        x = self.pool(self.norm(self.relu(self.conv2(x))))  # (b, 256, 13, 13)
        x = self.relu(self.conv4(self.relu(self.conv3(x))))
        x = self.pool(self.relu(self.conv5(x)))  # (b, 256, 6, 6)
        return cast(Tensor, self.relu(self.full7(self.relu(self.full6(x)))).flatten(1))


def read_cnnf(path: Path) -> dict[str, Tensor]:
    """The state of a CnnF from `imagenet-vgg-f.mat` as MatConvNet has it, in the layout of beta 16 or later.

    Raises DataError, naming the layer, where the file has other shapes.
    """
    from scipy.io import loadmat

    try:
        file = loadmat(path, squeeze_me=True, struct_as_record=False)
    except Exception as error:  # scipy raises as many sorts as there are ways to be no such file
        raise DataError(f"{path}: no MATLAB file of weights: {error}") from error
    if "layers" not in file:
        raise DataError(f"{path}: expected the variable 'layers', got {', '.join(n for n in file if n[0] != '_')}")
    layers = [layer for layer in np.atleast_1d(file["layers"]) if getattr(layer, "type", "") == "conv"]
    if len(layers) < len(CNNF_FILTERS):
        raise DataError(f"{path}: expected {len(CNNF_FILTERS)} convolutions or more, got {len(layers)}")
    state = {"mean": _mean_picture(path, file)}
    for (name, shape), layer in zip(CNNF_FILTERS.items(), layers, strict=False):
        filters, biases = layer.weights if hasattr(layer, "weights") else (layer.filters, layer.biases)
        state[f"{name}.weight"] = _sized(path, name, filters, shape).permute(3, 2, 0, 1).contiguous()
        state[f"{name}.bias"] = _sized(path, f"{name}'s biases", biases, shape[3:])
    return state


def _sized(path: Path, what: str, array: NDArray[Any], shape: tuple[int, ...]) -> Tensor:
    """The array in its full shape; MATLAB drops axes of one."""
    array = np.asarray(array)
    if [size for size in array.shape if size != 1] != [size for size in shape if size != 1]:
        raise DataError(f"{path}: {what}: expected {shape}, got {array.shape}; is it CNN-F (imagenet-vgg-f)?")
    return torch.from_numpy(np.array(array.reshape(shape), np.float32, order="C"))


def _mean_picture(path: Path, file: Mapping[str, Any]) -> Tensor:
    """(3, 224, 224), from `normalization` (beta 16) or `meta.normalization` (later)."""
    place = file.get("normalization", None) or getattr(file.get("meta", None), "normalization", None)
    if place is None or not hasattr(place, "averageImage"):
        raise DataError(f"{path}: has no normalization.averageImage, the mean picture that its weights want subtracted")
    mean = np.asarray(place.averageImage, np.float32)
    if mean.shape not in ((3,), (CNNF_SIDE, CNNF_SIDE, 3)):
        raise DataError(f"{path}: the mean picture: expected (224, 224, 3) or (3,), got {mean.shape}")
    whole = np.broadcast_to(mean, (CNNF_SIDE, CNNF_SIDE, 3))
    return torch.from_numpy(np.array(whole.transpose(2, 0, 1), order="C"))
