"""A stored item asks in SQL as in Python: with the vector that its code was made of, where the library has it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

import xmr_core as xmr

ROWS, DIM, K = 80, 16, 6
RECIPES = {
    "bits": "precomputed >> sign >> hamming",
    "vectors": "precomputed >> flat",
    "small": "precomputed >> pq(bytes=4, bits=4)",
    "turned": "precomputed >> pq(bytes=4, bits=4, rotation='opq')",
    "l2": "precomputed >> identity(metric='l2') >> pq(bytes=4, bits=4)",
    "named": "precomputed(name='clip') >> pq(bytes=4, bits=4)",
    "points": "precomputed >> lattice(r2=4)",
}
Connection = duckdb.DuckDBPyConnection


def things(rng: np.random.Generator, rows: int = ROWS, prefix: str = "") -> xmr.Pairs:
    """Pairs of vectors in few clusters, with vectors `clip` beside them."""
    about = rng.normal(size=(5, DIM))[rng.integers(0, 5, rows)]

    def side(modality: str) -> xmr.Items:
        vectors = {"clip": about + rng.normal(size=(rows, DIM)) / 2}
        keys = [f"{prefix}{row}" for row in range(rows)]
        return xmr.Items(modality, about + rng.normal(size=(rows, DIM)) / 2, keys, vectors=vectors)

    return xmr.Pairs(side("image"), side("text"), np.stack([np.arange(rows)] * 2, axis=1))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("asking") / "a.duckdb"
    with xmr.open(path, progress=False) as db:
        db.add(things(np.random.default_rng(0)))
        for name, recipe in RECIPES.items():
            db.fit(recipe, name=name)
    return path


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of three of the spaces, which is opened and compared sooner."""
    path = tmp_path_factory.mktemp("few") / "a.duckdb"
    with xmr.open(path, progress=False) as db:
        db.add(things(np.random.default_rng(0)))
        for name in ("small", "named", "points"):
            db.fit(RECIPES[name], name=name)
    return path


@pytest.fixture
def db(few: Path, tmp_path: Path) -> Iterator[xmr.Library]:
    shutil.copy(few, tmp_path / "a.duckdb")
    with xmr.open(tmp_path / "a.duckdb", progress=False) as db:
        yield db


def in_python(db: xmr.Library, space: str, items: list[int]) -> dict[int, list[tuple[int, float]]]:
    """The hits of each item."""
    found = {}
    for item in items:
        hits = db.search(item=item, k=K, space=space, exact=True)
        found[item] = list(zip(hits.ids[0].tolist(), hits.distances[0].tolist(), strict=True))
    return found


def assert_same(rows: list[Any], wanted: list[tuple[int, float]]) -> None:
    """Assert one list of ids; distances to float32, of which a Euclidean one loses half the digits near zero."""
    assert [row[0] for row in rows] == [item for item, _ in wanted]
    assert [row[-1] for row in rows] == pytest.approx([distance for _, distance in wanted], rel=1e-5, abs=1e-4)


def assert_alike(query: Callable[[str], list[Any]], space: str, found: dict[int, list[tuple[int, float]]]) -> None:
    """Assert that the macros which take stored items find what was found in Python."""
    batch = query(f"FROM xmr.batch_{space}({K}, items := {[*found]})")
    for item, wanted in found.items():
        assert_same([row[1:] for row in batch if row[0] == item], wanted)
    item, wanted = next(iter(found.items()))
    assert_same(query(f"FROM xmr.like_{space}({item}, {K})"), wanted)


def fetched(db: xmr.Library) -> Callable[[str], list[Any]]:
    return lambda query: list(db.sql(query).fetchall())


ASKED = [0, 3, 2 * ROWS - 1]


@pytest.mark.parametrize("space", RECIPES)
def test_sql_and_python_give_the_same_lists(made: Path, space: str) -> None:
    with xmr.open(made, read_only=True, progress=False) as db:
        found = in_python(db, space, ASKED)
    with duckdb.connect(made, read_only=True) as con:
        assert_alike(lambda query: con.execute(query).fetchall(), space, found)
        (item, wanted), other = next(iter(found.items())), "modality := 'text'"
        ((family,),) = con.execute(f"SELECT family FROM xmr.about_{space}").fetchall()
        for call in (
            f"nearest_to_item_{family}('xmr.code_{space}', {item}, k := {K})",
            f"topk_{space}(xmr.stored_{space}({item}), {K}, {other})",
        ):
            assert_same(con.execute(f"FROM xmr.{call}").fetchall(), wanted)


def test_a_key_of_both_modalities_asks_for_both(db: xmr.Library) -> None:
    image, text = in_python(db, "small", [7, 7 + ROWS]).values()
    ((family,),) = db.sql("SELECT family FROM xmr.about_small").fetchall()
    rows = db.sql(f"FROM xmr.nearest_to_key_{family}('xmr.code_small', '7', k := {2 * K})").fetchall()
    wanted = sorted([*image, *text], key=lambda hit: (hit[1], hit[0]))
    assert_same(rows[:K], wanted[:K])


def test_the_vector_is_what_a_stored_item_asks_with(db: xmr.Library) -> None:
    ((asked, vector),) = db.sql(
        "SELECT xmr.stored_small(3), f.vector::FLOAT[] FROM xmr.feature_precomputed AS f WHERE f.item_id = 3"
    ).fetchall()
    assert asked == vector


def test_a_lateral_join_asks_with_the_vectors_too(db: xmr.Library) -> None:
    db.sql(f"CREATE TABLE main.mine AS SELECT unnest({ASKED}) AS item_id")
    rows = db.sql(
        f"SELECT m.item_id, n.item_id, n.distance FROM main.mine AS m, xmr.like_small(m.item_id, {K}) AS n"
    ).fetchall()
    for item, wanted in in_python(db, "small", ASKED).items():
        found = sorted((row[2], row[1]) for row in rows if row[0] == item)
        assert_same([(hit, distance) for distance, hit in found], wanted)


def test_items_that_are_replaced_deleted_and_added_ask_with_what_they_are_now(db: xmr.Library) -> None:
    rng = np.random.default_rng(1)
    db.upsert(xmr.Items("image", rng.normal(size=(2, DIM)), ["0", "3"], vectors={"clip": rng.normal(size=(2, DIM))}))
    db.delete([1, ROWS + 1])
    db.add(things(rng, 5, "new "))
    asked = [*ASKED, *db.store.ids()[-2:].tolist()]
    for space in ("small", "named"):
        assert_alike(fetched(db), space, in_python(db, space, asked))


def test_a_new_version_asks_with_its_own_vectors(db: xmr.Library) -> None:
    db.fit("precomputed(name='clip') >> pq(bytes=8, bits=4)", name="small")
    wanted = in_python(db, "small", ASKED)
    assert_alike(fetched(db), "small", wanted)
    db.publish("small", 1)
    assert_alike(fetched(db), "small", in_python(db, "small", ASKED))
    assert in_python(db, "small", ASKED) != wanted


def test_an_item_without_a_vector_asks_with_what_its_code_stands_for(db: xmr.Library) -> None:
    rng = np.random.default_rng(2)
    db.add_embeddings(rng.normal(size=(40, DIM)), space="ready", recipe="pq(bytes=4, bits=4)", modality="image")
    db.add_embeddings(rng.normal(size=(40, DIM)), space="ready", modality="text")
    image = int(db.store.coded_ids("ready", 1, "image")[0])
    decoded = db.space("ready").pipeline.restore(db.store.get_codes("ready", 1, "image", np.array([image]))).values[0]
    hits = db.search(vector=decoded, modality="text", k=K, space="ready", exact=True)
    wanted = list(zip(hits.ids[0].tolist(), hits.distances[0].tolist(), strict=True))
    assert_same(db.sql(f"FROM xmr.like_ready({image}, {K})").fetchall(), wanted)
    assert db.sql("SELECT count(*) FROM xmr.asked_ready").fetchall() == [(0,)]


def test_an_attached_library_asks_with_its_own_vectors(few: Path, tmp_path: Path) -> None:
    with xmr.open(tmp_path / "b.duckdb", progress=False) as db:
        db.add(things(np.random.default_rng(5)))
        db.fit(RECIPES["small"], name="small")
        wanted = in_python(db, "small", ASKED)
    with duckdb.connect(few, read_only=True) as con:
        con.execute(f"ATTACH '{tmp_path / 'b.duckdb'}' AS other (READ_ONLY)")
        for item, hits in wanted.items():
            codes = "'other.xmr.code_small'"
            assert_same(con.execute(f"FROM other.xmr.like_small({item}, {K}, codes := {codes})").fetchall(), hits)
            assert_same(con.execute(f"FROM xmr.like_small({item}, {K}, codes := {codes})").fetchall(), hits)


@pytest.mark.parametrize("how", ["EXPORT DATABASE", "export", "compact"])
def test_a_library_that_was_copied_asks_alike(db: xmr.Library, tmp_path: Path, how: str) -> None:
    wanted = {space: in_python(db, space, ASKED) for space in ("named", "points")}
    if how == "compact":
        db.compact()
        queries = fetched(db)
    elif how == "export":
        db.export(tmp_path / "exported")
        copy = xmr.open(tmp_path / "copy.duckdb", progress=False)
        copy.restore(tmp_path / "exported")
        queries = fetched(copy)
    else:
        db.sql(f"EXPORT DATABASE '{tmp_path / 'dump'}'")
        con = duckdb.connect()
        con.execute(f"IMPORT DATABASE '{tmp_path / 'dump'}'")
        queries = lambda query: con.execute(query).fetchall()  # noqa: E731
    for space, found in wanted.items():
        assert_alike(queries, space, found)


def test_a_library_from_before_finds_its_vectors_when_it_is_opened(few: Path, tmp_path: Path) -> None:
    path = tmp_path / "old.duckdb"
    shutil.copy(few, path)
    with duckdb.connect(path) as con:
        con.execute("DROP TABLE xmr.encoded; UPDATE xmr.meta SET value = 'of old' WHERE key = 'macros'")
    with xmr.open(path, read_only=True, progress=False) as db:
        wanted = in_python(db, "small", ASKED)
    with xmr.open(path, progress=False) as db:
        assert_alike(fetched(db), "small", wanted)
        assert db.doctor() == []


def test_a_table_of_vectors_that_is_gone_is_found_and_done_without(db: xmr.Library) -> None:
    db.sql("DROP TABLE xmr.vector_text__clip")
    db.sql("DROP TABLE xmr.vector_image__clip")
    assert any("asked_named" in finding for finding in db.doctor())
    db.doctor(repair=True)
    assert len(db.sql(f"FROM xmr.like_named(0, {K})").fetchall()) == K
