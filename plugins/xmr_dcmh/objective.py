"""The objective of DCMH, equation (1). Source: Jiang & Li, "Deep Cross-Modal Hashing", CVPR 2017.

The paper's letters, with a row an item where the paper has a column: F (n, c) are the picture net's outputs, G (n, c)
the text net's, B (n, c) of -1 and +1 the learned codes, S (n, n) of 0 and 1 says which items are similar, and

    Theta = 1/2 F G^T
    J = - sum_ij (S_ij Theta_ij - log(1 + exp Theta_ij))         similar items get similar codes across modalities
        + gamma (||B - F||^2 + ||B - G||^2)                      outputs near their codes
        + eta (||1^T F||^2 + ||1^T G||^2)                        each bit is +1 for half of the items

J is symmetric in F and G, so one function serves both nets: `own` is the side that learns, `other` the fixed one.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as nnf

__all__ = ["codes", "minibatch", "negative_likelihood", "total"]


def codes(F: Tensor, G: Tensor) -> Tensor:
    """B (n, c), the exact minimiser of J given F and G: sgn(F + G), with sgn(0) = +1."""
    return ((F + G >= 0).to(F.dtype)) * 2 - 1


def negative_likelihood(own: Tensor, other: Tensor, S: Tensor) -> Tensor:
    """The first term of J over the rows of `own` (b, c), `other` (n, c), S (b, n); finite for any Theta."""
    theta = own @ other.T / 2
    return (nnf.softplus(theta) - S * theta).sum()


def total(F: Tensor, G: Tensor, B: Tensor, S: Tensor, gamma: float, eta: float) -> Tensor:
    """J over everything, for checks: S is whole here."""
    quantisation = (B - F).square().sum() + (B - G).square().sum()
    balance = F.sum(dim=0).square().sum() + G.sum(dim=0).square().sum()
    return negative_likelihood(F, G, S) + gamma * quantisation + eta * balance


def minibatch(own: Tensor, other: Tensor, B: Tensor, rest: Tensor, S: Tensor, gamma: float, eta: float) -> Tensor:
    """What J says of b rows, over b n: its gradient in `own` is J's in those rows, over b n.

    `own` (b, c) are the batch's live outputs, `rest` (c) the sum of the buffer's other rows, B (b, c) the batch's
    codes, S (b, n) its similarities to `other` (n, c).
    """
    quantisation = (B - own).square().sum()
    balance = (rest + own.sum(dim=0)).square().sum()
    return (negative_likelihood(own, other, S) + gamma * quantisation + eta * balance) / (len(own) * len(other))
