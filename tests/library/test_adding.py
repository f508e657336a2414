"""Adding items that are known already, and embeddings that are no items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xmr_core as xmr


def library(folder: Path) -> xmr.Library:
    return xmr.open(folder / "a.duckdb", progress=False)


def texts(keys: list[str], **metadata: Any) -> xmr.Items:
    return xmr.Items("text", keys, keys, metadata=metadata)


def test_metadata_of_known_items_are_updated_where_they_are_given(tmp_path: Path) -> None:
    with library(tmp_path) as db:
        db.add(texts(["a", "b", "c"], split=["train", "train", "test"], year=[1, 2, 3]))
        done = db.add(texts(["a", "b", "d"], split=["test", None, "new"], stars=[5, None, 1]))
        assert (done.new, done.known, done.updated) == (1, 2, 1)
        rows = db.sql("SELECT key, split, year, stars FROM xmr.catalog ORDER BY key").fetchall()
        assert rows == [("a", "test", 1, 5), ("b", "train", 2, None), ("c", "test", 3, None), ("d", "new", None, 1)]


def test_adding_the_same_again_updates_nothing(tmp_path: Path) -> None:
    with library(tmp_path) as db:
        given = texts(["a", "b"], tags=[["x"], []], year=[1, None])
        db.add(given)
        assert db.add(given) == xmr.Added(known=2)


def test_items_that_had_no_metadata_get_some(tmp_path: Path) -> None:
    with library(tmp_path) as db:
        db.add(texts(["a", "b"]))
        assert db.add(texts(["b"], year=[7])).updated == 1
        assert db.sql("SELECT year FROM xmr.catalog ORDER BY key").fetchall() == [(None,), (7,)]


def test_an_update_widens_a_column_or_is_refused_whole(tmp_path: Path) -> None:
    with library(tmp_path) as db:
        db.add(texts(["a"], price=[1]))
        assert db.add(texts(["a"], price=[1.5])).updated == 1
        with pytest.raises(xmr.DataError, match="'price': the column holds DOUBLE"):
            db.add(texts(["a", "b"], price=["dear", "cheap"]))
        assert db.sql("SELECT key, price FROM xmr.catalog").fetchall() == [("a", 1.5)]


def test_a_condition_chooses_among_embeddings_made_elsewhere(tmp_path: Path) -> None:
    with library(tmp_path) as db:
        vectors = np.random.default_rng(0).normal(size=(50, 8))
        db.add_embeddings(vectors, space="s", recipe="flat")
        assert sorted(db.search(vector=vectors[:1], space="s", k=3, where="item_id < 3").ids[0].tolist()) == [0, 1, 2]
        mine = "item_id IN (SELECT id FROM mine)"
        db.sql("CREATE TABLE mine AS SELECT 7 AS id")
        assert db.search(vector=vectors[:1], space="s", k=1, where=mine).ids.tolist() == [[7]]


def test_embeddings_made_elsewhere_are_counted_when_they_are_deleted(tmp_path: Path) -> None:
    with library(tmp_path) as db:
        db.add_embeddings(np.eye(8), space="s", recipe="flat")
        db.add_embeddings(np.eye(8), space="t", recipe="flat", ids=range(8))
        assert db.delete(ids=[1, 2, 99]) == 2


def test_an_emptied_space_says_so(tmp_path: Path) -> None:
    with library(tmp_path) as db:
        db.add_embeddings(np.eye(8), space="s", recipe="flat")
        db.delete(ids=range(8))
        with pytest.raises(xmr.DataError, match="space 's' is empty"):
            db.search(vector=np.zeros(8), space="s", k=2)


def test_a_tensor_is_taken_whatever_its_type_and_with_its_gradients(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    with library(tmp_path) as db:
        for position, tensor in enumerate((torch.eye(4).bfloat16(), torch.eye(4, requires_grad=True))):
            ids = db.add_embeddings(tensor, space=f"s{position}", recipe="flat")
            assert db.search(vector=np.eye(4)[2], space=f"s{position}", k=1).ids.tolist() == [[ids[2]]]


def test_rows_of_different_lengths_are_no_vectors(tmp_path: Path) -> None:
    with library(tmp_path) as db, pytest.raises(xmr.DataError, match="do its rows differ"):
        db.add_embeddings([[1, 2], [3]], space="s", recipe="flat")  # type: ignore[arg-type]  # that is the point


# the cost of a large batch


def test_stored_keys_are_read_once_however_many_blocks_a_batch_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xmr_core.library.adding.LIGHT_BLOCK", 10)
    with library(tmp_path) as db:
        db.add(texts([f"t{i}" for i in range(15)]))
        asked: list[int] = []
        match = db.store.match
        monkeypatch.setattr(db.store, "match", lambda kind, keys: asked.append(len(keys)) or match(kind, keys))
        done = db.add(texts([f"t{i}" for i in range(95)], year=list(range(95))))
        assert (done.new, done.known, done.updated, asked) == (80, 15, 15, [95])
        assert db.sql("SELECT count(*), sum(year) FROM xmr.catalog").fetchall() == [(95, sum(range(95)))]


def test_a_key_that_comes_again_in_a_later_block_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xmr_core.library.adding.LIGHT_BLOCK", 2)
    with library(tmp_path) as db:
        assert db.add(texts(["a", "b", "c", "a", "b"])) == xmr.Added(new=3, known=2)
        with pytest.raises(xmr.DataError, match="'x': already there with other content"):
            db.add(xmr.Items("text", ["one", "two", "three"], ["x", "y", "x"]))
        assert db.store.counts()["text"] == 3
