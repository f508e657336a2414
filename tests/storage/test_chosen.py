"""A few rows are chosen, and written, by parameters, many by a table: the same rows, and one change asks little."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import xmr_core as xmr
from xmr_storage.chosen import FEW, at, chosen
from xmr_storage.duckdb import rowwise
from xmr_storage.duckdb.connection import DuckDBConnection

N = 3 * FEW


@pytest.fixture
def con() -> Iterator[DuckDBConnection]:
    made = DuckDBConnection(":memory:", read_only=False)
    made.execute("CREATE SCHEMA xmr")
    made.execute(f"CREATE TABLE xmr.items AS SELECT i AS item_id, 'k''' || i AS key FROM range({N}) AS t (i)")
    yield made
    made.close()


@pytest.mark.parametrize("n", [0, 1, FEW, FEW + 1, N])
def test_ids_and_keys_choose_the_same_rows_however_many_there_are(con: DuckDBConnection, n: int) -> None:
    ids = np.random.default_rng(n).permutation(N)[:n]
    query = "SELECT item_id FROM xmr.items WHERE item_id >= $1 AND"
    for column, values in (("item_id", ids), ("key", [f"k'{item}" for item in ids])):
        with chosen(con, column, values, first=2) as (which, bound):
            found = [item for (item,) in con.rows(f"{query} {which} ORDER BY item_id", [2, *bound])]
            again = con.rows(f"{query} {which}", [2, *bound])
        assert found == sorted(item for item in ids.tolist() if item >= 2)
        assert len(again) == len(found)


def test_rows_are_put_where_they_were_asked_for() -> None:
    have, rows = at(np.array([7, 3, 9, 3]), np.array([3, 5, 7]))
    assert have.tolist() == [True, True, False, True]
    assert rows.tolist() == [2, 0, 0]
    have, rows = at(np.array([7]), np.array([], np.int64))
    assert have.tolist() == [False] and rows.tolist() == []


COLUMNS: dict[str, tuple[str, pa.Array]] = {
    "whole": ("BIGINT", pa.array([1, -(2**63)])),
    "unsigned": ("UBIGINT", pa.array([2**64 - 1, 0], pa.uint64())),
    "small": ("TINYINT", pa.array([-128, 127], pa.int8())),
    "real": ("FLOAT", pa.array([0.1, float("nan")], pa.float32())),
    "double": ("DOUBLE", pa.array([float("inf"), 1e-310])),
    "nothing": ("DOUBLE", pa.nulls(2)),
    "text": ("VARCHAR", pa.array(["a'$1\0", None])),
    "date as text": ("VARCHAR", pa.array(["2024-05-01", "1"])),
    "bytes": ("BLOB", pa.array([b"\0\xff'", None])),
    "code": ("BLOB", pa.array([b"ab", b"\0\0"], pa.binary(2))),
    "truth": ("BOOLEAN", pa.array([True, None])),
    "vector": (
        "FLOAT[2]",
        pa.FixedSizeListArray.from_arrays(pa.array([0.1, -0.0, 1e-45, np.inf], pa.float32()), 2),
    ),
    "bins": ("SMALLINT[2]", pa.FixedSizeListArray.from_arrays(pa.array([0, 255, 7, 9], pa.uint8()), 2)),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_few_rows_are_written_as_many_are(con: DuckDBConnection, name: str) -> None:
    kind, values = COLUMNS[name]
    table = pa.table({"item_id": [1, 2], name: values})
    assert rowwise.are_few(table)
    for target in ("few", "many"):
        con.execute(f'CREATE TABLE xmr.{target} (item_id BIGINT, "{name}" {kind}, other INTEGER)')
    con.insert("few", table)
    with con.given(_rows=table):
        con.execute("INSERT INTO xmr.many BY NAME SELECT * FROM _rows")
    assert repr(con.rows("FROM xmr.few")) == repr(con.rows("FROM xmr.many"))


def test_no_number_of_a_vector_is_a_value_that_duckdb_asks_the_type_of() -> None:
    vector = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(128.0)), 128)
    _, bound = rowwise.insertion("few", pa.table({"item_id": [1], "vector": vector}))
    assert [type(value) for value in bound] == [int, str]


def test_many_rows_or_rows_of_other_types_are_written_as_a_table() -> None:
    assert not rowwise.are_few(pa.table({"a": np.arange(rowwise.ROWS + 1)}))
    assert not rowwise.are_few(pa.table({"a": pa.array([], pa.int64())}))
    assert not rowwise.are_few(pa.table({"a": pa.array([0], pa.timestamp("us"))}))
    assert not rowwise.are_few(pa.table({"a": [[1, 2]]}))


def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that are run from now on, and the tables that are given to them."""
    statements: list[str] = []
    execute, given = DuckDBConnection.execute, DuckDBConnection.given

    def noted(self: DuckDBConnection, query: str, parameters: Any = None) -> Any:
        statements.append(query)
        return execute(self, query, parameters)

    def noted_given(self: DuckDBConnection, **tables: pa.Table) -> Any:
        statements.extend(f"given {name}" for name in tables)
        return given(self, **tables)

    monkeypatch.setattr(DuckDBConnection, "execute", noted)
    monkeypatch.setattr(DuckDBConnection, "given", noted_given)
    return statements


def test_one_item_is_added_found_and_deleted_by_few_statements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).normal(size=(51, 8)).astype(np.float32)

    def items(start: int, stop: int) -> xmr.Items:
        keys = [f"k{row}" for row in range(start, stop)]
        texts = [f"text {row}" for row in range(start, stop)]
        return xmr.Items("text", texts, keys, metadata={"n": [1] * len(keys)}, vectors={"v": vectors[start:stop]})

    with xmr.open(tmp_path / "one.duckdb", progress=False) as db:
        db.add(items(0, 50))
        for name in ("a", "b"):
            db.fit('precomputed(name="v", metric="l2") >> flat', name=name)
            db.search(vector=vectors[0], k=1, modality="text", space=name)
        statements = asked(monkeypatch)
        db.add(items(50, 51))
        assert len(statements) <= 20 and not any("count(*)" in statement for statement in statements), statements
        assert db.search(vector=vectors[50], k=1, modality="text", space="a").ids.tolist() == [[50]]
        assert len(statements) <= 26, statements
        statements.clear()
        assert db.delete([50]) == 1
        assert db.search(vector=vectors[50], k=1, modality="text", space="a").ids.tolist() != [[50]]
        assert len(statements) <= 24, statements
        assert not any(statement.startswith("given") for statement in statements)
