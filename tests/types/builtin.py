"""Options of components that come with the project. Read by mypy alone; see `surface.py`."""

from __future__ import annotations

from typing import assert_type

from xmr_core import Pipeline
from xmr_dcmh import Dcmh
from xmr_pq import PQ


def using() -> None:
    assert_type(PQ(bytes=8), PQ)
    assert_type(PQ(bytes=8).config.bytes, int)
    PQ(byts=8)  # type: ignore[call-arg]
    PQ(bytes="8")  # type: ignore[arg-type]
    Dcmh(bits=64, seed=1)
    Dcmh(bits=64, see=1)  # type: ignore[call-arg]
    assert_type(Pipeline(None, (), PQ(bytes=8)), Pipeline)
