"""The catalyzer's network: three linear layers, onto the unit sphere. Torch trains it, numpy runs what was learned.

Source: Sablayrolles, Douze, Schmid, Jegou, "Spreading vectors for similarity search", ICLR 2019: Linear - BatchNorm -
ReLU - Linear - BatchNorm - ReLU - Linear - L2 norm.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["Network", "folded"]


class Network(nn.Module):
    """(n, d) to (n, dim), rows of length 1. `shift` (d,) and `scale` bring inputs to the size that layers expect."""

    shift: Tensor
    scale: Tensor

    def __init__(self, d: int, hidden: int, dim: int, shift: Tensor, scale: Tensor, generator: torch.Generator) -> None:
        super().__init__()
        widths = (d, hidden, hidden, dim)
        self.linear = nn.ModuleList(_linear(*pair, generator) for pair in pairwise(widths))
        self.norm = nn.ModuleList(nn.BatchNorm1d(hidden) for _ in range(2))
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        """Points of the sphere, float32."""
        x = (x - self.shift) / self.scale
        for linear, norm in zip(self.linear, self.norm, strict=False):
            x = norm(linear(x)).relu()
        points: Tensor = self.linear[-1](x)
        return nn.functional.normalize(points.float(), dim=1)


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """torch's default start, drawn from a generator of one's own."""
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -(inputs**-0.5), inputs**-0.5, generator=generator)
    return layer


def folded(network: Network) -> dict[str, NDArray[np.float32]]:
    """The three layers, `weights0` (d, hidden), `bias0` (hidden,) and so on; all else that is linear is folded in."""
    weights, biases = ([_array(getattr(linear, part)) for linear in network.linear] for part in ("weight", "bias"))
    weights[0] /= _array(network.scale)
    biases[0] -= weights[0] @ _array(network.shift)
    for i, norm in enumerate(network.norm):
        assert isinstance(norm, nn.BatchNorm1d) and norm.running_mean is not None and norm.running_var is not None
        gain = _array(norm.weight) / np.sqrt(_array(norm.running_var) + norm.eps)  # (hidden,)
        weights[i] *= gain[:, None]
        biases[i] = gain * (biases[i] - _array(norm.running_mean)) + _array(norm.bias)
    arrays = {f"weights{i}": np.ascontiguousarray(matrix.T) for i, matrix in enumerate(weights)}
    arrays |= {f"bias{i}": bias for i, bias in enumerate(biases)}
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def _array(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.detach().cpu().double().numpy().copy()
