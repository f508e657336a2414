"""What `Index.search` does for every index: it checks, filters, completes, cuts and pads."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.search.vector_indexer import VectorIndex
from xmr_core.testing import clustered
from xmr_flat import Flat

N = 30
POINTS = clustered("l2", n=N, dim=4)
IDS = np.arange(N) * 2


class Stingy(VectorIndex):
    """Finds one hit of a query with an even row and none of the others; notes what it was asked."""

    def __init__(self, *parts: object, exact: bool = False) -> None:
        super().__init__(*parts)  # type: ignore[arg-type]
        self.asked: list[tuple[int | None, float | None, list[int] | None]] = []
        self.claims = exact

    def _search(
        self, queries: xmr.Embeddings, k: int | None, within: float | None, positions: NDArray[np.int64] | None
    ) -> xmr.Hits:
        self.asked.append((k, within, None if positions is None else positions.tolist()))
        hits = self._exhaustive(queries, 1, within, positions)
        hits.ids[1::2], hits.distances[1::2] = -1, np.inf
        return xmr.Hits(hits.ids, hits.distances, exact=self.claims)


def stingy(exact: bool = False) -> Stingy:
    flat = Flat().fit(POINTS)
    return Stingy(flat, flat.encode(POINTS, IDS), exact=exact)


@pytest.fixture
def truth() -> xmr.Index:
    flat = Flat().fit(POINTS)
    return flat.build(flat.encode(POINTS, IDS))


@pytest.mark.parametrize("among", [None, IDS[::3], IDS[:2]])
@pytest.mark.parametrize("within", [None, 2.5])
def test_what_is_too_short_is_searched_again_exactly(
    truth: xmr.Index, within: float | None, among: NDArray[np.int64] | None
) -> None:
    hits, want = (index.search(POINTS, 5, within, among) for index in (stingy(), truth))
    assert hits.ids.tolist() == want.ids.tolist()
    assert not hits.exact


def test_what_says_that_it_is_exact_is_believed() -> None:
    hits = stingy(exact=True).search(POINTS, 5)
    assert hits.exact
    assert (hits.ids >= 0).sum() == N / 2


def test_an_index_is_asked_for_no_more_than_there_is_and_in_plain_numbers() -> None:
    index = stingy()
    index.search(POINTS, np.int64(99), np.float32(2), among=[8, 4, 4, 7, 4000])
    assert index.asked == [(2, 2.0, [2, 4])]
    assert [type(value) for value in index.asked[0]] == [int, float, list]


def test_an_index_is_not_asked_where_nothing_can_be_found() -> None:
    index = stingy()
    for queries, among in ((POINTS.take(slice(0, 0)), None), (POINTS, IDS[:0]), (POINTS, IDS + 1)):
        hits = index.search(queries, 5, among=among)
        assert hits.ids.shape == (len(queries), 5)
        assert (hits.ids == -1).all()
    assert index.asked == []


def test_a_query_of_another_width_is_refused_also_where_nothing_can_be_found() -> None:
    for kept in (slice(0, 0), slice(None)):
        flat = Flat().fit(POINTS)
        index = flat.build(flat.encode(POINTS.take(kept), IDS[kept]))
        with pytest.raises(xmr.DataError, match="expected 4 dimensions, got 5"):
            index.search(clustered("l2", n=1, dim=5, clusters=1))


def test_hits_are_cut_by_distance_and_padded_to_k(truth: xmr.Index) -> None:
    far = truth.search(POINTS, 9)
    radius = float(np.median(far.distances))
    hits = truth.search(POINTS, 40, radius)
    assert hits.ids.shape == (N, 40)
    assert ((hits.ids >= 0) == (hits.distances <= radius)).all()
    assert (hits.ids[:, N:] == -1).all()
