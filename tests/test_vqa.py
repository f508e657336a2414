"""Readers of questions about pictures, on small files made here in their publishers' formats, and easy-VQA itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import xmr_core as xmr
from xmr_core import datasets
from xmr_core.datasets.vqa import normalised

# answers as they are compared


@pytest.mark.parametrize(
    ("written", "compared"),
    [
        ("Yes.", "yes"),
        ("The Dog", "dog"),
        ("two", "2"),
        ("none", "0"),
        ("dont know", "don't know"),
        ("Dog\u2019s", "dog's"),
        ("1,000", "1000"),
        ("red,blue", "red blue"),
        ("black/white", "black white"),
        ("2.5", "2.5"),
        ("2:50 p.m.", "2:50 pm"),
        ("the", "the"),
        ("?", "?"),
    ],
)
def test_an_answer_is_normalised_as_the_evaluation_describes(written: str, compared: str) -> None:
    assert normalised(written) == compared
    assert normalised(compared) == compared


# VQA


def vqa_files(folder: Path, missing: tuple[int, ...] = ()) -> tuple[Path, Path, Path]:
    """Three questions about COCO pictures 9 and 25, of val2014."""
    asked = [(90, 9, "Is it wet?"), (91, 9, "How many cows?"), (250, 25, "What is this?")]
    said = {90: ["yes"] * 10, 91: ["two"] * 9 + ["2"], 250: ["a cow"] * 6 + ["The bull"] * 4}
    kinds = {90: ("yes/no", "is it"), 91: ("number", "how many"), 250: ("other", "what is this")}
    questions = {
        "data_type": "mscoco",
        "data_subtype": "val2014",
        "questions": [{"question_id": key, "image_id": image, "question": text} for key, image, text in asked],
    }
    annotations = {
        "annotations": [
            {
                "question_id": key,
                "image_id": image,
                "answer_type": kinds[key][0],
                "question_type": kinds[key][1],
                "answers": [{"answer_id": i + 1, "answer": own} for i, own in enumerate(said[key])],
            }
            for key, image, _ in reversed(asked)
            if key not in missing
        ]
    }
    for name, told in (("questions.json", questions), ("annotations.json", annotations)):
        (folder / name).write_text(json.dumps(told))
    (folder / "images" / "val2014").mkdir(parents=True)
    for image in (9, 25):
        (folder / "images" / "val2014" / f"COCO_val2014_{image:012}.jpg").touch()
    return folder / "questions.json", folder / "annotations.json", folder / "images"


def test_vqa_gives_questions_with_ten_normalised_answers(tmp_path: Path) -> None:
    asked = datasets.vqa(*vqa_files(tmp_path))
    assert list(asked.texts.data) == ["Is it wet?", "How many cows?", "What is this?"]
    assert asked.image_of.tolist() == [0, 0, 1]
    assert asked.images.keys == ["COCO_val2014_000000000009.jpg", "COCO_val2014_000000000025.jpg"]
    assert asked.images.data[1] == tmp_path / "images" / "val2014" / "COCO_val2014_000000000025.jpg"
    assert asked.answers[1:] == (("2",) * 10, ("cow",) * 6 + ("bull",) * 4)
    assert asked.types == ["yes/no", "number", "other"]
    assert asked.protocol == "vqa val2014: 3 questions about 2 pictures"


def test_vqa_pictures_may_lie_in_the_folder_itself(tmp_path: Path) -> None:
    questions, annotations, images = vqa_files(tmp_path)
    assert len(datasets.vqa(questions, annotations, images / "val2014")) == 3


def test_a_vqa_test_set_has_no_answers(tmp_path: Path) -> None:
    questions, _, images = vqa_files(tmp_path)
    asked = datasets.vqa(questions, None, images)
    assert asked.answers == ((), (), ())
    assert asked.types == []


def test_missing_pictures_are_named_or_left_out(tmp_path: Path) -> None:
    questions, annotations, images = vqa_files(tmp_path)
    (images / "val2014" / "COCO_val2014_000000000009.jpg").unlink()
    with pytest.raises(xmr.DataError, match="1 pictures of 2 questions are missing: 'COCO_val2014_000000000009"):
        datasets.vqa(questions, annotations, images)
    asked = datasets.vqa(questions, annotations, images, on_error="skip")
    assert list(asked.texts.keys) == ["250"]
    assert asked.skipped["90"] == "no picture COCO_val2014_000000000009.jpg"


def test_vqa_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    questions, annotations, images = vqa_files(tmp_path, missing=(91,))
    with pytest.raises(xmr.DataError, match=r"no annotation of 1 questions .*: '91'"):
        datasets.vqa(questions, annotations, images)
    with pytest.raises(xmr.DataError, match="no questions of VQA: it has no list 'questions'"):
        datasets.vqa(annotations, None, images)
    with pytest.raises(xmr.DataError, match="no questions of VQA"):
        datasets.vqa(tmp_path / "none.json", None, images)
    with pytest.raises(xmr.DataError, match="there is no folder"):
        datasets.vqa(questions, None, tmp_path / "nowhere")
    with pytest.raises(xmr.ConfigError, match="on_error='ignore'"):
        datasets.vqa(questions, None, images, on_error="ignore")


@pytest.mark.parametrize(
    ("file", "entry"),
    [
        ("questions", "text"),
        ("questions", None),
        ("questions", {"question_id": 1, "question": "what?"}),
        ("questions", {"question_id": 1, "image_id": "nine", "question": "what?"}),
        ("questions", {"question_id": 1, "image_id": 9, "question": None}),
        ("annotations", {"answers": []}),
        ("annotations", {"question_id": 1, "answers": None}),
        ("annotations", {"question_id": 1, "answers": ["yes"]}),
        ("annotations", {"question_id": 1, "answers": [{"answer": 2}]}),
    ],
)
def test_a_damaged_entry_of_a_vqa_file_is_shown(tmp_path: Path, file: str, entry: object) -> None:
    paths = vqa_files(tmp_path)
    (tmp_path / f"{file}.json").write_text(json.dumps({file: [entry]}))
    with pytest.raises(xmr.DataError, match=f"{file}.json: no {file} of VQA: fields are missing or of another type in"):
        datasets.vqa(*paths)


def test_a_question_id_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    questions, _, images = vqa_files(tmp_path)
    told = json.loads(questions.read_text())
    questions.write_text(json.dumps(told | {"questions": told["questions"] + told["questions"][:1]}))
    with pytest.raises(xmr.DataError, match="1 ids name several questions: '90'"):
        datasets.vqa(questions, None, images)


# DAQUAR


def daquar_files(folder: Path, text: str) -> tuple[Path, Path]:
    (folder / "qa.train.txt").write_text(text)
    (folder / "pictures").mkdir()
    for number in (1, 7):
        (folder / "pictures" / f"image{number}.png").touch()
    return folder / "qa.train.txt", folder / "pictures"


def test_daquar_questions_lose_the_name_of_their_picture(tmp_path: Path) -> None:
    text = "what is on the desk in the image7 ?\nlamp, book\nhow many chairs are in the image1 ?\ntwo\n"
    asked = datasets.daquar(*daquar_files(tmp_path, text + "what is red in image7?\nsofa\n"))
    assert list(asked.texts.data) == ["what is on the desk ?", "how many chairs are ?", "what is red?"]
    assert [asked.images.keys[i] for i in asked.image_of] == ["image7.png", "image1.png", "image7.png"]
    assert asked.answers == (("book, lamp",), ("2",), ("sofa",))


def test_daquar_without_pictures_or_answers_is_refused(tmp_path: Path) -> None:
    file, images = daquar_files(tmp_path, "what is on the desk ?\nlamp\n")
    with pytest.raises(xmr.DataError, match="line 1 names no picture"):
        datasets.daquar(file, images)
    file.write_text("what is in the image7 ?\n")
    with pytest.raises(xmr.DataError, match="questions and answers in turn, got 1 lines"):
        datasets.daquar(file, images)
    file.write_text("what is in the image3 ?\nlamp\n")
    with pytest.raises(xmr.DataError, match="missing: 'image3"):
        datasets.daquar(file, images)
    with pytest.raises(xmr.DataError, match="no question remains, 1 have no picture"):
        datasets.daquar(file, images, on_error="skip")


# easy-VQA


def test_easy_vqa_is_whole() -> None:
    pytest.importorskip("easy_vqa")
    asked = datasets.easy_vqa("test")
    assert asked.protocol == "easy_vqa test: 9,673 questions about 1,000 pictures"
    assert len({human for (human,) in asked.answers}) == 13
    assert sorted(set(asked.types)) == ["colour", "shape", "yes/no"]
    assert asked.images.keys[asked.image_of[0]].startswith("test/")
    assert asked.images.data[0].exists()


def test_easy_vqa_has_two_splits() -> None:
    with pytest.raises(xmr.ConfigError, match="split='val'"):
        datasets.easy_vqa("val")


def test_easy_vqa_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "easy_vqa", None)
    with pytest.raises(xmr.PluginError, match=r"pip install 'xmr\[vqa\]'"):
        datasets.easy_vqa()
