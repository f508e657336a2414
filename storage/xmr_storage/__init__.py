"""Where a library lives: one DuckDB file, schema `xmr`, beside whatever tables the file already has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xmr_core as xmr

if TYPE_CHECKING:
    from xmr_core.store import Store

__all__ = ["xmr_stores"]


@xmr.hookimpl
def xmr_stores() -> list[type[Store]]:
    """The DuckDB store."""
    from xmr_storage.duckdb.store import DuckDBStore  # opens nothing; duckdb itself is imported when a file is

    return [DuckDBStore]
