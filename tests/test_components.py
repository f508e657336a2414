"""How a component gets its options: as keywords, as a config, and declared by `takes`."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import xmr_core as xmr


@dataclass(frozen=True)
class HalvesConfig:
    bits: int = 64
    seed: int = 0


class Halves(xmr.Fuser[HalvesConfig]):
    """Two of them."""

    name = "halves"
    metric = "ip"

    @xmr.takes(HalvesConfig)
    def __init__(self) -> None:
        """Half as many bytes."""
        self.width = self.config.bits // 8 + len(self.state)

    def fuse(self, features: xmr.Features) -> xmr.Embeddings:
        return xmr.Embeddings(features.vectors, "ip")


def test_takes_makes_the_config_of_a_component() -> None:
    assert Halves.Config is HalvesConfig
    assert Halves(bits=32).config == HalvesConfig(32)
    assert repr(Halves(bits=32)) == "halves(bits=32)"


def test_what_is_derived_sees_config_and_state() -> None:
    assert Halves().width == 8
    assert Halves(bits=32).with_state({"a": np.zeros(1)}).width == 5
    assert Halves.load({"bits": 16, "seed": 3}, {}, 1).width == 2


def test_help_shows_the_options() -> None:
    assert str(inspect.signature(Halves)) == "(*, bits: 'int' = 64, seed: 'int' = 0) -> None"


@pytest.mark.parametrize(
    ("options", "message"),
    [({"bist": 3}, "halves has no option 'bist'; it takes bits, seed"), ({"bits": "3"}, "bits='3': must be")],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(xmr.ConfigError, match=message):
        Halves(**options)


def test_a_subclass_takes_the_same_or_its_own() -> None:
    class Wider(Halves):
        name = "wider"

    @dataclass(frozen=True)
    class OwnConfig(HalvesConfig):
        scale: float = 1.0

    class Own(Halves):
        name = "own"

        @xmr.takes(OwnConfig)
        def __init__(self) -> None: ...

    assert Wider(bits=16).width == 2
    assert repr(Own(bits=8, scale=2.0)) == "own(bits=8, scale=2.0)"
    assert Halves.Config is Wider.Config is HalvesConfig
