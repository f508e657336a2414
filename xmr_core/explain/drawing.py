"""Attention as a picture: a row an item, a column a step. Source: Nam, Ha & Kim, CVPR 2017, Figures 6 and 7.

What a step looks at is bright in a picture and dark under the words of a sentence; each step is scaled by its largest
weight. Regions are enlarged smoothly, for the network saw no edges between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import DataError
from xmr_core.images import decode_image
from xmr_core.types import IMAGE

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

__all__ = ["Seen", "brightened", "draw", "shaded"]

# in pixels
COLUMN = 300
TALLEST = 420  # a picture
GAP = 16
HEAD = 30  # the line that numbers the steps
LETTERS, LINE = 16, 26  # of a sentence
PAD = 3  # around a word

FLOOR = 0.16  # of its brightness, left to what a step does not look at: one still sees where it is
TINY = 1e-30  # what is divided by where no weight is above 0
LONGEST = 700  # characters of a sentence that are shown as they are
PAPER, INK, FAINT = (255, 255, 255), (27, 27, 31), (107, 107, 118)
SHADE = (24, 62, 120)  # of the word of most weight


class Seen(Protocol):
    """What can be drawn: an `Attention`, which draws itself by way of this module."""

    @property
    def modality(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def data(self) -> Any: ...
    @property
    def names(self) -> list[str]: ...
    @property
    def weights(self) -> NDArray[np.float32]: ...
    @property
    def maps(self) -> NDArray[np.float32]: ...


def draw(attentions: Sequence[Seen], file: str | Path | None = None, font: str | Path | None = None) -> Image:
    """One picture of several attentions, such as a sentence and the picture it found: a row each.

    Raises DataError where there are none, a picture cannot be read, or the file cannot be written.
    """
    from PIL import Image, ImageDraw

    if not attentions:
        raise DataError("draw: no attention to draw")
    letters = _font(font)
    grid = [[_plain(seen, letters), *_steps(seen, letters)] for seen in attentions]
    columns = max(len(cells) for cells in grid)
    heights = [max(cell.height for cell in cells) for cells in grid]
    size = (GAP + columns * (COLUMN + GAP), HEAD + GAP + sum(height + GAP for height in heights))
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    for step in range(1, columns):
        pen.text((_left(step), GAP), f"step {step}", FAINT, letters)
    top = GAP + HEAD
    for cells, height in zip(grid, heights, strict=True):
        for column, cell in enumerate(cells):
            sheet.paste(cell, (_left(column), top))
        top += height + GAP
    if file is not None:
        _write(sheet, Path(file))
    return sheet


def brightened(picture: Image, weights: NDArray[np.float32]) -> Image:
    """The picture, each place as bright as the weights (rows, columns) are there, by their largest."""
    from PIL import Image

    grid = Image.fromarray(np.ascontiguousarray(weights, np.float32))  # mode F
    light = np.maximum(np.asarray(grid.resize(picture.size, Image.Resampling.BICUBIC)), 0)  # (height, width)
    light = FLOOR + (1 - FLOOR) * light / max(float(light.max()), TINY)
    return Image.fromarray((np.asarray(picture) * light[..., None]).round().astype(np.uint8))


def shaded(words: Sequence[str], weights: NDArray[np.float32], font: FreeTypeFont | ImageFont) -> Image:
    """The words on lines as wide as a column, each the darker the larger its weight, by the largest."""
    from PIL import Image, ImageDraw

    scale = max(float(weights.max(initial=0)), TINY)
    placed = list(_placed(words, font))
    sheet = Image.new("RGB", (COLUMN, (placed[-1][2] + 1) * LINE if placed else LINE), PAPER)
    pen = ImageDraw.Draw(sheet)
    for word, left, line, of in placed:
        weight = float(weights[of]) / scale
        box = (left, line * LINE, left + font.getlength(word) + 2 * PAD, (line + 1) * LINE - 3)
        pen.rounded_rectangle(box, 4, _mixed(PAPER, SHADE, weight))
        pen.text((left + PAD, line * LINE + PAD - 1), word, PAPER if weight > 0.5 else INK, font)
    return sheet


def _plain(seen: Seen, font: FreeTypeFont | ImageFont) -> Image:
    """The item without attention."""
    if seen.modality == IMAGE:
        return _picture(seen)
    text = str(seen.data)
    words = (text if len(text) <= LONGEST else f"{text[:LONGEST]} ...").split()
    return shaded(words, np.zeros(len(words), np.float32), font)


def _steps(seen: Seen, font: FreeTypeFont | ImageFont) -> Iterator[Image]:
    if seen.modality == IMAGE:
        picture = _picture(seen)
        yield from (brightened(picture, weights) for weights in seen.maps)
    else:
        yield from (shaded(seen.names, weights, font) for weights in seen.weights)


def _picture(seen: Seen) -> Image:
    """The picture, as wide as a column where that makes it no taller than may be."""
    from PIL import Image

    try:
        picture = decode_image(seen.data, COLUMN)
    except DataError as error:
        raise DataError(f"picture {seen.key!r} cannot be drawn: {error}", [seen.key]) from None
    scale = min(COLUMN / picture.width, TALLEST / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.BICUBIC)


def _placed(words: Sequence[str], font: FreeTypeFont | ImageFont) -> Iterator[tuple[str, int, int, int]]:
    """Each word with its left edge, its line and its place among the words; one too long for a line is cut up."""
    left, line = 0, 0
    for of, word in enumerate(words):
        for piece in _pieces(word, font):
            width = int(font.getlength(piece)) + 2 * PAD + 3
            if left and left + width > COLUMN:
                left, line = 0, line + 1
            yield piece, left, line, of
            left += width


def _pieces(word: str, font: FreeTypeFont | ImageFont) -> Iterator[str]:
    while font.getlength(word) > COLUMN - 2 * PAD:
        fits = next(n for n in range(1, len(word)) if font.getlength(word[: n + 1]) > COLUMN - 2 * PAD)
        yield word[:fits]
        word = word[fits:]
    yield word


def _font(file: str | Path | None) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    try:
        return ImageFont.load_default(LETTERS) if file is None else ImageFont.truetype(str(file), LETTERS)
    except OSError as error:
        raise DataError(f"font {str(file)!r}: expected a TrueType file ({error})") from None


def _write(sheet: Image, file: Path) -> None:
    try:
        sheet.save(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: the drawing cannot be written: {error}") from None


def _left(column: int) -> int:
    return GAP + column * (COLUMN + GAP)


def _mixed(one: Sequence[int], other: Sequence[int], share: float) -> Any:
    return tuple(round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
