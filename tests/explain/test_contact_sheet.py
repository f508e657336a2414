"""Contact sheets: what they show, and that a page holds everything in itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import xmr_core as xmr
from xmr_core.explain.contact_sheet import Row, Tile, contact_sheet, rows, write
from xmr_core.library import Library


@pytest.fixture
def db(toy: None, tmp_path: Path, pairs: xmr.Pairs) -> Iterator[Library]:
    with xmr.open(tmp_path / "colours.duckdb", progress=False) as library:
        library.add(pairs)
        library.fit("toy >> flat", name="toy")
        yield library


def test_a_page_shows_queries_and_what_each_found(db: Library, tmp_path: Path) -> None:
    texts = ["a red thing", "a blue thing"]
    page = contact_sheet(db, db.search(text=texts, k=2), texts, tmp_path / "page.html").read_text()
    assert page.count("<section>") == 2
    assert page.index("a red thing") < page.index("a blue thing")
    shown = re.findall(r"<figcaption><b>([\d.]+)</b> ([\w ]+)</figcaption>", page)
    assert [caption for _, caption in shown[::2]] == ["a red thing", "a blue thing"]


def test_a_picture_without_a_sentence_is_shown_by_its_key(db: Library, pictures: list[Path]) -> None:
    db.add(xmr.Items("image", [pictures[0].read_bytes() + b"\0"], ["lone"]))
    (row,) = rows(db, db.search(text="red", k=2), ["red"])
    assert {tile.caption for tile in row.found} == {"a red thing", "lone"}


def test_a_page_holds_its_pictures_and_asks_for_nothing_else(db: Library, tmp_path: Path, pictures: list[Path]) -> None:
    found = db.search(image=pictures[0], k=2)
    page = contact_sheet(db, found, [pictures[0]], tmp_path / "page.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert len(sources) == 1
    assert sources[0].startswith("data:image/jpeg;base64,")
    assert "url(" not in page
    assert "a red thing" in page


def test_texts_are_shown_as_they_are_and_never_as_markup(tmp_path: Path) -> None:
    row = Row(Tile("<script>alert(1)</script>", "text"), [Tile('"><img src=x>', "text", distance="1")])
    page = write([row], tmp_path / "page.html", "<b>").read_text()
    assert "<script>" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page
    assert "<title>&lt;b&gt;</title>" in page


def test_a_picture_whose_file_is_gone_is_said_to_be(db: Library, tmp_path: Path, pictures: list[Path]) -> None:
    pictures[0].unlink()
    page = contact_sheet(db, db.search(text="red", k=1), ["red"], tmp_path / "page.html").read_text()
    assert "picture not found" in page


def test_bits_are_shown_as_whole_numbers(db: Library, tmp_path: Path) -> None:
    db.fit("toy >> sign >> hamming", name="bits")
    shown = rows(db, db.search(text="red", k=4, space="bits"), ["red"])
    assert all(tile.distance.isdigit() for tile in shown[0].found)


def test_a_png_has_a_row_a_query_and_a_column_a_hit(db: Library, tmp_path: Path) -> None:
    def size(texts: list[str], k: int) -> tuple[int, int]:
        with Image.open(contact_sheet(db, db.search(text=texts, k=k), texts, tmp_path / "sheet.png")) as sheet:
            return sheet.size

    small, taller, wider = size(["red"], 3), size(["red", "blue"], 3), size(["red"], 4)
    assert taller[0] == small[0] < wider[0]
    assert taller[1] > small[1] == wider[1]


def test_a_png_shows_the_pictures(db: Library, tmp_path: Path) -> None:
    path = contact_sheet(db, db.search(text="green", k=1), ["green"], tmp_path / "sheet.png")
    with Image.open(path) as sheet:
        pixels = np.asarray(sheet.convert("RGB")).reshape(-1, 3)
    assert (pixels == (0, 255, 0)).all(axis=1).any()


@pytest.mark.parametrize("text", ["", "word " * 200, "x" * 2000, "日本語 ünïcode \n lines"])
def test_any_text_can_be_drawn(tmp_path: Path, text: str) -> None:
    row = Row(Tile(text, "text"), [Tile(text, "text", distance="3"), Tile(text, "image")])
    assert write([row], tmp_path / "sheet.png").stat().st_size > 0


def test_nothing_found_is_shown_too(tmp_path: Path) -> None:
    row = Row(Tile("a rare thing", "text"), [])
    assert "nothing" in write([row], tmp_path / "page.html").read_text()
    assert write([row], tmp_path / "sheet.png").exists()


def test_a_sheet_that_cannot_be_made_says_why(db: Library, tmp_path: Path) -> None:
    found = db.search(text="red")
    with pytest.raises(xmr.DataError, match=r"\.html page or a \.png picture"):
        contact_sheet(db, found, ["red"], tmp_path / "sheet.pdf")
    with pytest.raises(xmr.DataError, match="expected 1 queries"):
        contact_sheet(db, found, ["red", "blue"], tmp_path / "sheet.html")
    with pytest.raises(xmr.DataError, match="its folder does not exist"):
        contact_sheet(db, found, ["red"], tmp_path / "none" / "sheet.html")
