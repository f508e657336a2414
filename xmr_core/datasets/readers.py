"""Which reader fits a source: by its name, by the layout of a folder, or by what the source is."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from xmr_core.datasets import flickr, iapr, mirflickr, nuswide
from xmr_core.datasets.columns import SUFFIXES, is_table_file
from xmr_core.datasets.emoji import openmoji
from xmr_core.datasets.flickr import flickr8k, flickr30k
from xmr_core.datasets.iapr import iapr_tc12
from xmr_core.datasets.mirflickr import mirflickr25k
from xmr_core.datasets.nuswide import nus_wide
from xmr_core.datasets.reading import Dataset, Needs, find, is_image_file, listing
from xmr_core.datasets.sources import coco, folder, is_coco, webdataset
from xmr_core.datasets.tables import records, table
from xmr_core.errors import ConfigError, DataError
from xmr_core.types import Items, Pairs

__all__ = ["READERS", "Source", "detect", "load", "read", "reader_options"]


class _Rows(Protocol):
    """What has columns: a DataFrame, an Arrow table, a relation."""

    @property
    def columns(self) -> Any: ...


Source = str | Path | Pairs | Items | Mapping[str, Any] | Iterable[Mapping[str, Any]] | _Rows

READERS: dict[str, Callable[..., Dataset]] = {
    "flickr30k": flickr30k,
    "flickr8k": flickr8k,
    "coco": coco,
    "folder": folder,
    "iapr_tc12": iapr_tc12,
    "mirflickr25k": mirflickr25k,
    "nus_wide": nus_wide,
    "openmoji": openmoji,
    "table": table,
    "webdataset": webdataset,
}
ANYONES = {"images", "Images", "captions.txt", "results.csv", "train.txt", "test.txt"}  # names that prove nothing
LAYOUTS: Mapping[str, Needs] = {
    "flickr30k": flickr.NEEDS_30K,
    "flickr8k": flickr.NEEDS_8K,
    "iapr_tc12": iapr.NEEDS,
    "mirflickr25k": mirflickr.NEEDS,
    "nus_wide": nuswide.NEEDS,
}


def load(source: object, on_error: str = "refuse", **options: Any) -> Pairs | Items:
    """What `Library.add` stores of a source: a file, a pattern, a folder, a name, or rows in memory (see `records`).

    `options` are those of the reader; of all that have columns, those of `records`. Raises DataError where nothing is
    known of the source, ConfigError on options that its reader does not take.
    """
    if isinstance(source, (Pairs, Items)):
        if options:
            raise DataError(f"{', '.join(options)}: name columns, and {type(source).__name__} has none")
        return source
    if isinstance(source, (str, Path)):
        try:
            return read(source, **options, **({"on_error": on_error} if on_error != "refuse" else {}))
        except OSError as error:  # a folder may be closed to us, or go while it is read
            raise DataError(f"{str(source)[:200]!r} cannot be read: {error}") from error
    return records(source, on_error=on_error, **options)


def read(what: str | Path, folder: str | Path | None = None, **options: Any) -> Dataset:
    """Read by a reader's name and a folder (or table), or whatever a folder holds, or `openmoji`, which needs none.

    `options` are the reader's. Raises ConfigError for a name that is none, DataError where the layout does not fit.
    """
    pattern = any(mark in str(what) for mark in "*?[")
    if folder is None and what != "openmoji" and (pattern or os.path.exists(what)):  # noqa: PTH110 (False for a name too long)
        what, folder = detect(what), what
    name = str(what)
    if name not in READERS and (Path(name).suffix or Path(name).name != name):
        raise DataError(f"there is no file or folder {name!r}")
    if name not in READERS:
        near = difflib.get_close_matches(name, READERS, 1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError("reader", name, f"no reader, and no folder or table; {meant}there are {', '.join(READERS)}")
    if name == "openmoji":
        if folder is not None:
            raise DataError("openmoji takes no folder: it comes from Python packages")
        return openmoji(**_taken(name, options))
    if folder is None:
        raise DataError(f"{name}: give the folder that holds it")
    return READERS[name](folder, **_taken(name, options))


def reader_options(reader: str) -> list[str]:
    """The names of the options that a reader takes."""
    parameters = inspect.signature(READERS[reader]).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        parameters = inspect.signature(records).parameters
    return list(parameters)[0 if reader == "openmoji" else 1 :]


def _taken(reader: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a reader takes. Raises ConfigError on others, but for `on_error`, which some have no use for."""
    takes = reader_options(reader)
    for option, value in options.items():
        if option not in [*takes, "on_error"]:
            raise ConfigError(option, value, f"is not an option of the reader {reader}, which takes {', '.join(takes)}")
    return {option: value for option, value in options.items() if option in takes}


def detect(folder: str | Path) -> str:
    """The name of the reader that fits a folder or a table. Raises DataError where none or several do."""
    folder = Path(folder)
    if folder.suffix.lower() == ".tar":
        return "webdataset"
    if folder.is_file() and folder.suffix.lower() == ".json" and is_coco(folder):
        return "coco"
    if is_table_file(folder) and not folder.is_dir():
        return "table"
    if not folder.is_dir():
        raise DataError(f"{str(folder)!r} is neither a folder nor a table ({', '.join(SUFFIXES)}), tar or COCO file")
    fits = [name for name, needs in LAYOUTS.items() if all(find(folder, places) for places in needs.values())]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise DataError(f"{str(folder)!r} may be {' or '.join(fits)}: name the reader")
    if not _nearly(folder) and any(is_image_file(file) for file in folder.rglob("*")):
        return "folder"
    raise DataError(f"{str(folder)!r} fits no reader. {_nearest(folder)}It holds {listing(folder)}")


def _nearly(folder: Path) -> bool:
    """True where a part of a data set's layout is there, by a name that only this data set has."""
    places = {place for needs in LAYOUTS.values() for some in needs.values() for place in some}
    return any((folder / place).exists() for place in places - ANYONES)


def _nearest(folder: Path) -> str:
    """What the reader that lacks least would need, where it finds something at all; else what each looks for."""
    missing = {
        name: [f"{what} ({places[0]})" for what, places in needs.items() if not find(folder, places)]
        for name, needs in LAYOUTS.items()
    }
    name = min(missing, key=lambda own: len(missing[own]) / len(LAYOUTS[own]))
    if len(missing[name]) < len(LAYOUTS[name]):
        return f"For {name} it lacks {' and '.join(missing[name])}. "
    wanted = "; ".join(
        f"{name}: {', '.join(places[0] for places in needs.values())}" for name, needs in LAYOUTS.items()
    )
    return f"Looked for {wanted}; tables end in {', '.join(SUFFIXES)}. "
