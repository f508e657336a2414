"""A space: a fitted pipeline, the codes it made, and the indexes over them; written to a store and read back.

A space whose pipeline ends in an answerer has neither codes nor indexes.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, cast

import numpy as np

from xmr_core.errors import ConfigError, DataError, StateError
from xmr_core.library.choosing import Choice
from xmr_core.library.indexes import Indexes
from xmr_core.library.installed import load_part, providers_of
from xmr_core.options import as_int
from xmr_core.progress import kept_vectors
from xmr_core.recipes import Pipeline
from xmr_core.registry import Role
from xmr_core.search.index import Index
from xmr_core.store import PartRecord, SpaceRecord, Store
from xmr_core.types import Codes, Head, Int, Layout

__all__ = ["Space", "check_name", "check_seed", "check_version", "record_of"]

NAME = re.compile(r"(?!.*_v\d+$)[a-z][a-z0-9_]{0,39}")


def record_of(name: str, version: int, pipeline: Pipeline, layout: Layout | None, seed: int | None) -> SpaceRecord:
    """What a store keeps of a fitted pipeline; `layout` is that of its codes, None where it answers questions."""
    head = "answerer" if layout is None else "indexer"
    roles = ["encoder"] * bool(pipeline.encoder) + ["fuser"] * len(pipeline.fusers) + [head]
    parts = [
        PartRecord(
            *(role, part.name, part.stored.options, part.stored.state, part.stored.version, part.fingerprint()),
            providers_of(cast(Role, role), part),
        )
        for role, part in zip(roles, pipeline.parts, strict=True)
    ]
    recipe, fingerprint = repr(pipeline), pipeline.fingerprint()
    if layout is None:
        return SpaceRecord(name, version, recipe, fingerprint, seed=seed, parts=parts)
    form, kept = pipeline.indexer.sql_form(layout, pipeline.metric), kept_vectors(pipeline.encoder, pipeline.fusers)
    return SpaceRecord(
        name, version, recipe, fingerprint, pipeline.metric, layout, seed, parts=parts, form=form, kept=kept
    )


class Space:
    """A space that is loaded. `record` says what it is, `pipeline` encodes or answers, `index` searches."""

    def __init__(self, record: SpaceRecord, pipeline: Pipeline, store: Store) -> None:
        """Use `load`, or `Library.space`."""
        self.record, self.pipeline, self._store = record, pipeline, store
        self._indexes: Indexes | None = None
        self.choice: Choice | None = None  # why this recipe, where `fit` chose it

    @classmethod
    def load(cls, store: Store, name: str, version: int | None = None, role: Head = "indexer") -> Space:
        """The space as it was stored. Raises StorageError, and what `load_part` raises of a component."""
        record = store.load_space(name, version, role)
        what = f"{'space' if role == 'indexer' else 'answerer'} {name!r}"
        made: list[Any] = [load_part(part, what) for part in record.parts]
        roles = [part.role for part in record.parts]
        head = 1 if roles[:1] == ["encoder"] else 0
        if roles != ["encoder"] * head + ["fuser"] * (len(roles) - head - 1) + [role]:
            raise StateError(f"{what}: its parts are damaged ({', '.join(roles) or 'none'}); drop it, fit again")
        encoder = made.pop(0) if head else None
        return cls(record, Pipeline(encoder, tuple(made[:-1]), made[-1]), store)

    @property
    def name(self) -> str:
        """Its name, as SQL knows it."""
        return self.record.name

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities it has codes of, or could encode."""
        return tuple(sorted({*self.record.counts, *self.pipeline.modalities}))

    def has(self, modality: str) -> bool:
        """True where it has codes of a modality, or could encode it."""
        return modality in self.pipeline.modalities or modality in self.record.counts

    def __repr__(self) -> str:
        if self.record.role == "answerer":
            return f"<space {self.name!r}: {self.record.recipe}; answers questions>"
        codes = ", ".join(f"{count} {modality}s" for modality, count in self.record.counts.items())
        return f"<space {self.name!r} version {self.record.version}: {self.record.recipe}; {codes or 'no codes'}>"

    @property
    def indexes(self) -> Indexes:
        """Its indexes. Raises StorageError where it answers questions."""
        if self._indexes is None:
            self.record.code_layout  # noqa: B018  (raises)
            self._indexes = Indexes(self._store, self.record, self.pipeline.indexer)
        return self._indexes

    def index(self, modality: str, exact: bool = False) -> Index:
        """The index over the codes of a modality: built at the first search, or read from the cache beside the file."""
        return self.indexes.get(modality, exact)

    def codes(self, modality: str) -> Codes:
        """The codes of a modality."""
        return self.indexes.codes(modality)

    def is_at(self, record: SpaceRecord) -> bool:
        """True where this is the space that a store has under a record: nobody fitted another in its place."""
        own = self.record
        return (own.fingerprint, own.created, own.layout) == (record.fingerprint, record.created, record.layout)

    def follow(self, record: SpaceRecord) -> None:
        """The store has changed: be what `record` says, and take in the codes that are others now."""
        self.record = replace(record, parts=self.record.parts)
        if self._indexes is not None:
            self._indexes.follow()

    def forget(self) -> None:
        """End what is done in the background. The indexes are loaded again when they are next searched."""
        if self._indexes is not None:
            self._indexes.close()


def check_name(name: str) -> str:
    """The name of a space, if it is one. Raises ConfigError."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        rule = "use a to z, 0 to 9 and _, beginning with a letter, 40 characters at most, not ending in _v1"
        raise ConfigError("name", name, rule)
    return name


def check_version(name: object, version: object) -> None:
    """Raise DataError where this is no number of a version, nor None."""
    if version is not None and (isinstance(version, bool) or not isinstance(version, (int, np.integer))):
        raise DataError(f"space {name!r}: expected the number of a version, got {version!r}")


def check_seed(seed: Int) -> int:
    """The seed of a fit or a sample, if it is one. Raises ConfigError."""
    return as_int(seed, "seed", 0, (1 << 63) - 1, ConfigError)
