"""Spaces and whole files: publishing, dropping, SQL with live functions, export, restore, compaction."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xmr_core.errors import DataError, StorageError
from xmr_core.library import saved
from xmr_core.library.fitting import encode_missing
from xmr_core.library.live import LiveSession
from xmr_core.library.session import Session
from xmr_core.library.spaces import check_version
from xmr_core.types import Head

__all__ = ["drop", "export", "materialize", "publish", "register", "restore", "sql"]


def publish(session: Session, name: str, version: int) -> None:
    """See `Library.publish`."""
    _check(name, version)
    with session.change():
        session.store.publish(name, version)
        encode_missing(session, {}, name=name)


def materialize(session: Session, name: str | None, drop: bool) -> None:
    """See `Library.materialize`."""
    if not isinstance(drop, bool):
        raise DataError(f"materialize: drop is True or False, got {drop!r}")
    session.store.materialize(session.space(name).name, drop)


def drop(session: Session, name: str, version: int | None = None, role: Head = "indexer") -> None:
    """See `Library.drop` and `Library.drop_answerer`."""
    _check(name, version)
    versions = [record.version for record in session.store.spaces(role) if record.name == name]
    session.store.drop_space(name, version, role)
    session.follow()
    if role == "indexer":
        saved.remove(session.store, name, versions if version is None else [version])


def _check(name: object, version: object) -> None:
    """Raise DataError where these are no name and no version of a space."""
    if not isinstance(name, str):
        raise DataError(f"space {name!r}: expected the name of a space")
    check_version(name, version)


def sql(session: Session, statement: str, parameters: Sequence[Any] | Mapping[str, Any] | None) -> Any:
    """See `Library.sql`."""
    if session.store.has_live_functions:
        register(session, None)
    return session.store.sql(statement, parameters)


def register(session: Session, connection: Any) -> None:
    """See `Library.register`."""
    session.store.live(connection, LiveSession(session))


def export(session: Session, folder: str | Path) -> Path:
    """See `Library.export`."""
    folder = _folder("export", folder)
    session.store.export(folder)
    return folder


def restore(session: Session, folder: str | Path) -> None:
    """See `Library.restore`."""
    session.store.restore(_folder("restore", folder))


def _folder(verb: str, folder: str | Path) -> Path:
    """The path of a folder, if it can be one. Raises StorageError."""
    try:
        if isinstance(folder, (str, Path)) and str(folder).strip() and "\0" not in str(folder):
            os.fsencode(folder)
            return Path(folder)
    except UnicodeEncodeError:
        pass
    raise StorageError(f"{verb}: expected the path of a {'new ' if verb == 'export' else ''}folder, got {folder!r}")
