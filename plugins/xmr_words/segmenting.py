"""Words of a script without blanks, by a dictionary: `jieba` cuts Chinese.

Source: jieba 0.42 (MIT licence): the most probable path through a dictionary of 350,000 words, and a hidden Markov
model for what the dictionary lacks.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal

import xmr_core as xmr

__all__ = ["Segmenter", "segmenter"]

Segmenter = Literal["jieba"]


@functools.cache
def segmenter(name: Segmenter | None, inner: bool = False) -> Callable[[str], list[str]] | None:
    """The function from a run of Han characters to its words; None where `name` is. Raises PluginError.

    `inner` adds the dictionary's words that a longer word contains, so that \u72d7 finds what says \u5c0f\u72d7\u72d7.
    """
    if name is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its source has escape sequences that newer versions of Python warn of
            jieba: Any = import_module("jieba")
    except ImportError:
        raise xmr.PluginError(f"segmenter={name!r} needs jieba: pip install 'xmr[chinese]'") from None
    cut = jieba.Tokenizer()
    # by hand, as its own initialisation reads and writes a cache in the folder for temporary files, which others share
    cut.FREQ, cut.total = cut.gen_pfdict(cut.get_dict_file())
    cut.initialized = True
    words: Callable[[str], list[str]] = cut.lcut_for_search if inner else cut.lcut
    return words
