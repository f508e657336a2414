"""The options of `lsh`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from xmr_core.plugin import Range, Seed

__all__ = ["MOST_PROBES", "LshConfig"]

MOST_PROBES = 512  # in a table; a filter that wants more is scanned


@dataclass(frozen=True)
class LshConfig:
    """How many tables, how fine, and how far around each query they are searched."""

    tables: Annotated[
        int, Range(1, 256), "hash tables; more: higher recall, 4 bytes an item each, slower in proportion"
    ] = 8
    planes: Annotated[
        int | None,
        Range(1, 32),
        "2**planes buckets a table; more: fewer candidates, lower recall; None: log2 of the items",
    ] = None
    probes: Annotated[
        int,
        Range(1, MOST_PROBES),
        "buckets looked into in each table; more: higher recall, more candidates; 1 is plain LSH",
    ] = 32
    rotation: Annotated[
        Literal["itq"] | None,
        "itq: planes learned from the data, higher recall for some seconds of fit; None: random planes",
    ] = None
    centre: Annotated[
        bool, "planes through the mean of the data, so that buckets fill evenly; False: through the origin"
    ] = True
    seed: Annotated[Seed, "draws the planes"] = 0
