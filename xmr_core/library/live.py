"""What `xmr.search` and its like call, from inside a statement of SQL: the search and the encoders of a library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xmr_core.errors import DataError
from xmr_core.library import query
from xmr_core.library.session import Session
from xmr_core.search.codes import words_of
from xmr_core.store import LiveQuery

__all__ = ["LiveSession"]


@dataclass(frozen=True, eq=False)
class LiveSession:
    """The live functions of a session."""

    session: Session

    def search(self, asked: LiveQuery) -> tuple[list[int], str, list[float]]:
        """Ids, their modality and distances, nearest first. Raises XmrError."""
        if asked.k is not None and asked.k < 0:
            raise DataError(f"k={asked.k}: expected 0 or more, or NULL for all")
        found = query.search(
            self.session,
            text=asked.text,
            image=asked.image,
            k=self._most(asked) if asked.k is None else max(asked.k, 1),
            within=asked.within,
            where=None if asked.items is None else _among(asked.items),
            modality=asked.modality,
            space=asked.space,
            exact=asked.exact,
        )
        kept = slice(0, 0) if asked.k == 0 else found.ids[0] >= 0
        return found.ids[0][kept].tolist(), found.modality, found.distances[0][kept].tolist()

    def _most(self, asked: LiveQuery) -> int:
        """No fewer than any search can find."""
        counts = self.session.store.counts()
        embeddings = self.session.space(asked.space).record.counts  # of a space without an encoder these are no items
        return max(1, *counts.values(), *embeddings.values())

    def encode(self, text: str | None, image: str | None, space: str | None) -> list[int] | list[float]:
        """The words of a code of bits, or the numbers of a vector. Raises XmrError."""
        values = query.encode(self.session, text, image, space).values[0]
        if values.dtype != np.uint8:
            return [float(value) for value in values]
        return [int(word) for word in words_of(values[None])[0]]


def _among(items: Sequence[int]) -> str:
    return f"item_id IN ({', '.join(str(int(item)) for item in items)})" if items else "FALSE"
