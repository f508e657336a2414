"""MIRFLICKR-25K: photos, their owners' tags and 24 labels. Source: Huiskes & Lew, MIR 2008; as DCMH uses it.

mirflickr/im1.jpg ...
mirflickr/meta/tags/tags1.txt ...                 a tag a line
mirflickr25k_annotations_v080/baby.txt ...        the number of a photo a line
tag_vocabulary_1386.txt, split_seed0.tsv          where somebody has fixed them
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xmr_core.datasets.reading import Dataset, Needs, Sizes, find, lines, one_to_one, require, seeded_split
from xmr_core.errors import DataError

__all__ = ["mirflickr25k"]

ANNOTATIONS = "mirflickr25k_annotations_v080"
NEEDS: Needs = {
    "tags": ("mirflickr/meta/tags", "meta/tags"),
    "annotations": (ANNOTATIONS, f"../{ANNOTATIONS}", f"mirflickr/{ANNOTATIONS}"),
}
VOCABULARY = "tag_vocabulary_1386.txt"
SPLIT = "split_seed0.tsv"
DCMH = Sizes(query=2_000, train=10_000, total=20_015)


def mirflickr25k(folder: str | Path, seed: int = 0, least: int = 20) -> Dataset:
    """MIRFLICKR-25K as DCMH uses it: 20,015 of the photos, a text of tags each, 24 labels, one pair a photo.

    A text is the photo's tags, in their order, as far as they are in tag_vocabulary_1386.txt; where that file is not
    there, as far as `least` photos of the folder have them (20 in the paper: 1,386 tags of all 25,000 photos). Photos
    without such a tag or without any label are left out. The labels are the 24 annotation files without `_r1`.

    Column `split`: query, train or retrieval from split_seed0.tsv, or else from a permutation by `seed` (2,000 queries,
    10,000 train). Search all but the queries. Other protocols (24,581 or 16,738 photos) are other data sets.
    """
    found = require("mirflickr25k", folder, NEEDS)
    pictures = found["tags"].parents[1]
    root = found["annotations"].parent
    numbers = sorted(int(path.stem[2:]) for path in pictures.glob("im*.jpg") if path.stem[2:].isdigit())
    labels, names = _labels(found["annotations"], numbers)
    tags = _tags(found["tags"], numbers)
    known = _vocabulary(find(root, (VOCABULARY,)), tags, least)
    texts = [" ".join(tag for tag in own if tag in known) for own in tags]
    skipped, kept = {}, []
    for place, number in enumerate(numbers):
        if texts[place] and labels[place].any():
            kept.append(place)
        else:
            skipped[f"im{number}"] = "no label" if texts[place] else "no tag of the vocabulary"
    keys = [f"im{numbers[place]}" for place in kept]
    split, how = _split(find(root, (SPLIT,)), keys, seed)
    return one_to_one(
        "mirflickr25k",
        keys,
        [pictures / f"{key}.jpg" for key in keys],
        [texts[place] for place in kept],
        {"split": split},
        labels[kept],
        names,
        how,
        skipped,
    )


def _tags(folder: Path, numbers: list[int]) -> list[list[str]]:
    files = [folder / f"tags{number}.txt" for number in numbers]
    return [lines(file) if file.exists() else [] for file in files]


def _vocabulary(file: Path | None, tags: list[list[str]], least: int) -> set[str]:
    if file is not None:
        return set(lines(file))
    counts = Counter(tag for own in tags for tag in set(own))
    return {tag for tag, count in counts.items() if count >= least}


def _labels(folder: Path, numbers: list[int]) -> tuple[NDArray[np.uint8], list[str]]:
    """(n, 24) uint8 and the names of the columns, in alphabetical order."""
    files = sorted(path for path in folder.glob("*.txt") if not path.stem.endswith("_r1") and "README" not in path.stem)
    labels = np.zeros((len(numbers), len(files)), np.uint8)
    places = {number: place for place, number in enumerate(numbers)}
    for column, file in enumerate(files):
        for line in lines(file):
            if not line.isdigit():
                raise DataError(f"mirflickr25k: {file.name}: expected the number of a photo in each line, got {line!r}")
            if int(line) in places:
                labels[places[int(line)], column] = 1
    return labels, [file.stem for file in files]


def _split(file: Path | None, keys: list[str], seed: int) -> tuple[list[str | None], str]:
    if file is None:
        return [*seeded_split(len(keys), DCMH, seed)], f"by seed {seed}"
    rows = [line.split("\t") for line in lines(file)[1:]]
    given = {row[0]: row[1] for row in rows if len(row) > 1}
    return [given.get(key) for key in keys], f"of {file.name}"
