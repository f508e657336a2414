"""m-DAN: pictures and sentences to one vector each, by attending to regions and words over a few steps.

Source: Nam, Ha & Kim, "Dual Attention Networks for Multimodal Reasoning and Matching", CVPR 2017, section 3.3.

    each(image='lite0_grid', text='words') >> dan(steps=2) >> flat
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.plugin import Form, Widths
from xmr_dan.config import DanConfig

if TYPE_CHECKING:
    from xmr_dan.matching import Matching

__all__ = ["Dan"]

Block = tuple[NDArray[np.float32], NDArray[np.float32]]  # vectors (b, steps + 1, dim), weights (b, steps, t)


class Dan(xmr.Fuser[DanConfig]):
    """Regions of pictures and words of sentences to (n, (steps + 1) * dim) numbers under inner product.

    State: the tensors of `xmr_dan.matching.Matching` under their names there.
    """

    name: ClassVar[str] = "dan"
    accepts: ClassVar[frozenset[Form]] = frozenset({"regions", "tokens"})
    metric: ClassVar[xmr.Metric] = "ip"
    encoder_wanted: ClassVar[str] = "each"

    @xmr.takes(DanConfig)
    def __init__(self) -> None:
        self._network: Matching | None = None  # made of the state where first needed

    @property
    def width(self) -> int:
        """Numbers of an embedding."""
        return (self.config.steps + 1) * self.config.dim

    def widths(self, taken: Widths) -> Widths:
        """What the steps give, end to end."""
        return dict.fromkeys(taken, self.width)

    def fit(self, pairs: xmr.FeaturePairs) -> Self:
        """A network trained on the pairs. A fit that was killed goes on from its last checkpoint.

        Raises DataError on what is no regions and words, and where there is too little to learn from; ConfigError where
        the loss stops being finite.
        """
        from xmr_dan.training import train

        return self.with_state(train(pairs, self.config))

    def fuse(self, features: xmr.Features) -> xmr.Embeddings:
        """(n, (steps + 1) * dim) float32: what each step gives, end to end. Raises DataError, NotFittedError."""
        return xmr.Embeddings(self._vectors(features).reshape(len(features), self.width), "ip")

    def attention(self, features: xmr.Features) -> NDArray[np.float32] | None:
        """(n, steps, t): how much of each step goes to each region or word; rows sum to 1, padding has 0.

        None without steps. Raises DataError, NotFittedError.
        """
        if not self.config.steps:
            return None
        weights = np.zeros((len(features), self.config.steps, features.values.shape[1]), np.float32)
        start = 0
        for _, block in self._blocks(features):
            weights[start : start + len(block), :, : block.shape[2]] = block
            start += len(block)
        return weights

    def pair_scores(self, images: xmr.Features, texts: xmr.Features) -> NDArray[np.float32]:
        """S (n,) of each picture with the sentence of the same row, by the paper's formula: the sum of v^(k) . u^(k).

        It is the inner product of their embeddings. Raises DataError, NotFittedError.
        """
        if len(images) != len(texts):
            raise xmr.DataError(f"dan: a sentence for each picture is wanted, got {len(images)} and {len(texts)}")
        import torch

        from xmr_dan.objective import similarity

        v, u = (torch.from_numpy(self._vectors(features)) for features in (images, texts))
        return similarity(v, u).numpy()

    def _vectors(self, features: xmr.Features) -> NDArray[np.float32]:
        """(n, steps + 1, dim)."""
        vectors = np.empty((len(features), self.config.steps + 1, self.config.dim), np.float32)
        start = 0
        for block, _ in self._blocks(features):
            vectors[start : start + len(block)] = block
            start += len(block)
        return vectors

    def _blocks(self, features: xmr.Features) -> Iterator[Block]:
        from xmr_dan.inputs import check_regions, check_words
        from xmr_dan.training import rows_embedded

        self.require_fit()
        if features.modality == xmr.IMAGE:
            check_regions(features, len(self.state["mean"]))
        elif features.modality == xmr.TEXT:
            check_words(features, len(self.state["words.embedding.weight"]))
        else:
            raise xmr.DataError(f"dan: it takes pictures and sentences, not {features.modality}")
        yield from rows_embedded(self._trained(), features, np.arange(len(features)))

    def _trained(self) -> Matching:
        if self._network is None:
            from xmr_dan.training import stored_network

            self._network = stored_network(self.config, self.state)
        return self._network
