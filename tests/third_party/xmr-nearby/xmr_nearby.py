"""Pivots: exact nearest neighbours that skip what the triangle inequality rules out. Source: Mico et al., LAESA, 1994."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import xmr_core as xmr

XMR_API = 1


@dataclass(frozen=True)
class PivotsConfig:
    """Options of `pivots`."""

    pivots: int = 16  # reference points; more: fewer distances to work out, 4 more bytes a vector each
    seed: int = 0  # which point is the first pivot

    def __post_init__(self) -> None:
        if not 1 <= self.pivots <= 256:
            raise xmr.ConfigError("pivots", self.pivots, "must be between 1 and 256")


class Pivots(xmr.Indexer):
    """Vectors as they are, and the distances of each to a few pivots."""

    name = "pivots"
    Config = PivotsConfig
    metrics = frozenset({"l2"})
    exact = True
    recall_floor = 1.0

    def fit(self, embeddings):
        """Pivots far from one another: each next one is the point farthest from those before."""
        points = self.queries(embeddings).values  # (n, d)
        chosen = [np.random.default_rng(self.config.seed).integers(len(points))]
        nearest = _l2(points, points[chosen])[:, 0]  # (n,) to the nearest pivot
        while len(chosen) < min(self.config.pivots, len(points)):
            chosen.append(nearest.argmax())
            nearest = np.minimum(nearest, _l2(points, points[chosen[-1:]])[:, 0])
        return self.with_state({"pivots": points[chosen]})  # (p, d)

    def encode(self, embeddings, ids):
        """The vectors themselves."""
        return xmr.Codes.of_vectors(ids, self.queries(embeddings).values)

    def queries(self, embeddings):
        """Checked against the metric, and against the width that was fitted."""
        self.require_fit_if_used()
        return super().queries(embeddings)

    def build(self, codes):
        """The table of distances to the pivots."""
        return PivotIndex(self, codes)
