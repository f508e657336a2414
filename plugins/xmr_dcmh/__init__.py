"""Deep cross-modal hashing: pictures and texts to the same few bits. Source: Jiang & Li, CVPR 2017.

Two nets, one a modality, are trained so that similar items (that share a label; without labels, that belong together)
get similar codes whichever modality they are of. What is given are the nets' real outputs; `sign` makes them bits:

    dcmh(bits=64) >> sign >> hamming
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast, get_args

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core import measures, pictures, registry, runs
from xmr_core.components import Form

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import nn

    from xmr_dcmh.training import Schedule, Score, Side

Plan = Literal["quick", "paper"]
Order = Literal["image", "text"]
Rows = NDArray[np.int64]

FEWEST = 10  # pairs to train on
HELD_OUT = 5  # validation takes at most every fifth picture
QUICK_EPOCHS, QUICK_BATCH, QUICK_RATE = 10, 256, 1e-3
PAPER_EPOCHS, PAPER_BATCH, PAPER_RATE, PAPER_DECAY = 500, 128, 10**-1.5, 5e-4
TEXT_SHARE, BACKBONE_SHARE = 0.3, 0.03  # of the quick rate: wide nets and trained ones are stepped more gently
PICTURES = 32  # at once through a network that is trained whole


@dataclass(frozen=True)
class DcmhConfig:
    """What is learnt, from what, and for how long."""

    bits: int = 64  # a multiple of 8; more: finer rankings, larger codes
    image: str = "lite0"  # the picture encoder; its vectors feed a learnt layer. "cnnf" is the paper's, trained whole
    text: str = "bow"  # the text encoder, fitted on the training texts
    tune: bool = False  # train the picture encoder's own network too: 50 times slower, wants a GPU
    image_hidden: int = 0  # units between picture vectors and bits; 0: a single linear layer
    hidden: int = 8192  # units between text vectors and bits; fewer: quicker, smaller, less exact
    dropout: float = 0.5  # of hidden units while training; the paper has none and overfits small sets
    centre: bool = True  # subtract the training texts' mean from text vectors
    gamma: float = 1.0  # weight of outputs being near their codes
    eta: float = 0.01  # weight of balanced bits; the paper's 1 swings under quick steps
    schedule: Plan = "quick"  # "quick": Adam, minutes on two cores; "paper": plain SGD for 500 epochs
    epochs: int | None = None  # None: the schedule's own, as for the next two
    batch: int | None = None  # pairs in a step
    rate: float | None = None  # the first learning rate
    first: Order = "image"  # the net that is stepped first in an epoch; the paper's text says image, its code text
    validation: int = 1000  # pairs held out to choose the best epoch, at most a fifth; 0: the last epoch is kept
    device: str = "auto"  # "auto": the GPU where there is one; or "cpu", "cuda", "cuda:1"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.bits < 8 or self.bits % 8:
            raise xmr.ConfigError("bits", self.bits, "must be a multiple of 8")
        for field, least in (("image_hidden", 0), ("hidden", 1), ("validation", 0)):
            if getattr(self, field) < least:
                raise xmr.ConfigError(field, getattr(self, field), f"must be {least} or more")
        for field in ("epochs", "batch", "rate"):
            if getattr(self, field) is not None and getattr(self, field) <= 0:
                raise xmr.ConfigError(field, getattr(self, field), "must be above 0, or None for the schedule's own")
        for field in ("gamma", "eta"):
            if getattr(self, field) < 0:
                raise xmr.ConfigError(field, getattr(self, field), "must be 0 or more")
        if not 0 <= self.dropout < 1:
            raise xmr.ConfigError("dropout", self.dropout, "must be at least 0 and below 1")
        for field, choices in (("schedule", get_args(Plan)), ("first", get_args(Order))):
            if getattr(self, field) not in choices:
                raise xmr.ConfigError(field, getattr(self, field), f"must be one of {', '.join(choices)}")


class Dcmh(xmr.Encoder):
    """Pictures and texts to (n, 1, bits) real numbers whose signs are the code. State: both nets, and what its text
    and picture encoders learnt, under `text/` and `image/`."""

    name: ClassVar[str] = "dcmh"
    Config: ClassVar[type[DcmhConfig]] = DcmhConfig
    metric: ClassVar[xmr.Metric] = "ip"  # Theta is half the inner product
    config: DcmhConfig

    def __init__(
        self, config: DcmhConfig | None = None, state: Mapping[str, NDArray[Any]] | None = None, **options: Any
    ) -> None:
        super().__init__(config, state, **options)
        self._parts = {
            xmr.IMAGE: self._part(xmr.IMAGE, self.config.image),
            xmr.TEXT: self._part(xmr.TEXT, self.config.text),
        }
        self._nets: dict[str, nn.Module] = {}  # made of the state when first needed

    def _part(self, modality: str, recipe: str) -> xmr.Encoder:
        part = cast(xmr.Encoder, registry.component("encoder", recipe))
        if part.forms.get(modality) != "vector":
            raise xmr.ConfigError(modality, recipe, f"must be an encoder that gives one vector of each {modality}")
        prefix = f"{modality}/"
        return part.with_state({k.removeprefix(prefix): v for k, v in self.state.items() if k.startswith(prefix)})

    @property
    def _whole(self) -> bool:
        """True where the picture encoder's network is trained too."""
        return self.config.tune or isinstance(self._parts[xmr.IMAGE], Cnnf)

    def weights_digest(self) -> str:
        """sha256 over the encoders it is built on; a network that was trained whole is in the state."""
        parts = [self._parts[xmr.TEXT].fingerprint()]
        parts.append(repr(self._parts[xmr.IMAGE]) if self._whole else self._parts[xmr.IMAGE].fingerprint())
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def fit(self, pairs: xmr.Pairs) -> Self:
        """Both nets, trained on the pairs; those held out choose the best epoch. Goes on from a checkpoint.

        Raises DataError where there is too little to train on, ConfigError where the loss stops being finite.
        """
        from xmr_dcmh import training

        learn, held_out = _split(pairs, self.config.validation, self.config.seed)
        if len(learn) < FEWEST:
            raise xmr.DataError(f"dcmh: {len(learn)} pairs to train on, at least {FEWEST} are needed")
        fitted = self.with_state(
            {f"{m}/{key}": array for m, part in self._parts.items() for key, array in part.fit(pairs).state.items()}
        )
        with _randomness(self.config.seed):
            sides = fitted._sides(pairs, learn)
            validate = _validation(sides, pairs, held_out) if len(held_out) else None
            training.train(sides, _similarity(pairs, learn, fitted._device()), self._plan(), self.config.seed, validate)
        nets = {f"net/{side.modality}/{key}": array for side in sides for key, array in side.weights().items()}
        return self.with_state({**fitted.state, **nets})

    def encode(self, items: xmr.Items) -> xmr.Features:
        """Features (n, 1, bits). Raises DataError with the keys of unreadable pictures and blank texts."""
        import torch

        self.require_modality(items.modality)
        self.require_fit()
        net, device = self._net(items.modality), self._device()
        outputs = [np.empty((0, self.config.bits), np.float32)]
        with torch.inference_mode():
            for block in self._inputs(items):
                outputs.append(net(torch.from_numpy(block).to(device)).cpu().numpy())
        return xmr.Features.of_vectors(items.modality, np.concatenate(outputs), self.metric)

    def _inputs(self, items: xmr.Items) -> Iterator[NDArray[np.float32]]:
        """What the net of that modality takes, in blocks."""
        part = self._parts[items.modality]
        if items.modality == xmr.IMAGE and self._whole:
            for start in range(0, len(items), PICTURES):
                yield cast(Any, part).pixels(items.take(np.arange(start, min(start + PICTURES, len(items)))))
        elif len(items):
            yield runs.encode(part, items).vectors

    def _net(self, modality: str) -> nn.Module:
        """The trained net of a modality, for encoding."""
        if modality not in self._nets:
            import torch

            prefix = f"net/{modality}/"
            state = {
                key.removeprefix(prefix): torch.from_numpy(array)
                for key, array in self.state.items()
                if key.startswith(prefix)
            }
            mean = next(tensor for key, tensor in state.items() if key.endswith("head.standard.mean"))
            net = self._new_net(modality, mean, torch.ones_like(mean), pretrained=False)
            net.load_state_dict(state)
            self._nets[modality] = net.to(self._device()).eval()
        return self._nets[modality]

    def _new_net(self, modality: str, mean: torch.Tensor, scale: torch.Tensor, pretrained: bool) -> nn.Module:
        """An untrained net over vectors with this mean and scale (d), or over pixels."""
        from xmr_dcmh import nets

        image = modality == xmr.IMAGE
        hidden = self.config.image_hidden if image else self.config.hidden
        head = nets.Head(mean, scale, [hidden] if hidden else [], self.config.bits, self.config.dropout)
        backbone = cast(Any, self._parts[modality]).network(pretrained) if image and self._whole else None
        return nets.Net(head, backbone)

    def _sides(self, pairs: xmr.Pairs, learn: Rows) -> tuple[Side, Side]:
        """Both modalities, ready to be trained on the linked pairs at `learn`."""
        image, text = (
            self._side(items, pairs.links[learn, column]) for column, items in enumerate((pairs.images, pairs.texts))
        )
        return image, text

    def _side(self, items: xmr.Items, linked: Rows) -> Side:
        import torch

        from xmr_dcmh.training import Side

        part, device = self._parts[items.modality], self._device()
        whole = items.modality == xmr.IMAGE and self._whole
        if isinstance(part, Cnnf):
            mean, scale = torch.zeros(part.feature_dim), torch.ones(part.feature_dim)
        else:
            vectors = torch.from_numpy(runs.encode(part, items).vectors)
            mean, scale = self._standard(items.modality, vectors[np.unique(linked)])
        net = self._new_net(items.modality, mean, scale, pretrained=True).to(device)
        if whole:
            inputs: Callable[[Rows], torch.Tensor] = lambda at: torch.from_numpy(part.pixels(items.take(at))).to(device)
        else:
            vectors = vectors.to(device)
            inputs = vectors.__getitem__
        return Side(items.modality, net, inputs, linked, self._groups(net, items.modality), PICTURES if whole else 1024)

    def _standard(self, modality: str, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean and scale (d) that the vectors of a modality are standardised with."""
        import torch

        if modality == xmr.IMAGE:
            scale = vectors.std(dim=0)
            return vectors.mean(dim=0), torch.where(scale > 0, scale, 1)
        mean = vectors.mean(dim=0) if self.config.centre else torch.zeros(vectors.shape[1])
        return mean, torch.ones(vectors.shape[1])

    def _groups(self, net: nn.Module, modality: str) -> list[dict[str, Any]]:
        """The optimiser's groups of parameters and the share of the rate that each is stepped with."""
        if self.config.schedule == "paper":
            return [{"params": list(net.parameters()), "share": 1.0}]
        head, backbone = cast(Any, net).head, cast(Any, net).backbone
        groups = [{"params": list(head.parameters()), "share": TEXT_SHARE if modality == xmr.TEXT else 1.0}]
        if backbone is not None:
            groups.append({"params": list(backbone.parameters()), "share": BACKBONE_SHARE})
        return groups

    def _plan(self) -> Schedule:
        import torch

        from xmr_dcmh.training import Schedule

        config = self.config
        shared = {"gamma": config.gamma, "eta": config.eta, "text_first": config.first == "text"}
        if config.schedule == "paper":
            epochs, rate = config.epochs or PAPER_EPOCHS, config.rate or PAPER_RATE
            rates = np.geomspace(rate, rate * 10**-1.5, epochs)
            sgd = functools.partial(torch.optim.SGD, lr=rate, weight_decay=PAPER_DECAY)
            return Schedule(epochs, config.batch or PAPER_BATCH, rates, sgd, partition=False, **shared)
        epochs, rate = config.epochs or QUICK_EPOCHS, config.rate or QUICK_RATE
        rates = rate * (1 + np.cos(np.pi * np.arange(epochs) / epochs)) / 2
        adam = functools.partial(torch.optim.Adam, lr=rate, fused=True)
        return Schedule(epochs, config.batch or QUICK_BATCH, rates, adam, partition=True, **shared)

    def _device(self) -> torch.device:
        import torch

        if self.config.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(self.config.device)
