"""A folder of pictures with a table of captions: CSV, TSV or Parquet, a picture and a text a row."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmr_core.datasets.reading import Dataset, dataset
from xmr_core.errors import ConfigError, DataError, PluginError
from xmr_core.types import IMAGE, TEXT, Items

__all__ = ["table"]

PARQUET = (".parquet", ".pq")
SUFFIXES = (".csv", ".tsv", *PARQUET)
SEVERAL = re.compile(r"\s*[;|,]\s*")  # between the labels of a picture
WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})")  # what 64 bits hold; 007 is a name
DECIMAL = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
NAMED = 5  # keys that an error message names

Columns = dict[str, list[Any]]


def table(
    path: str | Path,
    image: str = "image",
    text: str = "text",
    key: str | None = None,
    labels: str | None = None,
    folder: str | Path | None = None,
    on_error: str = "refuse",
) -> Dataset:
    """Pairs from a table; `image` and `text` name its columns of picture paths and captions.

    Paths are relative to the table's folder, or to `folder`. A picture in several rows has several texts. `key` names a
    column of keys for the pictures, else the path as it is written is the key; a text's key is its picture's with #0,
    #1, ... The column `labels` holds one or more labels a row, separated by ; , or |, or lists (Parquet). All other
    columns become metadata of the texts, and of the pictures where all rows of a picture agree; a column `split` with
    train, val or test in it is what `fit` and `evaluate` look for.

    CSV is read as RFC 4180 says; TSV has no quotes. `on_error` says what becomes of rows whose file is missing or whose
    text is empty: "refuse" raises DataError with their keys, "skip" leaves them out (`Dataset.skipped`).
    """
    if on_error not in ("refuse", "skip"):
        raise ConfigError("on_error", on_error, "must be 'refuse' or 'skip'")
    path = Path(path)
    columns = _columns(path)
    used = [name for name in (image, text, key, labels) if name is not None]
    for name in used:
        if name not in columns:
            raise DataError(f"{path.name} has no column {name!r}; it has {', '.join(columns) or 'none'}")
    root = path.parent if folder is None else Path(folder)
    keys = [str(value) for value in columns[key or image]]
    files = [root / str(value) for value in columns[image]]
    text_keys = _numbered(keys)
    faults = _faults(text_keys, files, columns[text])
    if faults and on_error == "refuse":
        raise DataError(_summary(path.name, faults), list(faults))
    kept = [row for row, text_key in enumerate(text_keys) if text_key not in faults]
    firsts = _firsts(keys, files, kept)
    places = {keys[row]: place for place, row in enumerate(firsts)}
    own = np.array([places[keys[row]] for row in kept], np.int64)  # (kept,) which picture
    extra = {name: _typed([column[row] for row in kept]) for name, column in columns.items() if name not in used}
    marks, names = (None, []) if labels is None else _labels([columns[labels][row] for row in kept])
    images = Items(
        IMAGE,
        [files[row] for row in firsts],
        [keys[row] for row in firsts],
        metadata=_agreed(extra, own, len(firsts)),
        labels=None if marks is None else _united(marks, own, len(firsts)),
    )
    texts = Items(
        TEXT,
        [columns[text][row] for row in kept],
        [text_keys[row] for row in kept],
        metadata=extra,
        labels=marks,
    )
    links = np.stack([own, np.arange(len(kept))], axis=1)
    return dataset(path.stem, images, texts, links, names, f"in {path.name}", faults)


# reading


def _columns(path: Path) -> Columns:
    suffix = path.suffix.lower()
    if not path.is_file():
        raise DataError(f"there is no table {str(path)!r}")
    if suffix in PARQUET:
        return _parquet(path)
    if suffix not in SUFFIXES:
        raise DataError(f"{path.name}: expected a table that ends in {', '.join(SUFFIXES)}")
    with path.open(encoding="utf-8-sig", newline="") as file:
        if suffix == ".csv":
            reader = csv.reader(file)
        else:
            reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        try:
            rows = [row for row in reader if row]
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{path.name} cannot be read as {suffix[1:].upper()} in UTF-8: {error}") from None
    header, body = rows[0] if rows else [], rows[1:]
    if len(set(header)) < len(header):
        raise DataError(f"{path.name}: two columns have one name: {', '.join(header)}")
    for number, row in enumerate(body, 1):
        if len(row) != len(header):
            raise DataError(f"{path.name}: row {number} has {len(row)} fields, the header {len(header)}")
    return {name: [row[place] for row in body] for place, name in enumerate(header)}


def _parquet(path: Path) -> Columns:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError:
        raise PluginError("reading Parquet needs pyarrow: pip install pyarrow") from None
    try:
        columns: Columns = parquet.read_table(path).to_pydict()
    except ArrowInvalid as error:
        raise DataError(f"{path.name} cannot be read as Parquet: {error}") from None
    return columns


# rows


def _numbered(keys: Sequence[str]) -> list[str]:
    """A key for each row: that of its picture with #0, #1, ..."""
    counts: Counter[str] = Counter()
    numbered = []
    for key in keys:
        numbered.append(f"{key}#{counts[key]}")
        counts[key] += 1
    return numbered


def _faults(keys: Sequence[str], files: Sequence[Path], texts: Sequence[Any]) -> dict[str, str]:
    """What is wrong with each row that cannot be used, by the key of its text."""
    there = {file: file.is_file() for file in dict.fromkeys(files)}
    faults = {}
    for key, file, text in zip(keys, files, texts, strict=True):
        if not there[file]:
            faults[key] = "no such picture"
        elif not isinstance(text, str) or not text.strip():
            faults[key] = "empty text"
    return faults


def _summary(name: str, faults: Mapping[str, str]) -> str:
    shown = "; ".join(f"{key}: {reason}" for key, reason in list(faults.items())[:NAMED])
    more = f"; and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
    return f"{name}: {len(faults)} rows cannot be used: {shown}{more}; on_error='skip' leaves them out"


def _firsts(keys: Sequence[str], files: Sequence[Path], kept: Sequence[int]) -> list[int]:
    """The first row of each picture. Raises DataError where one key names two files."""
    first: dict[str, int] = {}
    for row in kept:
        if files[first.setdefault(keys[row], row)] != files[row]:
            raise DataError(f"key {keys[row]!r} names two pictures; keys must be a picture's own", [keys[row]])
    return list(first.values())


def _typed(column: list[Any]) -> list[Any]:
    """Texts that are all whole numbers as int, or all numbers as float; empty ones as None. `007` stays a text."""
    if not all(isinstance(value, str) for value in column):
        return column
    given = [value for value in column if value]
    kind: type = str
    if given and all(WHOLE.fullmatch(value) for value in given):
        kind = int
    elif given and all(DECIMAL.fullmatch(value) for value in given):
        kind = float
    return [kind(value) if value else None for value in column]


def _agreed(columns: Columns, own: NDArray[np.int64], n: int) -> Columns:
    """The columns on which all rows of each picture agree, as columns of the pictures."""
    agreed: Columns = {}
    for name, column in columns.items():
        values: list[Any] = [None] * n
        for place, value in zip(own[::-1], column[::-1], strict=True):
            values[place] = value
        if all(values[place] == value for place, value in zip(own, column, strict=True)):
            agreed[name] = values
    return agreed


def _labels(column: Sequence[Any]) -> tuple[NDArray[np.uint8], list[str]]:
    """(n, l) uint8 and the names of the columns, in alphabetical order."""
    sets = [set(SEVERAL.split(value.strip()) if isinstance(value, str) else value or ()) - {""} for value in column]
    names = sorted({str(name) for own in sets for name in own})
    return np.array([[name in own for name in names] for own in sets], np.uint8).reshape(len(sets), -1), names


def _united(labels: NDArray[np.uint8], own: NDArray[np.int64], n: int) -> NDArray[np.uint8]:
    """(n, l): the labels of a picture are those of all its rows."""
    united = np.zeros((n, labels.shape[1]), np.uint8)
    np.maximum.at(united, own, labels)
    return united
