"""The options of `hnsw`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from xmr_core import ConfigError
from xmr_core.plugin import Range, Seed

__all__ = ["HnswConfig"]


@dataclass(frozen=True)
class HnswConfig:
    """The graph's width, and how hard it is searched."""

    m: Annotated[
        int,
        Range(2, 512),
        "links a vector, twice that on the ground level; more: higher recall, 8 m bytes a vector, slower build",
    ] = 16
    ef_construction: Annotated[
        int, Range(2, 10_000), "candidates while building, no fewer than m; more: a better graph, a slower build"
    ] = 200
    ef: Annotated[
        int,
        Range(1, 100_000),
        "candidates while searching, never fewer than k; more: higher recall, slower, about in proportion",
    ] = 64
    seed: Annotated[Seed, "draws the level of each vector"] = 0
    threads: Annotated[
        int | None,
        Range(1, 256),
        "threads that build; with 1 the graph is the same every time, None takes all cores and gives that up",
    ] = 1

    def __post_init__(self) -> None:
        if self.ef_construction < self.m:
            raise ConfigError("ef_construction", self.ef_construction, f"must be {self.m} or more, as m is")
