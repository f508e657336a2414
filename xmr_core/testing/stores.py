"""The laws of stores: what goes in comes out, whole or not at all, and nothing but our errors leaves.

What a store declares it can do (`exports`, `compacts`, ...) is tried; what it does not declare must be refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from xmr_core.errors import DataError, LockedError, StorageError
from xmr_core.store import RunRecord, Store
from xmr_core.testing.contract import in_new_process, refuses, require_importable
from xmr_core.testing.store_answerers import AnswererStoreLaws
from xmr_core.testing.store_content import ContentLaws
from xmr_core.testing.store_live import LiveStoreLaws
from xmr_core.testing.store_replacing import ReplacingLaws
from xmr_core.testing.store_revisions import RevisionLaws
from xmr_core.testing.store_samples import LARGE, LAYOUTS, attention_rows, fill, rows, sample_codes, sample_space, seen
from xmr_core.types import IMAGE, TEXT, Layout

__all__ = ["StoreCase", "StoreLaws"]

WRITER = """
import importlib, sys
from operator import attrgetter
from xmr_core.errors import LockedError
from xmr_core.testing.store_live import LiveStoreLaws
from xmr_core.testing.store_samples import fill
try:
    fill(attrgetter(sys.argv[2])(importlib.import_module(sys.argv[1])).open(sys.argv[3]))
except LockedError as error:
    print("locked", bool(str(error)))
"""


class StoreCase:
    """A class of stores, and where it makes new databases."""

    role = "store"

    def __init__(self, store: type[Store], url: Callable[[Path], str] | None = None) -> None:
        self.store, self.component = store, store.name
        self.url = url or store.trial_url


class StoreLaws(ContentLaws, RevisionLaws, ReplacingLaws, AnswererStoreLaws, LiveStoreLaws):
    """One test a law; every one has a new database."""

    case: ClassVar[StoreCase]

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return self.case.url(tmp_path)

    @pytest.fixture
    def store(self, url: str) -> Iterator[Store]:
        opened = self.case.store.open(url)
        yield opened
        opened.close()

    # opening and transactions

    def test_what_was_written_is_there_when_it_is_opened_again(self, store: Store, url: str) -> None:
        before = seen(fill(store))
        store.close()
        again = self.case.store.open(url)
        assert seen(again) == before
        again.close()

    def test_a_database_that_does_not_exist_is_not_made_for_reading(self, url: str) -> None:
        with refuses(StorageError, "opening for reading what does not exist"):
            self.case.store.open(url, read_only=True)

    def test_a_store_open_for_reading_reads_and_refuses_to_write(self, store: Store, url: str) -> None:
        before = seen(fill(store))
        store.close()
        reader = self.case.store.open(url, read_only=True)
        try:
            assert reader.read_only and seen(reader) == before
            writes: list[Callable[[], Any]] = [
                lambda: reader.put_items(rows(TEXT, [99]), {}),
                lambda: reader.delete(np.array([0])),
                lambda: reader.put_space(sample_space("other")),
                lambda: reader.put_run(RunRecord("run2", "mine", 1, "fit", 1, {"loss": 1.0})),
            ]
            for write in writes:
                with refuses(StorageError, "writing into a store that is open for reading"):
                    write()
            assert seen(reader) == before
        finally:
            reader.close()

    def test_a_closed_store_says_so(self, store: Store) -> None:
        store.close()
        with refuses(StorageError, "use after close"):
            store.counts()

    def test_a_transaction_that_fails_leaves_nothing(self, store: Store) -> None:
        before = seen(fill(store))
        with pytest.raises(ZeroDivisionError), store.transaction():
            store.put_items(rows(TEXT, [20]), {"new column": [1]})
            store.put_space(sample_space("other"))
            store.delete(np.array([0, 10]))
            raise ZeroDivisionError
        assert seen(store) == before

    def test_of_nested_transactions_the_outermost_counts(self, store: Store) -> None:
        with pytest.raises(ZeroDivisionError), store.transaction():
            with store.transaction():
                store.put_items(rows(TEXT, [20]), {})
            raise ZeroDivisionError
        assert len(store.ids()) == 0
        with store.transaction(), store.transaction():
            store.put_items(rows(TEXT, [20]), {})
        assert store.ids().tolist() == [20]

    def test_a_second_writer_is_refused_while_one_writes(self, store: Store, url: str, tmp_path: Path) -> None:
        if self.case.store.many_writers:
            pytest.skip(f"{self.case.component} takes many writers")
        cls = self.case.store
        require_importable(cls)
        with store.transaction():
            store.put_items(rows(TEXT, [20]), {})
            told = in_new_process(["-c", WRITER, cls.__module__, cls.__qualname__, url], tmp_path).split()
        assert told == ["locked", "True"], f"a second process wrote at the same time; {LockedError.__name__} is wanted"
        assert store.ids().tolist() == [20]

    # items

    def test_match_finds_items_by_modality_and_key(self, store: Store) -> None:
        fill(store)
        ids, contents = store.match(IMAGE, ["image2", "text10", "new", "image0"])
        assert ids.dtype == np.int64 and ids.tolist() == [2, -1, -1, 0]
        assert contents.tolist() == ["sha of image2", None, None, "sha of image0"]
        assert len(store.match(TEXT, [])[0]) == 0

    def test_an_id_is_never_given_twice(self, store: Store, url: str) -> None:
        assert store.next_id() == 0
        fill(store)
        assert store.next_id() == 16
        assert store.delete(np.array([15, 14, 777])) == 2, "delete: how many items there were is wanted"
        assert store.next_id() == 16
        store.close()
        again = self.case.store.open(url)
        assert again.next_id() == 16
        again.close()

    def test_ids_of_codes_without_items_are_in_use(self, store: Store) -> None:
        store.put_space(sample_space())
        store.put_codes("mine", 1, IMAGE, sample_codes(LAYOUTS[0], [3, LARGE]))
        assert store.next_id() == LARGE + 1
        store.drop_space("mine")
        assert store.next_id() == LARGE + 1

    def test_items_come_back_in_the_order_that_was_asked(self, store: Store) -> None:
        content: dict[str, list[Any]] = {"source": ["/a.png", None, None], "blob": [None, b"\0\xff", None]}
        store.put_items(rows(IMAGE, [5, 6, LARGE], **content), {})
        store.put_features("precomputed", np.array([LARGE]), np.array([[1.5, -2.0]], np.float32))
        found = store.items(np.array([LARGE, 5, 6]), IMAGE)
        assert found.ids.tolist() == [LARGE, 5, 6] and found.keys == [f"image{LARGE}", "image5", "image6"]
        vector, path, blob = found.data
        assert np.array_equal(vector, [1.5, -2.0]) and str(path) == "/a.png" and blob == b"\0\xff"
        assert len(store.items(np.array([], np.int64), IMAGE)) == 0

    def test_an_id_that_does_not_exist_is_refused(self, store: Store) -> None:
        fill(store)
        with refuses(DataError, "an id that does not exist"):
            store.items(np.array([0, 99]), IMAGE)

    def test_text_that_is_not_unicode_is_refused(self, store: Store) -> None:
        with refuses(DataError, "a lone surrogate"):
            store.put_items(rows(TEXT, [1], text=["\ud800"]), {})
        assert len(store.ids()) == 0

    # metadata

    def test_metadata_keep_their_types(self, store: Store) -> None:
        values: dict[str, list[Any]] = {
            "whole": [LARGE, None],
            "real": [0.1, None],
            "yes": [True, False],
            "text": ["ü", ""],
            "day": [date(2024, 2, 29), None],
            "time": [datetime(2024, 2, 29, 12, 30, 1, 250), None],
            'od"d name; --': [1, 2],
        }
        values["note"] = values.pop("text")  # every item has a text already
        store.put_items(rows(TEXT, [1, 2]), values)
        store.put_items(rows(TEXT, [3]), {})
        told = store.describe(np.array([2, 1, 3]))
        assert store.metadata_columns() == list(values)
        for name, (first, second) in values.items():
            assert list(told[name]) == [second, first, None], f"metadata {name!r}: {told[name]}"
            assert [type(value) for value in told[name][:2]] == [type(second), type(first)], f"metadata {name!r}"

    def test_a_column_widens_where_nothing_is_lost(self, store: Store) -> None:
        store.put_items(rows(TEXT, [1]), {"number": [3], "day": [date(2024, 1, 2)], "none": [None]})
        store.put_items(rows(TEXT, [2]), {"number": [0.5], "day": [datetime(2024, 1, 2, 3)], "none": ["now"]})
        store.put_items(rows(TEXT, [3]), {"number": [4], "day": [date(2024, 1, 3)]})
        told = store.describe(np.array([1, 2, 3]))
        assert list(told["number"]) == [3.0, 0.5, 4.0] and {type(value) for value in told["number"]} == {float}
        assert list(told["day"]) == [datetime(2024, 1, 2), datetime(2024, 1, 2, 3), datetime(2024, 1, 3)]
        assert list(told["none"]) == [None, "now", None]

    def test_a_column_of_one_type_refuses_values_of_another(self, store: Store) -> None:
        store.put_items(rows(TEXT, [1]), {"size": [3]})
        with refuses(DataError, "text in a column of whole numbers"):
            store.put_items(rows(TEXT, [2]), {"size": ["large"]})
        assert store.ids().tolist() == [1], "items whose metadata were refused are there"

    @pytest.mark.parametrize("names", [["Size", "size"], ["item_id"], ["KEY"], [""], ["a\0b"]], ids=repr)
    def test_names_that_cannot_be_columns_are_refused(self, store: Store, names: list[str]) -> None:
        with refuses(DataError, f"metadata called {names}"):
            store.put_items(rows(TEXT, [1]), {name: [1] for name in names})
        assert len(store.ids()) == 0

    def test_names_that_differ_by_case_are_one_column(self, store: Store) -> None:
        store.put_items(rows(TEXT, [1]), {"Size": [1]})
        store.put_items(rows(TEXT, [2]), {"size": [2]})
        assert store.metadata_columns() == ["Size"]
        assert list(store.describe(np.array([1, 2]))["Size"]) == [1, 2]

    def test_a_split_is_known(self, store: Store) -> None:
        assert not store.has_split("train")
        fill(store)
        assert store.has_split("train") and store.has_split("test") and not store.has_split("query")

    # conditions, links, labels, features

    def test_ids_are_chosen_by_modality_and_condition(self, store: Store) -> None:
        fill(store)
        assert store.ids().tolist() == [0, 1, 2, 3, *range(10, 16)]
        assert store.ids(TEXT).tolist() == list(range(10, 16))
        assert store.ids(where="split = 'train'").tolist() == [0, 1]
        assert store.ids(TEXT, "split = 'train'").tolist() == []
        assert store.ids(IMAGE, "key = 'image3' OR split = 'test'").tolist() == [2, 3]

    @pytest.mark.parametrize(
        "where", ["no_such_column = 1", "split = 'train", "", "true); DELETE FROM xmr.items; SELECT (true", "\ud800", 3]
    )
    def test_what_is_no_condition_is_refused_and_harms_nothing(self, store: Store, where: Any) -> None:
        before = seen(fill(store))
        with refuses(DataError, f"where={where!r}"):
            store.ids(where=where)
        assert seen(store) == before

    def test_a_link_is_kept_once(self, store: Store) -> None:
        fill(store)
        store.put_links(np.array([3, 0]), np.array([15, 10]))
        store.put_links(np.array([], np.int64), np.array([], np.int64))
        assert store.links().tolist() == [[0, 10], [0, 11], [1, 12], [2, 13], [3, 14], [3, 15]]

    def test_labels_replace_those_before(self, store: Store) -> None:
        fill(store)
        store.put_labels(np.array([0, 3]), np.array([[0], [1]], np.uint8), ["blue"])
        assert store.labels(np.array([3, 1, 0])).tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 0]], "blue, green, red"
        assert store.labels(np.array([1]), ["red", "new"]).tolist() == [[1, 0]]

    def test_pairs_are_items_with_links_and_labels(self, store: Store) -> None:
        fill(store)
        pairs = store.pairs()
        linked = [(pairs.images.keys[i], pairs.texts.keys[j]) for i, j in pairs.links]
        assert linked == [(f"image{i}", f"text{j}") for i, j in store.links()]
        assert list(pairs.label_names) == ["green", "red"] and pairs.images.labels is not None
        assert pairs.images.labels.tolist() == [[0, 1], [1, 1], [1, 0], [0, 0]]
        chosen = store.pairs("key IN ('image0', 'text11', 'text12')")
        assert chosen.links.tolist() == [[0, 0]] and chosen.texts.keys == ["text11", "text12"]

    def test_counts_are_by_modality(self, store: Store) -> None:
        assert dict(store.counts()) == {"pairs": 0, "labels": 0}
        assert dict(fill(store).counts()) == {"image": 4, "text": 6, "pairs": 5, "labels": 2}

    def test_what_is_deleted_is_gone_everywhere(self, store: Store) -> None:
        fill(store)
        if store.keeps_attention:
            store.put_attention("mine", 1, attention_rows())
        assert store.delete(np.array([0, 12])) == 2
        assert 0 not in store.ids() and store.links().tolist() == [[2, 13], [3, 14]]
        assert store.get_features("trial", np.array([0, 1]))[0].tolist() == [False, True]
        assert store.coded_ids("mine", 1, IMAGE).tolist() == [1, 2, 3]
        assert store.describe(np.array([0]))["split"] == [None]
        assert list(store.doctor()) == []

    def test_features_come_back_bit_for_bit(self, store: Store) -> None:
        have, none = store.get_features("trial", np.array([1, 2]))
        assert not have.any() and len(none) == 0
        vectors = np.array([[np.nan, -0.0, 1e-45], [np.inf, 1 / 3, -1e38]], np.float32)
        store.put_features("trial", np.array([7, LARGE]), vectors)
        have, found = store.get_features("trial", np.array([LARGE, 5, 7]))
        assert have.tolist() == [True, False, True] and found.dtype == np.float32
        assert found.tobytes() == vectors[::-1].tobytes()
        with refuses(DataError, "features of another width"):
            store.put_features("trial", np.array([9]), np.zeros((1, 4), np.float32))

    # spaces

    def test_components_come_back_bit_for_bit(self, store: Store) -> None:
        space = sample_space()
        store.put_space(space)
        found = store.load_space("mine", 1)
        assert (found.recipe, found.fingerprint, found.metric, found.layout, found.seed) == (
            *(space.recipe, space.fingerprint, space.metric, space.layout, space.seed),
        )
        assert found.created, "created: the time is wanted"
        for got, want in zip(found.parts, space.parts, strict=True):
            assert (got.role, got.name, got.options, got.version, got.fingerprint) == (
                *(want.role, want.name, want.options, want.version, want.fingerprint),
            )
            assert {key: array.shape for key, array in got.state.items()} == {k: a.shape for k, a in want.state.items()}
            for key, array in want.state.items():
                same = got.state[key].dtype == array.dtype and got.state[key].tobytes() == array.tobytes()
                assert same, f"state {key!r} differs"

    @pytest.mark.parametrize("layout", LAYOUTS, ids=str)
    def test_codes_come_back_bit_for_bit_by_ascending_id(self, store: Store, layout: Layout) -> None:
        store.put_space(sample_space(layout=layout))
        assert len(store.get_codes("mine", 1, IMAGE)) == 0
        codes = sample_codes(layout, [0, 2, 5, 7, LARGE])
        store.put_codes("mine", 1, IMAGE, codes.take(np.array([2, 4])))
        store.put_codes("mine", 1, IMAGE, codes.take(np.array([0, 1, 3])))
        store.put_codes("mine", 1, TEXT, sample_codes(layout, [1], seed=1))
        found = store.get_codes("mine", 1, IMAGE)
        assert found.layout == layout and found.ids.tolist() == codes.ids.tolist()
        assert found.values.tobytes() == codes.values.tobytes()
        assert store.coded_ids("mine", 1, IMAGE).tolist() == codes.ids.tolist()
        assert dict(store.load_space("mine", 1).counts) == {IMAGE: 5, TEXT: 1}

    def test_a_name_means_the_version_that_is_published(self, store: Store) -> None:
        for version in (1, 2):
            store.put_space(sample_space(version=version))
        with refuses(StorageError, "a space without a published version"):
            store.load_space("mine")
        for version in (1, 2, 1):
            store.publish("mine", version)
            assert store.load_space("mine").version == version
            assert [space.version for space in store.spaces() if space.published] == [version]

    def test_a_version_is_dropped_with_its_codes(self, store: Store) -> None:
        fill(store)
        store.put_space(sample_space(version=2))
        store.put_codes("mine", 2, IMAGE, sample_codes(LAYOUTS[0], [1]))
        store.drop_space("mine", 1)
        assert [space.version for space in store.spaces()] == [2]
        assert store.get_codes("mine", 2, IMAGE).ids.tolist() == [1]
        store.put_space(sample_space(version=1))
        assert len(store.get_codes("mine", 1, IMAGE)) == 0
        store.drop_space("mine")
        assert store.spaces() == []

    def test_a_space_that_does_not_exist_is_refused(self, store: Store) -> None:
        fill(store)
        calls: list[Callable[[], Any]] = [
            lambda: store.load_space("other"),
            lambda: store.load_space("mine", 9),
            lambda: store.publish("mine", 9),
            lambda: store.drop_space("other"),
            lambda: store.get_codes("other", 1, IMAGE),
        ]
        for call in calls:
            with refuses(StorageError, "a space or version that does not exist"):
                call()

    def test_the_latest_runs_tell_their_last_steps(self, store: Store) -> None:
        store.put_run(RunRecord("a", "mine", 1, "fit", 1, {"loss": 2.0}, {"seed": 0}))
        store.put_run(RunRecord("a", "mine", 1, "fit", 2, {"loss": 1.0, "rate": 0.1}))
        store.put_run(RunRecord("a", "mine", 1, "test", 0, {"map": 0.5}))
        told = {
            run.what: (run.run, run.space, run.version, run.step, dict(run.figures)) for run in store.latest_runs(9)
        }
        assert told == {
            "fit": ("a", "mine", 1, 2, {"loss": 1.0, "rate": 0.1}),
            "test": ("a", "mine", 1, 0, {"map": 0.5}),
        }
        assert {run.notes["seed"] for run in store.latest_runs(9)} == {0} and len(store.latest_runs(1)) == 1

    # what it declares

    def test_a_healthy_library_has_no_faults(self, store: Store) -> None:
        assert list(store.doctor()) == []
        assert list(fill(store).doctor()) == []

    def test_attention_replaces_that_before(self, store: Store) -> None:
        fill(store)
        if not store.keeps_attention:
            with refuses(StorageError, "attention that it says it does not keep"):
                store.put_attention("mine", 1, attention_rows())
            return
        for _ in range(2):
            store.put_attention("mine", 1, attention_rows())
        assert list(store.doctor()) == []
        if store.runs_sql:
            assert store.sql("SELECT count(*) FROM xmr.attention").fetchall() == [(3,)]

    def test_sql_gives_a_result_or_our_error(self, store: Store) -> None:
        fill(store)
        if not store.runs_sql:
            with refuses(StorageError, "SQL that it says it does not run"):
                store.sql("SELECT 1")
            return
        found = store.sql("SELECT key, item_id FROM xmr.catalog WHERE item_id < $1 ORDER BY item_id", [2])
        assert [column[0] for column in found.description] == ["key", "item_id"]
        assert found.fetchmany(1) == [("image0", 0)] and found.fetchall() == [("image1", 1)]
        for wrong in ("SELECT nothing FROM nowhere", "SELEC 1"):
            with refuses(StorageError, wrong):
                store.sql(wrong)

    def test_an_export_restores_bit_for_bit(self, store: Store, tmp_path: Path) -> None:
        before, folder = seen(fill(store)), tmp_path / "export"
        if not store.exports:
            with refuses(StorageError, "export that it says it cannot do"):
                store.export(folder)
            return
        store.export(folder)
        with refuses(StorageError, "export into a folder that is not empty"):
            store.export(folder)
        with refuses(StorageError, "restore into a library that is not empty"):
            store.restore(folder)
        (tmp_path / "second").mkdir()
        copy = self.case.store.open(self.case.url(tmp_path / "second"))
        try:
            with refuses(StorageError, "restore from a folder that holds no export"):
                copy.restore(tmp_path / "second")
            copy.restore(folder)
            assert seen(copy) == before and list(copy.doctor()) == []
            copy.put_items(rows(TEXT, [copy.next_id()]), {"split": ["train"]})
        finally:
            copy.close()

    def test_compaction_changes_no_answer(self, store: Store) -> None:
        fill(store).delete(np.array([1, 13]))
        before = seen(store)
        if not store.compacts:
            with refuses(StorageError, "compaction that it says it cannot do"):
                store.compact()
            return
        sizes = store.compact()
        assert len(sizes) == 2 and min(sizes) > 0, f"compact: bytes before and after are wanted, got {sizes}"
        assert seen(store) == before
        store.put_items(rows(TEXT, [store.next_id()]), {})
