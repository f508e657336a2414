"""The network of m-DAN: pictures and sentences, each attended to by a memory of its own.

Source: Nam, Ha & Kim, CVPR 2017, section 3.3. As neither memory sees the other side, what a step gives is a vector of
the item alone: the steps, end to end, are its embedding.

Letters: b items of a batch, n regions, t words, K steps, d dimensions of a region, dim of what a step gives.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from xmr_dan.config import DanConfig
from xmr_dan.nets import Dropout, Sentences, TextStep, VisualStart, VisualStep, text_start

__all__ = ["Matching"]

SPREAD = 0.03  # of new words: rare ones stay short, and so say little; at 1 a third of R@1 is lost on Flickr8k

Attended = tuple[Tensor, Tensor]  # steps (b, K + 1, dim) and weights (b, K, n or t)


class Matching(nn.Module):
    """`pictures` and `sentences`: the vectors of steps 0..K, and what steps 1..K attended to."""

    mean: Tensor  # (d,) of the regions to learn from,
    scale: Tensor  # () and their spread

    def __init__(self, mean: Tensor, scale: Tensor, vocabulary: int, config: DanConfig, dropout: float = 0.0) -> None:
        super().__init__()
        d, dim = len(mean), config.dim
        self.unit = config.loss != "paper"  # what a step gives is of length 1
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.dropout = Dropout(dropout)
        self.visual_start = VisualStart(d, dim)
        self.visual_steps = nn.ModuleList([VisualStep(d, dim, dropout) for _ in range(config.steps)])
        self.words = Sentences(vocabulary, dim, dropout, SPREAD)
        self.text_steps = nn.ModuleList([TextStep(dim, dropout) for _ in range(config.steps)])

    def pictures(self, regions: Tensor, mask: Tensor | None) -> Attended:
        """Of regions (b, n, d), mask (b, n)."""
        x = self.dropout((regions - self.mean) / self.scale)  # (b, n, d)
        return self._remember(self.visual_start(x, mask), self.visual_steps, x, mask)

    def sentences(self, ids: Tensor, mask: Tensor) -> Attended:
        """Of word ids (b, t), mask (b, t)."""
        u = self.words(ids, mask)  # (b, t, dim)
        return self._remember(text_start(u, mask), self.text_steps, u, mask)

    def _remember(self, start: Tensor, steps: Iterable[nn.Module], inputs: Tensor, mask: Tensor | None) -> Attended:
        """m^(0) is the start, m^(k) = m^(k-1) + what step k finds in the inputs (b, n, d)."""
        vectors, weights = [start], [start.new_empty(len(inputs), 0, inputs.shape[1], dtype=torch.float32)]
        memory = start
        for step in steps:
            vector, attention = step(inputs, memory, mask)
            memory = memory + vector
            vectors.append(vector)
            weights.append(attention.unsqueeze(1))
        stacked = torch.stack([vector.float() for vector in vectors], dim=1)  # (b, K + 1, dim)
        return normalize(stacked, dim=2) if self.unit else stacked, torch.cat(weights, dim=1)
