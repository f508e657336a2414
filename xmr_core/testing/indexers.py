"""The laws of an Indexer and of the Index it builds, held against exact search over the same codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from xmr_core.errors import DataError, SpaceMismatchError, XmrError
from xmr_core.search.indexer import Indexer
from xmr_core.testing.contract import Answers, Case, Laws, assert_same, read_arrays, refuses, write_arrays
from xmr_core.testing.ground_truth import (
    QUERIES,
    TWINS,
    Ground,
    K,
    assert_alike,
    assert_ascending,
    assert_equal,
    assert_true,
    by_the_book,
    numbered,
    prepared,
    radius_of,
    samples_of,
    split,
)
from xmr_core.testing.sql import in_sql, of_stored_in_sql
from xmr_core.types import Embeddings, Hits, Layout, Metric

__all__ = ["IndexerCase", "IndexerLaws"]

METRICS: tuple[Metric, ...] = get_args(Metric)
SINGLES = 12  # rows that are encoded alone
ASKED = 8  # queries that are put to SQL


class IndexerCase(Case):
    """An indexer and vectors under each metric it takes, every twenty-fifth a query."""

    role = "indexer"

    def __init__(self, component: Indexer, embeddings: Embeddings | None = None) -> None:
        if embeddings is not None and len(embeddings) < 10 * QUERIES:
            raise DataError(f"samples for indexers: {10 * QUERIES} embeddings or more, got {len(embeddings)}")
        self.component: Indexer = component
        self.given = embeddings
        self.grounds: dict[str, Ground] = {}

    @property
    def metrics(self) -> list[Metric]:
        """Those that are tried."""
        if self.given is not None:
            return [self.given.metric]
        return [metric for metric in METRICS if metric in self.component.metrics]

    @cached_property
    def samples(self) -> Embeddings:
        """Embeddings under the first metric."""
        return samples_of(self.metrics[0]) if self.given is None else self.given

    @cached_property
    def parts(self) -> tuple[Embeddings, Embeddings]:
        """The samples as points and queries."""
        return split(self.samples)

    def ground(self, metric: Metric) -> Ground:
        """The ground under this metric; made once."""
        if metric not in self.grounds:
            first = metric == self.samples.metric
            points, queries = self.parts if first else split(samples_of(metric))
            fitted = self.fitted if first else self.component.fit(points)
            self.grounds[metric] = prepared(fitted, points, queries)
        return self.grounds[metric]

    def fit(self, component: Indexer) -> Indexer:
        return component.fit(self.parts[0])

    def answers(self, component: Indexer) -> Answers:
        points, queries = self.parts
        codes = component.encode(points, numbered(len(points)))
        hits = component.build(codes).search(queries, K)
        return {"codes": codes.values, "ids": hits.ids, "distances": hits.distances}

    def inputs(self) -> Iterator[tuple[str, NDArray[Any]]]:
        yield "embeddings", self.parts[0].values
        yield "queries", self.parts[1].values

    def save(self, folder: Path) -> None:
        write_arrays(folder / "samples.npz", {"values": self.samples.values, "metric": np.array(self.samples.metric)})

    @classmethod
    def load(cls, component: Indexer, folder: Path) -> Self:
        arrays = read_arrays(folder / "samples.npz")
        metric: Any = str(arrays["metric"])
        return cls(component, Embeddings(arrays["values"], metric))


class IndexerLaws(Laws):
    """The laws of an Indexer. Those that take a metric are tried under each that the indexer takes."""

    case: ClassVar[IndexerCase]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Try the laws under every metric."""
        if "metric" in metafunc.fixturenames:
            metafunc.parametrize("metric", self.case.metrics)

    # codes

    def test_it_declares_what_it_takes(self) -> None:
        component = self.case.component
        assert component.metrics and set(component.metrics) <= set(METRICS), f"metrics: expected some of {METRICS}"
        assert 0 < component.recall_floor <= 1, f"recall_floor={component.recall_floor}: a share is wanted"

    def test_fitting_by_blocks_is_fitting_at_once(self) -> None:
        fitted, points = self.case.fitted, self.case.parts[0]
        cut = len(points) // 3
        blocks = iter((points.take(slice(0, cut)), points.take(slice(cut, None))))
        made = self.case.component.fit_blocks(blocks)
        assert_same(made.state, fitted.state, "fitted block by block", exactly=True)

    def test_codes_keep_the_ids(self, metric: Metric) -> None:
        ground = self.case.ground(metric)
        assert np.array_equal(ground.codes.ids, ground.ids), "codes have other ids than they were given"

    def test_a_code_does_not_depend_on_its_batch(self, metric: Metric) -> None:
        ground = self.case.ground(metric)
        half = len(ground.points) // 2
        for rows in [slice(0, half), slice(half, None), *(slice(i, i + 1) for i in range(SINGLES))]:
            alone = ground.indexer.encode(ground.points.take(rows), ground.ids[rows]).values
            assert_same(
                {"codes": alone}, {"codes": ground.codes.values[rows]}, f"rows {rows}, encoded alone", exactly=True
            )

    def test_any_array_of_numbers_gives_the_same_codes(self, metric: Metric) -> None:
        ground = self.case.ground(metric)
        values = np.repeat(ground.points.values, 2, axis=1)[:, ::2]  # not contiguous
        wide = values if metric == "hamming" else values.astype(np.float64)
        for what, array in {"a non-contiguous array": values, "float64": wide}.items():
            codes = ground.indexer.encode(Embeddings(array, metric), ground.ids).values
            assert_same({"codes": codes}, {"codes": ground.codes.values}, f"from {what}", exactly=True)

    def test_an_item_is_near_its_own_code(self, metric: Metric) -> None:
        ground = self.case.ground(metric)
        some = slice(0, QUERIES)
        distances = ground.indexer.distances(ground.points.take(some), ground.codes)  # (some, n)
        own, others = np.diagonal(distances), np.median(distances, axis=1)
        assert (own < others).mean() > 0.9, "items are no nearer to their own codes than to others'; smaller is nearer"

    def test_plain_distances_are_those_of_the_metric(self, metric: Metric) -> None:
        ground = self.case.ground(metric)
        layout = Layout.bits if metric == "hamming" else Layout.vectors
        if ground.codes.layout != layout(ground.points.dim):
            pytest.skip(f"codes of layout {ground.codes.layout.name!r} do not hold what was encoded")
        off = np.abs(ground.truth - by_the_book(ground.queries, ground.points)).max()
        assert off <= ground.slack, f"distances() differ by up to {off:.3g} from {metric} worked out in float64"

    def test_no_distance_is_nan(self, metric: Metric) -> None:
        ground = self.case.ground(metric)
        nothing = Embeddings(np.zeros_like(ground.queries.values[:1]), metric)
        assert not np.isnan(ground.indexer.distances(nothing, ground.codes)).any(), f"zeros gave NaN under {metric}"
        assert not np.isnan(ground.index.search(nothing, K).distances).any(), f"zeros gave NaN under {metric}"

    # refusals

    def test_nan_is_refused(self, metric: Metric) -> None:
        ground = self.case.ground(metric)
        if metric == "hamming":
            pytest.skip("bits know no NaN")
        values = ground.points.values[:2].copy()
        values[1, 0] = np.nan
        with refuses(DataError, "NaN among the vectors"):
            ground.indexer.encode(Embeddings(values, metric), ground.ids[:2])

    def test_another_width_is_refused(self, metric: Metric) -> None:
        ground = self.case.ground(metric)
        wider = Embeddings(np.concatenate([ground.queries.values] * 2, axis=1), metric)
        with refuses(DataError, "a query of twice the width"):
            ground.index.search(wider, K)
        if self.case.component.needs_fit:
            with refuses(DataError, "a vector of twice the width"):
                ground.indexer.encode(wider, ground.ids[: len(wider)])

    def test_another_metric_is_refused(self, metric: Metric) -> None:
        ground = self.case.ground(metric)
        other = next((other for other in METRICS if other not in self.case.component.metrics), None)
        if other is None:
            pytest.skip("it takes every metric")
        strange = samples_of(other, n=len(ground.ids))
        with refuses(SpaceMismatchError, f"a query under {other}"):
            ground.index.search(strange.take(slice(0, 3)), K)
        with refuses(DataError, f"vectors under {other}"):
            ground.indexer.encode(strange, ground.ids)

    def test_a_search_for_nothing_is_refused(self) -> None:
        ground = self.case.ground(self.case.metrics[0])
        strange: tuple[tuple[Any, Any], ...] = ((True, None), (2.0, None), (K, "10"))
        for k, within in ((0, None), (-1, None), (None, None), (K, float("nan")), *strange):
            with refuses(DataError, f"k={k!r}, within={within!r}"):
                ground.index.search(ground.queries, k, within)
        no_ids: tuple[Any, ...] = (ground.ids[:3] / 2, ground.ids > 9, np.array(["a"]))
        for among in no_ids:
            with refuses(DataError, f"among={among[:3]}"):
                ground.index.search(ground.queries, K, among=among)

    # hits

    def test_hits_are_ids_and_distances(self, metric: Metric) -> None:
        ground = self.case.ground(metric)
        hits = ground.index.search(ground.queries, K)
        assert hits.ids.shape == (len(ground.queries), K), f"ids: expected (q, k), got {hits.ids.shape}"
        assert hits.ids.dtype == np.int64, f"ids: expected int64, got {hits.ids.dtype}"
        assert hits.distances.dtype == np.float32, f"distances: expected float32, got {hits.distances.dtype}"
        assert len(ground.index) == len(ground.ids), f"len(index) is {len(ground.index)} for {len(ground.ids)} codes"

    def test_distances_are_true_and_ascending(self, metric: Metric) -> None:
        ground = self.case.ground(metric)
        hits = ground.index.search(ground.queries, K)
        assert_true(ground, hits, "search")
        assert (hits.ids >= 0).all(), f"fewer than {K} hits were found among {len(ground.ids)}"

    def test_it_finds_itself(self, metric: Metric) -> None:
        ground = self.case.ground(metric)
        some = slice(0, None, len(ground.ids) // QUERIES)
        points = ground.points.take(some)
        hits = ground.index.search(points, K)
        own = ground.ids[some]
        codes = ground.codes.take(some)
        distances = np.diagonal(ground.indexer.distances(points, codes))
        found = (hits.ids == own[:, None]).any(axis=1) | (distances >= hits.distances[:, -1] - ground.slack)
        floor = 1.0 if ground.indexer.exact else ground.indexer.recall_floor
        assert found.mean() >= floor, f"{1 - found.mean():.0%} of items are not found by their own embedding"

    def test_ties_go_to_the_smaller_id(self, metric: Metric) -> None:
        ground = self.case.ground(metric)
        for k in (2, K, 3 * K):
            hits = ground.index.search(ground.points.take(slice(0, TWINS)), k)
            assert_ascending(hits, f"search with k={k}")
            for twin in range(TWINS if ground.indexer.exact else 0):
                twins = ground.ids[(ground.codes.values == ground.codes.values[twin]).all(axis=1)]
                found = hits.ids[twin][np.isin(hits.ids[twin], twins)]
                assert np.array_equal(found, twins[: len(found)]), f"k={k}: of the equals {twins}, it found {found}"

    def test_a_query_does_not_depend_on_its_batch(self, metric: Metric) -> None:
        ground = self.case.ground(metric)
        hits = ground.index.search(ground.queries, K)
        for i in range(5):
            alone = ground.index.search(ground.queries.take(slice(i, i + 1)), K)
            assert_equal(alone, Hits(hits.ids[i : i + 1], hits.distances[i : i + 1]), ground.slack, f"query {i} alone")

    def test_no_queries_give_no_hits(self) -> None:
        ground = self.case.ground(self.case.metrics[0])
        hits = ground.index.search(ground.queries.take(slice(0, 0)), K)
        assert hits.ids.shape == (0, K), f"no queries gave hits of shape {hits.ids.shape}"

    def test_more_than_there_are_is_padded(self, metric: Metric) -> None:
        ground = self.case.ground(metric)
        few = ground.indexer.build(ground.codes.take(slice(0, 7)))
        hits = few.search(ground.queries, K)
        assert hits.ids.shape == (len(ground.queries), K), f"k={K} over 7 codes gave {hits.ids.shape}"
        assert (hits.ids[:, :7] >= 0).all(), "k was larger than the collection, and not all of it was found"
        assert (hits.ids[:, 7:] == -1).all(), f"-1 is wanted where fewer than k exist, got {hits.ids[0, 7:]}"
        assert np.isposinf(hits.distances[:, 7:]).all(), f"inf is wanted there, got {hits.distances[0, 7:]}"
        assert_true(ground, hits, "search over 7 codes")

    def test_an_empty_collection_finds_nothing(self, metric: Metric) -> None:
        ground = self.case.ground(metric)
        nothing = ground.indexer.encode(ground.points.take(slice(0, 0)), ground.ids[:0])
        for codes in (nothing, ground.codes.take(slice(0, 0))):
            index = ground.indexer.build(codes)
            hits = index.search(ground.queries, K)
            assert len(index) == 0 and hits.ids.shape == (len(ground.queries), K), f"got {hits.ids.shape}"
            assert (hits.ids == -1).all() and np.isposinf(hits.distances).all(), "an empty collection gave hits"
            assert (index.search(ground.queries, None, within=1.0).ids == -1).all(), "an empty collection gave hits"

    def test_numbers_may_be_those_of_numpy(self, metric: Metric) -> None:
        ground = self.case.ground(metric)
        radius, small = int(np.ceil(radius_of(ground))), ground.ids[:-1:2]  # the last id is beyond 32 bits
        for k, within, among in ((K, None, None), (K, radius, small), (None, radius, None), (len(small), None, small)):
            want = ground.index.search(ground.queries, k, within, among)
            for whole, real in ((np.int64, np.float64), (np.int32, np.float32), (np.int16, np.int64)):
                hits = ground.index.search(
                    ground.queries,
                    None if k is None else whole(k),
                    None if within is None else real(within),
                    None if among is None else among.astype(np.int32),
                )
                assert_equal(hits, want, 0.0, f"{whole.__name__} k={k} and {real.__name__} within={within}")

    # radius

    def test_within_holds_for_every_hit(self, metric: Metric) -> None:
        ground = self.case.ground(metric)
        radius = radius_of(ground)
        for k in (3, K, None):
            hits = ground.index.search(ground.queries, k, within=radius)
            assert_true(ground, hits, f"search within {radius:.4g} with k={k}")
            assert (hits.distances[hits.ids >= 0] <= radius).all(), f"hits lie farther than within={radius}"
            self._recalls(ground, hits, ground.exact(k, radius), f"within={radius:.4g}, k={k}")

    def test_nothing_within_is_no_hit(self, metric: Metric) -> None:
        ground = self.case.ground(metric)
        none = float(ground.truth.min()) - 1.0 - abs(float(ground.truth.min()))
        for k in (K, None):
            hits = ground.index.search(ground.queries, k, within=none)
            assert (hits.ids == -1).all(), f"hits lie farther than within={none}"
            assert k is None or hits.ids.shape[1] == k, f"k={k} gave hits of shape {hits.ids.shape}"

    # filters

    def test_a_filter_lets_only_its_ids_through(self, metric: Metric) -> None:
        ground = self.case.ground(metric)
        for every in (2, 10, 50):
            among = ground.ids[::every]
            hits = ground.index.search(ground.queries, K, among=among)
            assert np.isin(hits.ids[hits.ids >= 0], among).all(), "hits are not among those that were allowed"
            assert_true(ground, hits, f"search among every {every}th")
            self._recalls(ground, hits, ground.exact(K, among=among), f"among every {every}th id")

    def test_a_filter_never_costs_hits(self, metric: Metric) -> None:
        ground = self.case.ground(metric)
        for i in range(5):
            farthest = np.sort(ground.ids[np.argsort(ground.truth[i], kind="stable")[-2 * K :]])
            hits = ground.index.search(ground.queries.take(slice(i, i + 1)), K, among=farthest)
            assert (hits.ids >= 0).all(), f"{2 * K} ids were allowed, far from the query; {(hits.ids >= 0).sum()} found"

    def test_a_filter_of_few_none_or_strangers_is_padded(self, metric: Metric) -> None:
        ground = self.case.ground(metric)
        strangers = np.array([0, ground.ids[-1] + 1])
        few = ground.ids[[3, 40, 41]]
        cases = {"3 ids": few, "no id": few[:0], "unknown ids": strangers, "both": np.union1d(few, strangers)}
        for what, among in cases.items():
            hits = ground.index.search(ground.queries, K, among=among)
            want = ground.exact(K, among=among)
            assert np.array_equal(np.sort(hits.ids), np.sort(want.ids)), f"among {what}: found {hits.ids[0]}"
            assert_true(ground, hits, f"search among {what}")

    def test_radius_and_filter_go_together(self, metric: Metric) -> None:
        ground = self.case.ground(metric)
        radius, among = radius_of(ground), ground.ids[::2]
        hits = ground.index.search(ground.queries, None, within=radius, among=among)
        assert np.isin(hits.ids[hits.ids >= 0], among).all(), "hits are not among those that were allowed"
        assert (hits.distances[hits.ids >= 0] <= radius).all(), "hits lie farther than allowed"
        self._recalls(ground, hits, ground.exact(None, radius, among), "a radius and a filter")

    # quality

    def test_recall_is_above_its_floor(self, metric: Metric) -> None:
        ground = self.case.ground(metric)
        self._recalls(ground, ground.index.search(ground.queries, K), ground.exact(), f"search under {metric}")

    def test_exact_is_exact(self, metric: Metric) -> None:
        ground = self.case.ground(metric)
        if not ground.indexer.exact:
            pytest.skip(f"{ground.indexer.name} is not exact")
        for k in (1, K, len(ground.ids) + 3):
            hits = ground.index.search(ground.queries, k)
            assert hits.exact, "an exact indexer's hits must say so: Hits(..., exact=True)"
            assert_alike(ground, hits, ground.exact(k), f"exact search with k={k}")

    def test_hits_that_say_exact_are(self, metric: Metric) -> None:
        ground = self.case.ground(metric)
        hits = ground.index.search(ground.queries, K)
        if hits.exact:
            assert_alike(ground, hits, ground.exact(), "hits that say exact=True")

    # SQL

    def test_sql_gives_the_same_list(self, metric: Metric, tmp_path: Path) -> None:
        whole = self.case.ground(metric)
        ground = replace(whole, queries=whole.queries.take(slice(0, ASKED)), truth=whole.truth[:ASKED])
        assert_alike(ground, in_sql(ground.indexer, ground.codes, ground.queries, K, tmp_path), ground.exact(), "SQL")

    def test_a_stored_item_asks_in_sql_as_its_vector_does(self, metric: Metric, tmp_path: Path) -> None:
        whole, rows = self.case.ground(metric), slice(0, ASKED)
        asked, ids = whole.points.take(rows), whole.ids[rows]
        ground = replace(whole, queries=asked, truth=whole.indexer.distances(asked, whole.codes))
        found = of_stored_in_sql(ground.indexer, ground.codes, ground.points, ids, K, tmp_path)
        want = ground.exact(K + 1)
        keep = np.argsort(want.ids == ids[:, None], axis=1, kind="stable")[:, :K]  # all but the item itself
        rows_of = np.arange(len(ids))[:, None]
        want = Hits(want.ids[rows_of, keep], want.distances[rows_of, keep], exact=True)
        assert_alike(ground, found, want, "stored items in SQL")

    # cache

    def test_a_saved_index_gives_the_same_hits(self, tmp_path: Path) -> None:
        ground, folder = self._saved(tmp_path)
        loaded = ground.indexer.load_index(folder, ground.codes)
        assert loaded is not None, "load_index gave None for what save has just written"
        want = ground.index.search(ground.queries, K)
        assert_equal(loaded.search(ground.queries, K), want, ground.slack, "from the saved index")

    def test_a_missing_cache_is_no_index(self, tmp_path: Path) -> None:
        ground = self.case.ground(self.case.metrics[0])
        assert ground.indexer.load_index(tmp_path, ground.codes) is None, "load_index made an index of an empty folder"

    def test_a_truncated_cache_is_not_believed(self, tmp_path: Path) -> None:
        ground, folder = self._saved(tmp_path)
        want = ground.index.search(ground.queries, K)
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            whole = file.read_bytes()
            file.write_bytes(whole[: len(whole) // 2])
            with suppress(XmrError, OSError, ValueError, RuntimeError):  # the library builds anew after these
                loaded = ground.indexer.load_index(folder, ground.codes)
                if loaded is not None:
                    found = loaded.search(ground.queries, K)
                    assert_equal(found, want, ground.slack, f"an index whose {file.name} was cut in half")
            file.write_bytes(whole)

    def _saved(self, folder: Path) -> tuple[Ground, Path]:
        ground = self.case.ground(self.case.metrics[0])
        if not ground.index.save(folder):
            assert not any(folder.iterdir()), "save returned False and left files"
            pytest.skip(f"{ground.indexer.name} keeps no index: building is as quick")
        return ground, folder

    @staticmethod
    def _recalls(ground: Ground, hits: Hits, want: Hits, what: str) -> None:
        """Assert that hits recall what exact search found, but for the share that the indexer does not promise."""
        floor = 1.0 if ground.indexer.exact else ground.indexer.recall_floor
        wanted = (want.ids >= 0).sum()
        bound = np.where(want.ids >= 0, want.distances, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
        found = ((ground.true_distances(hits) <= bound + ground.slack) & (hits.ids >= 0)).sum()
        recall = float(found / wanted) if wanted else 1.0
        assert recall >= floor, f"{what}: recall {recall:.3f}, promised is {floor}"
