"""The component contract: a name, a config (frozen dataclass) and a state (dict of arrays). All plain data.

`fit` returns a new component of the same config with a filled state. Saving writes the two and loading calls the
constructor, so a stranger's component gets persistence for nothing. Three roles build on it: Encoder, Fuser, Indexer.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import ConfigError, DataError, NotFittedError, SpaceMismatchError, StateVersionError
from xmr_core.types import (
    IMAGE,
    TEXT,
    Codes,
    Embeddings,
    FeaturePairs,
    Features,
    Hits,
    Items,
    Metric,
    Pairs,
)

__all__ = ["API_VERSION", "Component", "Encoder", "Form", "Fuser", "Index", "Indexer", "NoConfig", "SqlDistance"]

API_VERSION = 1  # a plugin module may state `XMR_API = 1`; another number is refused before its hooks are called

Form = Literal["vector", "regions", "tokens"]  # one vector an item; a vector a region; word ids with a mask
State = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class NoConfig:
    """The config of a component without options."""


class Component:
    """A name, a config and a state. Subclass one of the roles, not this.

    >>> Hamming(bits=64)                    # doctest: +SKIP
    hamming(bits=64)
    """

    name: ClassVar[str]
    Config: ClassVar[type[Any]] = NoConfig
    version: ClassVar[int] = 1  # raise it when the meaning of a stored state changes
    needs_fit: ClassVar[bool] = True

    def __init__(self, config: Any = None, state: State | None = None, **options: Any) -> None:
        """`config` is a `Config`, or its fields as keywords; `state` comes from a fit, and is not copied.

        Raises ConfigError on an unknown option or a value out of range.
        """
        if config is None:
            known = {field.name for field in dataclasses.fields(self.Config)}
            for option in options:
                if option not in known:
                    offer = f"it takes {', '.join(sorted(known))}" if known else "it takes no options"
                    raise ConfigError(f"{self.name} has no option {option!r}; {offer}")
            missing = [f.name for f in dataclasses.fields(self.Config) if _required(f) and f.name not in options]
            if missing:
                raise ConfigError(f"{self.name} needs {', '.join(missing)}")
            config = self.Config(**_checked(self.Config, options))
        elif options or not isinstance(config, self.Config):
            raise ConfigError(f"{self.name}: expected a {self.Config.__name__} or its fields as keywords")
        self.config = config
        self.state: dict[str, NDArray[Any]] = dict(state or {})

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
    def load(cls, options: Mapping[str, Any], state: State, version: int) -> Self:
        """The component that was saved. Raises StateVersionError where its state has another version."""
        if version != cls.version:
            raise StateVersionError(
                f"{cls.name}: the state has version {version}, installed is {cls.version}; fit again"
            )
        known = {field.name for field in dataclasses.fields(cls.Config)}
        return cls(cls.Config(**{key: _frozen(value) for key, value in options.items() if key in known}), state)

    def weights_digest(self) -> str:
        """sha256 of weights that the component uses and does not keep in its state, or ''. Override where it does."""
        return ""

    def fingerprint(self) -> str:
        """sha256 (hex) of name, version, config, state and outside weights: equal if and only if they encode alike."""
        digest = hashlib.sha256()
        head = {"name": self.name, "version": self.version, "config": self.options(), "weights": self.weights_digest()}
        digest.update(json.dumps(head, sort_keys=True).encode())
        for key in sorted(self.state):
            array = np.ascontiguousarray(self.state[key])
            digest.update(f"{key} {array.dtype.str} {array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    def __repr__(self) -> str:
        changed = [
            f"{field.name}={getattr(self.config, field.name)!r}"
            for field in dataclasses.fields(self.config)
            if _required(field) or getattr(self.config, field.name) != _default(field)
        ]
        return f"{self.name}({', '.join(changed)})" if changed else self.name


def _checked(config: type[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, numpy's numbers made Python's. Raises ConfigError where a value is not of its field's type."""
    checked = {}
    for option, value in options.items():
        plain = value.item() if isinstance(value, np.generic) else value
        hint = _hints(config).get(option, Any)
        if not _is_of(plain, hint):
            names = " or ".join(getattr(kind, "__name__", str(kind)) for kind in _kinds(hint))
            raise ConfigError(option, value, f"must be {names.replace('NoneType', 'None')}")
        checked[option] = plain
    return checked


def _hints(config: type[Any]) -> Mapping[str, Any]:
    try:
        return get_type_hints(config)
    except NameError:  # a name that only a type checker imports
        return {}


def _kinds(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _is_of(value: Any, hint: Any) -> bool:
    """True where a plain value is of a type; True is no number, whole numbers are floats, literals check themselves."""
    for kind in _kinds(hint):
        kind = get_origin(kind) or kind
        if kind is Any or kind is Literal or not isinstance(kind, type):
            return True
        if isinstance(value, bool) and kind is not bool:
            continue
        if isinstance(value, kind) or (kind is float and isinstance(value, int)):
            return True
    return False


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _frozen(value: Any) -> Any:
    """JSON gives lists where a config had tuples."""
    return tuple(_frozen(entry) for entry in value) if isinstance(value, list) else value


class Encoder(Component, ABC):
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

    def part(self, modality: str) -> Encoder:
        """The encoder that works for a modality: this one, or another that it hands the items on to as they are."""
        return self

    def require_modality(self, modality: str) -> None:
        """Raise DataError where this encoder does not take items of that modality."""
        if modality not in self.forms:
            raise DataError(f"{self.name} encodes {' and '.join(sorted(self.forms))}, not {modality}")


class Fuser(Component, ABC):
    """Features to one embedding an item: `fit(features of pairs)`, `fuse(features)`.

    `accepts` names the forms it takes; `metric` is the metric of what it gives (override the property where it depends
    on the config). It takes whichever modality it is given: one is enough. `encoder_wanted` is the recipe of the
    encoder that stands before it where a pipeline's recipe begins with this fuser; "" where none is implied.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"vector"})
    encoder_wanted: ClassVar[str] = ""

    @property
    @abstractmethod
    def metric(self) -> Metric:
        """The metric of the embeddings it gives."""

    def fit(self, pairs: FeaturePairs) -> Self:
        """A new, fitted fuser. One that learns nothing has `needs_fit = False` and leaves this as it is."""
        return self

    @abstractmethod
    def fuse(self, features: Features) -> Embeddings:
        """Embeddings, a row an item, whatever the batch. Raises DataError, NotFittedError."""

    def restore(self, embeddings: Embeddings) -> Embeddings:
        """What embeddings stand for, as this fuser was given it: (n, d) float32, and the metric to compare it by.

        Override where there is a way back; searches can then be re-ranked. Raises ConfigError where there is none.
        """
        raise ConfigError(f"{self.name} knows no way back from what it gives; to rerank takes a fuser that does")

    def attention(self, features: Features) -> NDArray[np.float32] | None:
        """(n, steps, t) weights over regions or words that sum to 1, or None where the fuser pays none."""
        return None


@dataclass(frozen=True)
class SqlDistance:
    """How SQL computes an indexer's distance from the typed columns of its layout.

    `kind` names one of the storage's built-in forms: "hamming" (bits), "pq" (ADC with `tables`), "float" (with
    `metric`), "lattice" (codes decoded with `tables`) or "none". `tables` are arrays that become rows: for "pq",
    `codebooks` (m, ksub, dsub) float32, and `rotation` (m * dsub, d) float32, rows orthonormal, where x is cut into
    parts as `rotation @ x`; for "lattice", `steps`, `entries` and `lengths`: joins decode a number piece by piece.
    """

    kind: Literal["hamming", "pq", "float", "lattice", "none"]
    metric: Metric
    tables: Mapping[str, NDArray[Any]] = dataclasses.field(default_factory=dict)


class Indexer(Component, ABC):
    """Embeddings to codes, and an index over codes: `fit`, `encode`, `build`, `distances`.

    The codes are what is stored; an index is made from codes and state and may be thrown away. `metrics` are those it
    takes; `exact` says that its index misses nothing; `recall_floor` is the recall@10 against exact search over its
    own codes that its author promises on clustered vectors.
    """

    metrics: ClassVar[frozenset[str]] = frozenset({"l2", "ip", "cosine"})
    exact: ClassVar[bool] = False
    recall_floor: ClassVar[float] = 0.9

    def fit(self, embeddings: Embeddings) -> Self:
        """A new, fitted indexer. One that learns nothing has `needs_fit = False` and leaves this as it is."""
        return self

    @abstractmethod
    def encode(self, embeddings: Embeddings, ids: NDArray[np.int64]) -> Codes:
        """The codes to store, a row an embedding, whatever the batch. `ids` (n,) are ascending."""

    @abstractmethod
    def build(self, codes: Codes) -> Index:
        """An index over codes; codes of no rows give an index that finds nothing."""

    @abstractmethod
    def distances(self, queries: Embeddings, codes: Codes) -> NDArray[np.float32]:
        """(q, n) float32: the distance of each query to each code, the plain way. It is the oracle of `build`, so
        clarity comes before speed; the caller keeps the blocks small."""

    def decode(self, codes: Codes) -> NDArray[np.float32]:
        """(n, d): the embeddings that codes stand for. Override where codes are no `float` ones but stand for vectors.

        Raises ConfigError where they stand for none."""
        if codes.layout.kind != "float":
            raise ConfigError(f"{self.name}: its codes stand for no vectors; to rerank takes an indexer whose codes do")
        return codes.vectors

    def queries(self, embeddings: Embeddings) -> Embeddings:
        """Queries checked, as `search` wants them. Raises DataError, SpaceMismatchError."""
        if embeddings.metric not in self.metrics:
            raise SpaceMismatchError(
                f"{self.name} compares {' or '.join(sorted(self.metrics))}, the query has {embeddings.metric}"
            )
        return embeddings

    def sql(self) -> SqlDistance:
        """How SQL computes the same distance."""
        return SqlDistance("none", "l2")

    def load_index(self, folder: Path, codes: Codes) -> Index | None:
        """The index that `Index.save` wrote into `folder` for these codes, or None to build anew."""
        return None


class Index(ABC):
    """What an Indexer builds: `search`. Never stored but as a cache."""

    @abstractmethod
    def search(
        self,
        queries: Embeddings,
        k: int | None = 10,
        within: float | None = None,
        among: NDArray[np.int64] | None = None,
    ) -> Hits:
        """The k nearest of each query (all, where k is None and `within` is given), ascending distance, ties to the
        smaller id; only those of distance <= `within`; only among the ids of `among` (ascending). Where fewer than k
        qualify, -1 and inf. A filter never costs hits: k are returned where k qualify. Raises DataError."""

    @abstractmethod
    def __len__(self) -> int:
        """How many items can be found."""

    def save(self, folder: Path) -> bool:
        """Write the index into the empty `folder` for `Indexer.load_index`; False where building is as quick."""
        return False
