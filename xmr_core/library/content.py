"""What must be known of items before they are stored: their content hashes, and which of them cannot be used."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import DataError, named
from xmr_core.images import check_images, decode_image
from xmr_core.types import IMAGE, TEXT, Items, as_vectors

__all__ = ["Prepared", "are_vectors", "check_keys", "content_of", "fault_of_text", "prepare"]


@dataclass(frozen=True, eq=False)
class Prepared:
    """Columns of items ready to be stored, and what is wrong with the rest (position to reason)."""

    content: Sequence[str]
    source: Sequence[str | None]
    text: Sequence[str | None]
    blob: Sequence[bytes | None]
    vectors: NDArray[np.float32] | None
    bad: dict[int, str]


def prepare(items: Items) -> Prepared:
    """Hash and check items: pictures are decoded once, texts must say something, vectors must be finite."""
    if are_vectors(items.data):
        return _prepare_vectors(items)
    if items.modality == TEXT:
        return _prepare_texts(items)
    if items.modality == IMAGE:
        return _prepare_pictures(items)
    raise DataError(f"{items.modality}s must be given as vectors; pictures are {IMAGE!r}, sentences {TEXT!r}")


def content_of(picture: Any) -> str:
    """The sha256 that a picture is stored under. Raises DataError where it cannot be read."""
    try:
        return _file(picture)[2]
    except OSError as error:
        raise DataError(f"{picture}: cannot be read: {error}") from error


def fault_of_text(text: object) -> str | None:
    """Why a text cannot be stored or asked with, or None where it can."""
    if not isinstance(text, str):
        return f"expected a text, got {type(text).__name__}"
    if not text.strip():
        return "empty text"
    if "\0" in text:
        return "text with a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "text that is no valid Unicode"
    return None


def check_keys(keys: Sequence[str], content: Sequence[str], modality: str) -> list[int]:
    """Positions of the first of each key. Raises DataError where one key names two different contents."""
    first: dict[str, int] = {}
    clashes = []
    for place, key in enumerate(keys):
        if content[first.setdefault(key, place)] != content[place]:
            clashes.append(key)
    if clashes:
        raise DataError(f"{named(clashes)}: one key names two different {modality}s", clashes)
    return sorted(first.values())


def are_vectors(data: Sequence[Any]) -> bool:
    """True where the data of items are ready-made vectors."""
    if isinstance(data, np.ndarray):
        return data.ndim == 2
    return len(data) > 0 and isinstance(data[0], np.ndarray) and data[0].ndim == 1


def _prepare_vectors(items: Items) -> Prepared:
    vectors = as_vectors(items.data, f"{items.modality} vectors")
    none: list[Any] = [None] * len(items)
    return Prepared([_sha256(row.tobytes()) for row in vectors], none, none, none, vectors, {})


def _prepare_texts(items: Items) -> Prepared:
    faults = {place: fault_of_text(text) for place, text in enumerate(items.data)}
    bad = {place: reason for place, reason in faults.items() if reason}
    texts = ["" if place in bad else str(text) for place, text in enumerate(items.data)]
    none: list[Any] = [None] * len(items)
    return Prepared([_sha256(text.encode()) for text in texts], none, texts, none, None, bad)


def _prepare_pictures(items: Items) -> Prepared:
    reasons = check_images(items)
    bad = {place: reasons[key] for place, key in enumerate(items.keys) if key in reasons}
    good = [place for place in range(len(items)) if place not in bad]
    with ThreadPoolExecutor(4) as pool:
        files = dict(zip(good, pool.map(lambda place: _file(items.data[place]), good), strict=True))
    content, source, blob = [], [], []
    for place in range(len(items)):
        path, data, digest = files.get(place, (None, None, ""))
        content.append(digest)
        source.append(path)
        blob.append(data)
    return Prepared(content, source, [None] * len(items), blob, None, bad)


def _file(picture: Any) -> tuple[str | None, bytes | None, str]:
    """A picture as its path, or the bytes to keep where it has none, and the sha256 of its bytes."""
    if isinstance(picture, (str, Path)):
        return str(Path(picture).resolve()), None, _sha256(Path(picture).read_bytes())
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return None, bytes(picture), _sha256(bytes(picture))
    file = io.BytesIO()
    decode_image(picture).save(file, format="PNG")  # upright RGB: PNG keeps neither all modes nor the turn
    return None, file.getvalue(), _sha256(file.getvalue())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
