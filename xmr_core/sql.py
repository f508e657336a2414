"""How SQL decodes, compares and describes codes, free of any dialect: an indexer makes a `SqlForm`, a store renders it.

A form is plain data, so it is kept with the codes and outlives the plugin that made it. Expressions are trees of the
functions below, each of which every dialect knows; rows flow through steps:

    query --of_query--> side --prepare--> asked        distance: over `asked` columns and those of a `code`
    code  --of_code---> side --as_query-> a query      that asks as the stored item does

>>> half = SqlForm(                                    # the distance of numbers: |a - b| / 2
...     query=QueryType("vector", 1),
...     of_query=(Derive({"x": pick(row("q"), number(0))}),),
...     of_code=(Derive({"x": row("x")}),),
...     as_query=(Derive({"value": array(row("x"))}),),
...     distance=single(sqrt((code("x") - asked("x")) * (code("x") - asked("x"))) / number(2)),
... )
>>> SqlForm.from_json(half.to_json()) == half
True
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from numpy.typing import NDArray

from xmr_core.errors import DataError, StateError
from xmr_core.search.codes import Column

__all__ = [
    "FUNCTIONS",
    "Balance",
    "Decoded",
    "Derive",
    "Expression",
    "Fold",
    "Join",
    "QueryType",
    "Spread",
    "SqlForm",
    "Step",
    "added",
    "any_of",
    "array",
    "asked",
    "at_least",
    "blend",
    "chain",
    "code",
    "concatenate",
    "cosine",
    "differing_bits",
    "dot",
    "doubles",
    "euclidean",
    "floats",
    "floor_divide",
    "gather",
    "modulo",
    "number",
    "pick",
    "row",
    "side",
    "single",
    "slice_of",
    "sqrt",
    "total",
    "unsigned",
]

REFERENCES = ("code", "asked", "row", "side")
PAIRS = ("subtract", "multiply", "divide", "floor_divide", "modulo", "at_least", "differing_bits", "cosine", "pick")
LISTS = ("concatenate", "dot", "euclidean", "array_dot", "array_euclidean", "chain")
FUNCTIONS: Mapping[str, tuple[int, int | None]] = {  # how many arguments, at least and at most
    **dict.fromkeys(("sqrt", "single", "unsigned", "floats", "total", "any_of"), (1, 1)),
    **dict.fromkeys((*PAIRS, *LISTS), (2, 2)),
    **dict.fromkeys(("slice_of", "blend"), (3, 3)),
    **dict.fromkeys(("add", "array"), (1, None)),
    "doubles": (1, 2),
    "gather": (2, 4),
}
NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")
TABLE = re.compile(r"[a-z]{1,12}")  # without _, so that the names of two spaces never meet
TAKEN = ("code", "feature", "asked")


@dataclass(frozen=True)
class Expression:
    """A tree: a reference to a column, a number, or a function of expressions. Made by the functions below."""

    op: str
    of: tuple[Expression | str | int | float, ...]

    def __post_init__(self) -> None:
        if self.op in REFERENCES:
            fits = len(self.of) == 1 and isinstance(self.of[0], str) and bool(NAME.fullmatch(self.of[0]))
        elif self.op == "number":
            fits = len(self.of) == 1 and type(self.of[0]) in (int, float) and math.isfinite(float(str(self.of[0])))
        else:
            least, most = FUNCTIONS.get(self.op, (1, 0))
            fits = least <= len(self.of) <= (len(self.of) if most is None else most)
            fits = fits and all(isinstance(part, Expression) for part in self.of)
        if not fits:
            raise DataError(f"SQL form: {self.op!r} does not take {self.of!r}"[:200])

    def __add__(self, other: Expression) -> Expression:
        return Expression("add", (self, other))

    def __sub__(self, other: Expression) -> Expression:
        return Expression("subtract", (self, other))

    def __mul__(self, other: Expression) -> Expression:
        return Expression("multiply", (self, other))

    def __truediv__(self, other: Expression) -> Expression:
        return Expression("divide", (self, other))

    def __neg__(self) -> Expression:
        return number(0) - self


# references: columns of a row in a step, of the side table that the step joins, of a code, of a prepared query


def row(name: str) -> Expression:
    """A column of the row that a step is given."""
    return Expression("row", (name,))


def side(name: str) -> Expression:
    """A column of the side table that a `Join` meets."""
    return Expression("side", (name,))


def code(name: str) -> Expression:
    """A column of a stored code, decoded where the form has `decoded`; in `distance`."""
    return Expression("code", (name,))


def asked(name: str) -> Expression:
    """A column of the prepared query; in `distance`."""
    return Expression("asked", (name,))


# numbers


def number(value: float) -> Expression:
    """A constant."""
    return Expression("number", (value,))


def added(terms: Iterable[Expression]) -> Expression:
    """The sum of one expression or more."""
    return Expression("add", tuple(terms))


def floor_divide(x: Expression, y: Expression) -> Expression:
    """x // y of whole numbers."""
    return Expression("floor_divide", (x, y))


def modulo(x: Expression, y: Expression) -> Expression:
    """x % y of whole numbers."""
    return Expression("modulo", (x, y))


def sqrt(x: Expression) -> Expression:
    """The square root."""
    return Expression("sqrt", (x,))


def at_least(x: Expression, lowest: Expression) -> Expression:
    """The larger of the two: what rounding took below a bound is put back on it."""
    return Expression("at_least", (x, lowest))


def single(x: Expression) -> Expression:
    """Rounded to float32, as distances are in Python. A distance that is not is a whole number."""
    return Expression("single", (x,))


def unsigned(x: Expression) -> Expression:
    """A uint64 column of a code as the number it stands for: databases keep its bits in a signed word."""
    return Expression("unsigned", (x,))


def differing_bits(x: Expression, y: Expression) -> Expression:
    """The bits in which two words of 64 differ."""
    return Expression("differing_bits", (x, y))


def cosine(product: Expression, squares: Expression) -> Expression:
    """1 - product / sqrt(squares), rounded so that equal vectors are at 0; 1 where a vector is zero."""
    return Expression("cosine", (product, squares))


# lists, and arrays of a fixed width


def array(*numbers: Expression) -> Expression:
    """A list of these."""
    return Expression("array", numbers)


def pick(numbers: Expression, position: Expression) -> Expression:
    """The entry of a list at a position, from 0."""
    return Expression("pick", (numbers, position))


def slice_of(numbers: Expression, start: Expression, length: Expression) -> Expression:
    """`length` entries of a list, from position `start`, from 0."""
    return Expression("slice_of", (numbers, start, length))


def concatenate(x: Expression, y: Expression) -> Expression:
    """Two lists, one after the other."""
    return Expression("concatenate", (x, y))


def doubles(numbers: Expression, width: int | None = None) -> Expression:
    """The numbers in float64: a list, or an array of that width."""
    return Expression("doubles", (numbers,) if width is None else (numbers, number(width)))


def floats(numbers: Expression) -> Expression:
    """The numbers in float32, a list: what a query is given as."""
    return Expression("floats", (numbers,))


def dot(x: Expression, y: Expression, arrays: bool = False) -> Expression:
    """The inner product of two lists of doubles, or of two arrays."""
    return Expression("array_dot" if arrays else "dot", (x, y))


def euclidean(x: Expression, y: Expression, arrays: bool = False) -> Expression:
    """The Euclidean distance of two lists of doubles, or of two arrays."""
    return Expression("array_euclidean" if arrays else "euclidean", (x, y))


# aggregates, in a `Fold`


def gather(x: Expression, order: Expression, only: tuple[Expression, Expression] | None = None) -> Expression:
    """The values of all rows as a list, in ascending `order`; `only` those rows where two whole numbers are equal."""
    return Expression("gather", (x, order, *(only or ())))


def chain(numbers: Expression, order: Expression) -> Expression:
    """The lists of all rows, one after the other, in ascending `order`."""
    return Expression("chain", (numbers, order))


def blend(weight: Expression, numbers: Expression, width: int) -> Expression:
    """The sum over all rows of weight times list, entry by entry."""
    return Expression("blend", (weight, numbers, number(width)))


def total(x: Expression) -> Expression:
    """The sum over all rows."""
    return Expression("total", (x,))


def any_of(x: Expression) -> Expression:
    """The value that all rows share."""
    return Expression("any_of", (x,))


# steps: each makes rows of the columns it names, and of nothing else


@dataclass(frozen=True)
class Derive:
    """Each row gives one: `columns` over `row(...)`."""

    columns: Mapping[str, Expression]


@dataclass(frozen=True)
class Spread:
    """Each row gives one for each of `values`: its position from 0 as `position`, itself as `value`, and `columns`."""

    position: str
    value: str
    values: tuple[Expression, ...]
    columns: Mapping[str, Expression] = field(default_factory=dict)


@dataclass(frozen=True)
class Join:
    """Each row gives one for each row of a side table where all of `equal` hold: `columns` over `row` and `side`.

    With `floor`, (a column, x): only that row whose column is the largest that is no larger than x.
    """

    table: str
    columns: Mapping[str, Expression]
    equal: Mapping[str, Expression] = field(default_factory=dict)
    floor: tuple[str, Expression] | None = None


@dataclass(frozen=True)
class Fold:
    """All rows of one query or item give one: `columns` are aggregates."""

    columns: Mapping[str, Expression]


Step = Derive | Spread | Join | Fold


@dataclass(frozen=True)
class QueryType:
    """A query in SQL: a list of `length` signed words of 64 bits, or of as many float32."""

    numbers: Literal["words", "vector"]
    length: int

    def __post_init__(self) -> None:
        if self.numbers not in ("words", "vector") or type(self.length) is not int or self.length < 0:
            raise DataError(f"SQL form: expected 'words' or 'vector' and a length, got {self}")


@dataclass(frozen=True)
class Decoded:
    """A view of what codes stand for, `<name>_<space>`: `columns` of the last of `steps`, which begin at a code."""

    name: str
    steps: tuple[Step, ...]
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Balance:
    """How evenly codes use their bits (`of` "bits": `count` of them, 64 a column) or symbols (one a column)."""

    of: Literal["bits", "symbols"]
    columns: tuple[str, ...]
    count: int

    def __post_init__(self) -> None:
        names = all(isinstance(name, str) and NAME.fullmatch(name) for name in self.columns)
        most = {"bits": 64 * len(self.columns), "symbols": len(self.columns)}.get(self.of, -1)
        if not names or type(self.count) is not int or not 0 <= self.count <= most:
            raise DataError(f"SQL form: a balance of bits or symbols, named columns, and how many, not {self}")


@dataclass(frozen=True)
class SqlForm:
    """Everything a store needs to search codes in SQL.

    `tables` are side tables: arrays by name, (rows,) or (rows, width) each; empty where the form was read back, since
    the database has them. `of_query` begins at a row whose column `q` is the query, a list; `of_code` at a stored code
    (decoded, where `decoded` says how) and gives the same columns; `prepare` goes on to those that `distance` reads.
    `as_query` goes from the same columns to one, `value`. Without `distance` codes are described and not searched.

    Raises DataError on names that cannot be columns or tables.
    """

    query: QueryType | None = None
    of_query: tuple[Step, ...] = ()
    of_code: tuple[Step, ...] = ()
    prepare: tuple[Step, ...] = ()
    as_query: tuple[Step, ...] = ()
    distance: Expression | None = None
    tables: Mapping[str, Mapping[str, NDArray[Any]]] = field(default_factory=dict)
    decoded: Decoded | None = None
    balance: Balance | None = None

    def __post_init__(self) -> None:
        if self.distance is not None and (self.query is None or not (self.of_query and self.of_code and self.as_query)):
            raise DataError("SQL form: a distance needs a query, of_query, of_code and as_query")
        for table in self.views:
            if not isinstance(table, str) or not TABLE.fullmatch(table) or table in TAKEN:
                raise DataError(f"SQL form: table {table!r}: use up to 12 of a to z, and not {' or '.join(TAKEN)}")
        decode = self.decoded.steps if self.decoded else ()
        for step in (*decode, *self.of_query, *self.of_code, *self.prepare, *self.as_query):
            _check_step(step, self.tables)

    @property
    def views(self) -> tuple[str, ...]:
        """What the views beside the codes are named by: the side tables, and what is decoded."""
        return (*self.tables, *((self.decoded.name,) if self.decoded else ()))

    def to_json(self) -> dict[str, Any]:
        """Plain values: all but the arrays."""
        return dict(_plain(replace(self, tables={name: {} for name in self.tables})))

    @staticmethod
    def from_json(plain: object) -> SqlForm:
        """The form that `to_json` wrote, its tables without rows. Raises StateError where it is damaged."""
        try:
            form = _made(plain)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise StateError(f"a stored SQL form is damaged: {error}") from None
        if not isinstance(form, SqlForm):
            raise StateError(f"a stored SQL form is damaged: {str(plain)[:80]}")
        return form


def _check_step(step: Step, tables: Mapping[str, Any]) -> None:
    names = [*step.columns]
    if isinstance(step, Spread):
        names += [step.position, step.value]
    if isinstance(step, Join):
        names += [*step.equal, *([step.floor[0]] if step.floor else [])]
        if step.table not in tables:
            raise DataError(f"SQL form: a step joins {step.table!r}; there are {', '.join(tables) or 'no side tables'}")
    for name in names:
        if not isinstance(name, str) or not NAME.fullmatch(name) or name in ("item_id", "modality", "wanted"):
            raise DataError(f"SQL form: column {name!r}: use a to z, 0 to 9 and _, not item_id, modality or wanted")


CLASSES: Mapping[str, type[Any]] = {
    kind.__name__: kind for kind in (SqlForm, QueryType, Decoded, Balance, Column, Derive, Spread, Join, Fold)
}


def _plain(value: Any) -> Any:
    """Any part of a form as JSON has it: an object says what it `is`, a class or the function of an expression."""
    if isinstance(value, Expression):
        return {"is": value.op, "of": [_plain(part) for part in value.of]}
    if type(value) in CLASSES.values():
        return {"is": type(value).__name__, **{f.name: _plain(getattr(value, f.name)) for f in fields(value)}}
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def _made(plain: Any) -> Any:
    """The inverse of `_plain`. Raises what constructors raise."""
    if isinstance(plain, dict):
        made = {str(name): _made(part) for name, part in plain.items()}
        what = made.get("is")
        if not isinstance(what, str):
            return made
        del made["is"]
        return CLASSES[what](**made) if what in CLASSES else Expression(what, tuple(made["of"]))
    return tuple(_made(part) for part in plain) if isinstance(plain, list) else plain
