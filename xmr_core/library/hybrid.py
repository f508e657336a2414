"""Hybrid search: one query in several spaces, and their rankings fused by reciprocal rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import DataError
from xmr_core.images import Images
from xmr_core.library.finding import OTHER, check_room, find
from xmr_core.library.query import Asked, Words, asked, unknown_words
from xmr_core.library.results import Results
from xmr_core.library.session import Session
from xmr_core.library.spaces import Space
from xmr_core.search.condition import Condition, Where, as_condition
from xmr_core.search.fusion import DEPTH, reciprocal_rank
from xmr_core.search.hits import check_search
from xmr_core.types import Hits, Int, Texts

__all__ = ["search"]


def search(
    session: Session,
    names: Sequence[str],
    text: Texts | None,
    image: Images | None,
    item: Int | None,
    k: Int | None,
    where: Where | None,
    modality: str | None,
    exact: bool,
    others: Mapping[str, object],
) -> Results:
    """See `Library.search`. `others` are options that name or compare what only one space has; they are refused."""
    _check(names, others)
    if sum(given is not None for given in (text, image, item)) != 1:
        raise DataError("search in several spaces: give one of text, image, item")
    wanted, _ = check_search(10 if k is None else k, None)
    assert wanted is not None
    condition = None if where is None else as_condition(where)
    spaces = [session.space(name) for name in names]
    with session.run():
        queries = [asked(session, space, text, image, None, item) for space in spaces]
        target = _target(spaces, queries[0].modality) if modality is None else modality
        _check_modalities(spaces, queries[0].modality)
        words = [one.words if item is None else None for one in queries]
        unknown = unknown_words(_joined(words))
        there = session.store.counts().get(target, 0)
        depth = max(1, min(there, max(wanted, DEPTH)))
        rankings = [
            _ranked(session, space, one, known, target, depth, condition, exact)
            for space, one, known in zip(spaces, queries, words, strict=True)
        ]
        check_room(wanted, len(rankings[0]), there, target)
        hits, ranks = reciprocal_rank(rankings, wanted)
    return Results(hits, session.store, target, " + ".join(names), None, unknown, tuple(names), ranks)


def _check(names: Sequence[str], others: Mapping[str, object]) -> None:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names) or not names:
        raise DataError(f"spaces: expected a list of names, like ['auto', 'words'], got {names!r}")
    if len(set(names)) < len(names):
        raise DataError(f"spaces: each once, got {', '.join(names)}")
    given = [name for name, value in others.items() if value]
    if given:
        raise DataError(f"{' and '.join(given)}: for one space, not several; give space instead of spaces")


def _target(spaces: Sequence[Space], modality: str | None) -> str:
    """The modality to find: the other one if any of the spaces has it."""
    assert modality is not None  # vectors are refused
    other = OTHER.get(modality, modality)
    return other if any(other in space.modalities for space in spaces) else modality


def _check_modalities(spaces: Sequence[Space], modality: str | None) -> None:
    for space in spaces:
        takes = space.pipeline.modalities
        if modality not in takes:
            known = " and ".join(takes) or "vectors alone"
            raise DataError(f"space {space.name!r} encodes {known}, not {modality}: leave it out of spaces")


def _ranked(
    session: Session,
    space: Space,
    queries: Asked,
    words: Words | None,
    target: str,
    depth: int,
    where: Condition | None,
    exact: bool,
) -> Hits:
    """What one space finds; nothing for texts of which it knows no word."""
    hits = find(session, space, queries.embeddings, target, depth, None, where, exact)
    lost = [row for row, (known, _) in enumerate(words or []) if not known]
    ids: NDArray[np.int64] = hits.ids.copy()
    ids[lost] = -1
    return Hits(ids, np.where(ids >= 0, hits.distances, np.float32(np.inf)), hits.exact)


def _joined(words: Sequence[Words | None]) -> Words | None:
    """The words of each text that some space knows, and those that none knows; None where a space reads all words."""
    given = [one for one in words if one is not None]
    if len(given) < len(words):
        return None
    return [
        (
            [word for known, _ in texts for word in known],
            [word for word in texts[0][1] if all(word in unknown for _, unknown in texts)],
        )
        for texts in zip(*given, strict=True)
    ]
