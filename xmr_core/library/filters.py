"""The ids that conditions choose, kept for the next search with the same condition."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

from xmr_core.search.condition import Condition
from xmr_core.search.selection import Selection
from xmr_core.store import Store

__all__ = ["Filters"]

CONDITIONS = 64  # kept at most: those asked last
LIMIT = 64 << 20  # bytes of their ids, and of the positions of these in indexes

Key = tuple[Condition, str, tuple[str, int] | None]


class Filters:
    """The selections of the conditions that were asked last. One is asked of the store again once its items may have
    changed, and each time where the store cannot tell: see `Store.mark`."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Key, tuple[Hashable, Selection]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, store: Store, where: Condition, modality: str, coded: tuple[str, int] | None) -> Selection:
        """The ids that a condition lets through to the codes of a modality: see `Store.passing`. Raises DataError."""
        key, mark = (where, modality, coded), store.mark(where)
        known = self._known(key, mark)
        if known is not None:
            return known
        chosen = Selection(store.passing(modality, where, coded))
        if mark is not None and mark == store.mark(where):  # nothing was changed while it was read
            self._keep(key, mark, chosen)
        return chosen

    def _known(self, key: Key, mark: Hashable | None) -> Selection | None:
        with self._lock:
            known = self._kept.pop(key, None)
            if known is None or mark is None or known[0] != mark:
                return None
            self._kept[key] = known  # now the last
            return known[1]

    def _keep(self, key: Key, mark: Hashable, chosen: Selection) -> None:
        with self._lock:
            self._kept[key] = mark, chosen
            while len(self._kept) > CONDITIONS or sum(kept.nbytes for _, kept in self._kept.values()) > LIMIT:
                self._kept.popitem(last=False)
