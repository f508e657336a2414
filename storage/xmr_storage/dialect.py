"""What a database must know so that any `SqlForm` can be written in its SQL, and the writing that is the same in all.

A `Dialect` gives each function of `xmr_core.sql.FUNCTIONS` its text, the types of columns, and the few clauses that
databases spell differently. `Writer` turns expressions and chains of steps into queries with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from xmr_core.sql import Expression, Fold, Join, Spread, Step
from xmr_core.types import Column
from xmr_storage.quoting import quoted

__all__ = ["Dialect", "Writer"]

ALIASES = {"row": "v", "side": "t", "code": "c", "asked": "a"}  # of the tables that references are to


class Dialect(ABC):
    """The SQL of one database. Arguments are SQL text, and so is what is returned."""

    functions: ClassVar[Mapping[str, Callable[..., str]]]  # each of `xmr_core.sql.FUNCTIONS`, of its arguments

    @abstractmethod
    def number(self, value: float) -> str:
        """A literal: a float is a double, not a decimal."""

    @abstractmethod
    def column_type(self, column: Column) -> str:
        """The type of a column of codes. A uint64 is a signed word of the same bits; smaller ones fit a larger type."""

    @abstractmethod
    def side_type(self, array: NDArray[np.generic]) -> str:
        """The type of a column of a side table: of (rows,) numbers, unsigned as they are, or of (rows, width) lists."""

    @abstractmethod
    def spread(self, values: Sequence[str], position: str, value: str) -> str:
        """Two more columns of a SELECT, which gives a row for each of `values`: its position from 0, and itself."""

    @abstractmethod
    def join_floor(self, table: str, equal: Sequence[str], column: str, x: str) -> str:
        """What follows the first table of FROM: of the rows of `table AS t` where all of `equal` hold, the one whose
        column `t.column` is the largest that is no larger than `x`."""

    @abstractmethod
    def list_of(self, numbers: str) -> str:
        """The type of a query of "words" or of a "vector"."""

    @abstractmethod
    def error(self, message: str) -> str:
        """An expression that raises: `message` is an expression too."""

    @abstractmethod
    def nearest(self, group: str, distance: str, item: str, k: str) -> str:
        """A column of a SELECT with GROUP BY `group`, which gives a row for each of the k nearest of a group: a struct
        of `distance` and `item_id`, ties to the smaller item."""


class Writer:
    """Writes the expressions and steps of a form. `source` gives the table or view behind the name of a side table."""

    def __init__(self, dialect: Dialect, source: Callable[[str], str]) -> None:
        self.dialect, self.source = dialect, source

    def expression(self, x: Expression) -> str:
        """SQL over the tables c (codes), a (prepared queries), v (rows of a step) and t (its side table)."""
        if x.op in ALIASES:
            return f"{ALIASES[x.op]}.{quoted(str(x.of[0]))}"
        if x.op == "number" and isinstance(x.of[0], (int, float)):
            return self.dialect.number(x.of[0])
        return self.dialect.functions[x.op](*(self.expression(part) for part in x.of if isinstance(part, Expression)))

    def query(self, start: str, steps: Sequence[Step], keys: Sequence[str] = ()) -> str:
        """The query that sends the rows of the query `start` through the steps; their columns `keys` come along.

        Nested, not in CTEs: a scalar macro's may be correlated, which DuckDB does not take everywhere.
        """
        for step in steps:
            start = self._step(f"({start}) AS v", step, [f"v.{key}" for key in keys])
        return start

    def _step(self, given: str, step: Step, keys: list[str]) -> str:
        columns = keys + [f"{self.expression(x)} AS {quoted(name)}" for name, x in step.columns.items()]
        if isinstance(step, Spread):
            values = [self.expression(x) for x in step.values]
            columns.append(self.dialect.spread(values, quoted(step.position), quoted(step.value)))
        joined = self._joined(step) if isinstance(step, Join) else ""
        folded = ""
        if isinstance(step, Fold):  # all rows of one query: none where there is no query
            folded = f"GROUP BY {', '.join(keys)}" if keys else "HAVING count(*) > 0"
        return f"SELECT {', '.join(columns)} FROM {given} {joined} {folded}"

    def _joined(self, step: Join) -> str:
        """The side table, those of its rows alone that constants choose."""
        fixed = {name: x for name, x in step.equal.items() if x.op == "number"}
        table = self.source(step.table)
        if fixed:
            chosen = " AND ".join(f"w.{quoted(name)} = {self.expression(x)}" for name, x in fixed.items())
            table = f"(SELECT w.* FROM {table} AS w WHERE {chosen})"
        free = step.equal.keys() - fixed.keys()
        equal = [f"t.{quoted(name)} = {self.expression(step.equal[name])}" for name in step.equal if name in free]
        if step.floor:
            column, x = step.floor
            return self.dialect.join_floor(table, equal, quoted(column), self.expression(x))
        return f"JOIN {table} AS t ON {' AND '.join(equal)}" if equal else f"CROSS JOIN {table} AS t"
