"""Families of codes: macros that take the codes as an argument, and answer from the database they were asked about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

import xmr_core as xmr

RECIPES = {"bits": "hamming", "vectors": "flat", "small": "pq(bytes=4, bits=4)"}
ROWS = {"a": 60, "b": 40}  # items of each library
VERBS = ("nearest", "within", "distances", "nearest_to_item", "nearest_to_key", "nearest_each")
Connection = duckdb.DuckDBPyConnection


def write(file: Path, rows: int, seed: int) -> None:
    """A library with a space of each layout; ids from 0, every other an image."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rows, 16)).astype(np.float32)
    with xmr.open(file, progress=False) as db:
        for space, recipe in RECIPES.items():
            values = rng.integers(0, 256, (rows, 8), np.uint8) if space == "bits" else vectors
            for modality, start in (("image", 0), ("text", 1)):
                ids = np.arange(start, rows, 2)
                if modality == "image":
                    db.add_embeddings(values[ids], space=space, recipe=recipe, ids=ids, modality=modality)
                else:
                    db.add_embeddings(values[ids], space=space, ids=ids, modality=modality)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("families")
    for seed, (name, rows) in enumerate(ROWS.items()):
        write(folder / f"{name}.duckdb", rows, seed)
    return folder


@pytest.fixture
def con(folder: Path) -> Iterator[Connection]:
    """Connected to library a, with b attached as `other`."""
    with duckdb.connect(folder / "a.duckdb", read_only=True) as con:
        con.execute(f"ATTACH '{folder / 'b.duckdb'}' AS other (READ_ONLY)")
        yield con


def family(con: Connection, space: str, database: str = "a") -> str:
    ((name,),) = con.execute(f"SELECT family FROM {database}.xmr.about_{space}").fetchall()
    return str(name)


def rows(con: Connection, query: str, *parameters: Any) -> list[Any]:
    return con.execute(query, parameters or None).fetchall()


def test_bits_and_vectors_have_names_to_remember(con: Connection) -> None:
    assert family(con, "bits") == "bits64"
    assert family(con, "vectors") == "float16_l2"
    assert family(con, "small").startswith("pq8_l2_")


@pytest.mark.parametrize("space", RECIPES)
def test_a_family_answers_as_the_macros_of_the_space(con: Connection, space: str) -> None:
    f, codes = family(con, space), f"'xmr.code_{space}'"
    ((q,),) = rows(con, f"SELECT xmr.stored_{space}(4)")
    con.execute("CREATE TEMP TABLE queries AS SELECT $1 AS query_id, $2 AS query", [7, q])
    more = "modality := 'text', items := [1, 3, 4, 5, 7, 9, 11]"
    for one, other in (
        (f"nearest_{f}({codes}, $1, k := 5)", f"topk_{space}($1, 5)"),
        (f"nearest_{f}({codes}, $1, k := 5, {more})", f"topk_{space}($1, 5, {more})"),
        (f"within_{f}({codes}, $1, 30, {more})", f"within_{space}($1, 30, {more})"),
    ):
        found = rows(con, f"FROM xmr.{one}", q)
        assert found == rows(con, f"FROM xmr.{other}", q)
        assert found
    every = rows(con, f"FROM xmr.topk_{space}($1, NULL)", q)
    ordered = f"FROM xmr.distances_{f}({codes}, $1) ORDER BY distance, item_id"
    assert rows(con, ordered, q) == rows(con, ordered.replace(f"_{f}({codes}, ", f"_{space}("), q) == every
    like = rows(con, f"FROM xmr.like_{space}(4, 5)")
    assert rows(con, f"FROM xmr.nearest_to_item_{f}({codes}, 4, k := 5)") == like
    each = rows(con, f"FROM xmr.nearest_each_{f}({codes}, 'queries', k := 5)")
    assert each == rows(con, f"FROM xmr.each_{space}('queries', 5)") == [(7, row[0], row[2]) for row in every[:5]]


@pytest.mark.parametrize("space", RECIPES)
def test_a_family_answers_from_the_database_that_is_named(con: Connection, folder: Path, space: str) -> None:
    f = family(con, space)
    with duckdb.connect(folder / "b.duckdb", read_only=True) as alone:
        ((q,),) = rows(alone, f"SELECT xmr.stored_{space}(4)")
        wanted = rows(alone, f"FROM xmr.topk_{space}($1, NULL)", q)
        like = rows(alone, f"FROM xmr.like_{space}(4, NULL)")
    assert len(wanted) == ROWS["b"]
    codes = f"'other.xmr.code_{space}'"
    for database in ("a", "other"):  # whose macro it is does not matter
        assert rows(con, f"FROM {database}.xmr.nearest_{f}({codes}, $1, k := NULL)", q) == wanted
        assert rows(con, f"FROM {database}.xmr.topk_{space}($1, NULL, codes := {codes})", q) == wanted
        assert rows(con, f"FROM {database}.xmr.like_{space}(4, NULL, codes := {codes})") == like
        assert rows(con, f"SELECT {database}.xmr.stored_{space}(4, codes := {codes})") == [(q,)]


@pytest.mark.parametrize("space", RECIPES)
def test_a_default_never_leads_to_another_library(con: Connection, space: str) -> None:
    assert len(rows(con, f"FROM xmr.like_{space}(4, NULL)")) == ROWS["a"] // 2
    con.execute(f"CREATE TEMP TABLE queries AS SELECT 1 AS query_id, xmr.stored_{space}(4) AS query")
    q = "(SELECT query FROM queries)"
    for call in (
        f"like_{space}(4, 3)",
        f"topk_{space}({q}, 3)",
        f"within_{space}({q}, 3)",
        f"distances_{space}({q})",
        f"batch_{space}(3)",
        f"each_{space}('queries', 3)",
    ):
        with pytest.raises(duckdb.Error, match=f"code_{space} is that of another library here; name the codes"):
            rows(con, f"FROM other.xmr.{call}")
    con.execute("USE other")
    assert len(rows(con, f"FROM xmr.like_{space}(4, NULL)")) == ROWS["b"] // 2
    with pytest.raises(duckdb.Error, match="another library"):
        rows(con, f"FROM a.xmr.like_{space}(4, 3)")


def test_a_library_attached_to_a_database_in_memory_has_all_macros(folder: Path) -> None:
    with duckdb.connect() as con:
        con.execute(f"ATTACH '{folder / 'b.duckdb'}' AS photos (READ_ONLY)")
        named = "photos.xmr.like_bits(4, 3, codes := 'photos.xmr.code_bits')"
        assert len(rows(con, f"FROM {named}")) == 3
        assert len(rows(con, "FROM photos.xmr.nearest_to_item_bits64('photos.xmr.code_bits', 4, k := 3)")) == 3
        assert len(rows(con, "FROM photos.xmr.nearest_to_item_bits64(photos.xmr.code_bits, 4, k := 3)")) == 3
        with pytest.raises(duckdb.Error, match="about_bits"):  # DuckDB's own words: nothing of the name is here
            rows(con, "FROM photos.xmr.like_bits(4, 3)")
        con.execute("SET search_path = 'memory.main,photos.xmr'")
        assert rows(con, "FROM xmr.like_bits(4, 3)") == rows(con, f"FROM {named}")


def test_codes_may_be_a_table_of_ones_own(con: Connection) -> None:
    con.execute("CREATE TEMP VIEW mine AS FROM xmr.code_bits WHERE item_id < 10")
    assert len(rows(con, "FROM xmr.nearest_bits64(mine, [7], k := NULL)")) == 10
    assert len(rows(con, "FROM xmr.topk_bits([7], NULL, codes := 'mine')")) == 10


def test_items_are_found_by_their_key(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (3, 8), np.uint8)
    with xmr.open(tmp_path / "keys.duckdb", progress=False) as db:
        db.add([{"text": f"{key} runs", "key": key} for key in ("dog", "cat", "cow")])
        ids = [row[0] for row in db.sql("SELECT item_id FROM xmr.items ORDER BY key").fetchall()]
        db.add_embeddings(values, space="s", recipe="hamming", modality="text", ids=ids)
        by_key = db.sql("FROM xmr.nearest_to_key_bits64('xmr.code_s', 'cat', modality := 'text')").fetchall()
        assert len(by_key) == 2
        assert by_key == db.sql(f"FROM xmr.like_s({ids[0]}, 10, modality := 'text')").fetchall()
        with pytest.raises(xmr.StorageError, match="no code of an item with the key emu"):
            db.sql("FROM xmr.nearest_to_key_bits64('xmr.code_s', 'emu')")


def test_a_family_lasts_as_long_as_its_spaces(tmp_path: Path) -> None:
    present = "SELECT count(*) FROM duckdb_functions() WHERE function_name LIKE '%_bits64' AND schema_name = 'xmr'"
    values = np.random.default_rng(0).integers(0, 256, (20, 8), np.uint8)
    with xmr.open(tmp_path / "some.duckdb", progress=False) as db:
        for space in ("one", "two"):
            db.add_embeddings(values, space=space, recipe="hamming")
        assert db.sql(present).fetchall() == [(len(VERBS) + 1,)]
        db.drop("one")
        assert db.sql(present).fetchall() == [(len(VERBS) + 1,)]
        db.drop("two")
        assert db.sql(present).fetchall() == [(0,)]


def test_a_space_may_have_the_name_of_a_family(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (20, 8), np.uint8)
    with xmr.open(tmp_path / "some.duckdb", progress=False) as db:
        db.add_embeddings(values, space="bits64", recipe="hamming", ids=np.arange(20))
        own = db.sql("FROM xmr.within_bits64(xmr.stored_bits64(3), 64)").fetchall()
        assert len(own) == 20
        assert db.sql("FROM xmr.nearest_bits64('xmr.code_bits64', xmr.stored_bits64(3), k := NULL)").fetchall() == own


@pytest.mark.parametrize("space", RECIPES)
def test_a_lateral_join_asks_for_each_row(con: Connection, space: str) -> None:
    con.execute("CREATE TEMP TABLE mine AS SELECT unnest([4, 8, 9]) AS item_id")
    wanted = [(item, *row) for item in (4, 8, 9) for row in rows(con, f"FROM xmr.like_{space}({item}, 3)")]
    order = "ORDER BY mine.item_id, n.distance, n.item_id"
    assert rows(con, f"SELECT mine.item_id, n.* FROM mine, xmr.like_{space}(mine.item_id, 3) AS n {order}") == wanted
    f = family(con, space)
    lateral = f"xmr.nearest_to_item_{f}('xmr.code_{space}', mine.item_id, k := 3) AS n"
    assert rows(con, f"SELECT mine.item_id, n.* FROM mine, {lateral} {order}") == wanted


def test_the_distance_of_two_codes(con: Connection) -> None:
    assert rows(con, "SELECT xmr.distance_bits64([7], [0]), xmr.distance_bits([-1], [0])") == [(3, 64)]
    pair = "[3.0, " + "0, " * 14 + "0], [0.0, 4, " + "0, " * 13 + "0]"
    assert rows(con, f"SELECT xmr.distance_float16_l2({pair}), xmr.distance_vectors(NULL, NULL)") == [(5.0, None)]
    with pytest.raises(duckdb.Error, match="distance_bits64: expected two queries, each a list of 1 BIGINT words"):
        rows(con, "SELECT xmr.distance_bits64([7, 7], [0])")


def test_a_database_is_exported_and_imported_with_its_macros(folder: Path, tmp_path: Path) -> None:
    with duckdb.connect(folder / "a.duckdb", read_only=True) as con:
        wanted = {space: rows(con, f"FROM xmr.like_{space}(4, 5)") for space in RECIPES}
        con.execute(f"EXPORT DATABASE '{tmp_path / 'out'}'")
    with duckdb.connect(tmp_path / "again.duckdb") as con:
        con.execute(f"IMPORT DATABASE '{tmp_path / 'out'}'")
        for space, expected in wanted.items():
            assert rows(con, f"FROM xmr.like_{space}(4, 5)") == expected
    with xmr.open(tmp_path / "again.duckdb", progress=False) as db:
        for space, expected in wanted.items():
            assert db.sql(f"FROM xmr.like_{space}(4, 5)").fetchall() == expected


def test_macros_of_another_version_are_replaced_when_a_file_is_opened_for_writing(tmp_path: Path) -> None:
    file = tmp_path / "old.duckdb"
    write(file, 20, 0)
    with duckdb.connect(file) as con:
        con.execute("UPDATE xmr.meta SET value = 'older' WHERE key = 'macros'")
        con.execute("CREATE OR REPLACE MACRO xmr.topk_bits(q, k) AS TABLE SELECT 'old' AS item_id")
        con.execute("DROP MACRO TABLE xmr.nearest_bits64")
    with xmr.open(file, read_only=True, progress=False) as db:
        assert db.sql("FROM xmr.topk_bits([7], 1)").fetchall() == [("old",)]
    with xmr.open(file, progress=False) as db:
        hits = db.sql("FROM xmr.topk_bits([7], 5)").fetchall()
        assert db.sql("FROM xmr.nearest_bits64('xmr.code_bits', [7], k := 5)").fetchall() == hits
        assert len(hits) == 5


UNCOMMENTED = """
    SELECT table_name AS name FROM duckdb_tables() WHERE schema_name = 'xmr' AND comment IS NULL
    UNION ALL
    SELECT view_name FROM duckdb_views() WHERE schema_name = 'xmr' AND comment IS NULL
    UNION ALL
    SELECT table_name || '.' || column_name FROM duckdb_columns() WHERE schema_name = 'xmr' AND comment IS NULL
    UNION ALL
    SELECT function_name FROM duckdb_functions() WHERE schema_name = 'xmr' AND comment IS NULL
    """


def test_every_object_and_column_has_a_comment(tmp_path: Path) -> None:
    file = tmp_path / "told.duckdb"
    write(file, 20, 0)
    with xmr.open(file, progress=False) as db:
        db.add([{"text": f"a dog number {i}", "owner": "me"} for i in range(20)])
        db.add([{"text": "a cat", "year": 2010}])
        db.fit("bm25", name="found")
    with duckdb.connect(file, read_only=True) as con:
        assert rows(con, UNCOMMENTED) == []
        own = "SELECT comment FROM duckdb_columns() WHERE table_name = 'metadata' AND column_name = 'year'"
        assert rows(con, own) == [("Your own column.",)]


def test_help_lists_every_macro_with_an_example(con: Connection) -> None:
    told = rows(con, "SELECT name, signature, meaning, example FROM xmr.help() WHERE library = 'a'")
    macros = "SELECT DISTINCT function_name FROM duckdb_functions() WHERE schema_name = 'xmr' AND database_name = 'a'"
    assert sorted(row[0] for row in told) == sorted(row[0] for row in rows(con, macros))
    assert all(meaning and example for *_, meaning, example in told)
    assert ("topk_bits", "topk_bits(q, k, modality, items, codes)") in {row[:2] for row in told}
    assert {row[0] for row in rows(con, "SELECT library FROM xmr.help()")} == {"a", "other"}


def test_published_lists_the_spaces(con: Connection) -> None:
    query = "SELECT space, version, layout, dim, metric, family, images, texts, audited FROM {}.xmr.published"
    assert rows(con, query.format("a"))[0] == ("bits", 1, "bits", 64, "hamming", "bits64", 30, 30, None)
    assert [row[0] for row in rows(con, query.format("other"))] == sorted(RECIPES)
