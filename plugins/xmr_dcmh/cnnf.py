"""CNN-F, the picture network of the DCMH paper, as an encoder. Source: Chatfield et al., BMVC 2014."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.plugin import Form, Widths, decode_images
from xmr_dcmh.config import CnnfConfig

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import nn

SIDE, DIM = 224, 4096
CHUNK = 32  # pictures the network takes at once


class Cnnf(xmr.Encoder[CnnfConfig]):
    """The outputs of full7, (n, 1, 4096). Pictures are resized to 224 x 224 without cropping, 0..255."""

    name: ClassVar[str] = "cnnf"
    needs_fit: ClassVar[bool] = False
    forms: ClassVar[Mapping[str, Form]] = {xmr.IMAGE: "vector"}
    cacheable: ClassVar[bool] = True
    feature_dim: ClassVar[int] = DIM

    @xmr.takes(CnnfConfig)
    def __init__(self) -> None: ...

    def widths(self) -> Widths:
        """4096 numbers an image."""
        return {xmr.IMAGE: DIM}

    def weights_digest(self) -> str:
        """sha256 of the file of weights, or ''. Raises DataError where there is no such file."""
        return "" if self.config.weights is None else _digest(_file(self.config.weights))

    def network(self, pretrained: bool = True) -> nn.Module:
        """(b, 3, 224, 224) to (b, 4096), freshly made. Raises DataError where the file is not CNN-F's."""
        from xmr_dcmh.nets import CnnF, read_cnnf

        network = CnnF()  # random
        if pretrained and self.config.weights is not None:
            network.load_state_dict(read_cnnf(_file(self.config.weights)))
        return network.eval()

    def pixels(self, items: xmr.Items) -> NDArray[np.float32]:
        """(n, 3, 224, 224) float32 of 0..255; the network subtracts its mean. Raises DataError with the bad keys."""
        self.require_modality(items.modality)
        inputs = list(decode_images(items, _resized, at_least=2 * SIDE))
        return np.stack(inputs) if inputs else np.empty((0, 3, SIDE, SIDE), np.float32)

    def encode(self, items: xmr.Items) -> xmr.Features:
        """Features (n, 1, 4096). Raises ConfigError without weights, DataError with the bad keys."""
        import torch

        self.require_modality(items.modality)
        if self.config.weights is None:
            raise xmr.ConfigError("weights", None, "untrained, cnnf says nothing; give a file, or dcmh(image='cnnf')")
        network = _network(self.config.weights)
        outputs = [np.empty((0, DIM), np.float32)]
        with torch.inference_mode():
            for start in range(0, len(items), CHUNK):
                block = self.pixels(items.take(np.arange(start, min(start + CHUNK, len(items)))))
                outputs.append(network(torch.from_numpy(block)).numpy())
        return xmr.Features.of_vectors(items.modality, np.concatenate(outputs), self.metric)


def _file(weights: str) -> Path:
    file = Path(weights)
    if not file.is_file():
        raise xmr.DataError(f"cnnf: no file of weights at {weights!r}; imagenet-vgg-f.mat of MatConvNet is wanted")
    return file


@functools.cache
def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@functools.cache
def _network(weights: str) -> Any:
    """The network for encoding, once a process."""
    return Cnnf(weights=weights).network()


def _resized(picture: Image) -> NDArray[np.float32]:
    """(3, 224, 224) float32"""
    from PIL.Image import Resampling

    resized = np.asarray(picture.resize((SIDE, SIDE), Resampling.BICUBIC), np.float32)  # (224, 224, 3)
    return np.ascontiguousarray(resized.transpose(2, 0, 1))
