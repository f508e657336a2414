"""The functions, types and clauses of DuckDB's SQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from xmr_core.types import Column
from xmr_storage.codes import TYPES, column_type
from xmr_storage.dialect import Dialect

__all__ = ["DuckDBDialect"]

DECIMALS = 12  # of a cosine distance in DOUBLE; what remains below is rounding, and would part equal vectors


def _text(template: str) -> Callable[..., str]:
    return template.format


def _gather(x: str, order: str, *only: str) -> str:
    chosen = f" FILTER (WHERE {only[0]} = {only[1]})" if only else ""
    return f"list({x} ORDER BY {order}){chosen}"


def _doubles(numbers: str, width: str = "") -> str:
    return f"{numbers}::DOUBLE[{width}]"


def _blend(weight: str, numbers: str, width: str) -> str:
    """The names of the lambdas are none that a macro's parameter has."""
    scaled = f"list(list_transform({numbers}, lambda entry_: entry_ * {weight}))"
    return f"list_transform(range(1, {width} + 1), lambda at_: list_sum(list_transform({scaled}, lambda l_: l_[at_])))"


class DuckDBDialect(Dialect):
    """DuckDB 1.2 to 2.0."""

    functions: ClassVar[Mapping[str, Callable[..., str]]] = {
        "add": lambda *terms: f"({' + '.join(terms)})",
        "subtract": _text("({} - {})"),
        "multiply": _text("({} * {})"),
        "divide": _text("({} / {})"),
        "floor_divide": _text("({} // {})"),
        "modulo": _text("({} % {})"),
        "sqrt": _text("sqrt({})"),
        "at_least": _text("greatest({}, {})"),
        "single": _text("({})::FLOAT"),
        "unsigned": _text(f"({{0}}::HUGEINT + CASE WHEN {{0}} < 0 THEN {2**64} ELSE 0 END)::UBIGINT"),
        "differing_bits": _text("bit_count(xor({}, {}))::INTEGER"),  # TINYINT, which 128 bits overflow
        "cosine": _text(f"greatest(round(1 - coalesce(({{}}) / nullif(sqrt({{}}), 0), 0), {DECIMALS}), 0)"),
        "array": lambda *numbers: f"[{', '.join(numbers)}]",
        "pick": _text("{}[{} + 1]"),
        "slice_of": _text("{0}[{1} + 1 : {1} + {2}]"),
        "concatenate": _text("({} || {})"),
        "doubles": _doubles,
        "floats": _text("{}::FLOAT[]"),
        "dot": _text("list_inner_product({}, {})"),
        "euclidean": _text("list_distance({}, {})"),
        "array_dot": _text("array_inner_product({}, {})"),
        "array_euclidean": _text("array_distance({}, {})"),
        "gather": _gather,
        "chain": _text("flatten(list({} ORDER BY {}))"),
        "blend": _blend,
        "total": _text("sum({})"),
        "any_of": _text("any_value({})"),
    }

    def number(self, value: float) -> str:
        return f"{value!r}::DOUBLE" if isinstance(value, float) else str(value)

    def column_type(self, column: Column) -> str:
        return column_type(column)

    def side_type(self, array: NDArray[np.generic]) -> str:
        number = "UBIGINT" if array.dtype == np.uint64 else TYPES[array.dtype.name]
        return number + "[]" * (array.ndim - 1)

    def spread(self, values: Sequence[str], position: str, value: str) -> str:
        return f"unnest(range({len(values)})) AS {position}, unnest([{', '.join(values)}]) AS {value}"

    def join_floor(self, table: str, equal: Sequence[str], column: str, x: str) -> str:
        return f"ASOF JOIN {table} AS t ON {' AND '.join([*equal, f'{x} >= t.{column}'])}"

    def list_of(self, numbers: str) -> str:
        return {"words": "BIGINT[]", "vector": "FLOAT[]"}[numbers]

    def error(self, message: str) -> str:
        return f"error({message})"

    def k_nearest(self, distance: str, item: str, k: str) -> str:
        """An aggregate: the k nearest as a list of structs of `distance` and `item_id`, ties to the smaller item."""
        return f"min({{'distance': {distance}, 'item_id': {item}}}, {k})"

    def nearest(self, group: str, distance: str, item: str, k: str) -> str:
        return f"unnest({self.k_nearest(distance, item, k)})"
