"""Image and text towers from ONNX files: any CLIP export, run by onnxruntime, without PyTorch.

A folder holds the networks, a tokenizer, and `towers.json`, which says how images and texts become their input. Nothing
is downloaded. Source of the idea: Radford et al., "Learning Transferable Visual Models From Natural Language
Supervision", ICML 2021.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.plugin import Form, Metric, Widths, decode_images, unit
from xmr_onnx.config import OnnxConfig
from xmr_onnx.towers import digest, read_towers

__all__ = ["Onnx", "OnnxConfig"]


class Onnx(xmr.Encoder[OnnxConfig]):
    """Images and texts to vectors of one space, which pretrained networks share; nothing is learned from the library.

    Takes the modalities that `towers.json` has a tower for. Raises ConfigError where that file does not hold.
    """

    name: ClassVar[str] = "onnx"
    needs_fit: ClassVar[bool] = False
    cacheable: ClassVar[bool] = True

    @xmr.takes(OnnxConfig)
    def __init__(self) -> None:
        self.towers = read_towers(self.config.folder)
        towers = {xmr.IMAGE: self.towers.image, xmr.TEXT: self.towers.text}
        given: Mapping[str, Form] = {modality: "vector" for modality, tower in towers.items() if tower is not None}
        metric: Metric = self.towers.metric
        self.forms, self.metric = given, metric  # type: ignore[misc]  # class variables elsewhere; here a file decides

    def widths(self) -> Widths:
        """As many dimensions as `towers.json` says."""
        return dict.fromkeys(self.forms, self.towers.width)

    def weights_digest(self) -> str:
        """sha256 over `towers.json`, networks, their external weights and tokenizer. Raises ConfigError."""
        return digest(self.config.folder)

    def encode(self, items: xmr.Items) -> xmr.Features:
        """Features (n, 1, width) float32, of length 1 if so declared.

        Raises DataError with the keys of unreadable images and blank texts, ConfigError where a network does not fit
        what `towers.json` says, PluginError where a package is missing.
        """
        self.require_modality(items.modality)
        vectors = self._images(items) if items.modality == xmr.IMAGE else self._texts(items)
        wild = [items.keys[row] for row in np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist()]
        if wild:
            raise xmr.DataError(f"{self!r} gives NaN or infinity for {len(wild)} {items.modality}s: {wild[:10]}", wild)
        scaled = self.towers.metric == "cosine" if self.towers.unit is None else self.towers.unit
        return xmr.Features.of_vectors(items.modality, unit(vectors) if scaled else vectors, self.metric)

    def _images(self, items: xmr.Items) -> NDArray[np.float32]:
        from xmr_onnx.network import as_input, image_network

        tower = self.towers.image
        assert tower is not None  # else the modality is refused
        network = image_network(self.config.folder, tower, self.towers.width)
        inputs = decode_images(items, lambda image: as_input(image, tower), 2 * (tower.resize_side or tower.side))
        return np.concatenate([np.empty((0, self.towers.width), np.float32), *network.vectors(inputs)])

    def _texts(self, items: xmr.Items) -> NDArray[np.float32]:
        from xmr_onnx.network import text_network

        tower = self.towers.text
        assert tower is not None  # else the modality is refused
        return text_network(self.config.folder, tower, self.towers.width).vectors(items.texts())


@xmr.hookimpl
def xmr_encoders() -> list[type[xmr.Encoder]]:
    """The encoder of ONNX files."""
    return [Onnx]
