"""A recipe that suits what a library holds, for `fit` without one: by what is there, and by held-out recall.

The candidates are recipes as a user would write them; one whose components or weights are not installed is passed over.
Where several fit, each is fitted on some nine tenths of the images and their captions and measured on the rest; the
first in order (the simplest) is taken whose recall is within five points of the best. The trials end with one that no
other can beat by more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmr_core import measures
from xmr_core.errors import DataError, XmrError
from xmr_core.progress import current_run
from xmr_core.recipes import Pipeline
from xmr_core.store import Store
from xmr_core.types import IMAGE, TEXT, Items, Pairs

__all__ = ["Choice", "Trial", "choose"]

WORDS = 'bow(weighting="tfidf", normalise=True, stem="plural")'
ALIGNED = (
    f"each(image='lite0', text='{WORDS}') >> ridge >> flat",
    f"each(image='lite0', text=['minilm', '{WORDS}']) >> ridge >> flat",
    "each(image='lite0', text='minilm') >> cca >> flat",
    f"each(image='lite0', text=['minilm', '{WORDS}']) >> contrastive >> flat",
)
OF_VECTORS = "each(image=\"precomputed(name='{0}')\", text=\"precomputed(name='{0}')\")"
ALIGNED_VECTORS = tuple(f"{OF_VECTORS} >> {fuser} >> flat" for fuser in ("ridge", "cca", "contrastive"))
CAPTIONS = ("minilm >> flat", f"{WORDS} >> flat")
IMAGES = ("lite0 >> flat",)
FEWEST = 40  # images with captions, below which nothing is held out and the simplest is taken
HELD_OUT, MOST_HELD_OUT = 10, 500  # one image in so many is held out, at most so many
LEAST_HELD_OUT = 20  # where there are few, at most half of them: recall@10 among fewer than 20 says little
FEW = 2_000  # captions, below which networks are not tried: over 1,603 emoji they take minutes and end behind ridge
MANY = 12_000  # captions from which the last candidate is taken without a trial: it is ahead by far there
CLOSE = 0.05  # recall@10 that a simpler recipe may lack: it is quicker, and finds the words that captions use


@dataclass(frozen=True)
class Trial:
    """One candidate: its mean recall@10 over both directions on held-out pairs; None, and why, if it was not tried."""

    recipe: str
    recall: float | None = None
    why_not: str = ""


@dataclass(frozen=True)
class Choice:
    """The chosen recipe, and what it was chosen by."""

    recipe: str
    why: str
    trials: Sequence[Trial] = field(default_factory=tuple)
    held_out: int = 0  # images that the trials were measured on
    chance: float | None = None  # recall@10 of a random ranking of them

    def __str__(self) -> str:
        lines = [f"{self.recipe}: {self.why}"]
        for trial in self.trials if self.held_out else ():
            told = trial.why_not if trial.recall is None else f"recall@10 {trial.recall:.3f}"
            lines.append(f"  {trial.recipe}: {told}")
        if self.chance is not None:
            lines.append(f"  mean of both directions over {self.held_out:,} held-out images; chance {self.chance:.3f}")
        return "\n".join(lines)


def choose(store: Store, pairs: Pairs, seed: int) -> Choice:
    """A recipe for a library whose training items are `pairs`. Raises DataError where none fits what there is."""
    vectors = _ready_made(store, pairs)
    if vectors is not None:
        return Choice(vectors, "the items are vectors already")
    if len(pairs.links):
        return _aligned(pairs, seed, _both_sides(store, pairs))
    if len(pairs.images):
        why = "there are images and no captions: image to image, by what a network sees in them"
        return _first(IMAGES, why)
    return _first(CAPTIONS, "there are texts and no images: text to text, by meaning")


def _ready_made(store: Store, pairs: Pairs) -> str | None:
    """The recipe for items whose data are vectors of one width, or that have vectors of one name and width."""
    of_images, of_texts = store.vector_widths(IMAGE), store.vector_widths(TEXT)
    for name in [*of_images, *of_texts]:
        sides = [items for items, own in ((pairs.images, of_images), (pairs.texts, of_texts)) if name in own]
        if of_images.get(name) in (None, of_texts.get(name, of_images.get(name))) and all(
            items.vectors_of(name)[0].all() for items in sides
        ):
            return f"precomputed(name={name!r}) >> flat"
    widths = {
        len(side.data[0]) for side in (pairs.images, pairs.texts) if len(side) and isinstance(side.data[0], np.ndarray)
    }
    return f"precomputed(dim={widths.pop()}) >> flat" if len(widths) == 1 else None


def _both_sides(store: Store, pairs: Pairs) -> str | None:
    """The name of ready-made vectors that all images and all texts have; their widths may differ."""
    of_texts = store.vector_widths(TEXT)
    for name in store.vector_widths(IMAGE):
        if name in of_texts and all(side.vectors_of(name)[0].all() for side in (pairs.images, pairs.texts)):
            return name
    return None


def _first(recipes: Sequence[str], why: str) -> Choice:
    trials = [_installed(recipe) for recipe in recipes]
    able = [trial for trial in trials if not trial.why_not]
    if not able:
        raise DataError(f"no installed recipe suits these items: {'; '.join(trial.why_not for trial in trials)}")
    return Choice(able[0].recipe, why)


def _installed(recipe: str) -> Trial:
    """The candidate, with the reason if its components or their weights are not installed."""
    try:
        Pipeline.parse(recipe).fingerprint()
    except XmrError as error:
        return Trial(recipe, why_not=str(error))
    return Trial(recipe)


def _too_few(trial: Trial) -> Trial:
    return replace(trial, why_not=trial.why_not or f"not tried: networks need {FEW:,} captions")


def _aligned(pairs: Pairs, seed: int, vectors: str | None = None) -> Choice:
    """The simplest recipe whose recall on held-out images is close to the best; over ready-made `vectors` if named."""
    recipes: Sequence[str] = ALIGNED
    what = "images with captions"
    if vectors is not None:
        recipes = tuple(recipe.format(vectors) for recipe in ALIGNED_VECTORS)
        what = f"vectors {vectors!r} of images and of captions"
    trials = [_installed(recipe) for recipe in recipes]
    if len(pairs.links) < FEW:
        trials = [_too_few(trial) if ">> contrastive " in trial.recipe else trial for trial in trials]
    able = [trial.recipe for trial in trials if not trial.why_not]
    if not able:
        raise DataError(f"no recipe for {what} is installed: {'; '.join(t.why_not for t in trials)}")
    images = np.unique(pairs.links[:, 0])
    if len(able) == 1 or len(images) < FEWEST:
        why = f"{what}{'; the only one installed' if len(able) == 1 else ', too few to try others'}"
        return Choice(able[0], why, trials)
    if len(pairs.links) >= MANY and able[-1] == recipes[-1]:
        return Choice(able[-1], f"{len(pairs.links):,} captions are enough to train networks for both sides", trials)
    size = min(MOST_HELD_OUT, max(len(images) // HELD_OUT, LEAST_HELD_OUT))
    held = np.random.default_rng(seed).permutation(images)[:size]
    learn, test = _parts(pairs, held)
    tried = _tried_in_turn(trials, learn, test, seed)
    recalls = [trial.recall for trial in tried if trial.recall is not None]
    if not recalls:
        raise DataError(f"no recipe could be fitted: {'; '.join(trial.why_not for trial in tried)}")
    best = max(recalls)
    chosen = next(trial for trial in tried if trial.recall is not None and trial.recall >= best - CLOSE)
    counts = np.bincount(test.links[:, 1], minlength=len(test.texts))
    chance = [
        measures.chance_pair_recall(np.bincount(test.links[:, 0], minlength=len(test.images)), len(test.texts)).r10,
        measures.chance_pair_recall(counts, len(test.images)).r10,
    ]
    why = f"{what}; the simplest within five points of the best in a trial on held-out images"
    return Choice(chosen.recipe, why, tried, len(held), float(np.mean(chance)))


def _tried_in_turn(trials: Sequence[Trial], learn: Pairs, test: Pairs, seed: int) -> list[Trial]:
    """The candidates with their recall, up to one that none can beat by more than `CLOSE`."""
    tried: list[Trial] = []
    enough = False
    for trial in trials:
        if enough and not trial.why_not:
            trial = Trial(trial.recipe, why_not="not tried: it cannot be better by five points")
        elif not trial.why_not:
            trial = _tried(trial.recipe, learn, test, seed)
            enough = trial.recall is not None and trial.recall >= 1 - CLOSE
        tried.append(trial)
    return tried


def _tried(recipe: str, learn: Pairs, test: Pairs, seed: int) -> Trial:
    """A candidate fitted on `learn` and measured on `test`."""
    try:
        fitted = Pipeline.parse(recipe).with_seed(seed).fit(learn)
        sides = [fitted.embed(side) for side in (test.images, test.texts)]
        ways = measures.recall_both_ways(sides[0], sides[1], test.links)
    except XmrError as error:  # such as too few pairs: the others may do
        return Trial(recipe, why_not=str(error))
    recall = float(np.mean([way.r10 for way in ways]))
    current_run().log(f"trial of {recipe}", 0, recall=recall)
    return Trial(recipe, recall)


def _parts(pairs: Pairs, held: NDArray[np.int64]) -> tuple[Pairs, Pairs]:
    """The pairs without the held-out images, and theirs; captions of both are in neither."""
    away = np.isin(pairs.links[:, 0], held)
    both = np.intersect1d(pairs.links[away, 1], pairs.links[~away, 1])
    kept = ~np.isin(pairs.links[:, 1], both)
    return _of_links(pairs, ~away & kept), _of_links(pairs, away & kept)


def _of_links(pairs: Pairs, chosen: NDArray[np.bool_]) -> Pairs:
    """The pairs of some links, and their items alone."""
    links = pairs.links[chosen]
    sides: list[Items] = []
    columns: list[Any] = []
    for column, side in enumerate((pairs.images, pairs.texts)):
        rows, own = np.unique(links[:, column], return_inverse=True)
        sides.append(side.take(rows))
        columns.append(own)
    assert (sides[0].modality, sides[1].modality) == (IMAGE, TEXT)
    return replace(pairs, images=sides[0], texts=sides[1], links=np.stack(columns, axis=1))
