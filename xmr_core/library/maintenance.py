"""Spaces and whole files: publishing, dropping, SQL with live functions, export, restore, compaction, checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np

from xmr_core.library import query
from xmr_core.library.session import Session
from xmr_core.search.codes import words_of
from xmr_core.types import Head

__all__ = ["drop", "export", "publish", "register", "restore", "sql"]


def publish(session: Session, name: str, version: int) -> None:
    """See `Library.publish`."""
    session.store.publish(name, version)
    session.forget()


def drop(session: Session, name: str, version: int | None = None, role: Head = "indexer") -> None:
    """See `Library.drop` and `Library.drop_answerer`."""
    session.store.drop_space(name, version, role)
    session.forget()


def sql(session: Session, statement: str, parameters: Sequence[Any] | Mapping[str, Any] | None) -> Any:
    """See `Library.sql`."""
    if session.store.has_live_functions:
        register(session, None)
    return session.store.sql(statement, parameters)


def register(session: Session, connection: Any) -> None:
    """See `Library.register`."""
    # bound to the session: a store tells the functions of one library from those of another by the object behind them
    session.store.live(connection, MethodType(_search, session), MethodType(_encode_text, session))


def _search(session: Session, text: str, k: int, space: str | None) -> tuple[list[int], list[float]]:
    found = query.search(session, text=text, k=k, space=space)
    kept = found.ids[0] >= 0
    return found.ids[0][kept].tolist(), found.distances[0][kept].tolist()


def _encode_text(session: Session, text: str, space: str | None) -> list[int] | list[float]:
    values = query.encode(session, text, None, space).values[0]
    if values.dtype != np.uint8:
        return [float(value) for value in values]
    return [int(word) for word in words_of(values[None])[0]]


def export(session: Session, folder: str | Path) -> Path:
    """See `Library.export`."""
    folder = Path(folder)
    session.store.export(folder)
    return folder


def restore(session: Session, folder: str | Path) -> None:
    """See `Library.restore`."""
    session.store.restore(Path(folder))
    session.forget()
