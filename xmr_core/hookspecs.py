"""The hooks, all of them. A plugin module implements those it needs and returns classes.

import xmr_core as xmr

@xmr.hookimpl
def xmr_indexers():
    return [MyIndexer]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from xmr_core.components import Encoder, Fuser
    from xmr_core.search.indexer import Indexer
    from xmr_core.store import Store
    from xmr_core.vqa import Answerer

__all__ = ["hookimpl", "hookspec"]

PROJECT = "xmr"  # also the group of entry points
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def xmr_encoders() -> list[type[Encoder]]:  # type: ignore[empty-body]  # a specification has no body
    """Encoder classes: pictures and sentences to features."""


@hookspec
def xmr_fusers() -> list[type[Fuser]]:  # type: ignore[empty-body]
    """Fuser classes: features to embeddings."""


@hookspec
def xmr_indexers() -> list[type[Indexer]]:  # type: ignore[empty-body]
    """Indexer classes: embeddings to codes, codes to an index."""


@hookspec
def xmr_answerers() -> list[type[Answerer]]:  # type: ignore[empty-body]
    """Answerer classes: features of pictures and questions to answers."""


@hookspec
def xmr_stores() -> list[type[Store]]:  # type: ignore[empty-body]
    """Store classes: databases that a library may live in, chosen by the scheme of its URL."""
