"""Vectors that were made elsewhere, as features: for images, texts or both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.plugin import Dim, Form, KeptVectors, VectorMetric, Widths

NAMED = 10  # items an error message names


@dataclass(frozen=True)
class PrecomputedConfig:
    """Which vectors, and what they are."""

    dim: Annotated[Dim | None, "numbers in a vector; None takes the width that the items have, by modality"] = None
    metric: Annotated[VectorMetric, "how the vectors are meant to be compared"] = "cosine"
    name: Annotated[str | None, "the name that the vectors were added by; None takes items whose data are vectors"] = (
        None
    )


class Precomputed(xmr.Encoder[PrecomputedConfig]):
    """Ready-made vectors of items, checked and passed on as (n, 1, d) float32; images and texts may differ in width.

    State: `dim/image` and `dim/text`, the widths found by `fit`; nothing where `dim` says the width of all.
    """

    name: ClassVar[str] = "precomputed"
    needs_fit: ClassVar[bool] = False
    later: ClassVar[frozenset[str]] = frozenset({"name"})

    @xmr.takes(PrecomputedConfig)
    def __init__(self) -> None:
        found = {name.removeprefix("dim/"): int(width) for name, width in self.state.items()}
        self._dims: dict[str, int | None] = dict.fromkeys(found or type(self).forms, self.config.dim)
        self._dims.update(found)
        forms: dict[str, Form] = dict.fromkeys(self._dims, "vector")
        self.forms = forms  # type: ignore[misc]  # of the class elsewhere; here what was found decides

    @property
    def fitted(self) -> bool:
        """True where widths were found, or nothing needs to be."""
        return bool(self.state) or not self._looks

    @property
    def _looks(self) -> bool:
        """True where `fit` finds out which modalities have vectors, and their widths."""
        return self.config.name is not None or self.config.dim is None

    @property
    def metric(self) -> xmr.Metric:  # type: ignore[override]  # here the config says it, not the class
        """How the vectors want to be compared."""
        return self.config.metric

    def widths(self) -> Widths:
        """The numbers in a vector, by modality; None before they are known."""
        return dict(self._dims)

    def kept(self, modality: str) -> KeptVectors:
        """The vectors themselves, as they were added."""
        return KeptVectors(self.name) if self.config.name is None else KeptVectors(self.config.name, given=True)

    def fit(self, pairs: xmr.Pairs) -> Self:
        """The widths of the vectors. A modality in which no item has one is left out.

        Raises MissingVectorError, with keys, where some items of a modality have a vector and others none.
        """
        if not self._looks:
            return self
        found: dict[str, NDArray[Any]] = {}
        for items in (pairs.images, pairs.texts):
            if self.config.name is not None:
                have, vectors = items.vectors_of(self.config.name)
                self._require_all(items, have if have.any() else ~have)
            else:
                vectors = self._stacked(items) if len(items) else np.empty((0, 0), np.float32)
            if len(vectors):
                self._require_width(items, vectors)
                found[f"dim/{items.modality}"] = np.array(vectors.shape[1])
        if not found:
            what = "whose data are vectors" if self.config.name is None else f"with a vector {self.config.name!r}"
            raise xmr.DataError(f"{self!r}: there are no items {what}; add(..., vectors=...) gives items vectors")
        return self.with_state(found)

    def encode(self, items: xmr.Items) -> xmr.Features:
        """The vectors as float32. Raises DataError, with keys, on another width, NaN or infinity.

        MissingVectorError, with keys, where items have no vector of the name.
        """
        self.require_modality(items.modality)
        self.require_fit()
        if self.config.name is None:
            vectors = self._stacked(items)
            bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
            if bad.size:
                self._refuse(items, bad, "hold NaN or infinity")
        else:
            have, vectors = items.vectors_of(self.config.name)
            self._require_all(items, have)
        self._require_width(items, vectors)
        if not len(items):
            vectors = np.empty((0, self._dims[items.modality] or 0), np.float32)
        return xmr.Features.of_vectors(items.modality, vectors, self.metric)

    def _require_all(self, items: xmr.Items, have: NDArray[np.bool_]) -> None:
        lacking = np.flatnonzero(~have).tolist()
        if lacking:
            keys = [items.keys[row] for row in lacking]
            reason = f"no vector {self.config.name!r}"
            raise xmr.MissingVectorError(
                f"{len(keys)} of {len(items)} {items.modality}s have {reason}: {_named(keys)}; add them again with "
                "vectors=, or choose the others by where=",
                keys,
                reason,
            )

    def _require_width(self, items: xmr.Items, vectors: NDArray[np.float32]) -> None:
        dim = self._dims[items.modality]
        if len(vectors) and dim is not None and vectors.shape[1] != dim:
            raise xmr.DataError(
                f"{self!r}: expected {dim} dimensions of vectors of {items.modality}s, got {vectors.shape[1]}"
            )

    def _stacked(self, items: xmr.Items) -> NDArray[np.float32]:
        """(n, d): the data of items that are vectors."""
        dim = self._dims[items.modality]
        if not len(items):
            return np.empty((0, dim or 0), np.float32)
        rows = [_array(row) for row in items.data]
        dim = rows[0].size if dim is None else dim
        wrong = [i for i, row in enumerate(rows) if row.shape != (dim,) or row.dtype.kind not in "fiu"]
        if wrong:
            first = rows[wrong[0]]
            self._refuse(items, wrong, f"are no vectors of {dim} numbers but {first.dtype} {first.shape}")
        with np.errstate(over="ignore"):  # what is beyond float32 becomes infinity, and is refused as that
            return np.stack(rows).astype(np.float32)

    def _refuse(self, items: xmr.Items, positions: Any, what: str) -> None:
        keys = [items.keys[i] for i in positions]
        raise xmr.DataError(f"{len(keys)} of {len(items)} {items.modality}s {what}: {_named(keys)}", keys)


def _array(row: object) -> NDArray[Any]:
    """A row as an array; one of no dimensions where it can be none, such as a list of texts and bytes."""
    try:
        return np.asarray(row)
    except (ValueError, TypeError, OverflowError):
        return np.array(None)


def _named(keys: list[str]) -> str:
    return ", ".join(map(repr, keys[:NAMED])) + (", ..." if len(keys) > NAMED else "")


@xmr.hookimpl
def xmr_encoders() -> list[type[xmr.Encoder]]:
    """Ready-made vectors."""
    return [Precomputed]
