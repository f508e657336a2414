"""The table `xmr.spaces`: which spaces and versions there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xmr_core.errors import StorageError
from xmr_core.store import SpaceRecord
from xmr_storage.codes import layouts, table_name
from xmr_storage.legacy import layout_of

if TYPE_CHECKING:
    from xmr_storage.connection import Connection

__all__ = ["code_tables", "find", "records"]


def records(con: Connection) -> list[SpaceRecord]:
    """All spaces and versions, without their parts, their codes not counted."""
    columns = "space, version, recipe, fingerprint, metric, layout, dim, symbol_bits, seed, created, published"
    rows = con.rows(f"SELECT {columns} FROM xmr.spaces ORDER BY space, version")
    known = layouts(con)
    return [
        SpaceRecord(
            *(name, version, recipe, fingerprint, metric),
            known.get((name, version)) or layout_of(kind, dim, bits),
            *(seed, created, bool(published)),
        )
        for name, version, recipe, fingerprint, metric, kind, dim, bits, seed, created, published in rows
    ]


def find(con: Connection, name: str, version: int | None) -> SpaceRecord:
    """One of `records`, the published version unless one is named. Raises StorageError where it does not exist."""
    known = records(con)
    for space in known:
        if space.name == name and (space.version == version if version is not None else space.published):
            return space
    versions = ", ".join(str(space.version) for space in known if space.name == name)
    if versions:
        wanted = "published version" if version is None else f"version {version}"
        raise StorageError(f"{con.url}: space {name!r} has no {wanted}; there are {versions}")
    offer = ", ".join(sorted({space.name for space in known})) or "none yet: fit one"
    raise StorageError(f"{con.url} has no space {name!r}; there are {offer}")


def code_tables(con: Connection) -> list[str]:
    """The tables of codes that exist; a user's own `code_...` is not one."""
    tables = set(con.tables("code_"))
    return [name for name in (table_name(s.name, s.version) for s in records(con)) if name in tables]
