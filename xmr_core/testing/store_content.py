"""The laws of stores for what is said of items later: metadata, ready-made vectors, and who has a code."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from xmr_core.errors import DataError, StorageError
from xmr_core.store import Store
from xmr_core.testing.contract import Suite, refuses
from xmr_core.testing.store_samples import LAYOUTS, fill, sample_codes, sample_space, seen
from xmr_core.types import IMAGE, TEXT

__all__ = ["ContentLaws"]


class ContentLaws(Suite):
    """A part of the suite of stores."""

    case: ClassVar[Any]

    def test_metadata_that_are_set_later_change_what_differs_alone(self, store: Store) -> None:
        fill(store)
        ids = np.array([0, 1, 2, 3])
        changed = store.update_metadata(
            ids, {"split": ["train", "val", None, "test"], "year": [1999, None, None, 2001]}
        )
        assert sorted(changed.tolist()) == [0, 1, 3], "expected the items of which some value is another now"
        told = store.describe(ids)
        assert list(told["split"]) == ["train", "val", "test", "test"], "a missing value must not erase a stored one"
        assert list(told["year"]) == [1999, None, None, 2001]
        assert len(store.update_metadata(ids, {"split": ["train", "val", "test", "test"]})) == 0
        assert store.ids(where="year = 2001").tolist() == [3]

    def test_metadata_of_a_text_that_had_none_are_set(self, store: Store) -> None:
        fill(store)
        assert store.update_metadata(np.array([12]), {"split": ["test"]}).tolist() == [12]
        assert store.ids(TEXT, "split = 'test'").tolist() == [12]

    def test_an_update_that_fails_leaves_nothing(self, store: Store) -> None:
        before = seen(fill(store))
        with refuses(DataError, "a value that the column cannot hold"), store.transaction():
            store.update_metadata(np.array([0]), {"split": ["other"]})
            store.update_metadata(np.array([1]), {"split": [object()]})
        assert seen(store) == before

    def test_ready_made_vectors_come_back_by_name_and_modality(self, store: Store) -> None:
        fill(store)
        images, texts = np.eye(3, dtype=np.float32)[:2], np.arange(8, dtype=np.float32).reshape(4, 2)
        if type(store).put_vectors is Store.put_vectors:
            with refuses(StorageError, "vectors that it says it does not keep"):
                store.put_vectors(IMAGE, "clip", np.array([0, 2]), images)
            return
        store.put_vectors(IMAGE, "clip", np.array([2, 0]), images)
        store.put_vectors(TEXT, "clip", np.arange(10, 14), texts)
        assert (store.vector_widths(IMAGE), store.vector_widths(TEXT)) == ({"clip": 3}, {"clip": 2})
        have, found = store.get_vectors(IMAGE, "clip", np.array([0, 1, 2, 99]))
        assert have.tolist() == [True, False, True, False]
        assert found.tolist() == [[0, 1, 0], [1, 0, 0]], (
            "expected the vectors in the order of the ids that were asked for"
        )
        assert store.get_vectors(IMAGE, "other", np.array([0]))[0].tolist() == [False]
        with refuses(DataError, "vectors of another width"):
            store.put_vectors(IMAGE, "clip", np.array([1]), np.ones((1, 4), np.float32))
        store.delete(np.array([2]))
        assert store.get_vectors(IMAGE, "clip", np.array([0, 2]))[0].tolist() == [True, False]

    def test_ids_that_are_coded_are_those_of_that_version(self, store: Store) -> None:
        fill(store)
        store.put_space(sample_space(version=2))
        store.put_codes("mine", 2, IMAGE, sample_codes(LAYOUTS[0], [1, 3]))
        store.put_codes("mine", 2, TEXT, sample_codes(LAYOUTS[0], [11]))
        assert store.ids(coded=("mine", 1)).tolist() == [0, 1, 2, 3, *range(10, 16)]
        assert store.ids(coded=("mine", 2)).tolist() == [1, 3, 11]
        assert store.ids(IMAGE, coded=("mine", 2)).tolist() == [1, 3]
        assert store.ids(IMAGE, "split = 'train'", ("mine", 2)).tolist() == [1]

    def test_codes_of_what_is_no_item_are_coded_too(self, store: Store) -> None:
        fill(store)
        store.put_codes("mine", 1, IMAGE, sample_codes(LAYOUTS[0], [100, 101]))
        assert store.ids(IMAGE, coded=("mine", 1)).tolist() == [0, 1, 2, 3, 100, 101]
        assert store.ids(IMAGE, "item_id > 2", ("mine", 1)).tolist() == [3, 100, 101]
