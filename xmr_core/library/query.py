"""Queries: encoding them, searching with them, and showing where a space looked.

A query is one value, `Asked`: text, images, a stored item or a vector, encoded once, however many steps of a search
(the index, re-ranking, attention) read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import ConfigError, DataError, SpaceMismatchError
from xmr_core.explain import attending
from xmr_core.explain.attention import Attention, Explained
from xmr_core.images import Images
from xmr_core.library.content import fault_of_text
from xmr_core.library.finding import OTHER, find
from xmr_core.library.ingest import as_embeddings
from xmr_core.library.results import Query, Results
from xmr_core.library.session import QueryEncoder, Session
from xmr_core.library.spaces import Space
from xmr_core.recipes import Pipeline
from xmr_core.search import reranking
from xmr_core.search.condition import Where, as_condition
from xmr_core.search.hits import check_search
from xmr_core.types import (
    IMAGE,
    TEXT,
    Embeddings,
    Features,
    Float,
    Ids,
    Int,
    Items,
    Texts,
    as_array,
    as_ids,
    as_vectors,
)

__all__ = ["Asked", "Words", "asked", "attend", "encode", "search", "unknown_words"]

SHOWN = 5  # unknown words that a message repeats

Words = list[tuple[list[str], list[str]]]  # the known and the unknown words of each text


@dataclass(frozen=True, eq=False)
class Asked:
    """Queries of a pipeline: items to encode, or vectors. Every property is computed once, when it is first read.

    `encoded` says that the vectors are embeddings of the pipeline already. `keep` holds the features, so that all
    properties come of one encoding; without it they are let go block by block, for many queries in bounded memory.
    """

    pipeline: Pipeline
    source: Items | Embeddings
    encoded: bool = False
    keep: bool = False

    @property
    def modality(self) -> str | None:
        """The modality of the queries; None for vectors."""
        return self.source.modality if isinstance(self.source, Items) else None

    @cached_property
    def features(self) -> list[Features]:
        """What the encoder makes of the queries, in blocks."""
        return list(self._encode())

    @cached_property
    def inputs(self) -> list[Features]:
        """What the last fuser takes, in blocks."""
        return list(self._fuse())

    @cached_property
    def embeddings(self) -> Embeddings:
        """(q, d) what the indexer compares. Raises DataError, NotFittedError."""
        if isinstance(self.source, Embeddings) and self.encoded:
            return self.source
        if isinstance(self.source, Embeddings) and not self.pipeline.fusers:
            return self.pipeline.embed_vectors(self.source)
        return _stacked(map(self.pipeline.finish, self.inputs if self.keep else self._fuse()))

    @cached_property
    def restorable(self) -> Embeddings:
        """(q, d) what re-ranking compares with restored codes: the embeddings before the last fuser."""
        if self.encoded:
            raise DataError("rerank: needs the text, image, item or vector itself, not what was encoded from it")
        if not self.pipeline.fusers:
            return self.embeddings
        return _stacked(Embeddings(block.vectors, block.metric or "l2") for block in self.inputs)

    @cached_property
    def attention(self) -> list[Attention]:
        """(q) where the pipeline looks in each query; empty for vectors. Raises ConfigError where it pays none."""
        if not isinstance(self.source, Items):
            attending.require(self.pipeline)
            return []
        return attending.attend(self.pipeline, self.source, self.features)

    @cached_property
    def words(self) -> Words | None:
        """(q) the known and unknown words of each text; None where these are no texts, or all words are read."""
        encoder = self.pipeline.encoder
        texts = self.source if isinstance(self.source, Items) and self.modality == TEXT else None
        return encoder.known_and_unknown(texts) if encoder and texts is not None else None

    def _encode(self) -> Iterator[Features]:
        if isinstance(self.source, Embeddings):
            return iter([self.source.as_features(IMAGE)])
        return self.pipeline.features(self.source)

    def _fuse(self) -> Iterator[Features]:
        return map(self.pipeline.before_last, self.features if self.keep else self._encode())


def unknown_words(words: Words | None) -> list[list[str]]:
    """(q) the words of each text that the space does not know; empty where it reads no words, or all of them.

    Raises DataError where it knows no word of a text: what such a query finds has nothing to do with it.
    """
    if words is None:
        return []
    lost = [unknown for known, unknown in words if not known]
    if lost:
        told = ", ".join(lost[0][:SHOWN]) or "there is none"
        raise DataError(
            f"{len(lost)} of {len(words)} texts have no word that the space knows ({told}); "
            "use words of the texts that it was fitted on, or an encoder that reads all words, such as minilm"
        )
    return [unknown for _, unknown in words]


def _stacked(blocks: Iterable[Embeddings]) -> Embeddings:
    made = list(blocks)
    if len(made) == 1:
        return made[0]
    return Embeddings(np.concatenate([block.values for block in made]), made[0].metric)


def asked(
    session: Session,
    space: Space,
    text: Texts | None,
    image: Images | None,
    vector: object,
    item: Int | None,
    keep: bool = False,
) -> Asked:
    """The queries of one call: text, images, the id of a stored item, or vectors. Raises DataError."""
    if vector is not None:
        return _given(space, vector, keep)
    if item is None:
        return Asked(space.pipeline, _new_items(session, space, text, image), keep=keep)
    ids = as_ids(item, "item")
    modality = session.store.describe(ids)["modality"][0] if len(ids) == 1 else None
    if modality is None:
        raise DataError(f"item={item}: no such item")
    return Asked(space.pipeline, session.store.items(ids, modality), keep=keep)


@dataclass(frozen=True, eq=False)
class QueryVectors:
    """The vectors of queries, made by what `Library.query_encoder` was given when an encoder asks for them by name."""

    session: Session
    space: str
    data: Sequence[Any]

    def get_vectors(
        self, modality: str, name: str, ids: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """(n,) True, and (n, d) the vectors of these queries. Raises DataError where nothing was given to make them."""
        encoders = self.session.query_encoders
        function = encoders.get(name, {}).get(modality) or encoders.get(self.space, {}).get(modality)
        if function is None:
            raise DataError(
                f"space {self.space!r} compares ready-made vectors {name!r}; nothing makes them of new {modality}s; "
                f"db.query_encoder({name!r}, {modality}=function) does, or search by item= or vector="
            )
        vectors = as_vectors(function([self.data[row] for row in ids.tolist()]), f"query encoder {name!r}")
        if len(vectors) != len(ids):
            raise DataError(f"query encoder {name!r}: expected {len(ids)} vectors, got {len(vectors)}")
        return np.ones(len(ids), bool), vectors


def _new_items(session: Session, space: Space, text: Texts | None, image: Images | None) -> Items:
    """Texts or images to ask with."""
    items = _items(text, image)
    return replace(items, vectors=QueryVectors(session, space.name, items.data))


def _items(text: Texts | None, image: Images | None) -> Items:
    if (text is None) == (image is None):
        raise DataError("give text or image")
    modality, given = (TEXT, text) if text is not None else (IMAGE, image)
    items = list(given) if isinstance(given, (list, tuple)) else [given]
    for position, fault in enumerate(map(fault_of_text, items) if modality == TEXT else ()):
        if fault:
            raise DataError(f"text {position}: {fault}" if len(items) > 1 else f"text: {fault}")
    return Items(modality, items)


def _given(space: Space, vector: object, keep: bool) -> Asked:
    """Queries that are vectors: what `encode` gave, embeddings, or an array of them."""
    pipeline = space.pipeline
    if isinstance(vector, Query):
        if vector.fingerprint != space.record.fingerprint:
            raise SpaceMismatchError(
                f"the query was encoded by {vector.fingerprint[:12]}, the codes of space {space.name!r} by "
                f"{space.record.fingerprint[:12]}: encode it for this space"
            )
        return Asked(pipeline, vector, encoded=True)
    if isinstance(vector, Embeddings):
        return Asked(pipeline, pipeline.indexer.queries(vector), encoded=True)
    if pipeline.encoder is None:
        return Asked(pipeline, as_embeddings(vector), keep=keep)
    return Asked(pipeline, Embeddings(as_array(vector, "vector"), pipeline.metric), encoded=True)


def set_encoder(session: Session, name: str, text: QueryEncoder | None, image: QueryEncoder | None) -> None:
    """See `Library.query_encoder`."""
    given = {modality: function for modality, function in ((TEXT, text), (IMAGE, image)) if function is not None}
    strange = [modality for modality, function in given.items() if not callable(function)]
    if strange:
        raise ConfigError(strange[0], given[strange[0]], "must be a function of a list that returns (n, d) numbers")
    session.query_encoders[name] = given


def encode(session: Session, text: Texts | None, image: Images | None, space: str | None) -> Query:
    """See `Library.encode`."""
    loaded = session.space(space)
    items = _new_items(session, loaded, text, image)
    made = Asked(loaded.pipeline, items).embeddings
    return Query(made.values, made.metric, loaded.record.fingerprint)


def search(
    session: Session,
    text: Texts | None = None,
    image: Images | None = None,
    vector: object = None,
    item: Int | None = None,
    k: Int | None = None,
    within: Float | None = None,
    where: Where | None = None,
    modality: str | None = None,
    space: str | None = None,
    exact: bool = False,
    explain: bool = False,
    rerank: Int = 0,
) -> Results:
    """See `Library.search`."""
    if sum(given is not None for given in (text, image, vector, item)) != 1:
        raise DataError("search: give one of text, image, vector, item")
    k = 10 if k is None and within is None else k
    k, within = check_search(k, within)
    rerank = reranking.check_rerank(rerank, k, within)
    if modality is not None and not isinstance(modality, str):
        raise DataError(f"modality: expected {IMAGE!r} or {TEXT!r}, got {modality!r}")
    condition = None if where is None else as_condition(where)
    loaded = session.space(space)
    with session.run():
        queries = asked(session, loaded, text, image, vector, item, keep=explain or bool(rerank))
        unknown = unknown_words(queries.words) if item is None else []
        target = _target(loaded, queries.modality) if modality is None else modality
        explained = _explained(session, loaded, queries) if explain else None
        candidates = _candidates(loaded, target, rerank, k) if rerank else k
        hits = find(session, loaded, queries.embeddings, target, candidates, within, condition, exact)
        if rerank and k is not None:
            hits = reranking.rerank(hits, queries.restorable, loaded.codes(target), loaded.pipeline.restore, k)
    return Results(hits, session.store, target, loaded.name, explained, unknown)


def _candidates(space: Space, target: str, rerank: int, k: int | None) -> int:
    """How many to compare again: more than there are would be padding. Raises where there is no way back."""
    if not space.has(target):
        has = " and ".join(space.modalities)
        raise DataError(f"rerank: space {space.name!r} has no codes of {target}s, only of {has}s")
    codes = space.codes(target)
    space.pipeline.restore(codes.take(np.arange(0)))
    return min(rerank, max(k or 0, len(codes)))


def _target(space: Space, modality: str | None) -> str:
    """The modality to find for queries of a modality: the other one where the space has it."""
    if modality is not None:
        other = OTHER.get(modality, modality)
        return other if space.has(other) else modality
    stored = sorted(space.record.counts)
    if not stored and not space.modalities:
        raise DataError(f"space {space.name!r} is empty: nothing is left in it to find; add embeddings first")
    if len(stored) != 1:
        raise DataError(f"which modality to find? give modality=, one of {', '.join(stored or space.modalities)}")
    return stored[0]


def _explained(session: Session, space: Space, queries: Asked) -> Explained:
    def of(ids: NDArray[np.int64]) -> list[Attention]:
        with session.run():
            return attending.of_stored(session.store, space.pipeline, ids)

    return Explained(queries.attention, of)


def attend(
    session: Session,
    text: Texts | None,
    image: Images | None,
    item: Int | Ids | None,
    where: Where | None,
    space: str | None,
    keep: bool,
) -> list[Attention]:
    """See `Library.attention`."""
    if sum(given is not None for given in (text, image, item, where)) != 1:
        raise DataError("attention: give one of text, image, item, where")
    if keep and item is None and where is None:
        raise DataError("attention: only that of stored items is kept; give item or where")
    loaded = session.space(space)
    chosen = session.store.ids(where=as_condition(where)) if where is not None else item
    with session.run():
        if chosen is None:
            seen = Asked(loaded.pipeline, _new_items(session, loaded, text, image)).attention
        else:
            seen = attending.of_stored(session.store, loaded.pipeline, as_ids(chosen, "item"))
    if keep:
        session.store.put_attention(loaded.name, loaded.record.version, attending.rows(seen))
    return seen
