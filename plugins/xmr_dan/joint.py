"""The network of r-DAN: one memory of picture and question together, which both attentions read and write.

Source: Nam, Ha & Kim, "Dual Attention Networks for Multimodal Reasoning and Matching", CVPR 2017, section 3.3.

Several questions are about one picture and several pictures get one question, so what depends on the picture alone, or
on the words alone, is computed once a batch: the formulas are those of `nets`, in another order.

Letters: b questions of a batch on p distinct pictures in s distinct wordings; n regions, t words, d dimensions of a
region, dim of everything behind it, a answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xmr_dan.nets import Sentences, TextStep, VisualStart, VisualStep, masked_softmax, text_start

__all__ = ["Batch", "JointNetwork", "answer_loss"]


@dataclass(frozen=True)
class Batch:
    """What the network takes: pictures, wordings, and which of them each question has."""

    regions: Tensor  # (p, n, d) float32
    region_mask: Tensor | None  # (p, n)
    picture: Tensor  # (b,)
    ids: Tensor  # (s, t)
    mask: Tensor  # (s, t)
    wording: Tensor  # (b,)


class Groups:
    """b rows that each belong to one of g groups, laid out as (g, most): so one product a group serves its rows."""

    def __init__(self, group: Tensor, groups: int) -> None:
        sizes = torch.bincount(group, minlength=groups)  # (g,)
        order = torch.argsort(group, stable=True)
        before = (sizes.cumsum(0) - sizes)[group[order]]
        self.group, self.slot, self.shape = group, torch.empty_like(group), (groups, int(sizes.max()))
        self.slot[order] = torch.arange(len(group), device=group.device) - before

    def lay(self, rows: Tensor) -> Tensor:
        """(g, most, x) of rows (b, x), zeros where a group has fewer."""
        return rows.new_zeros(*self.shape, rows.shape[1]).index_put((self.group, self.slot), rows)

    def pick(self, laid: Tensor) -> Tensor:
        """(b, x) of laid (g, most, x)."""
        return laid[self.group, self.slot]


class JointNetwork(nn.Module):
    """Questions about pictures to scores of answers: m^(0) = v^(0) * u^(0), m^(k) = m^(k-1) + v^(k) * u^(k)."""

    def __init__(
        self, region_dim: int, vocabulary: int, answers: int, dim: int = 512, steps: int = 2, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.sentences = Sentences(vocabulary, dim, dropout)
        self.start = VisualStart(region_dim, dim)
        self.visual = nn.ModuleList(VisualStep(region_dim, dim, dropout) for _ in range(steps))
        self.text = nn.ModuleList(TextStep(dim, dropout) for _ in range(steps))
        self.dropout = nn.Dropout(dropout)
        self.answer = nn.Linear(dim, answers)  # W_ans

    def forward(self, batch: Batch) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Scores (b, a), and the attention of each step over regions (b, n) and words (b, t)."""
        by_picture = Groups(batch.picture, len(batch.regions))
        by_wording = Groups(batch.wording, len(batch.ids))
        words = self.sentences(batch.ids, batch.mask)  # (s, t, dim)
        v = self.start(batch.regions, batch.region_mask)[batch.picture]
        u = text_start(words, batch.mask)[batch.wording]
        memory = v * u  # (b, dim)
        seen, read = [], []
        step: Any
        for step in zip(self.visual, self.text, strict=True):
            v, of_regions = attend(step[0].scores, batch.regions, batch.region_mask, memory, by_picture)
            u, of_words = attend(step[1].scores, words, batch.mask, memory, by_wording)
            memory = memory + torch.tanh(step[0].project(v)) * u
            seen.append(of_regions)
            read.append(of_words)
        return self.answer(self.dropout(memory)), seen, read


def attend(scores: Any, inputs: Tensor, mask: Tensor | None, memory: Tensor, groups: Groups) -> tuple[Tensor, Tensor]:
    """What each memory (b, dim) finds in the inputs (g, n, d) of its group: their sum (b, d) by its weights (b, n).

    w_h . (tanh(W x) * tanh(W_m m)) is the product of tanh(W x) with w_h * tanh(W_m m), so the first is computed once a
    group.
    """
    keys = torch.tanh(scores.of_inputs(inputs))  # (g, n, dim)
    asked = torch.tanh(scores.of_memory(memory)) * scores.score.weight  # (b, dim)
    asked = scores.dropout(asked.unsqueeze(1)).squeeze(1)
    laid = torch.bmm(groups.lay(asked), keys.transpose(1, 2))  # (g, most, n)
    hidden = None if mask is None else mask.unsqueeze(1).expand_as(laid).flatten(0, 1)
    weights = masked_softmax(laid.flatten(0, 1), hidden).view_as(laid)
    return groups.pick(torch.bmm(weights, inputs)), groups.pick(weights)


def answer_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of scores (b, a) against the shares of answers (b, a), whose rows sum to 1; the mean."""
    return -(targets * scores.log_softmax(dim=1)).sum(dim=1).mean()
