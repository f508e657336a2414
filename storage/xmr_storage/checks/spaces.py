"""Checks of spaces: their codes and components, which version a name means, and rows of spaces that are gone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import Finding, StateError, StorageError
from xmr_storage import codes, parts
from xmr_storage.checks.items import ITEMS
from xmr_storage.checks.rebuilding import rebuild
from xmr_storage.checks.rows import counted, orphans, twice
from xmr_storage.records import ANSWERER, answerers, records

if TYPE_CHECKING:
    from xmr_core.store import SpaceRecord
    from xmr_storage.connection import Connection
    from xmr_storage.spaces import SqlSpaces

__all__ = ["findings"]

CODES = re.compile(r"code_([a-z][a-z0-9_]*)_v(\d+)")
OF_NO_SPACE = "NOT EXISTS (SELECT 1 FROM xmr.spaces AS s WHERE s.space = {table}.space AND s.version = {table}.version)"
OF_NO_PARTS = "NOT EXISTS (SELECT 1 FROM xmr.parts AS p WHERE p.space = {table}.space AND p.version = {table}.version)"
OF_NO_ANSWERER = f"NOT ({{table}}.version = {ANSWERER} AND {{table}}.space IN (SELECT answerer FROM xmr.answerers))"
ROWS = {
    "forms": "descriptions",
    "encoded": "names of vectors",
    "attention": "rows of attention",
    "training": "rows of training items",
}


def findings(store: SqlSpaces) -> Iterator[Finding]:
    """What is wrong with the spaces of a library, and what is left of others."""
    con = store.db
    known = records(con)
    yield from _lost_records(store, {(space.name, space.version) for space in known})
    for space in known:
        yield from _of_space(store, space)
    yield from _publications(store, known)
    for space in answerers(con):
        yield from _of_answerer(con, space)
    yield from _left_over(con)


def _of_space(store: SqlSpaces, space: SpaceRecord) -> Iterator[Finding]:
    con, of = store.db, f"space {space.name!r} version {space.version}"
    encodes = None
    try:
        components = parts.get(con, space.name, space.version)
        if components:
            encodes = components[0].role == "encoder"
        else:
            yield Finding(f"the parts of {of} are gone; drop it, and fit again")
    except StateError as error:
        yield Finding(f"the parts of {of} are damaged ({error}); drop it, and fit again")
    table = codes.table_name(space.name, space.version)
    wanted = {"item_id": "BIGINT", "modality": "VARCHAR"}
    wanted |= {column.name: codes.column_type(column) for column in space.code_layout.columns}
    if con.columns(table) != wanted:
        how = "damaged: its table has other columns" if con.columns(table) else "gone"
        if not encodes:
            yield Finding(f"the codes of {of} are {how}; drop it, and add the embeddings again")
        else:
            yield Finding(f"the codes of {of} are {how}; repair makes them again", partial(store.remake_codes, space))
        return
    yield from _of_codes(con, space, of, bool(encodes))


def _of_codes(con: Connection, space: SpaceRecord, of: str, encodes: bool) -> Iterator[Finding]:
    table = codes.table_name(space.name, space.version)
    double = list(twice(con, table, ["item_id", "modality"], f"codes of {of}"))
    yield from double
    if encodes:
        yield from orphans(con, table, f"codes of {of} refer to no item", f"item_id NOT IN {ITEMS}")
        other = f"SELECT 1 FROM xmr.items AS i WHERE i.item_id = {table}.item_id AND i.modality <> {table}.modality"
        yield from orphans(con, table, f"codes of {of} have another modality than their item", f"EXISTS ({other})")
    if double:  # what is there twice cannot be read
        return
    for (modality,) in con.rows(f"SELECT DISTINCT modality FROM xmr.{table} ORDER BY modality"):
        try:
            bad = _not_finite(codes.get(con, space, modality))
        except StorageError as error:
            yield Finding(f"the {modality} codes of {of} cannot be read ({error}); drop it, and fit again")
            continue
        if not len(bad):
            continue
        nan = f"{len(bad)} {modality} codes of {of} hold NaN or infinity"
        if encodes:
            yield Finding(f"{nan}; repair makes them again", partial(_delete_codes, con, table, modality, bad))
        else:
            yield Finding(f"{nan}, the first is of id {bad[0]}; delete these ids, and add their embeddings again")


def _not_finite(stored: Any) -> NDArray[np.int64]:
    """The ids of codes in which a number is NaN or infinite."""
    bad = np.zeros(len(stored), bool)
    for values in stored.columns.values():
        if values.dtype.kind == "f":
            bad |= ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    ids: NDArray[np.int64] = stored.ids[bad]
    return ids


def _delete_codes(con: Connection, table: str, modality: str, ids: NDArray[np.int64]) -> None:
    import pyarrow as pa

    with con.given(_doomed=pa.table({"item_id": ids})):
        con.execute(
            f"DELETE FROM xmr.{table} WHERE modality = $1 AND item_id IN (SELECT item_id FROM _doomed)", [modality]
        )


def _publications(store: SqlSpaces, known: list[SpaceRecord]) -> Iterator[Finding]:
    """Names that mean no version, or several."""
    for name in sorted({space.name for space in known}):
        versions = [space.version for space in known if space.name == name]
        public = [space.version for space in known if space.name == name and space.published]
        newest = max(public or versions)
        if not public:
            there = ", ".join(map(str, versions))
            yield Finding(
                f"space {name!r} has no published version, so that no search by its name works; "
                f"publish one of {there}: db.publish({name!r}, {newest})"
            )
        elif len(public) > 1:
            yield Finding(
                f"space {name!r} has {len(public)} published versions; repair publishes the newest of them, {newest}",
                partial(store.publish, name, newest),
            )


def _of_answerer(con: Connection, space: SpaceRecord) -> Iterator[Finding]:
    try:
        roles = [part.role for part in parts.get(con, space.name, ANSWERER)]
    except StateError:
        roles = []
    if roles != ["encoder", "answerer"]:
        yield Finding(f"the parts of answerer {space.name!r} are damaged; drop it, and learn again")


def _lost_records(store: SqlSpaces, known: set[tuple[str, int]]) -> Iterator[Finding]:
    """Code tables whose space is gone: written again where its components are there, else dropped."""
    con = store.db
    for table in con.tables("code_"):
        match = CODES.fullmatch(table)
        if not match or (match[1], int(match[2])) in known or not {"item_id", "modality"} <= con.columns(table).keys():
            continue  # a table of the user's, or one that has its space
        name, version = match[1], int(match[2])
        of = f"space {name!r} version {version}"
        if counted(con, f"xmr.parts WHERE space = '{name}' AND version = {version}"):
            yield Finding(
                f"xmr.spaces has lost {of}, whose codes and components are there; repair writes its row again",
                partial(rebuild, store, name, version),
            )
        else:
            yield Finding(
                f"the table xmr.{table} belongs to no space; repair drops it",
                partial(con.execute, f"DROP TABLE xmr.{table}"),
            )


def _left_over(con: Connection) -> Iterator[Finding]:
    """Rows of spaces that are gone altogether."""
    present, tables = set(con.tables()), set(con.tables("code_"))
    for table, what in ROWS.items():
        if {table, "parts"} <= present:
            condition = f"{OF_NO_SPACE.format(table=table)} AND {OF_NO_PARTS.format(table=table)}"
            yield from orphans(con, table, f"{what} refer to a space that does not exist", condition)
    if "parts" in present and "answerers" in present:
        condition = f"{OF_NO_SPACE.format(table='parts')} AND {OF_NO_ANSWERER.format(table='parts')}"
        gone = con.rows(f"SELECT DISTINCT space, version FROM xmr.parts WHERE {condition}")
        if any(f"code_{name}_v{version}" not in tables for name, version in gone):
            yield from orphans(con, "parts", "components belong to no space", condition)
    if {"parts", "tensors"} <= present:
        gone = [rule.format(table="tensors") for rule in (OF_NO_PARTS, OF_NO_SPACE, OF_NO_ANSWERER)]
        condition = " AND ".join(gone if "answerers" in present else gone[:2])
        yield from orphans(con, "tensors", "tensors belong to no component", condition)
    if {"runs", "metrics"} <= present:
        condition = "run_id NOT IN (SELECT run_id FROM xmr.runs)"
        yield from orphans(con, "metrics", "figures belong to no run", condition)
