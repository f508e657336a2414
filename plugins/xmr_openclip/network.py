"""A model of open_clip in eval mode, with its preprocessing and tokenizer: images and texts to arrays, in batches."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from xmr_core.plugin import ConfigError, PluginError
from xmr_openclip.config import OpenclipConfig
from xmr_openclip.files import INSTALL, digest, model_config
from xmr_torch.computing import device

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Network", "network_of"]

BATCH = 32  # images or texts through the network at once
WRAPPED = ("state_dict", "model")  # under which a training script may have put the weights

Floats = NDArray[np.float32]


class Network:
    """A model on its device. Raises ConfigError, PluginError."""

    def __init__(self, config: OpenclipConfig) -> None:
        model_config(config.model)
        try:
            open_clip: Any = import_module("open_clip")
        except ImportError as error:
            raise PluginError(f"{INSTALL} ({error})") from None
        self.device = device(config.device)
        with torch.random.fork_rng(devices=[]):  # random weights are always the same, and disturb nobody
            torch.manual_seed(0)
            made: Any = open_clip.create_model_and_transforms(config.model, pretrained=None, load_weights=False)
        self.model, _, self._transform = made
        if config.weights is not None:
            _load(self.model, config.model, config.weights)
        self.model = self.model.to(self.device).eval()
        self._tokenizer: Any = open_clip.get_tokenizer(config.model)

    def as_input(self, image: Image) -> Floats:
        """(3, side, side) float32."""
        pixels: Floats = self._transform(image).numpy()
        return pixels

    def images(self, inputs: Iterable[Floats]) -> Iterator[Floats]:
        """(b, d) of each batch of inputs."""
        for batch in _batches(inputs):
            yield self._run(self.model.encode_image, torch.from_numpy(np.stack(batch)))

    def texts(self, texts: Iterable[str]) -> Iterator[Floats]:
        """(b, d) of each batch of texts."""
        for batch in _batches(texts):
            yield self._run(self.model.encode_text, self._tokenizer(batch))

    def _run(self, encode: Any, inputs: torch.Tensor) -> Floats:
        with torch.inference_mode():
            vectors: Floats = encode(inputs.to(self.device), normalize=True).float().cpu().numpy()
        return vectors


def network_of(config: OpenclipConfig) -> Network:
    """The network of a config, once a process unless its checkpoint changes."""
    return _network(config, "" if config.weights is None else digest(config.weights))


@functools.lru_cache(maxsize=2)
def _network(config: OpenclipConfig, _digest: str) -> Network:
    return Network(config)


def _load(model: torch.nn.Module, name: str, file: str) -> None:
    """Fill a model from a checkpoint; nothing in it is run. Raises ConfigError, PluginError."""
    try:
        if Path(file).suffix == ".safetensors":
            from safetensors.torch import load_file

            told: Any = load_file(file)
        else:
            told = torch.load(file, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise PluginError(f"{error.name} is not installed; pip install safetensors") from None
    except Exception as error:  # a file of anything; among them the refusal to run what is in it
        raise ConfigError("weights", file, f"cannot be read: {(str(error).splitlines() or [''])[0]}") from None
    if not isinstance(told, Mapping):
        raise ConfigError("weights", file, f"holds {type(told).__name__}, not arrays by name")
    told = next((told[key] for key in WRAPPED if isinstance(told.get(key), Mapping)), told)
    try:
        model.load_state_dict({str(key).removeprefix("module."): array for key, array in told.items()})
    except (RuntimeError, TypeError) as error:
        raise ConfigError("weights", file, f"do not fit {name!r}: {' '.join(str(error).split())[:200]}") from None


def _batches(rows: Iterable[Any]) -> Iterator[list[Any]]:
    coming = iter(rows)
    while batch := list(itertools.islice(coming, BATCH)):
        yield batch
