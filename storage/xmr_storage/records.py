"""The tables `xmr.spaces` and `xmr.answerers`: which spaces and versions there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xmr_core.errors import StorageError
from xmr_core.store import SpaceRecord
from xmr_storage.codes import layouts, table_name
from xmr_storage.legacy import layout_of

if TYPE_CHECKING:
    from xmr_core.types import Head
    from xmr_storage.connection import Connection

__all__ = ["ANSWERER", "answerers", "code_tables", "find", "records"]


ANSWERER = 0  # the version of a space that answers; those that search count from 1


def records(con: Connection) -> list[SpaceRecord]:
    """All spaces that search and their versions, without their parts, their codes not counted."""
    state = con.state()
    if state is None or con.known_spaces is None or con.known_spaces[0] != state:
        con.known_spaces = state, _read(con)
    return list(con.known_spaces[1])


def _read(con: Connection) -> list[SpaceRecord]:
    columns = "space, version, recipe, fingerprint, metric, layout, dim, symbol_bits, seed, created, published"
    rows = con.rows(f"SELECT {columns} FROM xmr.spaces")
    rows.sort(key=lambda row: row[:2])  # sooner done here than by a statement over few rows
    known = layouts(con)
    return [
        SpaceRecord(
            *(name, version, recipe, fingerprint, metric),
            known.get((name, version)) or layout_of(kind, dim, bits),
            *(seed, created, bool(published)),
        )
        for name, version, recipe, fingerprint, metric, kind, dim, bits, seed, created, published in rows
    ]


def answerers(con: Connection) -> list[SpaceRecord]:
    """All spaces that answer questions, without their parts."""
    if "answerers" not in con.tables("answerers"):  # an older file, open for reading only
        return []
    rows = con.rows("SELECT answerer, recipe, fingerprint, seed, created FROM xmr.answerers ORDER BY answerer")
    return [
        SpaceRecord(name, ANSWERER, recipe, fingerprint, seed=seed, created=created, published=True)
        for name, recipe, fingerprint, seed, created in rows
    ]


def find(con: Connection, name: str, version: int | None, role: Head = "indexer") -> SpaceRecord:
    """A space of that role, the published version unless one is named. Raises StorageError where it does not exist."""
    known, what, verb = (records(con), "space", "fit") if role == "indexer" else (answerers(con), "answerer", "learn")
    for space in known:
        if space.name == name and (space.version == version if version is not None else space.published):
            return space
    versions = ", ".join(str(space.version) for space in known if space.name == name)
    if versions:
        wanted = "published version" if version is None else f"version {version}"
        raise StorageError(f"{con.url}: {what} {name!r} has no {wanted}; there are {versions}")
    offer = ", ".join(sorted({space.name for space in known})) or f"none yet: {verb} one"
    raise StorageError(f"{con.url} has no {what} {name!r}; there are {offer}")


def code_tables(con: Connection) -> list[str]:
    """The tables of codes that exist; a user's own `code_...` is not one."""
    tables = set(con.tables("code_"))
    versions = con.rows("SELECT space, version FROM xmr.spaces")
    return [name for name in (table_name(space, version) for space, version in sorted(versions)) if name in tables]
