"""A library: items, codes and models in one database. One module for each verb; users start with `open`."""

from __future__ import annotations

from xmr_core.library.library import Library
from xmr_core.library.opening import open, register

__all__ = ["Library", "open", "register"]
