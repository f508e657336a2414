"""Tensors and optimiser states as numpy arrays, for states and checkpoints, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Arrays", "arrays", "optimiser_arrays", "restore_optimiser", "tensors"]

Arrays = Mapping[str, NDArray[Any]]


def arrays(named: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Tensors, such as a network's `state_dict()`, as arrays that share no memory with them."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in named.items()}


def tensors(named: Arrays) -> dict[str, Tensor]:
    """The inverse of `arrays`: tensors on the CPU that share no memory with the arrays."""
    return {name: torch.from_numpy(np.array(array)) for name, array in named.items()}


def optimiser_arrays(optimiser: torch.optim.Optimizer) -> dict[str, NDArray[Any]]:
    """What an optimiser keeps of its i-th parameter (moments, step counts), under `i/name`."""
    return {
        f"{i}/{name}": torch.as_tensor(value).cpu().numpy().copy()
        for i, state in optimiser.state_dict()["state"].items()
        for name, value in state.items()
        if value is not None  # SGD without momentum keeps nothing
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, kept: Arrays) -> None:
    """The inverse of `optimiser_arrays`; learning rates and the like stay as they are."""
    states: dict[int, dict[str, Tensor]] = {}
    for key, array in kept.items():
        i, name = key.split("/", 1)
        states.setdefault(int(i), {})[name] = torch.from_numpy(np.array(array))
    optimiser.load_state_dict({**optimiser.state_dict(), "state": states})
