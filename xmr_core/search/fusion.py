"""Several rankings as one: by reciprocal rank, and from items to those they are linked to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from xmr_core.search.hits import empty_hits, hits_of_pairs, put
from xmr_core.search.index import Index
from xmr_core.types import Embeddings, Hits

__all__ = ["DEPTH", "RANK_CONSTANT", "by_links", "reciprocal_rank"]

DEPTH = 1000  # items of each ranking that are fused, or k where that is more; as deep as the runs of Cormack et al.
RANK_CONSTANT = 60  # of Cormack et al.: the larger, the less a first rank counts against several middling ones

Positions = NDArray[np.int64]


def reciprocal_rank(rankings: Sequence[Hits], k: int) -> tuple[Hits, Positions]:
    """The k best of each query over s rankings of the same q queries, and their ranks (q, k, s); 0: not ranked.

    An item's score is the sum of 1 / (60 + rank) over the rankings that have it, ranks counted from 1; its distance is
    the negative score. Source: Cormack, Clarke & Buettcher, "Reciprocal rank fusion outperforms Condorcet and
    individual rank learning methods", SIGIR 2009.
    """
    q = len(rankings[0])
    hits = empty_hits(q, k, all(ranking.exact for ranking in rankings))
    ranks = np.zeros((q, k, len(rankings)), np.int64)
    for query in range(q):
        lists = [ranking.ids[query][ranking.ids[query] >= 0] for ranking in rankings]
        ids = np.unique(np.concatenate(lists))
        of_ids = np.zeros((len(ids), len(lists)), np.int64)
        for place, found in enumerate(lists):
            of_ids[np.searchsorted(ids, found), place] = np.arange(1, len(found) + 1)
        shares = np.divide(1.0, RANK_CONSTANT + of_ids, out=np.zeros(of_ids.shape), where=of_ids > 0)
        distances = (-shares.sum(axis=1)).astype(np.float32)
        best = np.lexsort((ids, distances))[:k]
        hits.ids[query, : len(best)], hits.distances[query, : len(best)] = ids[best], distances[best]
        ranks[query, : len(best)] = of_ids[best]
    return hits, ranks


def by_links(index: Index, queries: Embeddings, links: Positions, k: int | None, within: float | None) -> Hits:
    """The nearest items that are linked to those of an index: each as near as the nearest that it is linked to.

    `links` (p, 2) int64: an id of the index and the id that is reached by it. `k` and `within` as `Index.search`; ties
    go to the smaller id of those reached.
    """
    links = links[np.lexsort((links[:, 1], links[:, 0]))]
    sources = np.unique(links[:, 0])
    most = int(np.unique(links[:, 1], return_counts=True)[1].max(initial=0))  # links of one item that is reached
    among = sources if len(sources) < len(index) else None
    if k is None:
        return _reached(index.search(queries, None, within, among), links, None)
    wanted = max(1, min(k * most, len(sources)))  # k items have no more links than that
    found = index.search(queries, wanted, within, among)
    hits = _reached(found, links, k)
    if wanted < len(sources):  # where the k-th is as near as what came last, its equals may have been cut off
        tied = (found.ids[:, -1] >= 0) & (hits.distances[:, -1] == found.distances[:, -1])
        for query in np.flatnonzero(tied):
            one, bound = queries.take(slice(query, query + 1)), float(hits.distances[query, -1])
            put(hits, slice(query, query + 1), _reached(index.search(one, None, bound, among), links, k))
    return hits


def _reached(hits: Hits, links: Positions, k: int | None) -> Hits:
    """The k nearest of those that are linked to hits, each at its smallest distance; `links` (p, 2) ascending."""
    rows, places = np.nonzero(hits.ids >= 0)
    starts = np.searchsorted(links[:, 0], hits.ids[rows, places])
    counts = np.searchsorted(links[:, 0], hits.ids[rows, places], side="right") - starts
    positions = np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
    distances = np.repeat(hits.distances[rows, places], counts)
    ids, rows = links[positions, 1], np.repeat(rows, counts)
    order = np.lexsort((distances, ids, rows))
    ids, rows, distances = ids[order], rows[order], distances[order]
    first = np.ones(len(ids), bool)
    first[1:] = (ids[1:] != ids[:-1]) | (rows[1:] != rows[:-1])
    return replace(hits_of_pairs(len(hits), rows[first], ids[first], distances[first], k), exact=hits.exact)
