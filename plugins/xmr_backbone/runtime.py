"""EfficientNet-Lite0 in onnxruntime: the layers of `nets` as an ONNX graph, in two thirds of torch's time or less.

The graph is built in memory from the folded layers, so both compute the same to about 2e-5; nothing is exported or
written. Where onnxruntime or onnx is absent, torch computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import nn

from xmr_backbone.nets import Block, Convolution, Lite0Network, feature_map

__all__ = ["FeatureMap", "fastest"]

FeatureMap = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # (3, side, side) to (t, 1280)

OPSET, IR = 13, 7  # old enough for every onnxruntime that has wheels for the Pythons supported here


def fastest(network: Lite0Network) -> FeatureMap:
    """An image (3, side, side) to its regions ((side / 32)^2, 1280), computed in the calling thread alone.

    By onnxruntime where it is installed, else by torch.
    """
    try:
        onnx, onnxruntime = import_module("onnx"), import_module("onnxruntime")
    except ImportError:
        return lambda pixels: feature_map(network, pixels)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # images, not layers, are spread over cores
    options.log_severity_level = 3  # errors
    graph = model(network, onnx).SerializeToString()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def regions(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        (maps,) = session.run(None, {"pixels": pixels[None]})  # (1, 1280, h, w)
        return cast("NDArray[np.float32]", maps[0].reshape(len(maps[0]), -1).T)

    return regions


def model(network: Lite0Network, onnx: Any) -> Any:
    """The network as an ONNX model, `pixels` (1, 3, side, side) to `maps` (1, 1280, side / 32, side / 32)."""
    graph = _Graph(onnx)
    graph.name(graph.sequence("pixels", network.layers), "maps")
    number, helper = onnx.TensorProto.FLOAT, onnx.helper
    ends = (("pixels", [1, 3, "height", "width"]), ("maps", [1, None, None, None]))
    given, made = (helper.make_tensor_value_info(name, number, shape) for name, shape in ends)
    whole = helper.make_graph(graph.nodes, "lite0", [given], [made], graph.arrays)
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)


class _Graph:
    """An ONNX graph in the making: nodes in the order in which they run, and the arrays they read."""

    def __init__(self, onnx: Any) -> None:
        self._helper, self._array = onnx.helper, onnx.numpy_helper.from_array
        self.nodes: list[Any] = []
        self.arrays: list[Any] = []
        self._limits = [self._held(np.array(limit, np.float32)) for limit in (0, 6)]  # of ReLU6

    def sequence(self, x: str, layers: Iterable[nn.Module]) -> str:
        """The name of what these blocks and convolutions make of `x`, one after the other."""
        for layer in layers:
            x = self._block(x, layer) if isinstance(layer, Block) else self._convolution(x, cast(Convolution, layer))
        return x

    def name(self, value: str, name: str) -> None:
        """Call what the graph has made by another name."""
        self.nodes.append(self._helper.make_node("Identity", [value], [name]))

    def _block(self, x: str, block: Block) -> str:
        y = self.sequence(x, block.layers)
        return self._node("Add", [x, y]) if block.shortcut else y

    def _convolution(self, x: str, layers: Convolution) -> str:
        pads = [0, 0, 0, 0]  # top, left, bottom, right
        for layer in layers:
            if isinstance(layer, nn.ZeroPad2d):
                left, right, top, bottom = layer.padding
                pads = [top, left, bottom, right]
            elif isinstance(layer, nn.Conv2d):
                x = self._convolved(x, layer, pads)
            else:  # ReLU6
                x = self._node("Clip", [x, *self._limits])
        return x

    def _convolved(self, x: str, layer: nn.Conv2d, pads: list[int]) -> str:
        arrays = [self._held(cast(Any, array).detach().numpy()) for array in (layer.weight, layer.bias)]
        pads = [extra + own for extra, own in zip(pads, 2 * list(cast("tuple[int, int]", layer.padding)), strict=True)]
        return self._node("Conv", [x, *arrays], strides=list(layer.stride), pads=pads, group=layer.groups)

    def _node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        made = f"{kind}{len(self.nodes)}"
        self.nodes.append(self._helper.make_node(kind, inputs, [made], **attributes))
        return made

    def _held(self, array: NDArray[np.float32]) -> str:
        name = f"array{len(self.arrays)}"
        self.arrays.append(self._array(np.ascontiguousarray(array), name))
        return name
