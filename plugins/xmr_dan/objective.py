"""What m-DAN is trained for: pairs score higher than the wrong pictures and sentences of their batch.

Sources: Nam, Ha & Kim, CVPR 2017, equations 18 to 20; for `contrastive` van den Oord et al., 2018, and Radford et al.,
ICML 2021.

Letters: b pictures and s sentences of a batch, each sentence once with one picture of it, its `row`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import relu

__all__ = ["contrastive", "hardest", "similarity"]


def similarity(v: Tensor, u: Tensor) -> Tensor:
    """S (b,) of pairs, as the paper writes it: the sum over steps k = 0..K of s^(k) = v^(k) . u^(k).

    v and u are (b, K + 1, dim). Laid end to end the steps are one vector an item, and S is an inner product.
    """
    steps = (v * u).sum(dim=2)  # (b, K + 1): s^(k)
    return steps.sum(dim=1)


def hardest(scores: Tensor, row: Tensor, own: Tensor, margin: float) -> Tensor:
    """The mean over pairs of [m - S(v,u) + max S(v-,u)]+ + [m - S(v,u) + max S(v,u-)]+.

    `scores` (b, s); `row` (s,) the picture of each sentence; `own` (b, s) True where the picture has that sentence,
    which is then no wrong one. A mean where the paper has a sum: the batch's size changes no learning rate.
    """
    right = scores[row, torch.arange(len(row), device=row.device)]  # (s,)
    wrong = scores.masked_fill(own, -torch.inf)
    picture, sentence = wrong.amax(dim=0), wrong.amax(dim=1)[row]  # (s,) each
    return (relu(margin - right + picture) + relu(margin - right + sentence)).mean()


def contrastive(scores: Tensor, row: Tensor, own: Tensor, temperature: float) -> Tensor:
    """The mean over pairs of -log p(v | u) - log p(u | v), each among a pair's own and all wrong ones of the batch.

    p is a softmax over scores / temperature. Arguments and shapes as in `hardest`; the picture's other sentences are
    neither right nor wrong.
    """
    logits = scores / temperature
    right = logits[row, torch.arange(len(row), device=row.device)]  # (s,)
    wrong = logits.masked_fill(own, torch.finfo(logits.dtype).min)  # finite: a batch may have no wrong one
    picture, sentence = wrong.logsumexp(dim=0), wrong.logsumexp(dim=1)[row]  # (s,) each
    return (torch.logaddexp(picture, right) + torch.logaddexp(sentence, right) - 2 * right).mean()
