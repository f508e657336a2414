"""The catalyzer's networks: three linear layers, onto the unit sphere, and three that lead back. Torch trains them,
numpy runs what was learned.

Source: Sablayrolles, Douze, Schmid, Jegou, "Spreading vectors for similarity search", ICLR 2019: Linear - BatchNorm -
ReLU - Linear - BatchNorm - ReLU - Linear - L2 norm. The way back is ours.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["Network", "folded"]

Floats = NDArray[np.float32]


class Layers(nn.Module):
    """(n, inputs) to (n, outputs): Linear - BatchNorm - ReLU, twice, and Linear."""

    def __init__(self, inputs: int, hidden: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.linear = nn.ModuleList(_linear(*pair, generator) for pair in pairwise((inputs, hidden, hidden, outputs)))
        self.norm = nn.ModuleList(nn.BatchNorm1d(hidden) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """What the last layer gives."""
        for linear, norm in zip(self.linear, self.norm, strict=False):
            x = norm(linear(x)).relu()
        return cast(Tensor, self.linear[-1](x))


class Network(nn.Module):
    """(n, d) to (n, dim), rows of length 1. `shift` (d,) and `scale` bring inputs to the size that layers expect.

    `back`, where `inverse` gives its width, restores vectors from points. `sharpness` is learned by the loss "nearest".
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        d: int,
        hidden: int,
        dim: int,
        shift: Tensor,
        scale: Tensor,
        generator: torch.Generator,
        inverse: int = 0,
        sharpness: float = 1.0,
    ) -> None:
        super().__init__()
        self.there = Layers(d, hidden, dim, generator)
        self.back = Layers(dim, inverse, d, generator) if inverse else None
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(sharpness)))
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)

    def standard(self, x: Tensor) -> Tensor:
        """Inputs about 0, of size about 1."""
        return (x - self.shift) / self.scale

    def forward(self, x: Tensor) -> Tensor:
        """Points of the sphere, float32."""
        return nn.functional.normalize(self.there(self.standard(x)).float(), dim=1)

    def restored(self, points: Tensor) -> Tensor:
        """(n, d) float32, `standard` vectors that points stand for. Only where there is a way back."""
        assert self.back is not None
        vectors: Tensor = self.back(points)
        return vectors.float()


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """torch's default start, drawn from a generator of one's own."""
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -(inputs**-0.5), inputs**-0.5, generator=generator)
    return layer


def folded(network: Network) -> dict[str, Floats]:
    """The three layers, `weights0` (d, hidden), `bias0` (hidden,) and so on, and those of the way `back_` where there
    is one; all else that is linear is folded in."""
    shift, scale = _array(network.shift), _array(network.scale)
    weights, biases = _folded(network.there)
    weights[0] /= scale
    biases[0] -= weights[0] @ shift
    arrays = _named("", weights, biases)
    if network.back is not None:
        weights, biases = _folded(network.back)
        weights[2] *= scale
        biases[2] = biases[2] * scale + shift
        arrays |= _named("back_", weights, biases)
    return arrays


def _folded(layers: Layers) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    weights, biases = ([_array(getattr(linear, part)) for linear in layers.linear] for part in ("weight", "bias"))
    for i, norm in enumerate(layers.norm):
        assert isinstance(norm, nn.BatchNorm1d) and norm.running_mean is not None and norm.running_var is not None
        gain = _array(norm.weight) / np.sqrt(_array(norm.running_var) + norm.eps)  # (hidden,)
        weights[i] *= gain[:, None]
        biases[i] = gain * (biases[i] - _array(norm.running_mean)) + _array(norm.bias)
    return weights, biases


def _named(way: str, weights: list[NDArray[np.float64]], biases: list[NDArray[np.float64]]) -> dict[str, Floats]:
    arrays = {f"{way}weights{i}": np.ascontiguousarray(matrix.T) for i, matrix in enumerate(weights)}
    arrays |= {f"{way}bias{i}": bias for i, bias in enumerate(biases)}
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def _array(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.detach().cpu().double().numpy().copy()
