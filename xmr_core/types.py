"""The values that flow from pictures and sentences to hits. Frozen; checked once, here, and trusted inside.

    Items, Pairs -> Encoder -> Features -> Fuser -> Embeddings -> Indexer -> Codes -> Index -> Hits

Letters for sizes: n rows, t tokens (regions, words), d dimensions, p pairs, l labels, q queries, k hits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import DataError, named
from xmr_core.search.codes import Codes, Column, Layout

__all__ = [
    "IMAGE",
    "TEXT",
    "Codes",
    "Column",
    "Embeddings",
    "FeaturePairs",
    "Features",
    "Float",
    "Hits",
    "Ids",
    "Int",
    "Items",
    "Layout",
    "Metric",
    "Pairs",
    "Texts",
    "VectorSource",
    "as_array",
    "as_bits",
    "as_ids",
    "as_vectors",
    "pack_bits",
    "unpack_bits",
]

IMAGE = "image"
TEXT = "text"

Head = Literal["indexer", "answerer"]  # the role of the last component of a pipeline
Metric = Literal["l2", "ip", "cosine", "hamming"]
METRICS: tuple[str, ...] = get_args(Metric)
Int: TypeAlias = int | np.integer[Any]
Float: TypeAlias = float | np.floating[Any] | np.integer[Any]
Texts: TypeAlias = str | Sequence[str]
Ids: TypeAlias = Sequence[int] | NDArray[np.integer[Any]]
VECTOR_NAME = re.compile(r"(?!.*__)[a-z][a-z0-9_]{0,19}")  # of named vectors: it becomes part of a table's name
LARGEST_ID = 1 << 62  # leaves room to go on counting


def as_array(values: object, what: str) -> NDArray[Any]:
    """Any array-like as an array. Raises DataError on rows of different lengths."""
    try:
        return np.asarray(_off_graph(values))
    except (ValueError, TypeError, RuntimeError) as error:  # the last two are torch's
        raise DataError(f"{what}: cannot be made an array; do its rows differ? ({error})") from None


def _off_graph(values: Any) -> Any:
    """A tensor of torch without its gradients, in main memory, and of a type that NumPy has."""
    if not (hasattr(values, "detach") and hasattr(values, "cpu")):
        return values
    tensor = values.detach().cpu()
    return tensor.float() if "bfloat16" in str(tensor.dtype) else tensor


def as_ids(values: object, what: str = "ids") -> NDArray[np.int64]:
    """(n,) int64; one id becomes a row. Raises DataError on what is no whole number from 0 to 2**62: -1 means nobody.

    Booleans are refused, so that no mask is taken for the ids 0 and 1, and fractions, so that none is cut off.
    """
    array = np.atleast_1d(as_array(values, what))
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise DataError(f"{what}: expected whole numbers of shape (n,), got {array.dtype} {array.shape}")
    if array.size and (array.min() < 0 or array.max() > LARGEST_ID):
        raise DataError(f"{what}: expected 0 to 2**62, got {array.min()} to {array.max()}")
    return array.astype(np.int64, copy=False)


def as_vectors(values: object, what: str = "vectors", dim: int | None = None) -> NDArray[np.float32]:
    """(n, d) float32, C-contiguous, finite. Other float and integer types are converted; one vector becomes a row.

    Raises DataError on NaN or infinity, on values beyond float32, on a wrong number of axes or a wrong width.
    """
    array = as_array(values, what)
    if array.ndim == 1:
        array = array[None, :]
    if array.ndim != 2 or array.dtype.kind not in "fiu" or (len(array) and not array.shape[1]):
        raise DataError(f"{what}: expected numbers of shape (n, d), got {array.dtype} {array.shape}")
    if dim is not None and array.shape[1] != dim:
        raise DataError(f"{what}: expected {dim} dimensions, got {array.shape[1]}")
    with np.errstate(over="ignore"):
        vectors = np.ascontiguousarray(array, dtype=np.float32)
    finite = np.isfinite(vectors)
    if not finite.all():
        bad = np.flatnonzero(~finite.all(axis=1))
        raise DataError(f"{what}: {bad.size} of {len(vectors)} rows hold NaN or infinity, the first is row {bad[0]}")
    return vectors


def as_bits(values: object, bits: int | None = None, what: str = "codes") -> NDArray[np.uint8]:
    """(n, bits/8) uint8, C-contiguous packed bits; one code becomes a row. Raises DataError on another type, width."""
    array = as_array(values, what)
    if array.ndim == 1:
        array = array[None, :]
    if array.ndim != 2 or array.dtype != np.uint8:
        raise DataError(
            f"{what}: expected packed bits, uint8 of shape (n, bits/8), got {array.dtype} {array.shape}; "
            "xmr_core.pack_bits makes them from booleans"
        )
    if bits is not None and array.shape[1] * 8 != bits:
        raise DataError(f"{what}: expected {bits} bits ({bits // 8} bytes), got {array.shape[1] * 8} bits")
    return np.ascontiguousarray(array)


def pack_bits(signs: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Booleans (n, bits) as (n, bits/8) uint8. Bit i of a code is bit i % 8 of byte i // 8 (little-endian), so that
    eight bytes read as one little-endian 64-bit word hold bit i at `word >> i & 1`."""
    if signs.ndim != 2 or signs.shape[1] % 8:
        raise DataError(f"bits: expected shape (n, bits) with bits a multiple of 8, got {signs.shape}")
    return np.packbits(signs, axis=1, bitorder="little")


def unpack_bits(codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The inverse of `pack_bits`: (n, bits/8) uint8 as (n, bits) bool."""
    return np.unpackbits(codes, axis=1, bitorder="little").astype(bool)


class VectorSource(Protocol):
    """What the named vectors of stored items, or of queries, are read from."""

    def get_vectors(
        self, modality: str, name: str, ids: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """(n,) which of these items have the vector, and (m, d) the vectors of those."""
        ...


@dataclass(frozen=True, eq=False)
class Items:
    """Pictures or sentences, or vectors made elsewhere.

    `data` (n): for pictures a path, the bytes of a file, a PIL image or (h, w, 3) uint8; for texts a str; for
    precomputed vectors rows of (n, d) float32. `keys` (n) are the user's own names, unique in a modality; without them
    rows are numbered, and a library names what it stores by path or content (`keyed` is then False). `ids` (n,) int64
    are the library's. `metadata` maps a column's name to n values. `labels` (n, l) uint8, 1 where one holds.
    `vectors` maps a name to ready-made vectors of the items beside their data: (n, d) numbers, or a list of n vectors
    with None where an item has none; those of stored items are read when `vectors_of` asks for them.
    Raises DataError where the columns are of different lengths or hold something else.
    """

    modality: str
    data: Sequence[Any]
    keys: Sequence[str] = ()
    ids: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    metadata: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    labels: NDArray[np.uint8] | None = None
    stored: bool = False
    keyed: bool | None = None
    vectors: Mapping[str, Sequence[Any]] | VectorSource = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.keyed is None:
            object.__setattr__(self, "keyed", bool(len(self.keys)))
        if not isinstance(self.modality, str) or not self.modality:
            raise DataError(f"modality {self.modality!r}: expected a name, like {IMAGE!r} or {TEXT!r}")
        object.__setattr__(self, "data", _column(self.data, f"{self.modality}s"))
        n = len(self.data)
        keys = _column(self.keys, "keys")
        object.__setattr__(self, "keys", _checked_keys(keys) if len(keys) else tuple(str(i) for i in range(n)))
        ids = as_ids(self.ids)
        object.__setattr__(self, "ids", np.arange(n, dtype=np.int64) if not len(ids) else ids)
        if not isinstance(self.metadata, Mapping):
            raise DataError(f"metadata: expected a dict of columns, got {type(self.metadata).__name__}")
        metadata = {name: _column(column, f"metadata {name!r}") for name, column in self.metadata.items()}
        object.__setattr__(self, "metadata", metadata)
        if not callable(getattr(self.vectors, "get_vectors", None)):
            object.__setattr__(self, "vectors", _named_vectors(self.vectors, self.modality))
        sizes = {"keys": len(self.keys), "ids": len(self.ids)}
        if isinstance(self.vectors, Mapping):
            sizes |= {f"vectors {name!r}": len(column) for name, column in self.vectors.items()}
        sizes |= {f"metadata {name!r}": len(column) for name, column in metadata.items()}
        if self.labels is not None:
            object.__setattr__(self, "labels", _as_labels(self.labels))
            sizes["labels"] = len(self.labels)
        for what, size in sizes.items():
            if size != n:
                raise DataError(f"{what}: expected {n}, one for each {self.modality}, got {size}")

    def __len__(self) -> int:
        return len(self.data)

    def take(self, positions: NDArray[np.int64]) -> Items:
        """The items at these positions, in their order."""
        return replace(
            self,
            data=_taken(self.data, positions),
            keys=[self.keys[i] for i in positions],
            ids=self.ids[positions],
            metadata={name: _taken(column, positions) for name, column in self.metadata.items()},
            labels=None if self.labels is None else self.labels[positions],
            vectors=self.vectors
            if not isinstance(self.vectors, Mapping)
            else {name: _taken(column, positions) for name, column in self.vectors.items()},
        )

    def texts(self) -> list[str]:
        """The data as texts. Raises DataError with the keys of what is blank or not text."""
        blank = [
            key for key, text in zip(self.keys, self.data, strict=True) if not isinstance(text, str) or not text.strip()
        ]
        if blank:
            raise DataError(f"{len(blank)} of {len(self)} texts are blank or not text: {named(blank, 10)}", blank)
        return [str(text) for text in self.data]

    def vectors_of(self, name: str) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """(n,) which items have a vector of this name, and (m, d) the vectors of those."""
        if not isinstance(self.vectors, Mapping):
            return self.vectors.get_vectors(self.modality, name, self.ids)
        column = self.vectors.get(name)
        if column is None:
            return np.zeros(len(self), bool), np.zeros((0, 0), np.float32)
        have = np.array([row is not None for row in column], bool)
        rows = column if isinstance(column, np.ndarray) else [row for row in column if row is not None]
        return have, np.asarray(rows, np.float32) if have.any() else np.zeros((0, 0), np.float32)


def _named_vectors(given: object, modality: str) -> dict[str, Any]:
    """Each name's vectors as (n, d) float32, or as a list where some items have none. Raises DataError."""
    if not isinstance(given, Mapping):
        raise DataError(f"vectors: expected a dict of names and arrays (n, d), got {type(given).__name__}")
    made: dict[str, Any] = {}
    for name, column in given.items():
        what = f"vectors {name!r} of {modality}s"
        if not isinstance(name, str) or not VECTOR_NAME.fullmatch(name):
            raise DataError(f"{what}: a name has a to z, 0 to 9 and single _, and begins with a letter")
        rows = column if hasattr(column, "ndim") else _column(column, what)
        lacking = [] if hasattr(rows, "ndim") else [row for row, vector in enumerate(rows) if vector is None]
        if not lacking:
            made[name] = as_vectors(rows, what) if len(rows) else np.zeros((0, 0), np.float32)
            continue
        filled: list[NDArray[np.float32] | None] = [None] * len(rows)
        have = [row for row, vector in enumerate(rows) if vector is not None]
        for row, vector in zip(have, as_vectors([rows[row] for row in have], what) if have else (), strict=True):
            filled[row] = vector
        made[name] = filled
    return made


def _column(values: Any, what: str) -> Any:
    """Values that positions choose from; a list of what would choose by label, like a pandas Series."""
    if isinstance(values, np.ndarray) and values.ndim:
        return values
    if isinstance(values, (str, bytes, Mapping, np.ndarray)) or not hasattr(values, "__len__"):
        raise DataError(f"{what}: expected a list or an array, got {type(values).__name__}")
    return values if isinstance(values, Sequence) else list(values)


def _taken(column: Any, positions: NDArray[np.int64]) -> Any:
    return column[positions] if isinstance(column, np.ndarray) else [column[i] for i in positions]


def _checked_keys(keys: Sequence[str]) -> Sequence[str]:
    strange = [key for key in keys if not isinstance(key, str)]
    if strange:
        raise DataError(f"keys: expected texts, got {type(strange[0]).__name__} {strange[0]!r}; str(key) makes them")
    try:
        "".join(keys).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"keys: one is no valid Unicode ({error})") from None
    return keys


def _as_labels(labels: object) -> NDArray[np.uint8]:
    array = as_array(labels, "labels")
    if array.ndim != 2:
        raise DataError(f"labels: expected shape (n, l), got {array.shape}")
    if array.dtype.kind not in "biuf" or not ((array == 0) | (array == 1)).all():
        raise DataError(f"labels: expected 0 and 1 alone, got other values ({array.dtype})")
    return array.astype(np.uint8, copy=False)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Which picture goes with which sentences, many to many; what dataset readers return and encoders are fitted on.

    `links` (p, 2) int64: positions in `images` and in `texts`. `label_names` (l) names the columns of `Items.labels`.
    """

    images: Items
    texts: Items
    links: NDArray[np.int64]
    label_names: Sequence[str] = ()
    name: str = "pairs"

    def __post_init__(self) -> None:
        links = as_array(self.links, "links")
        if links.size and (links.dtype.kind not in "iu" or links.ndim != 2 or links.shape[1] != 2):
            raise DataError(f"links: expected whole numbers of shape (p, 2), got {links.dtype} {links.shape}")
        links = links.astype(np.int64, copy=False).reshape(-1, 2)
        object.__setattr__(self, "links", links)
        if (self.images.modality, self.texts.modality) != (IMAGE, TEXT):
            raise DataError(
                f"pairs: expected {IMAGE}s and {TEXT}s, got {self.images.modality}s and {self.texts.modality}s"
            )
        names = list(self.label_names)
        if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise DataError(f"label_names: expected different texts, got {names}")
        if len(links) and (links.min() < 0 or (links.max(axis=0) >= (len(self.images), len(self.texts))).any()):
            raise DataError(f"links: positions must lie in 0..{len(self.images) - 1} and 0..{len(self.texts) - 1}")
        for items in (self.images, self.texts):
            if items.labels is not None and items.labels.shape[1] != len(self.label_names):
                raise DataError(f"labels: {items.labels.shape[1]} columns but {len(self.label_names)} label names")

    @property
    def labels(self) -> NDArray[np.uint8] | None:
        """(p, l) uint8, the labels of each pair: its picture's, or its sentence's where pictures have none."""
        if self.images.labels is not None:
            return self.images.labels[self.links[:, 0]]
        return None if self.texts.labels is None else self.texts.labels[self.links[:, 1]]


@dataclass(frozen=True, eq=False)
class Features:
    """What an Encoder makes of items of one modality.

    `values` (n, t, d) float32, or float16 where many regions are kept, or (n, t) int32 token ids; t = 1 for one vector
    an item. They may lie in a file that is mapped for reading: convert them in blocks. `mask` (n, t) bool, True where a
    token is real; None where all are. `metric` is how vectors want to be compared, None where nobody has said.
    """

    modality: str
    values: NDArray[Any]
    mask: NDArray[np.bool_] | None = None
    metric: Metric | None = None

    def __post_init__(self) -> None:
        shape, axes = self.values.shape, {"float32": 3, "float16": 3, "int32": 2}
        if axes.get(self.values.dtype.name) != len(shape):
            raise DataError(
                "features: expected float32 or float16 (n, tokens, d), or int32 (n, tokens), "
                f"got {self.values.dtype} {shape}"
            )
        if self.mask is not None and (self.mask.shape != shape[:2] or self.mask.dtype != np.bool_):
            raise DataError(f"mask: expected bool {shape[:2]}, got {self.mask.dtype} {self.mask.shape}")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def vectors(self) -> NDArray[np.float32]:
        """(n, d) float32: the one vector of each item. Raises DataError where items have several tokens."""
        if self.values.ndim != 3 or self.values.shape[1] != 1:
            raise DataError(f"features: expected one vector an item, got {self.values.shape[1]} tokens an item")
        return self.values[:, 0].astype(np.float32, copy=False)

    @staticmethod
    def of_vectors(modality: str, vectors: NDArray[np.float32], metric: Metric | None = None) -> Features:
        """Features of one vector an item, from (n, d)."""
        return Features(modality, as_vectors(vectors, f"{modality} features")[:, None, :], metric=metric)


@dataclass(frozen=True, eq=False)
class FeaturePairs:
    """Features of both modalities and which go together: what fusers are fitted on.

    `links` (p, 2) int64 positions; `labels` (p, l) uint8 or None.
    """

    images: Features
    texts: Features
    links: NDArray[np.int64]
    labels: NDArray[np.uint8] | None = None


@dataclass(frozen=True, eq=False)
class Embeddings:
    """One vector an item, under a metric: `values` (n, d) float32, or packed bits (n, bits/8) uint8 for hamming."""

    values: NDArray[Any]
    metric: Metric

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise DataError(f"metric {self.metric!r}: expected one of {', '.join(METRICS)}")
        checked = as_bits(self.values) if self.metric == "hamming" else as_vectors(self.values, "embeddings")
        object.__setattr__(self, "values", checked)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def dim(self) -> int:
        """Dimensions, or bits under hamming."""
        return int(self.values.shape[1]) * (8 if self.metric == "hamming" else 1)

    def take(self, positions: Any) -> Embeddings:
        """The rows at these positions."""
        return Embeddings(self.values[positions], self.metric)

    def under(self, metric: Metric) -> Embeddings:
        """The same values under another metric; vectors stay vectors, so that they need no second check."""
        if self.metric == metric and type(self) is Embeddings:
            return self
        if "hamming" in (self.metric, metric):
            return Embeddings(self.values, metric)
        other = object.__new__(Embeddings)
        object.__setattr__(other, "values", self.values)
        object.__setattr__(other, "metric", metric)
        return other

    def as_features(self, modality: str) -> Features:
        """The same vectors as features, for the next fuser. Raises DataError for packed bits."""
        if self.metric == "hamming":
            raise DataError("bits cannot be fused further: a fuser takes vectors")
        return Features.of_vectors(modality, self.values, self.metric)


@dataclass(frozen=True, eq=False)
class Hits:
    """The nearest of each query: `ids` (q, k) int64 and `distances` (q, k) float32, ascending, ties to the smaller id.

    -1 and inf stand where fewer than k exist. A distance is Euclidean for l2, 1 - cosine for cosine, the negated inner
    product for ip, differing bits for hamming: smaller is nearer, always. `exact` says that nothing nearer was missed.
    """

    ids: NDArray[np.int64]
    distances: NDArray[np.float32]
    exact: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    def __post_init__(self) -> None:
        if self.ids.shape != self.distances.shape or self.ids.ndim != 2:
            raise DataError(f"hits: ids {self.ids.shape} and distances {self.distances.shape} must be one shape (q, k)")
