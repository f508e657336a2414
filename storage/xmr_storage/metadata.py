"""The user's own columns in `xmr.metadata`: named and typed by what is added, and widened where that loses nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xmr_core.errors import DataError
from xmr_storage.quoting import quoted

if TYPE_CHECKING:
    import pyarrow as pa

    from xmr_storage.connection import Connection

__all__ = ["CATALOG", "column", "fit_columns", "make_catalog", "names"]

CATALOG = ("item_id", "modality", "key", "source", "text")  # the columns of xmr.catalog before the user's
RESERVED = ("item_id", "modality", "key", "content", "source", "text", "data")
HOLDS = {("DOUBLE", "BIGINT"), ("TIMESTAMP", "DATE")}  # (a, b): column type a takes values of b as they are


def names(con: Connection) -> list[str]:
    """The names of the user's own columns."""
    return [name for name in con.columns("metadata") if name != "item_id"]


def make_catalog(con: Connection) -> None:
    """Create the view `xmr.catalog` again: items with all columns that metadata has now."""
    own = "".join(f", m.{quoted(name)}" for name in names(con))
    with con.transaction():
        con.execute("DROP VIEW IF EXISTS xmr.catalog")
        con.execute(
            f"""
            CREATE VIEW xmr.catalog AS
            SELECT i.item_id, i.modality, i.key, i.source, i.text{own}
            FROM xmr.items AS i LEFT JOIN xmr.metadata AS m ON m.item_id = i.item_id
            """
        )


def fit_columns(con: Connection, columns: Mapping[str, pa.Array]) -> None:
    """Add the columns that are new, and widen those that could not hold the values as they are.

    Raises DataError on names that cannot be columns, and on values of another type than the column's.
    """
    _check_names(list(columns))
    known = {name.lower(): (name, kind) for name, kind in con.columns("metadata").items()}
    changed = False
    for given, values in columns.items():
        name, old = known.get(given.lower(), (given, None))
        new = _sql_type(values)
        if old is None:
            con.execute(f"ALTER TABLE xmr.metadata ADD COLUMN {quoted(name)} {new or 'VARCHAR'}")
        elif new in (None, old) or (old, new) in HOLDS:
            continue
        elif (new, old) in HOLDS or not con.rows(
            f"SELECT 1 FROM xmr.metadata WHERE {quoted(name)} IS NOT NULL LIMIT 1"
        ):
            con.retype("metadata", quoted(name), str(new))
        else:
            raise DataError(f"metadata {given!r}: the column holds {old}, these values are {new}; give one type")
        changed = True
    if changed:
        make_catalog(con)


def _check_names(given: Sequence[str]) -> None:
    for name in given:
        if not isinstance(name, str) or not name or "\0" in name:
            raise DataError(f"metadata {name!r}: expected a name")
        if name.lower() in RESERVED:
            raise DataError(f"metadata {name!r}: the name is taken; every item has {', '.join(RESERVED)}")
    if len({name.lower() for name in given}) < len(given):
        raise DataError(f"metadata {', '.join(given)}: two names differ by case alone, which SQL takes for one name")


def column(name: str, values: Sequence[Any]) -> pa.Array:
    """The values of one column of metadata. Raises DataError where they have no common type."""
    import pyarrow as pa

    try:
        made = pa.array(values)
    except (ValueError, TypeError, NotImplementedError, OverflowError) as error:  # Arrow's own are among them
        raise DataError(f"metadata {name!r}: its values have no common type ({error})") from None
    if pa.types.is_float16(made.type):
        return made.cast(pa.float32())
    if pa.types.is_timestamp(made.type) and made.type.tz:  # else the session's time zone would decide
        return made.cast(pa.timestamp("us"))  # UTC
    return made


def _sql_type(values: pa.Array) -> str | None:
    """The type of the column that is made for these values; None where all are missing."""
    import pyarrow.types as types

    if types.is_null(values.type):
        return None
    for is_type, name in (
        (types.is_boolean, "BOOLEAN"),
        (types.is_integer, "BIGINT"),
        (types.is_floating, "DOUBLE"),
        (types.is_timestamp, "TIMESTAMP"),
        (types.is_date, "DATE"),
    ):
        if is_type(values.type):
            return name
    return "VARCHAR"
