"""What is known of a model and a checkpoint without loading either: the model's config, and the file's digest."""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from xmr_core.plugin import ConfigError, PluginError

__all__ = ["INSTALL", "digest", "embed_dim", "model_config"]

INSTALL = "open_clip is not installed; pip install 'xmr[openclip]'"


@functools.cache
def model_config(model: str) -> dict[str, Any]:
    """What open_clip says of a model. Raises ConfigError on an unknown one, or one that needs a download."""
    spec = find_spec("open_clip")
    if spec is None or spec.origin is None:
        raise PluginError(INSTALL)
    known = {file.stem: file for file in (Path(spec.origin).parent / "model_configs").glob("*.json")}
    if model not in known:
        near = ", ".join(difflib.get_close_matches(model, known, 5, 0.3)) or ", ".join(sorted(known)[:5])
        raise ConfigError("model", model, f"open_clip has none of that name; there are {near} and others")
    told: dict[str, Any] = json.loads(known[model].read_text())
    outside = sorted({key for key in ("hf_model_name", "hf_tokenizer_name") if told.get("text_cfg", {}).get(key)})
    if outside:
        raise ConfigError(
            "model", model, f"its texts need a download ({', '.join(outside)}); export it, and use onnx(folder=...)"
        )
    return told


def embed_dim(model: str) -> int:
    """The dimensions of its vectors. Raises as `model_config` does."""
    return int(model_config(model)["embed_dim"])


def digest(file: str) -> str:
    """sha256 (hex) of a checkpoint. Raises ConfigError where it cannot be read."""
    try:
        found = Path(file).stat()
        return _sha256(file, found.st_mtime_ns, found.st_size)
    except OSError as error:
        raise ConfigError("weights", file, f"cannot be read: {error.strerror}; checkpoints are local files") from None


@functools.lru_cache(maxsize=8)
def _sha256(file: str, _changed: int, _size: int) -> str:
    with Path(file).open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
