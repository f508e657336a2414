"""A contact sheet: what was searched for and what was found, as one HTML page or one PNG picture to look at.

    texts = ["a dog", "a red flower"]
    contact_sheet(db, db.search(text=texts, k=8), texts, "found.html")

A page holds everything in itself, pictures too, so that it can be mailed, or kept beside a run.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xmr_core.errors import DataError
from xmr_core.images import decode_image
from xmr_core.types import IMAGE

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

    from xmr_core.library import Library
    from xmr_core.library.results import Hit, Results

__all__ = ["Row", "Tile", "captions", "contact_sheet", "rows", "write"]

SIDE = 192  # pixels of a thumbnail's longer side
QUALITY = 88  # of the JPEGs in a page

# of the PNG, in pixels
CELL = 128  # a picture or a sentence
GAP = 14
CAPTION = 40  # two lines under a cell
TITLE = 56
DRAWN = 400  # characters of a text that can matter
INK, FAINT, PAPER, PANEL = "#1b1b1f", "#6b6b76", "#ffffff", "#f1f1f4"


@dataclass(frozen=True, eq=False)
class Tile:
    """A query or a found item: a sentence, or a picture with its name (`picture` None where its file is gone)."""

    caption: str
    modality: str
    picture: Image | None = None
    distance: str = ""  # as it is shown; a query has none


@dataclass(frozen=True, eq=False)
class Row:
    """A query and what it found, nearest first."""

    query: Tile
    found: Sequence[Tile]


def contact_sheet(
    db: Library, results: Results, queries: Sequence[object], path: str | Path, title: str = "What was found"
) -> Path:
    """Write what `results` found to `path`, a `.html` page or a `.png` picture.

    `queries` are those that were searched with, in order: a str is a sentence, anything else (a Path, bytes, a PIL
    image, an array) a picture. Raises DataError.
    """
    return write(rows(db, results, queries), path, title)


def rows(db: Library, results: Results, queries: Sequence[object]) -> list[Row]:
    """A row for each query; join the rows of several searches for one sheet. Raises DataError."""
    if len(queries) != len(results.ids):
        raise DataError(f"sheet: expected {len(results.ids)} queries, as many as were searched, got {len(queries)}")
    finite = results.distances[results.ids >= 0]
    places = 0 if (finite == np.round(finite)).all() else 3  # bits are whole numbers, other distances are not
    names = captions(db, results)
    return [
        Row(_asked(query), [_found(db, hit, names[hit.id], f"{hit.distance:.{places}f}") for hit in results.of(place)])
        for place, query in enumerate(queries)
    ]


def captions(db: Library, results: Results) -> dict[int, str]:
    """What to write under each hit, by id: a text itself, a picture's first sentence, or its key where it has none."""
    written = {hit.id: hit.key if hit.modality == IMAGE else hit.data or hit.key for hit in results}
    if results.modality == IMAGE:
        links = db.store.links()  # (p, 2), ascending
        links = links[np.isin(links[:, 0], list(written))]
        images, firsts = np.unique(links[:, 0], return_index=True)
        texts = db.store.describe(links[firsts, 1])["text"]
        written |= {int(image): text for image, text in zip(images, texts, strict=True) if text}
    return written


def write(rows: Sequence[Row], path: str | Path, title: str = "What was found") -> Path:
    """Write rows as a page (`.html`) or a picture (`.png`). Raises DataError on another name."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".html", ".png"):
        raise DataError(f"{path}: a contact sheet is a .html page or a .png picture")
    if not path.parent.is_dir():
        raise DataError(f"{path}: its folder does not exist")
    if suffix == ".html":
        path.write_text(_page(rows, title), encoding="utf-8")
    else:
        _drawn(rows, title).save(path, format="PNG", optimize=True)
    return path


def _asked(query: object) -> Tile:
    if isinstance(query, str):
        return Tile(query, "text")
    return Tile(query.name if isinstance(query, Path) else "", IMAGE, _thumbnail(query))


def _found(db: Library, hit: Hit, caption: str, distance: str) -> Tile:
    if hit.modality != IMAGE:
        return Tile(caption, hit.modality, distance=distance)
    (stored,) = db.store.items(np.array([hit.id]), IMAGE).data
    return Tile(caption, IMAGE, _thumbnail(stored), distance)


def _thumbnail(item: object) -> Image | None:
    """The picture, no side longer than SIDE; None where it cannot be read any more."""
    try:
        made = decode_image(item, at_least=SIDE)
    except DataError:
        return None
    made = made.copy()
    made.thumbnail((SIDE, SIDE))
    return made


# the page

STYLE = """
:root { --ink: #1b1b1f; --faint: #6b6b76; --paper: #ffffff; --panel: #f1f1f4;
        --line: #dcdce3; color-scheme: light dark }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e9e9ee; --faint: #9a9aa6; --paper: #16161a; --panel: #222228; --line: #36363f }
}
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1.5rem; max-width: 90rem; background: var(--paper); color: var(--ink);
       font: 15px/1.4 system-ui, sans-serif }
h1 { font-size: 1.4rem; margin: 0 0 1rem }
section { display: grid; grid-template-columns: 11rem 1fr; gap: 1.25rem; padding: 1.25rem 0;
          border-top: 1px solid var(--line) }
ol { display: grid; grid-template-columns: repeat(auto-fill, minmax(7rem, 1fr)); gap: 1rem; margin: 0; padding: 0;
     list-style: none }
figure { margin: 0 }
img { display: block; width: 100%; height: 8rem; object-fit: contain; background: #fff; border-radius: .5rem;
      border: 1px solid var(--line) }
blockquote { margin: 0; min-height: 8rem; max-height: 16rem; padding: .6rem .7rem; background: var(--panel);
             border-radius: .5rem; overflow: auto; overflow-wrap: anywhere }
h2 blockquote { font-weight: 600 }
h2 { font: inherit; margin: 0 }
figcaption { margin-top: .3rem; font-size: .8rem; color: var(--faint); overflow-wrap: anywhere }
b { color: var(--ink); font-variant-numeric: tabular-nums }
@media (max-width: 40rem) { section { grid-template-columns: 1fr } h2 { max-width: 11rem } }
"""


def _page(rows: Sequence[Row], title: str) -> str:
    name = html.escape(title)
    sections = "\n".join(_section(row) for row in rows)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{name}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{STYLE}</style>\n</head>\n'
        f"<body>\n<h1>{name}</h1>\n{sections}\n</body>\n</html>\n"
    )


def _section(row: Row) -> str:
    found = "\n".join(f"<li>{_figure(tile)}</li>" for tile in row.found) or "<li>nothing</li>"
    return f"<section>\n<h2>{_figure(row.query)}</h2>\n<ol>\n{found}\n</ol>\n</section>"


def _figure(tile: Tile) -> str:
    caption = html.escape(tile.caption)
    near = f"<b>{tile.distance}</b> " if tile.distance else ""
    if tile.modality != IMAGE:
        note = f"<figcaption>{near}</figcaption>" if near else ""
        return f"<figure><blockquote>{caption}</blockquote>{note}</figure>"
    shown = (
        "<blockquote>picture not found</blockquote>"
        if tile.picture is None
        else f'<img alt="{caption}" src="{_inline(tile.picture)}">'
    )
    return f"<figure>{shown}<figcaption>{near}{caption}</figcaption></figure>"


def _inline(picture: Image) -> str:
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


# the picture


def _drawn(rows: Sequence[Row], title: str) -> Image:
    from PIL import Image, ImageDraw, ImageFont

    across = 1 + max((len(row.found) for row in rows), default=0)
    width = max(GAP + across * (CELL + GAP) + GAP, 4 * CELL)  # the query stands apart by one more gap
    height = TITLE + len(rows) * (CELL + CAPTION + GAP) + GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    font, large = ImageFont.load_default(13), ImageFont.load_default(20)
    pen.text((GAP, GAP), title, INK, large)
    for down, row in enumerate(rows):
        top = TITLE + down * (CELL + CAPTION + GAP)
        pen.line((GAP, top - GAP // 2, width - GAP, top - GAP // 2), "#dcdce3")
        for place, tile in enumerate((row.query, *row.found)):
            left = GAP + place * (CELL + GAP) + (GAP if place else 0)
            _draw(sheet, pen, tile, left, top, font)
    return sheet


def _draw(sheet: Image, pen: ImageDraw, tile: Tile, left: int, top: int, font: FreeTypeFont | ImageFont) -> None:
    """One tile, its upper left corner at (left, top)."""
    near = f"{tile.distance}  " if tile.distance else ""
    if tile.picture is not None:
        small = tile.picture.copy()
        small.thumbnail((CELL, CELL))
        sheet.paste(small, (left + (CELL - small.width) // 2, top + (CELL - small.height) // 2))
        caption = near + tile.caption
    else:
        pen.rounded_rectangle((left, top, left + CELL, top + CELL), 8, PANEL)
        inside = "picture not found" if tile.modality == IMAGE else tile.caption
        lines = list(_wrapped(inside, font, CELL - 16))
        pen.multiline_text((left + 8, top + 8), "\n".join(_clipped(lines, 7)), INK, font, spacing=3)
        caption = near + (tile.caption if tile.modality == IMAGE else "")
    lines = _clipped(list(_wrapped(caption, font, CELL)), 2)
    pen.multiline_text((left, top + CELL + 4), "\n".join(lines), FAINT, font, spacing=3)


def _wrapped(text: str, font: FreeTypeFont | ImageFont, width: int) -> Iterator[str]:
    """The lines of a text, none wider than `width` pixels; a word that is too long is cut."""
    line = ""
    for word in text[:DRAWN].split():
        while font.getlength(word) > width:
            fits = next(n for n in range(1, len(word)) if font.getlength(word[: n + 1]) > width)
            if line:
                yield line
                line = ""
            yield word[:fits]
            word = word[fits:]
        if line and font.getlength(f"{line} {word}") > width:
            yield line
            line = word
        else:
            line = f"{line} {word}".strip()
    if line:
        yield line


def _clipped(lines: list[str], most: int) -> list[str]:
    return lines if len(lines) <= most else [*lines[: most - 1], f"{lines[most - 1]}..."]
