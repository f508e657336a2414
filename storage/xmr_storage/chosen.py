"""Some rows of a table, by their ids or keys: a few as parameters, many as a table beside it.

A database plans a statement with a few parameters in a fraction of the time in which it is given a table to join with,
whose size it does not know before it has read it. One item is added by a dozen such statements.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from xmr_storage.connection import Connection

__all__ = ["FEW", "at", "chosen"]

FEW = 16  # values that are parameters


@contextlib.contextmanager
def chosen(
    con: Connection, column: str, values: NDArray[np.int64] | Sequence[str], first: int = 1
) -> Iterator[tuple[str, list[Any]]]:
    """A condition, that a column is one of these values, and its parameters, the `first` of which is `$first`.

    It can be asked inside the block, any number of times.
    """
    import pyarrow as pa

    if not len(values):
        yield "FALSE", []
    elif len(values) <= FEW:
        holders = ", ".join(f"${first + place}" for place in range(len(values)))
        yield f"{column} IN ({holders})", [*(values.tolist() if isinstance(values, np.ndarray) else values)]
    else:
        some = pa.array(values, pa.int64() if isinstance(values, np.ndarray) else pa.string())
        with con.given(_chosen=pa.table({"one": some})):
            within, limits = "", []
            if isinstance(values, np.ndarray):  # spare the database to read where they cannot lie
                within, limits = (
                    f"{column} BETWEEN ${first} AND ${first + 1} AND ",
                    [int(values.min()), int(values.max())],
                )
            yield f"{within}{column} IN (SELECT one FROM _chosen)", limits


def at(ids: NDArray[np.int64], found: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """(n,) which of `ids` were found, and (m,) the positions in `found`, in any order, of those that were."""
    order = np.argsort(found, kind="stable")
    places = np.searchsorted(found, ids, sorter=order)
    rows = order.take(places, mode="clip") if len(found) else np.zeros(len(ids), np.int64)
    have = found[rows] == ids if len(found) else np.zeros(len(ids), bool)
    return have, rows[have]
