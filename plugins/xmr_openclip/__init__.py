"""Image and text towers of open_clip, by the name of the model and a local checkpoint. Nothing is downloaded.

Source: Cherti et al., "Reproducible Scaling Laws for Contrastive Language-Image Learning", CVPR 2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

import xmr_core as xmr
from xmr_core.plugin import Form, Widths, decode_images
from xmr_openclip.config import OpenclipConfig
from xmr_openclip.files import digest, embed_dim

__all__ = ["Openclip", "OpenclipConfig"]


class Openclip(xmr.Encoder[OpenclipConfig]):
    """Images and texts to vectors of length 1 in the model's space; nothing is learned from the library."""

    name: ClassVar[str] = "openclip"
    forms: ClassVar[Mapping[str, Form]] = {xmr.IMAGE: "vector", xmr.TEXT: "vector"}
    needs_fit: ClassVar[bool] = False
    cacheable: ClassVar[bool] = True

    @xmr.takes(OpenclipConfig)
    def __init__(self) -> None: ...

    def widths(self) -> Widths:
        """As many dimensions as the model's own config says. Raises ConfigError, PluginError."""
        return dict.fromkeys(self.forms, embed_dim(self.config.model))

    def weights_digest(self) -> str:
        """sha256 of the checkpoint, '' for random weights. Raises ConfigError where it cannot be read."""
        return "" if self.config.weights is None else digest(self.config.weights)

    def encode(self, items: xmr.Items) -> xmr.Features:
        """Features (n, 1, d) float32 of length 1.

        Raises DataError with the keys of unreadable images and blank texts, ConfigError where the checkpoint does not
        fit the model, PluginError where open_clip is missing.
        """
        from xmr_openclip.network import network_of

        self.require_modality(items.modality)
        texts = items.texts() if items.modality == xmr.TEXT else []
        network = network_of(self.config)
        if items.modality == xmr.IMAGE:
            made = network.images(decode_images(items, network.as_input))
        else:
            made = network.texts(texts)
        empty = np.empty((0, embed_dim(self.config.model)), np.float32)
        return xmr.Features.of_vectors(items.modality, np.concatenate([empty, *made]), self.metric)


@xmr.hookimpl
def xmr_encoders() -> list[type[xmr.Encoder]]:
    """The encoder of open_clip."""
    return [Openclip]
