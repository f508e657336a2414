"""A SQL condition on the catalog, and the values of its parameters: what `where=` becomes before a store sees it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, TypeAlias

import numpy as np

from xmr_core.errors import DataError

__all__ = ["Condition", "Value", "Where", "as_condition"]

Value: TypeAlias = bool | int | float | str | bytes | date | datetime | time | Decimal | None
Bound: TypeAlias = Value | tuple[Value, ...]  # a tuple is a list in SQL
Where: TypeAlias = "str | tuple[str, Sequence[object]] | Mapping[str, object] | Condition"

TOKENS = re.compile(
    r"""
    (?P<text> (?<![\w$])[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*')
    | (?P<name> "(?:[^"]|"")*")
    | (?P<comment> --[^\n]* | /\*.*?\*/)
    | (?P<parameter> \? | (?<![\w$])\$\d+)
    | (?P<mark> [();'"\0] | (?<![\w$])\$ | /\*)
    """,
    re.VERBOSE | re.DOTALL,
)
STRANGE = {
    ";": "expected one condition, without `;`",
    "'": "a quote is not closed",
    '"': "a quote is not closed",
    "/*": "a comment is not closed",
    "$": "write parameters as ? or $1, and bind texts instead of quoting them with $$",
    "\0": "a condition holds no NUL",
}


@dataclass(frozen=True)
class Condition:
    """A SQL condition on `xmr.catalog`. Hashable; equal conditions choose the same items of the same database.

    >>> Condition("owner = ? AND year > ?", ("anna", 2020))
    Condition(sql='owner = $1 AND year > $2', values=('anna', 2020))

    `sql` is one expression whose parameters are written as ? or as $1, $2, ...; it is kept with the latter. `values`
    are bound to them, and are never part of the SQL. A tuple among them is a list. Raises DataError where there are
    more or fewer values than parameters, where brackets or quotes are open, and on what no database can compare.
    """

    sql: str
    values: tuple[Bound, ...] = ()
    _types: tuple[Any, ...] = field(init=False, repr=False)  # 1, 1.0 and True are equal, and differ in SQL

    def __post_init__(self) -> None:
        if not isinstance(self.sql, str) or self.sql != self.sql.encode("utf-8", "replace").decode() or not self.sql:
            raise DataError(f"where={self.sql!r}: expected a SQL condition")
        values = tuple(_bound(value) for value in self.values)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "_types", tuple(map(_type, values)))
        try:
            object.__setattr__(self, "sql", _numbered(self.sql, len(values)))
        except DataError as error:
            raise DataError(f"where={self.sql!r}: {error}") from None

    @classmethod
    def of(cls, columns: Mapping[str, object]) -> Condition:
        """The condition that columns of `xmr.catalog` have these values, or one of those of a list; None is missing."""
        if not columns:
            raise DataError("where={}: expected at least one column and its value")
        terms: list[str] = []
        values: list[Any] = []
        for name, value in columns.items():
            term, bound = _equality(name, value, len(values))
            terms.append(term)
            values += bound
        return cls(" AND ".join(terms), tuple(values))

    def negated(self) -> Condition:
        """The condition that all others match, those included for which this one is NULL."""
        return Condition(
            f"({self.sql}\n) IS NOT TRUE" if "--" in self.sql else f"({self.sql}) IS NOT TRUE", self.values
        )

    def __str__(self) -> str:
        bound = ", ".join(f"${number} = {value!r}" for number, value in enumerate(self.values, 1))
        return f"{self.sql} [{bound}]" if bound else self.sql


def as_condition(where: Where) -> Condition:
    """What was given as `where=`: SQL, a tuple of SQL and values, a dict of columns and values. Raises DataError."""
    if isinstance(where, Condition):
        return where
    if isinstance(where, str):
        return Condition(where)
    if isinstance(where, Mapping):
        return Condition.of(where)
    if isinstance(where, tuple) and len(where) == 2 and isinstance(where[1], (list, tuple)):
        return Condition(where[0], tuple(where[1]))
    raise DataError(f'where={where!r}: expected a SQL condition, ("owner = ?", [value]), or a dict of columns')


def _numbered(sql: str, values: int) -> str:
    """The condition with $1, $2, ... for ?. Raises DataError where it is not closed in itself."""
    depth, parts, end = 0, [], 0
    parameters: list[str] = []
    for found in TOKENS.finditer(sql):
        kind, token = found.lastgroup, found[0]
        depth += (token == "(") - (token == ")")
        if depth < 0:
            raise DataError("a bracket is closed that was not opened")
        if kind == "mark" and token in STRANGE:
            raise DataError(STRANGE[token])
        if kind == "comment" and "/*" in token[2:]:
            raise DataError("a comment holds another")
        if kind == "parameter":
            parameters.append(token)
            parts += [sql[end : found.start()], token if token != "?" else f"${len(parameters)}"]
            end = found.end()
    if depth:
        raise DataError("a bracket is not closed")
    _check_parameters(parameters, values)
    return "".join([*parts, sql[end:]])


def _check_parameters(parameters: Sequence[str], values: int) -> None:
    if "?" in parameters and set(parameters) != {"?"}:
        raise DataError("write all parameters as ?, or all as $1, $2, ...")
    numbers = range(1, len(parameters) + 1) if "?" in parameters else {int(p[1:]) for p in parameters}
    if set(numbers) != set(range(1, values + 1)):
        wanted = max(numbers, default=0)
        raise DataError(f"{wanted} parameters and {values} values: give a value for each, and use each")


def _equality(name: object, value: Any, before: int) -> tuple[str, list[Any]]:
    """A term and its values, after so many others."""
    if not isinstance(name, str) or not name or "\0" in name:
        raise DataError(f"where: expected names of columns, got {name!r}")
    column = 'catalog."' + name.replace('"', '""') + '"'  # with its table: SQLite takes an unknown name for a text
    if isinstance(value, (list, tuple, Set, range, np.ndarray)):
        several = list(_in_order(value))
        given = [one for one in several if one is not None]
        holders = ", ".join(f"${number}" for number in range(before + 1, before + 1 + len(given)))
        terms = [f"{column} IN ({holders})"] if given else []
        terms += [f"{column} IS NULL"] if len(given) < len(several) else []
        return f"({' OR '.join(terms) or 'FALSE'})", given
    if value is None:
        return f"{column} IS NULL", []
    return f"{column} = ${before + 1}", [value]


def _in_order(values: Any) -> Iterator[Any]:
    """The values, those of a set in an order that is the same in every process."""
    made = values.reshape(-1).tolist() if isinstance(values, np.ndarray) else values
    yield from sorted(made, key=lambda one: (type(one).__name__, repr(one))) if isinstance(made, Set) else made


def _bound(value: object) -> Bound:
    """A value as it is bound: numpy's scalars as Python's, a list as a tuple. Raises DataError."""
    if isinstance(value, (list, tuple, np.ndarray)):
        flat = tuple(map(_bound, value))
        if not any(isinstance(one, tuple) for one in flat):
            return flat  # type: ignore[return-value]  # what is no tuple is a Value
        raise DataError(f"where: expected lists of values, got {value!r}")
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]")
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str) and value != value.encode("utf-8", "replace").decode():
        raise DataError(f"where: the value {value!r} is not valid Unicode")
    if isinstance(value, int) and not -(1 << 127) <= value < 1 << 127:
        raise DataError(f"where: the value {value!r} has more than 128 bits")
    if isinstance(value, Decimal) and value.is_snan():
        raise DataError("where: a signaling NaN compares with nothing; use IS NULL or isnan() in the condition")
    if value is None or isinstance(value, (bool, int, float, str, bytes, date, time, Decimal)):
        return value
    raise DataError(f"where: expected texts, numbers or dates as values, got {type(value).__name__} {value!r}")


def _type(value: Bound) -> Any:
    return tuple(map(type, value)) if isinstance(value, tuple) else type(value)
