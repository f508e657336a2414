"""What the readers share: finding the parts of a layout in a folder, and splits that say how they were made."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import DataError
from xmr_core.types import IMAGE, TEXT, Items, Pairs

__all__ = ["Dataset", "Needs", "Sizes", "dataset", "find", "lines", "require", "seeded_split", "split_hash"]

log = logging.getLogger("xmr.datasets")

Needs = Mapping[str, tuple[str, ...]]  # what a reader needs, and the places where publishers and mirrors put it
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
) -> Dataset:
    """The data set, its protocol in words; what was left out is logged. Raises DataError where nothing remains."""
    skipped = dict(skipped or {})
    for reason, count in Counter(skipped.values()).items():
        log.info("%s: %s left out: %s", name, f"{count:,}", reason)
    if not len(images) or not len(texts):
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in Counter(skipped.values()).items())
        raise DataError(f"{name}: no pair of a picture and a text remains{f' ({reasons})' if reasons else ''}")
    split = images.metadata.get("split")
    protocol = described(images.keys, split, how) if split is not None else "no split"
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
