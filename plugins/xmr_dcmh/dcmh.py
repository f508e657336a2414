"""The encoder `dcmh`: both modalities through nets of their own, to real numbers whose signs are the code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.plugin import State, Widths, below, encode_cached, fit_nested, joined_digest, nested_encoder, unset
from xmr_dcmh.cnnf import Cnnf
from xmr_dcmh.config import DcmhConfig
from xmr_torch.tunable import require_tunable

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Dcmh"]

PICTURES = 32  # at once through a network that was trained whole


class Dcmh(xmr.Encoder[DcmhConfig]):
    """Pictures and texts to (n, 1, bits) real numbers whose signs are the code.

    State: the nets under `net/image/` and `net/text/`; what the encoders they stand on learned, `image/` and `text/`.
    """

    name: ClassVar[str] = "dcmh"
    metric: ClassVar[xmr.Metric] = "ip"  # nets are trained on half the inner product

    @classmethod
    def migrate(cls, options: Mapping[str, Any], state: State, version: int) -> tuple[Mapping[str, Any], State]:
        """No hidden layer of images was one of 0 units."""
        return super().migrate(unset(options, image_hidden=0), state, version)

    @xmr.takes(DcmhConfig)
    def __init__(self) -> None:
        recipes = {xmr.IMAGE: self.config.image, xmr.TEXT: self.config.text}
        self.parts = {
            modality: nested_encoder(modality, recipe, {"vector"}, self.state) for modality, recipe in recipes.items()
        }
        if self.config.tune:
            require_tunable("image", self.config.image, self.parts[xmr.IMAGE])
        self._nets: dict[str, nn.Module] = {}  # made of the state where first needed

    @property
    def whole(self) -> bool:
        """True where the picture encoder's network is trained too, and the picture net begins with pixels."""
        return self.config.tune or isinstance(self.parts[xmr.IMAGE], Cnnf)

    def weights_digest(self) -> str:
        """sha256 over the encoders it stands on; a network that was trained whole is in the state."""
        image = self.parts[xmr.IMAGE]
        trained = self.whole and self.fitted
        told = f"{image!r} {image.version}" if trained else image.fingerprint()
        return joined_digest(told, self.parts[xmr.TEXT].fingerprint())

    def widths(self) -> Widths:
        """A number a bit."""
        return dict.fromkeys(self.forms, self.config.bits)

    def fit(self, pairs: xmr.Pairs) -> Self:
        """Both nets, trained on the pairs. A fit that was killed resumes from its last checkpoint.

        Raises DataError where there is too little to train on, ConfigError where the loss stops being finite.
        """
        from xmr_dcmh.fitting import trained_nets

        learned = fit_nested(self.name, self.parts, pairs)
        return self.with_state({**learned, **trained_nets(self.with_state(learned), pairs)})

    def encode(self, items: xmr.Items) -> xmr.Features:
        """Features (n, 1, bits). Raises DataError with the keys of unreadable pictures and blank texts."""
        import torch

        self.require_modality(items.modality)
        self.require_fit()
        net = self._net(items.modality)
        device = next(net.parameters()).device
        outputs = [np.empty((0, self.config.bits), np.float32)]
        with torch.inference_mode():
            for block in self._inputs(items):
                outputs.append(net(torch.from_numpy(block).to(device)).cpu().numpy())
        return xmr.Features.of_vectors(items.modality, np.concatenate(outputs), self.metric)

    def known_and_unknown(self, items: xmr.Items) -> list[tuple[list[str], list[str]]] | None:
        """The words that the text encoder knows, and those that it does not."""
        return self.parts[items.modality].known_and_unknown(items)

    def _inputs(self, items: xmr.Items) -> Iterator[NDArray[np.float32]]:
        """What the net of that modality takes, in blocks."""
        part: Any = self.parts[items.modality]
        if items.modality == xmr.IMAGE and self.whole:
            for start in range(0, len(items), PICTURES):
                yield part.pixels(items.take(np.arange(start, min(start + PICTURES, len(items)))))
        elif len(items):
            yield encode_cached(part, items).vectors

    def _net(self, modality: str) -> nn.Module:
        if modality not in self._nets:
            from xmr_dcmh.fitting import stored_net

            self._nets[modality] = stored_net(self, modality, below(f"net/{modality}", self.state))
        return self._nets[modality]
