"""The contract suites themselves: components that keep the contract pass, and each way to break it is noticed."""

from __future__ import annotations

import inspect
import subprocess
import sys
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

import xmr_core as xmr
from xmr_core.images import check_images, decode_images
from xmr_core.options import Range
from xmr_core.search.distances import distances
from xmr_core.search.hits import positions_of
from xmr_core.search.vector_indexer import vector_form
from xmr_core.testing import clustered, conformance, feature_pairs, pairs
from xmr_core.testing.contract import Laws
from xmr_hamming.sql import bit_form

# components that keep the contract


class CentredIndex(xmr.ExactIndex):
    def save(self, folder):
        np.savez(folder / "index.npz", ids=self.codes.ids, values=self.codes.values)
        return True


@dataclass(frozen=True)
class CentredConfig:
    scale: float = 1.0
    names: tuple[str, ...] = ("a", "b")
    seed: int = 0


class Centred(xmr.Indexer):
    """Vectors less their mean."""

    name = "centred"
    Config: type[Any] = CentredConfig
    metrics = frozenset({"l2"})
    exact = True
    index: type[xmr.Index] = CentredIndex

    def fit(self, embeddings):
        return self.with_state({"mean": super().queries(embeddings).values.mean(axis=0)})

    def queries(self, embeddings):
        self.require_fit()
        if super().queries(embeddings).dim != len(self.state["mean"]):
            raise xmr.DataError(f"expected {len(self.state['mean'])} dimensions, got {embeddings.dim}")
        return embeddings

    def encode(self, embeddings, ids):
        return xmr.Codes.of_vectors(ids, self.queries(embeddings).values - self.state["mean"])

    def distances(self, queries, codes):
        return distances(queries.values - self.state["mean"], codes.vectors, "l2")

    def build(self, codes):
        return self.index(self, codes)

    def load_index(self, folder, codes):
        try:
            with np.load(folder / "index.npz", allow_pickle=False) as saved:
                fits = np.array_equal(saved["ids"], codes.ids) and np.array_equal(saved["values"], codes.values)
        except Exception:
            return None
        return self.index(self, codes) if fits else None


class Mean(xmr.Fuser):
    """The mean of what an item has, less the mean of all."""

    name = "mean"
    accepts = frozenset({"vector", "regions"})
    metric = "cosine"

    def fit(self, pairs):
        return self.with_state({"centre": self.means(pairs.images).mean(axis=0)})

    def means(self, features):
        if not np.isfinite(features.values).all():
            raise xmr.DataError("features hold NaN")
        mask = np.ones(features.values.shape[:2], bool) if features.mask is None else features.mask
        values = features.values.astype(np.float32)  # regions may come as float16
        return (values * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)  # (n, d)

    def fuse(self, features):
        self.require_fit()
        if features.values.shape[2] != len(self.state["centre"]):
            raise xmr.DataError(f"expected {len(self.state['centre'])} dimensions")
        return xmr.Embeddings(self.means(features) - self.state["centre"], self.metric)

    def attention(self, features):
        mask = np.ones(features.values.shape[:2], bool) if features.mask is None else features.mask
        return (mask / mask.sum(axis=1, keepdims=True))[:, None].astype(np.float32)


class Thumbnail(xmr.Encoder):
    """A picture as 4 x 4 pixels, a sentence as the hashes of its words."""

    name = "thumbnail"
    dim = 48

    def fit(self, pairs):
        return self.with_state({"mean": self.thumbnails(pairs.images).mean(axis=0)})

    def thumbnails(self, items):
        small = decode_images(items, lambda picture: np.asarray(picture.resize((4, 4)), np.float32).ravel())
        return np.array(list(small), np.float32).reshape(len(items), self.dim)

    def words(self, items):
        empty = [key for key, text in zip(items.keys, items.data, strict=True) if not text.strip()]
        if empty:
            raise xmr.DataError(f"empty: {', '.join(empty)}", empty)
        counts = np.zeros((len(items), self.dim), np.float32)
        for row, text in zip(counts, items.data, strict=True):
            for word in text.split():
                row[zlib.crc32(word.encode()) % self.dim] += 1
        return counts

    def encode(self, items):
        self.require_fit()
        self.require_modality(items.modality)
        if items.modality == xmr.TEXT:
            return xmr.Features.of_vectors(items.modality, self.words(items))
        return xmr.Features.of_vectors(items.modality, self.thumbnails(items) - self.state["mean"])


class Double(xmr.Fuser):
    """Learns nothing, so needs no fit."""

    name = "double"
    needs_fit = False
    metric = "cosine"

    def fuse(self, features):
        return xmr.Embeddings(2 * features.vectors, self.metric)


class Bits(xmr.Indexer):
    """Bits as they are."""

    name = "bits"
    metrics = frozenset({"hamming"})
    exact = True
    needs_fit = False

    def encode(self, embeddings, ids):
        embeddings = self.queries(embeddings)
        return xmr.Codes(ids, embeddings.values, xmr.Layout.bits(embeddings.dim))

    def distances(self, queries, codes):
        if queries.dim != codes.layout.dim:
            raise xmr.DataError(f"expected {codes.layout.dim} bits, got {queries.dim}")
        return np.bitwise_count(queries.values[:, None] ^ codes.values).sum(axis=2).astype(np.float32)

    def build(self, codes):
        return xmr.ExactIndex(self, codes)

    def sql_form(self, layout, metric):
        return bit_form(layout.dim)


TestCentred = conformance("indexer", Centred, config={"names": ("x", "y")})
TestCentredOnGivenSamples = conformance("indexer", Centred, samples=clustered("l2", n=400, dim=7))
TestBits = conformance("indexer", Bits)
TestMean = conformance("fuser", Mean)
TestMeanOnRegions = conformance("fuser", Mean, samples=feature_pairs("regions", "vector"))
TestDouble = conformance("fuser", Double)
TestThumbnail = conformance("encoder", Thumbnail)
TestThumbnailOnGivenSamples = conformance("encoder", Thumbnail, samples=pairs(12, seed=5))


# indexers that break it


class ReturnsItself(Centred):
    def fit(self, embeddings):
        self.state = super().fit(embeddings).state
        return self


class GoesOnFitting(Centred):
    def fit(self, embeddings):
        return self.with_state({"mean": embeddings.values.mean(axis=0) + self.state.get("mean", 0)})


class AsksTheGlobalGenerator(Centred):
    def fit(self, embeddings):
        return self.with_state({"mean": np.random.random(embeddings.dim).astype(np.float32)})  # noqa: NPY002


class WritesIntoItsInput(Centred):
    def encode(self, embeddings, ids):
        values = self.queries(embeddings).values
        values -= self.state["mean"]
        return xmr.Codes.of_vectors(ids, values)


class WorksUnfitted(Centred):
    def queries(self, embeddings):
        return embeddings if not self.fitted else super().queries(embeddings)

    def encode(self, embeddings, ids):
        return super().encode(embeddings, ids) if self.fitted else xmr.Codes.of_vectors(ids, embeddings.values)

    def distances(self, queries, codes):
        return distances(queries.values, codes.vectors, "l2")


class KeepsItsMeanToItself(Centred):
    mean: Any = 0

    def fit(self, embeddings):
        fitted = super().fit(embeddings)
        fitted.mean = embeddings.values.mean(axis=0)
        return fitted

    def encode(self, embeddings, ids):
        return xmr.Codes.of_vectors(ids, self.queries(embeddings).values - self.mean)

    def distances(self, queries, codes):
        return distances(queries.values - self.mean, codes.vectors, "l2")


class KeepsObjects(Centred):
    def fit(self, embeddings):
        return self.with_state(super().fit(embeddings).state | {"why": np.array([{"a": 1}], object)})


class FingerprintsItsProcess(Centred):
    def weights_digest(self):
        return str(id(type(self)))


class CentresEachBatch(Centred):
    def encode(self, embeddings, ids):
        values = self.queries(embeddings).values
        return xmr.Codes.of_vectors(ids, values - (values.mean(axis=0) if len(values) else 0))


class NegatesDistances(Centred):
    def distances(self, queries, codes):
        return -super().distances(queries, codes)


class DividesByZero(Centred):
    def distances(self, queries, codes):
        norms = np.linalg.norm(queries.values, axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):
            return super().distances(queries, codes) * (norms / norms)


class TakesAnyMetric(Centred):
    def queries(self, embeddings):
        return embeddings


class TakesAnyWidth(Centred):
    def queries(self, embeddings):
        self.require_fit()
        width = len(self.state["mean"])
        return xmr.Embeddings(embeddings.values[:, :width], xmr.Indexer.queries(self, embeddings).metric)


class LosesIds(Centred):
    def encode(self, embeddings, ids):
        return super().encode(embeddings, np.arange(len(ids)))


class CannotBeEmpty(Centred):
    def build(self, codes):
        if not len(codes):
            raise ValueError("no codes")
        return super().build(codes)


class LeavesTheMeanOutOfSql(Centred):
    def sql_form(self, layout, metric):
        return vector_form(layout.dim, "l2")


class BelievesATruncatedCache(Centred):
    def load_index(self, folder, codes):
        file = folder / "index.npz"
        if not file.exists():
            return None
        if file.stat().st_size < codes.values.nbytes:
            return self.index(self, codes.take(slice(0, len(codes) // 2)))
        return super().load_index(folder, codes)


class KeepsAListOfDicts(Centred):
    @dataclass(frozen=True)
    class Config:
        scale: object = field(default_factory=lambda: np.float32(1))


class ThawedConfig(Centred):
    @dataclass
    class Config:
        scale: float = 1.0


class HidesItsOptions(Centred):
    def __repr__(self):
        return "centred(...)"


class TakesAnyOption(Centred):
    def __init__(self, config=None, state=None, **options):
        super().__init__(config, state)


class TakesAnyVersion(Centred):
    @classmethod
    def load(cls, options, state, version):
        return super().load(options, state, cls.version)


class SaysNothingOfAnOption(Centred):
    @dataclass(frozen=True)
    class Config:
        scale: Annotated[float, Range(0, 9), "scale of the vectors"] = 1.0
        seed: int = 0


class StartsOutOfItsRange(Centred):
    @dataclass(frozen=True)
    class Config:
        scale: Annotated[float, Range(0, 9), "scale of the vectors"] = 10.0


class RefusesItsOwnEdge(Centred):
    @dataclass(frozen=True)
    class Config:
        scale: Annotated[int, Range(1, 9), "scale of the vectors"] = 1

        def __post_init__(self):
            if self.scale == 9:
                raise xmr.ConfigError("scale", self.scale, "must be between 1 and 9")


class ClampsItsOptions(Centred):
    @dataclass(frozen=True)
    class Config:
        scale: Annotated[int, Range(1, 9), "scale of the vectors"] = 1

    def __init__(self, config=None, state=None, **options):
        if "scale" in options:
            options["scale"] = max(1, min(options["scale"], 9)) if isinstance(options["scale"], int) else 1
        super().__init__(config, state, **options)


# indexes that break it, each one search that goes wrong


class Reversed(CentredIndex):
    def search(self, queries, k=10, within=None, among=None):
        hits = super().search(queries, k, within, among)
        return xmr.Hits(hits.ids[:, ::-1], hits.distances[:, ::-1], True)


class GivesTiesToTheLargerId(CentredIndex):
    def search(self, queries, k=10, within=None, among=None):
        hits = super().search(queries, len(self), within, among)
        order = np.lexsort((-hits.ids, hits.distances), axis=1)[:, :k]
        return xmr.Hits(np.take_along_axis(hits.ids, order, 1), np.take_along_axis(hits.distances, order, 1), True)


class CutsTiesAnywhere(CentredIndex):
    def search(self, queries, k=10, within=None, among=None):
        hits = super().search(queries, k and k + 2, within, among)
        if k != 2:
            return super().search(queries, k, within, among)
        return xmr.Hits(hits.ids[:, 2:], hits.distances[:, 2:], True)


class FiltersAfterwards(CentredIndex):
    def search(self, queries, k=10, within=None, among=None):
        if among is None:
            return super().search(queries, k, within)
        hits = super().search(queries, 50, within)
        distances = np.where(np.isin(hits.ids, among), hits.distances, np.inf)
        return xmr.select(distances, np.where(np.isfinite(distances), hits.ids, -1), k, within)


class IgnoresTheFilter(CentredIndex):
    def search(self, queries, k=10, within=None, among=None):
        return super().search(queries, k, within)


class ChokesOnStrangers(CentredIndex):
    def search(self, queries, k=10, within=None, among=None):
        if among is not None and len(positions_of(self.codes.ids, among)) != len(among):
            raise KeyError("unknown id")
        return super().search(queries, k, within, among)


class IgnoresTheRadius(CentredIndex):
    def search(self, queries, k=10, within=None, among=None):
        return super().search(queries, k or len(self), None, among)


class LeavesTheRimOut(CentredIndex):
    def search(self, queries, k=10, within=None, among=None):
        return super().search(queries, k, None if within is None else 0.9 * within, among)


class IsNotPadded(CentredIndex):
    def search(self, queries, k=10, within=None, among=None):
        return super().search(queries, k and min(k, len(self)), within, among)


class PadsWithZeros(CentredIndex):
    def search(self, queries, k=10, within=None, among=None):
        hits = super().search(queries, k, within, among)
        return xmr.Hits(hits.ids, np.where(hits.ids < 0, 0, hits.distances).astype(np.float32), True)


class SquaresDistances(CentredIndex):
    def search(self, queries, k=10, within=None, among=None):
        hits = super().search(queries, k, within, among)
        return replace(hits, distances=hits.distances**2)


class ReturnsPositions(CentredIndex):
    def search(self, queries, k=10, within=None, among=None):
        hits = super().search(queries, k, within, among)
        return replace(hits, ids=np.where(hits.ids < 0, -1, np.searchsorted(self.codes.ids, hits.ids)))


class HasShortIds(CentredIndex):
    def search(self, queries, k=10, within=None, among=None):
        hits = super().search(queries, k, within, among)
        return replace(hits, ids=hits.ids.astype(np.int32))


class LooksAtHalf(CentredIndex):
    def search(self, queries, k=10, within=None, among=None):
        return type(self).__base__(self.indexer, self.codes.take(slice(0, None, 2))).search(queries, k, within, among)


class SearchesForNothing(CentredIndex):
    def search(self, queries, k=10, within=None, among=None):
        return super().search(queries, max(k or 10, 1), None if within != within else within, among)


class DependsOnItsBatch(CentredIndex):
    def search(self, queries, k=10, within=None, among=None):
        values = queries.values - 0.1 * queries.values.mean(axis=0) if len(queries) else queries.values
        return super().search(xmr.Embeddings(values, queries.metric), k, within, among)


class CountsInPythonAlone(CentredIndex):
    def search(self, queries, k=10, within=None, among=None):
        if not isinstance(k, int | None):
            raise TypeError("'int' object expected")
        return super().search(queries, k, within, among)


class TakesAMaskForIds(CentredIndex):
    def search(self, queries, k=10, within=None, among=None):
        return super().search(queries, k, within, None if among is None else np.asarray(among).astype(np.int64))


class IgnoresThePositions(CentredIndex):
    def _search(self, queries, k, within, positions):
        return self._exhaustive(queries, k, within, None)


class SavesNothing(CentredIndex):
    def save(self, folder):
        return True


INDEXERS = [
    (ReturnsItself, "test_fit_returns_a_new_component"),
    (GoesOnFitting, "test_fit_twice_is_fit_once"),
    (AsksTheGlobalGenerator, "test_fit_twice_is_fit_once"),
    (AsksTheGlobalGenerator, "test_global_random_numbers_are_left_alone"),
    (WritesIntoItsInput, "test_inputs_are_left_alone"),
    (WorksUnfitted, "test_unfitted_says_so"),
    (KeepsItsMeanToItself, "test_its_state_survives_disk"),
    (KeepsItsMeanToItself, "test_its_state_survives_a_new_process"),
    (KeepsObjects, "test_its_state_is_plain_arrays"),
    (FingerprintsItsProcess, "test_its_state_survives_a_new_process"),
    (CentresEachBatch, "test_a_code_does_not_depend_on_its_batch"),
    (NegatesDistances, "test_plain_distances_are_those_of_the_metric"),
    (NegatesDistances, "test_an_item_is_near_its_own_code"),
    (DividesByZero, "test_no_distance_is_nan"),
    (TakesAnyMetric, "test_another_metric_is_refused"),
    (TakesAnyWidth, "test_another_width_is_refused"),
    (LosesIds, "test_codes_keep_the_ids"),
    (CannotBeEmpty, "test_an_empty_collection_finds_nothing"),
    (LeavesTheMeanOutOfSql, "test_sql_gives_the_same_list"),
    (BelievesATruncatedCache, "test_a_truncated_cache_is_not_believed"),
    (KeepsAListOfDicts, "test_its_config_survives_json"),
    (ThawedConfig, "test_its_config_is_a_frozen_dataclass"),
    (HidesItsOptions, "test_its_repr_is_a_recipe"),
    (TakesAnyOption, "test_an_unknown_option_is_refused"),
    (TakesAnyVersion, "test_a_state_of_another_version_is_refused"),
    (SaysNothingOfAnOption, "test_every_option_has_a_meaning"),
    (StartsOutOfItsRange, "test_its_defaults_are_allowed"),
    (RefusesItsOwnEdge, "test_the_edges_of_a_range_are_allowed"),
    (ClampsItsOptions, "test_one_step_beyond_a_range_is_refused"),
    (ClampsItsOptions, "test_a_value_of_another_type_is_refused"),
]

INDEXES = [
    (Reversed, "test_distances_are_true_and_ascending"),
    (GivesTiesToTheLargerId, "test_ties_go_to_the_smaller_id"),
    (CutsTiesAnywhere, "test_ties_go_to_the_smaller_id"),
    (CountsInPythonAlone, "test_numbers_may_be_those_of_numpy"),
    (TakesAMaskForIds, "test_a_search_for_nothing_is_refused"),
    (IgnoresThePositions, "test_a_filter_lets_only_its_ids_through"),
    (FiltersAfterwards, "test_a_filter_never_costs_hits"),
    (IgnoresTheFilter, "test_a_filter_lets_only_its_ids_through"),
    (ChokesOnStrangers, "test_a_filter_of_few_none_or_strangers_is_padded"),
    (IgnoresTheFilter, "test_radius_and_filter_go_together"),
    (IgnoresTheRadius, "test_within_holds_for_every_hit"),
    (IgnoresTheRadius, "test_nothing_within_is_no_hit"),
    (LeavesTheRimOut, "test_within_holds_for_every_hit"),
    (IsNotPadded, "test_more_than_there_are_is_padded"),
    (PadsWithZeros, "test_more_than_there_are_is_padded"),
    (SquaresDistances, "test_distances_are_true_and_ascending"),
    (ReturnsPositions, "test_distances_are_true_and_ascending"),
    (ReturnsPositions, "test_it_finds_itself"),
    (HasShortIds, "test_hits_are_ids_and_distances"),
    (LooksAtHalf, "test_recall_is_above_its_floor"),
    (LooksAtHalf, "test_exact_is_exact"),
    (LooksAtHalf, "test_hits_that_say_exact_are"),
    (SearchesForNothing, "test_a_search_for_nothing_is_refused"),
    (DependsOnItsBatch, "test_a_query_does_not_depend_on_its_batch"),
    (SavesNothing, "test_a_saved_index_gives_the_same_hits"),
]


# fusers and encoders that break it


class CentresTheBatch(Mean):
    def fuse(self, features):
        values = super().fuse(features).values
        return xmr.Embeddings(values - (values.mean(axis=0) if len(values) else 0), self.metric)


class CountsPadding(Mean):
    def means(self, features):
        return features.values.mean(axis=1)


class AddsInHalves(Mean):
    def means(self, features):
        mask = np.ones(features.values.shape[:2], bool) if features.mask is None else features.mask
        return (features.values * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)


class RemembersTheOther(Mean):
    def fuse(self, features):
        values = super().fuse(features).values
        if features.modality == xmr.IMAGE:
            self.seen = values.mean()
        return xmr.Embeddings(values + getattr(self, "seen", 0), self.metric)


class SignsNaN(Mean):
    metric = "hamming"

    def fuse(self, features):
        self.require_fit()
        return xmr.Embeddings(xmr.pack_bits(features.vectors >= 0), "hamming")


class SaysAnotherMetric(Mean):
    def fuse(self, features):
        return xmr.Embeddings(super().fuse(features).values, "l2")


class PaysTooMuchAttention(Mean):
    def attention(self, features):
        return np.ones((len(features), 1, features.values.shape[1]), np.float32)


class FillsInBadPictures(Thumbnail):
    def thumbnails(self, items):
        bad = set(check_images(items))
        good = [np.zeros((4, 4, 3), np.uint8) if k in bad else d for k, d in zip(items.keys, items.data, strict=True)]
        return super().thumbnails(replace(items, data=good))


class NamesNoPicture(Thumbnail):
    def thumbnails(self, items):
        try:
            return super().thumbnails(items)
        except xmr.DataError:
            raise xmr.DataError("something cannot be read") from None


class TakesEmptySentences(Thumbnail):
    def words(self, items):
        return super().words(replace(items, data=[text.strip() or "empty" for text in items.data]))


class ChokesOnGrey(Thumbnail):
    def thumbnails(self, items):
        for picture in items.data:
            if getattr(picture, "mode", "RGB") != "RGB":
                raise ValueError(picture.mode)
        return super().thumbnails(items)


class SortsByLength(Thumbnail):
    def words(self, items):
        return super().words(replace(items, data=sorted(items.data, key=len)))


class DiffersByFile(Thumbnail):
    def thumbnails(self, items):
        return super().thumbnails(items) + any(isinstance(picture, bytes) for picture in items.data)


class NormalisesTheBatch(Thumbnail):
    def thumbnails(self, items):
        values = super().thumbnails(items)
        return values / values.max(initial=1)


class MasksWhatIsKept(Thumbnail):
    cacheable = True
    forms = {"image": "regions"}  # noqa: RUF012

    def encode(self, items):
        vectors = super().encode(items).values
        return xmr.Features(items.modality, vectors, np.ones(vectors.shape[:2], bool))


class TellsOneWordTooMany(Thumbnail):
    def tokens(self, items):
        return [[*text.split(), "!"] for text in items.data]


class KnowsAsciiAlone(Thumbnail):
    def words(self, items):
        if not all(text.isascii() for text in items.data):
            raise KeyError("unknown word")
        return super().words(items)


OTHERS = [
    ("fuser", CentresTheBatch, "vector", "test_a_row_does_not_depend_on_its_batch"),
    ("fuser", CountsPadding, "regions", "test_padding_changes_nothing"),
    ("fuser", AddsInHalves, "regions", "test_regions_in_half_precision_are_taken"),
    ("fuser", RemembersTheOther, "vector", "test_one_modality_is_enough"),
    ("fuser", SignsNaN, "vector", "test_nan_is_refused"),
    ("fuser", SaysAnotherMetric, "vector", "test_embeddings_are_a_row_an_item_under_its_metric"),
    ("fuser", PaysTooMuchAttention, "regions", "test_attention_sums_to_one_and_leaves_padding_out"),
    ("encoder", FillsInBadPictures, None, "test_unreadable_pictures_are_named"),
    ("encoder", NamesNoPicture, None, "test_unreadable_pictures_are_named"),
    ("encoder", TakesEmptySentences, None, "test_empty_sentences_are_named"),
    ("encoder", ChokesOnGrey, None, "test_a_picture_may_have_any_mode_and_size"),
    ("encoder", SortsByLength, None, "test_rows_come_in_the_order_of_the_items"),
    ("encoder", DiffersByFile, None, "test_a_picture_is_the_same_as_path_bytes_array_or_image"),
    ("encoder", NormalisesTheBatch, None, "test_a_row_does_not_depend_on_its_batch"),
    ("encoder", MasksWhatIsKept, None, "test_regions_that_are_kept_are_as_many_for_every_item"),
    ("encoder", TellsOneWordTooMany, None, "test_words_are_told_one_a_token"),
    ("encoder", KnowsAsciiAlone, None, "test_unknown_words_are_no_error"),
]


def run(laws: type[Laws], law: str, tmp_path: Path) -> None:
    """One law, as pytest would call it."""
    given: dict[str, Any] = {"metric": "l2", "tmp_path": tmp_path}
    method = getattr(laws(), law)
    method(**{name: given[name] for name in inspect.signature(method).parameters})


def assert_noticed(laws: type[Laws], law: str, tmp_path: Path) -> None:
    """The law fails, with whatever error; being skipped would not do."""
    try:
        run(laws, law, tmp_path)
    except pytest.skip.Exception as skipped:
        pytest.fail(f"{law} was skipped: {skipped}")
    except Exception:
        return
    pytest.fail(f"{law} passed")


def named(mutants: list[Any]) -> list[Any]:
    return [pytest.param(*mutant, id=f"{next(p.__name__ for p in mutant if inspect.isclass(p))}") for mutant in mutants]


@pytest.mark.parametrize(("mutant", "law"), named(INDEXERS))
def test_a_wrong_indexer_is_noticed(mutant: type[Any], law: str, tmp_path: Path) -> None:
    assert_noticed(conformance("indexer", mutant), law, tmp_path)


@pytest.mark.parametrize(("mutant", "law"), named(INDEXES))
def test_a_wrong_index_is_noticed(mutant: type[Any], law: str, tmp_path: Path) -> None:
    laws = conformance("indexer", type(mutant.__name__, (Centred,), {"index": mutant}))
    assert_noticed(laws, law, tmp_path)


@pytest.mark.parametrize(("role", "mutant", "images", "law"), named(OTHERS))
def test_a_wrong_fuser_or_encoder_is_noticed(
    role: Any, mutant: type[Any], images: Any, law: str, tmp_path: Path
) -> None:
    samples = feature_pairs(images) if role == "fuser" else None
    assert_noticed(conformance(role, mutant, samples=samples), law, tmp_path)


def test_a_heavy_import_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "heavy_plugin.py").write_text(
        "import scipy\nfrom test_conformance import Centred\nclass Heavy(Centred): pass"
    )
    monkeypatch.syspath_prepend(tmp_path)
    heavy = __import__("heavy_plugin").Heavy
    with pytest.raises(AssertionError, match="imports scipy"):
        run(conformance("indexer", heavy), "test_importing_it_imports_nothing_heavy", tmp_path)


def test_it_needs_no_more_than_a_line_and_says_how_many_checks_ran(tmp_path: Path) -> None:
    line = "from test_conformance import Double\nfrom xmr_core.testing import conformance\n"
    (tmp_path / "test_mine.py").write_text(line + "TestMine = conformance('fuser', Double)\n")
    path = ":".join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": path, "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "fuser double: " in done.stdout and " checks ran" in done.stdout


def test_samples_of_another_role_are_refused() -> None:
    with pytest.raises(xmr.DataError, match="expected Embeddings, got Pairs"):
        conformance("indexer", Centred, samples=pairs())
