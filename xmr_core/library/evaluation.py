"""How good a space is: MAP by shared labels, or recall@K by pairs, both ways, beside chance; split and protocol stated.

A figure without its protocol says little: `Evaluation` carries the conditions that chose queries and database, their
sizes, the seed, the recipe and the fingerprint along with every value, and keeps them in `xmr.runs`.
"""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xmr_core import measures
from xmr_core.errors import ConfigError, DataError
from xmr_core.library.session import Session
from xmr_core.library.spaces import Space, check_seed
from xmr_core.options import as_int
from xmr_core.search.condition import Condition, Where, as_condition
from xmr_core.search.index import Index
from xmr_core.store import RunRecord, Store
from xmr_core.types import IMAGE, TEXT, Codes, Embeddings, Int

__all__ = ["Evaluation", "Figure", "Measure", "audit", "evaluate", "keep"]

Measure = Literal["map", "recall"]
PROTOCOLS = {
    "map": "MAP over the full ranking; relevant: shares a label; ties by their expectation; mean over all queries",
    "recall": "R@K over the whole database; rank of the best true item, ties count against it",
}
NAMES = {"map": "MAP", "recall": "R@K"}
TIMED = 20  # searches whose median an audit tells
RECALLS = {"R@1": "r1", "R@5": "r5", "R@10": "r10", "median rank": "median", "mean rank": "mean"}


@dataclass(frozen=True)
class Figure:
    """One value of one direction, beside what a random ranking gives."""

    measure: str
    queries: str  # their modality
    database: str
    value: float
    chance: float | None
    n_queries: int
    n_database: int


@dataclass(frozen=True)
class Evaluation:
    """Figures of a space, and all that is needed to say what they mean."""

    space: str
    version: int
    recipe: str
    fingerprint: str
    seed: int | None
    queries: str
    database: str
    protocol: str
    figures: Sequence[Figure] = field(default_factory=tuple)
    trained: int | None = None  # queries that the space was fitted on; None where the library does not know
    outside: int = 0  # queries whose true items all lie outside the database that was searched
    searched: str = "exhaustively, by the distances of the codes"  # an inexact index may find less; `audit` tells

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The figures as dicts, for tables and JSON."""
        return [asdict(figure) for figure in self.figures]

    def value(self, measure: str, queries: str) -> float:
        """One figure: `value("MAP", "image")` is picture to text. Raises KeyError."""
        for figure in self.figures:
            if (figure.measure, figure.queries) == (measure, queries):
                return figure.value
        raise KeyError((measure, queries))

    @property
    def remarks(self) -> list[str]:
        """What a reader of the figures must know beside the protocol, a sentence each."""
        said = [f"searched {self.searched}"]
        asked = sum(self._asked().values())
        if self.trained is None:
            said.append("which queries were trained on is not known")
        elif self.trained:
            said.append(
                f"TRAINED ON THE QUERIES: {self.trained:,} of {asked:,} were in the training set, "
                "so these figures do not tell how it does on new items"
            )
        else:
            said.append("no query was in the training set")
        if self.outside:
            said.append(
                f"{self.outside:,} of {asked:,} queries have no true item in the database; recall leaves them out"
            )
        return said

    def _asked(self) -> dict[str, int]:
        """How many queries there are of each modality."""
        return {row.queries: row.n_queries for row in self.figures}

    def __str__(self) -> str:
        lines = [
            f"{self.recipe} (space {self.space!r} version {self.version}, seed {self.seed}, {self.fingerprint[:12]})",
            f"queries: {self.queries}; database: {self.database}",
            self.protocol,
            *self.remarks,
            f"{'':16} {'direction':16} {'value':>8} {'chance':>8}",
        ]
        for row in self.figures:
            chance = "" if row.chance is None else f"{row.chance:8.4f}"
            way = f"{row.queries} to {row.database}"
            lines.append(f"{row.measure:16} {way:16} {row.value:8.4f} {chance:>8}  {row.n_queries} in {row.n_database}")
        return "\n".join(lines)


def evaluate(
    session: Session, space: str | None, queries: Where | None, database: Where | None, measure: Measure | None
) -> Evaluation:
    """See `Library.evaluate`."""
    with session.run():
        asked = None if queries is None else as_condition(queries)
        found = None if database is None else as_condition(database)
        return _evaluate(session.store, session.space(space), asked, found, measure)


def _evaluate(
    store: Store, space: Space, queries: Condition | None, database: Condition | None, measure: Measure | None
) -> Evaluation:
    queries = queries or _default_queries(store)
    chosen = _measures(store, measure)
    databases = {one: database or (queries.negated() if one == "map" else queries) for one in chosen}
    ways = [(a, b) for a, b in ((IMAGE, TEXT), (TEXT, IMAGE)) if {a, b} <= set(space.pipeline.modalities)]
    if not ways:
        raise DataError(f"space {space.name!r} has no two modalities to search between")
    figures, outside = [], 0
    for one in chosen:
        for asked, found in ways:
            made, missed = _direction(store, space, asked, found, queries, databases[one], one)
            figures += made
            outside += missed
    record = space.record
    told = set(databases.values())
    evaluation = Evaluation(
        record.name,
        record.version,
        record.recipe,
        record.fingerprint,
        record.seed,
        str(queries),
        str(told.pop()) if len(told) == 1 else "; ".join(f"{NAMES[one]}: {where}" for one, where in databases.items()),
        "; ".join(PROTOCOLS[one] for one in chosen),
        tuple(figures),
        _trained(store, space, queries, [asked for asked, _ in ways]),
        outside,
    )
    rows = ((f"evaluate {figure.queries} to {figure.database}", _values(figure)) for figure in evaluation.figures)
    keep(store, record.name, record.version, asdict(evaluation), rows)
    return evaluation


def _measures(store: Store, measure: Measure | None) -> list[Measure]:
    """The one that is asked for, or all that the data allow. Raises ConfigError, DataError."""
    counts = store.counts()
    labelled = bool(counts.get("labels"))
    if measure is None:
        able: list[tuple[Measure, bool]] = [("map", labelled), ("recall", bool(counts.get("pairs")))]
        return [one for one, possible in able if possible] or ["recall"]
    if not isinstance(measure, str) or measure not in PROTOCOLS:
        raise ConfigError("measure", measure, f"must be one of {', '.join(PROTOCOLS)}")
    if measure == "map" and not labelled:
        raise DataError("MAP needs labels, and no item has any; measure='recall' needs pairs alone")
    return [measure]


def _trained(store: Store, space: Space, queries: Condition, modalities: Sequence[str]) -> int | None:
    """How many of the queries the space was fitted on; None where the store does not know."""
    trained = store.training_ids(space.name, space.record.version)
    if trained is None:
        return None
    return sum(int(np.isin(store.ids(modality, queries), trained).sum()) for modality in modalities)


def audit(session: Session, k: Int, sample: Int, space: str | None, seed: Int) -> Mapping[str, float]:
    """See `Library.audit`."""
    most, count = as_int(k, "k", 1), as_int(sample, "sample", 1, error=ConfigError)
    loaded = session.space(space)
    seed = check_seed(seed)
    rng = np.random.default_rng(seed)
    recalls, rows = {}, []
    for modality in loaded.pipeline.modalities:
        ids = session.store.ids(modality)
        if not len(ids):
            continue
        chosen = np.sort(rng.choice(ids, min(count, len(ids)), replace=False))
        with session.run():
            queries = loaded.pipeline.embed(session.store.items(chosen, modality))
        index = loaded.index(modality)
        found, truth = index.search(queries, most).ids, loaded.index(modality, exact=True).search(queries, most).ids
        shared = [len(np.intersect1d(a[a >= 0], b[b >= 0])) for a, b in zip(found, truth, strict=True)]
        recalls[modality] = float(np.sum(shared) / max(1, (truth >= 0).sum()))
        told = {"milliseconds": _milliseconds(index, queries, most), "bytes": float(loaded.record.code_layout.nbytes)}
        rows.append((f"audit {modality}", {f"recall@{most}": recalls[modality], **told}))
    notes = {"recipe": loaded.record.recipe, "k": most, "sample": count, "seed": seed}
    keep(session.store, loaded.name, loaded.record.version, notes, rows)
    return recalls


def _milliseconds(index: Index, queries: Embeddings, k: int) -> float:
    """The median time of one search, encoded already, over the first queries."""
    taken = []
    for row in range(min(TIMED, len(queries))):
        query, start = queries.take(slice(row, row + 1)), time.perf_counter()
        index.search(query, k)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1e3


def _default_queries(store: Store) -> Condition:
    for split in ("query", "test"):
        if store.has_split(split):
            return Condition(f"split = '{split}'")
    raise DataError("which items are the queries? give a condition, like queries=\"split = 'test'\"")


def _direction(
    store: Store, space: Space, asked: str, found: str, queries: Condition, database: Condition, measure: Measure
) -> tuple[list[Figure], int]:
    """The figures of one direction, and how many queries have true items but none in the database (for recall)."""
    query_ids, database_ids = store.ids(asked, queries), store.ids(found, database)
    if not len(query_ids) or not len(database_ids):
        raise DataError(f"no {asked}s where {queries}" if not len(query_ids) else f"no {found}s where {database}")
    codes = store.get_codes(space.name, space.record.version, found)
    codes = codes.take(np.isin(codes.ids, database_ids))
    score = _score(space, space.pipeline.embed(store.items(query_ids, asked)), codes)
    if measure == "map":
        values, outside = _map(store, score, query_ids, codes.ids), 0
    else:
        values, outside = _recall(store, score, query_ids, codes.ids, asked)
    figures = [Figure(name, asked, found, value, chance, len(query_ids), len(codes)) for name, value, chance in values]
    return figures, outside


def _score(space: Space, queries: Embeddings, codes: Codes) -> measures.Score:
    indexer = space.pipeline.indexer

    def score(part: slice) -> NDArray[Any]:
        distances = indexer.distances(queries.take(part), codes)
        return distances.astype(np.int16) if queries.metric == "hamming" else distances  # whole numbers are counted

    return score


def _map(
    store: Store, score: measures.Score, query_ids: NDArray[np.int64], ids: NDArray[np.int64]
) -> list[tuple[str, float, float]]:
    labels, query_labels = store.labels(ids), store.labels(query_ids)
    value = measures.mean_average_precision(score, query_labels, labels)
    return [("MAP", value, measures.chance_map(query_labels, labels))]


def _recall(
    store: Store, score: measures.Score, query_ids: NDArray[np.int64], ids: NDArray[np.int64], asked: str
) -> tuple[list[tuple[str, float, float]], int]:
    links = store.links()[:, :: 1 if asked == IMAGE else -1]  # (p, 2) of query and item
    links = links[np.isin(links[:, 0], query_ids)]
    paired = len(np.unique(links[:, 0]))
    links = links[np.isin(links[:, 1], ids)]
    if not len(links):
        raise DataError(f"no {asked} among the queries has its true item in the database; recall needs some that do")
    places = np.stack([np.searchsorted(query_ids, links[:, 0]), np.searchsorted(ids, links[:, 1])], axis=1)
    ranks = measures.pair_ranks(score, places, (len(query_ids), len(ids)))
    made = measures.pair_recall(ranks)
    chance = measures.chance_pair_recall(np.bincount(places[:, 0], minlength=len(query_ids)), len(ids))
    figures = [(name, getattr(made, at), getattr(chance, at)) for name, at in RECALLS.items()]
    return figures, paired - len(np.unique(links[:, 0]))


def _values(figure: Figure) -> dict[str, float]:
    by_chance = {} if figure.chance is None else {f"{figure.measure} by chance": figure.chance}
    return {figure.measure: figure.value} | by_chance


def keep(
    store: Store, space: str, version: int, notes: Mapping[str, Any], figures: Iterable[tuple[str, Mapping[str, float]]]
) -> None:
    """Keep an evaluation in `xmr.runs` and `xmr.metrics`, unless the store is open for reading only."""
    run = uuid.uuid4().hex[:12]
    plain = {key: value for key, value in notes.items() if key not in ("figures", "space", "answerer", "version")}
    for what, values in figures if not store.read_only else ():
        store.put_run(RunRecord(run, space, version, what, 0, values, plain))
