"""Images and captions from what users have: folders of images, COCO captions, WebDataset shards."""

from __future__ import annotations

import glob
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xmr_core.datasets.columns import is_table_file
from xmr_core.datasets.reading import IMAGE_SUFFIXES, Dataset, is_image_file, json_of
from xmr_core.datasets.tables import records, table
from xmr_core.errors import DataError

__all__ = ["coco", "folder", "is_coco", "webdataset"]

CAPTIONS = ("captions", "metadata", "annotations", "labels")  # names of a table inside a folder of images
TEXT_SUFFIXES = (".txt", ".caption", ".text")


def folder(path: str | Path, **options: Any) -> Dataset:
    """A folder of images: with a table of captions in it, with a text file beside each image, with a folder for each
    class, or bare.

    A table named captions, metadata, annotations or labels is read by `table`. Without one, every image below the
    folder is taken, and its key is its path there; `<name>.txt` beside it holds its captions, a line each. Where all
    images lie in folders and none has a caption, the name of the folder is the image's label. Raises DataError where no
    image is found.
    """
    path = Path(path)
    tables = [entry for entry in sorted(path.iterdir()) if entry.stem.lower() in CAPTIONS and is_table_file(entry)]
    if tables:
        return table(tables[0], **options)
    files = sorted(file for file in path.rglob("*") if is_image_file(file) and not _hidden(file, path))
    if not files:
        raise DataError(f"{str(path)!r} holds no images; known are {', '.join(IMAGE_SUFFIXES)}")
    rows = [{"image": str(file.relative_to(path)), "text": _beside(file)} for file in files]
    described = any(row["text"] for row in rows)
    if not described:
        classes = [file.relative_to(path).parts[:-1] for file in files]
        several = all(classes) and len(set(classes)) > 1
        rows = [
            {"image": row["image"], **({"label": "/".join(own)} if several else {})}
            for row, own in zip(rows, classes, strict=True)
        ]
    return records(rows, folder=path, name=path.resolve().name, **options)


def coco(path: str | Path, images: str | Path | None = None, on_error: str = "refuse") -> Dataset:
    """COCO captions: a JSON file with `images` (id, file_name) and `annotations` (image_id, caption).

    Files are looked for beside the JSON file and in the folder `images`. Raises DataError naming what is missing.
    """
    path = Path(path)
    told = json_of(path)
    try:
        names = {entry["id"]: entry["file_name"] for entry in told["images"]}
        said = [(names[entry["image_id"]], entry["caption"]) for entry in told["annotations"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path.name}: expected COCO captions with images and annotations ({error})") from None
    root = path.parent if images is None else Path(images)
    described = {name for name, _ in said}
    rows = [{"image": name, "text": caption} for name, caption in said]
    rows += [{"image": name, "text": None} for name in names.values() if name not in described]
    return records(rows, folder=root, on_error=on_error, name=path.name)


def webdataset(path: str | Path, on_error: str = "refuse") -> Dataset:
    """Shards of WebDataset: tar files, or a glob pattern of them, in which files of one name belong together.

    Of each sample the image (jpg, png, webp, ...), its caption (txt, caption, text) and the numbers and texts of its
    `json` are read; images are kept as bytes. Nothing is unpacked onto the disk. Raises DataError where a shard is not
    a tar file or no sample has an image or a caption.
    """
    shards = [Path(path)] if Path(path).is_file() else [Path(name) for name in sorted(glob.glob(str(path)))]  # noqa: PTH207 (absolute patterns)
    if not shards:
        raise DataError(f"there is no tar file {str(path)!r}")
    rows = [row for shard in shards for row in _samples(shard)]
    if not any(row.get("image") or row.get("text") for row in rows):
        raise DataError(f"{Path(path).name}: no sample has an image or a caption")
    return records(rows, key="key", on_error=on_error, name=Path(path).name)


def _samples(shard: Path) -> Iterator[dict[str, Any]]:
    row: dict[str, Any] = {}
    try:
        with tarfile.open(shard) as tar:
            for member in tar:
                name = Path(member.name)
                if not member.isfile() or name.name.startswith("."):
                    continue
                stem, _, suffix = name.name.partition(".")
                key = str(name.with_name(stem))
                if row and row["key"] != key:
                    yield row
                    row = {}
                row["key"] = key
                _put(row, f".{suffix.lower()}", tar.extractfile(member))
    except (tarfile.TarError, OSError, ValueError, AttributeError) as error:
        raise DataError(f"{shard.name} cannot be read as a tar file: {error}") from None
    if row:
        yield row


def _put(row: dict[str, Any], suffix: str, opened: Any) -> None:
    if suffix in IMAGE_SUFFIXES:
        row["image"] = opened.read()
    elif suffix in TEXT_SUFFIXES:
        row["text"] = opened.read().decode("utf-8-sig").strip()
    elif suffix == ".cls":
        row["label"] = opened.read().decode().strip()
    elif suffix == ".json":
        told = json.loads(opened.read())
        plain = {name: value for name, value in told.items() if isinstance(value, (str, int, float, bool))}
        row.update((name, value) for name, value in plain.items() if name not in row)


def is_coco(path: Path) -> bool:
    """True for a JSON file of COCO captions."""
    with path.open("rb") as file:
        if not file.read(64).lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{"):
            return False
    told = json_of(path)
    return isinstance(told, dict) and {"images", "annotations"} <= told.keys()


def _beside(image: Path) -> list[str]:
    """The captions in the text file beside an image, a line each."""
    for suffix in TEXT_SUFFIXES:
        file = image.with_suffix(suffix)
        if file.is_file():
            return [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    return []


def _hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in file.relative_to(root).parts)
