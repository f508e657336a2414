"""What the readers share: finding the parts of a layout in a folder, and splits that say how they were made."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import ConfigError, DataError
from xmr_core.types import IMAGE, TEXT, Items, Pairs

__all__ = [
    "Dataset",
    "Needs",
    "Sizes",
    "dataset",
    "find",
    "lines",
    "require",
    "seeded_split",
    "shared_split",
    "split_hash",
]

log = logging.getLogger("xmr.datasets")

Needs = Mapping[str, tuple[str, ...]]  # what a reader needs, and the places where publishers and mirrors put it
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2")
SHOWN = 8  # entries of a folder that an error message lists


@dataclass(frozen=True, eq=False)
class Dataset(Pairs):
    """Pairs, and what a figure measured on them must say beside it.

    `protocol` names the split, its sizes and its hash. `skipped` maps the key of what was left out to the reason.
    """

    protocol: str = ""
    skipped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sizes:
    """How many queries and training pairs a protocol draws from how many pairs in `total`."""

    query: int
    train: int
    total: int


# folders


def find(folder: Path, places: Iterable[str]) -> Path | None:
    """The first of these places that there is in the folder."""
    return next((folder / place for place in places if (folder / place).exists()), None)


def require(name: str, folder: str | Path, needs: Needs) -> dict[str, Path]:
    """Where each need is met. Raises DataError saying what was looked for and what is there."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{name}: there is no folder {str(folder)!r}")
    found = {what: find(folder, places) for what, places in needs.items()}
    missing = [f"{what} ({' or '.join(needs[what])})" for what, path in found.items() if path is None]
    if missing:
        raise DataError(f"{name}: {str(folder)!r} lacks {' and '.join(missing)}; it holds {listing(folder)}")
    return {what: path for what, path in found.items() if path is not None}


def listing(folder: Path) -> str:
    """Some of what a folder holds, for a message."""
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in folder.iterdir())
    return ", ".join(names[:SHOWN] + [f"and {len(names) - SHOWN} more"] * (len(names) > SHOWN)) or "nothing"


def lines(path: Path, encoding: str = "utf-8-sig") -> list[str]:
    """The lines of a text file that are not empty, without the blanks around them."""
    text = path.read_text(encoding=encoding, errors="replace")
    return [line.strip() for line in text.split("\n") if line.strip()]


def is_image_file(path: Path, suffixes: Iterable[str] = IMAGE_SUFFIXES) -> bool:
    """True for the name of an image; names that begin with a dot are not images but what systems leave behind."""
    return path.suffix.lower() in suffixes and not path.name.startswith(".")


def json_of(file: Path) -> Any:
    """What a JSON file holds, with or without a byte order mark. Raises DataError where it cannot be read."""
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file.name} cannot be read as JSON: {error}") from None


# splits


def seeded_split(n: int, sizes: Sizes, seed: int) -> list[str]:
    """`query`, `train` or `retrieval` for each of n pairs: the first of a random permutation are queries, the next
    train, the rest retrieval. The database that is searched is all but the queries, so train is part of it (DCMH).

    A folder with less than nine tenths of the protocol's pairs gets its sizes in proportion.
    """
    whole = n >= 0.9 * sizes.total
    query, train = (size if whole else round(size * n / sizes.total) for size in (sizes.query, sizes.train))
    split = np.full(n, "retrieval", dtype="U9")
    order = np.random.default_rng(seed).permutation(n)
    split[order[:query]], split[order[query : query + train]] = "query", "train"
    return [str(part) for part in split]


def shared_split(
    images: Items, texts: Items, links: NDArray[np.int64], shares: float | Mapping[str, float], seed: int = 0
) -> tuple[Items, Items]:
    """Both sides with a column `split`, drawn so that items which belong together are in one part.

    `shares` is that of `test`, or of each part by name; what is left is `train`. Whole groups of linked items are drawn
    in random order until a part has its share of the images (of the texts where there are no images). Raises
    ConfigError where shares do not lie between 0 and 1.
    """
    parts = {"test": shares} if isinstance(shares, (int, float)) else dict(shares)
    if not all(0 <= share <= 1 for share in parts.values()) or sum(parts.values()) > 1:
        raise ConfigError("split", shares, "must be shares between 0 and 1, together at most 1")
    groups = _groups(len(images), len(texts), links)  # (images + texts,)
    counted = groups[: len(images)] if len(images) else groups
    sizes = np.bincount(counted, minlength=groups.max(initial=-1) + 1)  # items of each group
    order = np.random.default_rng(seed).permutation(len(sizes))
    reached = np.cumsum(sizes[order]) - sizes[order] / 2  # the middle of each group decides
    split = np.full(len(sizes), "train", dtype=object)
    start = 0.0
    for part, share in parts.items():
        end = start + share * len(counted)
        split[order[(reached > start) & (reached <= end)]] = part
        start = end
    own = split[groups].tolist()
    return (
        replace(images, metadata={**images.metadata, "split": own[: len(images)]}),
        replace(texts, metadata={**texts.metadata, "split": own[len(images) :]}),
    )


def _groups(n_images: int, n_texts: int, links: NDArray[np.int64]) -> NDArray[np.int64]:
    """(images + texts,): the number of the group of linked items that each belongs to, from 0, in order of items."""
    root = np.arange(n_images + n_texts, dtype=np.int64)
    ends: NDArray[np.int64] = links + np.array([0, n_images])  # (p, 2) positions among images and texts together
    while True:  # the smallest number flows along the links, and each round doubles its reach
        low = root[ends].min(axis=1) if len(ends) else root[:0]
        flowed = root.copy()
        for side in (0, 1):
            np.minimum.at(flowed, ends[:, side], low)
        flowed = flowed[flowed]
        if np.array_equal(flowed, root):
            return np.unique(root, return_inverse=True)[1].astype(np.int64)
        root = flowed


def split_hash(keys: Sequence[str], split: Sequence[str | None]) -> str:
    """sha256 (hex) of the lines `key<TAB>split` in ascending order of keys: two splits are one if their hashes are."""
    rows = sorted(f"{key}\t{'' if part is None else part}\n" for key, part in zip(keys, split, strict=True))
    return hashlib.sha256("".join(rows).encode()).hexdigest()


def described(keys: Sequence[str], split: Sequence[str | None], how: str) -> str:
    """One line for people: how a split was made, its sizes, and the beginning of its hash."""
    counts = Counter("none" if part is None else str(part) for part in split)
    sizes = ", ".join(f"{part} {count:,}" for part, count in sorted(counts.items()))
    return f"split {how}: {sizes}; sha256 {split_hash(keys, split)[:12]}"


# pairs


def dataset(
    name: str,
    images: Items,
    texts: Items,
    links: NDArray[np.int64],
    label_names: Sequence[str] = (),
    how: str = "",
    skipped: Mapping[str, str] | None = None,
    needs: Sequence[str] = (IMAGE, TEXT),
) -> Dataset:
    """The data set, its protocol in words; what was left out is logged. Raises DataError where nothing remains of a
    modality in `needs`."""
    skipped = dict(skipped or {})
    for reason, count in Counter(skipped.values()).items():
        log.info("%s: %s left out: %s", name, f"{count:,}", reason)
    if any(not len(side) for side in (images, texts) if side.modality in needs):
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in Counter(skipped.values()).items())
        wanted = "no pair of an image and a text remains" if len(needs) == 2 else f"no {needs[0]} remains"
        raise DataError(f"{name}: {wanted}{f' ({reasons})' if reasons else ''}")
    side = images if len(images) else texts
    split = side.metadata.get("split")
    protocol = described(side.keys, split, how) if split is not None else "no split"
    return Dataset(images, texts, links, tuple(label_names), name, protocol, skipped)


def one_to_one(
    name: str,
    keys: Sequence[str],
    pictures: Sequence[Path],
    texts: Sequence[str],
    metadata: Mapping[str, Sequence[object]],
    labels: NDArray[np.uint8] | None = None,
    label_names: Sequence[str] = (),
    how: str = "",
    skipped: Mapping[str, str] | None = None,
) -> Dataset:
    """A data set in which every picture has one text, under the same key, with the same metadata and labels."""
    images = Items(IMAGE, pictures, keys, metadata=metadata, labels=labels)
    sentences = Items(TEXT, texts, keys, metadata=metadata, labels=labels)
    links = np.repeat(np.arange(len(keys), dtype=np.int64)[:, None], 2, axis=1)
    return dataset(name, images, sentences, links, label_names, how, skipped)
