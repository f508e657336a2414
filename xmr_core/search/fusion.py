"""Several rankings as one: by reciprocal rank, and from items to those they are linked to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from xmr_core.search.hits import empty_hits, hits_of_pairs, put
from xmr_core.search.index import Index
from xmr_core.types import Embeddings, Hits

__all__ = ["RANK_CONSTANT", "by_links", "reciprocal_rank"]

RANK_CONSTANT = 60  # of Cormack et al.: the larger, the less a first rank counts against several middling ones

Positions = NDArray[np.int64]


def reciprocal_rank(rankings: Sequence[Hits], k: int) -> tuple[Hits, Positions]:
    """The k best of each query over s rankings of the same q queries, and their ranks (q, k, s); 0: not ranked.

    An item's score is the sum of 1 / (60 + rank) over the rankings that have it, ranks counted from 1; its distance is
    the negative score. Source: Cormack, Clarke & Buettcher, "Reciprocal rank fusion outperforms Condorcet and
    individual rank learning methods", SIGIR 2009.
    """
    q = len(rankings[0])
    hits, ranks = (
        empty_hits(q, k, all(ranking.exact for ranking in rankings)),
        np.zeros((q, k, len(rankings)), np.int64),
    )
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
    wanted = None if k is None else max(1, min(k * most, len(sources)))  # enough: k items have no more links than that
    found = index.search(queries, wanted, within, sources)
    reached = _reached(found, links, k)
    if wanted is None or k is None or wanted == len(sources) or k > reached.ids.shape[1]:
        return reached
    for query in np.flatnonzero((reached.ids[:, -1] >= 0) & (found.ids[:, -1] >= 0)):
        bound = reached.distances[query, -1]
        if bound == found.distances[query, -1]:  # equals may have been cut off
            one = slice(query, query + 1)
            put(reached, one, _reached(index.search(queries.take(one), None, float(bound), sources), links, k))
    return reached


def _reached(hits: Hits, links: Positions, k: int | None) -> Hits:
    """Hits of items as hits of those they are linked to; `links` ascending."""
    rows, places = np.nonzero(hits.ids >= 0)
    starts = np.searchsorted(links[:, 0], hits.ids[rows, places])
    counts = np.searchsorted(links[:, 0], hits.ids[rows, places], side="right") - starts
    positions = np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
    ids, rows, distances = (
        links[positions, 1],
        np.repeat(rows, counts),
        np.repeat(hits.distances[rows, places], counts),
    )
    order = np.lexsort((distances, ids, rows))
    ids, rows, distances = ids[order], rows[order], distances[order]
    first = np.ones(len(ids), bool)
    first[1:] = (ids[1:] != ids[:-1]) | (rows[1:] != rows[:-1])
    return replace(hits_of_pairs(len(hits), rows[first], ids[first], distances[first], k), exact=hits.exact)
