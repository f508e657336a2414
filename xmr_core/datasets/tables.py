"""Images and captions from rows: a file of them, a data frame, dicts; an image, a text, or one of each a row."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmr_core.datasets.columns import Columns, columns_of, is_missing, read_files
from xmr_core.datasets.reading import Dataset, dataset, shared_split
from xmr_core.errors import ConfigError, DataError
from xmr_core.types import IMAGE, TEXT, Items

__all__ = ["IMAGE_NAMES", "TEXT_NAMES", "Split", "records", "table"]

IMAGE_NAMES = (
    *("image", "images", "img", "image_path", "path", "filepath", "file_path", "file", "file_name", "filename"),
    *("photo", "picture", "jpg", "png"),
)
TEXT_NAMES = ("text", "texts", "caption", "captions", "sentence", "sentences", "description", "title", "txt", "alt")
LABEL_NAMES = ("labels", "label")
KEY_NAMES = ("key",)
SEVERAL = re.compile(r"\s*[;|,]\s*")  # between the labels of an image
NAMED = 5  # keys that an error message names

Sides = tuple[Any, Any]  # of images and of texts: a column, a .npy file or an array; None where a side has none
Split = str | float | Mapping[str, float]  # a column, the share of `test`, or the share of each part but the rest


def table(
    path: str | Path,
    image: str | None = None,
    text: str | None = None,
    key: str | None = None,
    labels: str | None = None,
    folder: str | Path | None = None,
    on_error: str = "refuse",
    split: Split | None = None,
    seed: int = 0,
    vectors: Mapping[str, Sides] | None = None,
) -> Dataset:
    """Items from a file of rows (CSV, TSV, Parquet, JSON, JSON lines, Arrow), or from all that a glob pattern matches.

    Image paths are relative to the file's folder, or to `folder`; for the rest see `records`. CSV is read as RFC 4180
    says, strictly; TSV has no quotes; both are UTF-8.
    """
    columns, root = read_files(path)
    names = _Names(image, text, key, labels, split, on_error, seed, vectors or {})
    return _read(columns, names, root if folder is None else Path(folder), Path(path).name)


def records(
    source: object,
    image: str | None = None,
    text: str | None = None,
    key: str | None = None,
    labels: str | None = None,
    folder: str | Path | None = None,
    on_error: str = "refuse",
    split: Split | None = None,
    seed: int = 0,
    vectors: Mapping[str, Sides] | None = None,
    name: str = "rows",
) -> Dataset:
    """Items from rows in memory: a pandas or polars DataFrame, an Arrow table, a DuckDB relation, a Hugging Face
    Dataset, dicts, or a dict of columns.

    `image` and `text` name the columns of images and captions; without them, columns with usual names are taken, and
    one of the two is enough. An image is a path, the bytes of a file, {"bytes", "path"}, a PIL image or an array; paths
    are relative to `folder`. A text may be a list of texts. An image in several rows has several texts.

    `key` names a column of keys for the images; without it, and without a column called key, the key is the path, or a
    digest of the content. The key of a text is its image's with a digest of the text. `labels` names a column of one or
    more labels a row, separated by ; , or |, or lists. All columns but image, text and key become metadata of the
    texts, and of the images where all rows of an image agree. `split` names the column that says train, val or test, or
    makes one: 0.2 puts a fifth of the pairs into `test` and the rest into `train`, by `seed`; {"val": 0.1, "test": 0.2}
    makes three parts.

    `vectors` names ready-made vectors, and says where those of the images and of the texts are, row by row:
    {"clip": ("clip_image", "clip_text")} are columns of lists or arrays, {"clip": ("images.npy", None)} a file (n, d),
    which need not fit into memory. Width may differ between names, and between images and texts.

    `on_error` says what becomes of rows whose file is missing or whose text is empty: "refuse" raises DataError with
    their keys, "skip" leaves them out (`Dataset.skipped`).
    """
    columns = columns_of(source)
    if columns is None:
        raise DataError(f"expected rows, such as a DataFrame or a list of dicts, got {type(source).__name__}")
    names = _Names(image, text, key, labels, split, on_error, seed, vectors or {})
    return _read(columns, names, Path() if folder is None else Path(folder), name)


@dataclass(frozen=True)
class _Names:
    """Which column is what, as the caller said."""

    image: str | None
    text: str | None
    key: str | None
    labels: str | None
    split: Split | None
    on_error: str
    seed: int
    vectors: Mapping[str, Sides]

    def __post_init__(self) -> None:
        if self.on_error not in ("refuse", "skip"):
            raise ConfigError("on_error", self.on_error, "must be 'refuse' or 'skip'")

    def found(self, columns: Columns, what: str) -> _Names:
        """The same with usual names in the place of those that were not said. Raises DataError."""
        usual = (IMAGE_NAMES, TEXT_NAMES, KEY_NAMES, LABEL_NAMES)
        image, text, key, labels = (
            said if said is not None else next((name for name in names if name in columns), None)
            for said, names in zip((self.image, self.text, self.key, self.labels), usual, strict=True)
        )
        there = f"it has {', '.join(columns) or 'none'}"
        split = self.split if isinstance(self.split, str) else None
        for name in (image, text, key, labels, split):
            if name is not None and name not in columns:
                raise DataError(f"{what} has no column {name!r}; {there}")
        if not columns:
            raise DataError(f"{what}: it holds no rows and no columns, so there is nothing to add")
        if image is None and text is None:
            raise DataError(f"{what}: which columns are images and texts? {there}; name them by image= and text=")
        return replace(self, image=image, text=text, key=key, labels=labels)


@dataclass
class _Rows:
    """Rows taken apart: distinct images, texts, which go together, and from which row each comes."""

    images: list[Any] = field(default_factory=list)
    image_keys: dict[str, int] = field(default_factory=dict)
    image_rows: list[list[int]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    text_keys: dict[str, int] = field(default_factory=dict)
    text_rows: list[int] = field(default_factory=list)
    links: dict[tuple[int, int], None] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)


def _read(columns: Columns, names: _Names, root: Path, what: str) -> Dataset:
    names = names.found(columns, what)
    rows = _taken_apart(columns, names, root)
    if rows.faults and names.on_error == "refuse":
        raise DataError(_summary(what, rows.faults), list(rows.faults))
    links = np.array(list(rows.links), np.int64).reshape(-1, 2)
    sides = _vectors(columns, names.vectors, root)
    used = {
        names.image,
        names.text,
        names.key,
        *(side for own in names.vectors.values() for side in own if _is_name(side)),
    }
    extra = {name: _values(column) for name, column in columns.items() if name not in used}
    if isinstance(names.split, str):
        extra["split"] = extra.pop(names.split)
    marks, label_names = (None, []) if names.labels is None else _labels(columns[names.labels])
    texts = Items(
        TEXT,
        rows.texts,
        list(rows.text_keys),
        metadata={name: [column[row] for row in rows.text_rows] for name, column in extra.items()},
        labels=None if marks is None else marks[rows.text_rows],
        vectors={name: _rows_of(own[1], rows.text_rows) for name, own in sides.items() if own[1] is not None},
    )
    images = Items(
        IMAGE,
        rows.images,
        list(rows.image_keys),
        metadata=_agreed(extra, rows.image_rows),
        labels=None if marks is None else np.array([marks[own].max(axis=0) for own in rows.image_rows], np.uint8),
        vectors={
            name: _rows_of(own[0], [at[0] for at in rows.image_rows])
            for name, own in sides.items()
            if own[0] is not None
        },
    )
    how = f"in {what}"
    if names.split is not None and not isinstance(names.split, str):
        images, texts = shared_split(images, texts, links, names.split, names.seed)
        how = f"of whole pairs by seed {names.seed}"
    needs = [side for side, name in ((IMAGE, names.image), (TEXT, names.text)) if name is not None]
    return dataset(Path(what).stem, images, texts, links, label_names, how, rows.faults, needs)


def _vectors(columns: Columns, vectors: Mapping[str, Sides], root: Path) -> dict[str, Sides]:
    """The vectors of both sides, a row each. Raises DataError where there are none, or of another number of rows."""
    n = len(next(iter(columns.values()), ()))
    made = {}
    for name, sides in vectors.items():
        if isinstance(sides, str) or not isinstance(sides, Sequence) or len(sides) != 2:
            raise DataError(
                f"vectors {name!r}: expected columns for images and for texts, got {sides!r}; one may be None"
            )
        made[name] = (_vector_rows(columns, sides[0], name, root, n), _vector_rows(columns, sides[1], name, root, n))
    return made


def _vector_rows(columns: Columns, given: Any, name: str, root: Path, n: int) -> Any:
    rows = given
    if isinstance(given, (str, Path)) and str(given) not in columns:
        file = next((path for path in (root / given, Path(given)) if path.is_file()), None)
        if file is None or file.suffix != ".npy":
            raise DataError(f"vectors {name!r}: there is no column and no .npy file {str(given)!r}")
        try:
            rows = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"vectors {name!r}: {file.name} cannot be read: {error}") from None
    elif given is not None and isinstance(given, (str, Path)):
        rows = columns[str(given)]
    if rows is not None and len(rows) != n:
        raise DataError(f"vectors {name!r}: expected {n} rows, as many as there are in all columns, got {len(rows)}")
    return rows


def _is_name(side: Any) -> bool:
    return isinstance(side, str)


def _rows_of(column: Any, rows: Sequence[int]) -> Any:
    """The vectors of these rows; a list where some are missing."""
    if isinstance(column, np.ndarray) and column.ndim == 2:
        if len(rows) == len(column) and all(row == at for at, row in enumerate(rows)):
            return column  # all of them, in their order: no copy
        return np.asarray(column[np.asarray(rows, np.int64)])
    return [None if is_missing(column[row]) else column[row] for row in rows]


def _taken_apart(columns: Columns, names: _Names, root: Path) -> _Rows:
    rows = _Rows()
    n = len(next(iter(columns.values()), ()))
    images = columns[names.image] if names.image else [None] * n
    texts = columns[names.text] if names.text else [None] * n
    keys = columns[names.key] if names.key else [None] * n
    if names.image is None and names.key is None and all(type(text) is str for text in texts):
        return _texts_alone(texts)
    there: dict[Path, bool] = {}
    for row in range(n):
        image = None if is_missing(images[row]) else _image(images[row], root)
        given = None if is_missing(keys[row]) else str(keys[row])
        key = given if given is not None else _key_of(images[row], image)
        captions = _captions(texts[row], names.text is not None and image is None)
        fault = _fault(image, there) if names.image else None
        for caption in captions:
            told = f"{key}#{_digest(caption)[:8]}" if image is not None else given or _digest(caption)[:16]
            wrong = fault or ("empty text" if not caption.strip() else None)
            if wrong:
                rows.faults[told] = wrong
                continue
            _put(rows, row, image, key, caption, told)
        if not captions and fault:
            rows.faults[key] = fault
        elif not captions and image is not None:
            _put(rows, row, image, key, None, "")
    return rows


def _texts_alone(texts: Sequence[Any]) -> _Rows:
    """What `_taken_apart` gives of rows of one text each and nothing else, without work for each row."""
    rows = _Rows()
    for row, text in enumerate(texts):
        told = _digest(text)[:16]
        if not text.strip():
            rows.faults[told] = "empty text"
        elif rows.text_keys.setdefault(told, len(rows.texts)) == len(rows.texts):
            rows.texts.append(text)
            rows.text_rows.append(row)
    return rows


def _put(rows: _Rows, row: int, image: Any, key: str, caption: str | None, told: str) -> None:
    """Note one image with one text, or one of them alone. Raises DataError where one key names two images."""
    at = -1
    if image is not None:
        at = rows.image_keys.setdefault(key, len(rows.images))
        if at == len(rows.images):
            rows.images.append(image)
            rows.image_rows.append([])
        elif isinstance(image, Path) and rows.images[at] != image:
            raise DataError(f"key {key!r} names two images; keys must be an image's own", [key])
        rows.image_rows[at].append(row)
    if caption is None:
        return
    text_at = rows.text_keys.setdefault(told, len(rows.texts))
    if text_at == len(rows.texts):
        rows.texts.append(caption)
        rows.text_rows.append(row)
    elif rows.texts[text_at] != caption:
        raise DataError(f"key {told!r} names two texts; keys must be a text's own", [told])
    if at >= 0:
        rows.links[at, text_at] = None


def _image(value: Any, root: Path) -> Any:
    """An image as items hold it: a path, bytes, or the picture itself."""
    if isinstance(value, Mapping):  # as Hugging Face and others embed them
        inside, path = value.get("bytes"), value.get("path")
        return bytes(inside) if inside else None if path is None else root / str(path)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    return root / value if isinstance(value, (str, Path)) else value


def _key_of(value: Any, image: Any) -> str:
    """The path as it is written, or a digest of the content."""
    if isinstance(value, Mapping) and value.get("path"):
        return str(value["path"])
    if isinstance(image, Path):
        return str(value)
    if not isinstance(image, bytes) and not hasattr(image, "tobytes"):  # told by `_fault`
        return repr(image)[:40]
    return "" if image is None else hashlib.sha256(_bytes_of(image)).hexdigest()[:16]


def _bytes_of(image: Any) -> bytes:
    raw: bytes = image if isinstance(image, bytes) else image.tobytes()  # of PIL and of numpy
    return raw


def _fault(image: Any, there: dict[Path, bool]) -> str | None:
    if image is None:
        return "no image"
    if isinstance(image, Path):
        if image not in there:
            there[image] = os.path.isfile(image)  # noqa: PTH113 (False for a name too long)
        return None if there[image] else "no such image"
    return None if hasattr(image, "tobytes") or isinstance(image, bytes) else f"not an image: {type(image).__name__}"


def _captions(value: Any, needed: bool) -> list[str]:
    """The texts of a row: one, several, or none. "" where the column says nothing and a text is needed."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return [str(one) for one in value if not is_missing(one)]
    return ([""] if needed else []) if is_missing(value) else [str(value)]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _summary(name: str, faults: Mapping[str, str]) -> str:
    shown = "; ".join(f"{key}: {reason}" for key, reason in list(faults.items())[:NAMED])
    more = f"; and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
    return f"{name}: {len(faults)} rows cannot be used: {shown}{more}; on_error='skip' leaves them out"


def _values(column: Sequence[Any]) -> Sequence[Any]:
    return [None if is_missing(value) else value for value in column] if isinstance(column, list) else column


def _agreed(columns: Columns, rows: Sequence[Sequence[int]]) -> Columns:
    """The columns on which all rows of each image agree, as columns of the images."""
    agreed: Columns = {}
    for name, column in columns.items():
        values = [column[own[0]] for own in rows]
        if all(_same(column[row], value) for own, value in zip(rows, values, strict=True) for row in own[1:]):
            agreed[name] = values
    return agreed


def _same(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b)) if isinstance(a, np.ndarray) else bool(a == b)


def _labels(column: Sequence[Any]) -> tuple[NDArray[np.uint8], list[str]]:
    """(n, l) uint8 and the names of the columns, in alphabetical order."""
    sets = [_label_set(value) for value in column]
    counts = Counter(name for own in sets for name in own)
    positions = {name: position for position, name in enumerate(sorted(counts))}
    marks = np.zeros((len(sets), len(positions)), np.uint8)
    for row, own in enumerate(sets):
        marks[row, [positions[name] for name in own]] = 1
    return marks, list(positions)


def _label_set(value: Any) -> set[str]:
    if is_missing(value):
        return set()
    if isinstance(value, str):
        return set(SEVERAL.split(value.strip())) - {""}
    several = value if isinstance(value, (list, tuple, set, np.ndarray)) else [value]
    return {str(name) for name in several} - {""}
