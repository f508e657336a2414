"""Forms of a word as one: English plurals by a few rules, or a Snowball stemmer of a language.

Source of the rules: Harman, "How effective is suffixing?", JASIS 1991 (the S stemmer), with the endings that keep their
e and the common irregular plurals of things one sees.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from typing import Any

import xmr_core as xmr

__all__ = ["stemmer"]

IRREGULAR = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "people": "person",
    "feet": "foot",
    "teeth": "tooth",
    "mice": "mouse",
    "geese": "goose",
    "oxen": "ox",
    "leaves": "leaf",
    "knives": "knife",
    "wolves": "wolf",
    "shelves": "shelf",
    "loaves": "loaf",
    "scarves": "scarf",
    "halves": "half",
    "wives": "wife",
    "lives": "life",
    "calves": "calf",
    "hooves": "hoof",
    "shoes": "shoe",
    "toes": "toe",
    "canoes": "canoe",
    "cookies": "cookie",
    "movies": "movie",
    "ties": "tie",
    "pies": "pie",
    "buses": "bus",
    "axes": "axe",
    "lenses": "lens",
}
SINGULAR = ("ss", "us", "is", "news", "series", "species", "always", "gas", "lens", "this", "his", "was", "has", "as")
WITH_ES = ("ches", "shes", "sses", "xes", "zzes", "oes")


def stemmer(name: str | None) -> Callable[[str], str] | None:
    """The function from a word to its stem; None where words stay as they are. Raises PluginError."""
    if name is None:
        return None
    return singular if name == "plural" else _snowball(name)


def singular(word: str) -> str:
    """The singular of an English noun in lower case; what is none, or is one already, as it is.

    >>> [singular(word) for word in ("dogs", "boxes", "berries", "glass", "children")]
    ['dog', 'box', 'berry', 'glass', 'child']
    """
    if word in IRREGULAR:
        return IRREGULAR[word]
    if len(word) < 4 or not word.endswith("s") or word.endswith(SINGULAR):
        return word
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    return word[:-2] if word.endswith(WITH_ES) else word[:-1]


@functools.cache
def _snowball(language: str) -> Callable[[str], str]:
    try:
        package: Any = import_module("snowballstemmer")
    except ImportError:
        raise xmr.PluginError(f"stem={language!r} needs snowballstemmer: pip install snowballstemmer") from None
    stem: Callable[[str], str] = package.stemmer(language).stemWord
    return functools.cache(stem)
