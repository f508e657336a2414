"""Product quantization in SQL: asymmetric distances by look-ups, in tables that are made once a query.

Letters: m subquantizers, ksub centroids each, dsub dimensions each, d = m * dsub.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmr_core.plugin import DataError, Layout, Metric
from xmr_core.sql import (
    Balance,
    Derive,
    Expression,
    Fold,
    Join,
    QueryType,
    Spread,
    SqlForm,
    Step,
    added,
    any_of,
    asked,
    blend,
    chain,
    code,
    cosine,
    dot,
    doubles,
    euclidean,
    floats,
    gather,
    number,
    pick,
    row,
    side,
    single,
    slice_of,
    sqrt,
)

__all__ = ["pq_form"]

VECTOR, CENTROID = row("vector"), doubles(side("centroid"))
WITH_SQUARE = Derive({"vector": VECTOR, "square": dot(VECTOR, VECTOR)})


def pq_form(
    layout: Layout, metric: Metric, codebooks: NDArray[np.float32], rotation: NDArray[np.float32] | None = None
) -> SqlForm:
    """How SQL compares codes by `codebooks` (m, ksub, dsub); `rotation` (d, d or more), its rows orthonormal, where
    vectors are cut as `rotation @ x`. Raises DataError where they do not fit the layout.

    A query is given as vectors are, and turned here; `of_code` asks with the vector that a code stands for.
    """
    if codebooks.ndim != 3 or len(codebooks) != layout.dim:
        raise DataError(f"codebooks: expected ({layout.dim}, symbols, dimensions) for {layout}, got {codebooks.shape}")
    m, _, dsub = codebooks.shape
    if rotation is not None and len(rotation) != m * dsub:
        raise DataError(f"rotation: expected {m * dsub} rows, got {rotation.shape}")
    width = m * dsub if rotation is None else rotation.shape[1]
    symbols = [column.name for column in layout.columns]
    return SqlForm(
        query=QueryType("vector", width),
        of_query=(Derive({"vector": doubles(row("q"))}), WITH_SQUARE, *(_turned() if rotation is not None else ())),
        of_code=_stood_for(symbols),
        prepare=_look_up_tables(m, dsub, metric),
        as_query=_turned_back(width) if rotation is not None else (Derive({"value": floats(VECTOR)}),),
        distance=_distance(symbols, metric),
        tables=_tables(codebooks, rotation),
        balance=Balance("symbols", tuple(symbols), m),
    )


def _tables(codebooks: NDArray[np.float32], rotation: NDArray[np.float32] | None) -> dict[str, dict[str, NDArray[Any]]]:
    parts, symbols = np.indices(codebooks.shape[:2]).reshape(2, -1)
    centroids = np.ascontiguousarray(codebooks.reshape(len(parts), -1), np.float32)
    tables: dict[str, dict[str, NDArray[Any]]] = {
        "codebook": {"part": parts.astype(np.int16), "symbol": symbols.astype(np.int32), "centroid": centroids}
    }
    if rotation is not None:
        dimensions = np.arange(len(rotation), dtype=np.int32)
        tables["rotation"] = {"dimension": dimensions, "axis": np.ascontiguousarray(rotation, np.float32)}
    return tables


def _turned() -> tuple[Step, ...]:
    """The rotated vector; its length is still that of the query."""
    coordinate = dot(doubles(side("axis")), VECTOR)
    return (
        Join("rotation", {"dimension": side("dimension"), "coordinate": coordinate, "square": row("square")}),
        Fold({"vector": gather(row("coordinate"), row("dimension")), "square": any_of(row("square"))}),
    )


def _turned_back(width: int) -> tuple[Step, ...]:
    """The vector before the rotation, whose axes are orthonormal."""
    return (
        Join("rotation", {"coordinate": pick(VECTOR, side("dimension")), "axis": doubles(side("axis"))}),
        Fold({"whole": blend(row("coordinate"), row("axis"), width)}),
        Derive({"value": floats(row("whole"))}),
    )


def _stood_for(symbols: list[str]) -> tuple[Step, ...]:
    """The centroids of a code, one after the other."""
    own = {"part": row("part"), "symbol": row("symbol")}
    return (
        Spread("part", "symbol", tuple(row(symbol) for symbol in symbols)),
        Join("codebook", {"part": row("part"), "centroid": CENTROID}, equal=own),
        Fold({"vector": chain(row("centroid"), row("part"))}),
        WITH_SQUARE,
    )


def _look_up_tables(m: int, dsub: int, metric: Metric) -> tuple[Step, ...]:
    """For each subquantizer j a list t<j> of what every symbol adds, and under cosine s<j>, the centroids' squares."""
    cut = slice_of(VECTOR, side("part") * number(dsub), number(dsub))
    gap = euclidean(cut, CENTROID)
    columns = {
        "part": side("part"),
        "symbol": side("symbol"),
        "added": gap * gap if metric == "l2" else dot(cut, CENTROID),
        "square": row("square"),
    }
    listed = {"t": "added"}
    if metric == "cosine":
        columns["centroid_square"] = dot(CENTROID, CENTROID)
        listed["s"] = "centroid_square"
    tables = {
        f"{letter}{j}": gather(row(column), row("symbol"), only=(row("part"), number(j)))
        for letter, column in listed.items()
        for j in range(m)
    }
    return (Join("codebook", columns), Fold({**tables, "square": any_of(row("square"))}))


def _distance(symbols: list[str], metric: Metric) -> Expression:
    def looked_up(letter: str) -> Expression:
        return added(pick(asked(f"{letter}{j}"), code(symbol)) for j, symbol in enumerate(symbols))

    if metric == "l2":
        return single(sqrt(looked_up("t")))
    return single(-looked_up("t") if metric == "ip" else cosine(looked_up("t"), looked_up("s") * asked("square")))
