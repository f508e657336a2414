"""An index over PQ codes: faiss scans them packed, and its finds are ranked by distances summed in float64."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xmr_core import Codes, Embeddings, Hits, Index, Metric, select
from xmr_core.plugin import put, reach, stacked
from xmr_pq.config import PQConfig
from xmr_pq.engine import require_faiss, threads

__all__ = ["PQIndex"]

QUERIES = 256  # that are searched for at once
SPARE = 16  # candidates beyond k, so that rounding and ties at the end are seen
REFINED = 8  # candidates a hit where faiss ranks by something near the distance
CELLS = 1 << 20  # candidates looked at at once
ROWS = 1 << 16  # codes that are put into lists at once
FARTHEST = float(np.finfo(np.float32).max)

Floats = NDArray[np.float32]
Symbols = NDArray[np.uint8]
Doubles = NDArray[np.float64]


class Quantizes(Protocol):
    """What this index needs of the indexer that built it."""

    config: PQConfig
    state: dict[str, NDArray[Any]]

    @property
    def metric(self) -> Metric:
        """The metric that it was fitted under."""

    @property
    def dim(self) -> int:
        """d, the width of the vectors."""

    @property
    def codebooks(self) -> Floats:
        """(m, ksub, dsub), the centroids of each subquantizer."""

    @property
    def norms(self) -> Doubles:
        """(m, ksub), the squared lengths of the centroids."""

    def turned(self, vectors: Floats) -> Doubles:
        """(n, d): vectors as they are quantized, scaled for cosine and rotated for OPQ."""

    def stood_for(self, symbols: Symbols) -> Floats:
        """(n, d): the vectors that symbols (n, m) stand for, as `turned` gives them."""

    def own_distances(self, turned: Doubles, symbols: Symbols) -> Floats:
        """(q, c): distances of queries that were `turned` to c candidates of their own, symbols (q, c, m)."""

    def queries(self, embeddings: Embeddings) -> Embeddings:
        """Queries checked. Raises DataError, SpaceMismatchError."""

    def distances(self, queries: Embeddings, codes: Codes) -> Floats:
        """(q, n): the distance of each query to each code."""


class PQIndex(Index):
    """faiss's order is that of the distances, and hits are proven exact, but for fast scan (rounded
    tables), cosine (faiss ranks by the squared distance to the query at length 1) and inverted lists (not all are
    scanned). There the order among its finds is true, and all codes are compared where a query has too few finds, where
    even the last of them is a hit, or where a filter or a large k makes that as quick."""

    indexer: Quantizes

    def __init__(self, indexer: Quantizes, codes: Codes) -> None:
        super().__init__(indexer, codes)
        self.complete = indexer.metric != "cosine" and not (indexer.config.lists or indexer.config.fast)
        self.longest = float(np.sqrt(indexer.norms.max(axis=1).sum()))  # no code stands for a longer vector
        self.scanner, *self.held = _scanner(indexer, codes)

    def extend(self, codes: Codes) -> bool:
        """Appends to a plain scan and to inverted lists; fast scan packs its codes together once and for all."""
        if self.indexer.config.fast or not len(codes):
            return False
        if "lists" in self.indexer.state:
            _into_lists(self.scanner, self.held[0], self.indexer, codes)
        else:
            self.scanner.add_sa_codes(_packed(self.indexer, codes))
        self.codes = self.codes.extended(codes)
        return True

    def _search(
        self, queries: Embeddings, k: int | None, within: float | None, positions: NDArray[np.int64] | None
    ) -> Hits:
        n = len(self) if positions is None else len(positions)
        width = 0 if k is None else max(k + SPARE, 0 if self.complete else REFINED * k)
        if k is None or positions is not None or width >= n:
            return self._exhaustive(queries, k, within, positions)
        step = max(1, min(QUERIES, CELLS // width))
        blocks = [queries.take(slice(start, start + step)) for start in range(0, len(queries), step)]
        return stacked([self._of_few(block, k, within, width) for block in blocks], k)

    def _of_few(self, queries: Embeddings, k: int, within: float | None, width: int) -> Hits:
        """The k nearest of a few queries, from `width` candidates each."""
        turned = self.indexer.turned(queries.values)  # (q, d)
        with threads(len(queries) > 1):
            shown, places = self.scanner.search(turned.astype(np.float32), width)  # (q, width) each, -1 for none
        distances = self.indexer.own_distances(turned, self.codes.values[places])
        distances[places < 0] = np.inf
        hits = select(distances, np.where(places < 0, -1, self.codes.ids[places]), k)
        hits = Hits(hits.ids, hits.distances, exact=self.complete)
        last = hits.distances[:, -1]  # (q,), inf where fewer than k were found
        if self.complete:
            missed = (-shown if self.indexer.metric == "ip" else shown)[:, -1] <= self._reach(turned, last)
        else:
            missed = (distances[:, -1] <= last) | (last > (FARTHEST if within is None else within))
        if missed.any():  # or may have: all codes decide
            put(hits, missed, self._exhaustive(queries.take(missed), k, None, None))
        return hits

    def _reach(self, turned: Doubles, bounds: Floats) -> Doubles:
        """(q,): the largest squared distance, or negated inner product, that faiss may show for a code within `bounds`
        of its query. It sums dsub products for an entry of its tables, and m entries for a code."""
        m, _, dsub = self.indexer.codebooks.shape
        return reach(bounds, np.linalg.norm(turned, axis=1), self.longest, m + dsub, self.indexer.metric)


def _scanner(indexer: Quantizes, codes: Codes) -> tuple[Any, ...]:
    """faiss's index over the codes, packed; nothing is learned. After it, what it points to and does not keep alive."""
    faiss = require_faiss()
    if "lists" in indexer.state:
        return _inverted(indexer, codes)
    flat = faiss.IndexPQ(indexer.dim, indexer.config.parts, indexer.config.bits, _faiss_metric(indexer))
    _fill(flat, indexer)
    faiss.copy_array_to_vector(_packed(indexer, codes).ravel(), flat.codes)
    flat.ntotal = len(codes)
    return (faiss.IndexPQFastScan(flat) if indexer.config.fast else flat,)


def _inverted(indexer: Quantizes, codes: Codes) -> tuple[Any, ...]:
    """As `_scanner`, with inverted lists; a code is in the list nearest to the vector that it stands for."""
    faiss = require_faiss()
    config, centroids = indexer.config, indexer.state["lists"]
    by_l2, by_ip = faiss.IndexFlatL2(indexer.dim), faiss.IndexFlatIP(indexer.dim)
    for lists in (by_l2, by_ip):
        lists.add(centroids)
    probed = by_ip if indexer.metric == "ip" else by_l2
    inverted = faiss.IndexIVFPQ(probed, indexer.dim, len(centroids), config.parts, config.bits, _faiss_metric(indexer))
    inverted.by_residual = False
    _fill(inverted, indexer)
    _into_lists(inverted, by_l2, indexer, codes)
    scanner = faiss.IndexIVFPQFastScan(inverted) if config.fast else inverted
    scanner.nprobe = min(config.probes, len(centroids))
    return scanner, by_l2, probed, inverted


def _into_lists(inverted: Any, by_l2: Any, indexer: Quantizes, codes: Codes) -> None:
    """Put codes into their lists, numbered on from those that are there."""
    faiss, packed, first = require_faiss(), _packed(indexer, codes), inverted.ntotal
    for number, places in enumerate(_members(by_l2, indexer, codes)):
        if len(places):
            entries, numbers = np.ascontiguousarray(packed[places]), places + first
            inverted.invlists.add_entries(number, len(places), faiss.swig_ptr(numbers), faiss.swig_ptr(entries))
    inverted.ntotal = first + len(codes)


def _members(lists: Any, indexer: Quantizes, codes: Codes) -> list[NDArray[np.int64]]:
    """The places of each list's codes, ascending."""
    assigned = np.empty(len(codes), np.int64)
    for start in range(0, len(codes), ROWS):
        block = slice(start, start + ROWS)
        assigned[block] = lists.search(indexer.stood_for(codes.values[block]), 1)[1][:, 0]
    counts = np.bincount(assigned, minlength=lists.ntotal)
    return np.split(np.argsort(assigned, kind="stable"), np.cumsum(counts)[:-1])


def _fill(index: Any, indexer: Quantizes) -> None:
    """Give an untrained index the codebooks."""
    m, ksub, dsub = indexer.codebooks.shape
    books = np.zeros((m, 2**indexer.config.bits, dsub), np.float32)  # no code names a centroid that was not learned
    books[:, :ksub] = indexer.codebooks
    require_faiss().copy_array_to_vector(books.ravel(), index.pq.centroids)
    index.is_trained = True


def _packed(indexer: Quantizes, codes: Codes) -> Symbols:
    """(n, bytes): symbols of `bits` bits side by side, as faiss reads them."""
    packed: Symbols = require_faiss().pack_bitstrings(codes.values.astype(np.int32), indexer.config.bits)
    return packed


def _faiss_metric(indexer: Quantizes) -> int:
    faiss = require_faiss()
    return int(faiss.METRIC_INNER_PRODUCT if indexer.metric == "ip" else faiss.METRIC_L2)
