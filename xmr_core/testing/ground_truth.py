"""What indexers are tried on: points with ids, queries, every true distance; and how hits are held against them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from xmr_core.search.exact import nearest
from xmr_core.search.hits import positions_of
from xmr_core.search.index import Index
from xmr_core.search.indexer import Indexer
from xmr_core.testing import samples
from xmr_core.testing.contract import scale
from xmr_core.types import Codes, Embeddings, Hits, Layout, Metric, unpack_bits

__all__ = [
    "QUERIES",
    "TWINS",
    "Ground",
    "K",
    "assert_alike",
    "assert_ascending",
    "assert_equal",
    "assert_true",
    "by_the_book",
    "numbered",
    "prepared",
    "radius_of",
    "samples_of",
    "split",
]

K = 10
QUERIES = 40
TWINS = 5  # the first rows, each planted TWINS times more, far apart


@dataclass(frozen=True, eq=False)
class Ground:
    """A fitted indexer over points with ids, its index, queries, and every true distance."""

    indexer: Indexer
    points: Embeddings
    ids: NDArray[np.int64]
    queries: Embeddings
    codes: Codes
    index: Index
    truth: NDArray[np.float32]  # (q, n), by the indexer's own plain `distances`

    def exact(self, k: int | None = K, within: float | None = None, among: NDArray[np.int64] | None = None) -> Hits:
        """The hits that exact search finds."""
        codes = self.codes if among is None else self.codes.take(positions_of(self.ids, among))
        return nearest(self.indexer, self.queries, codes, k, within)

    def true_distances(self, hits: Hits) -> NDArray[np.float32]:
        """(q, k) the distances that the ids of hits have in truth; inf where there is none."""
        places = np.searchsorted(self.ids, hits.ids).clip(0, len(self.ids) - 1)
        known = (self.ids[places] == hits.ids) | (hits.ids == -1)
        assert known.all(), f"hits name ids that are not in the collection: {hits.ids[~known][:5]}"
        return np.where(hits.ids >= 0, np.take_along_axis(self.truth, places, axis=1), np.inf).astype(np.float32)

    @cached_property
    def slack(self) -> float:
        """How far float32 lets a distance be off; near zero a Euclidean one loses half its digits."""
        if self.points.metric == "hamming":
            return 0.0
        return (2e-3 if self.points.metric == "l2" else 2e-5) * max(scale(self.truth), 1e-6)


def samples_of(metric: Metric, n: int = 1000) -> Embeddings:
    """Clustered vectors; copies of the first TWINS are planted far apart."""
    embeddings = samples.clustered(metric, n, dim=64 if metric == "hamming" else 32)
    values = embeddings.values.copy()
    for twin in range(TWINS):
        values[twin + n // 6 :: n // 6][:TWINS] = values[twin]
    return Embeddings(values, metric)


def split(embeddings: Embeddings) -> tuple[Embeddings, Embeddings]:
    """Points, and every twenty-fifth as a query."""
    query = np.arange(len(embeddings)) % (len(embeddings) // QUERIES) == 0
    query[:TWINS] = False
    return embeddings.take(~query), embeddings.take(query)


def numbered(n: int) -> NDArray[np.int64]:
    """Ascending ids with gaps that are no positions, the last beyond 32 bits."""
    ids = np.arange(n, dtype=np.int64) * 3 + 7
    ids[-1] = 1 << 40
    return ids


def prepared(indexer: Indexer, points: Embeddings, queries: Embeddings) -> Ground:
    """The ground for a fitted indexer."""
    ids = numbered(len(points))
    codes = indexer.encode(points, ids)
    return Ground(indexer, points, ids, queries, codes, indexer.build(codes), indexer.distances(queries, codes))


def radius_of(ground: Ground) -> float:
    """A radius that holds about ten points of a query; between two float distances, on one under hamming."""
    distances = np.sort(ground.truth, axis=1)
    middle = float(np.median(distances[:, K]))
    if ground.points.metric == "hamming" or ground.codes.layout == Layout.bits(ground.codes.layout.dim):
        return middle
    near = np.unique(distances[np.abs(distances - middle) <= 0.05 * abs(middle) + ground.slack])
    gap = int(np.argmax(np.diff(near))) if len(near) > 1 else 0
    return float(near[gap : gap + 2].mean())


def by_the_book(queries: Embeddings, points: Embeddings) -> NDArray[np.float64]:
    """(q, n) distances in float64, by the formula."""
    if queries.metric == "hamming":
        a, b = unpack_bits(queries.values), unpack_bits(points.values)
        return np.asarray((a[:, None] != b).sum(axis=2), np.float64)
    q, p = queries.values.astype(np.float64), points.values.astype(np.float64)
    if queries.metric == "l2":
        return np.asarray(np.sqrt(((q[:, None] - p) ** 2).sum(axis=2)))
    if queries.metric == "ip":
        return np.asarray(-(q @ p.T))
    norms = np.linalg.norm(q, axis=1)[:, None] * np.linalg.norm(p, axis=1)
    return np.asarray(1 - np.divide(q @ p.T, norms, out=np.zeros_like(norms), where=norms > 0))


def assert_ascending(hits: Hits, what: str) -> None:
    """Assert ascending distances, no id twice, ties to the smaller id, misses last."""
    near, far = hits.distances[:, :-1], hits.distances[:, 1:]
    assert (near <= far).all(), f"{what}: distances do not ascend"
    ids, later = hits.ids[:, :-1], hits.ids[:, 1:]
    tied = (near == far) & (ids >= 0) & (later >= 0)
    assert (ids < later)[tied].all(), (
        f"{what}: ties must go to the smaller id, got {hits.ids[(tied & (ids > later)).any(axis=1)][0]}"
    )
    assert ((hits.ids == -1) == np.isposinf(hits.distances)).all(), f"{what}: -1 and inf belong together"
    for row in hits.ids:
        assert len(np.unique(row[row >= 0])) == (row >= 0).sum(), f"{what}: an id came twice: {row}"


def assert_true(ground: Ground, hits: Hits, what: str) -> None:
    """Assert hits whose distances are those of `distances`, ascending."""
    assert_ascending(hits, what)
    truth, found = ground.true_distances(hits), hits.ids >= 0
    off = np.abs(hits.distances[found] - truth[found]).max(initial=0)
    assert off <= ground.slack, f"{what}: distances differ by up to {off:.3g} from what distances() says"


def assert_alike(ground: Ground, hits: Hits, want: Hits, what: str) -> None:
    """Assert one list, but for the order of distances that float32 cannot tell apart."""
    assert hits.ids.shape == want.ids.shape, f"{what}: hits of shape {hits.ids.shape}, wanted {want.ids.shape}"
    assert_true(ground, hits, what)
    assert np.array_equal(hits.ids >= 0, want.ids >= 0), f"{what}: another number of hits"
    truth, found = ground.true_distances(hits), want.ids >= 0
    off = np.abs(truth[found] - want.distances[found]).max(initial=0)
    assert off <= ground.slack, f"{what}: something nearer was missed, by {off:.3g}"


def assert_equal(hits: Hits, want: Hits, slack: float, what: str) -> None:
    """Assert one list, but for distances that float32 cannot tell apart."""
    assert hits.ids.shape == want.ids.shape, f"{what}: hits of shape {hits.ids.shape}, wanted {want.ids.shape}"
    close = np.isclose(hits.distances, want.distances, rtol=0, atol=slack)
    assert close.all(), f"{what}: other distances"
    tied = np.isclose(want.distances[:, :-1], want.distances[:, 1:], rtol=0, atol=2 * slack)
    free = np.pad(tied, ((0, 0), (0, 1))) | np.pad(tied, ((0, 0), (1, 0)))
    free[:, -1] = True  # what ties with the last may have been cut
    assert (free | (hits.ids == want.ids)).all(), f"{what}: other ids"
