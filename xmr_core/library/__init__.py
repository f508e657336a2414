"""A library: items, codes and models in one database. One module a verb; users start with `open`."""

from __future__ import annotations

from xmr_core.library.library import Library, open, register

__all__ = ["Library", "open", "register"]
