"""Every error the project raises, on one page.

    XmrError
      PluginError                a plugin that cannot be loaded or breaks the contract
        UnknownComponentError    no component of that name; the nearest name is suggested
        DuplicateComponentError  two distributions claim one name
      ConfigError (ValueError)   an option outside its range, or parts that do not fit together
      DataError (ValueError)     an array, picture, text or query that cannot be used
        SpaceMismatchError       a query from another space than the stored codes
        MissingVectorError       items without the ready-made vector that a recipe compares
      NotFittedError             a component used before `fit`
      StateError                 a stored state that cannot be read back
        StateVersionError        a stored state of another version of its component
      StorageError               the database file cannot be used
        SchemaVersionError       written by a newer (or unknown) format
        LockedError              another process holds the file
        DiskFullError            the disk is full; the message says what to free

    SkippedSpaceWarning (UserWarning)  a space that cannot be loaded, left out of work on all spaces

A message says what was got, what was wanted, and what to do. Catch `XmrError` to catch them all. `Finding` is what
`doctor` returns instead of raising it.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = [
    "ConfigError",
    "DataError",
    "DiskFullError",
    "DuplicateComponentError",
    "Finding",
    "LockedError",
    "MissingVectorError",
    "NotFittedError",
    "PluginError",
    "SchemaVersionError",
    "SkippedSpaceWarning",
    "SpaceMismatchError",
    "StateError",
    "StateVersionError",
    "StorageError",
    "UnknownComponentError",
    "XmrError",
]


class XmrError(Exception):
    """The base of every error raised here."""


class PluginError(XmrError):
    """A plugin cannot be loaded, or breaks the contract."""


class UnknownComponentError(PluginError):
    """No installed component has this name."""


class DuplicateComponentError(PluginError):
    """Two distributions offer a component of the same name."""


class ConfigError(XmrError, ValueError):
    """An option has a value it may not have, or parts do not fit together.

    >>> raise ConfigError("planes", 99, "must be between 1 and 32")
    Traceback (most recent call last):
    xmr_core.errors.ConfigError: planes=99: must be between 1 and 32
    """

    def __init__(self, field: str, value: object = ..., rule: str = "") -> None:
        super().__init__(field if value is ... else f"{field}={value!r}: {rule}")


class DataError(XmrError, ValueError):
    """Data cannot be used; `keys` names the items at fault where there are any."""

    def __init__(self, message: str, keys: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.keys = tuple(keys)


class SpaceMismatchError(DataError):
    """A query was made by other components than the codes it is compared with."""


class MissingVectorError(DataError):
    """Items lack the ready-made vector that a recipe compares; `keys` are theirs, `reason` says what each lacks."""

    def __init__(self, message: str, keys: Sequence[str] = (), reason: str = "") -> None:
        super().__init__(message, keys)
        self.reason = reason or message


class NotFittedError(XmrError):
    """A component was used before `fit`."""


class StateError(XmrError):
    """A stored state cannot be read back."""


class StateVersionError(StateError):
    """A stored state was written by another version of its component."""


class StorageError(XmrError):
    """The database cannot be used."""


class SchemaVersionError(StorageError):
    """The file has a format that this version does not know."""


class LockedError(StorageError):
    """Another process holds the file."""


class SkippedSpaceWarning(UserWarning):
    """A space was left out of what concerns all spaces, since it cannot be loaded; the message says what to install."""


class DiskFullError(StorageError):
    """The disk is full. What was committed is still there, and the library goes on."""


FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG)) if hasattr(errno, "EDQUOT") else frozenset((errno.ENOSPC,))


def not_written(file: Path, error: OSError, hint: str = "") -> StorageError:
    """The error of a file that cannot be written: DiskFullError where there is no room for it."""
    if error.errno in FULL:
        told = f"{file}: the disk is full ({error.strerror}); free some space and try again"
        return DiskFullError(f"{told}; {hint}" if hint else told)
    return StorageError(f"{file}: cannot be written: {error}{f'; {hint}' if hint else ''}")


class Finding(str):
    """One fault that `doctor` found, as a sentence: what is wrong, and what to do about it.

    `mend` repairs it inside a transaction; None if only a person can. `mended` is True once it was repaired.
    """

    mend: Callable[[], object] | None
    mended: bool

    def __new__(cls, sentence: str, mend: Callable[[], object] | None = None) -> Finding:
        """A finding that `mend` repairs."""
        made = super().__new__(cls, sentence)
        made.mend, made.mended = mend, False
        return made

    @property
    def repairable(self) -> bool:
        """True if `doctor(repair=True)` repairs it."""
        return self.mend is not None


def named(keys: Sequence[str], most: int = 5) -> str:
    """Some keys for a message: `a, b and 3 more`."""
    distinct = list(Counter(keys))
    shown = ", ".join(repr(key) for key in distinct[:most])
    return shown if len(distinct) <= most else f"{shown} and {len(distinct) - most} more"
