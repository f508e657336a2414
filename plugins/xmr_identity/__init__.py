"""Vectors as they come, under a metric of your choice: the fuser for encoders whose features are embeddings already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import xmr_core as xmr
from xmr_core.plugin import VectorMetric, Widths, unit


@dataclass(frozen=True)
class IdentityConfig:
    """How the vectors are compared from here on."""

    metric: Annotated[VectorMetric, "how the vectors are compared from here on"] = "cosine"
    normalise: Annotated[
        bool, "scale every vector to length 1, so that ip and l2 rank as cosine does; zeros stay zero"
    ] = False


class Identity(xmr.Fuser[IdentityConfig]):
    """The one vector of each item, unchanged or at length 1."""

    name: ClassVar[str] = "identity"
    needs_fit: ClassVar[bool] = False

    @xmr.takes(IdentityConfig)
    def __init__(self) -> None: ...

    @property
    def metric(self) -> xmr.Metric:
        """That of the config."""
        return self.config.metric

    @property
    def unchanged(self) -> bool:
        """True unless it scales vectors."""
        return not self.config.normalise

    def widths(self, taken: Widths) -> Widths:
        """As many dimensions as it takes."""
        return taken

    def fuse(self, features: xmr.Features) -> xmr.Embeddings:
        """Embeddings (n, d). Raises DataError where items have several vectors, or NaN."""
        embeddings = xmr.Embeddings(features.vectors, self.metric)
        return xmr.Embeddings(unit(embeddings.values), self.metric) if self.config.normalise else embeddings


@xmr.hookimpl
def xmr_fusers() -> list[type[xmr.Fuser]]:
    """The fuser that leaves things as they are."""
    return [Identity]
