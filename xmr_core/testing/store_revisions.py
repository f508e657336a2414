"""The laws of stores for revisions: what changed since one, told so that only that need be loaded again."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from xmr_core.store import Store
from xmr_core.testing.contract import Suite
from xmr_core.testing.store_samples import LAYOUTS, fill, rows, sample_codes, sample_space
from xmr_core.types import IMAGE, TEXT

__all__ = ["RevisionLaws"]


def _require_counting(store: Store) -> None:
    """Skip the law where the store does not count revisions: every one is another then, and nothing is known of any."""
    if type(store).revision is Store.revision:
        pytest.skip(f"{store.name} does not count revisions")


class RevisionLaws(Suite):
    """A part of the suite of stores."""

    case: ClassVar[Any]

    def test_a_revision_grows_with_every_change_and_with_nothing_else(self, store: Store) -> None:
        _require_counting(store)
        told = [store.revision()]
        fill(store)
        told.append(store.revision())
        for change in (
            lambda: store.put_items(rows(TEXT, [30]), {}),
            lambda: store.put_links(np.array([0]), np.array([30])),
            lambda: store.update_metadata(np.array([0]), {"split": ["other"]}),
            lambda: store.publish("mine", 1),
            lambda: store.delete(np.array([30])),
            lambda: store.drop_space("mine"),
        ):
            change()
            told.append(store.revision())
        assert told == sorted(set(told)), "a change left the revision as it was, or made it smaller"
        store.ids()
        store.spaces()
        with pytest.raises(ZeroDivisionError), store.transaction():
            store.put_items(rows(TEXT, [31]), {})
            raise ZeroDivisionError
        assert store.revision() == told[-1], "the revision is another, though nothing was changed"

    def test_a_revision_is_the_same_for_every_handle(self, store: Store, url: str) -> None:
        _require_counting(store)
        fill(store)
        other = self.case.store.open(url)
        try:
            before = store.revision()
            assert other.revision() == before
            other.put_codes("mine", 1, TEXT, sample_codes(LAYOUTS[0], [40]))
            assert store.revision() == other.revision() > before
            changes = store.changes("mine", 1, TEXT, before)
            assert changes is None or changes.came.tolist() == [40]
        finally:
            other.close()

    def test_changes_are_those_since_the_revision(self, store: Store) -> None:
        """Where the store tells them; it may always say that it does not know."""
        _require_counting(store)
        since = [fill(store).revision()]
        for change in (
            lambda: store.put_codes("mine", 1, IMAGE, sample_codes(LAYOUTS[0], range(50, 60))),
            lambda: store.delete(np.array([2, 55])),
            lambda: store.put_codes("mine", 1, IMAGE, sample_codes(LAYOUTS[0], [2])),
        ):
            change()
            since.append(store.revision())
        came = [[2, *range(50, 55), *range(56, 60)], [2], [2], []]
        went = [[55], [55], [], []]
        for revision, wanted_came, wanted_went in zip(since, came, went, strict=True):
            changes = store.changes("mine", 1, IMAGE, revision)
            if changes is not None:
                assert (changes.came.tolist(), changes.went.tolist()) == (wanted_came, wanted_went)
        other = store.changes("mine", 1, TEXT, since[-1])
        assert other is None or not other

    def test_nothing_is_known_of_a_revision_that_never_was(self, store: Store) -> None:
        _require_counting(store)
        fill(store)
        for revision in (store.revision() + 1, store.revision() - 1, 0):
            assert store.changes("mine", 1, IMAGE, revision) is None, f"revision {revision} is none of this library"

    def test_a_space_in_the_place_of_another_is_loaded_whole(self, store: Store) -> None:
        _require_counting(store)
        before = fill(store).revision()
        store.drop_space("mine", 1)
        store.put_space(sample_space())
        assert store.changes("mine", 1, IMAGE, before) is None

    def test_codes_of_chosen_ids_are_theirs_alone(self, store: Store) -> None:
        store.put_space(sample_space())
        codes = sample_codes(LAYOUTS[0], [0, 2, 5, 7])
        store.put_codes("mine", 1, IMAGE, codes)
        store.put_codes("mine", 1, TEXT, sample_codes(LAYOUTS[0], [1], seed=1))
        found = store.get_codes("mine", 1, IMAGE, np.array([7, 1, 2, 99]))
        assert found.ids.tolist() == [2, 7] and found.values.tobytes() == codes.values[[1, 3]].tobytes()
        assert len(store.get_codes("mine", 1, IMAGE, np.array([], np.int64))) == 0
