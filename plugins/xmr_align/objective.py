"""The contrastive loss: of all captions in a batch, which belongs to an image, and the other way round.

Source: Oord et al., "Contrastive predictive coding", 2018 (InfoNCE); symmetric as in Radford et al., ICML 2021 (CLIP).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["contrastive"]


def contrastive(scores: Tensor, related: Tensor) -> Tensor:
    """The mean cross-entropy of rows and of columns of `scores` (b, b), whose diagonal is to win.

    `related` (b, b) bool marks what else belongs together: neither a negative nor the answer, and left out of the sums.
    """
    others = related & ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    scores = scores.masked_fill(others, -torch.inf)
    diagonal = torch.arange(len(scores), device=scores.device)
    return (functional.cross_entropy(scores, diagonal) + functional.cross_entropy(scores.T, diagonal)) / 2
