"""What both networks are trained with in the paper.

Source: Nam, Ha & Kim, CVPR 2017, section 4.
"""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["paper_sgd"]


def paper_sgd(parameters: Any) -> torch.optim.Optimizer:
    """The paper's optimiser."""
    return torch.optim.SGD(parameters, momentum=0.9, weight_decay=5e-4)
