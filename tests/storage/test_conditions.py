"""What a condition may do in the database: choose items by what the database holds, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xmr_core as xmr


@pytest.fixture
def db(tmp_path: Path) -> Iterator[xmr.Library]:
    """Five texts of three owners, and embeddings of them."""
    with xmr.open(tmp_path / "conditions.duckdb", progress=False) as db:
        owners = ["anna", "anna", "bert", None, "x') OR ('1' = '1"]
        tags = [["red"], ["red", "blue"], ["blue"], None, []]
        metadata = {"owner": owners, "year": [2019, 2020, 2021, None, 2023], "tags": tags}
        db.add(xmr.Items("text", ["a", "b", "c", "d", "e"], keys=list("abcde"), metadata=metadata))
        db.add_embeddings(np.eye(8, dtype=np.float32)[:5], space="s", recipe="flat", modality="text", ids=range(5))
        db.sql("CREATE TABLE friends AS SELECT 'bert' AS name")
        yield db


CHOSEN: list[tuple[Any, str]] = [
    ("owner = 'anna'", "ab"),
    (("owner = ?", ["anna"]), "ab"),
    (("owner = $1 OR owner = $2", ["anna", "bert"]), "abc"),
    (("owner = ?", ["x') OR ('1' = '1"]), "e"),
    (("owner = ?", ["' OR true --"]), ""),
    (("year > ? AND owner IS NOT NULL", [2019]), "bce"),
    (("list_contains(tags, ?)", ["blue"]), "bc"),
    (("owner = ANY(?)", [["anna", "bert"]]), "abc"),
    ({"owner": "anna"}, "ab"),
    ({"owner": ["anna", None]}, "abd"),
    ({"owner": None}, "d"),
    ({"owner": "anna", "year": 2020}, "b"),
    ({"OWNER": []}, ""),
    (("owner IN (SELECT name FROM friends WHERE name <> ?)", ["anna"]), "c"),
    ("owner IN (WITH f AS (FROM friends) SELECT name FROM f)", "c"),
    ("year IN (SELECT unnest(range(2019, 2021)))", "ab"),
    ("year IN (FROM range(2019, 2021))", "ab"),
    ("EXISTS (FROM xmr.items AS i, friends AS f WHERE i.item_id = catalog.item_id AND owner = f.name)", "c"),
    ("owner IN (SELECT name FROM (SELECT f.name FROM friends AS f LEFT JOIN friends AS g USING (name)))", "c"),
    ("len(list_filter(tags, lambda t: t = 'red')) = 1", "ab"),
    ("year BETWEEN 2019 AND 2020 -- the first two", "ab"),
    ("CASE WHEN owner ILIKE 'AN%' THEN true END", "ab"),
    ("item_id IN (SELECT item_id FROM xmr.catalog ORDER BY year DESC NULLS LAST LIMIT 1)", "e"),
    ("year = (SELECT max(year) FROM xmr.metadata)", "e"),
    ("year IN (SELECT 2019 UNION ALL SELECT 2020)", "ab"),
    ("owner IN (VALUES ('bert'))", "c"),
    ("year::VARCHAR LIKE '%19' COLLATE NOCASE", "a"),
    (
        "key IN (SELECT key FROM (SELECT key, row_number() OVER (ORDER BY key) AS n FROM xmr.items) WHERE n = 2)",
        "b",
    ),
]


@pytest.mark.parametrize(("where", "keys"), CHOSEN, ids=[str(number) for number in range(len(CHOSEN))])
def test_a_condition_chooses(db: xmr.Library, where: Any, keys: str) -> None:
    assert "".join(db.store.describe(db.store.ids(where=where))["key"]) == keys
    assert db.store.ids("image", where).tolist() == []
    found = db.search(vector=np.ones(8), space="s", modality="text", k=5, where=where)
    assert sorted(found.ids[found.ids >= 0].tolist()) == db.store.ids("text", where).tolist()


INJECTIONS = [
    "owner = 'x') UNION ALL SELECT unnest(range(3)) WHERE (true",
    "true) OR (true",
    "true; DELETE FROM xmr.items",
    "true -- )",
    "(DELETE FROM xmr.items)",
    "owner, key",
    "true ORDER BY 1",
    "true LIMIT 1",
    "SELECT 1; SELECT 2",
]


@pytest.mark.parametrize("where", INJECTIONS)
def test_nothing_but_one_expression_is_a_condition(db: xmr.Library, where: str) -> None:
    if where == "true -- )":  # a comment swallows nothing
        assert len(db.store.ids("text", where)) == 5
        return
    with pytest.raises(xmr.DataError, match="where="):
        db.delete(where=where)
    with pytest.raises(xmr.DataError, match="where="):
        db.search(vector=np.ones(8), space="s", modality="text", where=where)
    assert db.store.counts()["text"] == 5


READS = [
    "key IN (SELECT content FROM read_text('{}'))",
    "key IN (SELECT content FROM read_blob('{}'))",
    "key IN (FROM read_csv('{}'))",
    "key IN (FROM read_csv_auto('{}'))",
    "key IN (FROM read_parquet('{}'))",
    "key IN (FROM parquet_metadata('{}'))",
    "key IN (FROM parquet_schema('{}'))",
    "key IN (FROM read_json('{}'))",
    "key IN (FROM sniff_csv('{}'))",
    "key IN (SELECT file FROM glob('{}'))",
    "key IN (FROM '{}')",
    'key IN (FROM "{}")',
    "key IN (SELECT key FROM (SELECT key FROM (FROM '{}')))",
    "key IN (SELECT key FROM friends, '{}')",
    "key IN (WITH f AS (FROM '{}') FROM f)",
    "key IN (SELECT 'a' UNION ALL FROM '{}')",
    "list_contains([x FOR x IN [(FROM '{}')]], key)",
    "key IN (FROM query('FROM read_text(''{}'')'))",
    "key IN (FROM query_table('{}'))",
    "key IN (FROM duckdb_settings())",
    "key IN (FROM duckdb_secrets())",
    "key IN (SHOW TABLES)",
    "key IN (DESCRIBE friends)",
    "key IN (SUMMARIZE friends)",
    "key = current_setting('search_path')",
    "key = getenv('HOME')",
    "key = getvariable('x')",
    "nextval('s') = 1",
    "key IN (FROM which_secret('{}', 'x'))",
    "key IN (FROM json_execute_serialized_sql(json_serialize_sql('FROM friends')))",
    "key IN (FROM pandas_scan(1))",
    "key IN (FROM 'http://localhost:9/x.csv')",
    "key IN (FROM read_csv('http://localhost:9/x.csv'))",
]


@pytest.mark.parametrize("where", READS)
def test_a_condition_reads_the_database_and_nothing_else(db: xmr.Library, tmp_path: Path, where: str) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("key\na\n")
    with pytest.raises(xmr.DataError, match="where="):
        db.store.ids(where=where.format(secret))


def test_a_condition_reads_no_variable_of_the_program(db: xmr.Library) -> None:
    import pyarrow as pa

    strangers = pa.table({"key": ["a"]})
    with pytest.raises(xmr.DataError, match="no table 'strangers'"):
        db.store.ids(where="key IN (SELECT key FROM strangers)")
    assert len(strangers) == 1


def test_a_condition_that_is_nested_too_deeply_is_refused(db: xmr.Library) -> None:
    for depth in (300, 5000):
        where = "(" * depth + "true" + ")" * depth
        try:
            assert len(db.store.ids("text", where)) == 5
        except xmr.DataError:
            continue


def test_an_unknown_column_is_told_with_those_that_are_known(db: xmr.Library) -> None:
    for where in ("ownr = 'x'", {"ownr": "x"}, ("ownr = ?", ["x"])):
        with pytest.raises(xmr.DataError, match=r"columns: .*owner"):
            db.store.ids(where=where)


def test_delete_takes_all_forms(db: xmr.Library) -> None:
    assert db.delete(where={"owner": "bert"}) == 1
    assert db.delete(where=("owner = ?", ["anna"])) == 2
    with pytest.raises(xmr.DataError, match="at least one column"):
        db.delete(where={})
    assert db.store.counts()["text"] == 2


def test_fit_and_evaluate_take_all_forms(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with xmr.open(tmp_path / "v.duckdb", progress=False) as db:
        images = xmr.Items("image", rng.normal(size=(8, 4)), metadata={"fold": [1] * 6 + [2] * 2})
        texts = xmr.Items("text", rng.normal(size=(8, 4)), metadata={"fold": [1] * 6 + [2] * 2})
        db.add(xmr.Pairs(images, texts, np.array([[i, i] for i in range(8)])))
        db.fit("precomputed(dim=4) >> identity(metric='l2') >> flat", name="v", where={"fold": 1})
        assert len(db.store.training_ids("v", 1)) == 12
        made = db.evaluate("v", queries=("fold = ?", [2]), database={"fold": [1, 2]})
        assert (made.queries, made.trained) == ("fold = $1 [$1 = 2]", 0)
        assert {figure.n_database for figure in made.figures} == {8}
        assert db.compare(["precomputed(dim=4) >> identity(metric='l2') >> flat"], queries={"fold": 2})[0].figures
