"""Codes and tensors between numpy and a database's typed columns, by way of Arrow; no value passes through Python."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from xmr_core.errors import StateError
from xmr_core.types import Codes, Column, Layout
from xmr_storage.kinds import arrow_type

__all__ = [
    "array_of_blob",
    "blob_of_array",
    "codes_of_table",
    "column_of",
    "table_of_codes",
    "typed",
    "vector_column",
    "vectors_of_column",
]


def table_of_codes(codes: Codes, modality: str) -> pa.Table:
    """The columns of a code table: item_id, modality, then those of the layout; a uint64 as a signed word."""
    columns: dict[str, pa.Array] = {
        "item_id": pa.array(codes.ids),
        "modality": pa.array([modality]).take(pa.array(np.zeros(len(codes), np.int8))),
    }
    unpacked = codes.columns
    for column in codes.layout.columns:
        values = unpacked[column.name]
        if column.dtype == "bytes":
            buffer = pa.py_buffer(np.ascontiguousarray(values))
            columns[column.name] = pa.Array.from_buffers(pa.binary(column.width), len(codes), [None, buffer])
        else:
            columns[column.name] = column_of(values.view(np.int64) if column.dtype == "uint64" else values)
    return pa.table(columns)


def codes_of_table(table: pa.Table, layout: Layout) -> Codes:
    """The inverse of `table_of_codes`; the modality column is not needed. Raises ValueError on damaged columns."""
    columns = {column.name: _values(table[column.name], column) for column in layout.columns}
    return Codes.of_columns(_numpy(table["item_id"], np.int64), layout, columns)


def _values(stored: pa.ChunkedArray, column: Column) -> NDArray[Any]:
    if column.dtype == "bytes":
        whole = stored.cast(pa.binary(column.width)).combine_chunks()
        chunks = whole.chunks if isinstance(whole, pa.ChunkedArray) else [whole]
        width = column.width or 0
        parts = [np.frombuffer(chunk.buffers()[1], np.uint8)[: (chunk.offset + len(chunk)) * width] for chunk in chunks]
        rows = [part.reshape(-1, width)[chunk.offset :] for part, chunk in zip(parts, chunks, strict=True)]
        return np.concatenate(rows) if rows else np.zeros((0, width), np.uint8)
    if column.width is not None:
        return vectors_of_column(stored, column.width, np.dtype(column.dtype))
    if column.dtype == "uint64":
        return _numpy(stored, np.int64).view(np.uint64)
    return _numpy(stored, np.dtype(column.dtype))


def column_of(array: NDArray[Any]) -> pa.Array:
    """(n,) numbers as a column of numbers, (n, width) as one of lists; without a copy where they lie row by row."""
    return pa.array(np.ascontiguousarray(array)) if array.ndim == 1 else vector_column(array)


def vector_column(vectors: NDArray[Any]) -> pa.Array:
    """(n, d) numbers as a column of fixed-size lists, without a copy where they lie row by row."""
    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])


def vectors_of_column(column: pa.ChunkedArray, dim: int, dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """A column of vectors as (n, d): lists of d numbers, or the bytes of little-endian ones."""
    if pa.types.is_binary(column.type):
        little = np.dtype(dtype).newbyteorder("<")
        return np.array([np.frombuffer(row, little) for row in column.to_pylist()], dtype).reshape(-1, dim)
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim) for chunk in column.chunks if len(chunk)]
    return np.concatenate(chunks).astype(dtype, copy=False) if chunks else np.zeros((0, dim), dtype)


def typed(table: pa.Table, kinds: Mapping[str, str]) -> pa.Table:
    """The columns of a table of the library as their SQL types `kinds` say; vectors may be bytes."""
    made = {}
    for name, kind in kinds.items():
        vector = re.fullmatch(r"([A-Z]+)\[(\d+)\]", kind)
        if vector:
            dtype = arrow_type(vector[1]).to_pandas_dtype()
            made[name] = vector_column(vectors_of_column(table[name], int(vector[2]), dtype))
        else:
            made[name] = table[name].cast(arrow_type(kind))
    return pa.table(made)


def _numpy(column: pa.ChunkedArray, dtype: Any) -> NDArray[Any]:
    return np.asarray(column.to_numpy(), dtype)


def blob_of_array(array: NDArray[Any]) -> tuple[str, str, bytes]:
    """An array as dtype, shape (JSON) and bytes: little-endian, row-major. Texts are UTF-8, a NUL after each."""
    if array.dtype.kind == "U":
        return "text", json.dumps(array.shape), b"".join(str(entry).encode() + b"\0" for entry in array.ravel())
    if array.dtype.kind not in "biuf":
        raise StateError(f"a state holds numbers or texts, got an array of {array.dtype}")
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return plain.dtype.str, json.dumps(array.shape), plain.tobytes()


def array_of_blob(dtype: str, shape: str, blob: bytes) -> NDArray[Any]:
    """The inverse of `blob_of_array`. Raises StateError where the bytes are not what shape and dtype say."""
    try:
        wanted = tuple(json.loads(shape))
        if not all(type(size) is int and size >= 0 for size in wanted):
            raise ValueError(f"shape {shape}")
        if dtype == "text":
            return np.array(blob.decode().split("\0")[:-1], dtype=np.str_).reshape(wanted)
        if not re.fullmatch(r"[<|][biuf]\d{1,2}", dtype):
            raise ValueError(f"dtype {dtype}")
        return np.frombuffer(blob, np.dtype(dtype)).reshape(wanted).copy()
    except (ValueError, TypeError, SyntaxError, RecursionError, OverflowError) as error:
        raise StateError(f"a stored state is damaged: {error}") from None
