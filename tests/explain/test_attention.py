"""Where a pipeline looks: given and stored items, hits and queries; in SQL, in exports, in drawings."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xmr_core as xmr
from xmr_core.explain import drawing
from xmr_core.explain.attending import rows
from xmr_core.explain.attention import Attention

pytestmark = pytest.mark.usefixtures("toy")
STEPS = "SELECT step, token, weight FROM xmr.attention WHERE item_id = {} ORDER BY step, position"


@pytest.fixture
def db(tmp_path: Path, pairs: xmr.Pairs) -> Iterator[xmr.Library]:
    """A library with a space that looks at later regions and words the more."""
    with xmr.open(tmp_path / "seen.duckdb", progress=False) as library:
        library.add(pairs)
        library.fit("gaze >> flat", name="seen")
        yield library


def picture(weights: Any, image: Any = None) -> Attention:
    from PIL import Image

    image = Image.new("RGB", (40, 40), "white") if image is None else image
    return Attention("image", np.array(weights, np.float32), image)


# what it says


def test_a_sentence_has_a_weight_a_word_and_step(db: xmr.Library) -> None:
    (seen,) = db.attention(text="a red thing")
    assert (seen.tokens, seen.names, seen.steps) == (("a", "red", "thing"), ["a", "red", "thing"], 2)
    np.testing.assert_allclose(seen.weights, [[1 / 3] * 3, [1 / 6, 2 / 6, 3 / 6]], atol=1e-6)


def test_padding_is_left_out(db: xmr.Library) -> None:
    short, long = db.attention(text=["red", "a red thing here"])
    assert (short.weights.shape, long.weights.shape) == ((2, 1), (2, 4))
    np.testing.assert_allclose(short.weights, 1)


def test_words_are_shown_as_they_were_written(db: xmr.Library) -> None:
    (seen,) = db.attention(text="A zebra")
    assert seen.tokens[1] == "zebra"


def test_a_picture_has_a_weight_a_region(db: xmr.Library, pictures: list[Path]) -> None:
    (seen,) = db.attention(image=pictures[0])
    assert seen.maps.shape == (2, 2, 2)
    np.testing.assert_allclose(seen.maps[1], [[0.1, 0.2], [0.3, 0.4]], atol=1e-6)
    assert seen.strongest(1) == [[("0,0", 0.25)], [("1,1", pytest.approx(0.4))]]
    assert repr(seen).startswith("<attention of image '0', 2 steps: 0,0 0.25, ")


def test_stored_items_are_named_and_come_in_the_order_of_their_ids(db: xmr.Library) -> None:
    text, image = int(db.store.ids("text")[1]), int(db.store.ids("image")[2])
    one, two = db.attention(item=[text, image])
    assert [(seen.id, seen.modality, seen.key) for seen in (one, two)] == [
        (text, "text", "red#1"),
        (image, "image", "blue"),
    ]
    assert [seen.key for seen in db.attention(where="key = 'blue'")] == ["blue"]


def test_no_items_have_no_attention(db: xmr.Library) -> None:
    assert db.attention(where="key = 'nobody'", keep=True) == []


# searching


def test_a_search_explains_its_query_and_its_hits(db: xmr.Library) -> None:
    found = db.search(text=["a red thing", "a blue thing"], k=2, explain=True)
    assert [seen.tokens[1] for seen in found.attention] == ["red", "blue"]
    assert [hit.attention.id for hit in found if hit.attention] == [hit.id for hit in found]
    assert found[0].attention.maps.shape == (2, 2, 2)


def test_a_search_by_item_or_vector_explains_what_it_can(db: xmr.Library) -> None:
    item = int(db.store.ids("image")[0])
    found = db.search(item=item, k=1, explain=True)
    assert ([seen.id for seen in found.attention], found[0].attention.modality) == ([item], "text")
    by_vector = db.search(vector=db.encode(text="a red thing"), modality="image", k=1, explain=True)
    assert (by_vector.attention, by_vector[0].attention.modality) == ([], "image")


def test_without_explain_there_is_none(db: xmr.Library) -> None:
    found = db.search(text="a red thing", k=1)
    assert (found.attention, found[0].attention) == ([], None)
    with pytest.raises(xmr.DataError, match="explain=True"):
        found.draw()


def test_a_pipeline_that_pays_none_says_so(db: xmr.Library) -> None:
    db.fit("toy >> sign >> hamming", name="bits")
    for asked in (
        lambda: db.search(text="red", space="bits", explain=True),
        lambda: db.attention(item=0, space="bits"),
    ):
        with pytest.raises(xmr.ConfigError, match="sign weighs neither regions nor words"):
            asked()
    db.add_embeddings(np.eye(4), "mine", recipe="flat")
    with pytest.raises(xmr.ConfigError, match="flat weighs neither"):
        db.attention(item=0, space="mine")


def test_what_is_found_by_regions_and_words_has_no_way_back_to_them(db: xmr.Library) -> None:
    with pytest.raises(xmr.ConfigError, match="gaze knows no way back"):
        db.search(text="red", rerank=10)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "give one of text, image, item, where"),
        ({"text": "red", "item": 0}, "give one of"),
        ({"text": "red", "keep": True}, "only that of stored items is kept"),
        ({"item": [0, 999]}, "1 of these ids name no item, the first is 999"),
        ({"item": -1}, "expected 0 to"),
        ({"text": " "}, "empty text"),
        ({"where": "nonsense ="}, "nonsense"),
    ],
)
def test_a_question_that_cannot_be_answered_says_why(db: xmr.Library, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(xmr.DataError, match=message):
        db.attention(**asked)


# in the database


def test_kept_attention_is_there_for_sql(db: xmr.Library) -> None:
    text = int(db.store.ids("text")[0])
    db.attention(item=text, keep=True)
    db.attention(item=text, keep=True)  # in the place of the first
    assert db.sql(STEPS.format(text)).fetchall() == [
        (1, "a", pytest.approx(1 / 3)),
        (1, "red", pytest.approx(1 / 3)),
        (1, "thing", pytest.approx(1 / 3)),
        (2, "a", pytest.approx(1 / 6)),
        (2, "red", pytest.approx(2 / 6)),
        (2, "thing", pytest.approx(3 / 6)),
    ]


def test_an_item_that_is_named_twice_is_kept_once(db: xmr.Library) -> None:
    text = int(db.store.ids("text")[0])
    assert len(db.attention(item=[text, text], keep=True)) == 2
    assert count(db) == 6  # two steps of three words


def test_regions_are_named_by_row_and_column(db: xmr.Library) -> None:
    image = int(db.store.ids("image")[0])
    db.attention(where="modality = 'image'", keep=True)
    assert [row[1] for row in db.sql(STEPS.format(image)).fetchall()] == ["0,0", "0,1", "1,0", "1,1"] * 2
    assert db.doctor() == []


def test_rows_count_steps_from_one_and_positions_from_zero() -> None:
    made = rows([Attention("text", np.eye(2, dtype=np.float32), "a b", ("a", "b"), id=7)])
    assert (made.ids.tolist(), made.steps.tolist()) == ([7] * 4, [1, 1, 2, 2])
    assert (made.positions.tolist(), made.tokens) == ([0, 1, 0, 1], ["a", "b", "a", "b"])


def count(db: xmr.Library) -> int:
    return int(db.sql("SELECT count(*) FROM xmr.attention").fetchall()[0][0])


def test_it_goes_with_its_item_and_with_its_space(db: xmr.Library) -> None:
    db.attention(where="key IN ('red', 'blue')", keep=True)
    assert count(db) == 16
    db.delete(where="key = 'red'")
    assert count(db) == 8
    db.drop("seen")
    assert count(db) == 0


def test_it_is_exported_and_restored(db: xmr.Library, tmp_path: Path) -> None:
    db.attention(where="key = 'red'", keep=True)
    db.export(tmp_path / "out")
    with xmr.open(tmp_path / "restored.duckdb", progress=False) as other:
        other.restore(tmp_path / "out")
        assert count(other) == 8
        assert other.doctor() == []


def test_the_doctor_finds_attention_of_nobody(db: xmr.Library) -> None:
    db.sql("INSERT INTO xmr.attention VALUES (999, 'nowhere', 1, 1, 0, 'a', 1)")
    assert db.doctor() == [
        "1 rows of attention refer to an item that does not exist; repair deletes them",
        "1 rows of attention refer to a space that does not exist; repair deletes them",
    ]


def test_an_older_file_gets_the_table_when_it_is_opened_for_writing(db: xmr.Library, tmp_path: Path) -> None:
    db.sql("DROP TABLE xmr.attention")
    db.close()
    with xmr.open(tmp_path / "seen.duckdb", read_only=True, progress=False) as reader:
        assert reader.doctor() == []
        assert reader.attention(text="a red thing")
        with pytest.raises(xmr.StorageError, match="reading only"):
            reader.attention(item=0, keep=True)
    with xmr.open(tmp_path / "seen.duckdb", progress=False) as writer:
        writer.attention(item=0, keep=True)
        assert count(writer) == 8


# drawings


def test_a_drawing_has_a_column_for_the_item_and_one_a_step(db: xmr.Library, tmp_path: Path) -> None:
    from PIL import Image

    (seen,) = db.attention(text="a red thing")
    drawn = seen.draw(tmp_path / "seen.png")
    assert drawn.width == 3 * (drawing.COLUMN + drawing.GAP) + drawing.GAP
    assert Image.open(tmp_path / "seen.png").size == drawn.size
    assert Image.open(io.BytesIO(seen._repr_png_())).size == drawn.size


def test_the_query_and_its_hits_are_drawn_below_each_other(db: xmr.Library) -> None:
    found = db.search(text=["a red thing", "a blue thing"], k=2, explain=True)
    one, all_three = db.attention(text="a blue thing")[0].draw(), found.draw(query=1)
    assert all_three.height == one.height + 2 * (drawing.COLUMN + drawing.GAP)
    for query in (-1, 2):
        with pytest.raises(xmr.DataError, match=f"expected a query from 0 to 1, got {query}"):
            found.draw(query=query)


def test_a_place_is_as_bright_as_its_weight_by_the_largest() -> None:
    from PIL import Image

    white = Image.new("RGB", (70, 70), "white")
    lit = np.asarray(drawing.brightened(white, np.pad([[1.0]], 3).astype(np.float32)))[..., 0]
    assert lit[35, 35] == 255
    assert lit[0, 0] == round(255 * drawing.FLOOR)
    even = np.asarray(drawing.brightened(white, np.full((7, 7), 1 / 49, np.float32)))
    assert (even == 255).all()


def test_the_word_of_most_weight_is_darkest() -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(drawing.LETTERS)
    drawn = np.asarray(drawing.shaded(["oo", "oo"], np.array([0.2, 0.8], np.float32), font)).astype(int)
    assert tuple(drawn[3, 12]) == drawing._mixed(drawing.PAPER, drawing.SHADE, 0.25)
    assert tuple(drawn[3, 40]) == drawing.SHADE


def test_long_sentences_wrap_and_long_words_are_cut() -> None:
    words = ("word",) * 60 + ("w" * 300,)
    weights = np.full((1, 61), 1 / 61, np.float32)
    drawn = Attention("text", weights, " ".join(words), words).draw()
    assert drawn.width == 2 * (drawing.COLUMN + drawing.GAP) + drawing.GAP
    assert drawn.height > 10 * drawing.LINE


@pytest.mark.parametrize(("mode", "size"), [("CMYK", (1, 1)), ("L", (1, 300)), ("RGBA", (300, 1)), ("1", (3, 3))])
def test_any_picture_can_be_drawn(mode: str, size: tuple[int, int]) -> None:
    from PIL import Image

    assert picture([[0.1, 0.2, 0.3, 0.4]], Image.new(mode, size)).draw().width > 0


def test_what_cannot_be_drawn_says_why(tmp_path: Path) -> None:
    with pytest.raises(xmr.DataError, match="3 weights lie on no square grid"):
        picture([[0.2, 0.3, 0.5]]).draw()
    with pytest.raises(xmr.DataError, match="cannot be drawn: no such file"):
        picture([[1.0]], "gone.png").draw()
    with pytest.raises(xmr.DataError, match="no attention to draw"):
        drawing.draw([])
    with pytest.raises(xmr.DataError, match="cannot be written"):
        picture([[1.0]]).draw(tmp_path / "no" / "where.png")
    with pytest.raises(xmr.DataError, match="expected a TrueType file"):
        picture([[1.0]]).draw(font=tmp_path / "none.ttf")
