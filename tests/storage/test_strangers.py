"""A library of a stranger's: nothing in it runs, reads a file or takes our words for its own."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest

import xmr_core as xmr
import xmr_storage
from xmr_storage.duckdb import definitions
from xmr_storage.duckdb.definitions import NEEDED, RESERVED

VECTORS = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
SECRET = "the secret"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that a stranger would like to read."""
    file = tmp_path / "secret.txt"
    file.write_text(SECRET)
    return file


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of twenty embeddings, closed."""
    made = tmp_path_factory.mktemp("sound") / "given.duckdb"
    with xmr.open(made, progress=False) as db:
        db.add_embeddings(VECTORS, space="s", recipe="flat")
        db.sql("INSERT INTO xmr.items SELECT range, 'image', 'k' || range, 'content', NULL, NULL, NULL FROM range(20)")
    return made


@pytest.fixture
def file(sound: Path, tmp_path: Path) -> Path:
    """A copy of the library, to be changed."""
    return Path(shutil.copy(sound, tmp_path))


def tampered(file: Path, *statements: str) -> None:
    """Change a library behind its back."""
    with duckdb.connect(str(file)) as con:
        for statement in statements:
            con.execute(statement)


def said(db: xmr.Library) -> str:
    """All that a library says when it is used."""
    hits = db.search(vector=VECTORS[3], space="s", k=5, where="item_id % 2 = 1")
    rows = db.sql("FROM xmr.catalog ORDER BY item_id").fetchall()
    near = db.sql("FROM xmr.like_s(3, 5, modality := 'image')").fetchall()
    assert hits.ids[0, 0] == 3
    assert len(near) == 5
    assert len(rows) == 20
    described = db.store.describe(np.arange(20))
    return repr((hits, list(hits), rows, near, described, db, db.doctor()))


HOSTILE = {
    "a view": "CREATE OR REPLACE VIEW xmr.catalog AS "
    "SELECT i.item_id, modality, t.content AS key, source, t.content AS text "
    "FROM xmr.items AS i, read_text('{secret}') AS t",
    "a macro": "CREATE OR REPLACE MACRO xmr.like_s(item, k, modality := NULL) AS TABLE "
    "SELECT item AS item_id, content AS modality, 0.0 AS distance FROM read_text('{secret}')",
    "a scalar macro": "CREATE OR REPLACE MACRO xmr.hamming(a, b) AS (SELECT content FROM read_text('{secret}'))",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_strange_view_or_macro_is_made_again_before_it_is_used(file: Path, secret: Path, name: str) -> None:
    tampered(file, HOSTILE[name].format(secret=secret))
    with xmr.open(file, progress=False) as db:
        assert SECRET not in said(db)
        assert db.sql("SELECT xmr.hamming(3, 0)").fetchall() == [(2,)]
    with xmr.open(file, read_only=True, progress=False) as db:
        assert SECRET not in said(db)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_library_that_is_only_read_searches_but_runs_no_strange_sql(file: Path, secret: Path, name: str) -> None:
    tampered(file, HOSTILE[name].format(secret=secret))
    with xmr.open(file, read_only=True, progress=False) as db:
        hits = db.search(vector=VECTORS[3], space="s", k=5, where="item_id % 2 = 1")
        assert hits.ids[0, 0] == 3
        assert SECRET not in repr((hits, list(hits), db.store.describe(np.arange(20))))
        with pytest.raises(xmr.StorageError, match="open it for writing, which makes it again"):
            db.sql("FROM xmr.catalog")


@pytest.mark.parametrize(
    "source", ["'{secret}'", "range(2) AS r, '{secret}'", "query_table('{secret}')", "query('SELECT 1')", "glob('*')"]
)
def test_whatever_reads_more_than_the_database_is_refused(file: Path, tmp_path: Path, source: str) -> None:
    (tmp_path / "secret.csv").write_text(f"a\n{SECRET}\n")
    found = f"SELECT * FROM {source.format(secret=tmp_path / 'secret.csv')}"
    tampered(file, f"CREATE OR REPLACE VIEW xmr.catalog AS {found}")
    with xmr.open(file, read_only=True, progress=False) as db, pytest.raises(xmr.StorageError, match="is not what"):
        db.sql("FROM xmr.catalog")


def test_what_is_missing_is_made_again(file: Path) -> None:
    tampered(
        file, "DROP VIEW xmr.catalog", "DROP VIEW xmr.code_s", "DROP MACRO TABLE xmr.like_s", "DROP MACRO xmr.hamming"
    )
    with xmr.open(file, progress=False) as db:
        said(db)


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_no_macro_of_a_file_answers_for_a_live_function(file: Path, secret: Path, name: str) -> None:
    tampered(file, f"CREATE MACRO xmr.{name}(q, k := 1) AS TABLE SELECT content AS hit FROM read_text('{secret}')")
    with (
        xmr.open(file, read_only=True, progress=False) as db,
        pytest.raises(xmr.StorageError, match=f"xmr.{name} is not"),
    ):
        db.sql("SELECT 1")
    with xmr.open(file, progress=False) as db:
        db.sql("SELECT 1")
        found = db.sql("SELECT DISTINCT database_name FROM duckdb_functions() WHERE function_name = $1", [name])
        assert found.fetchall() == [("xmr_live",)]


def test_the_reserved_names_are_those_of_the_live_functions(file: Path) -> None:
    with xmr.open(file, progress=False) as db:
        rows = db.sql("SELECT function_name FROM duckdb_functions() WHERE database_name = 'xmr_live'").fetchall()
    assert {name for (name,) in rows} == RESERVED


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("name", ["max", "lower_case", "+", "duckdb_tables", "MIN"])
def test_a_macro_in_the_place_of_a_built_in_function_is_refused(file: Path, name: str, read_only: bool) -> None:
    tampered(file, f'CREATE MACRO "{name}"(a, b) AS 42')
    if name == "lower_case":  # a user's own
        xmr.open(file, read_only=read_only).close()
        return
    with pytest.raises(xmr.StorageError, match=r"its macro main\..* takes the place of"):
        xmr.open(file, read_only=read_only)


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("table", ["items", "code_s_v1", "tensors"])
def test_a_view_in_the_place_of_a_table_is_refused(file: Path, secret: Path, table: str, read_only: bool) -> None:
    tampered(
        file,
        f"ALTER TABLE xmr.{table} RENAME TO other",
        f"CREATE VIEW xmr.{table} AS SELECT o.* FROM xmr.other AS o, read_text('{secret}')",
    )
    with pytest.raises(xmr.StorageError, match=f"expected a table xmr.{table}, got a view"):
        xmr.open(file, read_only=read_only)


def test_views_and_macros_of_the_users_own_stay(file: Path) -> None:
    own = (
        "CREATE VIEW mine AS SELECT 5 AS x",
        "CREATE MACRO twice(a) AS 2 * a",
        "CREATE VIEW xmr.mine AS SELECT 6 AS x",
    )
    tampered(file, *own, "DROP VIEW xmr.catalog")
    with xmr.open(file, progress=False) as db:
        assert db.sql("SELECT twice(m.x), n.x FROM mine AS m, xmr.mine AS n").fetchall() == [(10, 6)]
        assert len(db.store.ids(where="item_id < twice(5)")) == 10


@pytest.mark.parametrize("recipe", ["flat", "pq(bytes=2)", "sign >> hamming"])
def test_a_library_as_we_write_it_is_not_written(file: Path, recipe: str) -> None:
    with xmr.open(file, progress=False) as db:
        db.add_embeddings(VECTORS, space="t", recipe=recipe)
    with xmr.open(file, progress=False) as db:
        before = db.store.revision()
        db.sql("SELECT 1")
        assert db.store.revision() == before


def strings() -> Iterator[str]:
    """All texts in the modules of the storage, SQL among them."""
    for module in Path(xmr_storage.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_the_functions_that_may_not_be_replaced_are_all_that_our_statements_call() -> None:
    functions = duckdb.sql(
        "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type != 'macro'"
    ).fetchall()
    called = {name for text in strings() for name in re.findall(r"(?<!xmr\.)\b([a-z_0-9]+)\(", text)}
    assert called & {name for (name,) in functions} <= NEEDED


def test_a_file_that_is_as_we_left_it_is_not_looked_through_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    require = definitions.require_plain
    monkeypatch.setattr(
        definitions, "require_plain", lambda con, tables: looked.append(con.url) or require(con, tables)
    )
    for opened in (1, 1):
        with xmr.open(file, progress=False) as db:
            db.add_embeddings(VECTORS[:1], space="s")
        assert len(looked) == opened
    with xmr.open(file, progress=False) as db:
        db.sql("CREATE TABLE mine AS SELECT 1 AS x")
    for opened in (2, 2):  # SQL of the user's may have made anything
        with xmr.open(file, progress=False):
            assert len(looked) == opened
    tampered(file, "CREATE MACRO main.max(x) AS 7")
    with pytest.raises(xmr.StorageError, match="takes the place"):
        xmr.open(file)
    assert len(looked) == 3
