"""The components of a space, in order, and their states: `xmr.parts` and `xmr.tensors`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from xmr_core.components import Provider
from xmr_core.errors import StateError
from xmr_core.store import PartRecord

if TYPE_CHECKING:
    from xmr_storage.connection import Connection

__all__ = ["drop", "get", "json_object", "providers", "put"]

OPTIONS = "the stored options of a component"


def get(con: Connection, name: str, version: int) -> list[PartRecord]:
    """The components of a version. Raises StateError where what is stored is damaged."""
    from xmr_storage.arrow import array_of_blob

    parts = con.rows(
        """
        SELECT position, role, name, options, state_version, fingerprint
        FROM xmr.parts
        WHERE space = $1 AND version = $2
        ORDER BY position
        """,
        [name, version],
    )
    tensors = con.rows(
        "SELECT position, name, dtype, shape, data FROM xmr.tensors WHERE space = $1 AND version = $2",
        [name, version],
    )
    states: dict[int, dict[str, NDArray[Any]]] = {}
    for position, key, dtype, shape, blob in tensors:
        states.setdefault(position, {})[key] = array_of_blob(dtype, shape, blob)
    brought = providers(con, name, version)
    return [
        PartRecord(
            *(role, part, json_object(options, OPTIONS), states.get(position, {}), state_version, fingerprint),
            tuple(brought.get(position, ())),
        )
        for position, role, part, options, state_version, fingerprint in parts
    ]


def providers(con: Connection, name: str, version: int) -> dict[int, list[Provider]]:
    """Who brought the components of a version, by position; nobody where the library does not say."""
    if not con.columns("providers"):  # an older file, open for reading only
        return {}
    rows = con.rows(
        """
        SELECT position, role, component, distribution, release
        FROM xmr.providers
        WHERE space = $1 AND version = $2
        ORDER BY position, role, component
        """,
        [name, version],
    )
    brought: dict[int, list[Provider]] = {}
    for position, role, component, distribution, release in rows:
        brought.setdefault(position, []).append(Provider(role, component, distribution, release))
    return brought


def put(con: Connection, name: str, version: int, parts: Sequence[PartRecord]) -> None:
    """Write the components of a version."""
    from xmr_storage.arrow import blob_of_array

    for position, part in enumerate(parts):
        key = [name, version, position]
        con.execute(
            "INSERT INTO xmr.parts VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            [*key, part.role, part.name, json.dumps(part.options), part.version, part.fingerprint],
        )
        for one in part.providers:
            con.execute(
                "INSERT INTO xmr.providers VALUES ($1, $2, $3, $4, $5, $6, $7)",
                [*key, one.role, one.component, one.distribution, one.release],
            )
        for tensor, array in part.state.items():
            con.execute(
                "INSERT INTO xmr.tensors VALUES ($1, $2, $3, $4, $5, $6, $7)", [*key, tensor, *blob_of_array(array)]
            )


def drop(con: Connection, name: str, version: int) -> None:
    """Delete the components of a version."""
    for table in ("parts", "providers", "tensors"):
        con.execute(f"DELETE FROM xmr.{table} WHERE space = $1 AND version = $2", [name, version])


def json_object(text: str, what: str) -> dict[str, Any]:
    """A JSON object that was stored. Raises StateError where it is damaged."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StateError(f"{what} are damaged: {error}") from None
    if not isinstance(values, dict):
        raise StateError(f"{what} are damaged: {text[:80]}")
    return values
