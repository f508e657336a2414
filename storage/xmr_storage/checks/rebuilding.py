"""A row of `xmr.spaces` that is gone, written again: it follows from the components and the layout of the codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from xmr_core.errors import StateError
from xmr_core.recipes import Pipeline
from xmr_core.registry import Role, default
from xmr_core.store import SpaceRecord
from xmr_storage import codes, parts
from xmr_storage.records import records

if TYPE_CHECKING:
    from xmr_storage.spaces import SqlSpaces

__all__ = ["rebuild"]


def rebuild(store: SqlSpaces, name: str, version: int) -> None:
    """Write the row again, and publish the version if it is the newest and no other is published.

    Raises StateError, UnknownComponentError where the components cannot be loaded. The seed of the fit is lost.
    """
    layout = codes.layouts(store.db).get((name, version))
    if layout is None:
        raise StateError(f"space {name!r} version {version}: the layout of its codes is lost too; drop it, fit again")
    components = parts.get(store.db, name, version)
    made: list[Any] = [
        default().find(cast(Role, part.role), part.name).load(part.options, part.state, part.version)
        for part in components
    ]
    encoder = made.pop(0) if components[0].role == "encoder" else None
    pipeline = Pipeline(encoder, tuple(made[:-1]), made[-1])
    space = SpaceRecord(name, version, repr(pipeline), pipeline.fingerprint(), pipeline.metric, layout)
    store.insert_space(space)
    others = [known for known in records(store.db) if known.name == name]
    if version == max(known.version for known in others) and not any(known.published for known in others):
        store.publish(name, version)
