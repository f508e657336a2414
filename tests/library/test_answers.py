"""Questions about pictures: what they may be, how right an answer is, and answerers in a library."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.library import Library
from xmr_core.recipes import as_pipeline
from xmr_core.testing import conformance
from xmr_core.vqa import accuracies, frequent_answers

COLOURS = ["red", "green", "blue", "white"]
ASKED = ["what colour is this?", "say its colour"]

pytestmark = pytest.mark.usefixtures("toy")


def questions(pictures: list[Path], answers: list[list[str]] | None = None) -> xmr.Questions:
    """Two questions a picture."""
    texts = xmr.Items(xmr.TEXT, ASKED * len(pictures), metadata={"type": ["what", "say"] * len(pictures)})
    said = answers or [[colour] for colour in COLOURS for _ in ASKED]
    image_of = np.repeat(np.arange(len(pictures)), 2)
    return xmr.Questions(xmr.Items(xmr.IMAGE, pictures, COLOURS[: len(pictures)]), texts, image_of, said, "colours")


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Library]:
    with xmr.open(tmp_path / "asked.duckdb", progress=False) as opened:
        yield opened


@pytest.fixture
def learnt(db: Library, pictures: list[Path]) -> Library:
    db.learn("guess", questions(pictures))
    return db


# the contract


def broken(flaw: str) -> type[xmr.Answerer]:
    """The toy answerer with one fault."""
    from xmr_toy import Guess

    class Flawed(Guess):
        def answer(self, questions: xmr.QuestionFeatures) -> NDArray[np.float32]:
            probabilities = super().answer(questions)
            if flaw == "sums":
                return probabilities * np.float32(0.9)
            if flaw == "batch":
                probabilities[0] = probabilities[0, ::-1].copy()
            return np.float64(probabilities) if flaw == "dtype" else probabilities

        @staticmethod
        def _alike(features: xmr.Features) -> NDArray[np.float32]:
            if flaw != "padding":
                return Guess._alike(features)
            n, t = features.values.shape[:2]
            return np.full((n, 1, t), 1 / t, np.float32)

    return Flawed


def law(component: type[xmr.Answerer], name: str) -> None:
    getattr(conformance("answerer", component)(), f"test_{name}")()


LAWS = {
    "sums": "probabilities_are_a_row_a_question_and_sum_to_one",
    "dtype": "probabilities_are_a_row_a_question_and_sum_to_one",
    "batch": "a_row_does_not_depend_on_its_batch",
    "padding": "padding_changes_nothing",
}


@pytest.mark.parametrize("flaw", LAWS)
def test_a_broken_contract_is_noticed(flaw: str) -> None:
    with pytest.raises(AssertionError):
        law(broken(flaw), LAWS[flaw])
    law(broken("nothing"), LAWS[flaw])


def test_attention_to_padding_is_noticed() -> None:
    with pytest.raises(AssertionError, match="padding gets attention"):
        law(broken("padding"), "attention_sums_to_one_and_leaves_padding_out")


# values


def test_questions_know_their_pictures(pictures: list[Path]) -> None:
    asked = questions(pictures)
    some = asked.take(np.array([7, 2, 6]))
    assert [some.images.keys[i] for i in some.image_of] == ["white", "green", "white"]
    assert some.answers == (("white",), ("green",), ("white",))
    assert asked.pairs.links.tolist() == [[i // 2, i] for i in range(8)]
    assert asked.types[:2] == ["what", "say"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_of": [0, 9]}, "must lie in 0..0"),
        ({"image_of": [0]}, "expected 2 whole numbers"),
        ({"answers": [["red"]]}, "expected 2, the answers of each question, got 1"),
        ({"answers": ["red", "blue"]}, "expected a list of texts, got 'red'"),
        ({"answers": [["red"], [""]]}, "answers of question '1'"),
    ],
)
def test_questions_that_cannot_be_say_so(change: dict[str, object], message: str) -> None:
    given = {"image_of": [0, 0], "answers": [["red"], []]} | change
    with pytest.raises(xmr.DataError, match=message):
        xmr.Questions(xmr.Items(xmr.IMAGE, ["a.png"]), xmr.Items(xmr.TEXT, ASKED), **given)  # type: ignore[arg-type]


# accuracy


def by_subsets(given: str, human: list[str]) -> float:
    """The definition, plainly: the mean over all ways to leave one person out of min(agreeing / 3, 1)."""
    subsets = [human[:i] + human[i + 1 :] for i in range(len(human))]
    return float(np.mean([min(subset.count(given) / min(3, len(subset)), 1) for subset in subsets]))


@pytest.mark.parametrize("people", [2, 3, 4, 10])
def test_accuracy_is_the_mean_over_all_who_may_be_left_out(people: int) -> None:
    for agreeing in range(people + 1):
        human = ["yes"] * agreeing + ["no"] * (people - agreeing)
        assert accuracies(["yes"], [human])[0] == pytest.approx(by_subsets("yes", human))


def test_ten_people_make_the_official_figures() -> None:
    human = [["yes"] * agreeing + ["no"] * (10 - agreeing) for agreeing in (0, 1, 2, 3, 4, 10)]
    assert accuracies(["yes"] * 6, human).tolist() == pytest.approx([0, 0.3, 0.6, 0.9, 1, 1])


def test_one_human_answer_is_right_or_wrong() -> None:
    assert accuracies(["red", "red"], [["red"], ["blue"]]).tolist() == [1, 0]


def test_a_question_without_an_answer_has_no_accuracy() -> None:
    with pytest.raises(xmr.DataError, match="1 of 2 questions have no answer"):
        accuracies(["a", "a"], [["a"], []])
    with pytest.raises(xmr.DataError, match="1 answers are given to 2 questions"):
        accuracies(["a"], [["a"], ["b"]])


def test_frequent_answers_are_the_commonest_of_most_questions() -> None:
    human = [["b", "a", "a"], ["a"], ["b", "b", "c"], ["c"], []]
    assert frequent_answers(human, 2) == ["a", "b"]


# a library


def test_a_picture_and_a_question_give_ranked_answers(learnt: Library, pictures: list[Path]) -> None:
    given = learnt.answer(pictures[2], "what colour is this?", k=3)
    assert given.best == ["blue"]
    assert given[0].text == "blue"
    assert len(given) == 3
    probabilities = [one.probability for one in given]
    assert probabilities == sorted(probabilities, reverse=True)
    assert "blue" in repr(given)


def test_attention_comes_with_its_words(learnt: Library, pictures: list[Path]) -> None:
    given = learnt.answer(pictures[0], ["what colour is this?", "say its shade"])
    seen, read = given.attention[1]
    assert given.unknown == [[], ["shade"]]
    assert seen.maps.tolist() == [[[0.25, 0.25], [0.25, 0.25]]]
    assert read.tokens == ("say", "its", "shade")
    assert read.weights[0].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3])


def test_attention_can_be_drawn(learnt: Library, pictures: list[Path], tmp_path: Path) -> None:
    learnt.answer(pictures[0], "what colour is this?").draw(tmp_path / "seen.png")
    assert (tmp_path / "seen.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(xmr.DataError, match="expected a question from 0 to 0, got 5"):
        learnt.answer(pictures[0], "what colour is this?").draw(question=5)


def test_pictures_may_be_given_in_any_way_and_stored(learnt: Library, pictures: list[Path]) -> None:
    from PIL import Image

    learnt.add(xmr.Items(xmr.IMAGE, pictures, COLOURS))
    green = learnt.store.match(xmr.IMAGE, ["green"])[0]
    array = np.full((4, 4, 3), (0, 255, 0), np.uint8)
    for way in (str(pictures[1]), pictures[1].read_bytes(), Image.open(pictures[1]), array):
        assert learnt.answer(way, "say its colour").best == ["green"]
    given = learnt.answer(item=int(green[0]), question="say its colour")
    assert given.best == ["green"]
    assert given.attention[0][0].id == green[0]


def test_lists_are_answered_in_turn(learnt: Library, pictures: list[Path]) -> None:
    assert learnt.answer(pictures, "say its colour").best == COLOURS
    assert learnt.answer(pictures[:2], ASKED).best == COLOURS[:2]
    assert [one.question for one in learnt.answer(pictures[0], ASKED, k=1)] == [0, 1]
    assert learnt.answer(pictures, "say its colour").of(3)[0] == learnt.answer(pictures, "say its colour", k=1)[3]


def test_a_new_process_answers_alike(learnt: Library, pictures: list[Path], tmp_path: Path) -> None:
    before = learnt.answer(pictures, "say its colour").probabilities
    learnt.close()
    with xmr.open(tmp_path / "asked.duckdb", read_only=True) as again:
        np.testing.assert_array_equal(again.answer(pictures, "say its colour").probabilities, before)
        with pytest.raises(xmr.StorageError, match="open for reading only"):
            again.learn("guess", questions(pictures))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "give image, or item"),
        ({"image": "red.png", "question": " "}, "question: empty text"),
        ({"image": "red.png", "question": ["say", ""]}, "question 1: empty text"),
        ({"image": "nowhere.png", "question": "say its colour"}, "'nowhere.png': no such file"),
        ({"image": "red.png", "question": "wie heißt das?"}, "none of the words of 'wie heißt das.' is known"),
        ({"image": ["red.png"] * 3, "question": ASKED}, "3 pictures and 2 questions"),
        ({"image": [], "question": ASKED}, "0 pictures"),
        ({"item": 99, "question": "say its colour"}, "item=99: no picture"),
    ],
)
def test_a_question_that_cannot_be_answered_says_so(
    learnt: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, object], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(xmr.DataError, match=message):
        learnt.answer(**asked)  # type: ignore[arg-type]


def test_names_and_numbers_are_checked(learnt: Library, pictures: list[Path]) -> None:
    with pytest.raises(xmr.StorageError, match="no answerer 'other'; there are answers"):
        learnt.answer(pictures[0], "say its colour", name="other")
    with pytest.raises(xmr.ConfigError, match="k=0"):
        learnt.answer(pictures[0], "say its colour", k=0)
    with pytest.raises(xmr.ConfigError, match="name='A b'"):
        learnt.learn("guess", questions(pictures), name="A b")
    learnt.learn("guess", questions(pictures), name="more")
    with pytest.raises(xmr.DataError, match="which answerer\\? there are answers, more"):
        learnt.answer(pictures[0], "say its colour")


def test_without_an_answerer_one_is_asked_for(db: Library, pictures: list[Path]) -> None:
    with pytest.raises(xmr.DataError, match="no answerer yet: learn one first"):
        db.answer(pictures[0], "say its colour")


@pytest.mark.parametrize(
    ("recipe", "error", "message"),
    [
        ("gues", xmr.UnknownComponentError, "did you mean 'guess'"),
        ("toy >> guess", xmr.ConfigError, "guess takes regions for images, toy gives vector"),
        ("toy >> gaze >> guess", xmr.ConfigError, "expected an encoder and an answerer"),
        ("guess >> flat", xmr.UnknownComponentError, "no answerer 'flat'"),
    ],
)
def test_a_recipe_that_cannot_answer_says_why(recipe: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        as_pipeline(recipe, "answerer")


def test_an_answerer_ends_a_pipeline_and_gives_nothing_to_index() -> None:
    with pytest.raises(xmr.ConfigError, match="'guess' answers questions and gives nothing to index"):
        xmr.Pipeline.parse("guess >> flat")
    with pytest.raises(xmr.ConfigError, match=r"'guess' answers questions and makes no codes: Library\.learn takes"):
        as_pipeline("guess")
    with pytest.raises(xmr.ConfigError, match=r"'flat' makes codes and answers no questions: Library\.fit takes"):
        as_pipeline(xmr.Pipeline.parse("flat"), "answerer")


def test_objects_compose_to_the_pipeline_of_an_answerer() -> None:
    from xmr_toy import Guess

    from xmr_each import Each

    encoder = Each(image="patches", text="words(min_count=1)")
    composed = encoder >> Guess()
    assert isinstance(composed, xmr.Pipeline)
    assert composed.answerer.name == "guess"
    assert repr(composed) == repr(xmr.Pipeline.parse("guess")) == repr(as_pipeline(Guess(), "answerer"))
    assert composed.fingerprint() == xmr.Pipeline.parse(repr(composed)).fingerprint()
    with pytest.raises(xmr.ConfigError, match="guess ends a pipeline"):
        composed >> Guess()


def test_an_answerer_alone_gets_the_encoder_it_wants() -> None:
    assert repr(as_pipeline("guess", "answerer")) == "each(image='patches', text='words(min_count=1)') >> guess"


def test_every_question_to_learn_from_has_an_answer(db: Library, pictures: list[Path]) -> None:
    with pytest.raises(xmr.DataError, match="2 of 8 questions have no answer: '0', '1'") as failure:
        db.learn("guess", questions(pictures, [[], []] + [["red"]] * 6))
    assert failure.value.keys == ("0", "1")
    with pytest.raises(xmr.DataError, match="expected Questions"):
        db.learn("guess", questions(pictures).pairs)  # type: ignore[arg-type]
    assert db.answerers() == []


def test_an_unreadable_picture_is_named_and_nothing_is_learnt(db: Library, pictures: list[Path]) -> None:
    pictures[1].write_bytes(b"no picture")
    with pytest.raises(xmr.DataError, match="'green': not an image in a known format"):
        db.learn("guess", questions(pictures))
    for gone in pictures[:2]:
        gone.unlink()
    with pytest.raises(xmr.DataError, match="2 images cannot be read"):
        db.learn("guess", questions(pictures))
    assert db.answerers() == []


def test_evaluation_stands_beside_the_majority_answer(learnt: Library, pictures: list[Path]) -> None:
    said = [["red"], ["red"], ["red"], ["red"], ["blue"], ["red"], ["white"], ["white"]]
    made = learnt.evaluate_answers(questions(pictures, said))
    assert made.accuracy == pytest.approx(5 / 8)  # green is called red twice, blue once
    assert made.majority == pytest.approx(5 / 8)
    assert [(row["type"], row["accuracy"], row["majority"], row["n_questions"]) for row in made.rows] == [
        ("all", 5 / 8, "red", 8),
        ("say", 2 / 4, "red", 4),
        ("what", 3 / 4, "red", 4),
    ]
    assert "8 questions, most often 'red'" in str(made)
    kept = learnt.sql("SELECT value FROM xmr.metrics WHERE what = 'answers, what' AND name = 'accuracy'").fetchall()
    assert kept == [(3 / 4,)]


def test_pictures_of_the_library_are_encoded_once_and_for_all(db: Library, pictures: list[Path]) -> None:
    from xmr_toy import Patches

    db.add(questions(pictures).pairs)
    Patches.encoded = 0
    db.learn("guess", questions(pictures))
    assert Patches.encoded == 4
    db.learn("guess", questions(pictures), seed=1)
    db.evaluate_answers(questions(pictures))
    assert Patches.encoded == 4


def test_pictures_that_are_not_stored_are_encoded_once_a_fit(db: Library, pictures: list[Path]) -> None:
    from xmr_toy import Patches

    Patches.encoded = 0
    db.learn("guess", questions(pictures))
    assert Patches.encoded == 4


def test_learning_again_takes_the_place_of_what_was_learnt(learnt: Library, pictures: list[Path]) -> None:
    learnt.learn("guess", questions(pictures, [["dark"]] * 6 + [["light"]] * 2))
    assert learnt.answerers() == ["answers"]
    assert learnt.answer(pictures[3], "say its colour").best == ["light"]
    assert learnt.sql("SELECT count(*) FROM xmr.parts WHERE space = 'answers'").fetchone() == (2,)
    assert learnt.doctor() == []


def test_what_is_dropped_is_gone(learnt: Library, pictures: list[Path]) -> None:
    learnt.drop_answerer("answers")
    assert learnt.answerers() == []
    for table in ("answerers", "parts", "tensors"):
        assert learnt.sql(f"SELECT count(*) FROM xmr.{table}").fetchone() == (0,)
    with pytest.raises(xmr.StorageError, match="there are none yet"):
        learnt.drop_answerer("answers")


def test_a_space_and_an_answerer_of_one_name_leave_each_other_alone(learnt: Library, pictures: list[Path]) -> None:
    learnt.add(questions(pictures).pairs)
    learnt.fit("toy >> flat", name="answers")
    learnt.drop("answers")
    assert learnt.answer(pictures[0], "say its colour").best == ["red"]


def test_an_export_brings_answerers_back(learnt: Library, pictures: list[Path], tmp_path: Path) -> None:
    learnt.export(tmp_path / "kept")
    with xmr.open(tmp_path / "copy.duckdb") as copy:
        copy.restore(tmp_path / "kept")
        assert copy.answer(pictures[1], "say its colour").best == ["green"]
        with pytest.raises(xmr.StorageError, match="not empty"):
            copy.restore(tmp_path / "kept")


def test_an_older_file_gets_the_table_when_it_is_opened_for_writing(db: Library, tmp_path: Path) -> None:
    db.store.execute("DROP TABLE xmr.answerers")  # type: ignore[attr-defined]
    db.close()
    with xmr.open(tmp_path / "asked.duckdb", read_only=True) as reader:
        assert reader.answerers() == []
        assert reader.doctor() == []
    with xmr.open(tmp_path / "asked.duckdb") as writer:
        assert writer.sql("SELECT count(*) FROM xmr.answerers").fetchone() == (0,)


def test_lost_parts_are_told(learnt: Library) -> None:
    learnt.sql("DELETE FROM xmr.parts")
    assert learnt.doctor() == ["the parts of answerer 'answers' are damaged; drop it, and learn again"]
    learnt.sql("DELETE FROM xmr.tensors")
    learnt._session.forget()
    with pytest.raises(xmr.StateError, match="its parts are damaged"):
        learnt.answerer("answers")


def test_a_changed_state_is_refused(learnt: Library) -> None:
    learnt.sql("UPDATE xmr.parts SET fingerprint = 'other' WHERE role = 'answerer'")
    learnt._session.forget()
    with pytest.raises(xmr.SpaceMismatchError, match="guess is not what it was fitted with"):
        learnt.answerer()


def test_a_killed_learn_goes_on_where_it_was(pictures: list[Path], tmp_path: Path) -> None:
    recipe = f"guess(grave={str(tmp_path / 'grave')!r})"
    code = (
        "import json, sys, numpy as np, xmr_core as xmr\n"
        "pictures, texts, image_of, said = json.loads(sys.argv[1])\n"
        "asked = xmr.Questions(xmr.Items('image', pictures), xmr.Items('text', texts), image_of, said)\n"
        "with xmr.open('killed.duckdb', progress=False) as db:\n"
        f"    print(int(db.learn({recipe!r}, asked).pipeline.answerer.state['started_at']))\n"
        "    print(list((db.store.folder / 'checkpoints').glob('*')))\n"
    )
    given = questions(pictures)
    told = json.dumps([[str(p) for p in pictures], given.texts.data, given.image_of.tolist(), given.answers])
    runs = [
        subprocess.run([sys.executable, "-c", code, told], cwd=tmp_path, capture_output=True, text=True)
        for _ in range(2)
    ]
    assert runs[0].returncode == -9
    assert runs[1].stdout.split() == ["1", "[]"], runs[1].stderr
