"""Indexer `pq`: product quantization, with OPQ, inverted lists and 4-bit fast scan as options. Needs faiss, scipy."""

from __future__ import annotations

import xmr_core as xmr
from xmr_pq.config import PQConfig
from xmr_pq.pq import PQ

__all__ = ["PQ", "PQConfig"]


@xmr.hookimpl
def xmr_indexers() -> list[type[xmr.Indexer]]:
    """The indexer `pq`."""
    return [PQ]
