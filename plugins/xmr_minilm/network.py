"""BERT for inference, from its layers to texts: six layers of 384 units, twelve heads each.

Texts go through the network in batches of equal length, so nothing is padded and no mask is needed. Source: Devlin et
al., "BERT", NAACL 2019; the names of the weights are those of its reference implementation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

__all__ = ["Layer", "SentenceModel"]

HEADS = 12
EPSILON = 1e-12  # of the layer norms
LONGEST = 256  # word pieces of a text, its two marks among them: what the model was made for
PIECES = 2048  # word pieces that pass the network at once

Weights = Mapping[str, Tensor]


class Layer:
    """Self-attention and a feed-forward network, each added to its input and normalised."""

    def __init__(self, weights: Weights, prefix: str) -> None:
        own = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
        parts = [f"attention.self.{part}" for part in ("query", "key", "value")]
        self.inputs = tuple(torch.cat([own[f"{part}.{kind}"] for part in parts]) for kind in ("weight", "bias"))
        self.attended = _both(own, "attention.output.dense")
        self.attention_norm = _both(own, "attention.output.LayerNorm")
        self.wide = _both(own, "intermediate.dense")
        self.narrow = _both(own, "output.dense")
        self.norm = _both(own, "output.LayerNorm")

    def __call__(self, x: Tensor) -> Tensor:
        """(b, t, d) to (b, t, d)."""
        b, t, d = x.shape
        q, k, v = (
            functional.linear(x, *self.inputs).view(b, t, 3, HEADS, d // HEADS).permute(2, 0, 3, 1, 4)
        )  # (b, heads, t, d')
        heads = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, d)
        x = functional.layer_norm(x + functional.linear(heads, *self.attended), (d,), *self.attention_norm, EPSILON)
        y = functional.linear(functional.gelu(functional.linear(x, *self.wide)), *self.narrow)
        return functional.layer_norm(x + y, (d,), *self.norm, EPSILON)


class SentenceModel:
    """Tokenizer and network from a folder with `tokenizer.json` and `model.safetensors`. Raises ImportError."""

    def __init__(self, folder: Path) -> None:
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(LONGEST)
        weights = load_file(folder / "model.safetensors")
        self.words = weights["embeddings.word_embeddings.weight"]  # (vocabulary, d)
        self.places = (  # (longest, d); all tokens are of type 0
            weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
        )
        self.norm = _both(weights, "embeddings.LayerNorm")
        prefixes = sorted({name[: name.index(".attention") + 1] for name in weights if ".attention." in name})
        self.layers = [Layer(weights, prefix) for prefix in prefixes]  # fewer than ten: sorted as text is sorted

    def states(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """The last layer's states (t, d) of each text, a row a word piece. Equal texts are computed once."""
        distinct = list(dict.fromkeys(texts))
        ids = self._ids(distinct)
        found: dict[str, NDArray[np.float32]] = {}
        for rows in _batches([len(own) for own in ids]):
            made = self._forward(torch.tensor([ids[row] for row in rows]))  # (b, t, d)
            found.update(zip((distinct[row] for row in rows), made, strict=True))
        return [found[text] for text in texts]

    def pieces(self, texts: Sequence[str]) -> list[list[str]]:
        """The word pieces of each text."""
        return [list(encoding.tokens) for encoding in self._tokenizer.encode_batch(list(texts))]

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return [list(encoding.ids) for encoding in self._tokenizer.encode_batch(texts)]

    def _forward(self, ids: Tensor) -> NDArray[np.float32]:
        """(b, t) int64 to (b, t, d)."""
        with torch.inference_mode():
            x = self.words[ids] + self.places[: ids.shape[1]]
            x = functional.layer_norm(x, x.shape[2:], *self.norm, EPSILON)
            for layer in self.layers:
                x = layer(x)
        states: NDArray[np.float32] = x.numpy()
        return states


def _both(weights: Weights, name: str) -> tuple[Tensor, Tensor]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Rows of equal length, at most `PIECES` word pieces a batch."""
    alike: dict[int, list[int]] = defaultdict(list)
    for row, length in enumerate(lengths):
        alike[length].append(row)
    for length, rows in sorted(alike.items()):
        step = max(1, PIECES // length)
        yield from (rows[start : start + step] for start in range(0, len(rows), step))
