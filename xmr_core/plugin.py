"""All that a plugin imports from the core, on one page; what is not here or in `xmr_core` is private and may move.

    from xmr_core.plugin import Indexer, Range, Seed, hookimpl, takes

The names by topic are in docs/api.md. A plugin imports this module or `xmr_core`, `xmr_core.sql` for its SQL,
and no other of the core.
"""

from __future__ import annotations

from xmr_core.components import (
    API_VERSION,
    Component,
    Encoder,
    Form,
    Fuser,
    KeptVectors,
    NoConfig,
    State,
    Widths,
    below,
    joined_digest,
    takes,
)
from xmr_core.errors import ConfigError, DataError, NotFittedError, PluginError, StateError
from xmr_core.hookspecs import hookimpl
from xmr_core.images import check_images, decode_image, decode_images
from xmr_core.measures import average_precision, between, mean_average_precision
from xmr_core.options import (
    Batch,
    Bits,
    Device,
    Dim,
    Dropout,
    Epochs,
    Matches,
    Range,
    Rate,
    Rule,
    Seed,
    Validation,
    VectorMetric,
    as_float,
    as_int,
    checked,
    options_of,
    unset,
)
from xmr_core.progress import Run, current_run, encode_cached, use_run
from xmr_core.recipes import fit_nested, nested_encoder
from xmr_core.registry import component
from xmr_core.search.digests import array_digest, file_digest
from xmr_core.search.distances import (
    Scan,
    distances,
    hamming_counts,
    own_distances,
    pair_distances,
    reach,
    true_cells,
    unit,
)
from xmr_core.search.exact import ExactIndex, nearest
from xmr_core.search.hashing import BitFuser
from xmr_core.search.hits import empty_hits, hits_of_pairs, positions_of, put, select, stacked
from xmr_core.search.index import Index
from xmr_core.search.indexer import Indexer
from xmr_core.search.reranking import rerank
from xmr_core.search.rotations import hyperplanes, itq, principal_axes, random_rotation
from xmr_core.search.selection import Remembered, Selection
from xmr_core.search.vector_indexer import ScanIndex, VectorIndex, VectorIndexer, cosine_form, vector_form
from xmr_core.sql import SqlForm
from xmr_core.store import Store
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
    as_array,
    as_bits,
    as_ids,
    as_vectors,
    pack_bits,
    unpack_bits,
)
from xmr_core.vqa import Answerer, QuestionFeatures, Questions, accuracies, frequent_answers

__all__ = [
    "API_VERSION",
    "IMAGE",
    "TEXT",
    "Answerer",
    "Batch",
    "BitFuser",
    "Bits",
    "Codes",
    "Column",
    "Component",
    "ConfigError",
    "DataError",
    "Device",
    "Dim",
    "Dropout",
    "Embeddings",
    "Encoder",
    "Epochs",
    "ExactIndex",
    "FeaturePairs",
    "Features",
    "Form",
    "Fuser",
    "Hits",
    "Index",
    "Indexer",
    "Items",
    "KeptVectors",
    "Layout",
    "Matches",
    "Metric",
    "NoConfig",
    "NotFittedError",
    "Pairs",
    "PluginError",
    "QuestionFeatures",
    "Questions",
    "Range",
    "Rate",
    "Remembered",
    "Rule",
    "Run",
    "Scan",
    "ScanIndex",
    "Seed",
    "Selection",
    "SqlForm",
    "State",
    "StateError",
    "Store",
    "Validation",
    "VectorIndex",
    "VectorIndexer",
    "VectorMetric",
    "Widths",
    "accuracies",
    "array_digest",
    "as_array",
    "as_bits",
    "as_float",
    "as_ids",
    "as_int",
    "as_vectors",
    "average_precision",
    "below",
    "between",
    "check_images",
    "checked",
    "component",
    "cosine_form",
    "current_run",
    "decode_image",
    "decode_images",
    "distances",
    "empty_hits",
    "encode_cached",
    "file_digest",
    "fit_nested",
    "frequent_answers",
    "hamming_counts",
    "hits_of_pairs",
    "hookimpl",
    "hyperplanes",
    "itq",
    "joined_digest",
    "mean_average_precision",
    "nearest",
    "nested_encoder",
    "options_of",
    "own_distances",
    "pack_bits",
    "pair_distances",
    "positions_of",
    "principal_axes",
    "put",
    "random_rotation",
    "reach",
    "rerank",
    "select",
    "stacked",
    "takes",
    "true_cells",
    "unit",
    "unpack_bits",
    "unset",
    "use_run",
    "vector_form",
]
