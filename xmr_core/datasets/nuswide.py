"""NUS-WIDE: Flickr photos, their tags and 81 concepts. Source: Chua et al., CIVR 2009.

Flickr/actor/0001_2124494179.jpg ...
ImageList/Imagelist.txt                           actor\\0001_2124494179.jpg a line; all files follow its order
Groundtruth/AllLabels/Labels_sky.txt ...          0 or 1 a line
NUS_WID_Tags/AllTags1k.txt, TagList1k.txt         1,000 times 0 or 1 a line; the names of these tags
NUS_WID_Tags/All_Tags.txt                         a number and all tags a line
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xmr_core.datasets.reading import Dataset, Needs, Sizes, lines, one_to_one, require, seeded_split
from xmr_core.errors import ConfigError, DataError

__all__ = ["nus_wide"]


def _places(folder: str, *files: str) -> tuple[str, ...]:
    return tuple(f"{parent}{file}" for file in files for parent in (f"{folder}/", "", f"NUS-WIDE/{folder}/"))


NEEDS: Needs = {
    "pictures": ("Flickr", "images", "NUS-WIDE/Flickr"),
    "list of pictures": _places("ImageList", "Imagelist.txt"),
    "labels": _places("Groundtruth", "AllLabels"),
    "tags": _places("NUS_WID_Tags", "AllTags1k.txt", "All_Tags.txt"),
    "names of the tags": _places("NUS_WID_Tags", "TagList1k.txt"),
}
DCMH = Sizes(query=2_100, train=10_500, total=195_834)


def nus_wide(folder: str | Path, concepts: int = 21, seed: int = 0) -> Dataset:
    """NUS-WIDE: photos that show one of the most frequent `concepts`, a text of their tags each; one pair a photo.

    21 concepts are DCMH's protocol (195,834 photos), 10 another (186,577): never mix them. A text is the tags among the
    1,000 most frequent, by AllTags1k.txt, which is what DCMH's own data hold, or else by All_Tags.txt, which differs
    for some photos. Photos without a tag have nothing to be found by and are left out, as are those not in the folder.

    Column `split`: by `seed`, query 2,100, train 10,500, the rest retrieval; search all but the queries.
    """
    found = require("nus_wide", folder, NEEDS)
    listed = [line.replace("\\", "/") for line in lines(found["list of pictures"])]
    labels, names = _labels(found["labels"], len(listed), concepts)
    texts = _texts(found["tags"], lines(found["names of the tags"]), len(listed))
    there = {f"{path.parent.name}/{path.name}" for path in found["pictures"].glob("*/*")}
    kept, skipped = [], {}
    for place in np.flatnonzero(labels.any(axis=1)):
        if listed[place] not in there:
            skipped[listed[place]] = "not in the folder"
        elif not texts[place]:
            skipped[listed[place]] = "no tag of the list"
        else:
            kept.append(int(place))
    return one_to_one(
        f"nus_wide, {len(names)} concepts",
        [listed[place] for place in kept],
        [found["pictures"] / listed[place] for place in kept],
        [texts[place] for place in kept],
        {"split": seeded_split(len(kept), DCMH, seed)},
        labels[kept],
        names,
        f"by seed {seed}",
        skipped,
    )


def _labels(folder: Path, n: int, concepts: int) -> tuple[NDArray[np.uint8], list[str]]:
    """(n, concepts) uint8 of the concepts that most photos show, most frequent first, and their names."""
    columns = {path.stem.removeprefix("Labels_"): _column(path, n) for path in sorted(folder.glob("Labels_*.txt"))}
    if not 1 <= concepts <= len(columns):
        raise ConfigError("concepts", concepts, f"must be between 1 and the {len(columns)} that {folder.name} has")
    names = sorted(columns, key=lambda name: (-int(columns[name].sum()), name))[:concepts]
    return np.stack([columns[name] for name in names], axis=1), names


def _column(file: Path, n: int) -> NDArray[np.uint8]:
    values = np.array(file.read_bytes().split())
    if len(values) != n or not np.isin(values, [b"0", b"1"]).all():
        raise DataError(
            f"nus_wide: {file.name}: expected {n} lines of 0 or 1, as the list of pictures, got {len(values)}"
        )
    column: NDArray[np.uint8] = (values == b"1").astype(np.uint8)
    return column


def _texts(file: Path, names: list[str], n: int) -> list[str]:
    rows = _by_matrix(file, names) if file.name == "AllTags1k.txt" else _by_name(file, set(names))
    texts = [" ".join(tags) for tags in rows]
    if len(texts) != n:
        raise DataError(f"nus_wide: {file.name}: expected {n} lines, as the list of pictures, got {len(texts)}")
    return texts


def _by_matrix(file: Path, names: list[str]) -> Iterator[list[str]]:
    with file.open("rb") as rows:
        for row in rows:
            values = row.split()
            if len(values) != len(names):
                raise DataError(f"nus_wide: {file.name}: expected {len(names)} values a line, got {len(values)}")
            yield [name for name, value in zip(names, values, strict=True) if value == b"1"]


def _by_name(file: Path, names: set[str]) -> Iterator[list[str]]:
    for line in lines(file):
        yield [tag for tag in line.split()[1:] if tag in names]
