"""The laws of stores for spaces that answer questions: kept apart from those that search, without codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from xmr_core.errors import StorageError
from xmr_core.store import Store
from xmr_core.testing.contract import Suite, refuses
from xmr_core.testing.store_samples import fill, sample_answerer, sample_space
from xmr_core.types import Head

__all__ = ["AnswererStoreLaws"]


def _require_answerers(store: Store) -> None:
    """Skip the law where the store keeps no answerers, once it has refused one."""
    if not store.keeps_answerers:
        with refuses(StorageError, "a space that answers, of which it says that it keeps none"):
            store.put_space(sample_answerer())
        pytest.skip(f"{store.name} keeps no answerers")


class AnswererStoreLaws(Suite):
    """A part of the suite of stores."""

    def test_a_space_that_answers_comes_back_without_codes(self, store: Store) -> None:
        _require_answerers(store)
        space = sample_answerer()
        store.put_space(space)
        (listed,) = store.spaces("answerer")
        found = store.load_space("mine", role="answerer")
        for told in (listed, found):
            assert (told.name, told.version, told.recipe, told.fingerprint, told.seed) == (
                *(space.name, space.version, space.recipe, space.fingerprint, space.seed),
            )
            assert told.role == "answerer" and told.published and told.created and not told.counts
        assert [(part.role, part.name, part.options, part.version, part.fingerprint) for part in found.parts] == [
            (part.role, part.name, part.options, part.version, part.fingerprint) for part in space.parts
        ]
        for got, want in zip(found.parts, space.parts, strict=True):
            assert got.state.keys() == want.state.keys()
            assert all(np.array_equal(got.state[key], array) for key, array in want.state.items())
        assert store.spaces() == [], "`spaces` lists a space that answers among those that search"
        assert list(store.doctor()) == []

    def test_what_is_learned_again_replaces_what_was_learned(self, store: Store) -> None:
        _require_answerers(store)
        for recipe in ("words >> guess", "words >> other"):
            store.put_space(sample_answerer(recipe=recipe))
        assert [space.recipe for space in store.spaces("answerer")] == ["words >> other"]
        assert len(store.load_space("mine", role="answerer").parts) == 2

    def test_spaces_of_one_name_and_two_roles_leave_each_other_alone(self, store: Store) -> None:
        _require_answerers(store)
        ways: list[tuple[Head, Head]] = [("answerer", "indexer"), ("indexer", "answerer")]
        for dropped, left in ways:
            store.put_space(sample_space())
            store.publish("mine", 1)
            store.put_space(sample_answerer())
            store.drop_space("mine", role=dropped)
            assert store.spaces(dropped) == [] and [space.name for space in store.spaces(left)] == ["mine"]
            assert [part.role for part in store.load_space("mine", role=left).parts] == ["encoder", left]
            store.drop_space("mine", role=left)

    def test_an_answerer_that_does_not_exist_is_refused(self, store: Store) -> None:
        _require_answerers(store)
        store.put_space(sample_answerer("one"))
        store.put_space(sample_space("two"))
        calls: list[Callable[[], Any]] = [
            lambda: store.load_space("two", role="answerer"),
            lambda: store.load_space("one", 9, "answerer"),
            lambda: store.load_space("one"),
            lambda: store.publish("one", 0),
            lambda: store.drop_space("two", role="answerer"),
            lambda: store.drop_space("one"),
        ]
        for call in calls:
            with refuses(StorageError, "a space of another role"):
                call()
        assert [space.name for space in store.spaces("answerer")] == ["one"]

    def test_a_transaction_that_fails_keeps_the_answerer_before(self, store: Store) -> None:
        _require_answerers(fill(store))
        with pytest.raises(ZeroDivisionError), store.transaction():
            store.put_space(sample_answerer(recipe="words >> other"))
            raise ZeroDivisionError
        assert store.load_space("mine", role="answerer").recipe == sample_answerer().recipe
