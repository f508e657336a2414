"""The catalyzer's network: three linear layers, onto the unit sphere. Torch trains it, numpy runs what was learned.

Source: Sablayrolles, Douze, Schmid, Jegou, "Spreading vectors for similarity search", ICLR 2019: Linear - BatchNorm -
ReLU - Linear - BatchNorm - ReLU - Linear - L2 norm.
"""

from __future__ import annotations

from typing import Any

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
        self.layers = nn.Sequential(
            _linear(d, hidden, generator),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            _linear(hidden, hidden, generator),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            _linear(hidden, dim, generator),
        )
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        """Points of the sphere, float32."""
        points: Tensor = self.layers((x - self.shift) / self.scale)
        return nn.functional.normalize(points.float(), dim=1)


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """torch's default start, drawn from a generator of one's own."""
    layer: nn.Linear = torch.nn.utils.skip_init(nn.Linear, inputs, outputs)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -(inputs**-0.5), inputs**-0.5, generator=generator)
    return layer


def folded(network: Network) -> dict[str, NDArray[Any]]:
    """The layers with all that is linear folded into them: `weights0` (d, hidden), `bias0` (hidden,), ... float32."""
    scale: Any = 1 / network.scale.double()
    shift: Any = -network.shift.double() * scale  # the input that a layer gets is scale * x + shift
    arrays = {}
    steps = list(network.layers)
    for i, (linear, norm) in enumerate(zip(steps[0::3], [*steps[1::3], None], strict=True)):
        weights = linear.weight.double()  # (outputs, inputs)
        bias = linear.bias.double() + weights @ (shift * torch.ones(weights.shape[1], device=weights.device))
        weights = weights * scale
        if norm is not None:
            gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
            weights, bias = gain[:, None] * weights, gain * (bias - norm.running_mean.double()) + norm.bias.double()
        scale, shift = 1.0, 0.0
        arrays |= {f"weights{i}": weights.T, f"bias{i}": bias}
    return {name: np.ascontiguousarray(value.detach().cpu().float().numpy()) for name, value in arrays.items()}
