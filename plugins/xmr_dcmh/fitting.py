"""What DCMH's training is given: which pairs, which are similar, both sides with their nets, and how an epoch scores.

Letters: p pairs, n of them to learn from, v held out, d dimensions of a vector, c bits.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xmr_core import IMAGE, TEXT, DataError, Embeddings, Items, Pairs, pack_bits
from xmr_core.measures import average_precision, between
from xmr_core.progress import encode_cached
from xmr_dcmh import objective
from xmr_dcmh.cnnf import Cnnf
from xmr_dcmh.nets import Head, Net
from xmr_dcmh.training import Rows, Schedule, Side, Similar, train

if TYPE_CHECKING:
    from xmr_dcmh import Dcmh, DcmhConfig

FEWEST = 10  # pairs to learn from
ONE_IN = 5  # pictures held out at most
QUICK_EPOCHS, QUICK_BATCH, QUICK_RATE = 8, 256, 1e-3
PAPER_EPOCHS, PAPER_BATCH, PAPER_RATE, PAPER_DECAY = 500, 128, 10**-1.5, 5e-4
TEXT_SHARE, BACKBONE_SHARE = 0.3, 0.03  # of the quick rate: wide and pretrained nets are stepped more gently
VECTORS, PICTURES = 1024, 32  # at once through a net where no gradient is wanted
QUERIES = 256  # validation queries ranked at once


def trained_nets(dcmh: Dcmh, pairs: Pairs) -> dict[str, NDArray[Any]]:
    """The tensors of both nets, trained. Raises DataError, ConfigError: see `Dcmh.fit`."""
    config = dcmh.config
    learn, held_out = split(pairs, config.validation, config.seed)
    if len(learn) < FEWEST:
        raise DataError(f"dcmh: got {len(learn)} pairs to learn from, at least {FEWEST} are needed")
    with _randomness(config.seed):
        image = _side(dcmh, pairs.images, pairs.links[learn, 0])
        text = _side(dcmh, pairs.texts, pairs.links[learn, 1])
        validate = functools.partial(_score, image, text, pairs, held_out) if len(held_out) else None
        train((image, text), similarities(pairs, learn, device(config)), schedule(config), config.seed, validate)
    return {f"net/{side.modality}/{key}": array for side in (image, text) for key, array in side.weights().items()}


def stored_net(dcmh: Dcmh, modality: str, state: Mapping[str, NDArray[Any]]) -> nn.Module:
    """The net of a modality from its tensors, ready to encode."""
    tensors = {key: torch.from_numpy(np.require(array, requirements="W")) for key, array in state.items()}
    mean = tensors["head.standard.mean"]
    with _randomness(dcmh.config.seed):  # first weights, which are overwritten
        net = _new_net(dcmh, modality, mean, torch.ones_like(mean), pretrained=False)
    net.load_state_dict(tensors)
    return net.to(device(dcmh.config)).eval()


def split(pairs: Pairs, validation: int, seed: int) -> tuple[Rows, Rows]:
    """Positions of pairs (n) to learn from and (v) held out, ascending; all pairs of a picture are on one side."""
    pictures, sizes = np.unique(pairs.links[:, 0], return_counts=True)
    order = np.random.default_rng(seed).permutation(len(pictures))
    enough = np.searchsorted(np.cumsum(sizes[order]), validation, side="right")
    held = pictures[order[: min(int(enough), len(pictures) // ONE_IN)]]
    away = np.isin(pairs.links[:, 0], held)
    return np.flatnonzero(~away), np.flatnonzero(away)


def similarities(pairs: Pairs, rows: Rows, where: torch.device) -> Similar:
    """S among the pairs at `rows` (n), row by row: similar are pairs that share a label. Where there are no labels,
    similar are those of one picture or one text."""
    if pairs.labels is not None:
        labels = torch.from_numpy(pairs.labels[rows].astype(np.float32)).to(where)  # (n, l)
        return lambda at: objective.similarity(labels[torch.from_numpy(at)], labels)
    linked = torch.from_numpy(pairs.links[rows]).to(where)  # (n, 2)
    return lambda at: (linked[torch.from_numpy(at), None] == linked).any(dim=2).float()


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


def device(config: DcmhConfig) -> torch.device:
    """Where the nets compute."""
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)


def _side(dcmh: Dcmh, items: Items, linked: Rows) -> Side:
    """A modality with its new net and its inputs: vectors held in memory, or pixels read anew for each batch."""
    part: Any = dcmh.parts[items.modality]
    where = device(dcmh.config)
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


def _new_net(dcmh: Dcmh, modality: str, mean: Tensor, scale: Tensor, pretrained: bool) -> nn.Module:
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


def _score(image: Side, text: Side, pairs: Pairs, held_out: Rows) -> dict[str, float]:
    """MAP both ways among the pairs held out, over the full Hamming ranking, ties by their expectation."""
    sides = {IMAGE: image, TEXT: text}
    codes = {
        modality: Embeddings(pack_bits(side.outputs(pairs.links[held_out, column]).cpu().numpy() >= 0), "hamming")
        for column, (modality, side) in enumerate(sides.items())
    }
    similar = similarities(pairs, held_out, torch.device("cpu"))
    blocks = [np.arange(start, min(start + QUERIES, len(held_out))) for start in range(0, len(held_out), QUERIES)]

    def mean_ap(asked: str, found: str) -> float:
        distances = between(codes[asked], codes[found])
        parts = [average_precision(distances(slice(at[0], at[-1] + 1)), similar(at).numpy() > 0) for at in blocks]
        return float(np.concatenate(parts).mean())

    return {"map_image_to_text": mean_ap(IMAGE, TEXT), "map_text_to_image": mean_ap(TEXT, IMAGE)}


@contextmanager
def _randomness(seed: int) -> Iterator[None]:
    """Torch's random numbers from the seed inside; outside, as if nothing had been."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
