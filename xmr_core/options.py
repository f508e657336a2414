"""Declared options: the fields of a component's config with the values they may have, what they mean and cost.

    @dataclass(frozen=True)
    class LshConfig:
        tables: Annotated[int, Range(1, 256), "hash tables; more: higher recall, 4 bytes an item each"] = 8
        planes: Annotated[int | None, Range(1, 32), "2**planes buckets a table; None: log2 of the items"] = None
        rotation: Annotated[Literal["itq"] | None, "learned from the data; None: random planes"] = None
        seed: Seed = 0

The core checks every value when a config is made, `xmr plugins NAME` prints the options, and the contract suite tries
the edges of each range. Fields without `Annotated` are checked against their type alone. The last rule and the last
text of an annotation count, so that `Annotated[Seed, "of the k-means"]` keeps the range and says something else.

`as_int` and `as_float` check numbers that are arguments of functions.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import operator
import re
import sys
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from types import NoneType, SimpleNamespace, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    Protocol,
    SupportsIndex,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np

from xmr_core.errors import ConfigError, DataError

__all__ = [
    "Batch",
    "Bits",
    "Device",
    "Dim",
    "Dropout",
    "Epochs",
    "Matches",
    "Option",
    "Range",
    "Rate",
    "Rule",
    "Seed",
    "Validation",
    "VectorMetric",
    "as_float",
    "as_int",
    "checked",
    "options_of",
    "unset",
]

MISSING = dataclasses.MISSING
FARTHEST = float(np.finfo(np.float32).max)
Config = TypeVar("Config", bound=type[Any])


class Rule(Protocol):
    """What values of an option's type are allowed; `str` completes the sentence "must be ..."."""

    def allows(self, value: object) -> bool:
        """True where an option may have that value, which is of its type and not None."""


@dataclass(frozen=True)
class Range:
    """Finite numbers from `least` to `most`, both allowed; or `above` and `below` bounds that are not allowed.

    With `step` only its multiples, of which the bounds are some. Set an upper bound wherever a value would hang or
    exhaust memory.

    >>> print(Range(1, 32), Range(1), Range(0, below=1), Range(8, 4096, step=8), sep="; ")
    between 1 and 32; 1 or more; at least 0 and below 1; a multiple of 8 between 8 and 4096
    """

    least: float | None = None
    most: float | None = None
    _: KW_ONLY
    above: float | None = None
    below: float | None = None
    step: int | None = None

    def allows(self, value: object) -> bool:
        """True for numbers within the bounds; never for NaN."""
        if not isinstance(value, int | float):
            return False
        return (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
            and (self.step is None or value % self.step == 0)
            and (isinstance(value, int) or math.isfinite(value))
        )

    def edges(self, kind: type[int] | type[float]) -> tuple[list[float], list[float]]:
        """The outermost values that are allowed, and those one step beyond them, as whole numbers or as floats."""
        within: list[float] = []
        beyond: list[float] = []
        closed, opened = ((self.least, -1), (self.most, 1)), ((self.above, -1), (self.below, 1))
        for bound, outwards in closed:
            if bound is not None:
                within.append(kind(bound))
                beyond.append(_next(kind(bound), outwards, self.step))
        for bound, outwards in opened:
            if bound is not None:
                within.append(_next(kind(bound), -outwards, self.step))
                beyond.append(kind(bound))
        if self.step is not None and self.step > 1 and self.least is not None:
            beyond.append(kind(self.least) + 1)
        return within, beyond

    def __str__(self) -> str:
        of = "" if self.step is None else f"a multiple of {self.step}"
        if self.least is not None and self.most is not None:
            return f"{of} between {self.least} and {_shown(self.most)}".strip()
        if self.least is not None and self.below is None:
            return f"{of}, {self.least} or more" if of else f"{self.least} or more"
        bounds = (("at least", self.least), ("above", self.above), ("at most", self.most), ("below", self.below))
        told = " and ".join(f"{word} {bound}" for word, bound in bounds if bound is not None)
        return f"{of} {told}".strip() or "finite"


def _shown(bound: float) -> str:
    """A bound as people read it."""
    return "2**63 - 1" if bound == 2**63 - 1 else f"{bound:,}"


def _next(value: float, direction: int, step: int | None) -> float:
    """The next number in a direction: the nearest float, or one step away among whole numbers."""
    if isinstance(value, int):
        return value + direction * (step or 1)
    return math.nextafter(value, direction * math.inf)


@dataclass(frozen=True)
class Matches:
    """Text that a regular expression matches as a whole; `told` says in words what that is."""

    pattern: str
    told: str

    def allows(self, value: object) -> bool:
        """True where the whole text matches."""
        return isinstance(value, str) and re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        return self.told


Seed = Annotated[int, Range(0, 2**63 - 1), "starts the random numbers: the same seed, the same result"]
Device = Annotated[
    str,
    Matches(r"auto|cpu|(cuda|mps|xpu)(:\d+)?", "auto, cpu, cuda (or mps, xpu), or one of several such as cuda:1"),
    "where it computes; auto: the GPU if there is one, else the CPU",
]
Epochs = Annotated[int, Range(1, 100_000), "passes over the training data; more: longer in proportion"]
Batch = Annotated[int, Range(1, 1 << 20), "rows in a training step; more: fewer steps, more memory"]
Rate = Annotated[float, Range(above=0), "highest learning rate; too high a rate ends in an error"]
Dropout = Annotated[float, Range(0, below=1), "share of units left out while training; small data sets want more"]
Validation = Annotated[int, Range(0), "held out to choose the best epoch; 0: the last epoch is kept"]
Bits = Annotated[int, Range(8, 16_384, step=8), "bits of a code; more: finer rankings, larger codes"]
Dim = Annotated[int, Range(1, 65_536), "dimensions of a vector; more: time and memory in proportion"]
VectorMetric = Literal["cosine", "ip", "l2"]


@dataclass(frozen=True)
class Option:
    """One option of a config. `kinds` are the types a value may have, NoneType among them where None means not set."""

    name: str
    kinds: tuple[Any, ...]
    rule: Rule | None
    meaning: str
    default: object = MISSING

    @property
    def required(self) -> bool:
        """True where there is no default."""
        return self.default is MISSING

    @property
    def optional(self) -> bool:
        """True where the option may be None: not set."""
        return NoneType in self.kinds

    @property
    def choices(self) -> tuple[object, ...]:
        """The values of its literals."""
        return tuple(value for kind in self.kinds if get_origin(kind) is Literal for value in get_args(kind))

    @property
    def allowed(self) -> str:
        """The values it may have, in words."""
        return self._told(None if self.choices else self.rule)

    def check(self, value: object) -> object:
        """The value, a numpy scalar as Python's. Raises ConfigError where it is of another type or not allowed."""
        plain = value.item() if isinstance(value, np.generic) else value
        if not any(_is_of(plain, kind) for kind in self.kinds):
            raise ConfigError(self.name, plain, f"must be {self._told(None)}")
        if plain is None or self.rule is None or self.choices:
            return plain
        if isinstance(plain, float) and not math.isfinite(plain):
            raise ConfigError(self.name, plain, "must be a finite number")
        if not self.rule.allows(plain):
            raise ConfigError(self.name, plain, f"must be {self._told(self.rule)}")
        return plain

    def _told(self, rule: Rule | None) -> str:
        if rule is not None:
            return f"{rule}, or None" if self.optional else str(rule)
        if self.choices:
            told = f"one of {', '.join(map(str, self.choices))}" if len(self.choices) > 1 else f"{self.choices[0]!r}"
            return f"{told}, or None" if self.optional and len(self.choices) > 1 else told + " or None" * self.optional
        return " or ".join(_named(kind) for kind in self.kinds)


def options_of(config: type[Any]) -> tuple[Option, ...]:
    """The options of a config, in the order of its fields."""
    return _options_of(config)  # type: ignore[arg-type]  # a class is hashable, of which mypy is not sure


@functools.cache
def _options_of(config: type[Any]) -> tuple[Option, ...]:
    options = []
    for field in dataclasses.fields(config):
        if not field.init:
            continue
        kinds, notes = _unwrapped(_hint(config, field))
        rules: list[Any] = [note for note in notes if callable(getattr(note, "allows", None))]
        texts = [note for note in notes if isinstance(note, str)]
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        options.append(Option(field.name, kinds, rules[-1] if rules else None, texts[-1] if texts else "", default))
    return tuple(options)


def checked(config: Config) -> Config:
    """The same class, made to check its options whenever one is made. What joins several options stays in its
    `__post_init__`, which runs after it."""
    made = config.__init__
    if not dataclasses.is_dataclass(config) or hasattr(made, "checks_options"):
        return config
    signature = inspect.signature(made)

    @functools.wraps(made)
    def __init__(self: object, /, *args: object, **values: object) -> None:  # noqa: N807 (it becomes that method)
        bound = signature.bind(self, *args, **values)
        for option in options_of(config):
            if option.name in bound.arguments:
                bound.arguments[option.name] = option.check(bound.arguments[option.name])
        made(*bound.args, **bound.kwargs)

    vars(__init__)["checks_options"] = True
    setattr(config, "__init__", __init__)  # noqa: B010 (a plain assignment is no method to the type checker)
    return config


def unset(options: Mapping[str, Any], **old: object) -> dict[str, Any]:
    """The options, those that have the value by which an earlier release said "not set" as None; for `migrate`.

    >>> unset({"lists": 0, "probes": 16}, lists=0)
    {'lists': None, 'probes': 16}
    """
    return {name: None if name in old and _same(value, old[name]) else value for name, value in options.items()}


def _same(one: object, other: object) -> bool:
    """Equal and of one type: 0 is not False."""
    return type(one) is type(other) and one == other


def _hint(config: type[Any], field: dataclasses.Field[Any]) -> Any:
    """The type of a field; Any where its annotation holds a name that only a type checker imports."""
    owner = next(base for base in config.__mro__ if field.name in vars(base).get("__annotations__", {}))
    names = vars(sys.modules.get(owner.__module__, SimpleNamespace()))
    alone: Any = SimpleNamespace(__annotations__={field.name: field.type})
    try:
        return get_type_hints(alone, {**names, **vars(owner)}, include_extras=True)[field.name]
    except (NameError, TypeError, AttributeError):
        return Any


def _unwrapped(hint: Any) -> tuple[tuple[Any, ...], tuple[object, ...]]:
    """The types that a hint allows, and what is noted beside them, innermost first."""
    if get_origin(hint) is Annotated:
        kinds, notes = _unwrapped(get_args(hint)[0])
        return kinds, (*notes, *hint.__metadata__)
    if get_origin(hint) in (Union, UnionType):
        members = [_unwrapped(member) for member in get_args(hint)]
        return tuple(kind for kinds, _ in members for kind in kinds), tuple(n for _, notes in members for n in notes)
    return (hint,), ()


def _is_of(value: object, kind: Any) -> bool:
    """True where a plain value is of a type; True is no number, whole numbers are floats."""
    if get_origin(kind) is Literal:
        return any(_same(value, choice) for choice in get_args(kind))
    kind = get_origin(kind) or kind
    if kind is Any or not isinstance(kind, type):
        return True  # a type variable, say, cannot be checked
    if isinstance(value, bool) and kind is not bool:
        return kind is object
    return isinstance(value, kind) or (kind is float and isinstance(value, int))


def _named(kind: Any) -> str:
    return "None" if kind is NoneType else getattr(kind, "__name__", str(kind))


def as_int(
    value: object,
    what: str,
    least: int,
    most: int | None = None,
    error: type[DataError] | type[ConfigError] = DataError,
) -> int:
    """A whole number as Python's int, from whatever numpy or another library counts with; True is not 1, 2.0 not 2.

    Raises `error` unless `least` <= value <= `most`.
    """
    number = _whole(value)
    if number is None or number < least or (most is not None and number > most):
        wanted = f"from {least} to {most}" if most is not None else f"{least} or more"
        raise error(f"{what}={value!r}: must be a whole number, {wanted}")
    return number


def _whole(value: object) -> int | None:
    if isinstance(value, (int, np.integer, np.bool_)):  # first: asking for a protocol takes microseconds
        return None if isinstance(value, (bool, np.bool_)) else int(value)
    if not isinstance(value, SupportsIndex):
        return None
    try:
        return operator.index(value)
    except TypeError:  # an array of several, or of floats
        return None


def as_float(value: object, what: str) -> float:
    """A finite number as Python's float, cut to the range of float32. Raises DataError; True is not 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise DataError(f"{what}={value!r}: must be a number")
    try:
        number = float(value)
    except OverflowError:  # an int of hundreds of digits
        number = np.inf
    if not np.isfinite(number):
        raise DataError(f"{what}={value!r}: must be finite")
    return min(max(number, -FARTHEST), FARTHEST)
