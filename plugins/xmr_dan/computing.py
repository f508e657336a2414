"""What the training of both networks stands on: where and how to compute, random numbers, rates, tensors as arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import xmr_core as xmr

__all__ = [
    "Arrays",
    "device",
    "halves",
    "has_bfloat16",
    "memory_of",
    "numbers",
    "one_cycle",
    "paper_sgd",
    "randomness",
    "remember",
    "tensors",
]

Arrays = Mapping[str, NDArray[Any]]


def device(name: str) -> torch.device:
    """Where a network computes; "auto" is the GPU where there is one. Raises ConfigError on a place that is none."""
    there = torch.cuda.is_available()
    try:
        where = torch.device(("cuda" if there else "cpu") if name == "auto" else name)
    except RuntimeError:
        raise xmr.ConfigError("device", name, "must be auto, cpu, cuda, or one GPU of several, like cuda:1") from None
    if where.type == "cuda" and not there:
        raise xmr.ConfigError("device", name, "there is no GPU that torch can use; auto takes one where there is")
    return where


def has_bfloat16(where: torch.device) -> bool:
    """True where bfloat16 products are quicker than float32 ones."""
    if where.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    look = getattr(torch.cpu, "get_capabilities", None)  # torch before 2.11 cannot say
    return look is not None and bool(look().get("avx512_bf16"))


@contextmanager
def randomness(seed: int, where: torch.device) -> Iterator[None]:
    """Torch's random numbers from the seed inside; outside, as if nothing had been."""
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def one_cycle(progress: float) -> float:
    """Share of the highest rate at a share of the way: a twentieth of it up, then down along a cosine."""
    return min(0.02 + 20 * progress, 0.5 + 0.5 * math.cos(math.pi * progress))


def halves(progress: float) -> float:
    """The paper's: a tenth for the second half of the epochs."""
    return 1.0 if progress < 0.5 else 0.1


def paper_sgd(parameters: Any) -> torch.optim.Optimizer:
    """The paper's optimiser."""
    return torch.optim.SGD(parameters, momentum=0.9, weight_decay=5e-4)


def numbers(named: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Tensors as arrays of their own."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in named.items()}


def tensors(named: Arrays) -> dict[str, Tensor]:
    """The inverse of `numbers`."""
    return {name: torch.from_numpy(np.array(array)) for name, array in named.items()}


def memory_of(optimiser: torch.optim.Optimizer) -> dict[str, NDArray[Any]]:
    """What an optimiser keeps of each parameter i, as arrays `i/name` for a checkpoint."""
    states = optimiser.state_dict()["state"]
    return {
        f"{i}/{name}": torch.as_tensor(value).cpu().numpy().copy()
        for i, memory in states.items()
        for name, value in memory.items()
        if value is not None
    }


def remember(optimiser: torch.optim.Optimizer, memory: Arrays) -> None:
    """The inverse of `memory_of`; rates and the like stay as they are."""
    states: dict[int, dict[str, Tensor]] = {}
    for key, array in memory.items():
        i, name = key.split("/", 1)
        states.setdefault(int(i), {})[name] = torch.from_numpy(np.array(array))
    optimiser.load_state_dict({**optimiser.state_dict(), "state": states})
