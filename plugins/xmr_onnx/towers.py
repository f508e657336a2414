"""`towers.json` read and checked, the files that it names, and their digest."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from xmr_core.plugin import IMAGE, TEXT, ConfigError, options_of
from xmr_onnx.config import ImageTower, TextTower, Towers
from xmr_onnx.external import external_files

__all__ = ["NAME", "Stamp", "digest", "inside", "network_file", "read_towers", "stamp"]

NAME = "towers.json"
Stamp = tuple[int, int]  # of a file: when it was changed, in nanoseconds, and its bytes
T = TypeVar("T")


def read_towers(folder: str) -> Towers:
    """What the folder's `towers.json` says. Raises ConfigError, naming the file and the key."""
    file = Path(folder) / NAME
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("folder", folder, f"holds no readable {NAME} ({error.strerror}: {file.resolve()})") from None
    except ValueError as error:  # no UTF-8, or no JSON
        raise ConfigError(f"{file}: not JSON ({error})") from None
    sides = told if isinstance(told, Mapping) else {}
    read = {
        IMAGE: _filled(ImageTower, sides[IMAGE], f"{file}: image") if sides.get(IMAGE) is not None else None,
        TEXT: _filled(TextTower, sides[TEXT], f"{file}: text") if sides.get(TEXT) is not None else None,
    }
    towers = _filled(Towers, {**told, **read} if isinstance(told, Mapping) else told, str(file))
    if towers.image is None and towers.text is None:
        raise ConfigError(f"{file}: has no tower; expected image, text or both")
    for _, name in _named_files(towers):
        inside(folder, name)
    return towers


def inside(folder: str | Path, name: str) -> Path:
    """The file of that name in the folder. Raises ConfigError where there is none, or it is outside the folder."""
    root = Path(folder).resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise ConfigError(f"{Path(folder) / NAME}: {name!r} is outside the folder; put the file into it")
    if not path.is_file():
        raise ConfigError(f"{Path(folder) / NAME}: there is no file {name!r} in the folder")
    return path


def network_file(folder: str, name: str) -> Path:
    """The file of a network, whose weights are in the folder too. Raises ConfigError."""
    for location in _external(folder, name):
        inside(folder, location)
    return inside(folder, name)


def digest(folder: str) -> str:
    """sha256 (hex) over `towers.json` and every file that it or its networks name. Raises ConfigError."""
    towers = read_towers(folder)
    names = {NAME} | {name for _, name in _named_files(towers)}
    for key, name in _named_files(towers):
        if key == "file":
            names |= set(_external(folder, name))
    files = {name: inside(folder, name) for name in sorted(names)}
    told = [f"{name} {_sha256(str(file), stamp(file))}" for name, file in files.items()]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def stamp(file: Path) -> Stamp:
    """What changes whenever the file does."""
    found = file.stat()
    return found.st_mtime_ns, found.st_size


def _external(folder: str, name: str) -> Iterator[str]:
    """The files, by their names in the folder, that hold weights of a network beside its own file."""
    network = inside(folder, name)
    for location in _located(str(network), stamp(network)):
        yield str(Path(name).parent / location)


@functools.lru_cache(maxsize=16)
def _located(file: str, _stamp: Stamp) -> tuple[str, ...]:
    try:
        return tuple(sorted(external_files(Path(file).read_bytes())))
    except ValueError as error:
        raise ConfigError(f"{file}: not an ONNX file ({error})") from None


@functools.lru_cache(maxsize=64)
def _sha256(file: str, _stamp: Stamp) -> str:
    with Path(file).open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _named_files(towers: Towers) -> Iterator[tuple[str, str]]:
    """The key and the name of each file in `towers.json`."""
    if towers.image is not None:
        yield "file", towers.image.file
    if towers.text is not None:
        yield "file", towers.text.file
        yield "tokenizer", towers.text.tokenizer


def _filled(cls: Callable[..., T], told: object, where: str) -> T:
    """The dataclass with the keys of a JSON object. Raises ConfigError on missing, unknown and wrong ones."""
    if not isinstance(told, Mapping):
        raise ConfigError(f"{where}: expected an object, got {json.dumps(told)[:50]}")
    keys = {option.name: option for option in options_of(cls)}  # type: ignore[arg-type]  # these are classes
    unknown = [key for key in told if key not in keys]
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(keys)}")
    missing = [key for key, option in keys.items() if option.required and key not in told]
    if missing:
        raise ConfigError(f"{where}: {', '.join(missing)} missing")
    try:
        return cls(**{key: _plain(value) for key, value in told.items()})
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
