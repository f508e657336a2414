"""Readers of data sets: folders in their publishers' layouts, tables of captions, emoji. Paths only, nothing decoded.

    pairs = datasets.flickr8k("Flickr8k/")            # a reader by its name
    pairs = datasets.read("Flickr8k/")                # or whichever fits the folder
    pairs.protocol                                    # the split, its sizes and its hash: print it beside figures
    pairs.skipped                                     # what was left out and why, by key

All give `Dataset`, which is `Pairs` with these two. Where a split has `query`, search all but the queries.
"""

from __future__ import annotations

from xmr_core.datasets.emoji import openmoji
from xmr_core.datasets.flickr import flickr8k, flickr30k
from xmr_core.datasets.iapr import iapr_tc12
from xmr_core.datasets.mirflickr import mirflickr25k
from xmr_core.datasets.nuswide import nus_wide
from xmr_core.datasets.readers import READERS, detect, load, read
from xmr_core.datasets.reading import Dataset, split_hash
from xmr_core.datasets.sources import coco, folder, webdataset
from xmr_core.datasets.tables import records, table
from xmr_core.datasets.vqa import daquar, easy_vqa, vqa

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
