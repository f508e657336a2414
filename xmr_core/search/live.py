"""Searches that come from inside a statement of SQL: what is asked, and who answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Live", "LiveQuery"]


@dataclass(frozen=True)
class LiveQuery:
    """What `xmr.search` in SQL asks for: one of `text` and `image` (a path). `k` None is all, `items` None is any."""

    text: str | None = None
    image: str | None = None
    k: int | None = None
    space: str | None = None
    modality: str | None = None
    within: float | None = None
    items: Sequence[int] | None = None
    exact: bool = False


class Live(Protocol):
    """What the live functions of a connection call: the search and the encoders of an open library."""

    def search(self, query: LiveQuery) -> tuple[list[int], str, list[float]]:
        """Ids, the modality they have, and distances, nearest first. Raises XmrError."""

    def encode(self, text: str | None, image: str | None, space: str | None) -> list[int] | list[float]:
        """The words of a code of bits, or the numbers of a vector. Raises XmrError."""
