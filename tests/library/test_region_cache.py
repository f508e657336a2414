"""Regions of pictures: kept in files beside the database, whatever kills the process, whatever is deleted."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.library.region_cache import DIGEST, Regions, digests_of
from xmr_core.library.run import LibraryRun
from xmr_core.progress import concatenate, encode_cached, use_run

pytestmark = pytest.mark.usefixtures("toy")
RECIPE = "gaze >> flat"


@pytest.fixture
def db(tmp_path: Path, pairs: xmr.Pairs) -> Iterator[xmr.Library]:
    with xmr.open(tmp_path / "regions.duckdb", progress=False) as library:
        library.add(pairs)
        yield library


def folder_of(db: xmr.Library) -> Path:
    assert db.store.folder is not None
    (folder,) = (db.store.folder / "features").iterdir()
    return folder


def encoded(db: xmr.Library) -> int:
    """How many pictures are encoded anew when all are asked for."""
    from xmr_toy import Patches

    before = Patches.encoded
    with LibraryRun(db.store, progress=False) as run, use_run(run):
        items = db.store.items(db.store.ids("image"), "image")
        kept = encode_cached(Patches(), items)
        np.testing.assert_array_equal(kept.values, Patches().encode(items).values)
    return Patches.encoded - before - len(items)


def rows(n: int, start: int = 0) -> NDArray[np.float16]:
    return np.arange(start * 6, (start + n) * 6, dtype=np.float16).reshape(n, 3, 2)


def digests(*names: str) -> NDArray[np.bytes_]:
    return np.array([name.encode() * 32 for name in names], DIGEST)


def test_regions_are_computed_once_for_all_spaces(db: xmr.Library) -> None:
    from xmr_toy import Patches

    before = Patches.encoded
    db.fit(RECIPE, name="first")
    db.fit(RECIPE, name="second")
    assert Patches.encoded - before == 4
    assert encoded(db) == 0


def test_they_are_mapped_when_they_follow_each_other_and_copied_when_not(tmp_path: Path) -> None:
    regions = Regions(tmp_path / "patches")
    regions.append(digests("a", "b", "c"), rows(3))
    assert isinstance(regions.read(np.array([1, 2])), np.memmap)
    assert not isinstance(regions.read(np.array([2, 0])), np.memmap)
    np.testing.assert_array_equal(regions.read(np.array([2, 0])), rows(3)[[2, 0]])
    assert not regions.read(np.array([0, 1])).flags.writeable


def test_rows_are_found_by_what_a_picture_is(tmp_path: Path) -> None:
    regions = Regions(tmp_path / "patches")
    assert regions.find(digests("a")).tolist() == [-1]
    regions.append(digests("c", "a"), rows(2))
    regions.append(digests("b"), rows(1, 2))
    assert Regions(tmp_path / "patches").find(digests("a", "x", "b", "c")).tolist() == [1, -1, 2, 0]


@pytest.mark.parametrize("torn", ["values", "digests"])
def test_a_torn_tail_is_not_counted_and_is_overwritten(tmp_path: Path, torn: str) -> None:
    regions = Regions(tmp_path / "patches")
    regions.append(digests("a"), rows(1))
    with (tmp_path / "patches" / torn).open("ab") as file:
        file.write(b"half a ro" + b"w" * 40)  # as a process leaves it that is killed while writing
    regions = Regions(tmp_path / "patches")
    assert (len(regions), regions.find(digests("b")).tolist()) == (1, [-1])
    regions.append(digests("b"), rows(1, 1))
    np.testing.assert_array_equal(Regions(tmp_path / "patches").read(np.array([0, 1])), rows(2))


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"dtype": "?!", "shape": [2]}'])
def test_a_damaged_description_begins_anew(tmp_path: Path, damage: str) -> None:
    regions = Regions(tmp_path / "patches")
    regions.append(digests("a"), rows(1))
    (tmp_path / "patches" / "shape.json").write_text(damage)
    regions = Regions(tmp_path / "patches")
    assert regions.find(digests("a")).tolist() == [-1]
    regions.append(digests("b"), rows(1))
    assert regions.find(digests("a", "b")).tolist() == [-1, 0]


def test_regions_of_another_shape_are_refused(tmp_path: Path) -> None:
    regions = Regions(tmp_path / "patches")
    regions.append(digests("a"), rows(1))
    with pytest.raises(xmr.DataError, match=r"kept are float16 \(3, 2\) a picture, got float16 \(4, 2\)"):
        regions.append(digests("b"), np.zeros((1, 4, 2), np.float16))


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(xmr.StorageError, match=r"cannot be written.*regions of .* are kept there"):
        Regions(tmp_path / "file" / "patches").append(digests("a"), rows(1))


def test_the_cache_may_be_deleted_at_any_time(db: xmr.Library) -> None:
    db.fit(RECIPE)
    before = db.search(text="a red thing", k=4).ids.tolist()
    shutil.rmtree(folder_of(db))
    assert db.search(text="a red thing", k=4).ids.tolist() == before
    assert encoded(db) == 4
    assert encoded(db) == 0


def test_what_is_deleted_is_blanked(db: xmr.Library) -> None:
    db.fit(RECIPE)
    white = db.store.ids("image", "key = 'white'")
    db.delete(where="key = 'white'")
    values = np.fromfile(folder_of(db) / "values", np.float16).reshape(4, 12)
    assert values.any(axis=1).sum() == 3
    assert len(white) == 1
    assert encoded(db) == 0


def test_an_id_that_comes_to_mean_another_picture_does_not_get_its_regions(
    db: xmr.Library, pictures: list[Path], tmp_path: Path
) -> None:
    from PIL import Image

    db.fit(RECIPE)
    Image.new("RGB", (8, 8), "purple").save(tmp_path / "purple.png")
    with pytest.raises(xmr.DataError), db.store.transaction():
        db.add(xmr.Items("image", [tmp_path / "purple.png"], ["purple"]))
        lost = db.store.ids("image", "key = 'purple'")
        raise xmr.DataError("the transaction fails after purple was encoded")
    Image.new("RGB", (8, 8), "orange").save(tmp_path / "orange.png")
    db.add(xmr.Items("image", [tmp_path / "orange.png"], ["orange"]))
    assert db.store.ids("image", "key = 'orange'").tolist() == lost.tolist()
    assert encoded(db) == 0


def test_a_reader_uses_what_is_kept_and_writes_nothing(db: xmr.Library, tmp_path: Path) -> None:
    from xmr_toy import Patches

    db.fit(RECIPE)
    db.close()
    before = Patches.encoded
    with xmr.open(tmp_path / "regions.duckdb", read_only=True, progress=False) as reader:
        reader.search(item=int(reader.store.ids("image")[0]), k=1)
        assert Patches.encoded == before
        shutil.rmtree(folder_of(reader))
        assert encoded(reader) == 4
        assert encoded(reader) == 4


def test_a_killed_process_keeps_what_it_had(db: xmr.Library, tmp_path: Path) -> None:
    from xmr_toy import Patches

    db.close()
    code = (
        "import os, signal, xmr_core as xmr\n"
        "from xmr_core.library import region_cache as regions, run as tracking\n"
        "tracking.REGION_BLOCK = 1\n"
        "write, values = regions._write, []\n"
        "def torn(file, offset, array):\n"
        "    values.extend([1] * (file.name == 'values'))\n"
        "    if len(values) == 3 and file.name == 'digests': os.kill(os.getpid(), signal.SIGKILL)\n"
        "    write(file, offset, array)\n"
        "regions._write = torn\n"
        f"xmr.open('regions.duckdb').fit({RECIPE!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == -9, done.stderr
    before = Patches.encoded
    with xmr.open(tmp_path / "regions.duckdb", progress=False) as again:
        again.fit(RECIPE)
        assert Patches.encoded - before == 2
        assert encoded(again) == 0


def test_nothing_is_kept_for_a_library_in_memory(pairs: xmr.Pairs) -> None:
    with xmr.open(":memory:", progress=False) as db:
        db.add(pairs)
        db.fit(RECIPE)
        assert encoded(db) == 4


def test_digests_are_those_of_the_store() -> None:
    assert digests_of(["00" * 31 + "01"])[0] == b"\0" * 31 + b"\1"


def test_blocks_are_bounded_by_bytes(db: xmr.Library, monkeypatch: pytest.MonkeyPatch) -> None:

    db.fit(RECIPE)
    whole = db.encode(text=["a red thing"] * 7, space=None).values
    monkeypatch.setattr("xmr_core.progress.FIRST", 2)
    monkeypatch.setattr("xmr_core.progress.BLOCK_BYTES", 1)
    np.testing.assert_array_equal(db.encode(text=["a red thing"] * 7).values, whole)


def test_a_recipe_that_begins_with_such_a_fuser_is_given_its_encoder() -> None:
    assert repr(xmr.Pipeline.parse(RECIPE)) == "each(image='patches', text='words(min_count=1)') >> gaze >> flat"
    assert xmr.Pipeline.parse("sign >> hamming").encoder is None


def test_embeddings_made_elsewhere_want_no_encoder(db: xmr.Library) -> None:
    with pytest.raises(xmr.ConfigError, match="embeddings need a recipe without one"):
        db.add_embeddings(np.zeros((2, 3)), "mine", recipe=RECIPE)


def test_features_may_be_half_precision() -> None:
    halves = xmr.Features("image", np.ones((2, 1, 3), np.float16))
    assert halves.vectors.dtype == np.float32
    joined = concatenate([halves, halves])
    assert (joined.values.dtype, joined.values.shape) == (np.float16, (4, 1, 3))
    with pytest.raises(xmr.DataError, match="expected float32 or float16"):
        xmr.Features("image", np.ones((2, 3), np.float16))
