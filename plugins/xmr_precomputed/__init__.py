"""Vectors that were made elsewhere, as features: for pictures, texts or both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.plugin import Dim, VectorMetric, Widths

NAMED = 10  # items an error message names


@dataclass(frozen=True)
class PrecomputedConfig:
    """What the vectors are."""

    dim: Annotated[Dim, "numbers in a vector"]
    metric: Annotated[VectorMetric, "how the vectors are meant to be compared"] = "cosine"


class Precomputed(xmr.Encoder[PrecomputedConfig]):
    """Items whose data are vectors, checked and passed on as (n, 1, dim) float32."""

    name: ClassVar[str] = "precomputed"
    needs_fit: ClassVar[bool] = False

    @xmr.takes(PrecomputedConfig)
    def __init__(self) -> None: ...

    @property
    def metric(self) -> xmr.Metric:  # type: ignore[override]  # here the config says it, not the class
        """How the vectors want to be compared."""
        return self.config.metric

    def widths(self) -> Widths:
        """`dim` numbers a vector."""
        return dict.fromkeys(self.forms, self.config.dim)

    def encode(self, items: xmr.Items) -> xmr.Features:
        """The vectors as float32. Raises DataError, with keys, on another width, NaN or infinity."""
        self.require_modality(items.modality)
        vectors = self._stacked(items)
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if bad.size:
            self._refuse(items, bad, "hold NaN or infinity")
        return xmr.Features.of_vectors(items.modality, vectors, self.metric)

    def _stacked(self, items: xmr.Items) -> NDArray[np.float32]:
        """(n, dim)"""
        if not len(items):
            return np.empty((0, self.config.dim), np.float32)
        rows = [np.asarray(row) for row in items.data]
        wrong = [i for i, row in enumerate(rows) if row.shape != (self.config.dim,) or row.dtype.kind not in "fiu"]
        if wrong:
            first = rows[wrong[0]]
            self._refuse(items, wrong, f"are no vectors of {self.config.dim} numbers but {first.dtype} {first.shape}")
        with np.errstate(over="ignore"):  # what is beyond float32 becomes infinity, and is refused as that
            return np.stack(rows).astype(np.float32)

    def _refuse(self, items: xmr.Items, positions: Any, what: str) -> None:
        keys = [items.keys[i] for i in positions]
        named = ", ".join(map(repr, keys[:NAMED])) + (", ..." if len(keys) > NAMED else "")
        raise xmr.DataError(f"{len(keys)} of {len(items)} {items.modality}s {what}: {named}", keys)


@xmr.hookimpl
def xmr_encoders() -> list[type[xmr.Encoder]]:
    """Ready-made vectors."""
    return [Precomputed]
