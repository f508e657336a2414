"""Names and texts in SQL: what may stand in a statement, and how it is quoted."""

from __future__ import annotations

import re

from xmr_core.errors import DataError

__all__ = ["identifier", "literal", "quoted"]

NAME = re.compile(r"[a-z_][a-z0-9_]{0,47}")


def identifier(name: str, what: str = "name") -> str:
    """The name, if it may stand in SQL unquoted: a-z, 0-9 and _, 48 characters at most. Raises DataError."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise DataError(f"{what} {name!r}: use a to z, 0 to 9 and _, beginning with a letter, 48 characters at most")
    return name


def literal(text: str) -> str:
    """Any text as a SQL literal, for statements that take no parameters."""
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """Any name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
