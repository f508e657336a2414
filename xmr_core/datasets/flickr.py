"""Flickr8k and Flickr30k: photos with five sentences each.

Sources: Hodosh, Young & Hockenmaier, JAIR 2013; Young et al., TACL 2014.

    Flicker8k_Dataset/*.jpg           flickr30k-images/*.jpg
    Flickr8k.token.txt                results_20130124.token           <photo>.jpg#<n><TAB><sentence>
    Flickr_8k.trainImages.txt ...     train.txt, val.txt, test.txt     a photo a line
                                      dataset_flickr30k.json           Karpathy's split

Mirrors ship the sentences as `results.csv` (`photo| n| sentence`) or `captions.txt` (comma-separated, with a header).
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xmr_core.datasets.reading import Dataset, Needs, dataset, find, is_image_file, json_of, lines, require
from xmr_core.errors import ConfigError, DataError
from xmr_core.types import IMAGE, TEXT, Items

__all__ = ["flickr8k", "flickr30k"]

NEEDS_8K: Needs = {
    "pictures": ("Flicker8k_Dataset", "Flickr8k_Dataset/Flicker8k_Dataset", "Flickr8k_Dataset", "Images"),
    "sentences": ("Flickr8k.token.txt", "Flickr8k_text/Flickr8k.token.txt", "captions.txt"),
}
NEEDS_30K: Needs = {
    "pictures": (
        "flickr30k-images",
        "flickr30k_images/flickr30k_images",
        "flickr30k_images",
        "images",
        "Images",
    ),
    "sentences": (
        "results_20130124.token",
        "flickr30k/results_20130124.token",
        "results.csv",
        "flickr30k_images/results.csv",
        "captions.txt",
    ),
}
LISTS_8K = {
    part: (f"Flickr_8k.{name}Images.txt", f"Flickr8k_text/Flickr_8k.{name}Images.txt")
    for part, name in (("train", "train"), ("val", "dev"), ("test", "test"))
}
LISTS_30K = {part: (f"{part}.txt", f"splits/{part}.txt", f"flickr30k_{part}.txt") for part in ("train", "val", "test")}
PIPED = re.compile(r"(?P<photo>[^|]+?)\s*\|\s*(?P<number>\d+)\s*\|?\s*(?P<text>.*)")  # one row of it lacks the second |


@dataclass(frozen=True)
class Sentence:
    """A sentence, and the file name of its photo."""

    photo: str
    number: str
    text: str

    @property
    def key(self) -> str:
        """As in the publishers' files: `1000268201_693b08cb0e.jpg#0`."""
        return f"{self.photo}#{self.number}"


def flickr8k(folder: str | Path) -> Dataset:
    """Flickr8k: 8,091 photos, 5 sentences each; column `split`: train 6,000, val 1,000, test 1,000.

    Its files say dev for val. 91 photos are in no split: NULL. The 5 sentences of a photo that the set does not have
    are left out and listed in `skipped`.
    """
    found = require("flickr8k", folder, NEEDS_8K)
    lists = _listed(Path(folder), LISTS_8K)
    return _pairs("flickr8k", found, lists, "of the publisher's lists")


def flickr30k(folder: str | Path, split: str | None = None) -> Dataset:
    """Flickr30k: 31,783 photos, 5 sentences each; column `split`: train, val or test, and NULL for photos in none.

    Two splits circulate and must not be mixed: `karpathy` (dataset_flickr30k.json: 29,000 / 1,014 / 1,000, 769 in none)
    and `lists` (train.txt, val.txt, test.txt: 29,783 / 1,000 / 1,000, as DAN and m-RNN). Without `split`, the one that
    is there, Karpathy's first; the name of the data set says which.
    """
    if split not in (None, "karpathy", "lists"):
        raise ConfigError("split", split, "must be 'karpathy' or 'lists'")
    found = require("flickr30k", folder, NEEDS_30K)
    json_file = find(Path(folder), ("dataset_flickr30k.json", "karpathy/dataset_flickr30k.json"))
    lists = _listed(Path(folder), LISTS_30K)
    if split == "karpathy" and json_file is None:
        raise DataError(f"flickr30k: {str(folder)!r} lacks Karpathy's split (dataset_flickr30k.json)")
    if split == "lists" and not lists:
        raise DataError(f"flickr30k: {str(folder)!r} lacks the lists of a split (train.txt, val.txt and test.txt)")
    if json_file is not None and split != "lists":
        return _pairs("flickr30k, Karpathy's split", found, _karpathy(json_file), f"of {json_file.name}")
    name = "flickr30k, split of its lists" if lists else "flickr30k, no split"
    return _pairs(name, found, lists, "of train.txt, val.txt and test.txt")


def _pairs(name: str, found: Mapping[str, Path], split: Mapping[str, str], how: str) -> Dataset:
    photos = sorted(path for path in found["pictures"].iterdir() if is_image_file(path, (".jpg", ".jpeg")))
    places = {photo.name: place for place, photo in enumerate(photos)}
    kept: list[Sentence] = []
    skipped: dict[str, str] = {}
    for sentence in _sentences(found["sentences"]):
        if sentence.photo not in places:
            skipped[sentence.key] = "sentence of a photo that is not there"
        elif not sentence.text:
            skipped[sentence.key] = "empty sentence"
        else:
            kept.append(sentence)
    images = Items(IMAGE, photos, list(places), metadata={"split": [split.get(photo) for photo in places]})
    texts = Items(
        TEXT,
        [sentence.text for sentence in kept],
        [sentence.key for sentence in kept],
        metadata={"split": [split.get(sentence.photo) for sentence in kept]},
    )
    links = np.array([(places[sentence.photo], place) for place, sentence in enumerate(kept)], np.int64)
    return dataset(name, images, texts, links, how=how if split else "not known", skipped=skipped)


# sentences


def _sentences(file: Path) -> Iterator[Sentence]:
    if file.name == "captions.txt":
        return _comma_separated(file)
    return _piped(file) if file.suffix == ".csv" else _tokens(file)


def _tokens(file: Path) -> Iterator[Sentence]:
    for line in lines(file):
        key, _tab, text = line.partition("\t")
        photo, mark, number = key.partition("#")
        if not (mark and number.isdigit()):
            raise DataError(f"{file.name}: expected `<photo>.jpg#<n><TAB><sentence>`, got {line[:60]!r}")
        yield Sentence(photo, number, text.strip())


def _piped(file: Path) -> Iterator[Sentence]:
    for line in lines(file)[1:]:
        row = PIPED.fullmatch(line)
        if row is None:
            raise DataError(f"{file.name}: expected `<photo>.jpg| <n>| <sentence>`, got {line[:60]!r}")
        yield Sentence(row["photo"], row["number"], row["text"].strip())


def _comma_separated(file: Path) -> Iterator[Sentence]:
    """Photo first, sentence last, perhaps a number between; without one the sentences of a photo are counted.

    Mirrors write sentences with commas without quotes, so that fields beyond the header's belong to the sentence.
    """
    counts: Counter[str] = Counter()
    with file.open(encoding="utf-8-sig", newline="") as rows:
        reader = csv.reader(rows)
        width = max(2, len(next(reader, [])))
        for row in reader:
            if len(row) < width:
                raise DataError(f"{file.name}: expected a photo and a sentence in each row, got {row}")
            sentence = ",".join(row[width - 1 :]).strip()
            yield Sentence(row[0], row[1] if width > 2 else str(counts[row[0]]), sentence)
            counts[row[0]] += 1


# splits


def _listed(folder: Path, parts: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Photo to part, from a list of photos a part; empty where a list is missing."""
    files = {part: find(folder, places) for part, places in parts.items()}
    if None in files.values():
        return {}
    return {_file_name(line): part for part, file in files.items() if file is not None for line in lines(file)}


def _karpathy(file: Path) -> dict[str, str]:
    try:
        images = json_of(file)["images"]
        return {image["filename"]: "train" if image["split"] == "restval" else image["split"] for image in images}
    except (KeyError, TypeError) as error:
        raise DataError(f"{file.name}: expected images with filename and split ({error})") from None


def _file_name(photo: str) -> str:
    return photo if photo.lower().endswith((".jpg", ".jpeg")) else f"{photo}.jpg"
