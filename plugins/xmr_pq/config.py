"""The options of `pq`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from xmr_core import ConfigError
from xmr_core.plugin import Range, Seed

__all__ = ["PQConfig"]


@dataclass(frozen=True)
class PQConfig:
    """How many bytes a vector becomes, and how its codes are scanned."""

    bytes: Annotated[
        int, Range(1, 1024), "bytes of a code; twice as many: twice the memory and time of a scan, higher recall"
    ] = 8
    bits: Annotated[
        int,
        Range(1, 8),
        "bits of a symbol, 2**bits centroids a subquantizer; 4, which fast needs, errs more for the same bytes",
    ] = 8
    rotation: Annotated[
        Literal["opq"] | None,
        "opq: turn the space so that its parts quantize best, a minute of fit for higher recall; None: no rotation",
    ] = None
    lists: Annotated[
        int | None,
        Range(1, 1 << 20),
        "inverted lists, sqrt(n) to 16 sqrt(n): faster from 100,000 codes, misses some; None: every code is scanned",
    ] = None
    probes: Annotated[int, Range(1, 1 << 20), "lists that a query scans; more: slower, higher recall"] = 16
    fast: Annotated[
        bool, "4-bit fast scan: several times faster by rounded tables, its finds ranked again; misses a few"
    ] = False
    seed: Annotated[Seed, "starts the k-means"] = 0

    def __post_init__(self) -> None:
        if self.bytes * 8 % self.bits:
            raise ConfigError("bits", self.bits, f"{self.bytes} bytes must hold a whole number of symbols")
        if self.fast and self.bits != 4:
            raise ConfigError("fast", self.fast, "fast scan reads symbols of 4 bits; say bits=4")

    @property
    def parts(self) -> int:
        """m, the symbols of a code."""
        return self.bytes * 8 // self.bits
