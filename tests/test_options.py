"""Declared options: what is checked, what is told, and what is stored stays usable when options change."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pytest

import xmr_core as xmr
from xmr_core import registry
from xmr_core.components import State
from xmr_core.options import Device, Matches, Range, Seed, checked, options_of, unset
from xmr_core.registry import default
from xmr_core.testing import clustered


@checked
@dataclass(frozen=True)
class Config:
    planes: Annotated[int | None, Range(1, 32), "buckets; None: by the data"] = None
    rate: Annotated[float, Range(above=0, below=1), "speed"] = 0.5
    bits: Annotated[int, Range(8, 64, step=8), "width"] = 8
    kind: Annotated[Literal["a", "b"], "which"] = "a"
    turned: Annotated[Literal["itq"] | None, "how"] = None
    where: Annotated[str, Matches("a+", "letters a"), "place"] = "a"
    seed: Annotated[Seed, "of this alone"] = 0
    plain: float = math.inf


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"planes": 99}, "planes=99: must be between 1 and 32, or None"),
        ({"planes": 1.5}, "planes=1.5: must be int or None"),
        ({"planes": True}, "planes=True: must be int or None"),
        ({"rate": 0}, "rate=0: must be above 0 and below 1"),
        ({"rate": math.nan}, "rate=nan: must be a finite number"),
        ({"rate": None}, "rate=None: must be float"),
        ({"bits": 12}, "bits=12: must be a multiple of 8 between 8 and 64"),
        ({"bits": 10**400}, "must be a multiple of 8 between 8 and 64"),
        ({"kind": "c"}, "kind='c': must be one of a, b"),
        ({"kind": ["a"]}, "kind=['a']: must be one of a, b"),
        ({"turned": "none"}, "turned='none': must be 'itq' or None"),
        ({"where": "ab"}, "where='ab': must be letters a"),
        ({"seed": -1}, "seed=-1: must be between 0 and 2**63 - 1"),
        ({"plain": "1"}, "plain='1': must be float"),
    ],
)
def test_a_config_refuses_what_is_not_allowed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(xmr.ConfigError) as error:
        Config(**options)
    assert message in str(error.value)


def test_a_config_is_checked_when_it_is_replaced() -> None:
    with pytest.raises(xmr.ConfigError, match="planes=0"):
        dataclasses.replace(Config(), planes=0)


def test_numpy_numbers_become_those_of_python() -> None:
    config = Config(planes=np.int64(3), rate=np.float32(0.25))  # type: ignore[arg-type]
    assert (type(config.planes), type(config.rate)) == (int, float)


def test_a_field_without_annotation_is_checked_against_its_type_alone() -> None:
    assert Config(plain=math.nan).plain is not None


def test_the_last_rule_and_the_last_text_count() -> None:
    (seed,) = (option for option in options_of(Config) if option.name == "seed")
    assert (seed.meaning, seed.allowed) == ("of this alone", "between 0 and 2**63 - 1")


def test_a_name_that_only_a_type_checker_knows_leaves_the_other_fields_checked() -> None:
    @checked
    @dataclass(frozen=True)
    class Odd:
        odd: Unknown = None  # type: ignore[name-defined]  # noqa: F821 (this is the point)
        even: Annotated[int, Range(0, 8, step=2), "even"] = 0

    assert Odd(odd="anything").odd == "anything"
    with pytest.raises(xmr.ConfigError, match="even=3"):
        Odd(even=3)


@pytest.mark.parametrize("where", ["auto", "cpu", "cuda", "cuda:1"])
def test_a_device_may_have_a_number(where: str) -> None:
    @checked
    @dataclass(frozen=True)
    class OnADevice:
        device: Device = "auto"

    assert OnADevice(where).device == where
    with pytest.raises(xmr.ConfigError, match="device='potato': must be auto, cpu, cuda"):
        OnADevice("potato")


def test_edges_are_the_outermost_values_and_one_step_beyond() -> None:
    assert Range(8, 64, step=8).edges(int) == ([8, 64], [0, 72, 9])
    assert Range(above=0, most=1).edges(float) == ([1.0, 5e-324], [math.nextafter(1, 2), 0.0])


@pytest.mark.parametrize("entry", [e for e in default().entries() if e.distribution == "xmr" and e.role != "store"])
def test_every_option_of_every_component_has_a_meaning_and_a_range_where_it_is_a_number(entry: Any) -> None:
    for option in options_of(entry.component.Config):
        assert option.meaning, option.name
        assert option.rule is not None or not {int, float} & set(option.kinds), option.name


def test_the_same_option_has_the_same_types_in_every_component() -> None:
    kinds: dict[str, set[object]] = {}
    for entry in default().entries():
        if entry.distribution == "xmr" and entry.role != "store":
            for option in options_of(entry.component.Config):
                kinds.setdefault(option.name, set()).add(frozenset(option.kinds) - {type(None)})
    for name in ("device", "seed", "epochs", "batch", "rate", "dropout", "validation", "bits", "dim"):
        assert len(kinds[name]) == 1, name


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("pq(rotation='none', lists=0)", "pq"),
        ("lsh(rotation='none')", "lsh"),
        ("kdtree(pca=0, candidates=0)", "kdtree"),
        ("lattice(dim=0, r2=0)", "lattice"),
        ("hnsw(threads=-1)", "hnsw(threads=None)"),
        ("catalyzer(epochs=0, through=0, r2=0, inverse=0, loss='auto') >> flat", "catalyzer(inverse=None) >> flat"),
        ("dcmh(image_hidden=0) >> flat", "dcmh >> flat"),
    ],
)
def test_recipes_of_earlier_releases_say_what_they_said(old: str, new: str) -> None:
    assert repr(xmr.Pipeline.parse(old)) == new


# what is stored


@dataclass(frozen=True)
class ThenConfig:
    times: Annotated[float, Range(0), "factor"] = 1.0


class Then(xmr.Fuser):
    """Vectors times a factor."""

    name = "scaled"
    Config: ClassVar[type[Any]] = ThenConfig
    metric: ClassVar[xmr.Metric] = "l2"

    def fit(self, pairs: xmr.FeaturePairs) -> Then:
        return self.with_state({"fitted": np.array([1])})

    def fuse(self, features: xmr.Features) -> xmr.Embeddings:
        return xmr.Embeddings(features.vectors * self.config.times, "l2")


@dataclass(frozen=True)
class NowConfig:
    factor: Annotated[float | None, Range(above=0), "factor; None: 1"] = None
    shift: Annotated[float, Range(0), "added to each number"] = 0.0


class Now(Then):
    """The same, `times` renamed to `factor`, its 0 to None, and with an option more."""

    Config: ClassVar[type[Any]] = NowConfig

    @classmethod
    def migrate(cls, options: Mapping[str, Any], state: State, version: int) -> tuple[Mapping[str, Any], State]:
        renamed = {"factor" if name == "times" else name: value for name, value in options.items()}
        return super().migrate(unset(renamed, factor=0.0), state, version)

    def fuse(self, features: xmr.Features) -> xmr.Embeddings:
        return xmr.Embeddings(features.vectors * (self.config.factor or 1) + self.config.shift, "l2")


@contextmanager
def installed(component: type[xmr.Fuser]) -> Iterator[None]:
    """Have `component` found under its name, as one release of its package after another."""
    registry.add(component)
    try:
        yield
    finally:
        registry.remove(component)


@pytest.mark.parametrize("times", [1.0, 2.0])
def test_a_stored_space_outlives_an_option_that_is_renamed_and_one_that_is_added(times: float, tmp_path: Path) -> None:
    vectors = clustered("l2", 50, 8).values
    with installed(Then), xmr.open(tmp_path / "a.duckdb", progress=False) as db:
        db.add_embeddings(vectors, "mine", recipe=f"scaled(times={times}) >> flat", ids=range(50))
        fingerprint = db.space("mine").record.fingerprint
    with installed(Now), xmr.open(tmp_path / "a.duckdb", progress=False) as db:
        space = db.space("mine")
        assert space.pipeline.fingerprint() == fingerprint
        assert space.pipeline.fusers[0].config == NowConfig(factor=times)
        assert db.search(vector=vectors[7], k=1, space="mine").ids[0, 0] == 7


def test_what_is_stored_is_saved_again_as_it_was() -> None:
    loaded = Now.load({"times": 2.0}, {"fitted": np.array([1])}, 1)
    assert (loaded.stored.options, loaded.config.factor) == ({"times": 2.0}, 2.0)
    assert Now.load(loaded.stored.options, loaded.stored.state, loaded.stored.version).fingerprint() == (
        Then(times=2.0).with_state({"fitted": np.array([1])}).fingerprint()
    )


def test_a_fit_with_another_option_has_another_fingerprint() -> None:
    one, two = (Now(shift=shift).with_state({"fitted": np.array([1])}) for shift in (0.0, 1.0))
    assert one.fingerprint() != two.fingerprint()


def test_an_option_that_is_not_known_is_refused_on_loading() -> None:
    with pytest.raises(xmr.StateError, match="stored with depth, which the installed version does not know"):
        Then.load({"times": 1.0, "depth": 3}, {}, 1)


def test_options_survive_json() -> None:
    component = Now(factor=3.0)
    assert Now.load(json.loads(json.dumps(component.options())), {}, 1).config == component.config
