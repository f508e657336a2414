"""The component contract: a name, a config (frozen dataclass) and a state (dict of arrays). All plain data.

`fit` returns a new component of the same config with a filled state. Saving writes the two and loading calls the
constructor, so a stranger's component gets persistence for nothing. Roles build on it: Encoder and Fuser
here, Indexer in `xmr_core.search.indexer`, Answerer in `xmr_core.vqa`.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, Generic, Literal, ParamSpec, Self

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import ConfigError, DataError, NotFittedError, StateVersionError
from xmr_core.options import checked, options_of
from xmr_core.types import (
    IMAGE,
    TEXT,
    Embeddings,
    FeaturePairs,
    Features,
    Items,
    Metric,
    Pairs,
)

__all__ = [
    "API_VERSION",
    "Chain",
    "Component",
    "Encoder",
    "Form",
    "Fuser",
    "KeptVectors",
    "NoConfig",
    "Provider",
    "State",
    "Stored",
    "Widths",
    "below",
    "ended",
    "joined_digest",
    "takes",
]

P = ParamSpec("P")
if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from typing_extensions import TypeVar

    C = TypeVar(
        "C", bound=DataclassInstance, default=Any
    )  # a component without a parameter has a config of which nothing is known
else:
    from typing import TypeVar

    C = TypeVar("C")

API_VERSION = 1  # a plugin module may state `XMR_API = 1`; another number is refused before its hooks are called

Form = Literal["vector", "regions", "tokens"]  # one vector an item; a vector a region; word ids with a mask
State = Mapping[str, NDArray[Any]]
Widths = Mapping[str, int | None]  # dimensions by modality, bits under hamming; None where only a fit tells


@dataclass(frozen=True)
class NoConfig:
    """The config of a component without options."""


@dataclass(frozen=True)
class Stored:
    """What a store keeps of a component; `Component.load` takes it back."""

    options: Mapping[str, Any]
    state: State
    version: int


@dataclass(frozen=True)
class Provider:
    """The distribution that a component of a space came from when it was fitted, and its version.

    A component has several where its options name others, as in `each(image="lite0")`.
    """

    role: str
    component: str
    distribution: str
    release: str


def takes(config: Callable[P, object]) -> Callable[[Callable[[Any], None]], Callable[Concatenate[Any, P], None]]:
    """Make a config's fields the keywords of a component, known to type checkers and `help`; it becomes its `Config`.

        class PQ(Indexer[PQConfig]):
            name = "pq"

            @takes(PQConfig)
            def __init__(self) -> None:
                self.width = 8 * self.config.bytes

    The body runs when `config` and `state` are set, and derives what it likes from them; often it is empty.
    """

    def declare(derive: Callable[[Any], None]) -> Callable[Concatenate[Any, P], None]:
        def __init__(self: Any, /, *given: Any, **options: Any) -> None:  # noqa: N807 (it becomes that method)
            Component.__init__(self, *given, **options)
            derive(self)

        functools.update_wrapper(__init__, derive)
        own = inspect.signature(derive).parameters.values()
        options = inspect.signature(config).parameters.values()
        keywords = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in options]
        vars(__init__).update(takes=config, __signature__=inspect.Signature([*own, *keywords], return_annotation=None))
        return __init__

    return declare


class Component(Generic[C]):
    """A name, a config and a state. Subclass one of the roles, not this; the parameter is the type of the config.

    >>> Hamming(bits=64)                    # doctest: +SKIP
    hamming(bits=64)
    """

    name: ClassVar[str]
    Config: ClassVar[type[Any]] = NoConfig
    version: ClassVar[int] = 1  # raise it when the meaning of a stored state changes
    later: ClassVar[frozenset[str]] = frozenset()  # options that the component's first release did not have
    needs_fit: ClassVar[bool] = True

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        cls.Config = getattr(vars(cls).get("__init__"), "takes", cls.Config)
        checked(cls.Config)

    def __init__(self, config: C | None = None, state: State | None = None, **options: Any) -> None:
        """`config` is a `Config`, or its fields as keywords; `state` comes from a fit, and is not copied.

        Raises ConfigError on an unknown option or a value out of range.
        """
        if config is None:
            config = self._config(self.migrate(options, {}, self.version)[0])
        elif options or not isinstance(config, self.Config):
            raise ConfigError(f"{self.name}: expected a {self.Config.__name__} or its fields as keywords")
        self.config: C = config
        self.state: dict[str, NDArray[Any]] = dict(state or {})
        self._stored: Stored | None = None

    @classmethod
    def _config(cls, options: Mapping[str, Any]) -> Any:
        """The config of options as keywords. Raises ConfigError."""
        known = {option.name: option for option in options_of(cls.Config)}
        for name in options:
            if name not in known:
                offer = f"it takes {', '.join(sorted(known))}" if known else "it takes no options"
                raise ConfigError(f"{cls.name} has no option {name!r}; {offer}")
        missing = [name for name, option in known.items() if option.required and name not in options]
        if missing:
            raise ConfigError(f"{cls.name} needs {', '.join(missing)}")
        return cls.Config(**options)

    @property
    def fitted(self) -> bool:
        """True where `fit` has filled the state, or none is needed."""
        return bool(self.state) or not self.needs_fit

    def require_fit(self) -> None:
        """Raise NotFittedError unless fitted."""
        if not self.fitted:
            raise NotFittedError(f"{self.name} is not fitted; call fit first, it returns the fitted component")

    def with_state(self, state: State) -> Self:
        """A new component of the same config, with this state."""
        return type(self)(self.config, state)

    def with_seed(self, seed: int) -> Self:
        """The same component, its `seed` option set where it has one."""
        if any(field.name == "seed" for field in dataclasses.fields(self.config)):
            return type(self)(dataclasses.replace(self.config, seed=seed), self.state)
        return self

    def options(self) -> dict[str, Any]:
        """The config as a dict of plain values, which JSON takes."""
        return dataclasses.asdict(self.config)

    @classmethod
    def migrate(cls, options: Mapping[str, Any], state: State, version: int) -> tuple[Mapping[str, Any], State]:
        """What an earlier release stored, or what a recipe of its time says, in the options and the state of today.

        Override it where an option was renamed or removed, or one of its values changed; end with `super().migrate`.
        It is given any selection of options, old or new, and changes neither argument. An option that was added, with
        a default under which the component does what it did, needs nothing. Raises StateVersionError where the state
        has another version; an override that can read that version returns instead.
        """
        if version != cls.version:
            raise StateVersionError(
                f"{cls.name}: the state has version {version}, installed is {cls.version}; fit again"
            )
        return options, state

    @classmethod
    def load(cls, options: Mapping[str, Any], state: State, version: int) -> Self:
        """The component that was saved, with the fingerprint that it had then.

        Raises StateVersionError where its state has another version, or it has an option that is not known here.
        """
        plain = {name: _frozen(value) for name, value in options.items()}
        migrated, arrays = cls.migrate(plain, state, version)
        unknown = set(migrated) - {option.name for option in options_of(cls.Config)}
        if unknown:  # it may change what is encoded
            raise StateVersionError(
                f"{cls.name}: stored with {', '.join(sorted(unknown))}, which the installed version does not know; "
                "install one that does, or fit again"
            )
        component = cls(cls._config(migrated), arrays)
        component._stored = Stored(dict(options), dict(state), version)
        return component

    @property
    def stored(self) -> Stored:
        """What is saved of it and covered by its fingerprint: of a component that was loaded, what it was loaded
        from, whatever options have been added, renamed or translated since."""
        return self._stored or Stored(self.options(), self.state, self.version)

    def first_options(self) -> dict[str, Any]:
        """The options as the first release would have stored them: without `later` ones that are not set."""
        fields = [field for field in dataclasses.fields(self.config) if field.name in self.later]
        unset = {field.name for field in fields if getattr(self.config, field.name) == field.default}
        return {name: value for name, value in self.options().items() if name not in unset}

    def weights_digest(self) -> str:
        """sha256 of weights that the component uses and does not keep in its state, or ''. Override where it does."""
        return ""

    def fingerprint(self) -> str:
        """sha256 (hex) of name, version, options, state and outside weights: equal if and only if they encode alike.

        It covers the options as they were stored, so that an option which a later release adds or renames leaves the
        fingerprint of what is stored as it is.
        """
        digest, stored = hashlib.sha256(), self.stored
        head = {
            "name": self.name,
            "version": stored.version,
            "config": stored.options,
            "weights": self.weights_digest(),
        }
        digest.update(json.dumps(head, sort_keys=True).encode())
        for key in sorted(stored.state):
            array = np.ascontiguousarray(stored.state[key])
            digest.update(f"{key} {array.dtype.str} {array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    def __rshift__(self, after: Component | Chain) -> Chain:
        """This component and what comes after it: `Dcmh(bits=64) >> Sign() >> Hamming()` is a pipeline.

        Raises ConfigError, in a sentence, where they do not fit together.
        """
        return _joined((self,), after)

    def __repr__(self) -> str:
        values = {option.name: getattr(self.config, option.name) for option in options_of(type(self.config))}
        changed = [
            f"{option.name}={values[option.name]!r}"
            for option in options_of(type(self.config))
            if option.required or values[option.name] != option.default
        ]
        return f"{self.name}({', '.join(changed)})" if changed else self.name


class Chain(ABC):
    """Components that fit together, as `>>` joins them: a `Pipeline` once an indexer or an answerer ends it."""

    @property
    @abstractmethod
    def parts(self) -> tuple[Component, ...]:
        """Its components, in order."""

    def __rshift__(self, after: Component | Chain) -> Chain:
        """The chain and what comes after it. Raises ConfigError where they do not fit together."""
        return _joined(self.parts, after)

    def __repr__(self) -> str:
        return " >> ".join(repr(part) for part in self.parts)


def _joined(parts: tuple[Component, ...], after: Component | Chain) -> Chain:
    if not isinstance(after, (Component, Chain)):
        return NotImplemented
    every = (*parts, *(after.parts if isinstance(after, Chain) else (after,)))
    return ended(every[-1], every)


@functools.singledispatch
def ended(last: Component, parts: tuple[Component, ...]) -> Chain:
    """The chain of these components, which depends on the role of the last: each role that may be last registers."""
    raise ConfigError(f"{last!r} is no encoder, fuser, indexer or answerer")


def _frozen(value: Any) -> Any:
    """JSON gives lists where a config had tuples."""
    return tuple(_frozen(entry) for entry in value) if isinstance(value, list) else value


@dataclass(frozen=True)
class KeptVectors:
    """Where a store keeps a vector of each item: `Store.get_features` of an extractor of that name, or where they were
    `given` ready-made, `Store.get_vectors`."""

    name: str
    given: bool = False


class Encoder(Component[C], ABC):
    """Pictures and sentences to features: `fit(pairs)`, `encode(items)`.

    `forms` says what it gives for each modality that it takes. `metric` is how its vectors want to be compared.
    `cacheable` asks the library to keep the features: set it where encoding is slow, and every item gets one vector, or
    as many regions as every other.
    """

    forms: ClassVar[Mapping[str, Form]] = {IMAGE: "vector", TEXT: "vector"}
    metric: ClassVar[Metric] = "cosine"
    cacheable: ClassVar[bool] = False

    def fit(self, pairs: Pairs) -> Self:
        """A new, fitted encoder. One that learns nothing has `needs_fit = False` and leaves this as it is."""
        return self

    @abstractmethod
    def encode(self, items: Items) -> Features:
        """The features of items of one modality, a row each. A row never depends on its batch.

        Raises DataError with the keys of the items that cannot be read, NotFittedError before `fit`.
        """

    def tokens(self, items: Items) -> list[list[str]] | None:
        """The words of each item as people may see them, one a token of `encode(items)`; None where it gives none."""
        return None

    def widths(self) -> Widths:
        """The dimensions of its vectors or regions; None where only a fit or the data tell, and for words.

        Override it where they are known, so that what does not fit is refused before anything is encoded.
        """
        return dict.fromkeys(self.forms)

    def known_and_unknown(self, items: Items) -> list[tuple[list[str], list[str]]] | None:
        """The distinct words of each text that training met, and those that it did not and that therefore say nothing.

        None where the encoder reads all words. The library refuses a query of which it knows no word.
        """
        return None

    @property
    def extractor(self) -> str:
        """The name under which a library keeps the features that this encoder gives."""
        return f"{self.name}_{self.fingerprint()[:12]}"

    def kept(self, modality: str) -> KeptVectors | None:
        """The stored vectors that are exactly what it gives for items of a modality; None where none are."""
        return KeptVectors(self.extractor) if self.cacheable and self.forms.get(modality) == "vector" else None

    def part(self, modality: str) -> Encoder:
        """The encoder that works for a modality: this one, or another that it hands the items on to as they are."""
        return self

    def require_modality(self, modality: str) -> None:
        """Raise DataError where this encoder does not take items of that modality."""
        if modality not in self.forms:
            raise DataError(f"{self.name} encodes {' and '.join(sorted(self.forms))}, not {modality}")


class Fuser(Component[C], ABC):
    """Features to one embedding an item: `fit(features of pairs)`, `fuse(features)`.

    `accepts` names the forms it takes; `metric` is the metric of what it gives (override the property where it depends
    on the config). It takes whichever modality it is given: one is enough. `same_width` says that vectors of both must
    have as many dimensions. `encoder_wanted` is the recipe of the encoder that stands before it where a pipeline begins
    with this fuser; "" where none is implied.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"vector"})
    same_width: ClassVar[bool] = False
    encoder_wanted: ClassVar[str] = ""

    @property
    @abstractmethod
    def metric(self) -> Metric:
        """The metric of the embeddings it gives."""

    @property
    def unchanged(self) -> bool:
        """True where what it gives are the vectors that it takes, at most to be compared by another metric."""
        return False

    def fit(self, pairs: FeaturePairs) -> Self:
        """A new, fitted fuser. One that learns nothing has `needs_fit = False` and leaves this as it is."""
        return self

    @abstractmethod
    def fuse(self, features: Features) -> Embeddings:
        """Embeddings, a row an item, whatever the batch. Raises DataError, NotFittedError."""

    def widths(self, taken: Widths) -> Widths:
        """The dimensions of its embeddings, where it is given vectors or regions of those in `taken`.

        Override it where they are known. Raises ConfigError where it does not take vectors of so many dimensions.
        """
        return dict.fromkeys(taken)

    def restore(self, embeddings: Embeddings) -> Embeddings:
        """What embeddings stand for, as this fuser was given it: (n, d) float32, and the metric to compare it by.

        Override where there is a way back; searches can then be re-ranked. Raises ConfigError where there is none.
        """
        raise ConfigError(f"{self.name} knows no way back from what it gives; to rerank takes a fuser that does")

    def attention(self, features: Features) -> NDArray[np.float32] | None:
        """(n, steps, t) weights over regions or words that sum to 1, or None where the fuser pays none."""
        return None


def below(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays whose names begin with `prefix/`, under the rest of their names."""
    return {name[len(prefix) + 1 :]: array for name, array in arrays.items() if name.startswith(f"{prefix}/")}


def joined_digest(*told: str) -> str:
    """sha256 (hex) over what tells parts from others: their fingerprints."""
    return hashlib.sha256(" ".join(told).encode()).hexdigest()
