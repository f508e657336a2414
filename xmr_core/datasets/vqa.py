"""Questions about pictures: VQA v1 and v2, DAQUAR, easy-VQA. Paths only, nothing decoded.

    questions = datasets.vqa("v2_OpenEnded_..._questions.json", "v2_mscoco_..._annotations.json", "val2014/")
    questions = datasets.daquar("qa.37.raw.train.txt", "nyu_depth_images/")
    questions = datasets.easy_vqa("train")              # from a Python package

Sources: Antol et al., ICCV 2015, and Goyal et al., CVPR 2017 (VQA); Malinowski & Fritz, NIPS 2014 (DAQUAR).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from xmr_core.datasets.reading import lines
from xmr_core.errors import ConfigError, DataError, PluginError, named
from xmr_core.types import IMAGE, TEXT, Items
from xmr_core.vqa import Questions

__all__ = ["daquar", "easy_vqa", "normalised", "vqa"]

ASK = "easy_vqa needs easy-vqa: pip install 'xmr[vqa]'"
PICTURES = ("COCO_{subset}_{image:012}.jpg", "{image:012}.jpg", "abstract_v002_{subset}_{image:012}.png")
IN_IMAGE = re.compile(r"\s*(?:(?:in|on|of|from)\s+)?(?:the\s+)?\bimage\s?(?P<number>\d+)\b")
DAQUAR_PICTURES = ("image{number}.png", "image{number}.jpg")
LONGEST = 200  # characters of a bad entry that a message repeats
SHAPES = {"circle", "rectangle", "triangle"}

NUMBERS = ["none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
DIGITS = {"zero": "0"} | {word: str(number) for number, word in enumerate(NUMBERS)}
ARTICLES = {"a", "an", "the"}
WITH_APOSTROPHE = """
    aren't can't couldn't didn't doesn't don't hadn't hasn't haven't isn't mightn't mustn't needn't shouldn't wasn't
    weren't won't wouldn't could've i've might've should've they've we've would've you've i'm they're you're he'd they'd
    who'd you'd it'll that'll they'll what'll who'll you'll he's how's she's somebody's someone's something's that's
    there's what's where's who's
    """
CONTRACTIONS = {word.replace("'", ""): word for word in WITH_APOSTROPHE.split()}
COMMA_IN_NUMBER = re.compile(r"(?<=\d),(?=\d)")
PERIOD = re.compile(r"(?<!\d)\.|\.(?!\d)")  # not the point of a decimal
PUNCTUATION = re.compile(r"[^\w\s':.]|_")


def normalised(answer: str) -> str:
    """An answer as the VQA evaluation compares it, from its published description.

    Lower case; periods gone but in decimals; commas inside numbers gone; other punctuation but apostrophes and colons
    made blanks; `none` to `ten` as digits; articles gone; apostrophes put into contractions that lack them. What would
    be left empty (`the`) stays as it is, in lower case.
    """
    text = COMMA_IN_NUMBER.sub("", answer.lower().replace("\u2019", "'"))
    words = PUNCTUATION.sub(" ", PERIOD.sub("", text)).split()
    kept = [CONTRACTIONS.get(word, DIGITS.get(word, word)) for word in words if word not in ARTICLES]
    return " ".join(kept) or " ".join(answer.lower().split())


def vqa(
    questions: str | Path, annotations: str | Path | None, images: str | Path, on_error: str = "refuse"
) -> Questions:
    """VQA v1 or v2: the file of questions, that of annotations (None for a test set), the folder of COCO pictures.

    `type` is the answer's type: yes/no, number, other; `question_type` the words a question begins with. Ten answers a
    question, normalised. Pictures missing from the folder are refused, or on_error="skip" leaves their questions out.
    Raises DataError where a file is no VQA file, or the two are of different questions.
    """
    _check_on_error(on_error)
    asked = _read(Path(questions), "questions", _is_question)
    counts = Counter(str(own["question_id"]) for own in asked["questions"])
    twice = [key for key, count in counts.items() if count > 1]
    if twice:
        raise DataError(f"{questions}: {len(twice)} ids name several questions: {named(twice)}", twice)
    told: dict[int, dict[str, Any]] = {}
    if annotations is not None:
        told = {own["question_id"]: own for own in _read(Path(annotations), "annotations", _is_note)["annotations"]}
        missing = [str(own["question_id"]) for own in asked["questions"] if own["question_id"] not in told]
        if missing:
            raise DataError(
                f"{annotations}: no annotation of {len(missing)} questions of {questions}: {named(missing)}"
            )
    subset = str(asked.get("data_subtype") or "")
    find = _Pictures(Path(images), subset)
    rows = [
        (str(own["question_id"]), str(own["question"]), find(own["image_id"]), told.get(own["question_id"], {}))
        for own in asked["questions"]
    ]
    name = f"vqa {subset}".strip()
    metadata = {
        "type": [str(note.get("answer_type", "")) for *_, note in rows],
        "question_type": [str(note.get("question_type", "")) for *_, note in rows],
    }
    answers = [[normalised(own["answer"]) for own in note.get("answers", ()) if own["answer"]] for *_, note in rows]
    return _made(name, [row[:3] for row in rows], answers, metadata if told else {}, on_error)


def daquar(file: str | Path, images: str | Path, on_error: str = "refuse") -> Questions:
    """DAQUAR: a text file of a question and its answer in turn, and the folder of pictures `image1.png`, ...

    `what is on the desk in the image7 ?` becomes `what is on the desk ?`. An answer of several things, `book, lamp`, is
    one answer, its parts in alphabetical order. Raises DataError where a question names no picture.
    """
    _check_on_error(on_error)
    text = lines(Path(file))
    if len(text) % 2:
        raise DataError(f"{file}: expected questions and answers in turn, got {len(text)} lines")
    find = _Pictures(Path(images), "", DAQUAR_PICTURES)
    rows, answers = [], []
    for number, (question, answer) in enumerate(zip(text[::2], text[1::2], strict=True)):
        named_pictures = list(IN_IMAGE.finditer(question))
        if not named_pictures:
            raise DataError(f"{file}: line {2 * number + 1} names no picture, like image7: {question!r}")
        place = named_pictures[-1]
        asked = f"{question[: place.start()]}{question[place.end() :]}".strip()
        rows.append((str(number), asked, find(int(place["number"]))))
        parts = sorted(normalised(part) for part in answer.split(",") if part.strip())
        answers.append([", ".join(parts)] if parts else [])
    return _made(f"daquar {Path(file).stem}", rows, answers, {}, on_error)


def easy_vqa(split: str = "train") -> Questions:
    """easy-VQA: coloured shapes on 64 x 64 pixels, in 5,000 pictures and 48,248 questions, one answer each of 13.

    `split` is `train` (4,000 pictures) or `test` (1,000); `type` is yes/no, shape or colour. It comes with a Python
    package; raises PluginError where that is missing.
    """
    if split not in ("train", "test"):
        raise ConfigError("split", split, "must be 'train' or 'test'")
    try:
        folder = Path(str(resources.files("easy_vqa"))) / "data" / split
        asked = json.loads((folder / "questions.json").read_text(encoding="utf-8"))
    except (ImportError, FileNotFoundError):
        raise PluginError(ASK) from None
    rows = [
        (f"{split}/{place}", question, (f"{split}/{image}", folder / "images" / f"{image}.png"))
        for place, (question, _, image) in enumerate(asked)
    ]
    types = ["yes/no" if own in ("yes", "no") else "shape" if own in SHAPES else "colour" for _, own, _ in asked]
    return _made(f"easy_vqa {split}", rows, [[own] for _, own, _ in asked], {"type": types}, "refuse")


class _Pictures:
    """Key and path of a picture by its number: the first of these file names that is in the folder, looked up once."""

    def __init__(self, folder: Path, subset: str, names: Sequence[str] = PICTURES) -> None:
        if not folder.is_dir():
            raise DataError(f"there is no folder {str(folder)!r} of pictures")
        self.folder = folder / subset if subset and (folder / subset).is_dir() else folder
        self.subset, self.names = subset, names
        self.there = {path.name for path in self.folder.iterdir()}

    def __call__(self, number: int) -> tuple[str, Path | None]:
        names = [name.format(subset=self.subset, image=int(number), number=number) for name in self.names]
        found = next((name for name in names if name in self.there), None)
        return (found, self.folder / found) if found else (names[0], None)


def _is_question(own: Any) -> bool:
    return (
        isinstance(own, dict)
        and isinstance(own.get("question_id"), (int, str))
        and isinstance(own.get("image_id"), int)
        and isinstance(own.get("question"), str)
    )


def _is_note(own: Any) -> bool:
    return (
        isinstance(own, dict)
        and isinstance(own.get("question_id"), (int, str))
        and isinstance(own.get("answers", []), list)
        and all(isinstance(said, dict) and isinstance(said.get("answer"), str) for said in own.get("answers", ()))
    )


def _read(file: Path, what: str, fits: Callable[[Any], bool]) -> dict[str, Any]:
    """The JSON of a VQA file, which has a list of this name, whose entries all fit. Raises DataError."""
    try:
        told = json.loads(file.read_text(encoding="utf-8-sig"))
        if isinstance(told, dict) and isinstance(told.get(what), list):
            bad = [own for own in told[what] if not fits(own)]
            if not bad:
                return told
            problem = f"fields are missing or of another type in {str(bad[0])[:LONGEST]}"
        else:
            problem = f"it has no list {what!r}"
    except (OSError, ValueError) as error:
        problem = str(error)
    raise DataError(f"{file}: no {what} of VQA: {problem}")


def _check_on_error(on_error: str) -> None:
    if on_error not in ("refuse", "skip"):
        raise ConfigError("on_error", on_error, "must be 'refuse' or 'skip'")


def _made(
    name: str,
    rows: Sequence[tuple[str, str, tuple[str, Path | None]]],
    answers: Sequence[Sequence[str]],
    metadata: Mapping[str, Sequence[str]],
    on_error: str,
) -> Questions:
    """Questions of rows (key, question, (picture's key, path)); those without a picture are refused, or left out."""
    lost = {key: f"no picture {picture}" for key, _, (picture, path) in rows if path is None}
    if lost and on_error == "refuse":
        pictures = dict.fromkeys(picture for _, _, (picture, path) in rows if path is None)
        raise DataError(
            f"{name}: {len(pictures)} pictures of {len(lost)} questions are missing: {named(list(pictures))}; "
            "on_error='skip' leaves these questions out",
            list(lost),
        )
    kept = [place for place, row in enumerate(rows) if row[0] not in lost]
    if not kept:
        raise DataError(f"{name}: no question remains{f', {len(lost)} have no picture' if lost else ''}")
    pictures = {rows[place][2][0]: rows[place][2][1] for place in kept}  # in the order of the questions
    places = {key: i for i, key in enumerate(pictures)}
    columns = {column: _at(values, kept) for column, values in metadata.items()}
    texts = Items(TEXT, [rows[i][1] for i in kept], [rows[i][0] for i in kept], metadata=columns)
    return Questions(
        Items(IMAGE, list(pictures.values()), list(pictures)),
        texts,
        np.array([places[rows[i][2][0]] for i in kept], np.int64),
        _at(answers, kept),
        name,
        f"{name}: {len(kept):,} questions about {len(pictures):,} pictures",
        lost,
    )


def _at(values: Sequence[Any], places: Iterable[int]) -> list[Any]:
    return [values[place] for place in places]
