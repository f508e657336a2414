"""The SQL of a library answers alike in other DuckDB clients, which have neither xmr nor its Python.

`make test-clients` installs them into .clients: DuckDB of several versions, SQLAlchemy, ibis, the command line, Node's
client. Without that, only the DuckDB installed here is asked, in a process of its own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

import xmr_core as xmr

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CLIENTS = Path(os.environ.get("XMR_CLIENTS", ROOT / ".clients"))
NAMES = ("here", "duckdb-1.4", "duckdb-1.5", "duckdb-2.0", "sqlalchemy", "ibis", "cli", "node")

RECIPES = {
    "bits": "hamming",
    "wide": "hyperplanes(bits=128) >> hamming",
    "vectors": "flat",
    "small": "pq(bytes=4, bits=4)",
    "points": "catalyzer(dim=8, hidden=16, epochs=1) >> lattice(r2=10)",
    "kept": "catalyzer(dim=8, hidden=16, epochs=1) >> lattice(r2=10)",  # and its points, as a table
}
STATEMENTS = (
    "SELECT item_id, distance FROM xmr.topk_{space}(xmr.stored_{space}(7), 5)",
    "SELECT item_id, distance FROM xmr.like_{space}(11, 5, modality := 'image')",
    "SELECT count(*) FROM xmr.within_{space}(xmr.stored_{space}(3), 1000)",
    "SELECT query, item_id, distance FROM xmr.batch_{space}(2, modality := 'image', items := [1, 2, 3])",
    "SELECT item_id FROM xmr.topk_{space}(xmr.stored_{space}(7), NULL) WHERE item_id % 7 = 1 LIMIT 3",
    "SELECT modality, items FROM xmr.counts_{space}()",
    "SELECT item_id, distance FROM xmr.topk_{space}(xmr.stored_{space}(7), 5, items := [1, 2, 3, 5, 7, 9, 11])",
    "SELECT item_id, distance FROM xmr.distances_{space}(xmr.stored_{space}(7)) ORDER BY distance, item_id LIMIT 3",
    "SELECT item_id, distance FROM xmr.nearest_{family}('xmr.code_{space}', xmr.stored_{space}(7), k := 5)",
    "SELECT item_id FROM xmr.nearest_to_item_{family}('xmr.code_{space}', 7, k := 5, modality := 'image')",
    "SELECT query_id, item_id FROM xmr.nearest_each_{family}('xmr.code_{space}', 'four_{space}', k := 2)",
    """
    SELECT l.i, n.item_id
    FROM (SELECT unnest([1, 2, 3]) AS i) AS l, xmr.like_{space}(l.i, 2, modality := 'image') AS n
    ORDER BY l.i, n.distance, n.item_id
    """,
    """
    SELECT l.i, n.item_id
    FROM (SELECT unnest([1, 2, 3]) AS i) AS l, xmr.topk_{space}(xmr.stored_{space}(l.i), 2) AS n
    ORDER BY l.i, n.distance, n.item_id
    """,
)
REFUSED = {  # and the words of the error
    "FROM xmr.topk_{space}(xmr.stored_{space}(7), 2.6)": "k is a whole number",
    "FROM xmr.like_{space}(7, 5, modality := 'IMAGE')": "modality is 'image', 'text' or NULL",
    "FROM xmr.topk_{space}(xmr.stored_{space}(7), 5, modality := 'picture')": "modality is 'image', 'text' or NULL",
    "FROM xmr.like_{space}(12345, 5)": "no code of item 12345",
    "FROM xmr.topk_{space}([NULL], 5)": "a query is a",
    "FROM xmr.batch_{space}(1, items := [NULL])": "items holds NULL",
}


def ask(client: str, file: Path, statements: Sequence[str]) -> list[Any]:
    """What a client answers: rows of each statement, or the first line of its error."""
    if client == "cli":
        return [_by_command_line(file, statement) for statement in statements]
    program: list[str | Path]
    if client == "node":  # which looks for its packages beside the script
        script = shutil.copy(HERE / "node_client.mjs", CLIENTS / "node")
        program = ["node", script]
    else:
        python = sys.executable if client == "here" else CLIENTS / client / "bin" / "python"
        program = [python, HERE / "python_client.py", *([client] if client in ("sqlalchemy", "ibis") else [])]
    given = json.dumps({"file": str(file), "statements": list(statements)})
    done = subprocess.run(program, input=given, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    answers: list[Any] = json.loads(done.stdout)["answers"]
    return answers


def _by_command_line(file: Path, statement: str) -> Any:
    program = CLIENTS / "cli" / "bin" / "duckdb"
    done = subprocess.run([program, "-readonly", "-json", file, "-c", statement], capture_output=True, text=True)
    if done.returncode:
        return next(line for line in done.stderr.splitlines() if line.strip())
    return [list(row.values()) for row in json.loads(done.stdout or "[]")]


def plain(value: Any) -> Any:
    """A value as all clients can say it: whole numbers may come as text, floats are rounded to single precision."""
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value
    if isinstance(value, (int, float)):
        return float(f"{value:.6g}")
    return value


@pytest.fixture(params=NAMES)
def client(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name != "here" and not (CLIENTS / name).is_dir():
        pytest.skip(f"{name}: `make test-clients` installs it")
    return name


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed library file with a space of every layout that SQL reads."""
    file = tmp_path_factory.mktemp("clients") / "library.duckdb"
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 16)).astype(np.float32)
    with xmr.open(file, progress=False) as db:
        for space, recipe in RECIPES.items():
            values = rng.integers(0, 256, (200, 8), np.uint8) if space == "bits" else vectors
            db.add_embeddings(values, space=space, recipe=recipe, ids=np.arange(200))
            stored = f"SELECT i AS query_id, xmr.stored_{space}(i) AS query FROM range(4) AS r(i)"
            db.sql(f"CREATE TABLE four_{space} AS {stored}")
        db.materialize("kept")
    return file


def test_the_macros_of_every_layout_answer_alike(client: str, library: Path) -> None:
    with duckdb.connect(str(library), read_only=True) as con:
        named = {space: con.execute(f"SELECT family FROM xmr.about_{space}").fetchall()[0][0] for space in RECIPES}
        statements = [
            statement.format(space=space, family=family) for space, family in named.items() for statement in STATEMENTS
        ]
        expected = [con.execute(statement).fetchall() for statement in statements]
    for statement, got, wanted in zip(statements, ask(client, library, statements), expected, strict=True):
        assert plain(got) == plain(wanted), statement


def test_bad_arguments_are_errors_in_our_words(client: str, library: Path) -> None:
    statements = {query.format(space=space): told for space in RECIPES for query, told in REFUSED.items()}
    for statement, got in zip(statements, ask(client, library, list(statements)), strict=True):
        assert statements[statement] in str(got), statement


def test_an_attached_library_answers_for_itself(client: str, library: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.duckdb"
    with xmr.open(other, progress=False) as db:
        values = np.random.default_rng(1).integers(0, 256, (50, 8), np.uint8)
        db.add_embeddings(values, space="bits", recipe="hamming", ids=np.arange(50))
    attached = f"ATTACH '{other}' AS theirs (READ_ONLY)"
    every = "theirs.xmr.code_bits', xmr.stored_bits(7), k := NULL)"
    asked = {
        "SELECT count(*) FROM theirs.xmr.code_bits": 50,
        f"SELECT count(*) FROM xmr.nearest_bits64('{every}": 50,
        f"SELECT count(*) FROM theirs.xmr.nearest_bits64('{every}": 50,
        "SELECT count(*) FROM theirs.xmr.topk_bits([7], NULL, codes := 'theirs.xmr.code_bits')": 50,
        "SELECT count(*) FROM xmr.topk_bits([7], NULL)": 200,
        "SELECT count(*) FROM theirs.xmr.topk_bits([7], NULL)": "that of another library here",
        "SELECT count(*) FROM theirs.xmr.like_bits(7, NULL, modality := 'image')": "that of another library here",
    }
    if client == "cli":  # a process a statement
        answers = ask(client, library, [f"{attached}; {statement}" for statement in asked])
    else:
        answers = ask(client, library, [attached, *asked])[1:]
    for (statement, wanted), got in zip(asked.items(), answers, strict=True):
        assert wanted in got if isinstance(wanted, str) else plain(got) == [[float(wanted)]], statement


def test_results_reach_pandas_polars_and_arrow(library: Path) -> None:
    query = "FROM xmr.like_bits(7, 5, modality := 'image')"
    with duckdb.connect(str(library), read_only=True) as con:
        rows = con.execute(query).fetchall()
        names = [column[0] for column in con.description]
        assert names == ["item_id", "modality", "distance"]
        arrow = con.sql(query).to_arrow_table()
        assert list(zip(*(arrow[name].to_pylist() for name in names), strict=True)) == rows
        for package, method in (("pandas", "df"), ("polars", "pl")):
            if importlib.util.find_spec(package):
                frame = getattr(con.sql(query), method)()
                assert list(zip(*(frame[name].to_list() for name in names), strict=True)) == rows
