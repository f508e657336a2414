"""One encoder for pictures and another for texts, as one: what a fuser of regions and words stands on.

each(image='lite0_grid', text='words') >> dan >> flat
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Self, get_args

import xmr_core as xmr
from xmr_core.plugin import Form, Widths, encode_cached, fit_nested, joined_digest, nested_encoder


@dataclass(frozen=True)
class EachConfig:
    """Which encoders: recipes of one component, with options where need be."""

    image: Annotated[
        str, 'recipe of the image encoder; "lite0_grid" gives 49 regions, "lite0" one vector in a fiftieth of the space'
    ] = "lite0_grid"
    text: Annotated[
        str, 'recipe of the text encoder; "words" gives ids of the words in their order, "bow" one vector without it'
    ] = "words"


class Each(xmr.Encoder[EachConfig]):
    """Each modality by its own encoder: the features are those of the parts, and are cached where theirs are.

    State: what the parts learnt, under `image/` and `text/`.
    """

    name: ClassVar[str] = "each"

    @xmr.takes(EachConfig)
    def __init__(self) -> None:
        recipes = {xmr.IMAGE: self.config.image, xmr.TEXT: self.config.text}
        self.parts = {
            modality: nested_encoder(modality, recipe, get_args(Form), self.state)
            for modality, recipe in recipes.items()
        }
        given: Mapping[str, Form] = {modality: part.forms[modality] for modality, part in self.parts.items()}
        self.forms = given  # type: ignore[misc]  # of the class elsewhere; here the parts decide

    @property
    def fitted(self) -> bool:
        """True where both parts are."""
        return all(part.fitted for part in self.parts.values())

    def widths(self) -> Widths:
        """Those of the two encoders."""
        return {modality: part.widths()[modality] for modality, part in self.parts.items()}

    def weights_digest(self) -> str:
        """sha256 over the fingerprints of the parts."""
        return joined_digest(*(part.fingerprint() for part in self.parts.values()))

    def fit(self, pairs: xmr.Pairs) -> Self:
        """Each part, fitted on the pairs."""
        return self.with_state(fit_nested(self.name, self.parts, pairs))

    def part(self, modality: str) -> xmr.Encoder:
        """The encoder of that modality."""
        self.require_modality(modality)
        return self.parts[modality].part(modality)

    def encode(self, items: xmr.Items) -> xmr.Features:
        """The features of the part. Raises what it raises."""
        self.require_modality(items.modality)
        self.require_fit()
        return encode_cached(self, items)

    def tokens(self, items: xmr.Items) -> list[list[str]] | None:
        """The words of the part."""
        return self.part(items.modality).tokens(items)

    def known_and_unknown(self, items: xmr.Items) -> list[tuple[list[str], list[str]]] | None:
        """The words that the component knows, and those that it does not."""
        return self.part(items.modality).known_and_unknown(items)


@xmr.hookimpl
def xmr_encoders() -> list[type[xmr.Encoder]]:
    """Each."""
    return [Each]
