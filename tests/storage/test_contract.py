"""The DuckDB store keeps the contract of stores, and every wrong store is noticed by a law."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from pathlib import Path

import numpy as np
import pytest

from xmr_core.errors import StorageError
from xmr_core.store import Changes
from xmr_core.testing import conformance
from xmr_core.types import Codes, Items
from xmr_storage.duckdb.store import DuckDBStore

TestDuckDB = conformance("store", "duckdb")


class HalfWrites(DuckDBStore):
    @contextlib.contextmanager
    def transaction(self):
        yield


class ReusesIds(DuckDBStore):
    def next_id(self):
        ids = self.ids()
        return int(ids.max()) + 1 if len(ids) else 0


class MatchesAnyModality(DuckDBStore):
    def match(self, modality, keys):
        found = [super(MatchesAnyModality, self).match(kind, keys) for kind in ("image", "text")]
        ids = np.maximum(found[0][0], found[1][0])
        return ids, np.where(found[0][0] >= 0, found[0][1], found[1][1])


class SortsItems(DuckDBStore):
    def items(self, ids, modality):
        found = super().items(np.sort(ids), modality)
        return Items(modality, found.data, found.keys, np.sort(ids), stored=True)


class MetadataAsText(DuckDBStore):
    def put_items(self, rows, metadata):
        super().put_items(rows, {name: [None if v is None else str(v) for v in vs] for name, vs in metadata.items()})


class IgnoresConditions(DuckDBStore):
    def ids(self, modality=None, where=None):
        return super().ids(modality)


class RepeatsLinks(DuckDBStore):
    def put_links(self, image_ids, text_ids):
        for image, text in zip(image_ids.tolist(), text_ids.tolist(), strict=True):
            self.execute("INSERT INTO xmr.pairs VALUES ($1, $2)", [image, text])


class AddsLabels(DuckDBStore):
    def put_labels(self, ids, labels, names):
        for row, column in zip(*np.nonzero(labels), strict=True):
            self.execute("INSERT INTO xmr.labels VALUES ($1, $2)", [int(ids[row]), names[column]])


class KeepsCodesOfDeleted(DuckDBStore):
    def delete(self, ids):
        for table in ("items", "metadata", "labels"):
            self.execute(f"DELETE FROM xmr.{table} WHERE list_contains($1, item_id)", [ids.tolist()])
        return len(ids)


class CleansFeatures(DuckDBStore):
    def put_features(self, extractor, ids, vectors):
        super().put_features(extractor, ids, np.nan_to_num(vectors))


class CodesAsInserted(DuckDBStore):
    def get_codes(self, name, version, modality, ids=None):
        found = super().get_codes(name, version, modality, ids)
        return Codes(found.ids, found.values[::-1], found.layout)


class StandsStill(DuckDBStore):
    def revision(self):
        return 1


class ForgetsRemovals(DuckDBStore):
    def changes(self, name, version, modality, since):
        found = super().changes(name, version, modality, since)
        return found and Changes(found.came, found.went[:0])


class KnowsEveryRevision(DuckDBStore):
    def changes(self, name, version, modality, since):
        return super().changes(name, version, modality, since) or Changes(np.empty(0, np.int64), np.empty(0, np.int64))


class AllCodes(DuckDBStore):
    def get_codes(self, name, version, modality, ids=None):
        return super().get_codes(name, version, modality)


class PublishesBeside(DuckDBStore):
    def publish(self, name, version):
        self.load_space(name, version)
        self.execute("UPDATE xmr.spaces SET published = true WHERE space = $1 AND version = $2", [name, version])


class WritesWhenReading(DuckDBStore):
    @property
    def read_only(self):
        return False


class LeaksErrors(DuckDBStore):
    def load_space(self, name, version=None, role="indexer"):
        try:
            return super().load_space(name, version, role)
        except Exception as error:
            raise KeyError(name) from error


class ListsAllTogether(DuckDBStore):
    def spaces(self, role="indexer"):
        return super().spaces() + super().spaces("answerer")


class DropsBoth(DuckDBStore):
    def drop_space(self, name, version=None, role="indexer"):
        for each in ("indexer", "answerer"):
            with contextlib.suppress(StorageError):
                super().drop_space(name, version, each)


class KeepsOldParts(DuckDBStore):
    def put_space(self, space):
        known = [self.load_space(space.name, role="answerer") for known in self.spaces("answerer")]
        super().put_space(dataclasses.replace(space, parts=[part for old in (*known, space) for part in old.parts]))


class SaysItCannot(DuckDBStore):
    exports = False


class AllSteps(DuckDBStore):
    def latest_runs(self, limit):
        return super().latest_runs(100)


class CriesWolf(DuckDBStore):
    def doctor(self):
        yield "something is wrong"


class KeepsWhatWasMade(DuckDBStore):
    def replace_items(self, rows):
        for item, content in zip(rows.ids.tolist(), rows.content, strict=True):
            self.db.execute("UPDATE xmr.items SET content = $1 WHERE item_id = $2", [content, item])


class ForgetsTheSame(DuckDBStore):
    def replace_items(self, rows):
        super().replace_items(dataclasses.replace(rows, content=[f"new {one}" for one in rows.content]))
        super().replace_items(rows)


class KeepsCodesOfOldVectors(DuckDBStore):
    def replace_vectors(self, modality, name, ids, vectors):
        self.db.execute(f"DELETE FROM xmr.vector_{modality}__{name} WHERE item_id = {ids[0]}")
        self.put_vectors(modality, name, ids, vectors)


class AddsSources(DuckDBStore):
    def put_source(self, source, ids, stamps):
        before, old = self.get_source(source)
        super().put_source(source, np.r_[before, ids], [*old, *stamps])


class DropsAllLinks(DuckDBStore):
    def drop_links(self, image_ids, text_ids):
        super().drop_links(*self.links().T)


@pytest.mark.parametrize(
    ("wrong", "law"),
    [
        (KeepsWhatWasMade, "what_was_made_of_the_old_content_is_gone_in_every_version"),
        (KeepsWhatWasMade, "an_item_that_does_not_exist_is_not_replaced"),
        (ForgetsTheSame, "the_same_content_from_another_file_keeps_what_was_made_of_it"),
        (KeepsCodesOfOldVectors, "other_vectors_replace_those_before_and_their_codes"),
        (AddsSources, "items_are_known_by_where_they_came_from"),
        (DropsAllLinks, "a_link_that_is_dropped_is_gone_alone"),
        (HalfWrites, "a_transaction_that_fails_leaves_nothing"),
        (ReusesIds, "an_id_is_never_given_twice"),
        (ReusesIds, "ids_of_codes_without_items_are_in_use"),
        (MatchesAnyModality, "match_finds_items_by_modality_and_key"),
        (SortsItems, "items_come_back_in_the_order_that_was_asked"),
        (MetadataAsText, "metadata_keep_their_types"),
        (IgnoresConditions, "ids_are_chosen_by_modality_and_condition"),
        (RepeatsLinks, "a_link_is_kept_once"),
        (AddsLabels, "labels_replace_those_before"),
        (KeepsCodesOfDeleted, "what_is_deleted_is_gone_everywhere"),
        (CleansFeatures, "features_come_back_bit_for_bit"),
        (StandsStill, "a_revision_grows_with_every_change_and_with_nothing_else"),
        (StandsStill, "a_revision_is_the_same_for_every_handle"),
        (ForgetsRemovals, "changes_are_those_since_the_revision"),
        (KnowsEveryRevision, "nothing_is_known_of_a_revision_that_never_was"),
        (KnowsEveryRevision, "a_space_in_the_place_of_another_is_loaded_whole"),
        (AllCodes, "codes_of_chosen_ids_are_theirs_alone"),
        (PublishesBeside, "a_name_means_the_version_that_is_published"),
        (WritesWhenReading, "a_store_open_for_reading_reads_and_refuses_to_write"),
        (LeaksErrors, "a_space_that_does_not_exist_is_refused"),
        (ListsAllTogether, "a_space_that_answers_comes_back_without_codes"),
        (DropsBoth, "spaces_of_one_name_and_two_roles_leave_each_other_alone"),
        (DropsBoth, "an_answerer_that_does_not_exist_is_refused"),
        (KeepsOldParts, "what_is_learned_again_replaces_what_was_learned"),
        (SaysItCannot, "an_export_restores_bit_for_bit"),
        (AllSteps, "the_latest_runs_tell_their_last_steps"),
        (CriesWolf, "a_healthy_library_has_no_faults"),
    ],
)
def test_a_wrong_store_breaks_a_law(wrong: type[DuckDBStore], law: str, tmp_path: Path) -> None:
    suite = conformance("store", wrong)()
    url = suite.case.url(tmp_path)
    method = getattr(suite, f"test_{law}")
    store = wrong.open(url)
    try:
        given = {"store": store, "url": url, "tmp_path": tmp_path}
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            method(**{name: given[name] for name in inspect.signature(method).parameters})
    finally:
        store.close()


def test_codes_in_another_order_break_a_law(tmp_path: Path) -> None:
    suite = conformance("store", CodesAsInserted)()
    law = suite.test_codes_come_back_bit_for_bit_by_ascending_id
    (mark,) = [mark for mark in law.pytestmark if mark.name == "parametrize"]
    store = CodesAsInserted.open(suite.case.url(tmp_path))
    with contextlib.closing(store), pytest.raises(AssertionError):
        law(store, mark.args[1][0])
