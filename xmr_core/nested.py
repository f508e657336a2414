"""An encoder that stands on others: made from recipes, their states kept in its own under the names of modalities."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Any, cast

from numpy.typing import NDArray

from xmr_core.components import Encoder, Form
from xmr_core.errors import ConfigError
from xmr_core.progress import current_run
from xmr_core.recipes import component
from xmr_core.types import Pairs

__all__ = ["below", "fit_nested", "joined_digest", "nested_encoder"]


def nested_encoder(modality: str, recipe: str, forms: Collection[Form], state: Mapping[str, NDArray[Any]]) -> Encoder:
    """The encoder of a recipe like `bow(min_count=5)`, with what `state` keeps of it under `<modality>/`.

    Raises ConfigError where it does not take that modality or gives another form of it, UnknownComponentError.
    """
    part = cast(Encoder, component("encoder", recipe))
    if part.forms.get(modality) not in forms:
        kinds = {"vector": f"one vector of each {modality}", "regions": "regions", "tokens": "words"}
        wanted = " or ".join(told for form, told in kinds.items() if form in forms)
        raise ConfigError(modality, recipe, f"must be an encoder that gives {wanted}")
    return part.with_state(below(modality, state))


def fit_nested(name: str, parts: Mapping[str, Encoder], pairs: Pairs) -> dict[str, NDArray[Any]]:
    """Their states once fitted, under `<modality>/`; `name` is that of the encoder which they are parts of."""
    learnt: dict[str, NDArray[Any]] = {}
    for modality, part in parts.items():
        current_run().begin(f"0_{name}_{modality}")  # each has checkpoints of its own
        learnt |= {f"{modality}/{key}": array for key, array in part.fit(pairs).state.items()}
    current_run().begin(f"0_{name}")
    return learnt


def below(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays whose names begin with `prefix/`, under the rest of their names."""
    return {name[len(prefix) + 1 :]: array for name, array in arrays.items() if name.startswith(f"{prefix}/")}


def joined_digest(*told: str) -> str:
    """sha256 (hex) over what tells parts from others: their fingerprints."""
    return hashlib.sha256(" ".join(told).encode()).hexdigest()
