"""The laws of the functions that a store gives to SQL and that call Python."""

from __future__ import annotations

from xmr_core.errors import StorageError
from xmr_core.store import LiveQuery, Store
from xmr_core.testing.contract import Suite, refuses
from xmr_core.testing.store_samples import fill
from xmr_core.types import IMAGE

__all__ = ["LiveStoreLaws"]


class Echo:
    """A library that gives fixed answers."""

    def search(self, query: LiveQuery) -> tuple[list[int], str, list[float]]:
        return [3, 1], IMAGE, [0.5, 1.0]

    def encode(self, text: str | None, image: str | None, space: str | None) -> list[int] | list[float]:
        return [7]


class LiveStoreLaws(Suite):
    """What `live` must do in any store."""

    def test_live_functions_are_made_or_refused(self, store: Store) -> None:
        fill(store)
        if not store.has_live_functions:
            with refuses(StorageError, "live functions that it says it does not have"):
                store.live(None, Echo())
            return
        store.live(None, Echo())
        assert store.sql("SELECT item_id FROM xmr.search('a dog', 2)").fetchall() == [(3,), (1,)]
