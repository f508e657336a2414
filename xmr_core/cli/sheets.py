"""The attention step of the demo: sheets of paper with two emoji each, where one can say what is worth attending to."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from xmr_core.images import decode_image
from xmr_core.types import IMAGE, TEXT, Items, Pairs

if TYPE_CHECKING:
    from PIL.Image import Image

    from xmr_core.library import Library

__all__ = ["RECIPE", "Found", "look", "sheets"]

RECIPE = "dan(steps=2, dim=64, epochs=40, batch=64, rate=0.005, dropout=0, validation=0) >> flat"
SPACE = "dan"
CELL, ACROSS = 64, 3  # pixels of an emoji, and emoji that fit on a side of a sheet
EACH = 3  # sheets of every pair of emoji that is learned
HELD_OUT = 40  # pairs of emoji that training never sees together, one sheet each
CAPTION = "the {} and the {} on a white sheet of paper"


class Found(NamedTuple):
    """What the demo reports: held-out captions asked, whose sheet came first, and how much weight lay on the emoji."""

    asked: int
    first: int
    weight: float  # mean share of a caption's attention that lies on the two emoji's words
    share: float  # their share of its words: what attention that does not look has
    lines: list[tuple[str, str, str]]  # caption, rank of its sheet, the words of most weight in each step


def sheets(emoji: Mapping[str, Image], seed: int = 0) -> Pairs:
    """Sheets with two of these emoji (names to images) each, at random cells, and their captions; `split` is test for
    pairs of emoji that no other sheet has."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    pairs = rng.permutation(list(itertools.combinations(sorted(emoji), 2)))
    images, texts, split = [], [], []
    for row, pair in enumerate(pairs.tolist()):
        for _ in range(1 if row < HELD_OUT else EACH):
            names = rng.permutation(pair).tolist()
            sheet = Image.new("RGB", (ACROSS * CELL, ACROSS * CELL), "white")
            for name, cell in zip(names, rng.choice(ACROSS**2, 2, replace=False).tolist(), strict=True):
                sheet.paste(emoji[name].resize((CELL, CELL)), (cell % ACROSS * CELL, cell // ACROSS * CELL))
            images.append(np.asarray(sheet))
            texts.append(CAPTION.format(*names))
            split.append("test" if row < HELD_OUT else "train")
    columns = {"split": split}
    links = np.stack([np.arange(len(texts))] * 2, axis=1)
    keys = [f"sheet {row}" for row in range(len(texts))]
    return Pairs(Items(IMAGE, images, keys, metadata=columns), Items(TEXT, texts, keys, metadata=columns), links)


def look(db: Library, emoji: Mapping[str, object], drawn: Path, shown: int = 3) -> Found:
    """Learn sheets of emoji (names to images of any kind), then ask for the held-out sheets by their captions.

    What is in the library already is not learned again. The attention of the first caption and its
    sheet is drawn to the file `drawn`.
    """
    if SPACE not in db.spaces():
        db.add(sheets({name: decode_image(image) for name, image in emoji.items()}))
        db.fit(RECIPE, name=SPACE)
    asked = db.store.ids(TEXT, "split = 'test'")
    links = dict(db.store.links()[:, ::-1].tolist())  # text to image
    texts = [str(text) for text in db.store.describe(asked)["text"]]
    found = db.search(text=texts, k=len(asked), space=SPACE, where="split = 'test'", explain=True)
    ranks = [row.index(links[text]) + 1 for row, text in zip(found.ids.tolist(), asked.tolist(), strict=True)]
    weights, shares, lines = [], [], []
    for text, rank, seen in zip(texts, ranks, found.attention, strict=True):
        named = np.isin(seen.names, list(emoji))
        weights.append(seen.weights[:, named].sum(axis=1).mean())
        shares.append(named.mean())
        lines.append((text, f"{rank} of {len(asked)}", _said(seen.strongest(2))))
    db.search(text=texts[0], k=1, space=SPACE, where="split = 'test'", explain=True).draw(drawn)
    return Found(len(asked), ranks.count(1), float(np.mean(weights)), float(np.mean(shares)), lines[:shown])


def _said(steps: Sequence[Sequence[tuple[str, float]]]) -> str:
    return "; ".join(", ".join(f"{word} {weight:.2f}" for word, weight in best) for best in steps)
