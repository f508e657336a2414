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


class Head(nn.Module):
    """Vectors (b, d), centred and scaled, through one hidden layer to points of the unit sphere (b, dim)."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor, hidden: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("mean", mean)  # (d,)
        self.register_buffer("scale", scale)  # ()
        first = nn.Linear(len(mean), hidden)  # its initial weights; rows are inputs here, to be chosen cheaply
        self.wide = nn.Parameter(first.weight.detach().T.contiguous())  # (d, hidden)
        self.wide_bias = nn.Parameter(first.bias.detach())
        self.narrow = nn.Linear(hidden, dim)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional.relu(self._first(x) / self.scale + self.wide_bias)
        return functional.normalize(self.narrow(functional.dropout(hidden, self.dropout, self.training)), dim=1)

    def _first(self, x: Tensor) -> Tensor:
        """(b, hidden): centred vectors by the weights of the first layer. Of bags of words most columns are zero in a
        whole batch, and are left out."""
        columns, centre = x.any(dim=0).nonzero()[:, 0], self.mean @ self.wide  # (hidden,)
        if 2 * len(columns) < x.shape[1]:
            return x[:, columns] @ self.wide.index_select(0, columns) - centre
        return x @ self.wide - centre

    def folded(self) -> dict[str, NDArray[np.float32]]:
        """`wide` (d, hidden), `narrow` (hidden, dim) and their biases, for vectors as they come."""
        wide = self.wide / self.scale  # (d, hidden)
        layers = {
            "wide": wide,
            "wide_bias": self.wide_bias - self.mean @ wide,
            "narrow": self.narrow.weight.T,
            "narrow_bias": self.narrow.bias,
        }
        return {name: np.ascontiguousarray(array.detach().cpu().numpy()) for name, array in layers.items()}


class Heads(nn.Module):
    """The heads of both modalities."""

    def __init__(self, standards: Mapping[str, tuple[Tensor, Tensor]], config: ContrastiveConfig) -> None:
        super().__init__()
        self.heads = nn.ModuleDict(
            {m: Head(*standards[m], config.hidden, config.dim, config.dropout) for m in (IMAGE, TEXT)}
        )
        start = torch.tensor(-math.log(config.temperature))
        self.log_scale = nn.Parameter(start, requires_grad=config.learn_temperature)

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        """(b, b): cosines over the temperature."""
        scale = self.log_scale.clamp(max=-math.log(COLDEST)).exp()
        return cast(Tensor, self.heads[IMAGE](images) @ self.heads[TEXT](texts).T * scale)

    def folded(self) -> dict[str, NDArray[np.float32]]:
        """The layers of both heads, `image/wide` and so on."""
        return {
            f"{m}/{name}": array for m in (IMAGE, TEXT) for name, array in cast(Any, self.heads[m]).folded().items()
        }


def standard(vectors: Floats) -> tuple[Tensor, Tensor]:
    """The mean (d,) and the one scale () with which vectors (n, d) have mean 0 and mean square length `LENGTH`**2.

    With a mean square of 1 a number instead (a length of 36 for 1,280 dimensions), the training captions are learned by
    heart in two epochs and recall among others falls.
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    square = float(np.einsum("nd,nd->", vectors, vectors, dtype=np.float64)) / len(vectors) - float(mean @ mean)
    scale = math.sqrt(square) / LENGTH if square > 1e-12 * len(mean) else 1.0  # all alike: nothing to scale
    return torch.from_numpy(mean).float(), torch.tensor(scale, dtype=torch.float32)
