"""Where networks compute, at which precision, and with which random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from xmr_core.plugin import ConfigError

__all__ = ["device", "has_bfloat16", "outputs", "randomness"]


def device(name: str) -> torch.device:
    """The device of an option `device`: "auto" is the first GPU where there is one, else the CPU.

    Raises ConfigError where the name is none or the device is absent.
    """
    try:
        where = torch.device(("cuda" if _count("cuda") else "cpu") if name == "auto" else name)
    except RuntimeError:
        where = torch.device("meta")  # an unknown name
    if where.type not in ("cpu", "cuda", "mps", "xpu"):
        raise ConfigError("device", name, "must be auto, cpu, cuda (or mps, xpu), or one of several such as cuda:1")
    count = _count(where.type)
    if (where.index or 0) >= count:
        there = f"torch can use {count} of them, counted from 0" if count else "there is no GPU that torch can use"
        raise ConfigError("device", name, f"{there}; auto takes a GPU where there is one")
    return where


def _count(kind: str) -> int:
    """How many devices of a kind torch can use."""
    if kind in ("cuda", "xpu"):
        module = getattr(torch, kind)
        return int(module.device_count()) if module.is_available() else 0
    return int(kind == "cpu" or torch.backends.mps.is_available())


def has_bfloat16(where: torch.device) -> bool:
    """True where bfloat16 products are faster than float32 ones: by a factor of two or more, at no loss of recall."""
    if where.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    look = getattr(torch.cpu, "get_capabilities", None)  # torch before 2.11 cannot tell
    return where.type == "cpu" and look is not None and bool(look().get("avx512_bf16"))


@contextmanager
def randomness(seed: int, where: torch.device) -> Iterator[None]:
    """Torch's random numbers from the seed inside; afterwards, those of before on every device."""
    gpus = range(torch.cuda.device_count()) if where.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(seed)
        yield


def outputs(network: nn.Module, vectors: NDArray[np.float32], block: int = 1024) -> NDArray[np.float32]:
    """(n, c) float32: what a network gives for rows (n, ...), block by block, in evaluation mode."""
    where = next(network.parameters()).device
    network.eval()
    with torch.inference_mode():
        starts = range(0, max(1, len(vectors)), block)
        rows = [network(torch.from_numpy(np.array(vectors[start : start + block])).to(where)) for start in starts]
    result: NDArray[np.float32] = torch.cat(rows).float().cpu().numpy()
    return result
