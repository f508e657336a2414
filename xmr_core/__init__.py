"""Cross-modal retrieval in one database file, every part a plugin. Start with `open`."""

from __future__ import annotations

from xmr_core.components import API_VERSION, Component, Encoder, Fuser, Index, Indexer, NoConfig, SqlDistance
from xmr_core.errors import (
    ConfigError,
    DataError,
    DuplicateComponentError,
    LockedError,
    NotFittedError,
    PluginError,
    SchemaVersionError,
    SpaceMismatchError,
    StateError,
    StateVersionError,
    StorageError,
    UnknownComponentError,
    XmrError,
)
from xmr_core.exact import ExactIndex, nearest, select
from xmr_core.hookspecs import hookimpl
from xmr_core.pipeline import Pipeline
from xmr_core.types import (
    IMAGE,
    TEXT,
    Codes,
    Embeddings,
    FeaturePairs,
    Features,
    Hits,
    Items,
    Layout,
    Metric,
    Pairs,
    pack_bits,
    unpack_bits,
)

__all__ = [
    "API_VERSION",
    "IMAGE",
    "TEXT",
    "Codes",
    "Component",
    "ConfigError",
    "DataError",
    "DuplicateComponentError",
    "Embeddings",
    "Encoder",
    "ExactIndex",
    "FeaturePairs",
    "Features",
    "Fuser",
    "Hits",
    "Index",
    "Indexer",
    "Items",
    "Layout",
    "LockedError",
    "Metric",
    "NoConfig",
    "NotFittedError",
    "Pairs",
    "Pipeline",
    "PluginError",
    "SchemaVersionError",
    "SpaceMismatchError",
    "SqlDistance",
    "StateError",
    "StateVersionError",
    "StorageError",
    "UnknownComponentError",
    "XmrError",
    "hookimpl",
    "nearest",
    "pack_bits",
    "select",
    "unpack_bits",
]

__version__ = "0.1.0"
