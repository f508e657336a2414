"""What a library needs of a database, and the rows that go to and fro."""

from __future__ import annotations

from xmr_core.search.live import Live, LiveQuery
from xmr_core.store.protocol import Store
from xmr_core.store.records import AttentionRows, Changes, ItemRows, PartRecord, RunRecord, SpaceRecord

__all__ = [
    "AttentionRows",
    "Changes",
    "ItemRows",
    "Live",
    "LiveQuery",
    "PartRecord",
    "RunRecord",
    "SpaceRecord",
    "Store",
]
