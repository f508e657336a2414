"""Networks in onnxruntime: pixels or tokens to vectors, in batches."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xmr_core.plugin import ConfigError, PluginError
from xmr_onnx.config import ImageTower, TextTower
from xmr_onnx.towers import inside, network_file, stamp

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ImageNetwork", "TextNetwork", "as_input", "image_network", "text_network"]

BATCH = 32  # images through the network at once
TOKENS = 4096  # of texts through the network at once
TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}

Floats = NDArray[np.float32]


class Network:
    """An ONNX file in onnxruntime, on the CPU. Raises ConfigError, PluginError."""

    def __init__(self, file: Path, output: str | None, width: int) -> None:
        self.file, self.width = file, width
        self._session = _session(file)
        self.inputs = {node.name: node for node in self._session.get_inputs()}
        outputs = {node.name: node for node in self._session.get_outputs()}
        self._output = self._chosen("output", output, list(outputs))
        shape = outputs[self._output].shape
        if len(shape) != 2 or (isinstance(shape[1], int) and shape[1] != width):
            raise ConfigError(
                f"{file}: output {self._output!r} has shape {shape}; expected (images or texts, {width}), "
                "where width says how many dimensions a vector has"
            )

    def named(self, key: str, name: str | None, usual: str = "") -> str:
        """The input that `towers.json` names, else the usual one if there is one, else the only one."""
        return self._chosen(key, name or (usual if usual in self.inputs else None), list(self.inputs))

    def _chosen(self, key: str, name: str | None, known: list[str]) -> str:
        if name is None and len(known) == 1:
            return known[0]
        if name not in known:
            said = f"{key} {name!r} is none of" if name else f"name one as {key}:"
            raise ConfigError(f"{self.file}: {said} {', '.join(known)}")
        return name

    def require_no_other(self, *names: str | None) -> None:
        """Raise ConfigError where the network takes more than these inputs."""
        others = [name for name in self.inputs if name not in names]
        if others:
            raise ConfigError(f"{self.file}: also takes {', '.join(others)}; export each tower as a network of its own")

    def batch(self, name: str, most: int) -> int:
        """How many rows an input takes at once: as many as it was exported with, else at most so many."""
        first = self.inputs[name].shape[0]
        return first if isinstance(first, int) and first > 0 else most

    def run(self, feeds: Mapping[str, NDArray[Any]], batch: int) -> Floats:
        """(b, width) of inputs of b rows, b at most `batch`."""
        rows = len(next(iter(feeds.values())))
        given = {name: self._as_wanted(name, array, batch) for name, array in feeds.items()}
        try:
            made = np.asarray(self._session.run([self._output], given)[0])
        except Exception as error:  # onnxruntime's errors share no base class
            raise ConfigError(f"{self.file}: cannot be run: {_line(error)}") from None
        if made.shape[1:] != (self.width,) or len(made) < rows:
            raise ConfigError(f"{self.file}: gave {made.shape} of {rows} rows; expected ({rows}, {self.width})")
        return made[:rows].astype(np.float32, copy=False)

    def _as_wanted(self, name: str, array: NDArray[Any], batch: int) -> NDArray[Any]:
        """In the type that the input takes; of an export with a fixed batch, filled up with its last row."""
        node = self.inputs[name]
        kind = TYPES.get(node.type)
        if kind is None:
            raise ConfigError(f"{self.file}: input {name!r} is a {node.type}; known are {', '.join(TYPES)}")
        if isinstance(node.shape[0], int) and len(array) < batch:
            array = np.concatenate([array, np.repeat(array[-1:], batch - len(array), axis=0)])
        return np.ascontiguousarray(array, kind)


class ImageNetwork(Network):
    """The network for images."""

    def __init__(self, file: Path, tower: ImageTower, width: int) -> None:
        super().__init__(file, tower.output, width)
        self.tower = tower
        self._pixels = self.named("input", tower.input, "pixel_values")
        self.require_no_other(self._pixels)

    def vectors(self, inputs: Iterable[Floats]) -> Iterator[Floats]:
        """(b, width) of each batch of inputs, which `as_input` makes."""
        batch, coming = self.batch(self._pixels, BATCH), iter(inputs)
        while several := list(islice(coming, batch)):
            yield self.run({self._pixels: np.stack(several)}, batch)


class TextNetwork(Network):
    """The network for texts, with its tokenizer."""

    def __init__(self, file: Path, tokenizer: Path, tower: TextTower, width: int) -> None:
        super().__init__(file, tower.output, width)
        self.tower = tower
        self._tokenizer = _tokenizer(tokenizer, tower.context)
        self._ids = self.named("input", tower.input, "input_ids")
        self._mask = self.named("mask", tower.mask or "attention_mask") if self._takes_mask() else None
        self.require_no_other(self._ids, self._mask)

    def _takes_mask(self) -> bool:
        return self.tower.mask is not None or "attention_mask" in self.inputs

    def vectors(self, texts: Sequence[str]) -> Floats:
        """(n, width). Equal texts are computed once."""
        distinct = list(dict.fromkeys(texts))
        tokens = [list(made.ids) or [self.tower.pad] for made in self._tokenizer.encode_batch(distinct)]
        made: dict[str, Floats] = {}
        for rows in self._batches([len(own) for own in tokens]):
            vectors = self._run([tokens[row] for row in rows])
            made.update(zip((distinct[row] for row in rows), vectors, strict=True))
        return np.array([made[text] for text in texts], np.float32).reshape(len(texts), self.width)

    def _run(self, tokens: list[list[int]]) -> Floats:
        """(b, width) of texts of one length, or filled up to one."""
        full = self.tower.context if self.tower.padding == "context" else len(tokens[0])
        ids = np.full((len(tokens), full), self.tower.pad, np.int64)
        mask = np.arange(full) < np.array([len(own) for own in tokens])[:, None]
        ids[mask] = np.concatenate(tokens)
        feeds = {self._ids: ids} if self._mask is None else {self._ids: ids, self._mask: mask}
        return self.run(feeds, self._batch(full))

    def _batch(self, length: int) -> int:
        return self.batch(self._ids, max(1, TOKENS // length))

    def _batches(self, lengths: list[int]) -> Iterator[list[int]]:
        """Rows of texts that go through the network together."""
        alike: dict[int, list[int]] = defaultdict(list)
        for row, length in enumerate(lengths):
            alike[self.tower.context if self.tower.padding == "context" else length].append(row)
        for length, rows in sorted(alike.items()):
            step = self._batch(length)
            yield from (rows[start : start + step] for start in range(0, len(rows), step))


def image_network(folder: str, tower: ImageTower, width: int) -> ImageNetwork:
    """The network for images, once a process unless its file changes. Raises ConfigError, PluginError."""
    file = network_file(folder, tower.file)
    return _image_network(file, stamp(file), tower, width)


def text_network(folder: str, tower: TextTower, width: int) -> TextNetwork:
    """The network for texts, once a process unless its files change. Raises ConfigError, PluginError."""
    file, tokenizer = network_file(folder, tower.file), inside(folder, tower.tokenizer)
    return _text_network(file, tokenizer, (stamp(file), stamp(tokenizer)), tower, width)


@functools.lru_cache(maxsize=2)
def _image_network(file: Path, _stamp: object, tower: ImageTower, width: int) -> ImageNetwork:
    return ImageNetwork(file, tower, width)


@functools.lru_cache(maxsize=2)
def _text_network(file: Path, tokenizer: Path, _stamp: object, tower: TextTower, width: int) -> TextNetwork:
    return TextNetwork(file, tokenizer, tower, width)


def as_input(image: Image, tower: ImageTower) -> Floats:
    """(3, side, side) float32, or (side, side, 3): resized, cut, colours as the network was trained on them."""
    from PIL.Image import Resampling

    resampling = Resampling[tower.interpolation.upper()]
    resized = _resized(image, tower, resampling)
    mean, deviation = (np.asarray(colour, np.float32) for colour in (tower.mean, tower.deviation))  # (3,) each
    values = (np.asarray(resized, np.float32) / 255 - mean) / deviation  # (side, side, 3)
    return np.ascontiguousarray(values.transpose(2, 0, 1) if tower.layout == "nchw" else values, np.float32)


def _resized(image: Image, tower: ImageTower, resampling: Any) -> Image:
    from PIL import Image as Images  # the module

    side = tower.side
    if tower.resize == "stretch":
        return image.resize((side, side), resampling)
    if tower.resize == "longest":
        square = Images.new("RGB", (side, side))
        scaled = image.resize(_scaled(image.size, side / max(image.size)), resampling)
        square.paste(scaled, ((side - scaled.width) // 2, (side - scaled.height) // 2))
        return square
    short = tower.resize_side or side
    scaled = image.resize(_scaled(image.size, short / min(image.size)), resampling)
    left, top = (round((size - side) / 2) for size in scaled.size)
    return scaled.crop((left, top, left + side, top + side))


def _scaled(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Width and height times the factor; halves of a pixel are dropped, as torchvision does."""
    width, height = (max(1, int(one * factor + 1e-6)) for one in size)
    return width, height


def _session(file: Path) -> Any:
    """onnxruntime's session: no log, CPU, and threads that sleep where they have nothing to do."""
    try:
        import onnxruntime
    except ImportError as error:
        raise PluginError(f"onnxruntime is not installed; pip install 'xmr[onnx]' ({error})") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class
        raise ConfigError(f"{file}: onnxruntime cannot read it: {_line(error)}") from None


def _tokenizer(file: Path, context: int) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise PluginError(f"tokenizers is not installed; pip install 'xmr[onnx]' ({error})") from None
    try:
        tokenizer: Any = Tokenizer.from_file(str(file))
    except Exception as error:  # the package raises a bare Exception
        raise ConfigError(f"{file}: tokenizers cannot read it: {_line(error)}") from None
    tokenizer.no_padding()
    tokenizer.enable_truncation(context)
    return tokenizer


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
