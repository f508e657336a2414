"""What `doctor` looks for in any SQL database: what is gone, what does not fit together, and what mends it.

Every check is on its own: one that a damaged table keeps from running becomes a finding, and the others still run.
"""

from __future__ import annotations

from collections.abc import Iterator

from xmr_core.errors import Finding, StateError, StorageError
from xmr_storage.checks import items, spaces, structure
from xmr_storage.spaces import SqlSpaces

__all__ = ["doctor"]


def doctor(store: SqlSpaces) -> Iterator[Finding]:
    """What is wrong with a library's tables, each with what mends it."""
    found = list(structure.findings(store))
    yield from found
    if structure.is_beyond_repair(store):  # every other table would seem to be of items that are gone
        return
    for check in (items.findings, spaces.findings):
        try:
            yield from check(store)
        except (StorageError, StateError) as error:
            if not found:  # else it is about the table that is gone
                yield Finding(f"cannot be checked further: {error}; restore an export into a new file")
