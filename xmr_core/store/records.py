"""The rows that a library gives to a store and gets back: plain values, without behaviour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmr_core.components import KeptVectors, Provider
from xmr_core.errors import StorageError
from xmr_core.sql import SqlForm
from xmr_core.types import Head, Layout, Metric

__all__ = ["AttentionRows", "Changes", "ItemRows", "PartRecord", "RunRecord", "SpaceRecord"]


@dataclass(frozen=True, eq=False)
class ItemRows:
    """Items as they are stored: columns of n. `content` is the sha256 of the picture's bytes, the text or the vector.

    A picture is kept as `source` (its path) or `blob` (the bytes of its file); a text as `text`; vectors given
    ready-made are kept apart, by `put_features`.
    """

    modality: str
    ids: NDArray[np.int64]
    keys: Sequence[str]
    content: Sequence[str]
    source: Sequence[str | None]
    text: Sequence[str | None]
    blob: Sequence[bytes | None]


@dataclass(frozen=True, eq=False)
class PartRecord:
    """A component as it is stored: role, name, options, state, the versions that made it, and who brought it."""

    role: str
    name: str
    options: Mapping[str, Any]
    state: Mapping[str, NDArray[Any]]
    version: int
    fingerprint: str
    providers: Sequence[Provider] = ()


@dataclass(frozen=True, eq=False)
class SpaceRecord:
    """A space: a fitted pipeline, and the codes it made. `version` counts the fits of one name; one is published.

    A space that answers questions has no codes: `metric` and `layout` are None. Its version is 0 and published; what
    is learned again replaces it.
    """

    name: str
    version: int
    recipe: str
    fingerprint: str
    metric: Metric | None = None
    layout: Layout | None = None
    seed: int | None = None
    created: str = ""
    published: bool = False
    parts: Sequence[PartRecord] = ()
    form: SqlForm | None = None  # how SQL reads the codes; None where it cannot
    counts: Mapping[str, int] = field(default_factory=dict)  # codes of each modality
    kept: Mapping[str, KeptVectors] = field(default_factory=dict)  # what codes are made of, by modality

    @property
    def role(self) -> Head:
        """What the last component of its pipeline is."""
        return "answerer" if self.layout is None else "indexer"

    @property
    def code_layout(self) -> Layout:
        """How its codes are laid out. Raises StorageError where it answers questions and has none."""
        if self.layout is None:
            raise StorageError(f"{self.name!r} answers questions; it has no codes")
        return self.layout


@dataclass(frozen=True, eq=False)
class AttentionRows:
    """Attention as it is stored: columns of r, one row a step and region or word of an item.

    `steps` count from 1, `positions` from 0; `tokens` are words, or "row,column" of a region.
    """

    ids: NDArray[np.int64]
    steps: NDArray[np.int64]
    positions: NDArray[np.int64]
    tokens: Sequence[str]
    weights: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Changes:
    """What became of the codes of one modality since a revision; ids ascend, and none is in both.

    `came` (n,): they have a code now that they had not, or another one. `went` (m,): they have none any longer, if they
    had one.
    """

    came: NDArray[np.int64]
    went: NDArray[np.int64]

    def __bool__(self) -> bool:
        """True where anything changed."""
        return bool(len(self.came) or len(self.went))


@dataclass(frozen=True)
class RunRecord:
    """One step's figures of a fit, or one figure of an evaluation. `created` is the time that the store wrote it."""

    run: str
    space: str
    version: int
    what: str
    step: int
    figures: Mapping[str, float]
    notes: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""
