"""The laws of stores for items that change: the new is there, and nothing that was made of the old."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from xmr_core.errors import DataError, StorageError
from xmr_core.store import Store
from xmr_core.testing.contract import Suite, refuses
from xmr_core.testing.store_samples import LAYOUTS, attention_rows, fill, rows, sample_codes, sample_space, seen
from xmr_core.types import IMAGE, TEXT

__all__ = ["ReplacingLaws"]


def _require_replacing(store: Store) -> None:
    if not store.replaces:
        with refuses(StorageError, "replacing items, which it says it cannot do"):
            store.replace_items(
                rows(IMAGE, [0]),
            )
        pytest.skip(f"{store.name} does not replace items")


def _changed(modality: str, ids: list[int], **content: Any) -> Any:
    """Rows of items of `fill`, of other content."""
    given = rows(modality, ids, **content)
    return type(given)(
        given.modality, given.ids, given.keys, [f"other {one}" for one in given.content], *_columns(given)
    )


def _columns(given: Any) -> tuple[Any, Any, Any]:
    return given.source, given.text, given.blob


class ReplacingLaws(Suite):
    """A part of the suite of stores."""

    case: ClassVar[Any]

    def test_a_replaced_item_keeps_its_id_and_all_that_is_said_of_it(self, store: Store) -> None:
        _require_replacing(fill(store))
        before = seen(store)
        content: dict[str, list[Any]] = {"source": [None, "/new/2.png"], "text": [None] * 2, "blob": [b"\0\xff", None]}
        store.replace_items(_changed(IMAGE, [0, 2], **content))
        assert store.match(IMAGE, ["image0", "image1"])[1].tolist() == ["other sha of image0", "sha of image1"]
        assert [str(data) for data in store.items(np.array([2, 0, 1]), IMAGE).data] == [
            "/new/2.png",
            str(b"\0\xff"),
            "/images/1.png",
        ]
        after = seen(store)
        for kept in ("ids", "links", "labels", "counts", "next"):
            assert after[kept] == before[kept], f"{kept} are others after a replacement"
        assert after["described"]["split"] == before["described"]["split"]
        assert list(store.doctor()) == [] or all("no code" in told for told in store.doctor())

    def test_what_was_made_of_the_old_content_is_gone_in_every_version(self, store: Store) -> None:
        _require_replacing(fill(store))
        store.put_space(sample_space(version=2))
        store.put_codes("mine", 2, IMAGE, sample_codes(LAYOUTS[0], range(4)))
        store.put_vectors(IMAGE, "clip", np.arange(3), np.eye(3, dtype=np.float32))
        if store.keeps_attention:
            store.put_attention("mine", 1, attention_rows())
        store.replace_items(_changed(IMAGE, [0, 2], source=["/a", "/b"], text=[None] * 2, blob=[None] * 2))
        for version in (1, 2):
            assert store.coded_ids("mine", version, IMAGE).tolist() == [1, 3]
        assert store.coded_ids("mine", 1, TEXT).tolist() == list(range(10, 16))
        ids = np.arange(4)
        assert store.get_features("trial", ids)[0].tolist() == [False, True, False, False]
        assert store.get_vectors(IMAGE, "clip", ids)[0].tolist() == [False, True, False, False]
        if store.keeps_attention and store.runs_sql:
            assert store.sql("SELECT item_id FROM xmr.attention").fetchall() == [(12,)]

    def test_the_same_content_from_another_file_keeps_what_was_made_of_it(self, store: Store) -> None:
        _require_replacing(fill(store))
        store.replace_items(rows(IMAGE, [1], source=["/moved.png"], text=[None], blob=[None]))
        assert store.describe(np.array([1]))["source"] == ["/moved.png"]
        assert store.get_features("trial", np.array([1]))[0].tolist() == [True]
        assert 1 in store.coded_ids("mine", 1, IMAGE)

    def test_other_vectors_replace_those_before_and_their_codes(self, store: Store) -> None:
        _require_replacing(fill(store))
        ids = np.arange(3)
        store.put_vectors(IMAGE, "clip", ids, np.eye(3, dtype=np.float32))
        store.replace_vectors(IMAGE, "clip", ids[1:2], np.full((1, 3), 7, np.float32))
        assert store.get_vectors(IMAGE, "clip", ids)[1].tolist() == [[1, 0, 0], [7, 7, 7], [0, 0, 1]]
        assert store.coded_ids("mine", 1, IMAGE).tolist() == [0, 2, 3]
        assert store.get_features("trial", ids)[0].all(), "features of a content that is the same are gone"
        with refuses(DataError, "vectors of another width"):
            store.replace_vectors(IMAGE, "clip", ids[:1], np.zeros((1, 4), np.float32))
        assert store.get_vectors(IMAGE, "clip", ids)[0].all(), "a refused replacement deleted what was there"

    def test_codes_that_come_for_those_that_went_are_told_as_came(self, store: Store) -> None:
        _require_replacing(fill(store))
        before = store.revision()
        with store.transaction():
            store.replace_items(_changed(IMAGE, [0, 2], source=["/a", "/b"], text=[None] * 2, blob=[None] * 2))
            store.put_codes("mine", 1, IMAGE, sample_codes(LAYOUTS[0], [2], seed=9))
        changes = store.changes("mine", 1, IMAGE, before)
        assert changes is None or (changes.came.tolist(), changes.went.tolist()) == ([2], [0])
        of_texts = store.changes("mine", 1, TEXT, before)
        assert of_texts is None or not of_texts

    def test_an_item_that_does_not_exist_is_not_replaced(self, store: Store) -> None:
        _require_replacing(fill(store))
        before = seen(store)
        for modality, ids in ((IMAGE, [0, 99]), (TEXT, [0])):
            with refuses(DataError, "replacing what does not exist"):
                store.replace_items(_changed(modality, ids))
        assert seen(store) == before

    def test_a_link_that_is_dropped_is_gone_alone(self, store: Store) -> None:
        _require_replacing(fill(store))
        store.drop_links(np.array([0, 3, 1]), np.array([10, 14, 99]))
        assert store.links().tolist() == [[0, 11], [1, 12], [2, 13]]

    def test_items_are_known_by_where_they_came_from(self, store: Store) -> None:
        fill(store)
        if not store.keeps_sources:
            with refuses(StorageError, "sources that it says it does not keep"):
                store.put_source("/a", np.array([0]), [""])
            return
        assert len(store.get_source("/a")[0]) == 0
        store.put_source("/a", np.array([2, 0, 11]), ["two", "none", ""])
        store.put_source("/b", np.array([2, 3]), ["", ""])
        ids, stamps = store.get_source("/a")
        assert ids.tolist() == [0, 2, 11] and list(stamps) == ["none", "two", ""]
        assert store.sourced_elsewhere("/a", np.array([3, 2, 0, 99])).tolist() == [2, 3]
        store.put_source("/a", np.array([0]), ["again"])
        assert store.get_source("/a")[0].tolist() == [0] and store.get_source("/b")[0].tolist() == [2, 3]
        store.delete(np.array([3, 0]))
        assert len(store.get_source("/a")[0]) == 0 and store.get_source("/b")[0].tolist() == [2]
