"""What DCMH's training is given: which pairs, which are similar, both sides with their nets, and how an epoch scores.

Letters: p pairs, n of them to learn from, v held out, d dimensions of a vector, c bits.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xmr_core import IMAGE, TEXT, DataError, Encoder, Items, Pairs
from xmr_core.plugin import encode_cached
from xmr_dcmh.cnnf import Cnnf
from xmr_dcmh.config import DcmhConfig
from xmr_dcmh.nets import Head, Net
from xmr_dcmh.training import Alternating, Schedule, Side
from xmr_torch.arrays import arrays, tensors
from xmr_torch.computing import device, randomness
from xmr_torch.pairs import Rows, hashing_map, similarities, split

FEWEST = 10  # pairs to learn from
QUICK_EPOCHS, QUICK_BATCH, QUICK_RATE = 8, 256, 1e-3
PAPER_EPOCHS, PAPER_BATCH, PAPER_RATE, PAPER_DECAY = 500, 128, 10**-1.5, 5e-4
TEXT_SHARE, BACKBONE_SHARE = 0.3, 0.03  # of the quick rate: wide and pretrained nets are stepped more gently
VECTORS, PICTURES = 1024, 32  # at once through a net where no gradient is wanted


class HasNets(Protocol):
    """What training and loading of the nets need of the encoder that has them."""

    config: DcmhConfig
    parts: dict[str, Encoder]

    @property
    def whole(self) -> bool:
        """True where the image encoder's network is trained too, and the image net begins with pixels."""


def trained_nets(dcmh: HasNets, pairs: Pairs) -> dict[str, NDArray[Any]]:
    """The tensors of both nets, trained. Raises DataError, ConfigError: see `Dcmh.fit`."""
    config = dcmh.config
    learn, held_out = split(pairs.links, config.validation, config.seed)
    if len(learn) < FEWEST:
        raise DataError(f"dcmh: got {len(learn)} pairs to learn from, at least {FEWEST} are needed")
    links, labels = pairs.links, pairs.labels
    where = device(config.device)
    with randomness(config.seed, where):
        image, text = (_side(dcmh, items, links[learn, i]) for i, items in enumerate((pairs.images, pairs.texts)))
    similar = similarities(links[learn], None if labels is None else labels[learn], where)
    held = (links[held_out], None if labels is None else labels[held_out])
    validation = functools.partial(_score, image, text, *held) if len(held_out) else dict
    Alternating((image, text), similar, schedule(config), config.seed, validation).train()
    return {
        f"net/{side.modality}/{name}": array
        for side in (image, text)
        for name, array in arrays(side.net.state_dict()).items()
    }


def stored_net(dcmh: HasNets, modality: str, state: Mapping[str, NDArray[Any]]) -> nn.Module:
    """The net of a modality from its tensors, ready to encode."""
    stored, where = tensors(state), device(dcmh.config.device)
    mean = stored["head.standard.mean"]
    with randomness(dcmh.config.seed, where):  # first weights, which are overwritten
        net = _new_net(dcmh, modality, mean, torch.ones_like(mean), pretrained=False)
    net.load_state_dict(stored)
    return net.to(where).eval()


def schedule(config: DcmhConfig) -> Schedule:
    """The quick plan, or that of the authors' code."""
    if config.schedule == "paper":
        epochs, rate = config.epochs or PAPER_EPOCHS, config.rate or PAPER_RATE
        batch, partition = config.batch or PAPER_BATCH, False
        rates = np.geomspace(rate, rate * 10**-1.5, epochs)
        optimiser: Any = functools.partial(torch.optim.SGD, lr=rate, weight_decay=PAPER_DECAY)
    else:
        epochs, rate = config.epochs or QUICK_EPOCHS, config.rate or QUICK_RATE
        batch, partition = config.batch or QUICK_BATCH, True
        rates = rate * (1 + np.cos(np.pi * np.arange(epochs) / epochs)) / 2
        optimiser = functools.partial(torch.optim.Adam, lr=rate, fused=True)
    return Schedule(epochs, batch, rates, optimiser, partition, config.gamma, config.eta, config.text_first)


def _side(dcmh: HasNets, items: Items, linked: Rows) -> Side:
    """A modality with its new net and its inputs: vectors held in memory, or pixels read anew for each batch."""
    part: Any = dcmh.parts[items.modality]
    where = device(dcmh.config.device)
    if isinstance(part, Cnnf):  # the paper standardises nothing
        vectors = torch.zeros(0)
        mean, scale = torch.zeros(part.feature_dim), torch.ones(part.feature_dim)
    else:
        vectors = torch.from_numpy(encode_cached(part, items).vectors).to(where)
        mean, scale = _standard(vectors[torch.from_numpy(np.unique(linked))], items.modality, dcmh.config.centre)
    net = _new_net(dcmh, items.modality, mean, scale, pretrained=True).to(where)
    groups = _groups(net, items.modality, dcmh.config)
    if items.modality == IMAGE and dcmh.whole:
        return Side(IMAGE, net, functools.partial(_pixels, part, items, where), linked, groups, PICTURES)
    return Side(items.modality, net, lambda at: vectors[torch.from_numpy(at)], linked, groups, VECTORS)


def _pixels(part: Any, items: Items, where: torch.device, at: Rows) -> Tensor:
    """(len(at), 3, h, w)"""
    return torch.from_numpy(part.pixels(items.take(at))).to(where)


def _standard(vectors: Tensor, modality: str, centre: bool) -> tuple[Tensor, Tensor]:
    """The mean and the scale (d) that vectors are standardised with: pictures' wholly, texts' only centred."""
    mean, scale = vectors.mean(dim=0), vectors.std(dim=0)
    if modality == TEXT:
        return mean if centre else torch.zeros_like(mean), torch.ones_like(mean)
    return mean, torch.where(scale > 0, scale, 1)


def _new_net(dcmh: HasNets, modality: str, mean: Tensor, scale: Tensor, pretrained: bool) -> nn.Module:
    """An untrained net over vectors with that mean and scale (d), or over pixels."""
    part: Any = dcmh.parts[modality]
    hidden = dcmh.config.image_hidden if modality == IMAGE else dcmh.config.hidden
    backbone = part.network(pretrained) if modality == IMAGE and dcmh.whole else None
    return Net(Head(mean, scale, [hidden] if hidden else [], dcmh.config.bits, dcmh.config.dropout), backbone)


def _groups(net: nn.Module, modality: str, config: DcmhConfig) -> list[dict[str, Any]]:
    """Parameters for the optimiser, each group with the share of the rate that it is stepped with."""
    parts = cast(Any, net)
    if config.schedule == "paper":
        return [{"params": list(net.parameters()), "share": 1.0}]
    groups = [{"params": list(parts.head.parameters()), "share": TEXT_SHARE if modality == TEXT else 1.0}]
    if parts.backbone is not None:
        groups.append({"params": list(parts.backbone.parameters()), "share": BACKBONE_SHARE})
    return groups


def _score(image: Side, text: Side, links: Rows, labels: NDArray[np.uint8] | None) -> dict[str, float]:
    """MAP both ways among the pairs held out, which have these links (v, 2) and labels (v, l)."""
    images, texts = (side.outputs(links[:, column]).cpu().numpy() for column, side in enumerate((image, text)))
    return hashing_map(images, texts, similarities(links, labels, torch.device("cpu")))
