"""Known items that are given another time: refused, updated or replaced, and their codes with them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import xmr_core as xmr

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


def paint(path: Path, colour: str) -> Path:
    Image.new("RGB", (8, 8), COLOURS[colour]).save(path)
    return path


def texts(**content: str) -> xmr.Items:
    return xmr.Items("text", list(content.values()), list(content))


def vectors(keys: list[str], rows: Any, name: str = "clip") -> xmr.Items:
    """Texts that stay, with vectors."""
    return xmr.Items("text", [f"text of {key}" for key in keys], keys, vectors={name: np.array(rows, np.float32)})


@pytest.fixture
def db(toy: None, tmp_path: Path) -> Iterator[xmr.Library]:
    with xmr.open(tmp_path / "a.duckdb", progress=False) as opened:
        yield opened


@pytest.fixture
def coloured(db: xmr.Library, pairs: xmr.Pairs) -> xmr.Library:
    """The library of four coloured images with two texts each, in a space that needs no training."""
    db.add(pairs)
    db.fit("toy >> flat", name="near")
    return db


def closest(db: xmr.Library, colour: str, **options: Any) -> str:
    return db.search(text=f"a {colour} thing", k=1, space="near", modality="image", **options)[0].key


# what `add` says of known items


def test_other_content_is_refused_and_the_way_out_is_named(db: xmr.Library) -> None:
    db.add(texts(a="one"))
    with pytest.raises(xmr.DataError, match=r"'a': already there with other content; upsert replaces it"):
        db.add(texts(a="two", b="new"))
    assert db.sql("SELECT key, text FROM xmr.catalog").fetchall() == [("a", "one")]


def test_labels_that_are_others_are_counted_as_updates(coloured: xmr.Library, pairs: xmr.Pairs) -> None:
    assert coloured.add(pairs) == xmr.Added(known=12)
    assert pairs.images.labels is not None
    labels = pairs.images.labels.copy()
    labels[0, 3] = 1
    assert coloured.add(replace(pairs, images=replace(pairs.images, labels=labels))) == xmr.Added(known=12, updated=1)
    assert coloured.store.labels(np.array([0, 1])).tolist() == [[0, 0, 1, 1], [0, 1, 0, 0]], "blue, green, red, white"


def test_an_image_that_was_moved_is_found_where_it_is_now(
    coloured: xmr.Library, pictures: list[Path], tmp_path: Path
) -> None:
    moved = [Path(shutil.move(path, tmp_path / f"moved_{path.name}")) for path in pictures]
    done = coloured.add(xmr.Items("image", moved, list(COLOURS)))
    assert (done.new, done.updated, done.unchanged) == (0, 4, 0)
    assert closest(coloured, "red") == "red" and coloured.doctor() == []
    assert coloured.search(text="red", k=1, modality="image")[0].data == str(moved[0])


# upsert


def test_other_content_gets_other_codes_under_the_same_id(coloured: xmr.Library, pictures: list[Path]) -> None:
    (red,) = coloured.store.ids(where="key = 'red' AND modality = 'image'")
    assert closest(coloured, "blue") == "blue"
    paint(pictures[0], "blue"), paint(pictures[2], "red")
    done = coloured.upsert(xmr.Items("image", pictures[:3], ["red", "green", "blue"]))
    assert (done.new, done.updated, done.unchanged, done.uncoded) == (0, 2, 1, {})
    assert closest(coloured, "blue") == closest(coloured, "blue", exact=True) == "red"
    assert coloured.search(text="a blue thing", k=1, modality="image").ids.tolist() == [[red]]
    rows = coloured.sql("SELECT item_id FROM xmr.search('a blue thing', 1)")
    assert rows.fetchall() == [(red,)]
    assert coloured.doctor() == []


def test_an_upsert_of_what_is_there_changes_nothing(coloured: xmr.Library, pairs: xmr.Pairs) -> None:
    before = coloured.store.revision()
    assert coloured.upsert(pairs) == xmr.Added(known=12)
    changes = coloured.store.changes("near", 1, "image", before)
    assert changes is not None and not changes


def test_links_labels_and_metadata_stay_where_nothing_else_is_said(coloured: xmr.Library, pictures: list[Path]) -> None:
    before = coloured.store.links().tolist()
    paint(pictures[0], "white")
    coloured.upsert(xmr.Items("image", pictures[:1], ["red"]))
    assert coloured.store.links().tolist() == before
    assert coloured.store.labels(np.array([0]), ["red"]).tolist() == [[1]]
    assert coloured.store.describe(np.array([0]))["split"] == ["train"]


def test_other_handles_and_built_indexes_follow(coloured: xmr.Library, pictures: list[Path], tmp_path: Path) -> None:
    coloured.fit("toy >> kdtree", name="tree")
    with xmr.open(tmp_path / "a.duckdb", progress=False) as other:
        for name in ("near", "tree"):
            assert other.search(text="blue", k=1, space=name, modality="image")[0].key == "blue"
        before = coloured.store.revision()
        paint(pictures[0], "blue"), paint(pictures[2], "red")
        coloured.upsert(xmr.Items("image", [pictures[0], pictures[2]], ["red", "blue"]))
        changes = other.store.changes("tree", 1, "image", before)
        assert changes is not None and (changes.came.tolist(), changes.went.tolist()) == ([0, 2], [])
        for name in ("near", "tree"):
            assert other.search(text="blue", k=1, space=name, modality="image")[0].key == "red"


def test_versions_that_are_not_published_lose_the_code_and_get_one_when_they_are(
    coloured: xmr.Library, pictures: list[Path]
) -> None:
    coloured.fit("toy >> flat", name="near", publish=False)
    paint(pictures[0], "blue"), paint(pictures[2], "red")
    coloured.upsert(xmr.Items("image", [pictures[0], pictures[2]], ["red", "blue"]))
    assert coloured.store.coded_ids("near", 2, "image").tolist() == [1, 3]
    coloured.publish("near", 2)
    assert closest(coloured, "blue") == "red"


def test_without_encoding_the_old_code_is_gone_until_refresh(coloured: xmr.Library, pictures: list[Path]) -> None:
    paint(pictures[0], "blue")
    assert coloured.upsert(xmr.Items("image", pictures[:1], ["red"]), encode=False).updated == 1
    assert closest(coloured, "red") != "red"
    assert coloured.refresh() == 1
    assert coloured.doctor() == []


def test_a_failure_leaves_all_as_it_was(
    coloured: xmr.Library, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = coloured.sql("SELECT item_id, content FROM xmr.items ORDER BY item_id").fetchall()
    paint(pictures[0], "blue")
    with monkeypatch.context() as patched:
        patched.setattr(coloured.store, "put_codes", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            coloured.upsert(xmr.Items("image", pictures[:1], ["red"]))
    assert coloured.sql("SELECT item_id, content FROM xmr.items ORDER BY item_id").fetchall() == before
    assert closest(coloured, "red") == "red"


def test_an_unreadable_image_is_refused_or_skipped_and_the_old_one_stays(
    coloured: xmr.Library, pictures: list[Path]
) -> None:
    pictures[0].write_bytes(b"no image")
    given = xmr.Items("image", pictures[:2], ["red", "green"])
    with pytest.raises(xmr.DataError, match="'red'"):
        coloured.upsert(given)
    done = coloured.upsert(given, on_error="skip")
    assert list(done.skipped) == ["red"] and done.unchanged == 1
    assert closest(coloured, "red") == "red"


def test_one_key_of_two_contents_is_refused_even_in_two_blocks(
    db: xmr.Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xmr_core.library.adding.LIGHT_BLOCK", 2)
    db.add(texts(a="one"))
    twice = xmr.Items("text", ["two", "b", "three"], ["a", "b", "a"])
    with pytest.raises(xmr.DataError, match="'a': one key names two different texts"):
        db.upsert(twice)
    assert db.store.items(np.array([0]), "text").data == ["one"]


def test_images_kept_as_bytes_and_texts_are_replaced_too(db: xmr.Library, tmp_path: Path) -> None:
    red, blue = (paint(tmp_path / f"{colour}.png", colour) for colour in ("red", "blue"))
    db.add(xmr.Items("image", [red.read_bytes()], ["x"]))
    db.add(texts(t="red"))
    db.upsert(xmr.Items("image", [blue.read_bytes()], ["x"]))
    db.upsert(texts(t="blue"))
    assert db.store.items(np.array([0]), "image").data == [blue.read_bytes()]
    assert db.store.items(np.array([1]), "text").data == ["blue"]
    db.upsert(xmr.Items("image", [red], ["x"]))
    assert db.store.items(np.array([0]), "image").data == [str(red)]


def test_metadata_alone_leave_codes_as_they_are(coloured: xmr.Library, pictures: list[Path]) -> None:
    before = coloured.store.revision()
    done = coloured.upsert(xmr.Items("image", pictures[:2], ["red", "green"], metadata={"stars": [5, None]}))
    assert (done.updated, done.unchanged) == (1, 1)
    changes = coloured.store.changes("near", 1, "image", before)
    assert changes is not None and not changes
    assert closest(coloured, "green", where="stars = 5") == "red"


def test_another_vector_gets_other_codes(db: xmr.Library) -> None:
    db.add(vectors(["a", "b"], np.eye(2)))
    db.fit("precomputed(name='clip') >> flat", name="clip")
    with pytest.raises(xmr.DataError, match="another vector 'clip'; upsert replaces it"):
        db.add(vectors(["a", "b"], np.eye(2)[::-1]))
    assert db.upsert(vectors(["a", "b"], np.eye(2)[::-1])).updated == 2
    assert db.search(vector=[1.0, 0.0], k=1, space="clip", modality="text")[0].key == "b"
    assert db.doctor() == []


def test_other_content_drops_a_vector_that_is_not_given_again(db: xmr.Library) -> None:
    db.add(vectors(["a", "b"], np.eye(2)))
    db.fit("precomputed(name='clip') >> flat", name="clip")
    done = db.upsert(texts(a="another text"))
    assert list(done.uncoded) == ["a"]
    assert db.search(vector=[1.0, 0.0], k=2, space="clip", modality="text").ids.tolist() == [[1, -1]]
    given = xmr.Items("text", ["a third text"], ["a"], vectors={"clip": np.array([[1, 0]], np.float32)})
    assert db.upsert(given).uncoded == {}
    assert db.search(vector=[1.0, 0.0], k=1, space="clip", modality="text").ids.tolist() == [[0]]


def test_items_that_are_vectors_get_others(db: xmr.Library) -> None:
    rows = np.eye(3, dtype=np.float32)
    db.add(xmr.Items("image", rows, ["a", "b", "c"]))
    db.fit("precomputed(dim=3) >> flat", name="own")
    assert db.upsert(xmr.Items("image", rows[[1, 0]], ["a", "b"])).updated == 2
    assert db.search(vector=rows[:1], k=1, space="own", modality="image")[0].key == "b"
    assert db.doctor() == []


def test_codes_made_elsewhere_are_not_kept_for_another_content(db: xmr.Library) -> None:
    db.add(texts(a="one", b="two"))
    db.add_embeddings(np.eye(2), space="mine", recipe="flat", modality="text", ids=[0, 1])
    done = db.upsert(texts(a="three"))
    assert "add_embeddings gives it one" in done.uncoded["a"]
    assert db.store.coded_ids("mine", 1, "text").tolist() == [1]
    db.add_embeddings(np.eye(2)[:1], space="mine", modality="text", ids=[0])
    assert db.search(vector=[1.0, 0.0], k=1, space="mine", modality="text").ids.tolist() == [[0]]


def test_a_store_that_replaces_nothing_says_so(db: xmr.Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(db.store), "replaces", False)
    with pytest.raises(xmr.StorageError, match="does not replace items"):
        db.upsert(texts(a="one"))


def test_a_killed_fit_is_not_resumed_over_other_contents(
    db: xmr.Library, pairs: xmr.Pairs, pictures: list[Path]
) -> None:
    from xmr_core.library.fitting import _content
    from xmr_core.recipes import Pipeline

    db.add(pairs)
    pipeline = Pipeline.parse("toy >> flat")
    before = list(_content(db.store, pipeline, db.store.pairs()))
    assert list(_content(db.store, pipeline, db.store.pairs())) == before
    paint(pictures[0], "blue")
    db.upsert(xmr.Items("image", pictures[:1], ["red"]))
    assert list(_content(db.store, pipeline, db.store.pairs())) != before


def test_a_process_killed_in_an_upsert_leaves_the_old_content_and_its_codes(
    coloured: xmr.Library, pictures: list[Path], tmp_path: Path
) -> None:
    paint(pictures[0], "blue")
    coloured.close()
    code = """
import os, signal, sys
import xmr_core as xmr
db = xmr.open("a.duckdb", progress=False)
put = db.store.put_codes
def die(*rows):
    put(*rows)
    os.kill(os.getpid(), signal.SIGKILL)
db.store.put_codes = die
db.upsert(xmr.Items("image", [sys.argv[1]], ["red"]))
"""
    done = subprocess.run([sys.executable, "-c", code, str(pictures[0])], cwd=tmp_path, check=False)
    assert done.returncode == -9
    paint(pictures[0], "red")
    with xmr.open(tmp_path / "a.duckdb", progress=False) as again:
        assert again.doctor() == []
        assert again.upsert(xmr.Items("image", pictures[:1], ["red"])) == xmr.Added(known=1)
        assert closest(again, "red") == "red"


def test_handles_that_replace_the_same_items_at_once_leave_one_code_each(db: xmr.Library, tmp_path: Path) -> None:
    keys = ["a", "b", "c"]
    db.add(vectors(keys, np.eye(3)))
    db.fit("precomputed(name='clip') >> flat", name="clip")

    def replace_all(seed: int) -> int:
        rng = np.random.default_rng(seed)
        with xmr.open(tmp_path / "a.duckdb", progress=False) as own:
            return sum(own.upsert(vectors(keys, rng.normal(size=(3, 3)))).updated for _ in range(5))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(replace_all, range(4))) == [15] * 4
    assert db.doctor() == []
    _, latest = db.store.get_vectors("text", "clip", np.arange(3))
    for row, vector in enumerate(latest):
        assert db.search(vector=vector, k=1, space="clip", modality="text").ids.tolist() == [[row]]


# any sequence


@pytest.mark.parametrize("seed", range(4))
def test_after_any_changes_every_index_finds_what_a_scan_of_the_latest_finds(
    db: xmr.Library, tmp_path: Path, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    latest: dict[str, tuple[Any, int]] = {
        f"k{i}": (row, i) for i, row in enumerate(rng.normal(size=(30, 4)).astype("f4"))
    }
    ids = {key: i for i, key in enumerate(latest)}

    def given(keys: list[str]) -> xmr.Items:
        rows, stars = zip(*(latest[key] for key in keys), strict=True)
        return xmr.Items("image", np.array(rows, np.float32), keys, metadata={"stars": list(stars)})

    db.add(given(list(latest)))
    for head in ("flat", "kdtree", "hnsw" if find_spec("hnswlib") and seed == 0 else "lsh"):
        db.fit(f"precomputed(dim=4, metric='l2') >> {head}", name=head, where="item_id < 20")
    with xmr.open(tmp_path / "a.duckdb", progress=False) as other:
        for step in range(12):
            keys = sorted(rng.choice(sorted(latest), 5, replace=False).tolist())
            if step % 4 == 3:
                db.delete(where={"key": keys[:2]})
                for key in keys[:2]:
                    del latest[key], ids[key]
            else:
                keys += [f"new{step}"] if step % 2 else []
                for key in keys:
                    latest[key] = rng.normal(size=4).astype("f4"), int(rng.integers(5))
                done = (db if step % 3 else other).upsert(given(keys))
                assert (done.new, done.updated) == (step % 2, 5)
                ids |= {} if step % 2 == 0 else {f"new{step}": int(db.store.next_id()) - 1}
            query = rng.normal(size=4).astype("f4")
            for handle in (db, other):
                for space in handle.spaces():
                    found = handle.search(vector=query, k=3, space=space, modality="image", exact=space == "lsh")
                    assert found.ids[0].tolist() == nearest(query, latest, ids)[:3], (step, space)
                found = handle.search(vector=query, k=3, space="flat", modality="image", where={"stars": 1})
                liked = {key: entry for key, entry in latest.items() if entry[1] == 1}
                assert [one for one in found.ids[0].tolist() if one >= 0] == nearest(query, liked, ids)[:3]
    assert db.doctor() == []


def nearest(query: Any, latest: dict[str, tuple[Any, int]], ids: dict[str, int]) -> list[int]:
    """Ids by distance, by the plain loop."""
    ranked = sorted((float(((row - query) ** 2).sum()), ids[key]) for key, (row, _) in latest.items())
    return [item for _, item in ranked]
