"""Measures of retrieval: average precision, lookup by radius, ranks of pairs, recall of an index, use of the bits.

A ranking is given by distances, smaller is nearer, and by a `Score`: a function from a slice of the queries to their
distances from all items, so that no queries x items matrix is ever whole.

    score = between(query_embeddings, embeddings)                # or any function of a slice
    mean_average_precision(score, query_labels, labels)          # an item is relevant that shares a label
    chance_map(query_labels, labels)                             # what a random ranking would give
    pair_recall(pair_ranks(score, links, (q, n)))                # recall@1, 5, 10, median and mean rank

Every figure is a fraction of 1 (papers print recalls in percent) and a mean over ALL queries: one with nothing to be
found adds 0. Items at equal distance are tied. `ties="expected"` gives the mean over all orders of the tied, in closed
form; `ties="id"` puts the smaller position first. Nothing lets what is relevant decide between them.

Letters: q queries, b of them in a block, n items, l labels, c bits, k ranks, g groups of ties, t true items of a query.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import ConfigError, DataError
from xmr_core.search.distances import distances as vector_distances
from xmr_core.search.distances import hamming_counts
from xmr_core.types import Embeddings, as_bits

__all__ = [
    "BitUse",
    "Lookup",
    "PairRecall",
    "Score",
    "average_precision",
    "between",
    "bit_use",
    "chance_map",
    "chance_pair_recall",
    "first_found_at",
    "map_at",
    "mean_average_precision",
    "pair_ranks",
    "pair_recall",
    "precision_at",
    "precision_recall_by_radius",
    "recall_against",
    "recall_both_ways",
    "share_label",
]

BLOCK_CELLS = 1 << 21  # distances held at once: working memory stays at about 150 MB
LONGEST_HISTOGRAM = 2048  # whole-numbered distances below it are counted, not sorted
ROWS = 1 << 17  # codes unpacked at once

Score = Callable[[slice], NDArray[Any]]
Ties = Literal["expected", "id"]
Over = Literal["all", "possible", "found"]
Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def between(queries: Embeddings, items: Embeddings) -> Score:
    """The distances of embeddings under their metric. Raises DataError where they cannot be compared."""
    if (queries.metric, queries.dim) != (items.metric, items.dim):
        raise DataError(
            f"queries have {queries.dim} dimensions under {queries.metric}, items {items.dim} under {items.metric}"
        )
    if items.metric == "hamming":
        return lambda part: hamming_counts(queries.values[part], items.values)
    return lambda part: vector_distances(queries.values[part], items.values, items.metric)


def share_label(query_labels: NDArray[Any], labels: NDArray[Any]) -> Flags:
    """(q, n) bool: True where a query's labels (q, l) and an item's (n, l), 0 or 1, have one in common."""
    shared: Flags = query_labels.astype(np.float32) @ labels.astype(np.float32).T > 0
    return shared


# average precision


def average_precision(
    distances: NDArray[Any], relevant: Flags, ties: Ties = "expected", k: int | None = None, over: Over = "all"
) -> Floats:
    """(q,): the average precision of each row of `distances` (q, n), given what is `relevant` (q, n) bool.

    AP = 1/R * sum over the ranks i <= k that hold a relevant item of (relevant items in the first i) / i; without `k`,
    over all ranks. `over` names the R: `all` relevant items of the database, or `possible` = min(all, k), or those
    `found` in the first k (only with ties="id": its expectation has no closed form). These differ: see `map_at`.
    """
    if ties not in ("expected", "id") or over not in ("all", "possible", "found"):
        raise ConfigError(f"ties={ties!r}, over={over!r}: ties is expected or id; over is all, possible or found")
    if over == "found" and ties != "id":
        raise ConfigError("ties", ties, "must be 'id' where over='found'")
    q, n = relevant.shape
    k = n if k is None else _rank("k", k)
    if not (q and n):
        return np.zeros(q)
    groups = _groups(distances, relevant, ties)
    total = relevant.sum(axis=1)  # (q,)
    if over == "possible":
        total = np.minimum(total, k)
    elif over == "found":
        total = _sums(groups, groups.relevant * (groups.before < k), q)
    average: Floats = _sums(groups, _precision(groups, k, n), q) / np.maximum(total, 1)
    return average


def mean_average_precision(
    score: Score, query_labels: NDArray[Any], labels: NDArray[Any], ties: Ties = "expected"
) -> float:
    """MAP over the full ranking of n items with `labels` (n, l), for queries with `query_labels` (q, l)."""
    parts = [average_precision(*block, ties) for block in _blocks(score, query_labels, labels)]
    return _mean(parts)


def map_at(
    score: Score, query_labels: NDArray[Any], labels: NDArray[Any], k: int, over: Over, ties: Ties = "expected"
) -> float:
    """MAP of the first k ranks. Three measures go by that name, up to a factor of 2 apart, so `over` must be given:

    - `all`: divided by all relevant items; cannot reach 1 where there are more than k
    - `possible`: divided by min(all relevant items, k)
    - `found`: divided by those among the first k; what papers that print mAP@5000 mostly compute
    """
    parts = [average_precision(*block, ties, k, over) for block in _blocks(score, query_labels, labels)]
    return _mean(parts)


def precision_at(
    score: Score, query_labels: NDArray[Any], labels: NDArray[Any], k: int, ties: Ties = "expected"
) -> float:
    """The share of relevant items among the first k, also where there are fewer than k items."""
    parts = []
    for distances, relevant in _blocks(score, query_labels, labels):
        groups = _groups(distances, relevant, ties)
        inside = np.clip(_rank("k", k) - groups.before, 0, groups.size)
        parts.append(_sums(groups, groups.relevant * inside / groups.size, len(relevant)) / k)
    return _mean(parts)


def chance_map(query_labels: NDArray[Any], labels: NDArray[Any]) -> float:
    """The expected MAP of a random ranking, which is that of a ranking in which all items are tied. Print it beside."""
    return mean_average_precision(lambda part: _all_tied(len(query_labels[part]), len(labels)), query_labels, labels)


def _all_tied(b: int, n: int) -> NDArray[np.uint8]:
    return np.zeros((b, n), np.uint8)


@dataclass(frozen=True, eq=False)
class _Groups:
    """Groups of tied items, nearest first, of all queries of a block, one after another; arrays of shape (g,)."""

    row: Counts  # whose: position of the query
    size: Counts  # n_g items
    relevant: Counts  # r_g of which are relevant
    before: Counts  # N_0 items are nearer
    relevant_before: Counts  # R_0 of which are relevant


def _groups(distances: NDArray[Any], relevant: Flags, ties: Ties) -> _Groups:
    """The groups of ties; with ties="id" every item is one of its own, equal distances in the order of position."""
    if ties == "expected" and distances.dtype.kind in "bui" and distances.size:
        smallest, largest = int(distances.min()), int(distances.max())
        if smallest >= 0 and largest < LONGEST_HISTOGRAM:
            return _counted(distances, relevant, largest + 1)
    return _sorted(distances, relevant, ties)


def _counted(distances: NDArray[Any], relevant: Flags, width: int) -> _Groups:
    """Groups of distances that are whole numbers below `width`."""
    sizes, found = _histograms(distances, relevant, width)
    row, column = np.nonzero(sizes)
    at = (row, column)
    return _Groups(row, sizes[at], found[at], _before(sizes)[at], _before(found)[at])


def _histograms(distances: NDArray[Any], relevant: Flags, width: int) -> tuple[Counts, Counts]:
    """(b, width) items, and relevant items, at each distance of each query."""
    b = len(distances)
    cells = distances.astype(np.int64)
    cells += np.arange(b)[:, None] * width
    cells *= 2
    cells += relevant
    counts = np.bincount(cells.ravel(), minlength=2 * b * width).reshape(b, width, 2)
    return counts.sum(axis=2), counts[:, :, 1]


def _sorted(distances: NDArray[Any], relevant: Flags, ties: Ties) -> _Groups:
    b, n = distances.shape
    order = np.argsort(distances, axis=1, kind="stable")
    inside = np.take_along_axis(relevant, order, axis=1).astype(np.int64)
    fresh = np.ones((b, n), bool)
    if ties == "expected":
        ranked = np.take_along_axis(distances, order, axis=1)
        fresh[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    starts = np.flatnonzero(fresh)  # (g,) where groups begin; every row begins one
    return _Groups(
        row=starts // n,
        size=np.diff(starts, append=b * n),
        relevant=np.add.reduceat(inside.ravel(), starts),
        before=starts % n,
        relevant_before=_before(inside).ravel()[starts],
    )


def _before(counts: Counts) -> Counts:
    """(b, w): the sum of a row's counts to the left of each."""
    return np.cumsum(counts, axis=1) - counts


def _precision(groups: _Groups, k: int, n: int) -> Floats:
    """(g,): what each group is expected to add to the sum of precisions at the relevant ranks up to k.

    A group of n_g items, r_g relevant, preceded by N_0 items, R_0 relevant, adds
        r_g / n_g * sum_{i=1..m} (R_0 + 1 + (i - 1) a) / (N_0 + i),   a = (r_g - 1) / (n_g - 1),
    where m of its ranks lie within k. With D = sum_{i=1..m} 1 / (N_0 + i), that sum is
        (R_0 + 1) D + a (m - (N_0 + 1) D).
    """
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, n + 1))])  # (n + 1,)
    m = np.clip(k - groups.before, 0, groups.size)
    d = harmonic[groups.before + m] - harmonic[groups.before]
    a = (groups.relevant - 1) / np.maximum(groups.size - 1, 1)
    inner = (groups.relevant_before + 1) * d + a * (m - (groups.before + 1) * d)
    precision: Floats = groups.relevant / groups.size * inner
    return precision


def _sums(groups: _Groups, values: NDArray[Any], q: int) -> Floats:
    """(q,): values (g,) summed for each query."""
    return np.bincount(groups.row, values, minlength=q).astype(np.float64, copy=False)


def _mean(parts: list[Floats]) -> float:
    values = np.concatenate([np.zeros(0), *parts])
    return float(values.mean()) if len(values) else 0.0


def _rank(name: str, k: int) -> int:
    if k < 1:
        raise ConfigError(name, k, "must be 1 or more")
    return k


def _blocks(score: Score, query_labels: NDArray[Any], labels: NDArray[Any]) -> Iterator[tuple[NDArray[Any], Flags]]:
    """Distances (b, n) and what is relevant (b, n), a block of queries at a time."""
    if query_labels.ndim != 2 or labels.ndim != 2 or query_labels.shape[1] != labels.shape[1]:
        raise DataError(f"labels: expected (q, l) and (n, l), got {query_labels.shape} and {labels.shape}")
    for part, distances in _scored(score, (len(query_labels), len(labels))):
        yield distances, share_label(query_labels[part], labels)


def _scored(score: Score, shape: tuple[int, int]) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Slices of the queries with their distances (b, n), checked."""
    q, n = shape
    step = max(1, BLOCK_CELLS // max(1, n))
    for start in range(0, q, step):
        part = slice(start, min(start + step, q))
        distances = np.asarray(score(part))
        if distances.shape != (part.stop - part.start, n):
            raise DataError(f"score: expected distances {(part.stop - part.start, n)}, got {distances.shape}")
        if distances.dtype.kind == "f" and np.isnan(distances).any():
            raise DataError("score: some distances are NaN, which has no place in a ranking")
        yield part, distances


# lookup within a Hamming radius


@dataclass(frozen=True, eq=False)
class Lookup:
    """What a hash lookup finds within radius 0, 1, ... c: `precision` and `recall`, each (c + 1,)."""

    radius: Counts
    precision: Floats
    recall: Floats


def precision_recall_by_radius(score: Score, query_labels: NDArray[Any], labels: NDArray[Any], bits: int) -> Lookup:
    """Precision and recall of all items within each Hamming radius of 0 to `bits`, both included.

    Micro-averaged as by DCMH's authors: sums over queries are divided, so a query that finds more counts more. Where
    nothing is found precision is 0. At radius `bits` recall is 1 and precision the base rate.
    """
    sizes, found = np.zeros(bits + 1, np.int64), np.zeros(bits + 1, np.int64)
    for distances, relevant in _blocks(score, query_labels, labels):
        if distances.dtype.kind not in "ui" or int(distances.max(initial=0)) > bits:
            raise DataError(f"score: expected counts of differing bits, 0 to {bits}, got {distances.dtype}")
        block_sizes, block_found = _histograms(distances, relevant, bits + 1)
        sizes += block_sizes.sum(axis=0)
        found += block_found.sum(axis=0)
    retrieved, hits = np.cumsum(sizes), np.cumsum(found)
    return Lookup(np.arange(bits + 1), hits / np.maximum(retrieved, 1), hits / max(1, int(found.sum())))


# pairs: a picture and its sentences


@dataclass(frozen=True)
class PairRecall:
    """The share of queries whose best true item is among the first 1, 5 and 10; its median and mean rank, from 1."""

    r1: float
    r5: float
    r10: float
    median: float
    mean: float


def pair_ranks(score: Score, links: NDArray[Any], shape: tuple[int, int]) -> Counts:
    """(q,): the rank, from 0, of each query's best true item; n where it has none. `links` (p, 2): query and item.

    Ties never favour the truth: every other item at the same distance ranks before it.
    """
    q, n = shape
    links = np.asarray(links, np.int64).reshape(-1, 2)
    if len(links) and (links.min() < 0 or (links.max(axis=0) >= (q, n)).any()):
        raise DataError(f"links: positions must lie in 0..{q - 1} and 0..{n - 1}")
    ranks = np.full(q, n)
    for part, distances in _scored(score, shape):
        rows, items = links[(links[:, 0] >= part.start) & (links[:, 0] < part.stop)].T - [[part.start], [0]]
        true = np.zeros(distances.shape, bool)
        true[rows, items] = True
        best = np.where(true, distances, np.inf).min(axis=1, initial=np.inf)  # (b,)
        others = np.count_nonzero((distances <= best[:, None]) & ~true, axis=1)
        ranks[part] = np.where(true.any(axis=1), others, n)
    return ranks


def pair_recall(ranks: Counts) -> PairRecall:
    """The usual figures from ranks (q,) that count from 0. The median is floor(median(ranks)) + 1, as by VSE++."""
    if not len(ranks):
        return PairRecall(0, 0, 0, 0, 0)
    r1, r5, r10 = (float((ranks < k).mean()) for k in (1, 5, 10))
    return PairRecall(r1, r5, r10, float(np.floor(np.median(ranks)) + 1), float(ranks.mean() + 1))


def recall_both_ways(images: Embeddings, texts: Embeddings, links: NDArray[Any]) -> tuple[PairRecall, PairRecall]:
    """Picture to text (the best of a picture's sentences counts) and text to picture. `links` (p, 2): picture, text."""
    links = np.asarray(links, np.int64).reshape(-1, 2)
    there = pair_ranks(between(images, texts), links, (len(images), len(texts)))
    back = pair_ranks(between(texts, images), links[:, ::-1], (len(texts), len(images)))
    return pair_recall(there), pair_recall(back)


def chance_pair_recall(counts: NDArray[Any], n: int) -> PairRecall:
    """What a random ranking of n items gives to queries with `counts` (q,) true items: expectations, in closed form.

    The first of t true items is not among the first k with probability prod_{i<t} (n - k - i) / (n - i); its mean rank
    is (n + 1) / (t + 1). The median is the smallest k whose recall reaches one half.
    """
    if not len(counts):
        return PairRecall(0, 0, 0, 0, 0)
    values, times = np.unique(np.asarray(counts, np.int64), return_counts=True)
    ks = np.arange(n + 1)
    missed = sum(share * _missed(int(t), ks, n) for t, share in zip(values, times / len(counts), strict=True))
    recall = 1 - missed  # (n + 1,) at k = 0..n
    half = np.flatnonzero(recall >= 0.5)
    mean = float(np.average((n + 1) / (values + 1), weights=times))
    r1, r5, r10 = (float(recall[min(k, n)]) for k in (1, 5, 10))
    return PairRecall(r1, r5, r10, float(half[0]) if len(half) else n + 1.0, mean)


def _missed(t: int, ks: Counts, n: int) -> Floats:
    """(n + 1,): the probability that none of t true items is among the first k of n in random order."""
    i = np.arange(t)
    missed: Floats = np.prod(np.maximum(n - ks[:, None] - i, 0) / (n - i), axis=1)
    return missed


# an approximate index against the exact one


def recall_against(truth: NDArray[np.int64], found: NDArray[np.int64], k: int) -> float:
    """Recall@k of an index: the share of the k true nearest ids, `truth` (q, >= k), among the first k of `found`.

    Ids of -1 stand for none: they are not missed in `truth`, and not counted in `found`.
    """
    if truth.shape[1] < _rank("k", k):
        raise DataError(f"truth: expected {k} true neighbours a query, got {truth.shape[1]}")
    wanted, given = truth[:, :k], found[:, :k]
    both = (wanted[:, :, None] == given[:, None, :]).any(axis=2) & (wanted >= 0)  # (q, k)
    return float(both.sum() / max(1, np.count_nonzero(wanted >= 0)))


def first_found_at(truth: NDArray[np.int64], found: NDArray[np.int64], r: int) -> float:
    """1-recall@r: the share of queries whose nearest neighbour, `truth[:, 0]`, is among the first r of `found`."""
    hit = (found[:, : _rank("r", r)] == truth[:, :1]).any(axis=1) & (truth[:, 0] >= 0)
    return float(hit.mean()) if len(hit) else 0.0


# how well bits are used


@dataclass(frozen=True, eq=False)
class BitUse:
    """`balance` (c,): the mean of each bit taken as -1 or +1, best 0. `entropy` (c,): its bits of information, best 1.
    `distinct`: how many different codes there are among `n`."""

    n: int
    distinct: int
    balance: Floats
    entropy: Floats


def bit_use(codes: NDArray[np.uint8]) -> BitUse:
    """How packed codes (n, c/8) use their bits. A code that has collapsed shows in all three figures."""
    codes = as_bits(codes)
    n = max(1, len(codes))
    ones = np.zeros(codes.shape[1] * 8, np.int64)
    for start in range(0, len(codes), ROWS):
        ones += np.unpackbits(codes[start : start + ROWS], axis=1, bitorder="little").sum(axis=0, dtype=np.int64)
    share = ones / n
    return BitUse(len(codes), _distinct(codes), 2 * share - 1, _information(share) + _information(1 - share))


def _information(share: Floats) -> Floats:
    """-p log2 p, 0 at 0."""
    information: Floats = -share * np.log2(np.where(share > 0, share, 1))
    return information


def _distinct(codes: NDArray[np.uint8]) -> int:
    if not codes.size:
        return min(len(codes), 1)
    padded = np.pad(codes, ((0, 0), (0, -codes.shape[1] % 8)))
    words = np.ascontiguousarray(padded).view(np.uint64)  # (n, w)
    ranked = words[np.lexsort(words.T)]
    return 1 + int(np.count_nonzero((ranked[1:] != ranked[:-1]).any(axis=1)))
