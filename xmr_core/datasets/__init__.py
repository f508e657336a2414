"""Readers of data sets: folders in their publishers' layouts, tables of captions, emoji. Paths only, nothing decoded.

    pairs = datasets.flickr8k("Flickr8k/")            # a reader by its name
    pairs = datasets.read("Flickr8k/")                # or whichever fits the folder
    pairs.protocol                                    # the split, its sizes and its hash: print it beside figures
    pairs.skipped                                     # what was left out and why, by key

All give `Dataset`, which is `Pairs` with these two. Where a split has `query`, search all but the queries.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from xmr_core.datasets import flickr, iapr, mirflickr, nuswide
from xmr_core.datasets.columns import SUFFIXES, is_table_file
from xmr_core.datasets.emoji import openmoji
from xmr_core.datasets.flickr import flickr8k, flickr30k
from xmr_core.datasets.iapr import iapr_tc12
from xmr_core.datasets.mirflickr import mirflickr25k
from xmr_core.datasets.nuswide import nus_wide
from xmr_core.datasets.reading import Dataset, Needs, find, listing, split_hash
from xmr_core.datasets.sources import coco, folder, load, webdataset
from xmr_core.datasets.tables import records, table
from xmr_core.datasets.vqa import daquar, easy_vqa, vqa
from xmr_core.errors import ConfigError, DataError

__all__ = [
    "READERS",
    "Dataset",
    "coco",
    "daquar",
    "detect",
    "easy_vqa",
    "flickr8k",
    "flickr30k",
    "folder",
    "iapr_tc12",
    "load",
    "mirflickr25k",
    "nus_wide",
    "openmoji",
    "read",
    "records",
    "split_hash",
    "table",
    "vqa",
    "webdataset",
]

READERS: dict[str, Callable[..., Dataset]] = {
    "flickr30k": flickr30k,
    "flickr8k": flickr8k,
    "iapr_tc12": iapr_tc12,
    "mirflickr25k": mirflickr25k,
    "nus_wide": nus_wide,
    "openmoji": openmoji,
    "table": table,
}
LAYOUTS: Mapping[str, Needs] = {
    "flickr30k": flickr.NEEDS_30K,
    "flickr8k": flickr.NEEDS_8K,
    "iapr_tc12": iapr.NEEDS,
    "mirflickr25k": mirflickr.NEEDS,
    "nus_wide": nuswide.NEEDS,
}


def read(what: str | Path, folder: str | Path | None = None, **options: Any) -> Dataset:
    """Read by a reader's name and a folder (or table), or whatever a folder holds, or `openmoji`, which needs none.

    `options` are the reader's. Raises ConfigError for a name that is none, DataError where the layout does not fit.
    """
    if folder is None and what != "openmoji" and Path(what).exists():
        what, folder = detect(what), what
    name = str(what)
    if name not in READERS:
        near = difflib.get_close_matches(name, READERS, 1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError("reader", name, f"no reader, and no folder or table; {meant}there are {', '.join(READERS)}")
    if name == "openmoji":
        if folder is not None:
            raise DataError("openmoji takes no folder: it comes from Python packages")
        return openmoji(**options)
    if folder is None:
        raise DataError(f"{name}: give the folder that holds it")
    return READERS[name](folder, **options)


def detect(folder: str | Path) -> str:
    """The name of the reader that fits a folder or a table. Raises DataError where none or several do."""
    folder = Path(folder)
    if folder.is_file() and is_table_file(folder):
        return "table"
    if not folder.is_dir():
        raise DataError(f"{str(folder)!r} is neither a folder nor a table ({', '.join(SUFFIXES)})")
    fits = [name for name, needs in LAYOUTS.items() if all(find(folder, places) for places in needs.values())]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise DataError(f"{str(folder)!r} may be {' or '.join(fits)}: name the reader")
    raise DataError(f"{str(folder)!r} fits no reader. {_nearest(folder)}It holds {listing(folder)}")


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
