"""The user's own columns in `xmr.metadata`: named and typed by what is added, and widened where that loses nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xmr_core.datasets.columns import is_missing
from xmr_core.errors import DataError
from xmr_storage.ids import ids_of
from xmr_storage.quoting import quoted

if TYPE_CHECKING:
    import pyarrow as pa

    from xmr_storage.connection import Connection

__all__ = ["CATALOG", "catalog", "column", "fit_columns", "make_catalog", "names", "update"]

CATALOG = ("item_id", "modality", "key", "source", "text")  # the columns of xmr.catalog before the user's
RESERVED = ("item_id", "modality", "key", "content", "source", "text", "data")
SIMPLE = {type(None), bool, int, float, str}  # what Arrow takes as it is
LARGEST = 1000  # digits of a decimal before or after its point; a column holds 38
EXACT = 1 << 53  # the largest whole number up to which a double holds all


def names(con: Connection) -> list[str]:
    """The names of the user's own columns."""
    return [name for name in con.columns("metadata") if name != "item_id"]


def make_catalog(con: Connection) -> None:
    """Create the view `xmr.catalog` again: items with all columns that metadata has now."""
    with con.transaction():
        con.execute("DROP VIEW IF EXISTS xmr.catalog")
        con.execute(f"CREATE VIEW xmr.catalog AS {catalog(con)}")


def catalog(con: Connection) -> str:
    """What `xmr.catalog` is, as a query: a file of somebody else's may have another view of that name."""
    own = "".join(f", m.{quoted(name)}" for name in names(con))
    return f"""
        SELECT i.item_id, i.modality, i.key, i.source, i.text{own}
        FROM xmr.items AS i LEFT JOIN xmr.metadata AS m ON m.item_id = i.item_id
        """


def fit_columns(con: Connection, columns: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
    """Add the columns that are new, and widen those that could not hold the values as they are.

    Returns the values under the names of the columns, in their types. Raises DataError on names that cannot be columns,
    and on values of another type than the column's.
    """
    from xmr_storage.kinds import arrow_type, filled_in, sql_type

    _check_names(list(columns))
    known = {name.lower(): (name, kind) for name, kind in con.columns("metadata").items()}
    fitting, changed = {}, False
    for given, values in columns.items():
        name, old = known.get(given.lower(), (given, None))
        kind = filled_in(values.type) if old is None else _kind_for_both(con, given, name, arrow_type(old), values)
        if old is None:
            con.execute(f"ALTER TABLE xmr.metadata ADD COLUMN {quoted(name)} {sql_type(kind)}")
        elif kind != arrow_type(old):
            con.retype("metadata", quoted(name), sql_type(kind))
        changed = changed or old is None or kind != arrow_type(old)
        fitting[name] = values.cast(kind)
    if changed:
        make_catalog(con)
    return fitting


def update(con: Connection, ids: NDArray[np.int64], columns: Mapping[str, pa.Array]) -> NDArray[np.int64]:
    """Set columns of items that are there, where the new value is not missing; the ids of those that changed."""
    import pyarrow as pa

    fitting = {name: values for name, values in fit_columns(con, columns).items() if values.null_count < len(values)}
    if not fitting:
        return ids[:0]
    other = " OR ".join(
        f"g.{quoted(own)} IS NOT NULL AND m.{quoted(own)} IS DISTINCT FROM g.{quoted(own)}" for own in fitting
    )
    with con.given(_updated=pa.table({"item_id": ids, **fitting})):
        con.execute(
            """
            INSERT INTO xmr.metadata (item_id)
            SELECT item_id FROM _updated WHERE item_id NOT IN (SELECT item_id FROM xmr.metadata)
            """
        )
        changed = con.arrow(
            f"""
            SELECT g.item_id
            FROM _updated AS g JOIN xmr.metadata AS m ON m.item_id = g.item_id
            WHERE {other}
            ORDER BY g.item_id
            """
        )
        if len(changed):
            own_or_given = ", ".join(f"{quoted(own)} = coalesce(g.{quoted(own)}, m.{quoted(own)})" for own in fitting)
            con.execute(f"UPDATE xmr.metadata AS m SET {own_or_given} FROM _updated AS g WHERE g.item_id = m.item_id")
    return ids_of(changed)


def _kind_for_both(con: Connection, given: str, name: str, old: pa.DataType, values: pa.Array) -> pa.DataType:
    """The type of a column that holds what it holds and these values too. Raises DataError."""
    import pyarrow as pa

    from xmr_storage.kinds import filled_in, sql_type, wider

    if _fits(values, old):
        return old
    filled = con.rows(f"SELECT 1 FROM xmr.metadata WHERE {quoted(name)} IS NOT NULL LIMIT 1")
    kind = wider(old, values.type) if filled else filled_in(values.type)
    if kind == pa.float64() and old == pa.int64():
        query = f"SELECT 1 FROM xmr.metadata WHERE {quoted(name)} NOT BETWEEN -{EXACT} AND {EXACT} LIMIT 1"
        kind = None if con.rows(query) else kind
    if kind is None or not _fits(values, kind):
        raise DataError(
            f"metadata {given!r}: the column holds {sql_type(old)}, these values are {sql_type(values.type)}; "
            "give one type"
        )
    return kind


def _fits(values: pa.Array, kind: pa.DataType) -> bool:
    """True where a column of this type holds the values as they are."""
    import pyarrow as pa

    from xmr_storage.kinds import is_exact, wider

    if wider(kind, values.type) != kind and not (is_exact(kind) and is_exact(values.type)):
        return False
    try:
        return bool(values.cast(kind).type == kind)
    except pa.ArrowException:
        return False


def _check_names(given: Sequence[str]) -> None:
    for name in given:
        if not isinstance(name, str) or not name or "\0" in name:
            raise DataError(f"metadata {name!r}: expected a name")
        if name.lower() in RESERVED:
            raise DataError(f"metadata {name!r}: the name is taken; every item has {', '.join(RESERVED)}")
    if len({name.lower() for name in given}) < len(given):
        raise DataError(f"metadata {', '.join(given)}: two names differ by case alone, which SQL takes for one name")


def column(name: str, values: Sequence[Any] | pa.Array) -> pa.Array:
    """The values of one column of metadata, in the type that its column has.

    What pandas writes for a missing value (NaN, NaT, NA) is missing in every type but floating numbers, and there where
    nothing else is in a list. Raises DataError where the values have no common type, or one that no column can have.
    """
    import pyarrow as pa

    from xmr_storage.kinds import plain_type

    made = _array(name, values)
    if isinstance(made, pa.ChunkedArray):
        made = made.combine_chunks()
    kind = plain_type(made.type)
    if kind is None:
        raise DataError(f"metadata {name!r}: no column can hold {made.type}; give texts or numbers")
    if pa.types.is_dictionary(made.type):
        made = made.dictionary_decode()
    try:
        return made.cast(kind)
    except pa.ArrowException as error:
        raise DataError(f"metadata {name!r}: {error}; times are kept in microseconds") from None


def _array(name: str, values: Any) -> pa.Array:
    import pyarrow as pa

    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    if isinstance(values, np.ndarray) and values.ndim == 2:  # a list of numbers an item
        return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).reshape(-1)), values.shape[1])
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype != object:
        return pa.array(values)
    values = _plain(name, values)
    try:
        made = pa.array(values)
    except (ValueError, TypeError, NotImplementedError, OverflowError):  # Arrow's own are among them
        made = _without_missing(name, values)
    nothing = pa.types.is_floating(made.type) and np.isnan(made.drop_null().to_numpy(zero_copy_only=False)).all()
    return pa.nulls(len(made)) if nothing else made


def _plain(name: str, values: Any) -> Any:
    """Values with Python's numbers for NumPy's, inside lists and dicts too: pyarrow 26 reads memory that is not its own
    where a `datetime64` stands before another of NumPy's scalars, and takes minutes over a decimal of a billion digits.
    """
    if not {type(value) for value in values} - SIMPLE:
        return values
    return [_plain_value(name, value) for value in values]


def _plain_value(name: str, value: Any) -> Any:
    if isinstance(value, np.generic) and not isinstance(value, (np.datetime64, np.timedelta64)):
        return value.item()
    if isinstance(value, (list, tuple)):
        return _plain(name, value)
    if isinstance(value, dict):
        return {key: _plain_value(name, entry) for key, entry in value.items()}
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) > LARGEST:
        raise DataError(f"metadata {name!r}: a decimal of more than {LARGEST} digits; give a float or a text")
    return value


def _without_missing(name: str, values: Sequence[Any]) -> pa.Array:
    """Values of objects among which some are missing, or whole numbers that take all 64 bits."""
    import pyarrow as pa

    given = [None if is_missing(value) else value for value in values]
    whole = all(value is None or (isinstance(value, int) and not isinstance(value, bool)) for value in given)
    try:
        return pa.array(given, pa.uint64()) if whole and any(given) else pa.array(given)
    except (ValueError, TypeError, NotImplementedError, OverflowError) as error:
        raise DataError(f"metadata {name!r}: its values have no common type ({error})") from None
