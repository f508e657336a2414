"""Vectors that were made elsewhere: passed on unchanged, or refused with the keys at fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xmr_core as xmr
from xmr_core.testing import conformance, ready_made
from xmr_precomputed import Precomputed

TestPrecomputed = conformance("encoder", "precomputed", config={"dim": 32}, samples=ready_made(dim=32))
TestPrecomputedByName = conformance(
    "encoder", "precomputed", config={"name": "own"}, samples=ready_made(dim=32, name="own", text_dim=24)
)


def encoded(data: Any, modality: str = xmr.IMAGE, keys: tuple[str, ...] = ()) -> Any:
    return Precomputed(dim=3).encode(xmr.Items(modality, data, keys)).vectors


@pytest.mark.parametrize("modality", [xmr.IMAGE, xmr.TEXT])
def test_vectors_come_out_as_they_went_in(modality: str) -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(encoded(vectors, modality), vectors)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64, np.uint8])
def test_other_types_of_number_become_float32(dtype: type) -> None:
    vectors = encoded(np.arange(6).reshape(2, 3).astype(dtype))
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, [[0, 1, 2], [3, 4, 5]])


def test_arrays_that_are_not_contiguous_are_taken() -> None:
    wide = np.arange(12.0).reshape(2, 6)
    np.testing.assert_array_equal(encoded(wide[:, ::2]), wide[:, ::2])


def test_a_list_of_rows_is_taken() -> None:
    np.testing.assert_array_equal(encoded([[1, 2, 3], np.array([4.0, 5, 6])]), [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    "bad", [[1, 2], [1, 2, 3, 4], "dog", b"\xff\xd8", [[1, 2, 3]], [True, False, True], ["é", b"\xd7"], [[1], [2, 3]]]
)
def test_what_is_no_vector_of_that_width_is_refused_by_key(bad: object) -> None:
    with pytest.raises(xmr.DataError, match=r"1 of 2 images are no vectors of 3 numbers but .*: 'b'") as raised:
        encoded([[1, 2, 3], bad], keys=("a", "b"))
    assert raised.value.keys == ("b",)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_in_float32_are_refused_by_key(bad: float) -> None:
    with pytest.raises(xmr.DataError, match="hold NaN or infinity: 'b'") as raised:
        encoded([[1, 2, 3], [1, bad, 3]], keys=("a", "b"))
    assert raised.value.keys == ("b",)


def test_the_metric_is_the_one_it_is_told() -> None:
    assert Precomputed(dim=3).metric == "cosine"
    assert Precomputed(dim=3, metric="l2").encode(xmr.Items(xmr.TEXT, np.ones((1, 3)))).metric == "l2"


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(xmr.ConfigError, match="dim=0"):
        Precomputed(dim=0)
    with pytest.raises(xmr.ConfigError, match="metric='hamming': must be one of cosine, ip, l2"):
        Precomputed(dim=3, metric="hamming")


# vectors by name, beside images and captions

WIDTHS = {"image": 6, "text": 4}
rng = np.random.default_rng(0)
SHARED = rng.normal(size=(30, 3))
IMAGES = (SHARED @ rng.normal(size=(3, 6))).astype("f4")
TEXTS = (SHARED @ rng.normal(size=(3, 4))).astype("f4")
CAPTIONS = [f"caption {i}" for i in range(30)]
ALIGNED = "each(image=\"precomputed(name='clip')\", text=\"precomputed(name='clip')\") >> cca(dim=2) >> flat"


def png(row: int) -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (4, 4), (row, 2 * row, 3 * row)).save(file, "PNG")
    return file.getvalue()


def rows(**columns: Any) -> dict[str, Any]:
    return {"image": [png(i) for i in range(30)], "caption": CAPTIONS, **columns}


@pytest.fixture
def db(tmp_path: Path) -> Any:
    with xmr.open(tmp_path / "v.duckdb", progress=False) as opened:
        yield opened


def test_two_widths_live_in_one_library(db: xmr.Library) -> None:
    db.add(rows(a=IMAGES, b=TEXTS), vectors={"clip": ("a", "b")})
    assert db.store.vector_widths("image") == {"clip": 6}
    assert db.store.vector_widths("text") == {"clip": 4}
    assert db.store.metadata_columns() == []
    db.fit(ALIGNED, name="s")
    text = int(db.store.ids("text", "text = 'caption 3'")[0])
    hit = db.search(item=text, k=1, space="s")[0]
    assert (int(text), hit.id) in {(t, i) for i, t in db.store.links().tolist()}
    assert db.doctor() == []


def test_hits_have_their_captions(db: xmr.Library) -> None:
    db.add(rows(a=IMAGES, b=IMAGES), vectors={"clip": ("a", "b")})
    db.fit("precomputed(name='clip') >> flat", name="s")
    image = int(db.store.ids("image")[3])
    hit = db.search(item=image, k=1, modality="text")[0]
    assert hit.data == "caption 3"
    found = db.sql(f"SELECT text FROM xmr.like_s({image}, 1, modality := 'text') JOIN xmr.items USING (item_id)")
    assert found.fetchall() == [("caption 3",)]


def test_queries_become_vectors_by_a_function_of_the_users(db: xmr.Library) -> None:
    db.add(rows(a=IMAGES, b=IMAGES), vectors={"clip": ("a", "b")})
    db.fit("precomputed(name='clip') >> flat", name="s")
    with pytest.raises(xmr.DataError, match=r"db\.query_encoder\('clip', text=function\)"):
        db.search(text="caption 3")
    asked: list[str] = []

    def encode(texts: list[str]) -> Any:
        asked.extend(texts)
        return [IMAGES[CAPTIONS.index(text)] for text in texts]

    db.query_encoder("clip", text=encode)
    assert (
        db.search(text=["caption 3", "caption 7"], k=1).ids.ravel().tolist() == db.store.ids("image")[[3, 7]].tolist()
    )
    assert asked == ["caption 3", "caption 7"]
    assert db.sql("SELECT item_id FROM xmr.search('caption 5', 1)").fetchall() == [(int(db.store.ids("image")[5]),)]
    db.query_encoder("clip")
    db.query_encoder("s", text=encode)  # by the name of the space
    assert db.search(text="caption 3", k=1).ids.tolist() == [[db.store.ids("image")[3]]]
    with pytest.raises(xmr.ConfigError, match="must be a function"):
        db.query_encoder("clip", text="model")  # type: ignore[arg-type]  # that is the point
    db.query_encoder("s", text=lambda texts: np.ones((7, 6)))
    with pytest.raises(xmr.DataError, match="expected 1 vectors, got 7"):
        db.search(text="caption 3")
    db.query_encoder("s", text=lambda texts: np.ones((1, 7)))
    with pytest.raises(xmr.DataError, match="expected 6 dimensions"):
        db.search(text="caption 3")


def test_vectors_come_from_files(db: xmr.Library, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES.astype("f2"))
    db.add(rows(), folder=tmp_path, vectors={"clip": ("images.npy", None)})
    have, vectors = db.store.get_vectors("image", "clip", db.store.ids("image"))
    assert have.all()
    np.testing.assert_array_equal(vectors, IMAGES.astype("f2"))
    assert db.fit("precomputed(name='clip') >> flat").record.counts == {"image": 30}  # texts have none
    with pytest.raises(xmr.DataError, match=r"no column and no \.npy file 'texts.npy'"):
        db.add(rows(), vectors={"clip": (None, "texts.npy")})


def test_items_without_the_vector_are_named_at_fit_and_left_out_at_add(db: xmr.Library) -> None:
    some: list[Any] = [None if i == 4 else vector for i, vector in enumerate(IMAGES)]
    keys = [f"k{i}" for i in range(30)]
    db.add(xmr.Items("text", CAPTIONS, keys, vectors={"clip": some}))
    with pytest.raises(xmr.MissingVectorError, match="1 of 30 texts have no vector 'clip': 'k4'") as raised:
        db.fit("precomputed(name='clip') >> flat")
    assert raised.value.keys == ("k4",)
    space = db.fit("precomputed(name='clip') >> flat", where="key <> 'k4'", name="s")
    assert space.record.counts == {"text": 29}
    done = db.add(xmr.Items("text", ["no vector", "one"], ["x", "y"], vectors={"clip": [None, np.ones(6)]}))
    assert (done.new, done.uncoded) == (2, {"x": "no vector 'clip'"})
    assert db.space("s").record.counts == {"text": 30}
    done = db.add(xmr.Items("text", ["no vector"], ["x"], vectors={"clip": np.ones((1, 6))}))
    assert (done.known, done.updated, done.uncoded) == (1, 1, {})
    assert db.space("s").record.counts == {"text": 31}


@pytest.mark.parametrize(
    ("vectors", "match"),
    [
        ({"clip": np.ones((1, 7))}, "vectors 'clip' of texts: expected 6 dimensions, got 7"),
        ({"clip": np.full((1, 6), np.nan)}, "1 of 1 rows hold NaN"),
        ({"clip": [[1, 2, float("inf"), 4, 5, 6]]}, "1 of 1 rows hold NaN"),
        ({"clip": np.ones((2, 6))}, "expected 1, one for each text, got 2"),
        ({"Clip B": np.ones((1, 6))}, "a name has a to z"),
        ({"a__b": np.ones((1, 6))}, "a name has a to z"),
        (np.ones((1, 6)), "expected a dict"),
    ],
)
def test_vectors_that_cannot_be_kept_are_refused(db: xmr.Library, vectors: Any, match: str) -> None:
    db.add(xmr.Items("text", CAPTIONS, vectors={"clip": IMAGES}))
    with pytest.raises(xmr.DataError, match=match):
        db.add(xmr.Items("text", ["new"], vectors=vectors))
    assert db.store.counts()["text"] == 30


def test_another_vector_of_a_known_item_is_refused(db: xmr.Library) -> None:
    given = xmr.Items("text", CAPTIONS, vectors={"clip": IMAGES})
    db.add(given)
    assert db.add(given) == xmr.Added(known=30)
    with pytest.raises(xmr.DataError, match="already there with another vector 'clip'"):
        db.add(xmr.Items("text", CAPTIONS, vectors={"clip": -IMAGES}))


def test_vectors_are_deleted_exported_and_restored(db: xmr.Library, tmp_path: Path) -> None:
    db.add(rows(a=IMAGES, b=TEXTS), vectors={"clip": ("a", "b")})
    db.delete(where="key LIKE '%' AND text = 'caption 0'")
    db.export(tmp_path / "out")
    with xmr.open(tmp_path / "again.duckdb", progress=False) as again:
        again.restore(tmp_path / "out")
        have, vectors = again.store.get_vectors("text", "clip", again.store.ids("text"))
        assert have.all()
        np.testing.assert_array_equal(vectors, TEXTS[1:])
        assert again.doctor() == []
        again.sql("DELETE FROM xmr.items WHERE text = 'caption 1'")
        lost = "1 vectors of xmr.vector_text__clip refer to an item that does not exist; repair deletes them"
        assert lost in again.doctor()


def test_the_width_need_not_be_said(db: xmr.Library) -> None:
    db.add(xmr.Pairs(xmr.Items("image", IMAGES), xmr.Items("text", IMAGES), np.stack([np.arange(30)] * 2, axis=1)))
    db.fit("precomputed >> flat", name="s")
    assert db.search(item=3, k=1).ids.tolist() == [[33]]


def test_a_fit_without_a_recipe_takes_the_vectors_that_there_are(db: xmr.Library) -> None:
    db.add(rows(a=IMAGES, b=IMAGES), vectors={"clip": ("a", "b")})
    assert db.fit(name="s").record.recipe == "precomputed(name='clip') >> flat"


def test_the_command_line_takes_columns_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from xmr_core.cli.app import app

    monkeypatch.chdir(tmp_path)
    np.save("texts.npy", TEXTS)
    Path("rows.csv").write_text("caption\n" + "\n".join(CAPTIONS) + "\n")
    run = CliRunner().invoke
    done = run(app, ["add", "c.duckdb", "rows.csv", "--vectors", "clip=,texts.npy"])
    assert done.exit_code == 0, done.output
    with xmr.open("c.duckdb", progress=False) as db:
        assert db.store.vector_widths("text") == {"clip": 4}
    assert "write NAME=IMAGES,TEXTS" in " ".join(
        run(app, ["add", "c.duckdb", "rows.csv", "--vectors", "clip"]).output.split()
    )
