"""Lattice codes in SQL: a view decodes numbers to points by joins, piece by piece, see `SphereLattice.tables`."""

from __future__ import annotations

import numpy as np

from xmr_core.plugin import Column, Metric, cosine_form, vector_form
from xmr_core.sql import (
    Decoded,
    Derive,
    Join,
    SqlForm,
    Step,
    concatenate,
    floor_divide,
    modulo,
    number,
    row,
    side,
    slice_of,
    sqrt,
    unsigned,
)
from xmr_spreading.lattice import SphereLattice

__all__ = ["lattice_form"]

MOST_PIECES = 16  # of a point that joins put together; more would be no sane query
STEP = ("piece", "rest", "share", "below", "after", "first")


def lattice_form(lattice: SphereLattice, metric: Metric, compared: bool) -> SqlForm | None:
    """How SQL decodes the points of codes and, where they are `compared`, their distance to a query of any length that
    is not rounded. None where points have too many pieces."""
    tables = lattice.tables()
    lengths = [int(length) for length in tables["lengths"]]
    if len(lengths) > MOST_PIECES:
        return None
    columns = dict(zip(STEP, tables["steps"].astype(np.uint64).T, strict=True))
    narrow = {name: columns[name].astype(np.int32) for name in ("piece", "rest", "share")}
    entries = tables["entries"]
    entry = {
        "length": entries[:, 0].astype(np.int32),
        "entry": entries[:, 1].astype(np.uint64),
        "numbers": entries[:, 2:].astype(np.int8),
    }
    points = Decoded("point", _decoding(lattice.r2, lengths), (Column("vector", "float32", lattice.dim),))
    side_tables = {"step": {**columns, **narrow}, "entry": entry}
    if not compared:
        return SqlForm(decoded=points, tables=side_tables)
    cosine = cosine_form(lattice.dim)
    distance = cosine if metric == "cosine" else sqrt(number(2) * cosine)
    return vector_form(lattice.dim, metric, points, distance, side_tables)


def _decoding(r2: int, lengths: list[int]) -> tuple[Step, ...]:
    """For each piece, its share of the squared length by the number of the point, and then its entries."""
    steps: list[Step] = [Derive({"number": unsigned(row("w0")), "rest": number(r2)})]
    after = row("number") - side("below")
    for piece, length in enumerate(lengths):
        so_far = {"point": row("point")} if piece else {}
        steps.append(
            Join(
                "step",
                {
                    "number": modulo(after, side("after")),
                    "rest": row("rest") - side("share"),
                    "entry": side("first") + floor_divide(after, side("after")),
                    **so_far,
                },
                equal={"piece": number(piece), "rest": row("rest")},
                floor=("below", row("number")),
            )
        )
        numbers = slice_of(side("numbers"), number(0), number(length))
        point = concatenate(row("point"), numbers) if piece else numbers
        equal = {"length": number(length), "entry": row("entry")}
        steps.append(Join("entry", {"number": row("number"), "rest": row("rest"), "point": point}, equal=equal))
    return (*steps, Derive({"vector": row("point")}))
