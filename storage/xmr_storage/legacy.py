"""How spaces were described before they described themselves: layouts and forms of libraries without `xmr.forms`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from xmr_core.errors import ConfigError, PluginError, StateError
from xmr_core.types import Layout

if TYPE_CHECKING:
    from xmr_core.components import KeptVectors
    from xmr_core.registry import Role
    from xmr_core.sql import SqlForm
    from xmr_core.store import SpaceRecord

__all__ = ["LAYOUTS", "TABLES", "form_of", "kept_of", "layout_of"]

LAYOUTS: Mapping[str, Callable[[int, int], Layout]] = {  # of `dim` and `symbol_bits`
    "bits": lambda dim, _: Layout.bits(dim),
    "pq": lambda dim, bits: Layout.symbols(dim, bits or 8, name="pq"),
    "lattice": lambda dim, bits: Layout.number(dim, bits, name="lattice"),
    "float": lambda dim, _: Layout.vectors(dim),
}
TABLES = ("codebook", "rotation", "step", "entry")  # that a version may have beside its codes


def layout_of(name: str, dim: int, symbol_bits: int) -> Layout:
    """The layout that three columns of `xmr.spaces` said. Raises StateError on one that never was."""
    if name not in LAYOUTS:
        raise StateError(f"layout {name!r}: the library does not say which columns it has")
    return LAYOUTS[name](dim, symbol_bits)


def kept_of(space: SpaceRecord) -> Mapping[str, KeptVectors]:
    """The stored vectors that its codes are made of, as its components tell; none where they cannot be loaded."""
    from xmr_core.progress import kept_vectors
    from xmr_core.registry import default

    made: dict[str, list[Any]] = {"encoder": [], "fuser": []}
    try:
        for part in space.parts[:-1]:
            component = default().find(cast("Role", part.role), part.name)
            made[part.role].append(component.load(part.options, part.state, part.version))
    except Exception:  # a stranger's class may do anything
        return {}
    return kept_vectors(made["encoder"][0] if made["encoder"] else None, made["fuser"])


def form_of(space: SpaceRecord) -> SqlForm | None:
    """The form that the space's indexer, the last of its parts, gives; None where it has none or cannot be loaded."""
    from xmr_core.registry import default

    part = space.parts[-1] if space.parts else None
    if part is None or part.role != "indexer" or space.metric is None:
        return None
    try:
        loaded = default().find("indexer", part.name).load(part.options, part.state, part.version)
    except (PluginError, StateError, ConfigError):
        return None
    form: SqlForm | None = loaded.sql_form(space.code_layout, space.metric)
    return form
