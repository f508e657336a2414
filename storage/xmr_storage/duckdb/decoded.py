"""What codes stand for, kept as a table: `point_lattice_v1`, where the view `point_lattice` would decode every code.

A library notes the spaces that the user asked this for in `xmr.meta`; the tables are made when a version of such a
space is published, and brought in step at the end of each transaction that changed codes. A row has the columns of the
code too, named with a `_` before: comparing those tells which rows are not in step, without decoding any.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmr_core.sql import Decoded
from xmr_storage import codes
from xmr_storage.dialect import Writer
from xmr_storage.duckdb.bodies import DIALECT
from xmr_storage.quoting import identifier, quoted
from xmr_storage.records import records

if TYPE_CHECKING:
    from xmr_core.store import SpaceRecord
    from xmr_storage.connection import Connection
    from xmr_storage.revisions import Changing

__all__ = ["decoding", "differs", "drop", "follow", "make", "note", "select", "table_name", "tables", "wanted"]


def wanted(con: Connection) -> frozenset[str]:
    """The spaces whose decoded codes are kept."""
    rows = con.rows("SELECT value FROM xmr.meta WHERE key = 'decoded'")
    return frozenset(json.loads(rows[0][0])) if rows else frozenset()


def note(con: Connection, space: str, keep: bool) -> None:
    """Note whether the decoded codes of a space are kept, from the next time that it is published."""
    spaces = wanted(con) | {space} if keep else wanted(con) - {space}
    con.execute("DELETE FROM xmr.meta WHERE key = 'decoded'")
    if spaces:
        con.execute("INSERT INTO xmr.meta (key, value) VALUES ('decoded', $1)", [json.dumps(sorted(spaces))])


def decoding(con: Connection, space: str, version: int) -> Decoded | None:
    """How the codes of a version are decoded; None where they are compared as they are stored."""
    form = codes.forms(con, space).get(version)
    return None if form is None else form.decoded


def table_name(space: str, version: int, decoded: Decoded) -> str:
    """The table of a version, without its schema."""
    return f"{identifier(decoded.name)}_{identifier(space, 'space')}_v{version:d}"


def tables(con: Connection) -> list[str]:
    """The tables that are there."""
    named = (
        table_name(one.name, one.version, decoded)
        for one in _of_wanted(con)
        if (decoded := decoding(con, one.name, one.version)) is not None
    )
    present = set(con.tables())
    return [name for name in named if name in present]


def make(con: Connection, space: SpaceRecord) -> None:
    """Make the table of the version that is published, empty until the transaction ends, and drop those of others."""
    if space.name not in wanted(con):
        return
    drop(con, space.name, but=space.version)
    decoded = decoding(con, space.name, space.version)
    if decoded is None:
        return
    table = table_name(space.name, space.version, decoded)
    if table not in con.tables():
        columns = {"item_id": "BIGINT", "modality": "VARCHAR"}
        columns |= {column.name: DIALECT.column_type(column) for column in decoded.columns}
        columns |= {f"_{name}": kind for name, kind in _code_columns(con, space).items()}
        con.execute(
            f"CREATE TABLE xmr.{table} ({', '.join(f'{quoted(name)} {kind}' for name, kind in columns.items())})"
        )


def drop(con: Connection, space: str, but: int | None = None) -> None:
    """Drop the tables of all versions of a space, `but` one."""
    for version, form in codes.forms(con, space).items():
        if form is not None and form.decoded is not None and version != but:
            con.execute(f"DROP TABLE IF EXISTS xmr.{table_name(space, version, form.decoded)}")


def follow(con: Connection, changing: Changing) -> None:
    """Bring the tables in step with the codes that the open transaction has changed."""
    present = set(con.tables())
    for space in _of_wanted(con):
        decoded = decoding(con, space.name, space.version)
        if decoded is None or not space.published:
            continue
        table = table_name(space.name, space.version, decoded)
        if table not in present or codes.table_name(space.name, space.version) not in present:
            continue
        ids = changing.touched(space.name, space.version)
        if ids is None or not con.rows(f"SELECT 1 FROM xmr.{table} LIMIT 1"):
            ids = _out_of_step(con, space, table)
        if len(ids):
            _decode(con, space, decoded, table, ids)


def differs(con: Connection, space: SpaceRecord) -> str | None:
    """The name of the table where it is gone, or is not what the codes of a published space stand for."""
    decoded = decoding(con, space.name, space.version)
    if decoded is None or space.name not in wanted(con):
        return None
    table = table_name(space.name, space.version, decoded)
    own = ("item_id", "modality", *(column.name for column in decoded.columns))
    if not {*own, *(f"_{name}" for name in _code_columns(con, space))} <= con.columns(table).keys():
        return table
    if len(_out_of_step(con, space, table)):
        return table
    rows = f"SELECT {', '.join(map(quoted, own))} FROM"
    wanted_rows = select(decoded, f"{space.name}_v{space.version:d}")
    other = con.rows(f"{rows} xmr.{table} EXCEPT ALL {rows} ({wanted_rows}) AS d LIMIT 1")
    return table if other else None


def select(decoded: Decoded, of: str, code: Iterable[str] = (), chosen: str = "TRUE") -> str:
    """The query that decodes those codes `h` that are chosen, of a space, or `of` a version as `hash_v1`.

    Its columns are item_id, modality, what is decoded and, named with a `_` before, these of the `code`.
    """
    writer = Writer(DIALECT, lambda name: f"xmr.{identifier(name)}_{of}")
    columns = [f"v.{quoted(c.name)}::{DIALECT.column_type(c)} AS {quoted(c.name)}" for c in decoded.columns]
    named = {f"_{name}": quoted(name) for name in code}
    given = "".join(f", h.{column} AS {name}" for name, column in named.items())
    keys = ["item_id", "modality", *named]
    points = writer.query(f"SELECT h.*{given} FROM xmr.code_{of} AS h WHERE {chosen}", decoded.steps, keys)
    listed = ", ".join(["v.item_id", "v.modality", *columns, *(f"v.{name}" for name in named)])
    return f"SELECT {listed} FROM ({points}) AS v"


def _of_wanted(con: Connection) -> list[SpaceRecord]:
    spaces = wanted(con)
    return [one for one in records(con) if one.name in spaces] if spaces else []


def _code_columns(con: Connection, space: SpaceRecord) -> dict[str, str]:
    """The columns of a version's codes, and their types."""
    columns = con.columns(codes.table_name(space.name, space.version))
    return {name: kind for name, kind in columns.items() if name not in ("item_id", "modality")}


def _out_of_step(con: Connection, space: SpaceRecord, table: str) -> NDArray[np.int64]:
    """The ids whose rows are not those of their codes, ascending."""
    from xmr_storage.ids import ids_of

    names = _code_columns(con, space)
    stored = codes.table_name(space.name, space.version)
    code = f"SELECT item_id, modality, {', '.join(map(quoted, names))} FROM xmr.{stored}"
    kept = f"SELECT item_id, modality, {', '.join(quoted(f'_{name}') for name in names)} FROM xmr.{table}"
    return ids_of(
        con.arrow(
            f"""
            SELECT DISTINCT item_id
            FROM (({code} EXCEPT ALL {kept}) UNION ALL ({kept} EXCEPT ALL {code})) AS other
            ORDER BY item_id
            """
        )
    )


def _decode(con: Connection, space: SpaceRecord, decoded: Decoded, table: str, ids: NDArray[np.int64]) -> None:
    """Write the rows of these ids, which ascend, again; those of codes that are gone go."""
    import pyarrow as pa

    limits = f"item_id BETWEEN {ids[0]:d} AND {ids[-1]:d}"  # spare the database to read where they cannot lie
    listed = "item_id IN (SELECT item_id FROM _changed)"
    rows = select(decoded, f"{space.name}_v{space.version:d}", _code_columns(con, space), f"h.{limits} AND h.{listed}")
    with con.given(_changed=pa.table({"item_id": ids})):
        con.execute(f"DELETE FROM xmr.{table} WHERE {limits} AND {listed}")
        con.execute(f"INSERT INTO xmr.{table} {rows} ORDER BY v.item_id, v.modality")
