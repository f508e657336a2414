"""A folder that is synced: the library holds what it holds, and nothing from elsewhere is touched."""

from __future__ import annotations

import ast
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import xmr_core as xmr

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


def paint(path: Path, colour: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), COLOURS[colour]).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images, two of them with captions beside them."""
    root = tmp_path / "photos"
    for name in ("red", "green", "sub/blue"):
        paint(root / f"{name}.png", name.split("/")[-1])
    (root / "red.txt").write_text("a red thing\none red thing\n")
    (root / "green.txt").write_text("a green thing\n")
    return root


@pytest.fixture
def db(toy: None, tmp_path: Path) -> Iterator[xmr.Library]:
    with xmr.open(tmp_path / "a.duckdb", progress=False) as opened:
        yield opened


@pytest.fixture
def synced(db: xmr.Library, folder: Path) -> xmr.Library:
    """The folder, synced once, in a space that needs no training."""
    assert db.sync(folder) == xmr.Synced(added=6)
    db.fit("toy >> flat", name="near")
    return db


def keys(db: xmr.Library) -> list[str]:
    return [key for (key,) in db.sql("SELECT key FROM xmr.catalog WHERE modality = 'image' ORDER BY key").fetchall()]


def captions(db: xmr.Library) -> list[tuple[str, str]]:
    """Key of the image and text, of every pair."""
    return db.sql(
        """
        SELECT i.key, t.text
        FROM xmr.pairs AS p
        JOIN xmr.items AS i ON i.item_id = p.image_id
        JOIN xmr.items AS t ON t.item_id = p.text_id
        ORDER BY 1, 2
        """
    ).fetchall()


def closest(db: xmr.Library, colour: str) -> str:
    return db.search(text=f"a {colour} thing", k=1, space="near", modality="image")[0].key


def test_a_second_time_nothing_is_done(synced: xmr.Library, folder: Path) -> None:
    before = synced.store.revision()
    assert synced.sync(folder) == xmr.Synced(unchanged=6)
    changes = synced.store.changes("near", 1, "image", before)
    assert changes is not None and not changes


def test_what_came_is_added_what_changed_is_changed_what_went_is_removed(synced: xmr.Library, folder: Path) -> None:
    (red,) = synced.store.ids("image", where="key = 'red.png'")
    paint(folder / "white.png", "white")
    paint(folder / "red.png", "blue")
    (folder / "green.png").unlink()
    done = synced.sync(folder)
    assert (done.added, done.changed, done.removed, done.unchanged) == (1, 1, 2, 3)
    assert str(done) == "1 added, 1 changed, 2 removed, 3 unchanged"
    assert keys(synced) == ["red.png", "sub/blue.png", "white.png"]
    assert captions(synced) == [("red.png", "a red thing"), ("red.png", "one red thing")]
    assert synced.store.ids("image", where="key = 'red.png'").tolist() == [red]
    assert closest(synced, "white") == "white.png" and closest(synced, "blue") == "red.png"
    assert synced.doctor() == []
    assert synced.sync(folder) == xmr.Synced(unchanged=5)


def test_captions_follow_their_file(synced: xmr.Library, folder: Path) -> None:
    (folder / "red.txt").write_text("one red thing\nsomething red\n")
    done = synced.sync(folder)
    assert (done.added, done.changed, done.removed) == (1, 0, 1)
    assert [text for key, text in captions(synced) if key == "red.png"] == ["one red thing", "something red"]
    assert synced.doctor() == []


def test_a_table_of_captions_with_columns_is_followed(db: xmr.Library, folder: Path) -> None:
    table = folder / "captions.csv"
    table.write_text("image,text,stars\nred.png,a red thing,1\ngreen.png,a green thing,2\n")
    assert db.sync(folder).added == 4
    table.write_text("image,text,stars\nred.png,a red thing,5\nsub/blue.png,a blue thing,3\n")
    done = db.sync(folder)
    assert (done.added, done.changed, done.removed) == (2, 2, 2)
    rows = db.sql("SELECT key, stars FROM xmr.catalog WHERE modality = 'image' ORDER BY key").fetchall()
    assert rows == [("red.png", 5), ("sub/blue.png", 3)]


def test_a_change_that_keeps_size_and_time_is_seen(synced: xmr.Library, folder: Path) -> None:
    file = folder / "red.png"
    old = file.stat()
    content = bytearray(file.read_bytes())
    other = paint(folder.parent / "other.png", "blue").read_bytes()
    content[: len(other)] = other
    file.write_bytes(content[: old.st_size].ljust(old.st_size, b"\0"))
    os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (old.st_size, old.st_mtime_ns)
    assert synced.sync(folder).changed == 1


def test_files_that_are_as_they_were_are_not_read(
    db: xmr.Library, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xmr_core.library.syncing.SETTLED", -1)
    db.sync(folder)
    read: list[str] = []
    content = "xmr_core.library.syncing.content_of"
    monkeypatch.setattr(content, lambda data: read.append(Path(data).name) or xmr_content(data))
    monkeypatch.setattr("xmr_core.library.syncing.prepare", _refuse_images)
    assert db.sync(folder) == xmr.Synced(unchanged=6) and read == []
    (folder / "green.png").touch()
    assert db.sync(folder) == xmr.Synced(unchanged=6) and read == ["green.png"]
    assert db.sync(folder) == xmr.Synced(unchanged=6) and read == ["green.png"]


def xmr_content(data: Any) -> str:
    from xmr_core.library.content import content_of

    return content_of(data)


def _refuse_images(items: xmr.Items) -> Any:
    from xmr_core.library.content import prepare

    assert items.modality == "text" or not len(items), "images that are known are decoded"
    return prepare(items)


def test_what_others_replaced_becomes_what_the_folder_has_again(
    db: xmr.Library, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xmr_core.library.syncing.SETTLED", -1)
    db.sync(folder)
    db.upsert(xmr.Items("image", [paint(tmp_path / "else.png", "white")], ["red.png"]))
    assert db.sync(folder).changed == 1
    (item,) = db.store.ids("image", where="key = 'red.png'")
    assert db.store.items(np.array([item]), "image").data == [str(folder / "red.png")]
    assert db.sync(folder) == xmr.Synced(unchanged=6)


def test_items_that_were_deleted_come_back(synced: xmr.Library, folder: Path) -> None:
    synced.delete(where="key = 'green.png'")
    synced.sql("DELETE FROM xmr.items WHERE key = 'sub/blue.png'")
    done = synced.sync(folder)
    assert (done.added, done.removed, done.unchanged) == (2, 0, 4)
    assert ("green.png", "a green thing") in captions(synced)


def test_a_file_that_was_just_written_is_not_trusted_by_its_times(
    db: xmr.Library, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xmr_core.library.syncing.SETTLED", 1e6)
    db.sync(folder)
    _, stamps = db.store.get_source(str(folder))
    assert set(stamps) == {""}


# what came from elsewhere


def test_items_from_elsewhere_are_neither_removed_nor_replaced(db: xmr.Library, folder: Path, tmp_path: Path) -> None:
    db.add(xmr.Items("image", [paint(tmp_path / "else.png", "white")], ["green.png"]))
    db.add(xmr.Items("text", ["a stranger"], ["stranger"]))
    with pytest.raises(xmr.DataError, match=r"'green\.png': already there with other content, which did not come from"):
        db.sync(folder)
    assert len(db.store.ids()) == 2
    assert db.sync(folder, prefix="photos/").added == 6
    shutil.rmtree(folder / "sub")
    assert db.sync(folder, prefix="photos/").removed == 1
    assert keys(db) == ["green.png", "photos/green.png", "photos/red.png"]
    assert db.store.ids(where="key = 'stranger'").tolist() == [1]


def test_a_known_item_of_the_same_content_is_shared_and_stays(db: xmr.Library, folder: Path, tmp_path: Path) -> None:
    copy = shutil.copy(folder / "red.png", tmp_path / "copy.png")
    db.add(xmr.Items("image", [copy], ["red.png"]))
    assert (done := db.sync(folder)).added == 5 and done.changed == 0
    (folder / "red.png").unlink(), (folder / "red.txt").unlink()
    assert db.sync(folder).removed == 2, "its captions came from the folder"
    assert keys(db) == ["green.png", "red.png", "sub/blue.png"]


def test_two_folders_with_the_same_names_keep_apart_by_prefixes(db: xmr.Library, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    paint(other / "red.png", "white")
    db.sync(folder, prefix="a/")
    db.sync(other, prefix="b/")
    assert db.sync(folder, prefix="a/") == xmr.Synced(unchanged=6)
    paint(other / "two.png", "blue"), (other / "red.png").unlink()
    assert db.sync(other, prefix="b/").removed == 1
    assert keys(db) == ["a/green.png", "a/red.png", "a/sub/blue.png", "b/two.png"]


def test_what_was_added_from_the_folder_is_its_own(db: xmr.Library, folder: Path) -> None:
    db.add(folder)
    db.add(xmr.Items("text", ["mine"], ["mine"]))
    assert db.sync(folder) == xmr.Synced(unchanged=6)
    paint(folder / "red.png", "white"), (folder / "green.png").unlink()
    done = db.sync(folder)
    assert (done.changed, done.removed) == (1, 2)
    assert db.store.ids(where="key = 'mine'").tolist() == [6]


def test_a_caption_of_the_users_own_outlives_its_image(synced: xmr.Library, folder: Path) -> None:
    image = xmr.Items("image", [folder / "green.png"], ["green.png"])
    own = xmr.Items("text", ["my words"], ["own"])
    synced.add(xmr.Pairs(image, own, np.array([[0, 0]])))
    assert synced.sync(folder) == xmr.Synced(unchanged=6)
    assert ("green.png", "my words") in captions(synced)
    (folder / "green.png").unlink()
    assert synced.sync(folder).removed == 2
    assert len(synced.store.ids("text", where="key = 'own'")) == 1
    assert synced.doctor() == []


# what is refused


def test_a_folder_that_is_gone_or_empty_removes_nothing(synced: xmr.Library, folder: Path, tmp_path: Path) -> None:
    for file in folder.rglob("*.*"):
        file.unlink()
    with pytest.raises(xmr.DataError, match="holds no images, and 6 items came from it; nothing is removed") as error:
        synced.sync(folder)
    shutil.rmtree(folder)
    with pytest.raises(xmr.DataError, match="there is no folder"):
        synced.sync(folder)
    assert len(synced.store.ids()) == 6
    where = str(error.value).partition("delete(where=")[2].removesuffix(")")
    assert synced.delete(where=ast.literal_eval(where)) == 6


def test_an_unreadable_image_stays_as_it_was(synced: xmr.Library, folder: Path) -> None:
    (folder / "red.png").write_bytes(b"half")
    with pytest.raises(xmr.DataError, match=r"red\.png"):
        synced.sync(folder)
    done = synced.sync(folder, on_error="skip")
    assert (list(done.skipped), done.removed) == (["red.png"], 0)
    assert keys(synced) == ["green.png", "red.png", "sub/blue.png"]
    assert ("red.png", "a red thing") in captions(synced)


def test_shares_are_not_drawn_again(db: xmr.Library, folder: Path) -> None:
    with pytest.raises(xmr.ConfigError, match="must be a column"):
        db.sync(folder, split=0.5)


def test_a_failure_leaves_all_as_it_was(synced: xmr.Library, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "green.png").unlink(), paint(folder / "white.png", "white")
    with monkeypatch.context() as patched:
        patched.setattr(synced.store, "put_source", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            synced.sync(folder)
    assert keys(synced) == ["green.png", "red.png", "sub/blue.png"]
    assert synced.sync(folder).removed == 2


def test_it_is_remembered_in_the_file_and_in_an_export(synced: xmr.Library, folder: Path, tmp_path: Path) -> None:
    synced.export(tmp_path / "export")
    with xmr.open(tmp_path / "b.duckdb", progress=False) as copy:
        copy.restore(tmp_path / "export")
        assert copy.sync(folder) == xmr.Synced(unchanged=6)
        (folder / "green.png").unlink()
        assert copy.sync(folder).removed == 2


def test_a_table_alone_is_synced_too(db: xmr.Library, tmp_path: Path) -> None:
    table = tmp_path / "lines.csv"
    table.write_text("text\none\ntwo\n")
    assert db.sync(table).added == 2
    table.write_text("text\ntwo\nthree\n")
    done = db.sync(table)
    assert (done.added, done.removed, done.unchanged) == (1, 1, 1)
