"""The nearest items in one space: by their own codes or, where it has none of that modality, through their links."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import DataError
from xmr_core.library.session import Session
from xmr_core.library.spaces import Space
from xmr_core.search.condition import Condition
from xmr_core.search.fusion import by_links
from xmr_core.search.selection import Selection
from xmr_core.types import IMAGE, TEXT, Embeddings, Hits

__all__ = ["OTHER", "check_room", "find"]

OTHER = {IMAGE: TEXT, TEXT: IMAGE}
PADDING = 1 << 24  # empty rows that an answer may have, where k is larger than the collection


def find(
    session: Session,
    space: Space,
    queries: Embeddings,
    target: str,
    k: int | None,
    within: float | None,
    where: Condition | None,
    exact: bool,
) -> Hits:
    """The k nearest items of modality `target`, of those that match `where`; what a query has nothing in common with
    is left out. An image is as near as its nearest caption in a space of texts alone, and the reverse. Raises
    DataError."""
    radius = _matching(space.pipeline.indexer.no_match, within)
    among = None if where is None else _chosen(session, space, target, where)
    if space.has(target):
        index = space.index(target, exact)
        check_room(k, len(queries), len(index), target)
        return index.search(queries, k, radius, among)
    links = _links(session, space, target)
    if among is not None:
        links = links[np.isin(links[:, 1], among.ids)]
    check_room(k, len(queries), len(np.unique(links[:, 1])), target)
    return by_links(space.index(OTHER[target], exact), queries, links, k, radius)


def _chosen(session: Session, space: Space, modality: str, where: Condition) -> Selection:
    """The ids that a condition chooses: of items, or of embeddings made elsewhere, which need be no items."""
    coded = (space.name, space.record.version) if space.pipeline.encoder is None else None
    return session.filters.of(session.store, where, modality, coded)


def _links(session: Session, space: Space, target: str) -> NDArray[np.int64]:
    """(p, 2): items with codes in the space, and the items of `target` that they lead to. Raises DataError."""
    has = " and ".join(space.modalities)
    if OTHER.get(target) not in space.modalities:
        raise DataError(f"modality={target!r}: space {space.name!r} has {has}")
    pairs = session.links()  # (p, 2) image, text
    links = pairs if target == TEXT else pairs[:, ::-1]
    if not len(links):
        raise DataError(f"modality={target!r}: space {space.name!r} has {has}, and no {target} is linked to one")
    return links[np.isin(links[:, 0], space.codes(OTHER[target]).ids)]


def _matching(no_match: float, within: float | None) -> float | None:
    """The radius inside which items have something in common with a query."""
    if math.isinf(no_match):
        return within
    limit = float(np.nextafter(np.float32(no_match), np.float32(-np.inf)))
    return limit if within is None else min(within, limit)


def check_room(k: int | None, queries: int, there: int, target: str) -> None:
    """Raise DataError where an answer would be padding for the most part, too much to hold."""
    if k is not None and queries * (k - there) > PADDING:
        raise DataError(f"k={k}: there are {there} {target}s to find; ask for no more than that")
