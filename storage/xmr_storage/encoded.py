"""What codes are made of: the names of the tables of vectors, and `xmr.encoded`, which notes those of each version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xmr_core.components import KeptVectors
from xmr_storage.quoting import identifier

if TYPE_CHECKING:
    from xmr_core.store import SpaceRecord
    from xmr_storage.connection import Connection

__all__ = ["feature_table", "kept_in", "note", "tables", "vectors_name"]


def feature_table(extractor: str) -> str:
    """The table of the features of an extractor, or of the ready-made vectors that `vectors_name` names."""
    return identifier(extractor if extractor.startswith("vector_") else f"feature_{extractor}", "extractor")


def vectors_name(modality: str, name: str) -> str:
    """What stands for the extractor of ready-made vectors."""
    return f"vector_{modality}__{name}"


def kept_in(modality: str, table: str) -> KeptVectors:
    """What a table of vectors keeps of items of a modality."""
    prefix = vectors_name(modality, "")
    if table.startswith(prefix):
        return KeptVectors(table.removeprefix(prefix), given=True)
    return KeptVectors(table.removeprefix("feature_"))


def note(con: Connection, space: SpaceRecord) -> None:
    """Note which vectors of the library the codes of a version are made of, where the record says so."""
    for modality, kept in space.kept.items():
        table = feature_table(vectors_name(modality, kept.name) if kept.given else kept.name)
        con.execute("INSERT INTO xmr.encoded VALUES ($1, $2, $3, $4)", [space.name, space.version, modality, table])


def tables(con: Connection, name: str, version: int) -> dict[str, str]:
    """The tables of the vectors that the codes of a version are made of, by modality, as they were noted."""
    if not con.columns("encoded"):  # an older file, open for reading only
        return {}
    query = "SELECT modality, vectors FROM xmr.encoded WHERE space = $1 AND version = $2 ORDER BY modality"
    return dict(con.rows(query, [name, version]))
