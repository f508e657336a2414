"""IAPR TC-12: photos with a description each, and the labels of their regions (SAIAPR TC-12).

Sources: Grubinger et al., OntoImage 2006; Escalante et al., CVIU 2010.

    images/00/25.jpg ...
    annotations_complete_eng/00/25.eng ...            tagged text: <TITLE>, <DESCRIPTION>, <LOCATION>, ...
    saiapr_tc-12/00/labels.txt ...                    photo, region, label: three numbers a line
    wlist.txt                                         label and its name, where it is there
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xmr_core.datasets.reading import Dataset, Needs, Sizes, find, lines, one_to_one, require, seeded_split
from xmr_core.errors import DataError

__all__ = ["iapr_tc12"]

NEEDS: Needs = {
    "pictures": ("images", "iaprtc12/images"),
    "descriptions": ("annotations_complete_eng", "iaprtc12/annotations_complete_eng"),
}
REGIONS = ("saiapr_tc-12", "benchmark/saiapr_tc-12", "saiaprtc12ok/benchmark/saiapr_tc-12")
WORDS = ("wlist.txt", "../wlist.txt", "../../wlist.txt")  # from the folder of regions
TAGGED = re.compile(r"<(?P<tag>[A-Z]+)>(?P<text>.*?)</(?P=tag)>", re.DOTALL)
DCMH = Sizes(query=2_000, train=10_000, total=20_000)


def iapr_tc12(folder: str | Path, seed: int = 0) -> Dataset:
    """IAPR TC-12: 20,000 photos, an English description each, the 255 region labels that occur; one pair a photo.

    Photos without a description are left out; without the SAIAPR folder there are no labels. Columns: `split`, by
    `seed` in DCMH's sizes (query 2,000, train 10,000, the rest retrieval; search all but the queries), `title` and
    `location`.
    """
    found = require("iapr_tc12", folder, NEEDS)
    photos, notes, skipped = [], [], {}
    for photo in sorted(found["pictures"].glob("*/*.jpg"), key=_order):
        note = _note(found["descriptions"] / photo.parent.name / f"{photo.stem}.eng")
        if note.get("DESCRIPTION"):
            photos.append(photo)
            notes.append(note)
        else:
            skipped[_key(photo)] = "no description"
    regions = find(Path(folder), REGIONS)
    labels, names = (None, []) if regions is None else _labels(regions, photos)
    return one_to_one(
        "iapr_tc12",
        [_key(photo) for photo in photos],
        photos,
        [note["DESCRIPTION"] for note in notes],
        {
            "split": seeded_split(len(photos), DCMH, seed),
            "title": [note.get("TITLE") or None for note in notes],
            "location": [note.get("LOCATION") or None for note in notes],
        },
        labels,
        names,
        f"by seed {seed}",
        skipped,
    )


def _key(photo: Path) -> str:
    return f"{photo.parent.name}/{photo.stem}"


def _order(photo: Path) -> tuple[int, str]:
    return (int(photo.stem) if photo.stem.isdigit() else 0, _key(photo))


def _note(file: Path) -> dict[str, str]:
    """The tagged parts of an annotation. Read as text, since not all are well-formed XML; the encoding is Windows'."""
    if not file.exists():
        return {}
    text = file.read_text(encoding="cp1252", errors="replace")
    inner = text.partition("<DOC>")[2] or text
    return {part["tag"]: " ".join(part["text"].split()) for part in TAGGED.finditer(inner)}


def _labels(folder: Path, photos: list[Path]) -> tuple[NDArray[np.uint8], list[str]]:
    """(n, l) uint8 for the labels that occur, in the order of their numbers, and their names."""
    places = {photo.stem: place for place, photo in enumerate(photos)}
    marks = set()
    for file in sorted(folder.glob("*/labels.txt")):
        for line in lines(file):
            fields = line.split()
            if len(fields) < 3 or not fields[2].isdigit():
                raise DataError(f"{file.parent.name}/labels.txt: expected photo, region and label, got {line!r}")
            if fields[0] in places:
                marks.add((places[fields[0]], int(fields[2])))
    numbers = sorted({number for _, number in marks})
    columns = {number: column for column, number in enumerate(numbers)}
    labels = np.zeros((len(photos), len(numbers)), np.uint8)
    for place, number in marks:
        labels[place, columns[number]] = 1
    words = _words(find(folder, WORDS))
    return labels, [words.get(number, f"label {number}") for number in numbers]


def _words(file: Path | None) -> dict[int, str]:
    rows = [line.split(maxsplit=1) for line in lines(file, "cp1252")] if file is not None else []
    return {int(row[0]): row[1] for row in rows if len(row) == 2 and row[0].isdigit()}
