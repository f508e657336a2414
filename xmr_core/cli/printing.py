"""What the command prints: tables for people, JSON and CSV for programs, messages on the error stream."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["as_csv", "as_json", "bytes_of", "fields", "note", "table"]

WIDE = 160  # columns of a table that no terminal shows


def as_json(value: Any) -> None:
    """Print a value as JSON; what JSON lacks (NaN, infinity) is null, bytes are hexadecimal, the rest text."""
    sys.stdout.write(json.dumps(_plain(value), ensure_ascii=False, indent=2, default=str) + "\n")


def as_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows as CSV under their names."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> None:
    """Print rows as a table; numbers stand to the right, and nothing is cut off."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(
        title=title or None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        header_style="bold",
    )
    shown = [list(row) for row in rows]
    for place, name in enumerate(columns):
        numbers = bool(shown) and all(isinstance(row[place], (int, float)) for row in shown)
        made.add_column(Text(name), justify="right" if numbers else "left", overflow="fold")
    for row in shown:
        made.add_row(*(Text(_shown(value)) for value in row))
    _console().print(made)


def fields(pairs: Mapping[str, Any]) -> None:
    """Print names and values, a line each."""
    wide = max(map(len, pairs), default=0)
    for name, value in pairs.items():
        sys.stdout.write(f"{name:<{wide}}  {_shown(value)}\n")


def note(message: str) -> None:
    """A message for who is watching, on the error stream."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def bytes_of(size: float) -> str:
    """A size as people write it.

    >>> bytes_of(1536)
    '1.5 KB'
    """
    for unit in ("bytes", "KB", "MB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GB"


def _console() -> Any:
    from rich.console import Console

    watched = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if watched else WIDE, highlight=False, soft_wrap=False)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value
