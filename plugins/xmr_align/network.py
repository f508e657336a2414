"""A projection head for each modality, and the temperature that scales their cosines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from xmr_align.config import ContrastiveConfig
from xmr_align.inputs import Floats
from xmr_core import IMAGE, TEXT

__all__ = ["Heads", "standard"]

COLDEST = 0.01  # temperature: a learned one does not fall below it
LENGTH = 4.0  # of inputs, in quadratic mean: longer ones are learned faster, and by heart
EPSILON = 1e-5  # added to variances of hidden units


class Head(nn.Module):
    """Vectors (b, d), scaled, through one hidden layer with batch normalization to points of k unit spheres (b, k, e).

    k networks side by side, of which each has its own hidden units and e = dim / k of the dimensions. Source: Ioffe &
    Szegedy, ICML 2015 (batch normalization, here between the first layer and its ReLU).
    """

    scale: Tensor

    def __init__(self, d: int, scale: Tensor, config: ContrastiveConfig) -> None:
        super().__init__()
        k = config.networks
        self.register_buffer("scale", scale)  # ()
        firsts = [nn.Linear(d, config.hidden) for _ in range(k)]  # for their initial weights, as `lasts`
        lasts = [nn.Linear(config.hidden, config.dim // k) for _ in range(k)]
        self.wide = nn.Parameter(torch.cat([first.weight.detach().T for first in firsts], dim=1))  # (d, k * hidden)
        self.norm = nn.BatchNorm1d(k * config.hidden, EPSILON)  # centres inputs, too; its offset is this layer's bias
        self.narrow = nn.Parameter(torch.stack([last.weight.detach().T for last in lasts]))  # (k, hidden, e)
        self.narrow_bias = nn.Parameter(torch.cat([last.bias.detach() for last in lasts]))  # (dim,)
        self.dropout = config.dropout

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional.relu(self.norm(self._first(x)))
        hidden = functional.dropout(hidden, self.dropout, self.training)
        k = len(self.narrow)
        own = hidden.reshape(len(x), k, -1).transpose(0, 1)  # (k, b, hidden)
        points = (own @ self.narrow).transpose(0, 1) + self.narrow_bias.reshape(k, -1)
        return functional.normalize(points, dim=2)

    def _first(self, x: Tensor) -> Tensor:
        """(b, k * hidden): scaled vectors by the weights of the first layer. Of bags of words most columns are zero in
        a whole batch, and are left out."""
        columns = x.any(dim=0).nonzero()[:, 0]
        if 2 * len(columns) < x.shape[1]:
            return x[:, columns] @ self.wide.index_select(0, columns) / self.scale
        return x @ self.wide / self.scale

    def folded(self) -> dict[str, NDArray[np.float32]]:
        """`wide` (d, k * hidden), `narrow` (k, hidden, e) and their biases, for vectors as they come; `narrow` of one
        network is (hidden, e)."""
        mean, variance = (cast(Tensor, of) for of in (self.norm.running_mean, self.norm.running_var))
        slope = self.norm.weight / (variance + EPSILON).sqrt()  # (k * hidden,)
        layers = {
            "wide": self.wide / self.scale * slope,
            "wide_bias": self.norm.bias - mean * slope,
            "narrow": self.narrow if len(self.narrow) > 1 else self.narrow[0],
            "narrow_bias": self.narrow_bias,
        }
        return {name: np.ascontiguousarray(array.detach().cpu().numpy()) for name, array in layers.items()}


class Heads(nn.Module):
    """The heads of both modalities, for the vectors that they learn from."""

    def __init__(self, vectors: Mapping[str, Floats], config: ContrastiveConfig) -> None:
        super().__init__()
        made = {m: Head(vectors[m].shape[1], standard(vectors[m]), config) for m in (IMAGE, TEXT)}
        self.heads = nn.ModuleDict(made)
        start = torch.tensor(-math.log(config.temperature))
        self.log_scale = nn.Parameter(start, requires_grad=config.learn_temperature)

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        """(k, b, b): cosines in each network over the temperature."""
        scale = self.log_scale.clamp(max=-math.log(COLDEST)).exp()
        u, v = (self.heads[m](x).transpose(0, 1) for m, x in ((IMAGE, images), (TEXT, texts)))  # (k, b, e)
        return cast(Tensor, u @ v.transpose(1, 2) * scale)

    def folded(self) -> dict[str, NDArray[np.float32]]:
        """The layers of both heads, `image/wide` and so on."""
        return {
            f"{m}/{name}": array for m in (IMAGE, TEXT) for name, array in cast(Any, self.heads[m]).folded().items()
        }


def standard(vectors: Floats) -> Tensor:
    """The scale () by which vectors (n, d) are divided to have a mean square length of `LENGTH`**2 about their mean.

    Batch normalization makes up for any scale, but not for the rate at which the first layer learns: with a mean square
    of 1 a number (a length of 36 for 1,280 dimensions) it learns the training captions by heart in two epochs.
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    square = float(np.einsum("nd,nd->", vectors, vectors, dtype=np.float64)) / len(vectors) - float(mean @ mean)
    scale = math.sqrt(square) / LENGTH if square > 1e-12 * len(mean) else 1.0  # all alike: nothing to scale
    return torch.tensor(scale, dtype=torch.float32)
