"""Cross-modal retrieval in one database file, every part a plugin. Start with `open`."""

from __future__ import annotations

from xmr_core import datasets, measures, registry
from xmr_core.components import (
    API_VERSION,
    Chain,
    Component,
    Encoder,
    Fuser,
    NoConfig,
    takes,
)
from xmr_core.errors import (
    ConfigError,
    DataError,
    DiskFullError,
    DuplicateComponentError,
    Finding,
    LockedError,
    MissingVectorError,
    NotFittedError,
    PluginError,
    SchemaVersionError,
    SkippedSpaceWarning,
    SpaceMismatchError,
    StateError,
    StateVersionError,
    StorageError,
    UnknownComponentError,
    XmrError,
)
from xmr_core.explain.attention import Attention
from xmr_core.hookspecs import hookimpl
from xmr_core.library import Library, open, register
from xmr_core.library.adding import Added
from xmr_core.library.evaluation import Evaluation, Figure
from xmr_core.library.results import Hit, Query, Results
from xmr_core.library.spaces import Space
from xmr_core.library.syncing import Synced
from xmr_core.library.vqa import AnswerEvaluation, AnswerFigure
from xmr_core.recipes import Pipeline
from xmr_core.search.condition import Condition
from xmr_core.search.exact import ExactIndex, nearest
from xmr_core.search.hits import select
from xmr_core.search.index import Index
from xmr_core.search.indexer import Indexer
from xmr_core.sql import SqlForm
from xmr_core.types import (
    IMAGE,
    TEXT,
    Codes,
    Column,
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
from xmr_core.vqa import Answer, Answerer, Answers, QuestionFeatures, Questions

__all__ = [
    "API_VERSION",
    "IMAGE",
    "TEXT",
    "Added",
    "Answer",
    "AnswerEvaluation",
    "AnswerFigure",
    "Answerer",
    "Answers",
    "Attention",
    "Chain",
    "Codes",
    "Column",
    "Component",
    "Condition",
    "ConfigError",
    "DataError",
    "DiskFullError",
    "DuplicateComponentError",
    "Embeddings",
    "Encoder",
    "Evaluation",
    "ExactIndex",
    "FeaturePairs",
    "Features",
    "Figure",
    "Finding",
    "Fuser",
    "Hit",
    "Hits",
    "Index",
    "Indexer",
    "Items",
    "Layout",
    "Library",
    "LockedError",
    "Metric",
    "MissingVectorError",
    "NoConfig",
    "NotFittedError",
    "Pairs",
    "Pipeline",
    "PluginError",
    "Query",
    "QuestionFeatures",
    "Questions",
    "Results",
    "SchemaVersionError",
    "SkippedSpaceWarning",
    "Space",
    "SpaceMismatchError",
    "SqlForm",
    "StateError",
    "StateVersionError",
    "StorageError",
    "Synced",
    "UnknownComponentError",
    "XmrError",
    "datasets",
    "hookimpl",
    "measures",
    "nearest",
    "open",
    "pack_bits",
    "register",
    "registry",
    "select",
    "takes",
    "unpack_bits",
]

__version__ = "0.1.0"
