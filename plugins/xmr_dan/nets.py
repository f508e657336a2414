"""The layers of dual attention networks, leaf to whole: what m-DAN and r-DAN are both made of.

Source: Nam, Ha & Kim, "Dual Attention Networks for Multimodal Reasoning and Matching", CVPR 2017, section 3.

Letters: b items of a batch, n regions, t words, d dimensions of a region, dim of everything behind it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

__all__ = [
    "Dropout",
    "Sentences",
    "TextStep",
    "VisualStart",
    "VisualStep",
    "masked_mean",
    "masked_softmax",
    "text_start",
]


def masked_softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """(b, n) weights that sum to 1 in each row, exactly 0 where `mask` (b, n) is False. A row has one True at least."""
    scores = scores.float()
    return (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(dim=1)


def masked_mean(vectors: Tensor, mask: Tensor | None) -> Tensor:
    """(b, d): the mean of vectors (b, n, d) over those that `mask` (b, n) has True."""
    if mask is None:
        return vectors.mean(dim=1)
    real = mask.unsqueeze(2).to(vectors.dtype)  # (b, n, 1)
    return (vectors * real).sum(dim=1) / real.sum(dim=1)


class Dropout(nn.Module):
    """Dropout of whole dimensions: an item loses the same ones of all its regions or words.

    Source: Gal & Ghahramani, "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks", NIPS 2016.
    A draw for every word and region would also cost more than the products of matrices around it.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, inputs: Tensor) -> Tensor:
        """(b, n, d) of the same; nothing changes outside of training."""
        if not self.training or not self.share:
            return inputs
        kept = torch.full_like(inputs[:, :1], 1 - self.share).bernoulli() / (1 - self.share)  # (b, 1, d)
        return inputs * kept


class Sentences(nn.Module):
    """Words in context: embedding and bidirectional LSTM, u_t = forward + backward (a sum: dim stays dim).

    Word 0 is the unknown one. `dropout` is of embedded words and of u_t, while training.
    """

    def __init__(self, vocabulary: int, dim: int = 512, dropout: float = 0.0, spread: float = 1.0) -> None:
        """`vocabulary` counts the unknown word; `spread` is the standard deviation of untrained words' entries."""
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, dim)
        nn.init.normal_(self.embedding.weight, std=spread)
        self.lstm = nn.LSTM(dim, dim, batch_first=True, bidirectional=True)
        self.dropout = Dropout(dropout)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(b, t, dim) of ids (b, t) and mask (b, t), True for real words, which come first; 0 at padding.

        Packed by length, so padding is never read; torch sorts and puts back by the inverse permutation itself.
        """
        embedded = self.dropout(self.embedding(ids))  # (b, t, dim)
        packed = pack_padded_sequence(embedded, mask.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=ids.shape[1])
        forward, backward = states.chunk(2, dim=2)  # (b, t, dim) each
        words: Tensor = self.dropout(forward + backward)
        return words


class VisualStart(nn.Module):
    """v^(0) = tanh(P^(0) mean of the regions): what is remembered of a picture before any attention."""

    def __init__(self, region_dim: int, dim: int = 512) -> None:
        super().__init__()
        self.project = nn.Linear(region_dim, dim)  # P^(0)

    def forward(self, regions: Tensor, mask: Tensor | None = None) -> Tensor:
        """(b, dim) of regions (b, n, d), mask (b, n)."""
        return torch.tanh(self.project(masked_mean(regions, mask)))


def text_start(words: Tensor, mask: Tensor) -> Tensor:
    """u^(0) (b, dim): the mean of words (b, t, dim) without padding."""
    return masked_mean(words, mask)


class _Scores(nn.Module):
    """h_n = tanh(W x_n) * tanh(W_m m), scored by w_h . h_n: which inputs the memory asks for."""

    def __init__(self, input_dim: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.of_inputs = nn.Linear(input_dim, dim)  # W
        self.of_memory = nn.Linear(dim, dim)  # W_m
        self.score = nn.Linear(dim, 1, bias=False)  # w_h; a softmax follows, so a bias would change nothing
        self.dropout = Dropout(dropout)

    def forward(self, inputs: Tensor, memory: Tensor) -> Tensor:
        """(b, n) of inputs (b, n, d) and memory (b, dim)."""
        h = torch.tanh(self.of_inputs(inputs)) * torch.tanh(self.of_memory(memory)).unsqueeze(1)  # (b, n, dim)
        scores: Tensor = self.score(self.dropout(h)).squeeze(2)
        return scores


class VisualStep(nn.Module):
    """V_Att: a^(k) over the regions, v^(k) = tanh(P^(k) sum_n a_n v_n). Each step has weights of its own."""

    def __init__(self, region_dim: int, dim: int = 512, dropout: float = 0.0) -> None:
        super().__init__()
        self.scores = _Scores(region_dim, dim, dropout)
        self.project = nn.Linear(region_dim, dim)  # P^(k)

    def forward(self, regions: Tensor, memory: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """v^(k) (b, dim) and weights (b, n), of regions (b, n, d), the last memory (b, dim), mask (b, n)."""
        weights = masked_softmax(self.scores(regions, memory), mask)
        return torch.tanh(self.project(_attended(regions, weights))), weights


class TextStep(nn.Module):
    """T_Att: a^(k) over the words, u^(k) = sum_t a_t u_t: no projection and no tanh."""

    def __init__(self, dim: int = 512, dropout: float = 0.0) -> None:
        super().__init__()
        self.scores = _Scores(dim, dim, dropout)

    def forward(self, words: Tensor, memory: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """u^(k) (b, dim) and weights (b, t), of words (b, t, dim), the last memory (b, dim), mask (b, t)."""
        weights = masked_softmax(self.scores(words, memory), mask)
        return _attended(words, weights), weights


def _attended(inputs: Tensor, weights: Tensor) -> Tensor:
    """(b, d): the inputs (b, n, d) summed by their weights (b, n)."""
    return torch.bmm(weights.unsqueeze(1).to(inputs.dtype), inputs).squeeze(1)
