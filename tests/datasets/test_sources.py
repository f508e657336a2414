"""Anything in: folders, tar files, COCO captions, data frames, rows in memory; each says what is wrong with it."""

from __future__ import annotations

import datetime
import decimal
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import feather, parquet

import xmr_core as xmr
from xmr_core import DataError
from xmr_core.datasets import Dataset, flickr8k, flickr30k, load, records, table
from xmr_core.datasets.reading import shared_split


def png(colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three images."""
    for name in ("a.png", "b.png", "sub/c.png"):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png())
    return tmp_path / "photos"


def loaded(source: object, **options: Any) -> Dataset:
    made = load(source, **options)
    assert isinstance(made, Dataset)
    return made


def captions(made: Dataset) -> list[tuple[str, str]]:
    """Key of the image and text, of every pair."""
    return [(made.images.keys[i], made.texts.data[j]) for i, j in made.links.tolist()]


# folders


def test_a_bare_folder_is_its_images_by_their_paths(photos: Path) -> None:
    made = loaded(photos)
    assert made.images.keys == ["a.png", "b.png", "sub/c.png"]
    assert len(made.texts) == 0


def test_a_folder_that_goes_while_it_is_read_is_told(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(self: Path, pattern: str) -> Iterator[Path]:
        yield photos / "a.png"
        raise FileNotFoundError(2, "No such file or directory", "/proc/27244")

    monkeypatch.setattr(Path, "rglob", gone)
    with pytest.raises(DataError, match=r"cannot be read: .*/proc/27244"):
        load(photos)


def test_a_text_file_beside_an_image_holds_its_captions(photos: Path) -> None:
    (photos / "a.txt").write_text("a red square\nall red\n")
    assert captions(loaded(photos)) == [("a.png", "a red square"), ("a.png", "all red")]


def test_a_folder_a_class_gives_labels(tmp_path: Path) -> None:
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(png())
    made = loaded(tmp_path / "set")
    assert made.label_names == ("cat", "dog")
    assert made.images.labels is not None
    assert made.images.labels.tolist() == [[1, 0], [1, 0], [0, 1]]
    assert made.images.metadata["label"] == ["cat", "cat", "dog"]


def test_a_table_of_captions_in_the_folder_is_read(photos: Path) -> None:
    (photos / "captions.csv").write_text("file_name,caption\na.png,one\nsub/c.png,two\n")
    assert captions(loaded(photos)) == [("a.png", "one"), ("sub/c.png", "two")]


def test_what_a_mac_leaves_in_a_folder_is_not_an_image(photos: Path) -> None:
    (photos / "._a.png").write_bytes(b"\0\5\26\7")
    (photos / "__MACOSX").mkdir()
    (photos / "__MACOSX" / "a.png").write_bytes(b"")
    assert loaded(photos).images.keys == ["a.png", "b.png", "sub/c.png"]


def test_a_folder_without_images_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="fits no reader"):
        load(tmp_path)


# files


def test_coco_captions_are_read_with_images_that_have_none(photos: Path) -> None:
    told = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "b.png"}],
        "annotations": [{"image_id": 7, "caption": "one"}, {"image_id": 7, "caption": "two"}],
    }
    (photos / "coco.json").write_text(json.dumps(told), encoding="utf-8-sig")
    made = loaded(photos / "coco.json")
    assert captions(made) == [("a.png", "one"), ("a.png", "two")]
    assert made.images.keys == ["a.png", "b.png"]


def test_shards_of_webdataset_are_read_without_unpacking(tmp_path: Path) -> None:
    files = {
        "0001.png": png(),
        "0001.txt": b"a red square",
        "0001.json": b'{"width": 8, "tags": ["x"]}',
        "0002.png": png("blue"),
        "0002.txt": b"a blue one",
    }
    with tarfile.open(tmp_path / "shard-0.tar", "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    made = loaded(str(tmp_path / "shard-*.tar"))
    assert captions(made) == [("0001", "a red square"), ("0002", "a blue one")]
    assert made.images.data == [png(), png("blue")]
    assert made.images.metadata["width"] == [8, None]


def test_parquet_arrow_json_and_json_lines_say_the_same(photos: Path) -> None:
    rows = [{"image": "a.png", "text": "one", "n": 1}, {"image": "b.png", "text": "two", "n": 2}]
    parquet.write_table(pa.Table.from_pylist(rows), photos / "t.parquet")
    feather.write_feather(pa.Table.from_pylist(rows), str(photos / "t.arrow"))
    (photos / "t.json").write_text(json.dumps(rows))
    (photos / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for suffix in ("parquet", "arrow", "json", "jsonl"):
        made = loaded(photos / f"t.{suffix}")
        assert captions(made) == [("a.png", "one"), ("b.png", "two")], suffix
        assert made.texts.metadata["n"] == [1, 2]


def test_a_pattern_reads_all_files_that_match(photos: Path) -> None:
    for name, image in (("part1.csv", "a.png"), ("part2.csv", "b.png")):
        (photos / name).write_text(f"image,text\n{image},of {name}\n")
    assert captions(table(photos / "part*.csv")) == [("a.png", "of part1.csv"), ("b.png", "of part2.csv")]


def test_embedded_images_are_their_bytes_under_their_names(tmp_path: Path) -> None:
    rows = [{"image": {"bytes": png(), "path": "a.png"}, "text": "one"}]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    made = loaded(tmp_path / "t.parquet")
    assert made.images.data == [png()]
    assert captions(made) == [("a.png", "one")]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('image,text\na.png,"never closed\nb.png,x\n', r"t\.csv: line 2: a quote is opened and not closed"),
        ('image,text\na.png,x\nb.png,"x"y\n', r"t\.csv: line 3: a quote .* closed too early"),
        ("image,text\na.png,x\nb.png\n", "row 2 has 1 fields, the header 2"),
        ("image,text\na.png,x\nb.png,y,z\n", "row 2 has 3 fields, the header 2"),
    ],
)
def test_a_broken_row_is_named_and_none_is_swallowed(photos: Path, content: str, complaint: str) -> None:
    (photos / "t.csv").write_text(content)
    with pytest.raises(DataError, match=complaint):
        table(photos / "t.csv")


def test_columns_of_a_csv_have_the_type_of_all_their_values(photos: Path) -> None:
    (photos / "t.csv").write_text(
        "image,text,post,code,long,share,day,time\n"
        "a.png,x,1294030472427835393,007,12345678901234567890,1.5,2020-01-02,2020-01-02 10:00:00\n"
        "b.png,y,2,008,1,2,2020-01-03,2020-01-03T11:30:00\n"
    )
    told = table(photos / "t.csv").texts.metadata
    assert told["post"] == [1294030472427835393, 2]
    assert told["code"] == ["007", "008"]
    assert told["long"] == ["12345678901234567890", "1"]
    assert told["share"] == [1.5, 2.0]
    assert told["day"] == [datetime.date(2020, 1, 2), datetime.date(2020, 1, 3)]
    assert told["time"][1] == datetime.datetime(2020, 1, 3, 11, 30)


def test_semicolons_divide_fields_where_the_header_has_them(photos: Path) -> None:
    (photos / "t.csv").write_text('image;text\na.png;"a, b; c"\n')
    assert captions(table(photos / "t.csv")) == [("a.png", "a, b; c")]


def test_an_address_on_the_network_is_not_asked_for() -> None:
    with pytest.raises(DataError, match="there is no file or folder"):
        load("http://localhost:9/captions.csv")


# rows in memory

ROWS = {"path": ["a.png", "b.png"], "caption": ["one", "two"], "year": [1999, 2000]}


@pytest.mark.parametrize(
    "source",
    [
        ROWS,
        [dict(zip(ROWS, values, strict=True)) for values in zip(*ROWS.values(), strict=True)],
        (dict(zip(ROWS, values, strict=True)) for values in zip(*ROWS.values(), strict=True)),
        pa.table(ROWS),
        pa.table(ROWS).to_batches()[0],
        pa.table(ROWS).to_reader(),
    ],
    ids=["columns", "dicts", "generator", "table", "batch", "reader"],
)
def test_rows_in_memory_are_rows(photos: Path, source: object) -> None:
    made = loaded(source, folder=photos)
    assert captions(made) == [("a.png", "one"), ("b.png", "two")]
    assert made.texts.metadata["year"] == [1999, 2000]


def test_a_duckdb_relation_is_rows(photos: Path) -> None:
    made = loaded(duckdb.sql("SELECT 'a.png' AS image, 'one' AS text, 1.5::DECIMAL(4, 2) AS price"), folder=photos)
    assert captions(made) == [("a.png", "one")]
    assert made.texts.metadata["price"] == [decimal.Decimal("1.50")]


def test_a_data_frame_is_rows_and_what_it_lacks_is_missing(photos: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {**ROWS, "who": ["Ann", float("nan")], "day": [pandas.NaT, pandas.Timestamp("2020-01-02")]}
    )
    made = loaded(frame, folder=photos)
    assert captions(made) == [("a.png", "one"), ("b.png", "two")]
    assert made.texts.metadata["who"] == ["Ann", None]
    assert made.texts.metadata["day"][0] is None


def test_a_polars_frame_is_rows_and_keeps_its_types(photos: Path) -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(
        {**ROWS, "who": ["Ann", None], "day": [None, datetime.date(2020, 1, 2)], "clip": [[1.0, 0.0], [0.0, 1.0]]},
        schema_overrides={"clip": polars.Array(polars.Float32, 2)},
    )
    made = loaded(frame, folder=photos, vectors={"clip": ("clip", None)})
    assert captions(made) == [("a.png", "one"), ("b.png", "two")]
    assert made.texts.metadata["year"] == [1999, 2000]
    assert made.texts.metadata["who"] == ["Ann", None]
    assert made.texts.metadata["day"] == [None, datetime.date(2020, 1, 2)]
    assert made.images.vectors["clip"].tolist() == [[1, 0], [0, 1]]


def test_a_lazy_polars_frame_is_collected(photos: Path) -> None:
    polars = pytest.importorskip("polars")
    made = loaded(polars.DataFrame(ROWS).lazy(), folder=photos)
    assert captions(made) == [("a.png", "one"), ("b.png", "two")]


class Faces:
    """What a dataset of Hugging Face looks like from outside."""

    column_names = ("image", "caption")

    def with_format(self, kind: str) -> Faces:
        assert kind == "arrow"
        return self

    def __getitem__(self, rows: slice) -> pa.Table:
        return pa.Table.from_pylist([{"image": {"bytes": png(), "path": None}, "caption": ["one", "two"]}])


def test_a_dataset_of_hugging_face_is_rows_with_lists_of_captions() -> None:
    made = loaded(Faces())
    digest = hashlib.sha256(png()).hexdigest()[:16]
    assert captions(made) == [(digest, "one"), (digest, "two")]


def test_the_splits_of_a_dataset_dict_become_a_column() -> None:
    class Captions(Faces):
        def __getitem__(self, rows: slice) -> pa.Table:
            image = {"bytes": png("blue"), "path": None}
            return pa.Table.from_pylist([{"image": image, "caption": ["three"], "year": 1999}])

    made = loaded({"train": Faces(), "test": Captions()})
    assert made.texts.data == ["one", "two", "three"]
    assert made.texts.metadata["split"] == ["train", "train", "test"]
    assert made.texts.metadata["year"] == [None, None, 1999]


@pytest.mark.parametrize("nothing", [[], iter(())], ids=["list", "generator"])
def test_no_rows_are_refused(nothing: object) -> None:
    with pytest.raises(DataError, match="there is nothing to add"):
        load(nothing)


def test_texts_alone_and_images_alone_are_enough(photos: Path) -> None:
    texts = loaded([{"text": "one"}, {"text": "two"}])
    assert (len(texts.images), texts.texts.data) == (0, ["one", "two"])
    images = loaded([{"image": "a.png"}], folder=photos)
    assert (len(images.images), len(images.texts)) == (1, 0)


def test_a_second_batch_about_the_same_image_has_keys_of_its_own(photos: Path) -> None:
    first, second = (loaded([{"image": "a.png", "text": text}], folder=photos) for text in ("one", "two"))
    assert first.images.keys == second.images.keys
    assert first.texts.keys != second.texts.keys


def test_rows_that_are_no_dicts_are_refused_by_number() -> None:
    with pytest.raises(DataError, match="row 1: expected a dict of columns, got str"):
        load([{"text": "x"}, "y"])


def test_a_column_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(DataError, match="rows has no column 'photo'; it has text"):
        load([{"text": "x"}], image="photo")


# splits


def test_a_split_keeps_what_belongs_together_in_one_part() -> None:
    rows = [
        {"image": png(colour), "text": f"{colour} {i}"} for colour in ("red", "green", "blue", "white") for i in "ab"
    ]
    made = records(rows, split=0.25)
    parts = dict(zip(made.images.keys, made.images.metadata["split"], strict=True))
    assert sorted(parts.values()) == ["test", "train", "train", "train"]
    assert all(parts[made.images.keys[i]] == made.texts.metadata["split"][j] for i, j in made.links.tolist())
    assert made.images.metadata == records(rows, split=0.25).images.metadata
    assert "sha256" in made.protocol


def test_a_split_has_the_shares_that_are_asked_for() -> None:
    images, texts = xmr.Items("image", np.ones((100, 2))), xmr.Items("text", np.ones((100, 2)))
    links = np.stack([np.arange(100)] * 2, axis=1)
    split = shared_split(images, texts, links, {"val": 0.1, "test": 0.2})[0].metadata["split"]
    assert {part: list(split).count(part) for part in set(split)} == {"train": 70, "val": 10, "test": 20}
    with pytest.raises(xmr.ConfigError, match="between 0 and 1"):
        shared_split(images, texts, links, 1.5)


# publishers' files as mirrors mangle them


def test_commas_without_quotes_stay_in_their_sentence(tmp_path: Path) -> None:
    (tmp_path / "Images").mkdir()
    (tmp_path / "Images" / "a.jpg").write_bytes(b"")
    (tmp_path / "Images" / "._a.jpg").write_bytes(b"")
    (tmp_path / "captions.txt").write_text("image,caption\na.jpg,A man, in a blue shirt, is standing.\n")
    made = flickr8k(tmp_path)
    assert made.texts.data == ["A man, in a blue shirt, is standing."]
    assert made.images.keys == ["a.jpg"]


def test_a_split_with_a_byte_order_mark_is_read_and_a_broken_one_named(tmp_path: Path) -> None:
    (tmp_path / "Images").mkdir()
    (tmp_path / "Images" / "a.jpg").write_bytes(b"")
    (tmp_path / "captions.txt").write_text("image,caption\na.jpg,one\n")
    split = tmp_path / "dataset_flickr30k.json"
    split.write_text(json.dumps({"images": [{"filename": "a.jpg", "split": "test"}]}), encoding="utf-8-sig")
    assert flickr30k(tmp_path).images.metadata["split"] == ["test"]
    split.write_text("{")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        flickr30k(tmp_path)
    split.write_text("{}")
    with pytest.raises(DataError, match="expected images with filename and split"):
        flickr30k(tmp_path)


# in a library


@pytest.fixture
def db(tmp_path: Path) -> Iterator[xmr.Library]:
    with xmr.open(tmp_path / "sources.duckdb", progress=False) as library:
        yield library


def test_a_library_takes_a_file_a_folder_and_rows(db: xmr.Library, photos: Path) -> None:
    (photos.parent / "captions.csv").write_text("image,text\nphotos/a.png,one\n")
    assert db.add(photos.parent / "captions.csv").new == 2
    assert db.add([{"text": "two"}, {"text": "three"}]).new == 2
    assert db.add({"image": ["b.png"]}, folder=photos).new == 1
    assert db.store.counts() == {"image": 2, "text": 3, "pairs": 1, "labels": 0}
    assert db.add(photos.parent / "captions.csv").new == 0


def test_a_second_batch_does_not_collide_with_the_first(db: xmr.Library) -> None:
    assert db.add(xmr.Items("text", ["one", "two"])).new == 2
    assert db.add(xmr.Items("text", ["three", "one"])) == xmr.Added(new=1, known=1)
    keys = db.store.describe(np.arange(3))["key"]
    assert keys == [hashlib.sha256(text.encode()).hexdigest()[:16] for text in ("one", "two", "three")]


def test_a_column_called_key_holds_the_keys(db: xmr.Library) -> None:
    db.add([{"key": "first", "text": "one"}, {"key": "second", "text": "two"}])
    assert db.store.describe(np.arange(2))["key"] == ["first", "second"]


def test_the_key_of_an_image_is_its_path(db: xmr.Library, photos: Path) -> None:
    db.add(xmr.Items("image", [photos / "a.png", photos / "b.png"]))
    assert db.store.describe(np.arange(2))["key"] == [str(photos / "a.png"), str(photos / "b.png")]


def test_a_bad_row_names_its_file(db: xmr.Library, photos: Path) -> None:
    (photos / "b.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"1 of these images cannot be used: 'b.png'"):
        db.add(photos)
    assert db.add(photos, on_error="skip").skipped == {"b.png": "not an image in a known format"}


def test_options_that_nothing_takes_are_refused(db: xmr.Library, photos: Path) -> None:
    with pytest.raises(xmr.ConfigError, match="colour"):
        db.add(photos, colour="red")
    with pytest.raises(DataError, match="name columns"):
        db.add(xmr.Items("text", ["x"]), text="caption")
    with pytest.raises(DataError, match="expected rows"):
        db.add(3.5)  # type: ignore[arg-type]  # what is refused


# words that nobody knows


@pytest.fixture
def chinese(db: xmr.Library, photos: Path) -> xmr.Library:
    """Six images with captions in Chinese, in a space that learned their words."""
    said = [
        "一只狗在草地上奔跑",
        "一只猫坐在椅子上",
        "一个男人骑着自行车",
        "一只狗在水里游泳",
        "两只猫在床上睡觉",
        "红色的汽车",
    ]
    rows = [
        {"image": {"bytes": png(f"#0{i}{i}{i}00"[:7]), "path": f"{i}.png"}, "text": text} for i, text in enumerate(said)
    ]
    db.add(rows)
    db.fit("bow >> flat", name="words")
    return db


def test_captions_in_chinese_are_added_fitted_and_searched(chinese: xmr.Library) -> None:
    found = chinese.search(text="狗", k=2, modality="text")
    assert {hit.data for hit in found} == {"一只狗在草地上奔跑", "一只狗在水里游泳"}


def test_words_that_the_space_does_not_know_are_named(chinese: xmr.Library) -> None:
    assert chinese.search(text="一只狗 zzz", k=1, modality="text").unknown_words == [["zzz"]]
    assert chinese.search(text=["狗", "猫"], k=1, modality="text").unknown_words == [[], []]


def test_a_query_without_a_known_word_is_refused(chinese: xmr.Library) -> None:
    with pytest.raises(DataError, match=r"1 of 2 texts have no word that the space knows \(zzz, qqq\)"):
        chinese.search(text=["狗", "zzz qqq"], k=1)
    with pytest.raises(DataError, match=r"no word that the space knows \(there is none\)"):
        chinese.search(text="?!", k=1)


def test_texts_alone_are_read_as_rows_of_any_kind_are() -> None:
    plain = records({"text": ["a dog", "a cat", "a dog", " "]}, on_error="skip")
    mixed = records({"text": ["a dog", "a cat", ["a dog"], " "]}, on_error="skip")  # the general way
    assert list(plain.texts.data) == list(mixed.texts.data) == ["a dog", "a cat"]
    assert list(plain.texts.keys) == list(mixed.texts.keys)
    assert plain.skipped == mixed.skipped


def test_vectors_of_an_arrow_table_are_not_copied() -> None:
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    table = pa.table(
        {"text": ["a", "b", "c", "d"], "clip": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 3)}
    )
    vectors = loaded(table, vectors={"clip": (None, "clip")}).texts.vectors["clip"]
    assert np.shares_memory(vectors, values)
    assert (
        loaded(pa.concat_tables([table, table.slice(1, 2)]), vectors={"clip": (None, "clip")})
        .texts.vectors["clip"]
        .tolist()
        == values.tolist()
    )
