"""The files beside an ONNX file that hold its weights, found without the package `onnx`.

A network of more than 2 GB, and many a smaller one, keeps its weights in files of their own, which onnxruntime reads
whatever they hold. So a fingerprint must cover them. This walks the Protocol Buffers message just far enough to read
their names. Source: onnx.proto of ONNX, `TensorProto.external_data`.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["external_files"]

FIELDS = {  # field numbers that lead to tensors, and to what kind of message
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
KEY, VALUE = 1, 2  # fields of an entry
VARINT, EIGHT, BYTES, FOUR = 0, 1, 2, 5  # how a field is written


def external_files(model: bytes) -> set[str]:
    """The locations of weights outside the file, relative to it. Raises ValueError where it is no such message."""
    entries = ({number: bytes(content) for number, content in _fields(e)} for e in _entries(memoryview(model), "model"))
    return {entry[VALUE].decode() for entry in entries if entry.get(KEY) == b"location" and VALUE in entry}


def _entries(message: memoryview, kind: str) -> Iterator[memoryview]:
    """The key-value entries of external data in a message."""
    if kind == "entry":
        yield message
        return
    for number, content in _fields(message):
        within = FIELDS[kind].get(number)
        if within is not None:
            yield from _entries(content, within)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The number and content of each field that holds bytes; others are passed over."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        written = tag & 7
        if written == VARINT:
            _, at = _varint(message, at)
        elif written == BYTES:
            size, at = _varint(message, at)
            if at + size > len(message):
                raise ValueError("it is cut short")
            yield tag >> 3, message[at : at + size]
            at += size
        elif written in (EIGHT, FOUR):
            at += 8 if written == EIGHT else 4
        else:
            raise ValueError(f"there is no wire type {written}")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number, and where what follows it begins."""
    number = shift = 0
    while at < len(message) and shift < 64:
        byte = message[at]
        number |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return number, at
        shift += 7
    raise ValueError("it is cut short")
