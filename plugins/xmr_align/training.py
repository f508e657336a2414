"""How the networks are trained: batches of images with one caption each, the best epoch by images held out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xmr_align.config import ContrastiveConfig
from xmr_align.inputs import Aligned, Floats, Links, held_out, mean_recall, numbered
from xmr_align.network import Heads
from xmr_align.objective import contrastive
from xmr_core import IMAGE, TEXT
from xmr_torch.computing import device, outputs, randomness
from xmr_torch.rates import one_cycle
from xmr_torch.trainer import Trainer

__all__ = ["Training", "batches", "epochs_for", "trained"]

Rows = NDArray[np.int64]

EPOCHS = 4  # at least
STEPS = 450  # at least: small sets are seen more often
CLIP = 2.0  # longest gradient


def trained(data: Aligned, config: ContrastiveConfig) -> dict[str, NDArray[Any]]:
    """The layers of both networks. Raises ConfigError where the loss stops being finite."""
    with randomness(config.seed, device(config.device)):
        training = Training(data, config)
    training.train()
    heads: Any = training.network
    return dict(heads.folded())


class Training(Trainer[Links]):
    """Both networks in training; a batch is links (b, 2) of as many images, nearly always distinct ones."""

    def __init__(self, data: Aligned, config: ContrastiveConfig) -> None:
        self.learn, self.held = held_out(data.links, config.validation, config.seed)
        if not len(self.learn):
            self.learn, self.held = data.links, self.learn
        self.config, self.same = config, numbered(data.texts)  # (m,) equal texts are one
        self.known = np.unique(self._codes(data.links[:, 0], data.links[:, 1]))
        self.vectors: dict[str, Floats] = {IMAGE: data.images, TEXT: data.texts}
        seen = {m: self.vectors[m][np.unique(self.learn[:, i])] for i, m in enumerate((IMAGE, TEXT))}
        heads = Heads(seen, config).to(device(config.device))
        learned = [parameter for parameter in heads.parameters() if parameter.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [parameter for parameter in learned if parameter.ndim > 1]},
            {"params": [parameter for parameter in learned if parameter.ndim < 2], "weight_decay": 0.0},
        ]
        optimiser = torch.optim.AdamW(groups, lr=config.rate, weight_decay=config.decay, fused=True)
        epochs = config.epochs or epochs_for(len(self.learn), config.batch)
        super().__init__("contrastive", heads, optimiser, epochs, config.rate, one_cycle, config.seed)

    def clip(self) -> None:
        """The gradient's length."""
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)

    def batches(self, rng: np.random.Generator) -> Sequence[Links]:
        """Every caption once."""
        return batches(self.learn, self.config.batch, rng)

    def loss(self, batch: Links) -> Mapping[str, torch.Tensor]:
        """Of a batch of links."""
        related = np.isin(self._codes(batch[:, :1], batch[:, 1]), self.known) | (batch[:, :1] == batch[:, 0])  # (b, b)
        images, texts = (
            torch.from_numpy(self.vectors[modality][batch[:, side]]).to(self.device)
            for side, modality in enumerate((IMAGE, TEXT))
        )
        left_out = torch.from_numpy(related).to(self.device)
        losses = [contrastive(scores, left_out) for scores in self.network(images, texts)]  # of each network
        return {"loss": torch.stack(losses).mean()}

    def validate(self) -> Mapping[str, float]:
        """The recall among items held out."""
        if not len(self.held):
            return {}
        heads: Any = self.network
        (images, left), (texts, right) = (np.unique(self.held[:, side], return_inverse=True) for side in (0, 1))
        v = outputs(heads.heads[IMAGE], self.vectors[IMAGE][images]).reshape(len(images), -1)  # (h, dim)
        u = outputs(heads.heads[TEXT], self.vectors[TEXT][texts]).reshape(len(texts), -1)
        return {"recall": mean_recall(v, u, np.stack([left, right], axis=1))}

    def _codes(self, images: Rows, texts: Rows) -> Rows:
        """One number for each pair of an image and what a text says."""
        return images * len(self.same) + self.same[texts]


def epochs_for(links: int, batch: int) -> int:
    """Epochs for so many captions: `EPOCHS`, and more where those are fewer than `STEPS` steps."""
    return max(EPOCHS, math.ceil(STEPS * batch / max(links, batch)))


def batches(links: Links, batch: int, rng: np.random.Generator) -> list[Links]:
    """Every link once: the first caption of each image in random order, then the second of each, and so on, so that a
    batch rarely meets an image twice. Batches are of one size, give or take a link; those of one link, which have no
    negatives, are left out."""
    links = links[rng.permutation(len(links))]
    links = links[np.argsort(links[:, 0], kind="stable")]  # captions of an image together, in random order
    turn = np.arange(len(links)) - np.searchsorted(links[:, 0], links[:, 0])  # 0, 1, ... within an image
    links = links[np.lexsort((rng.random(len(links)), turn))]
    parts = np.array_split(links, math.ceil(len(links) / batch))
    return [part for part in parts if len(part) > 1]
