"""One encoder for images and another for texts, as one, or several for a modality: what most fusers stand on.

each(image='lite0_grid', text='words') >> dan >> flat
each(image='lite0', text=['minilm', 'bow(weighting="tfidf")']) >> contrastive >> flat
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Self, get_args

import xmr_core as xmr
from xmr_core.plugin import Form, Widths, below, encode_cached, fit_nested, joined_digest, nested_encoder
from xmr_each.concatenated import Concatenated


@dataclass(frozen=True)
class EachConfig:
    """Which encoders: recipes of one component each, with options where need be."""

    image: Annotated[
        str | Sequence[str],
        'recipe of the image encoder, or a list of them; "lite0_grid" gives 49 regions, "lite0" one vector in a '
        "fiftieth of the space",
    ] = "lite0_grid"
    text: Annotated[
        str | Sequence[str],
        'recipe of the text encoder, or a list of them; "words" gives ids of the words in their order, "bow" one '
        "vector without it",
    ] = "words"

    def __post_init__(self) -> None:
        """A list becomes a tuple, so that a config stays a value. Raises ConfigError where it holds no recipe."""
        for modality in (xmr.IMAGE, xmr.TEXT):
            recipes = getattr(self, modality)
            if isinstance(recipes, str):
                continue
            if not recipes or not all(isinstance(recipe, str) for recipe in recipes):
                raise xmr.ConfigError(modality, recipes, "must be a recipe or a list of recipes")
            object.__setattr__(self, modality, tuple(recipes))


class Each(xmr.Encoder[EachConfig]):
    """Each modality by its own encoder: the features are those of the parts, and are cached where theirs are.

    A list of recipes for a modality joins the vectors of their encoders, each scaled to length 1.

    State: what the parts learned, under `image/` and `text/`; of a list under `text/0/`, `text/1/` and so on.
    """

    name: ClassVar[str] = "each"

    @xmr.takes(EachConfig)
    def __init__(self) -> None:
        self.parts = {
            modality: self._made(modality, recipe)
            for modality, recipe in ((xmr.IMAGE, self.config.image), (xmr.TEXT, self.config.text))
        }
        given: Mapping[str, Form] = {modality: part.forms[modality] for modality, part in self.parts.items()}
        self.forms = given  # type: ignore[misc]  # of the class elsewhere; here the parts decide

    def _made(self, modality: str, recipe: str | Sequence[str]) -> xmr.Encoder:
        if isinstance(recipe, str):
            return nested_encoder(modality, recipe, get_args(Form), self.state)
        return Concatenated(modality=modality, recipes=tuple(recipe)).with_state(below(modality, self.state))

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
        """Those of the encoder of that modality."""
        return self.part(items.modality).known_and_unknown(items)


@xmr.hookimpl
def xmr_encoders() -> list[type[xmr.Encoder]]:
    """Each."""
    return [Each]
