"""What an image encoder offers when its own network can be trained further: see `TunableEncoder`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from xmr_core.plugin import ConfigError, Encoder, Items

if TYPE_CHECKING:
    from torch import nn

__all__ = ["TunableEncoder", "require_tunable"]


@runtime_checkable
class TunableEncoder(Protocol):
    """An image encoder whose network another component may train as a part of its own."""

    @property
    def feature_dim(self) -> int:
        """Width of what the network gives."""

    def network(self, pretrained: bool = True) -> nn.Module:
        """A new network from pixels (b, 3, h, w) to (b, feature_dim); with random weights unless `pretrained`."""

    def pixels(self, items: Items) -> NDArray[np.float32]:
        """(n, 3, h, w) float32: images as the network takes them. Raises DataError with the bad keys."""


def require_tunable(option: str, recipe: str, encoder: Encoder) -> TunableEncoder:
    """The encoder, whose network can be trained. Raises ConfigError where it has none; torch is not imported."""
    if not isinstance(encoder, TunableEncoder):
        rule = f"has no network to train: {encoder.name} lacks network(), pixels() or feature_dim"
        raise ConfigError(option, recipe, f"{rule}; give another encoder, like lite0, or tune=False")
    return encoder
