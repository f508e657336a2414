"""Rows from wherever they are, as columns: files, data frames, Arrow tables, DuckDB relations, dicts, HF datasets.

Nothing of pandas, polars, DuckDB or Hugging Face is imported: what a source can do says what it is.
"""

from __future__ import annotations

import glob
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xmr_core.errors import DataError
from xmr_core.registry import default
from xmr_core.store import Store

__all__ = ["Columns", "columns_of", "is_missing", "is_table_file", "read_files"]

SUFFIXES = (".csv", ".tsv", ".parquet", ".pq", ".json", ".jsonl", ".ndjson", ".arrow", ".feather", ".ipc")
COMPRESSED = (".gz", ".zst")

Columns = dict[str, Sequence[Any]]  # names to columns of one length: lists, or arrays (n, d) of numbers


def is_table_file(path: Path) -> bool:
    """True for the name of a file of rows that `read_files` reads."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return bool(suffixes) and suffixes[-1] in SUFFIXES


def read_files(path: str | Path) -> tuple[Columns, Path]:
    """The columns of a file of rows, or of all that a glob pattern matches, and the folder of the first.

    Raises DataError where there is none, or one cannot be read.
    """
    found = [str(path)] if Path(path).is_file() else sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 (absolute)
    files = [file for file in map(Path, found) if file.is_file()]
    if not files:
        raise DataError(f"there is no table {str(path)!r}")
    strange = [file.name for file in files if not is_table_file(file)]
    if strange:
        raise DataError(f"{strange[0]}: expected a table that ends in {', '.join(SUFFIXES)}")
    stores: list[type[Store]] = [entry.component for entry in default().entries("store")]
    reader = next((store for store in stores if store.read_table.__func__ is not Store.read_table.__func__), None)  # type: ignore[attr-defined]  # of a class method
    if reader is None:
        raise DataError(f"{files[0].name}: no installed store reads tables; the DuckDB store does")
    return _of_arrow(reader.read_table(files)), files[0].parent


def columns_of(source: object) -> Columns | None:
    """The columns of rows in memory; None where the source is of no kind that has rows.

    Takes a pandas or polars DataFrame (or LazyFrame), an Arrow table, batch or reader, a DuckDB relation, a Hugging
    Face Dataset, a DatasetDict (whose splits become the column `split`), a dict of columns, and any iterable of dicts.
    Raises DataError where rows are no dicts or columns differ in length.
    """
    kind = f"{type(source).__module__}.{type(source).__name__}"
    if kind.startswith("polars.") and hasattr(source, "collect"):
        return columns_of(source.collect())
    if isinstance(source, Mapping) and source and all(map(_is_hugging_face, source.values())):
        return _of_splits(source)
    if isinstance(source, Mapping):
        return _checked({str(name): column for name, column in source.items()})
    if kind.startswith("pyarrow."):
        return _of_arrow(source)
    if kind.startswith("pandas."):
        return {str(name): _plain_list(source[name]) for name in source.columns}  # type: ignore[attr-defined, index]
    if _is_hugging_face(source):
        return _of_arrow(source.with_format("arrow")[:])  # type: ignore[attr-defined]  # images stay encoded
    for way in ("to_arrow_table", "to_arrow", "fetch_arrow_table", "__arrow_c_stream__"):
        if hasattr(source, way):
            return _of_arrow(source if way == "__arrow_c_stream__" else getattr(source, way)())
    if isinstance(source, Iterable) and not isinstance(source, (str, bytes, np.ndarray)):
        return _of_rows(source)
    return None


def is_missing(value: object) -> bool:
    """True for None, NaN, NaT and pandas' NA."""
    if type(value) in (str, int, bytes):  # most values, and this is asked of every one
        return False
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return bool(np.isnat(value))
    return isinstance(value, (float, np.floating)) and math.isnan(value)


def _is_hugging_face(source: object) -> bool:
    return hasattr(source, "column_names") and hasattr(source, "with_format")


def _of_splits(splits: Mapping[Any, Any]) -> Columns:
    """The rows of all splits, one after the other."""
    made: dict[str, list[Any]] = {}
    count = 0
    for split, rows in splits.items():
        table = rows.with_format("arrow")[:]
        columns = {**_of_arrow(table), "split": [str(split)] * len(table)}
        for name in [*made, *(name for name in columns if name not in made)]:
            made.setdefault(name, [None] * count).extend(columns.get(name, [None] * len(table)))
        count += len(table)
    return dict(made)


def _of_rows(rows: Iterable[Any]) -> Columns:
    columns: dict[str, list[Any]] = {}
    count = 0
    for count, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise DataError(f"row {count - 1}: expected a dict of columns, got {type(row).__name__}")
        for name, value in row.items():
            column = columns.setdefault(str(name), [])
            column.extend([None] * (count - 1 - len(column)))
            column.append(value)
    for column in columns.values():
        column.extend([None] * (count - len(column)))
    return dict(columns)


def _of_arrow(source: Any) -> Columns:
    import pyarrow as pa

    table = pa.Table.from_batches([source]) if isinstance(source, pa.RecordBatch) else source
    if not isinstance(table, pa.Table):
        table = pa.table(table) if not hasattr(table, "read_all") else table.read_all()
    return {name: _of_arrow_column(table[name]) for name in table.column_names}


def _of_arrow_column(column: Any) -> Sequence[Any]:
    """A list of Python values; lists of as many numbers each, such as vectors, as an array (n, d)."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if lists and pa.types.is_floating(kind.value_type) and not column.null_count and len(column):
        parts: list[Any] = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
        flat: Any = parts[0] if len(parts) == 1 else np.concatenate(parts)  # one chunk is a view of the table's memory
        if len(flat) % len(column) == 0 and _of_one_width(column, kind):
            vectors: Sequence[Any] = flat.reshape(len(column), -1)
            return vectors
    values: list[Any] = column.to_pylist()
    return values


def _of_one_width(column: Any, kind: Any) -> bool:
    import pyarrow as pa
    from pyarrow import compute

    if pa.types.is_fixed_size_list(kind):
        return True
    ends = compute.min_max(compute.list_value_length(column)).as_py()
    return bool(ends["min"] == ends["max"])


def _plain_list(column: Any) -> list[Any]:
    return [None if is_missing(value) else value for value in column.tolist()]


def _checked(columns: Columns) -> Columns:
    sizes = {name: len(column) for name, column in columns.items() if hasattr(column, "__len__")}
    if len(sizes) < len(columns) or len(set(sizes.values())) > 1:
        raise DataError(f"columns: expected lists of one length, got {sizes}")
    return columns
