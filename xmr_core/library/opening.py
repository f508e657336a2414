"""Opening a library: by URL, or behind a database connection of the user's."""

from __future__ import annotations

from pathlib import Path

from xmr_core.errors import StorageError
from xmr_core.library.library import Library
from xmr_core.registry import default

__all__ = ["open", "register"]


def open(url: str | Path, read_only: bool = False, progress: bool | None = None) -> Library:
    """The library at `url`: the path of a DuckDB file (created if it does not exist), or `scheme://` of another store.

    The file may hold tables of yours; everything here stays in its schema `xmr`. `progress` shows bars; None shows
    them if somebody watches the error stream. Raises StorageError, SchemaVersionError, LockedError.
    """
    if not isinstance(url, (str, Path)) or not str(url).strip() or "\0" in str(url):
        raise StorageError(f"open: expected the path of a file, got {url!r}")
    url = str(url)
    scheme = url.split("://", 1)[0] if "://" in url else ""
    stores = default().entries("store")
    for entry in stores:
        if scheme in entry.component.schemes:
            return Library(entry.component.open(url, read_only), progress)
    known = sorted({f"{known}://" for entry in stores for known in entry.component.schemes if known})
    raise StorageError(f"{url}: no store opens this; there are {', '.join(known) or 'none installed'}")


def register(connection: object) -> Library:
    """Give a database connection of yours the live functions: `xmr.search`, `xmr.encode_text` and their like.

    The connection must be open on a file that holds a library; each cursor is a connection of its own. The functions
    leave nothing in the file, and work until the connection or the library is closed. Returns the library behind them.
    Raises StorageError.
    """
    for entry in default().entries("store"):
        url = entry.component.url_of(connection)
        if url is not None:
            library = _beside(url)
            library.register(connection)
            return library
    raise StorageError("register: expected a connection that is open on a database file with a library in it")


def _beside(url: str) -> Library:
    """The library at a URL that a connection of the user's holds already, for writing or for reading only."""
    try:
        return open(url, progress=False)
    except StorageError:
        return open(url, read_only=True, progress=False)
