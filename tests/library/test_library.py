"""The road of a library, from adding to finding, and what becomes of bad input and killed processes on the way."""

from __future__ import annotations

import datetime
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xmr_core as xmr
from xmr_core.library import Library

pytestmark = pytest.mark.usefixtures("toy")

COLOURS = ["red", "green", "blue", "white"]


@pytest.fixture
def db(tmp_path: Path, pairs: xmr.Pairs) -> Iterator[Library]:
    with xmr.open(tmp_path / "colours.duckdb", progress=False) as library:
        library.add(pairs)
        yield library


@pytest.fixture
def fitted(db: Library) -> Library:
    db.fit("toy >> flat", name="toy")
    return db


def run_python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=120)


# finding


def test_a_sentence_finds_its_picture(fitted: Library) -> None:
    assert [hit.key for hit in fitted.search(text="something red", k=1)] == ["red"]


def test_a_picture_finds_its_sentences(fitted: Library, pictures: list[Path]) -> None:
    hits = fitted.search(image=pictures[2], k=2)
    assert {hit.key for hit in hits} == {"blue#0", "blue#1"}
    assert all("blue" in (hit.data or "") for hit in hits)


def test_a_stored_item_finds_the_other_kind(fitted: Library) -> None:
    red = fitted.store.ids(where="key = 'red'")[0]
    assert {hit.key for hit in fitted.search(item=int(red), k=2)} == {"red#0", "red#1"}


def test_many_queries_at_once_answer_as_each_alone(fitted: Library) -> None:
    texts = ["red", "a green and a blue one", "white"]
    together = fitted.search(text=texts, k=3)
    alone = [fitted.search(text=text, k=3) for text in texts]
    assert together.ids.tolist() == [row for one in alone for row in one.ids.tolist()]
    assert [hit.key for hit in together.of(1)] == [hit.key for hit in alone[1]]


def test_a_new_process_answers_alike_without_fitting(fitted: Library, tmp_path: Path) -> None:
    here = fitted.search(text="blue or white", k=4)
    fitted.close()
    code = (
        "import xmr_core as xmr\n"
        "hits = xmr.open('colours.duckdb', read_only=True).search(text='blue or white', k=4)\n"
        "print(hits.ids.tolist(), hits.distances.tobytes().hex())"
    )
    there = run_python(code, tmp_path)
    assert there.stdout.strip() == f"{here.ids.tolist()} {here.distances.tobytes().hex()}", there.stderr


def test_a_filter_never_costs_hits(fitted: Library) -> None:
    hits = fitted.search(text="red", k=2, where="split = 'test'")
    assert {hit.key for hit in hits} == {"blue", "white"}


def test_k_beyond_the_collection_gives_all_and_pads(fitted: Library) -> None:
    hits = fitted.search(text="red", k=9)
    assert len(hits) == 4
    assert hits.ids[0, 4:].tolist() == [-1] * 5
    assert np.isinf(hits.distances[0, 4:]).all()


def test_a_radius_finds_all_that_are_within(fitted: Library) -> None:
    hits = fitted.search(text="red", within=0.1)
    assert [hit.key for hit in hits] == ["red"]
    assert not len(fitted.search(vector=np.full(8, 9.0), within=0.1, modality="image"))


def test_exact_search_agrees_with_the_index(fitted: Library) -> None:
    hits, exact = (fitted.search(text="green", k=4, exact=flag) for flag in (False, True))
    assert hits.ids.tolist() == exact.ids.tolist()
    assert exact.exact
    assert fitted.audit(k=2) == {"image": 1.0, "text": 1.0}


def test_encoded_queries_can_be_kept_and_searched_with(fitted: Library) -> None:
    query = fitted.encode(text=["red", "blue"])
    hits = fitted.search(vector=query, modality="image", k=1)
    assert [hit.key for hit in hits] == ["red", "blue"]


def test_bits_go_the_same_road(db: Library) -> None:
    db.fit("toy >> sign >> hamming", name="bits")
    codes = db.store.get_codes("bits", 1, "image")
    assert codes.layout == xmr.Layout.bits(8)
    assert len(db.search(text="red", k=4)) == 4


# spaces and versions


def test_two_spaces_must_be_told_apart(fitted: Library) -> None:
    fitted.fit("toy >> sign >> hamming", name="bits")
    with pytest.raises(xmr.DataError, match="which space\\? there are bits, toy"):
        fitted.search(text="red")
    assert [hit.key for hit in fitted.search(text="red", k=1, space="toy")] == ["red"]


def test_a_new_version_serves_when_it_is_published(fitted: Library) -> None:
    fitted.fit("toy >> identity(metric='ip') >> flat", name="toy", publish=False)
    assert fitted.space("toy").record.version == 1
    fitted.publish("toy", 2)
    assert "ip" in fitted.space("toy").record.recipe
    fitted.drop("toy", 1)
    assert [space.version for space in fitted.store.spaces()] == [2]


def test_a_query_of_another_space_is_refused_with_both_fingerprints(fitted: Library) -> None:
    query = fitted.encode(text="red", space="toy")
    other = fitted.fit("toy >> identity(metric='ip') >> flat", name="other")
    with pytest.raises(xmr.SpaceMismatchError) as error:
        fitted.search(vector=query, modality="image", space="other")
    assert query.fingerprint[:12] in str(error.value)
    assert other.record.fingerprint[:12] in str(error.value)


def test_new_items_get_codes_at_once(fitted: Library, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8), (0, 0, 0)).save(tmp_path / "black.png")
    fitted.add(xmr.Items("image", [tmp_path / "black.png"], ["black"]))
    assert [hit.key for hit in fitted.search(text="black", k=1)] == ["black"]


def test_features_are_computed_once(db: Library) -> None:
    from xmr_toy import Costly  # type: ignore[import-not-found]  # installed by the fixture

    before = Costly.encoded
    db.fit("costly >> flat", name="first")
    db.fit("costly >> sign >> hamming", name="second")
    assert Costly.encoded - before == 12
    assert [hit.key for hit in db.search(text="white", k=1, space="first")] == ["white"]


def test_a_third_party_index_cache_may_be_deleted(fitted: Library) -> None:
    fitted.fit("toy >> hnsw", name="graph")
    first = fitted.search(text="blue", k=2, space="graph")
    assert fitted.store.folder is not None
    import shutil

    shutil.rmtree(fitted.store.folder, ignore_errors=True)
    fitted.space("graph").forget()
    assert fitted.search(text="blue", k=2, space="graph").ids.tolist() == first.ids.tolist()


# adding


def test_adding_twice_adds_nothing(db: Library, pairs: xmr.Pairs) -> None:
    before = dict(db.store.counts())
    assert db.add(pairs) == xmr.Added(new=0, known=12)
    assert dict(db.store.counts()) == before


def test_one_key_may_not_name_two_contents(db: Library) -> None:
    with pytest.raises(xmr.DataError, match=r"'red#0': already there with other content"):
        db.add(xmr.Items("text", ["something else"], ["red#0"]))
    with pytest.raises(xmr.DataError, match=r"'new': one key names two different texts"):
        db.add(xmr.Items("text", ["a", "b"], ["new", "new"]))
    assert db.store.counts()["text"] == 8


def test_the_same_key_and_content_twice_in_one_batch_is_one_item(db: Library) -> None:
    assert db.add(xmr.Items("text", ["same", "same"], ["k", "k"])) == xmr.Added(new=1, known=1)


@pytest.mark.parametrize("damage", ["garbage", "truncated", "missing"])
def test_bad_pictures_are_named_and_nothing_is_added(db: Library, tmp_path: Path, damage: str) -> None:
    from PIL import Image

    good, bad = tmp_path / "good.jpg", tmp_path / "bad.jpg"
    Image.effect_noise((64, 64), 50).convert("RGB").save(good)
    if damage != "missing":
        bad.write_bytes(b"no picture" if damage == "garbage" else good.read_bytes()[:900])
    items = xmr.Items("image", [good, bad], ["good", "bad"])
    with pytest.raises(xmr.DataError, match="'bad'") as error:
        db.add(items)
    assert error.value.keys == ("bad",)
    assert db.store.counts()["image"] == 4
    added = db.add(items, on_error="skip")
    assert added.new == 1
    assert list(added.skipped) == ["bad"]


def test_links_to_skipped_items_are_left_out(db: Library, tmp_path: Path, pictures: list[Path]) -> None:
    pictures_ = xmr.Items("image", [pictures[0], tmp_path / "none.png"], ["one", "two"])
    texts = xmr.Items("text", ["first", "second"], ["t1", "t2"])
    before = db.store.counts()["pairs"]
    db.add(xmr.Pairs(pictures_, texts, np.array([[0, 0], [1, 1]])), on_error="skip")
    assert db.store.counts()["pairs"] == before + 1


@pytest.mark.parametrize("caption", ["", "  \n", None, 7])
def test_a_caption_must_say_something(db: Library, caption: object) -> None:
    with pytest.raises(xmr.DataError, match="'empty'"):
        db.add(xmr.Items("text", ["fine", caption], ["fine", "empty"]))
    assert db.store.counts()["text"] == 8


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32])
def test_any_numbers_and_any_strides_make_vectors(tmp_path: Path, dtype: type) -> None:
    vectors = np.arange(40).reshape(5, 8)[:, ::-1].astype(dtype)[::-1]
    with xmr.open(tmp_path / "v.duckdb", progress=False) as db:
        db.add(xmr.Items("image", vectors))
        db.fit("precomputed(dim=8) >> identity(metric='l2') >> flat", name="v")
        hits = db.search(vector=np.asfortranarray(vectors), k=1)
    assert hits.ids[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert hits.distances.max() == 0


def test_vectors_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with xmr.open(tmp_path / "v.duckdb", progress=False) as db:
        with pytest.raises(xmr.DataError, match="NaN or infinity, the first is row 1"):
            db.add(xmr.Items("image", np.array([[1.0, 2.0], [np.nan, 0.0]])))
        db.add(xmr.Items("image", np.ones((3, 8))))
        with pytest.raises(xmr.DataError, match="expected 8 dimensions, got 5"):
            db.add(xmr.Items("image", np.ones((1, 5)), ["other"]))
        db.fit("precomputed(dim=8) >> flat", name="v")
        with pytest.raises(xmr.DataError, match="8"):
            db.search(vector=np.ones(5))
        with pytest.raises(xmr.DataError, match="NaN"):
            db.search(vector=np.full(8, np.nan))


def test_embeddings_made_elsewhere_are_found_under_their_own_ids(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (100, 8), dtype=np.uint8)
    ids = rng.permutation(1000)[:100]
    with xmr.open(tmp_path / "e.duckdb", progress=False) as db:
        db.add_embeddings(codes, space="bits", recipe="hamming", ids=ids)
        assert db.search(vector=codes, k=1).ids[:, 0].tolist() == ids.tolist()
        with pytest.raises(xmr.DataError, match="has image codes of 1 of these ids"):
            db.add_embeddings(codes[:1], space="bits", ids=ids[:1])
        with pytest.raises(xmr.DataError, match="takes bits, got vectors"):
            db.add_embeddings(np.ones((1, 8)), space="bits")
        assert len(db.add_embeddings(codes, space="bits")) == 100


@pytest.mark.parametrize("ids", [[-1], [0.5], [True], [1 << 63], ["a"], [[1]]])
def test_ids_are_whole_numbers_from_zero(fitted: Library, ids: list[object]) -> None:
    for act in (fitted.delete, lambda given: fitted.add_embeddings(np.zeros((1, 8), np.uint8), "bits", ids=given)):
        with pytest.raises(xmr.DataError, match="ids: expected"):
            act(ids)  # type: ignore[arg-type]
    assert fitted.store.counts()["image"] + fitted.store.counts()["text"] == 12


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        ([1], [1.5], [1.0, 1.5]),
        ([None], [7], [None, 7]),
        (
            [datetime.date(2020, 1, 1)],
            [datetime.datetime(2020, 1, 1, 5)],
            [datetime.datetime(2020, 1, 1, h) for h in (0, 5)],
        ),
    ],
)
def test_columns_of_metadata_widen_for_what_they_could_not_hold(
    tmp_path: Path, first: list[object], second: list[object], kept: list[object]
) -> None:
    with xmr.open(tmp_path / "m.duckdb", progress=False) as db:
        db.add(xmr.Items("text", ["one"], ["1"], metadata={"own": first}))
        db.add(xmr.Items("text", ["two"], ["2"], metadata={"own": second}))
        assert [row[0] for row in db.sql("SELECT own FROM xmr.catalog ORDER BY key").fetchall()] == kept
        with pytest.raises(xmr.DataError, match="'own': the column holds"):
            db.add(xmr.Items("text", ["three"], ["3"], metadata={"own": [True]}))
        assert db.store.counts()["text"] == 2


def test_a_fraction_far_down_a_column_of_whole_numbers_is_kept(tmp_path: Path) -> None:
    prices = [*range(2500), 0.5]
    with xmr.open(tmp_path / "m.duckdb", progress=False) as db:
        db.add(xmr.Items("text", [f"text {i}" for i in range(2501)], metadata={"price": prices}))
        assert db.sql("SELECT sum(price) FROM xmr.catalog").fetchone() == (sum(prices),)


@pytest.mark.parametrize("mode", ["CMYK", "HSV", "F", "RGBa", "PA"])
def test_a_picture_in_memory_may_have_any_mode(db: Library, mode: str) -> None:
    from PIL import Image

    assert db.add(xmr.Items("image", [Image.new(mode, (4, 4))], ["own"])).new == 1


@pytest.mark.parametrize("name", ["a\ud800", "b\0"])
def test_texts_that_cannot_be_stored_are_named(db: Library, name: str) -> None:
    with pytest.raises(xmr.DataError, match="'k'"):
        db.add(xmr.Items("text", [name], ["k"]))
    with pytest.raises(xmr.DataError, match=r"Unicode|expected a name"):
        db.add(xmr.Items("text", ["fine"], ["k"], metadata={"own": ["v"], name: ["w"]}))
    assert db.store.counts()["text"] == 8


@pytest.mark.parametrize("version", [{1}, [1], "1", True, 1.0, np.ones(2)])
def test_a_version_is_a_whole_number(db: Library, version: Any) -> None:
    for verb in (db.space, db.publish, db.drop):
        with pytest.raises(xmr.DataError, match="expected the number of a version"):
            verb("toy", version)


def test_labels_need_names(db: Library) -> None:
    with pytest.raises(xmr.DataError, match="labels have names in Pairs alone"):
        db.add(xmr.Items("text", ["one"], ["1"], labels=np.ones((1, 2))))


# deleting


def test_what_is_deleted_is_found_no_more(fitted: Library) -> None:
    fitted.search(text="red")
    assert fitted.delete(where="key = 'red'") == 1
    assert "red" not in {hit.key for hit in fitted.search(text="red")}
    assert fitted.doctor() == []
    assert fitted.store.counts()["pairs"] == 6


def test_the_id_of_a_deleted_item_is_never_given_again(db: Library) -> None:
    last = int(db.store.ids().max())
    db.delete([last])
    db.add(xmr.Items("text", ["brand new"], ["new"]))
    assert db.store.ids(where="key = 'new'").tolist() == [last + 1]


def test_compacting_keeps_everything_and_frees_the_disk(tmp_path: Path) -> None:
    with xmr.open(tmp_path / "big.duckdb", progress=False) as db:
        db.sql("CREATE TABLE mine AS SELECT range AS n FROM range(1000)")
        db.add_embeddings(np.random.default_rng(0).integers(0, 256, (500_000, 8), dtype=np.uint8), "gone", "hamming")
        kept = np.random.default_rng(1).integers(0, 256, (100, 8), dtype=np.uint8)
        db.add_embeddings(kept, "kept", "hamming")
        db.drop("gone")
        before, after = db.compact()
        assert after < before / 2
        assert db.sql("SELECT count(*) FROM mine").fetchone() == (1000,)
        assert len(db.search(vector=kept, k=1, space="kept")) == 100
        assert db.sql("SELECT count(*) FROM xmr.code_kept").fetchone() == (100,)


def test_compacting_beside_another_connection_is_refused_and_nothing_is_lost(fitted: Library, tmp_path: Path) -> None:
    with xmr.open(tmp_path / "colours.duckdb", progress=False):
        with pytest.raises(xmr.LockedError, match="another connection of this process"):
            fitted.compact()
        fitted.add(xmr.Items("text", ["later"], ["later"]))
    fitted.close()
    with xmr.open(tmp_path / "colours.duckdb", progress=False) as again:
        assert again.store.counts()["text"] == 9


def test_compacting_leaves_macros_and_links_to_the_file_as_they_were(tmp_path: Path, pairs: xmr.Pairs) -> None:
    (tmp_path / "link.duckdb").symlink_to(tmp_path / 'a "real" one.duckdb')
    with xmr.open(tmp_path / "link.duckdb", progress=False) as db:
        db.add(pairs)
        db.fit("toy >> flat", name="toy")
        macros = "SELECT function_name, macro_definition FROM duckdb_functions() WHERE schema_name = 'xmr' ORDER BY ALL"
        before = db.store.rows(macros)  # type: ignore[attr-defined]
        db.compact()
        assert db.store.rows(macros) == before  # type: ignore[attr-defined]
    assert (tmp_path / "link.duckdb").is_symlink()


def test_compacting_sweeps_up_after_a_killed_one(fitted: Library, tmp_path: Path) -> None:
    (tmp_path / "colours.duckdb.0a1b2c3d.half").write_text("left behind")
    fitted.compact()
    assert not list(tmp_path.glob("*.half"))


def test_an_export_that_cannot_be_written_says_so(fitted: Library, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(xmr.StorageError, match="not empty"):
        fitted.export(tmp_path / "file")
    with pytest.raises(xmr.StorageError, match="cannot be written"):
        fitted.export(tmp_path / "file" / "below")


def test_export_and_restore_round_trip_bit_for_bit(fitted: Library, tmp_path: Path) -> None:
    first = fitted.export(tmp_path / "first")
    with xmr.open(tmp_path / "copy.duckdb", progress=False) as copy:
        copy.restore(first)
        assert copy.search(text="blue", k=4).ids.tolist() == fitted.search(text="blue", k=4).ids.tolist()
        second = copy.export(tmp_path / "second")
    for file in sorted(first.iterdir()):
        assert file.read_bytes() == (second / file.name).read_bytes(), file.name
    with pytest.raises(xmr.StorageError, match="not empty"):
        fitted.restore(first)


# mistakes


@pytest.mark.parametrize(
    ("recipe", "error", "message"),
    [
        ("toy >> flatt", xmr.UnknownComponentError, "no indexer 'flatt' installed; did you mean 'flat'"),
        ("toi >> flat", xmr.UnknownComponentError, "no encoder 'toi' installed; did you mean 'toy'"),
        ("toy >> flat(speed=9)", xmr.ConfigError, "flat has no option 'speed'"),
        ("toy >> sign >> pq(bytes=8)", xmr.ConfigError, "pq takes .*, sign gives bits"),
        ("toy >> hamming", xmr.ConfigError, "hamming takes bits, toy gives vectors under l2; put sign before it"),
        ("toy >> sign", xmr.ConfigError, "ends with an indexer"),
        ("toy >> >> flat", xmr.ConfigError, "cannot"),
        ("toy >> __import__('os').system('ls')", xmr.ConfigError, "is no component"),
        ("flat", xmr.ConfigError, "has no encoder"),
    ],
)
def test_a_recipe_that_cannot_work_says_why(db: Library, recipe: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        db.fit(recipe)
    assert db.spaces() == []


def test_searching_asks_for_what_is_missing(db: Library) -> None:
    with pytest.raises(xmr.DataError, match="no space"):
        db.search(text="red")
    db.fit("toy >> flat", name="toy")
    with pytest.raises(xmr.DataError, match="give one of"):
        db.search()
    with pytest.raises(xmr.DataError, match="k=0"):
        db.search(text="red", k=0)
    with pytest.raises(xmr.DataError, match="which modality to find"):
        db.search(vector=np.ones(8))
    with pytest.raises(xmr.DataError, match="foo"):
        db.search(text="red", where="foo = 1")
    with pytest.raises(xmr.DataError, match="where="):
        db.search(text="red", where="true); DROP TABLE xmr.items; SELECT (true")
    assert db.store.counts()["image"] == 4


@pytest.mark.parametrize(
    "asked",
    [
        {"text": []},
        {"text": ["red", None]},
        {"text": "\ud800"},
        {"text": "red", "k": "5"},
        {"text": "red", "k": 2.0},
        {"text": "red", "k": True},
        {"text": "red", "k": 10**9},
        {"text": "red", "within": "5"},
        {"text": "red", "where": 5},
        {"text": "red", "where": "\ud800"},
        {"text": "red", "modality": "images"},
        {"image": []},
        {"item": 1 << 70},
        {"item": True},
        {"vector": [[1, 2], [3]]},
    ],
)
def test_a_query_that_cannot_be_says_so(fitted: Library, asked: dict[str, object]) -> None:
    with pytest.raises(xmr.DataError):
        fitted.search(**asked)  # type: ignore[arg-type]


def test_numbers_may_be_those_of_numpy(db: Library) -> None:
    db.fit("toy >> sign >> hamming", name="toy", seed=np.int64(3))
    item = int(db.store.ids("image")[0])
    want = db.search(item=item, k=3, within=9.0)
    for whole, real in ((np.int64, np.float64), (np.int32, np.float32), (np.int16, np.int64)):
        k, within, number, two = whole(3), real(9), whole(item), whole(2)
        found = db.search(item=number, k=k, within=within)
        assert found.ids.tolist() == want.ids.tolist()
        assert db.audit(k=two, sample=two, seed=two) == db.audit(k=2, sample=2, seed=2)


@pytest.mark.parametrize("seed", [-1, 1.5, "0", True, 1 << 63])
def test_a_seed_is_a_whole_number(db: Library, seed: int) -> None:
    with pytest.raises(xmr.ConfigError, match="seed="):
        db.fit("toy >> flat", seed=seed)


def test_a_split_of_numbers_trains_on_all(tmp_path: Path) -> None:
    with xmr.open(tmp_path / "n.duckdb", progress=False) as db:
        db.add(xmr.Items("text", ["red", "blue"], metadata={"split": [0, 1]}))
        db.fit("toy >> flat", name="toy")
        with pytest.raises(xmr.DataError, match="which items are the queries"):
            db.evaluate()


def test_a_space_without_a_published_version_says_so(fitted: Library) -> None:
    fitted.fit("toy >> flat", name="toy")
    fitted.drop("toy", 2)
    with pytest.raises(xmr.StorageError, match="no published version; there are 1"):
        fitted.search(text="red", space="toy")


def test_a_space_is_loaded_once_whatever_it_is_called(fitted: Library) -> None:
    assert fitted.space() is fitted.space("toy") is fitted.space("toy", 1)


def test_lost_codes_are_told_and_the_space_can_be_made_again(fitted: Library) -> None:
    fitted.sql("DROP VIEW xmr.code_toy; DROP TABLE xmr.code_toy_v1")
    assert fitted.doctor()[:1] == ["the codes of space 'toy' version 1 are gone; repair makes them again"]
    fitted.drop("toy")
    fitted.fit("toy >> flat", name="toy")
    assert fitted.doctor() == []


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE xmr.parts SET options = '{'",
        "DELETE FROM xmr.parts",
        "DELETE FROM xmr.parts WHERE position > 0",
        "UPDATE xmr.tensors SET dtype = 'O'",
        "UPDATE xmr.tensors SET shape = repeat('[', 100000)",
        "UPDATE xmr.forms SET layout = 'odd'",
        "UPDATE xmr.forms SET layout = replace(layout, '8', '5')",
        "UPDATE xmr.forms SET layout = '{}'",
    ],
)
def test_a_damaged_space_is_refused_in_a_sentence(fitted: Library, damage: str, tmp_path: Path) -> None:
    fitted.sql(damage)
    fitted.close()
    with xmr.open(tmp_path / "colours.duckdb", progress=False) as again, pytest.raises(xmr.XmrError):
        again.search(text="red")


def test_a_closed_library_says_so(fitted: Library) -> None:
    fitted.close()
    for act in (fitted.refresh, fitted.spaces, lambda: fitted.sql("SELECT 1"), lambda: fitted.search(text="red")):
        with pytest.raises(xmr.StorageError, match="closed"):
            act()


def test_a_failed_transaction_of_the_users_can_be_rolled_back(fitted: Library) -> None:
    fitted.sql("BEGIN")
    with pytest.raises(xmr.StorageError):
        fitted.sql("SELECT error('no')")
    fitted.sql("ROLLBACK")
    assert fitted.sql("SELECT 1").fetchall() == [(1,)]


def test_an_unfitted_pipeline_says_so(pairs: xmr.Pairs) -> None:
    pipeline = xmr.Pipeline.parse("mortal >> flat")
    with pytest.raises(xmr.NotFittedError, match="mortal"):
        pipeline.embed(pairs.images)


def test_fitting_on_nothing_says_so(tmp_path: Path) -> None:
    with (
        xmr.open(tmp_path / "empty.duckdb", progress=False) as db,
        pytest.raises(xmr.DataError, match="nothing to fit"),
    ):
        db.fit("toy >> flat")


# files and processes


def test_the_users_own_tables_stay_theirs(tmp_path: Path, pairs: xmr.Pairs) -> None:
    import duckdb

    path = str(tmp_path / "mine.duckdb")
    with duckdb.connect(path) as con:
        con.execute("CREATE TABLE mine AS SELECT 'red' AS key, 12 AS price")
    with xmr.open(path, progress=False) as db:
        db.add(pairs)
        rows = db.sql("SELECT price FROM mine JOIN xmr.items USING (key)").fetchall()
    assert rows == [(12,)]


def test_a_table_of_the_users_beside_the_codes_is_left_alone(fitted: Library) -> None:
    fitted.sql("CREATE TABLE xmr.code_mine AS SELECT 0::BIGINT AS item_id")
    fitted.delete([0])
    assert fitted.sql("SELECT count(*) FROM xmr.code_mine").fetchone() == (1,)


def test_registering_leaves_a_file_without_a_library_as_it_is(tmp_path: Path) -> None:
    import duckdb

    with duckdb.connect(str(tmp_path / "mine.duckdb")) as con:
        with pytest.raises(xmr.StorageError, match="with a library in it"):
            xmr.register(con)
        assert con.execute("SELECT 1 FROM duckdb_schemas() WHERE schema_name = 'xmr'").fetchall() == []


def test_a_connection_for_reading_can_be_registered(fitted: Library, tmp_path: Path) -> None:
    import duckdb

    fitted.close()
    with duckdb.connect(str(tmp_path / "colours.duckdb"), read_only=True) as con, xmr.register(con):
        assert len(con.execute("SELECT * FROM xmr.search('red', 2)").fetchall()) == 2


def test_changing_the_folder_moves_nothing(tmp_path: Path, pairs: xmr.Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with xmr.open("here.duckdb", progress=False) as db:
        db.add(pairs)
        (tmp_path / "below").mkdir()
        monkeypatch.chdir(tmp_path / "below")
        db.compact()
    assert not list((tmp_path / "below").iterdir())


@pytest.mark.parametrize("path", ["", " ", "a\0b", "xmr.duckdb", "http://host/x"])
def test_a_path_that_cannot_hold_a_library_is_refused(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(xmr.StorageError):
        xmr.open(path)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.duckdb"
    path.write_text("dear diary " * 1000)
    with pytest.raises(xmr.StorageError, match="no DuckDB database"):
        xmr.open(path)
    assert path.read_text().startswith("dear diary")


def test_a_truncated_database_is_refused(db: Library, tmp_path: Path) -> None:
    db.close()
    whole = (tmp_path / "colours.duckdb").read_bytes()
    half = tmp_path / "half.duckdb"
    half.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(xmr.StorageError):
        xmr.open(half).store.counts()


def test_a_newer_format_is_refused(db: Library, tmp_path: Path) -> None:
    db.sql("UPDATE xmr.meta SET value = '99' WHERE key = 'format_version'")
    db.close()
    with pytest.raises(
        xmr.SchemaVersionError, match=r"format 99, this version of xmr .* knows formats up to 2; upgrade"
    ):
        xmr.open(tmp_path / "colours.duckdb")


def test_another_schema_of_that_name_is_left_alone(tmp_path: Path) -> None:
    import duckdb

    path = str(tmp_path / "taken.duckdb")
    with duckdb.connect(path) as con:
        con.execute("CREATE SCHEMA xmr; CREATE TABLE xmr.wine (year INTEGER)")
    with pytest.raises(xmr.StorageError, match="holds other tables"):
        xmr.open(path)


def test_reading_needs_a_file(tmp_path: Path) -> None:
    with pytest.raises(xmr.StorageError, match="no such file"):
        xmr.open(tmp_path / "none.duckdb", read_only=True)
    assert not (tmp_path / "none.duckdb").exists()


def test_a_reader_cannot_write(fitted: Library, tmp_path: Path, pairs: xmr.Pairs) -> None:
    fitted.close()
    with xmr.open(tmp_path / "colours.duckdb", read_only=True) as reader:
        assert len(reader.search(text="red", k=2)) == 2
        with pytest.raises(xmr.StorageError, match="reading only"):
            reader.add(pairs)


def test_a_second_writer_is_told_who_holds_the_file(db: Library, tmp_path: Path) -> None:
    code = (
        "import xmr_core as xmr\n"
        "try:\n"
        "    xmr.open('colours.duckdb')\n"
        "except xmr.LockedError as error:\n"
        "    print('refused:', error)"
    )
    other = run_python(code, tmp_path)
    import os

    assert "refused:" in other.stdout
    assert f"process {os.getpid()}" in other.stdout


def test_a_process_killed_while_adding_leaves_nothing_behind(db: Library, tmp_path: Path) -> None:
    db.close()
    code = (
        "import os, signal, xmr_core as xmr\n"
        "from xmr_core.library import adding\n"
        "adding.LIGHT_BLOCK = 10\n"
        "kept, blocks = adding.prepare, []\n"
        "def prepare(items):\n"
        "    blocks.append(1)\n"
        "    if len(blocks) == 4: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return kept(items)\n"
        "adding.prepare = prepare\n"
        "db = xmr.open('colours.duckdb')\n"
        "db.add(xmr.Items('text', [f'sentence {i}' for i in range(100)]))\n"
    )
    assert run_python(code, tmp_path).returncode == -9
    with xmr.open(tmp_path / "colours.duckdb", progress=False) as again:
        assert again.store.counts()["text"] == 8
        assert again.doctor() == []
        assert again.add(xmr.Items("text", [f"sentence {i}" for i in range(100)])).new == 100


def test_a_killed_fit_goes_on_where_it_was(db: Library, tmp_path: Path) -> None:
    db.close()
    recipe = f"mortal(grave={str(tmp_path / 'grave')!r}) >> flat"
    code = f"import xmr_core as xmr\nxmr.open('colours.duckdb').fit({recipe!r}, name='m')"
    assert run_python(code, tmp_path).returncode == -9
    with xmr.open(tmp_path / "colours.duckdb", progress=False) as again:
        assert again.spaces() == []
        space = again.fit(recipe, name="m")
        assert space.pipeline.encoder is not None
        assert int(space.pipeline.encoder.state["started_at"]) == 3
        assert again.store.folder is not None
        assert not list((again.store.folder / "checkpoints").glob("*"))
        figures = again.sql("SELECT count(*) FROM xmr.metrics WHERE name = 'loss'").fetchone()
    assert figures == (5,)
