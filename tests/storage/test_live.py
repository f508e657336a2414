"""The live functions on connections of a user's: writing, reading only, attached; and what they leave behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from xmr_core.errors import DataError
from xmr_core.store import LiveQuery
from xmr_storage.duckdb import live
from xmr_storage.duckdb.live import LiveLibrary


class Library:
    """A fake: finds the images 10, 11, ... at 0, 0.5, ...; the space `vectors` compares vectors, any other bits."""

    def __init__(self) -> None:
        self.calls: list[LiveQuery] = []
        self.attached: LiveLibrary | None = None

    def search(self, query: LiveQuery) -> tuple[list[int], str, list[float]]:
        self.calls.append(query)
        if query.space == "cats":
            raise DataError("no space 'cats'; there are dogs, vectors")
        if query.space == "broken":
            raise ZeroDivisionError("division by zero")
        k = 20 if query.k is None else query.k
        return list(range(10, 10 + k)), "image", [i / 2 for i in range(k)]

    def encode(self, text: str | None, image: str | None, space: str | None) -> list[int] | list[float]:
        return [0.5, 1.0] if space == "vectors" else [len(text or image or ""), -1]


@pytest.fixture
def library() -> Library:
    return Library()


def attach(con: duckdb.DuckDBPyConnection, library: Library) -> None:
    library.attached = library.attached or LiveLibrary("/somewhere/fake.duckdb", library)
    live.attach(con, library.attached)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with a little of a library in it, and a table of the user's."""
    path = tmp_path / "my file.duckdb"
    with duckdb.connect(path) as con:
        con.execute("CREATE SCHEMA xmr")
        con.execute("CREATE TABLE xmr.items AS SELECT 10 AS item_id")
        con.execute("CREATE MACRO xmr.topk_s(q, k) AS TABLE SELECT unnest(q::BIGINT[]) AS word LIMIT k")
        con.execute("CREATE TABLE mine AS SELECT 11 AS item_id, 'a dog' AS name, 1 AS k, 'x' AS query")
    return path


@pytest.fixture(params=["writing", "reading", "attached"])
def con(request: pytest.FixtureRequest, path: Path, library: Library) -> Iterator[duckdb.DuckDBPyConnection]:
    """A registered connection: on the file, or in memory with the file attached."""
    attached = request.param == "attached"
    with duckdb.connect(":memory:" if attached else path, read_only=request.param == "reading") as con:
        if attached:
            con.execute(f"ATTACH '{path}' AS theirs (READ_ONLY)")
        attach(con, library)
        yield con


def test_search_is_a_table_in_schema_xmr(con: duckdb.DuckDBPyConnection, library: Library) -> None:
    assert con.execute("FROM xmr.search('a dog', 3)").fetchall() == [
        (10, "image", 0.0),
        (11, "image", 0.5),
        (12, "image", 1.0),
    ]
    assert con.execute("SELECT count(*) FROM xmr.search('a dog')").fetchall() == [(10,)]
    assert con.execute("FROM xmr.search('a cat', k := 1, space := 'dogs')").fetchall() == [(10, "image", 0.0)]
    assert set(library.calls) == {
        LiveQuery("a dog", k=3),
        LiveQuery("a dog", k=10),
        LiveQuery("a cat", k=1, space="dogs"),
    }


def test_every_live_function_is_described(con: duckdb.DuckDBPyConnection) -> None:
    described = con.execute(
        "SELECT function_name, comment FROM duckdb_functions() WHERE database_name = 'xmr_live' ORDER BY function_name"
    ).fetchall()
    assert [name for name, _ in described] == [
        *("embed_image", "embed_text", "encode_image", "encode_text", "search", "search_image")
    ]
    for name, comment in described:
        assert f"\nExample: {'FROM' if 'search' in name else 'SELECT'} xmr.{name}(" in comment


def test_search_takes_what_the_library_takes(con: duckdb.DuckDBPyConnection, library: Library) -> None:
    con.execute(
        "FROM xmr.search('a dog', NULL, modality := 'text', within := 1.5, items := [3, 4], exact := true)"
    ).fetchall()
    assert library.calls == [LiveQuery("a dog", None, None, None, "text", 1.5, [3, 4], True)]


def test_images_are_searched_and_encoded_by_their_path(con: duckdb.DuckDBPyConnection, library: Library) -> None:
    assert con.execute("FROM xmr.search_image('dog.jpg', 1)").fetchall() == [(10, "image", 0.0)]
    assert library.calls == [LiveQuery(image="dog.jpg", k=1)]
    assert con.execute("SELECT xmr.encode_image('dog.jpg')").fetchall() == [([7, -1],)]
    assert con.execute("SELECT xmr.embed_image('dog.jpg', space := 'vectors')").fetchall() == [([0.5, 1.0],)]


def test_what_the_file_has_in_schema_xmr_is_still_there(con: duckdb.DuckDBPyConnection) -> None:
    assert con.execute("FROM xmr.items SEMI JOIN xmr.search('a dog', 3) USING (item_id)").fetchall() == [(10,)]
    assert con.execute("FROM xmr.topk_s(xmr.encode_text('a dog'), 2)").fetchall() == [(5,), (-1,)]


def test_words_and_vectors_have_a_function_each(con: duckdb.DuckDBPyConnection) -> None:
    assert con.execute("SELECT xmr.encode_text('a dog')").fetchall() == [([5, -1],)]
    assert con.execute("SELECT xmr.embed_text('a dog', space := 'vectors')").fetchall() == [([0.5, 1.0],)]
    with pytest.raises(duckdb.Error, match=r"xmr\.embed_text"):
        con.execute("SELECT xmr.encode_text('a dog', space := 'vectors')")
    with pytest.raises(duckdb.Error, match=r"xmr\.encode_text"):
        con.execute("SELECT xmr.embed_text('a dog')")


def test_nothing_finds_nothing(con: duckdb.DuckDBPyConnection, library: Library) -> None:
    assert con.execute("FROM xmr.search(NULL)").fetchall() == []
    assert con.execute("SELECT xmr.encode_text(NULL)").fetchall() == [(None,)]
    assert library.calls == []
    assert con.execute("FROM xmr.search('a dog', 0)").fetchall() == []


def test_no_k_finds_all(con: duckdb.DuckDBPyConnection) -> None:
    assert len(con.execute("FROM xmr.search('a dog', NULL)").fetchall()) == 20


def test_arguments_may_be_bound_or_come_from_a_table(con: duckdb.DuckDBPyConnection, library: Library) -> None:
    assert con.execute("FROM xmr.search($1, $2)", ["it's", 1]).fetchall() == [(10, "image", 0.0)]
    con.execute("CREATE TEMP TABLE texts AS SELECT 'a dog' AS query, 2 AS k")
    found = con.execute("SELECT n.item_id FROM texts, xmr.search(query, k) AS n ORDER BY n.item_id").fetchall()
    assert found == [(10,), (11,)]
    assert [call.text for call in library.calls] == ["it's", "a dog"]


def test_the_library_says_what_is_wrong(con: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(duckdb.Error, match="there are dogs, vectors"):
        con.execute("FROM xmr.search('a dog', space := 'cats')")


@pytest.mark.parametrize(
    "statement",
    [
        "FROM xmr.search('a dog', space := 'cats')",
        "SELECT count(*) FROM xmr.search('a dog', space := 'broken')",
        "FROM xmr.search('a dog', 2.6)",
        "FROM xmr.search('a dog', within := 'near')",
        "SELECT xmr.encode_text('a dog', space := 'vectors')",
    ],
)
def test_errors_are_one_sentence_without_a_traceback(con: duckdb.DuckDBPyConnection, statement: str) -> None:
    with pytest.raises(duckdb.Error, match=r"xmr\.(search|encode_text): ") as caught:
        con.execute(statement).fetchall()
    assert ".py" not in str(caught.value)
    assert "At:" not in str(caught.value)


def test_registering_again_changes_nothing(con: duckdb.DuckDBPyConnection, library: Library) -> None:
    path = con.execute("SELECT current_setting('search_path')").fetchall()
    functions = con.execute("SELECT count(*) FROM duckdb_functions()").fetchall()
    attach(con, library)
    assert con.execute("SELECT current_setting('search_path')").fetchall() == path
    assert con.execute("SELECT count(*) FROM duckdb_functions()").fetchall() == functions


def test_a_cursor_registers_for_itself(con: duckdb.DuckDBPyConnection, library: Library) -> None:
    cursor = con.cursor()
    with pytest.raises(duckdb.Error):
        cursor.execute("FROM xmr.search('a dog', 1)")
    attach(cursor, library)
    assert cursor.execute("FROM xmr.search('a dog', 1)").fetchall() == [(10, "image", 0.0)]


def test_the_users_own_tables_come_first(path: Path, library: Library) -> None:
    with duckdb.connect(path) as con:
        con.execute("CREATE SCHEMA work")
        con.execute("USE work")
        attach(con, library)
        con.execute("CREATE TABLE items AS SELECT 'mine' AS whose")
        assert con.execute("FROM items").fetchall() == [("mine",)]
        assert con.execute("SELECT current_schema()").fetchall() == [("work",)]
        where = "SELECT schema_name FROM duckdb_tables() WHERE table_name = 'items' ORDER BY schema_name"
        assert con.execute(where).fetchall() == [("work",), ("xmr",)]


def test_nothing_is_left_in_the_file(path: Path, library: Library) -> None:
    with duckdb.connect(path) as con:
        attach(con, library)
        con.execute("FROM xmr.search('a dog', 1)")
    program = f"""
import duckdb
con = duckdb.connect({str(path)!r})
print(con.execute("SELECT function_name FROM duckdb_functions() WHERE schema_name = 'xmr'").fetchall())
print(con.execute("SELECT schema_name FROM duckdb_schemas() WHERE NOT internal AND database_name <> 'temp'").fetchall())
"""
    run = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[0] == "[('topk_s',)]"
    assert "live" not in run.stdout


def test_a_transaction_that_has_written_may_register(path: Path, library: Library) -> None:
    with duckdb.connect(path) as con:
        con.execute("BEGIN")
        con.execute("INSERT INTO mine VALUES (12, 'a cat', 1, 'y')")
        attach(con, library)
        assert con.execute("FROM xmr.search('a dog', 1)").fetchall() == [(10, "image", 0.0)]
        con.execute("ROLLBACK")
        assert con.execute("FROM xmr.search('a dog', 1)").fetchall() == [(10, "image", 0.0)]


def test_the_library_may_query_the_file_meanwhile(path: Path) -> None:
    """By a cursor: the connection that runs the statement would wait for itself."""
    with duckdb.connect(path) as con, con.cursor() as cursor:

        class Reading(Library):
            def search(self, query: LiveQuery) -> tuple[list[int], str, list[float]]:
                ids = [row[0] for row in cursor.execute("SELECT item_id FROM mine").fetchall()]
                return ids, "image", [0.0] * len(ids)

        attach(con, Reading())
        assert con.execute("FROM xmr.search('a dog', 1)").fetchall() == [(11, "image", 0.0)]
