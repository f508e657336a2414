"""Spaces whose codes describe themselves: in the file, without their plugin, and in files from before they did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import xmr_core as xmr
from xmr_core.store import SpaceRecord
from xmr_core.types import Column
from xmr_storage.duckdb.store import DuckDBStore

IDS = np.arange(0, 30, 3)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDBStore]:
    opened = DuckDBStore.open(str(tmp_path / "mine.duckdb"))
    yield opened
    opened.close()


def put(store: DuckDBStore, codes: xmr.Codes, form: xmr.SqlForm | None = None) -> None:
    store.put_space(SpaceRecord("mine", 1, "mine", "", "l2", codes.layout, form=form))
    store.put_codes("mine", 1, "image", codes)
    store.publish("mine", 1)


def macros(store: DuckDBStore) -> set[str]:
    names = "SELECT function_name FROM duckdb_functions() WHERE function_name LIKE '%_mine'"
    return {name for (name,) in store.rows(names)}


@pytest.mark.parametrize(
    "layout", [xmr.Layout.bits(64), xmr.Layout.vectors(8), xmr.Layout.symbols(4, name="pq"), xmr.Layout.opaque(5)]
)
def test_codes_without_a_form_are_counted_and_not_searched(store: DuckDBStore, layout: xmr.Layout) -> None:
    """Whatever their layout: only their indexer knows what two codes are apart."""
    put(store, xmr.Codes(IDS, np.zeros((10, layout.nbytes), np.uint8), layout))
    assert macros(store) == {"counts_mine", "collisions_mine"}
    assert store.rows("FROM xmr.counts_mine()") == [("image", 10, 1)]
    assert store.rows("FROM xmr.collisions_mine()") == [(10, IDS.tolist())]


def test_a_layout_of_ones_own_comes_back(store: DuckDBStore) -> None:
    columns = (Column("c0", "uint8"), Column("norm", "float64"), Column("tail", "bytes", 3))
    layout = xmr.Layout("mixed", columns, 4)
    values = np.random.default_rng(0).integers(0, 200, (10, layout.nbytes), dtype=np.uint8)
    put(store, xmr.Codes(IDS, values, layout))
    assert store.spaces()[0].layout == layout
    assert np.array_equal(store.get_codes("mine", 1, "image").values, values)
    assert store.db.columns("code_mine_v1") == {
        "item_id": "BIGINT",
        "modality": "VARCHAR",
        "c0": "SMALLINT",
        "norm": "DOUBLE",
        "tail": "BLOB",
    }


@pytest.mark.parametrize("recipe", ["pq(bytes=4, bits=4, rotation='opq')", "lattice(r2=10)", "flat", "sign >> hamming"])
def test_a_space_from_before_is_described_when_it_is_published(tmp_path: Path, recipe: str) -> None:
    """Without the table `forms`, as the first release left files, and as an export of it has none."""
    vectors = np.random.default_rng(0).standard_normal((60, 24)).astype(np.float32)
    with xmr.open(tmp_path / "old.duckdb") as db:
        recipe = recipe if "hamming" not in recipe else f"precomputed(dim=24) >> {recipe}"
        db.add(xmr.Items("image", vectors)) if "precomputed" in recipe else db.add_embeddings(vectors, "mine", recipe)
        if "precomputed" in recipe:
            db.fit(recipe, name="mine")
        before = db.sql("FROM xmr.topk_mine(xmr.stored_mine(5), 60)").fetchall()
        db.sql("DROP TABLE xmr.forms")
    with xmr.open(tmp_path / "old.duckdb", read_only=True) as db:
        assert db.sql("FROM xmr.topk_mine(xmr.stored_mine(5), 60)").fetchall() == before
        assert db.space("mine").record.layout.nbytes
    with xmr.open(tmp_path / "old.duckdb") as db:
        db.publish("mine", 1)
        assert db.sql("FROM xmr.topk_mine(xmr.stored_mine(5), 60)").fetchall() == before
        assert db.sql("SELECT count(form) FROM xmr.forms").fetchone() == (1,)
        db.compact()
        assert db.sql("FROM xmr.topk_mine(xmr.stored_mine(5), 60)").fetchall() == before
        db.drop("mine")
        tables = "SELECT table_name FROM duckdb_tables() WHERE table_name LIKE '%_mine_v1'"
        assert db.sql(tables).fetchall() == []


def test_a_published_space_needs_its_plugin_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What SQL needs is in the file: a copy of it can be published where the plugin is not installed."""
    vectors = np.random.default_rng(0).standard_normal((60, 24)).astype(np.float32)
    with xmr.open(tmp_path / "mine.duckdb") as db:
        db.add_embeddings(vectors, "mine", "pq(bytes=4, bits=4)")
        before = db.sql("FROM xmr.topk_mine(xmr.stored_mine(5), 60)").fetchall()
        db.export(tmp_path / "export")
    monkeypatch.setattr("xmr_core.registry.default", lambda: pytest.fail("the registry was asked"))
    store = DuckDBStore.open(str(tmp_path / "copy.duckdb"))
    store.restore(tmp_path / "export")
    assert store.rows("FROM xmr.topk_mine(xmr.stored_mine(5), 60)") == before
    store.close()


@pytest.mark.parametrize(
    "damage", ["{}", "[1]", "no JSON", json.dumps({"is": "Expression"}), json.dumps({"is": "add", "of": []})]
)
def test_a_damaged_form_is_said_to_be(store: DuckDBStore, damage: str) -> None:
    put(store, xmr.Codes(IDS, np.zeros((10, 8), np.uint8), xmr.Layout.bits(64)))
    store.execute("UPDATE xmr.forms SET form = $1", [damage])
    with pytest.raises(xmr.StateError, match="damaged"):
        store.publish("mine", 1)
