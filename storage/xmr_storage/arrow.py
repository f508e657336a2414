"""Codes and tensors between numpy and a database's typed columns, by way of Arrow; no value passes through Python."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from xmr_core.errors import StateError
from xmr_core.types import Codes, Layout

__all__ = [
    "array_of_blob",
    "blob_of_array",
    "codes_of_table",
    "table_of_codes",
    "typed",
    "vector_column",
    "vectors_of_column",
]


def words(values: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(n, bytes) as (n, ceil(bytes/8)) little-endian 64-bit words, signed, the last one filled with zeros."""
    n, nbytes = values.shape
    padded = np.zeros((n, -(-nbytes // 8) * 8), np.uint8)
    padded[:, :nbytes] = values
    return padded.view("<i8")


def table_of_codes(codes: Codes, modality: str) -> pa.Table:
    """The columns of a code table: item_id, modality, then those of the layout."""
    layout = codes.layout
    columns: dict[str, pa.Array] = {
        "item_id": pa.array(codes.ids),
        "modality": pa.array([modality]).take(pa.array(np.zeros(len(codes), np.int8))),
    }
    if layout.kind == "float":
        columns["vector"] = vector_column(codes.vectors)
    elif layout.kind == "pq":
        symbols = codes.values if layout.symbol_bits <= 8 else codes.values.view("<u2")
        for j in range(layout.dim):
            columns[f"c{j}"] = pa.array(np.ascontiguousarray(symbols[:, j]).astype(np.int32))
    else:
        for j, word in enumerate(words(codes.values).T):
            columns[f"w{j}"] = pa.array(np.ascontiguousarray(word))
    return pa.table(columns)


def codes_of_table(table: pa.Table, layout: Layout) -> Codes:
    """The inverse of `table_of_codes`; the modality column is not needed."""
    ids = _numpy(table["item_id"], np.int64)
    if layout.kind == "float":
        return Codes.of_vectors(ids, vectors_of_column(table["vector"], layout.dim))
    if layout.kind == "pq":
        symbol = np.uint8 if layout.symbol_bits <= 8 else np.dtype("<u2")
        values = np.empty((len(ids), layout.dim), symbol)
        for j in range(layout.dim):
            values[:, j] = _numpy(table[f"c{j}"], np.int64)
        return Codes(ids, values.view(np.uint8), layout)
    stacked = np.empty((len(ids), -(-layout.nbytes // 8)), "<i8")
    for j in range(stacked.shape[1]):
        stacked[:, j] = _numpy(table[f"w{j}"], np.int64)
    return Codes(ids, np.ascontiguousarray(stacked.view(np.uint8)[:, : layout.nbytes]), layout)


def vector_column(vectors: NDArray[np.float32]) -> pa.Array:
    """(n, d) float32 as a column of fixed-size lists, without a copy."""
    flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])


def vectors_of_column(column: pa.ChunkedArray, dim: int) -> NDArray[np.float32]:
    """A column of vectors as (n, d) float32: lists of d numbers, or the bytes of little-endian float32."""
    if pa.types.is_binary(column.type):
        return np.array([np.frombuffer(row, "<f4") for row in column.to_pylist()], np.float32).reshape(-1, dim)
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim) for chunk in column.chunks if len(chunk)]
    return np.concatenate(chunks).astype(np.float32, copy=False) if chunks else np.zeros((0, dim), np.float32)


def typed(table: pa.Table, kinds: Mapping[str, str]) -> pa.Table:
    """The columns of a table of the library as their SQL types `kinds` say; vectors may be bytes."""
    made = {}
    for name, kind in kinds.items():
        vector = re.fullmatch(r"FLOAT\[(\d+)\]", kind)
        if vector:
            made[name] = vector_column(vectors_of_column(table[name], int(vector[1])))
        else:
            made[name] = table[name].cast(_arrow_type(kind))
    return pa.table(made)


def _arrow_type(kind: str) -> pa.DataType:
    """The Arrow type of a SQL type; lists may be nested."""
    if kind.endswith("[]"):
        return pa.list_(_arrow_type(kind[:-2]))
    return {
        "BIGINT": pa.int64(),
        "UBIGINT": pa.uint64(),
        "INTEGER": pa.int32(),
        "SMALLINT": pa.int16(),
        "TINYINT": pa.int8(),
        "UTINYINT": pa.uint8(),
        "FLOAT": pa.float32(),
        "DOUBLE": pa.float64(),
        "VARCHAR": pa.string(),
        "BLOB": pa.binary(),
        "BOOLEAN": pa.bool_(),
        "DATE": pa.date32(),
        "TIMESTAMP": pa.timestamp("us"),
    }[kind]


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
