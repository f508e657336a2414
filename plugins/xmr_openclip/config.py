"""The options of `openclip`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from xmr_core.plugin import ConfigError, Device, Matches

__all__ = ["OpenclipConfig"]


@dataclass(frozen=True)
class OpenclipConfig:
    """Which model, and its weights. Raises ConfigError where neither or both of `weights` and `random` are given."""

    model: Annotated[
        str,
        Matches(r"[A-Za-z0-9][\w.+-]*", "a name such as ViT-B-32; hf-hub: and other places would download"),
        "name of the model in open_clip; larger: better hits, slower",
    ] = "ViT-B-32"
    weights: Annotated[
        str | None,
        Matches(r"(?s).+", "the path of a file"),
        "path of the checkpoint, from torch.save or .safetensors; it is part of the fingerprint",
    ] = None
    random: Annotated[bool, "random weights, always the same, to try things out: the hits mean nothing"] = False
    device: Device = "auto"

    def __post_init__(self) -> None:
        """Check what joins two options."""
        if (self.weights is None) != self.random:
            raise ConfigError(
                "weights", self.weights, "must be the path of a checkpoint, or None with random=True for random weights"
            )
