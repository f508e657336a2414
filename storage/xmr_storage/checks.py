"""What `doctor` looks for: rows that do not fit together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from xmr_storage import features, parts
from xmr_storage.codes import table_name
from xmr_storage.records import records

if TYPE_CHECKING:
    from xmr_core.store import SpaceRecord
    from xmr_storage.connection import Connection

__all__ = ["doctor", "doctor_attention"]

ITEMS = "(SELECT item_id FROM xmr.items)"
TWICE = "SELECT count(*) - (SELECT count(*) FROM (SELECT DISTINCT {columns} FROM {table}) AS one) FROM {table}"
CHECKS = {
    "item ids are there twice": TWICE.format(columns="item_id", table="xmr.items"),
    "keys belong to two items of one modality": TWICE.format(columns="modality, key", table="xmr.items"),
    "pairs refer to an item that does not exist": f"""
        SELECT count(*) FROM xmr.pairs WHERE image_id NOT IN {ITEMS} OR text_id NOT IN {ITEMS}
        """,
    "labels refer to an item that does not exist": f"SELECT count(*) FROM xmr.labels WHERE item_id NOT IN {ITEMS}",
    "rows of metadata refer to an item that does not exist": f"""
        SELECT count(*) FROM xmr.metadata WHERE item_id NOT IN {ITEMS}
        """,
}
ATTENTION = {
    "rows of attention refer to an item that does not exist": f"""
        SELECT count(*) FROM xmr.attention WHERE item_id NOT IN {ITEMS}
        """,
    "rows of attention refer to a space that does not exist": """
        SELECT count(*)
        FROM xmr.attention AS a
        WHERE NOT EXISTS (SELECT 1 FROM xmr.spaces AS s WHERE s.space = a.space AND s.version = a.version)
        """,
}


def doctor(con: Connection) -> Iterator[str]:
    """A sentence for every inconsistency of items and spaces."""
    yield from _counted(con, CHECKS)
    for table in features.tables(con):
        where = f"vectors of xmr.{table} refer to an item that does not exist"
        yield from _counted(con, {where: f"SELECT count(*) FROM xmr.{table} WHERE item_id NOT IN {ITEMS}"})
    for space in records(con):
        yield from _doctor_space(con, space)


def doctor_attention(con: Connection) -> Iterator[str]:
    """A sentence for every inconsistency of what spaces attended to."""
    if con.columns("attention"):  # an older file has none
        yield from _counted(con, ATTENTION)


def _counted(con: Connection, checks: dict[str, str]) -> Iterator[str]:
    for what, query in checks.items():
        ((count,),) = con.rows(query)
        if count:
            yield f"{count} {what}"


def _doctor_space(con: Connection, space: SpaceRecord) -> Iterator[str]:
    name, of = table_name(space.name, space.version), f"space {space.name!r} version {space.version}"
    table = f"xmr.{name}"
    if name not in con.tables("code_"):
        yield f"the codes of {of} are gone; drop it, and fit again"
        return
    ((twice,),) = con.rows(TWICE.format(columns="item_id, modality", table=table))
    if twice:
        yield f"{twice} codes of {of} are there twice"
    components = parts.get(con, space.name, space.version)
    if components and components[0].role == "encoder":
        ((lost,),) = con.rows(f"SELECT count(*) FROM {table} WHERE item_id NOT IN {ITEMS}")
        if lost:
            yield f"{lost} codes of {of} refer to no item"
        ((missing,),) = con.rows(
            f"SELECT count(*) FROM xmr.items WHERE item_id NOT IN (SELECT item_id FROM {table}) "
            f"AND modality IN (SELECT DISTINCT modality FROM {table})"
        )
        if space.published and missing:
            yield f"{missing} items have no code in space {space.name!r}; refresh makes them"
