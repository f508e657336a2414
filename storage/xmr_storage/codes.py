"""Codes of a space version in any SQL database: one table, with the columns of its layout, and what describes them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import StorageError
from xmr_core.sql import SqlForm
from xmr_core.types import Codes, Column, Layout
from xmr_storage import encoded
from xmr_storage.chosen import chosen
from xmr_storage.parts import json_object
from xmr_storage.quoting import identifier, quoted

if TYPE_CHECKING:
    from xmr_core.store import SpaceRecord
    from xmr_storage.connection import Connection

__all__ = [
    "coded_ids",
    "column_type",
    "columns_of",
    "describe",
    "drop",
    "forms",
    "get",
    "gone",
    "layouts",
    "make",
    "put",
    "table_name",
]

TYPES = {
    "int8": "TINYINT",
    "uint8": "SMALLINT",  # UTINYINT is no quicker, and PostgreSQL has none
    "int16": "SMALLINT",
    "uint16": "INTEGER",
    "int32": "INTEGER",
    "uint32": "BIGINT",
    "int64": "BIGINT",
    "uint64": "BIGINT",  # a signed word of the same bits
    "float32": "FLOAT",
    "float64": "DOUBLE",
}
DESCRIPTION = "the stored description of a space"


def table_name(space: str, version: int) -> str:
    """The table of a version's codes. Raises DataError on a name that cannot stand in SQL."""
    return f"code_{identifier(space, 'space')}_v{version:d}"


def column_type(column: Column) -> str:
    """The type of a column of codes."""
    if column.dtype == "bytes":
        return "BLOB"
    return TYPES[column.dtype] + ("" if column.width is None else f"[{column.width:d}]")


def columns_of(layout: Layout) -> str:
    """The columns of a code table, as CREATE TABLE takes them."""
    own = (f"{quoted(column.name)} {column_type(column)} NOT NULL" for column in layout.columns)
    return ", ".join(("item_id BIGINT NOT NULL", "modality VARCHAR NOT NULL", *own))


def make(con: Connection, space: SpaceRecord) -> None:
    """Make the empty table of codes of a new version, and describe it."""
    con.execute(f"CREATE TABLE xmr.{table_name(space.name, space.version)} ({columns_of(space.code_layout)})")
    describe(con, space, space.form)


def describe(con: Connection, space: SpaceRecord, form: SqlForm | None) -> None:
    """Keep the layout and the form of a version."""
    layout = json.dumps(space.code_layout.to_json())
    plain = None if form is None else json.dumps(form.to_json())
    con.execute("DELETE FROM xmr.forms WHERE space = $1 AND version = $2", [space.name, space.version])
    con.execute("INSERT INTO xmr.forms VALUES ($1, $2, $3, $4)", [space.name, space.version, layout, plain])
    encoded.note(con, space)


def layouts(con: Connection) -> Mapping[tuple[str, int], Layout]:
    """The layouts of all versions of spaces that are described; an older library has none."""
    if "forms" not in con.tables("forms"):
        return {}
    rows = con.rows("SELECT space, version, layout FROM xmr.forms")
    return {(space, version): Layout.from_json(json_object(plain, DESCRIPTION)) for space, version, plain in rows}


def forms(con: Connection, name: str) -> dict[int, SqlForm | None]:
    """The forms of the versions of a space that are described."""
    rows = con.rows("SELECT version, form FROM xmr.forms WHERE space = $1", [name])
    return {
        version: None if plain is None else SqlForm.from_json(json_object(plain, DESCRIPTION))
        for version, plain in rows
    }


def drop(con: Connection, name: str, versions: Iterable[int]) -> None:
    """Drop the codes of these versions, and what describes them."""
    for version in versions:
        con.execute(f"DROP TABLE IF EXISTS xmr.{table_name(name, version)}")
        for table in ("forms", "encoded"):
            con.execute(f"DELETE FROM xmr.{table} WHERE space = $1 AND version = $2", [name, version])


def gone(con: Connection, name: str, version: int) -> StorageError:
    """What to say where the table of a version's codes is gone: another client has dropped it."""
    query = "SELECT 1 FROM xmr.parts WHERE space = $1 AND version = $2 AND position = 0 AND role = 'encoder'"
    again = "db.doctor(repair=True) makes them again"
    if not con.rows(query, [name, version]):
        again = f"drop the space, db.drop({name!r}), and add the embeddings again"
    return StorageError(
        f"{con.url}: the codes of space {name!r} version {version} are gone, with their table "
        f"xmr.{table_name(name, version)}; {again}"
    )


@contextlib.contextmanager
def _found(con: Connection, name: str, version: int) -> Iterator[None]:
    """Inside, the codes of a version are read. Raises what `gone` says in the place of the database's own words."""
    try:
        yield
    except StorageError as error:
        told = str(error)
        if table_name(name, version) in told and ("does not exist" in told or "no such table" in told):
            raise gone(con, name, version) from error
        raise


def put(con: Connection, name: str, version: int, modality: str, codes: Codes) -> None:
    """Insert codes of one modality."""
    from xmr_storage.arrow import table_of_codes

    con.insert(table_name(name, version), table_of_codes(codes, modality))


def get(con: Connection, space: SpaceRecord, modality: str, ids: NDArray[np.int64] | None = None) -> Codes:
    """All codes of a modality, or those of some ids; ascending by id. Raises StorageError where they are damaged."""
    from xmr_storage.arrow import codes_of_table

    columns = ", ".join(quoted(column.name) for column in space.code_layout.columns)
    query = f"SELECT item_id, {columns} FROM xmr.{table_name(space.name, space.version)} WHERE modality = $1"
    with _found(con, space.name, space.version):
        if ids is None:
            rows = con.arrow(f"{query} ORDER BY item_id", [modality])
        else:
            with chosen(con, "item_id", np.unique(ids), first=2) as (which, values):
                rows = con.arrow(f"{query} AND {which} ORDER BY item_id", [modality, *values])
    try:
        return codes_of_table(rows, space.code_layout)
    except ValueError as error:
        raise StorageError(f"{con.url}: the codes of space {space.name!r} are damaged: {error}") from error


def coded_ids(con: Connection, name: str, version: int, modality: str) -> NDArray[np.int64]:
    """The ids of `get`, without the codes."""
    query = f"SELECT item_id FROM xmr.{table_name(name, version)} WHERE modality = $1 ORDER BY item_id"
    with _found(con, name, version):
        return np.asarray(con.arrow(query, [modality])["item_id"].to_numpy(), np.int64)
