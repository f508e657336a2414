"""The contract, as tests a plugin author runs: one line gives a class of them, one test a law.

    from xmr_core.testing import conformance

    TestMine = conformance("indexer", "mine", config={"planes": 8})

pytest collects the class. Where its samples do not suit a component, give others: `samples=` takes Pairs for an
encoder, FeaturePairs for a fuser, Embeddings for an indexer, QuestionFeatures for an answerer. A line at the end of the
session says how many checks ran. Needs pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from xmr_core.errors import DataError
from xmr_core.registry import default
from xmr_core.testing.answerers import AnswererCase, AnswererLaws
from xmr_core.testing.contract import Laws, Suite
from xmr_core.testing.encoders import EncoderCase, EncoderLaws
from xmr_core.testing.fusers import FuserCase, FuserLaws
from xmr_core.testing.indexers import IndexerCase, IndexerLaws
from xmr_core.testing.samples import clustered, feature_pairs, pairs, question_features, ready_made
from xmr_core.testing.stores import StoreCase, StoreLaws
from xmr_core.types import Embeddings, FeaturePairs, Pairs
from xmr_core.vqa import QuestionFeatures

__all__ = ["clustered", "conformance", "feature_pairs", "pairs", "question_features", "ready_made"]

SUITES: dict[str, tuple[type[Laws], type[Any], type[Any]]] = {
    "encoder": (EncoderLaws, EncoderCase, Pairs),
    "fuser": (FuserLaws, FuserCase, FeaturePairs),
    "indexer": (IndexerLaws, IndexerCase, Embeddings),
    "answerer": (AnswererLaws, AnswererCase, QuestionFeatures),
}


def conformance(
    role: Literal["encoder", "fuser", "indexer", "answerer", "store"],
    component: str | type[Any],
    config: Mapping[str, Any] | None = None,
    samples: Pairs | FeaturePairs | Embeddings | QuestionFeatures | None = None,
    url: Callable[[Path], str] | None = None,
) -> type[Suite]:
    """The contract of a role as a class of tests, for the component of that name or that class.

    `config` are its options: choose the quick ones. A store has none; its `url` gives the URL of a new database for an
    empty folder, where `Store.trial_url` does not suit. Raises UnknownComponentError, ConfigError, DataError.
    """
    if role == "store":
        found = default().find(role, component) if isinstance(component, str) else component
        return type(f"StoreLaws_{found.name}", (StoreLaws,), {"case": StoreCase(found, url), "__doc__": found.__doc__})
    laws, case, wanted = SUITES[role]
    if samples is not None and not isinstance(samples, wanted):
        raise DataError(f"samples for {role}s: expected {wanted.__name__}, got {type(samples).__name__}")
    cls = default().find(role, component) if isinstance(component, str) else component
    made = cls(**(config or {}))
    return type(
        f"{laws.__name__}_{made.name}", (laws,), {"case": case(made, samples), "__doc__": f"The contract of {made!r}."}
    )
