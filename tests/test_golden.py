"""Libraries of every earlier format still open, search and give the same answers.

`golden/library.duckdb.xz` and `images.duckdb.xz` were written by the first release, `format<N>.duckdb.xz` by
`golden/write.py` when N was the present format. The JSON beside each says what it answered then: the nearest of a
stored item or of a text in every space, in Python and in SQL, the fingerprints, and the answers to a question.
"""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xmr_core as xmr
from xmr_storage.schema import FORMAT_VERSION

GOLDEN = Path(__file__).parent / "golden"
LIBRARY: dict[str, Any] = json.loads((GOLDEN / "library.json").read_text())
IMAGES: dict[str, Any] = json.loads((GOLDEN / "images.json").read_text())
LATER = {file.stem: json.loads(file.read_text()) for file in sorted(GOLDEN.glob("format*.json"))}
N = 40  # items of each modality in the library; texts have the ids from N on


def unpacked(name: str, folder: Path) -> Path:
    file = folder / f"{name}.duckdb"
    file.write_bytes(lzma.decompress((GOLDEN / f"{name}.duckdb.xz").read_bytes()))
    return file


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[xmr.Library]:
    with xmr.open(unpacked("library", tmp_path_factory.mktemp("golden")), progress=False) as db:
        yield db


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[xmr.Library]:
    with xmr.open(unpacked("images", tmp_path_factory.mktemp("golden")), progress=False) as db:
        yield db


def same(found: xmr.Results, want: tuple[list[int], list[float]]) -> None:
    ids, distances = want
    assert found.ids[0].tolist() == ids
    np.testing.assert_allclose(found.distances[0], distances, rtol=1e-5, atol=1e-5)


def in_sql(db: xmr.Library, space: str, want: dict[str, Any]) -> list[tuple[int, float]]:
    """What macros find: as then, but where they asked with what codes of PQ and lattice stand for, and ask with the
    vectors since, what Python found then."""
    recipe = db.space(space).record.recipe
    with_vectors = re.fullmatch(r"precomputed\([^)]*\) (>> identity\([^)]*\) )?>> (pq|lattice)\(.*\)", recipe)
    return list(zip(*want["image"], strict=True)) if with_vectors else want["sql"]


@pytest.mark.parametrize("space", sorted(LIBRARY))
def test_a_space_answers_as_it_did(library: xmr.Library, space: str) -> None:
    want = LIBRARY[space]
    same(library.search(item=0, k=5, space=space), want["image"])
    same(library.search(item=N, k=5, space=space), want["text"])


@pytest.mark.parametrize("space", sorted(LIBRARY))
def test_a_space_keeps_its_fingerprint(library: xmr.Library, space: str) -> None:
    assert library.space(space).record.fingerprint == LIBRARY[space]["fingerprint"]
    assert library.space(space).pipeline.fingerprint() == LIBRARY[space]["fingerprint"]


@pytest.mark.parametrize("space", sorted(space for space, want in LIBRARY.items() if want["sql"]))
def test_the_macros_in_the_file_answer_as_they_did(library: xmr.Library, space: str) -> None:
    rows = library.sql(f"SELECT item_id, distance FROM xmr.like_{space}(0, 5)").fetchall()
    want = in_sql(library, space, LIBRARY[space])
    assert [item for item, _ in rows] == [item for item, _ in want]
    np.testing.assert_allclose([d for _, d in rows], [d for _, d in want], rtol=1e-5, atol=1e-5)


def test_a_library_of_then_takes_new_items_and_new_versions(tmp_path: Path) -> None:
    with xmr.open(unpacked("library", tmp_path), progress=False) as db:
        vector = np.random.default_rng(0).standard_normal((1, 24)).astype("f4")
        assert db.add(xmr.Items("image", vector, ["new"])).new == 1
        (new,) = db.store.ids(where="key = 'new'")
        (found,) = db.search(vector=vector, k=1, space="flat", modality="image", exact=True).ids[0]
        assert found == new
        db.publish("flat", 2)
        db.refresh()
        assert db.fit("precomputed(dim=24) >> pq(bytes=4, bits=4)", name="pq").record.version == 2
        assert db.doctor() == []
        db.export(tmp_path / "export")
        with xmr.open(tmp_path / "copy.duckdb", progress=False) as copy:
            copy.restore(tmp_path / "export")
            assert (
                copy.search(item=0, k=5, space="itq").ids.tolist() == db.search(item=0, k=5, space="itq").ids.tolist()
            )


def test_a_library_of_then_is_read_without_being_changed(tmp_path: Path) -> None:
    file = unpacked("library", tmp_path)
    before = file.read_bytes()
    with xmr.open(file, read_only=True, progress=False) as db:
        for space, want in LIBRARY.items():
            same(db.search(item=0, k=5, space=space), want["image"])
        assert db.search(item=0, k=5, space="flat", where="item_id > 45", modality="text").ids.min() > 45
        assert db.sql("SELECT value FROM xmr.meta WHERE key = 'format_version'").fetchall() == [("1",)]
    assert file.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [file.name], "something was left beside it"


def test_items_of_then_are_replaced_and_folders_synced(tmp_path: Path) -> None:
    vector = np.random.default_rng(0).standard_normal((1, 24)).astype("f4")
    with xmr.open(unpacked("library", tmp_path), progress=False) as db:
        key = db.store.items(np.array([0]), "image").keys[0]
        assert db.upsert(xmr.Items("image", vector, [key])).updated == 1
        for space in map(db.space, db.spaces()):
            assert space.pipeline.encoder is None or 0 in db.store.coded_ids(space.name, space.record.version, "image")
        assert db.search(vector=vector, k=1, space="flat", modality="image", exact=True).ids.tolist() == [[0]]
        (tmp_path / "lines.csv").write_text("text\none more\n")
        assert db.sync(tmp_path / "lines.csv", encode=False).added == 1
        assert db.sql("SELECT format, xmr IS NOT NULL FROM xmr.migrations ORDER BY format").fetchall() == [(2, True)]


def test_networks_of_then_encode_and_answer_as_they_did(images: xmr.Library) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    for space, want in IMAGES["spaces"].items():
        assert images.space(space).pipeline.fingerprint() == want["fingerprint"]
        same(images.search(text="a red square", k=5, space=space), want["text"])
    answers = images.answer(item=0, question="what colour is it", k=3)
    assert [answer.text for answer in answers] == [text for text, _ in IMAGES["answers"]]
    np.testing.assert_allclose([a.probability for a in answers], [p for _, p in IMAGES["answers"]], atol=1e-4)


@pytest.fixture(scope="module", params=LATER)
def later(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[xmr.Library, Any]]:
    file = unpacked(request.param, tmp_path_factory.mktemp("golden"))
    with xmr.open(file, progress=False) as db:
        yield db, LATER[request.param]


def test_the_present_format_has_a_golden_library() -> None:
    assert f"format{FORMAT_VERSION}" in LATER, "write it with tests/golden/write.py, before the format is raised"


def test_spaces_of_a_later_format_answer_as_they_did(later: tuple[xmr.Library, Any]) -> None:
    db, told = later
    for name, want in told["spaces"].items():
        space = db.space(name)
        assert space.record.fingerprint == space.pipeline.fingerprint() == want["fingerprint"]
        if name == "made":
            same(db.search(vector=space.codes("image").values[:1], k=5, space=name), want["image"])
        else:
            same(db.search(item=1, k=5, space=name), want["image"])
            same(db.search(item=30, k=5, space=name), want["text"])
        item = 1000 if name == "made" else 1
        rows = db.sql(f"SELECT item_id, distance FROM xmr.like_{name}({item}, 5)").fetchall()
        hits = in_sql(db, name, want)
        assert [item for item, _ in rows] == [item for item, _ in hits]
        np.testing.assert_allclose([d for _, d in rows], [d for _, d in hits], rtol=1e-5, atol=1e-5)


def test_items_of_a_later_format_are_as_they_were(later: tuple[xmr.Library, Any]) -> None:
    db, told = later
    columns = "item_id, key, text, split, year, share, CAST(day AS VARCHAR), seen, tags"
    rows = db.sql(f"SELECT {columns} FROM xmr.catalog ORDER BY item_id").fetchall()
    assert [list(row) for row in rows] == told["catalog"]
    assert dict(db.store.counts()) == told["counts"]
    assert all("have no code in space" in finding for finding in db.doctor())


def test_what_a_later_format_keeps_beside_items_is_there(later: tuple[xmr.Library, Any]) -> None:
    db, _ = later
    assert db.sql("SELECT token, weight FROM xmr.attention ORDER BY position").fetchall() == [("a", 0.25), ("b", 0.75)]
    assert db.sql("SELECT count(DISTINCT source), count(*) FROM xmr.sources").fetchall() == [(1, 2)]
    assert [run.what for run in db.store.latest_runs(100)].count("fit") >= 10
    training = db.store.training_ids("flat", 1)
    assert training is not None and len(training) == 40
    assert [(s.version, s.published) for s in db.store.spaces() if s.name == "flat"] == [(1, True), (2, False)]


@pytest.mark.parametrize("name", LATER)
def test_a_later_format_takes_new_items_and_round_trips(name: str, tmp_path: Path) -> None:
    with xmr.open(unpacked(name, tmp_path), progress=False) as db:
        revision, top = db.store.revision(), db.store.next_id()
        assert db.add(xmr.Items("image", np.ones((1, 16), np.float32), ["new"])).new == 1
        assert db.store.ids(where="key = 'new'").tolist() == [top]
        assert db.store.revision() > revision
        db.export(tmp_path / "export")
        with xmr.open(tmp_path / "copy.duckdb", progress=False) as copy:
            copy.restore(tmp_path / "export")
            for space in set(LATER[name]["spaces"]) - {"made"}:
                assert copy.search(item=1, k=5, space=space).ids.tolist() == (
                    db.search(item=1, k=5, space=space).ids.tolist()
                )
