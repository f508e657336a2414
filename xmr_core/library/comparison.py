"""Comparing recipes: each fitted and evaluated on the same items, a space each."""

from __future__ import annotations

from collections.abc import Sequence

from xmr_core.components import Chain, Component
from xmr_core.errors import ConfigError
from xmr_core.library import evaluation, fitting
from xmr_core.library.evaluation import Evaluation
from xmr_core.library.session import Session
from xmr_core.library.spaces import check_name, check_seed
from xmr_core.recipes import Pipeline, Recipe, as_pipeline
from xmr_core.search.condition import Where
from xmr_core.types import Int

__all__ = ["compare"]


def compare(
    session: Session, recipes: Sequence[Recipe], seed: Int, queries: Where | None, database: Where | None
) -> list[Evaluation]:
    """See `Library.compare`."""
    if isinstance(recipes, (str, Chain, Component)):
        raise ConfigError(f"compare: expected a list of recipes, got {recipes!r}")
    made = []
    for pipeline in [as_pipeline(recipe).with_seed(check_seed(seed)) for recipe in recipes]:
        wanted = repr(pipeline)
        known = [record for record in session.store.spaces() if record.published and record.recipe == wanted]
        name = known[0].name if known else _free_name(session, pipeline)
        if not known:
            fitting.fit(session, pipeline, name, None, seed, True)
        made.append(evaluation.evaluate(session, name, queries, database, None))
    return made


def _free_name(session: Session, pipeline: Pipeline) -> str:
    base = check_name("_".join(part.name for part in pipeline.parts))
    taken = {record.name for record in session.store.spaces()}
    return next(name for name in (base, *(f"{base}_{i}" for i in range(2, 1000))) if name not in taken)
