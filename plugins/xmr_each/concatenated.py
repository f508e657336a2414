"""Several encoders of one modality as one: their vectors, each scaled to length 1, joined end to end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

import numpy as np

import xmr_core as xmr
from xmr_core.plugin import Form, Widths, encode_cached, fit_nested, joined_digest, nested_encoder, unit

__all__ = ["Concatenated", "ConcatenatedConfig"]


@dataclass(frozen=True)
class ConcatenatedConfig:
    """Which encoders, and what they encode."""

    modality: Annotated[str, "image or text"]
    recipes: Annotated[
        tuple[str, ...], "of the encoders, which give one vector each; their order is that of the numbers"
    ]


class Concatenated(xmr.Encoder[ConcatenatedConfig]):
    """Vectors of length sqrt(number of encoders): under cosine, each encoder counts alike.

    Scaled to length 1 first, because a bag of words is otherwise some ten times as long as the vector of a language
    model and drowns it. A vector of zeros (no known word) stays zeros.

    State: what the encoders learned, under `0/`, `1/` and so on.
    """

    name: ClassVar[str] = "each"

    @xmr.takes(ConcatenatedConfig)
    def __init__(self) -> None:
        modality = self.config.modality
        self.parts = [
            nested_encoder(modality, recipe, {"vector"}, self.state, under=str(i))
            for i, recipe in enumerate(self.config.recipes)
        ]
        given: Mapping[str, Form] = {modality: "vector"}
        self.forms = given  # type: ignore[misc]  # a class variable elsewhere; here an option decides

    @property
    def fitted(self) -> bool:
        """True where all encoders are."""
        return all(part.fitted for part in self.parts)

    def widths(self) -> Widths:
        """The sum of the widths; None until all are known."""
        widths = [part.widths()[self.config.modality] for part in self.parts]
        return {self.config.modality: sum(width or 0 for width in widths) if None not in widths else None}

    def weights_digest(self) -> str:
        """sha256 over the fingerprints of the encoders."""
        return joined_digest(*(part.fingerprint() for part in self.parts))

    def fit(self, pairs: xmr.Pairs) -> Self:
        """Each encoder, fitted on the pairs."""
        parts = {str(i): part for i, part in enumerate(self.parts)}
        return self.with_state(fit_nested(f"{self.name}_{self.config.modality}", parts, pairs))

    def encode(self, items: xmr.Items) -> xmr.Features:
        """Features (n, 1, sum of widths). Raises what the encoders raise."""
        self.require_modality(items.modality)
        self.require_fit()
        vectors = [unit(encode_cached(part, items).vectors) for part in self.parts]
        return xmr.Features.of_vectors(items.modality, np.concatenate(vectors, axis=1), self.metric)

    def known_and_unknown(self, items: xmr.Items) -> list[tuple[list[str], list[str]]] | None:
        """The words that some encoder knows, and those that none does; None where one of them reads all words."""
        told = [part.known_and_unknown(items) for part in self.parts]
        if any(words is None for words in told):
            return None
        return [_merged(of_text) for of_text in zip(*(words for words in told if words is not None), strict=True)]


def _merged(told: tuple[tuple[list[str], list[str]], ...]) -> tuple[list[str], list[str]]:
    """Of one text: the words known to any encoder, and those unknown to all."""
    known = dict.fromkeys(word for words, _ in told for word in words)
    return list(known), list(dict.fromkeys(word for _, words in told for word in words if word not in known))
