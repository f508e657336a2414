"""SQL column types and the Arrow types that they stand for, nested ones too: BIGINT, DECIMAL(9,2), STRUCT(a TIME)[].

Types of tables are read from export manifests, which anyone may have written: a type is parsed and written again, and
the text of a manifest never becomes SQL.
"""

from __future__ import annotations

import re

import pyarrow as pa
from pyarrow import types

from xmr_storage.quoting import quoted

__all__ = ["arrow_type", "filled_in", "is_exact", "plain_type", "sql_type", "wider"]

PLAIN: dict[str, pa.DataType] = {
    "BIGINT": pa.int64(),
    "UBIGINT": pa.uint64(),
    "INTEGER": pa.int32(),
    "SMALLINT": pa.int16(),
    "TINYINT": pa.int8(),
    "UTINYINT": pa.uint8(),
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "VARCHAR": pa.string(),
    "BLOB": pa.binary(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    "TIME": pa.time64("us"),
    "TIMESTAMP": pa.timestamp("us"),
}
NAMES = {kind: name for name, kind in PLAIN.items()}
TOKEN = re.compile(r"\s*(\"(?:[^\"]|\"\")+\"|\w+|[(),]|\[\d*\])")
DIGITS = 38  # of a decimal, in SQL and in Arrow's 128 bits
WHOLE_DIGITS = 19  # of a BIGINT
DEEPEST = 32  # lists and structs inside each other


# text to type and back


def arrow_type(kind: str) -> pa.DataType:
    """The Arrow type of a SQL type. Raises ValueError where it is none that a library uses."""
    tokens, end = [], 0
    while end < len(kind):
        token = TOKEN.match(kind, end)
        if token is None:
            raise ValueError(f"{kind!r} is not a column type")
        tokens.append(token[1])
        end = token.end()
    try:
        made = _parsed(tokens[::-1], DEEPEST)
    except (IndexError, KeyError) as error:
        raise ValueError(f"{kind!r} is not a column type") from error
    return made


def _parsed(rest: list[str], deepest: int) -> pa.DataType:
    """The type that `rest`, tokens in reverse, begins with; at the outermost level all of it."""
    if not deepest:
        raise KeyError("too deep")
    base = rest.pop()
    made: pa.DataType
    if base == "STRUCT":
        made = pa.struct(_fields(rest, deepest - 1))
    elif base == "DECIMAL":
        _take(rest, "(")
        precision = int(rest.pop())
        _take(rest, ",")
        made = pa.decimal128(precision, int(rest.pop()))
        _take(rest, ")")
    else:
        made = PLAIN[base]
    while rest and rest[-1].startswith("["):
        size = rest.pop()[1:-1]
        made = pa.list_(made, int(size)) if size else pa.list_(made)
    if rest and deepest == DEEPEST:
        raise KeyError(rest[-1])
    return made


def _fields(rest: list[str], deepest: int) -> list[pa.Field]:
    fields = []
    _take(rest, "(")
    while True:
        name = rest.pop()
        name = name[1:-1].replace('""', '"') if name.startswith('"') else name
        fields.append(pa.field(name, _parsed(rest, deepest)))
        if rest[-1] != ",":
            break
        rest.pop()
    _take(rest, ")")
    return fields


def _take(rest: list[str], wanted: str) -> None:
    if rest.pop() != wanted:
        raise KeyError(wanted)


def sql_type(kind: pa.DataType) -> str:
    """The SQL type of an Arrow type that `arrow_type` or `plain_type` gave."""
    if types.is_fixed_size_list(kind):
        return f"{sql_type(kind.value_type)}[{kind.list_size}]"
    if types.is_list(kind):
        return f"{sql_type(kind.value_type)}[]"
    if types.is_struct(kind):
        return f"STRUCT({', '.join(f'{quoted(field.name)} {sql_type(field.type)}' for field in kind)})"
    if types.is_decimal128(kind):
        return f"DECIMAL({kind.precision},{kind.scale})"
    return "NULL" if types.is_null(kind) else NAMES[kind]


# the types of metadata


def plain_type(kind: pa.DataType) -> pa.DataType | None:
    """The type of the column for values of an Arrow type; null where all are missing, None where no column can be.

    Whole numbers are BIGINT (or UBIGINT), all other numbers but decimals DOUBLE. Times of day and timestamps have
    microseconds; a timestamp with a zone is one in UTC.
    """
    if types.is_null(kind):
        return kind
    if types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = plain_type(kind.value_type)
        return None if inner is None else pa.list_(inner)
    if types.is_struct(kind):
        inner_fields = [(field.name, plain_type(field.type)) for field in kind]
        if not inner_fields or any(own is None for _, own in inner_fields):
            return None
        return pa.struct(inner_fields)
    if types.is_decimal(kind):
        return pa.decimal128(kind.precision, kind.scale) if kind.precision <= DIGITS and kind.scale >= 0 else None
    for is_type, name in (
        (types.is_boolean, "BOOLEAN"),
        (types.is_uint64, "UBIGINT"),
        (types.is_integer, "BIGINT"),
        (types.is_floating, "DOUBLE"),
        (types.is_timestamp, "TIMESTAMP"),
        (types.is_date, "DATE"),
        (types.is_time, "TIME"),
        (types.is_string, "VARCHAR"),
        (types.is_large_string, "VARCHAR"),
        (types.is_string_view, "VARCHAR"),
        (types.is_binary, "BLOB"),
        (types.is_large_binary, "BLOB"),
        (types.is_fixed_size_binary, "BLOB"),
        (types.is_binary_view, "BLOB"),
    ):
        if is_type(kind):
            return PLAIN[name]
    return None


def filled_in(kind: pa.DataType) -> pa.DataType:
    """The type with texts in the place of what is missing in all values: that of a new column."""
    if types.is_list(kind):
        return pa.list_(filled_in(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([(field.name, filled_in(field.type)) for field in kind])
    return pa.string() if types.is_null(kind) else kind


def is_exact(kind: pa.DataType) -> bool:
    """True for whole numbers and decimals: where one fits into the other depends on the values."""
    return bool(types.is_integer(kind) or types.is_decimal(kind))


def wider(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    """The type that holds the values of both as they are; None where there is none."""
    if a == b or types.is_null(b):
        return a
    if types.is_null(a):
        return b
    if types.is_list(a) and types.is_list(b):
        inner = wider(a.value_type, b.value_type)
        return None if inner is None else pa.list_(inner)
    if types.is_struct(a) and types.is_struct(b):
        return _wider_struct(a, b)
    kinds = {a, b}
    if kinds == {pa.timestamp("us"), pa.date32()}:
        return pa.timestamp("us")
    if kinds == {pa.int64(), pa.float64()}:
        return pa.float64()
    if kinds == {pa.int64(), pa.uint64()}:
        return pa.decimal128(20, 0)
    if all(map(is_exact, kinds)):
        return _wider_decimal(_as_decimal(a), _as_decimal(b))
    return None


def _wider_struct(a: pa.StructType, b: pa.StructType) -> pa.DataType | None:
    """A struct of the fields of both; one that is missing in a value is NULL."""
    own, given = ({field.name: field.type for field in kind} for kind in (a, b))
    merged = {name: wider(own.get(name, pa.null()), given.get(name, pa.null())) for name in {**own, **given}}
    if any(kind is None for kind in merged.values()):
        return None
    return pa.struct(list(merged.items()))


def _as_decimal(kind: pa.DataType) -> pa.Decimal128Type:
    if types.is_decimal(kind):
        return kind
    return pa.decimal128(WHOLE_DIGITS + types.is_uint64(kind), 0)


def _wider_decimal(a: pa.Decimal128Type, b: pa.Decimal128Type) -> pa.DataType | None:
    scale = max(a.scale, b.scale)
    precision = max(a.precision - a.scale, b.precision - b.scale) + scale
    return pa.decimal128(precision, scale) if precision <= DIGITS else None
