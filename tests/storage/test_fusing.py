"""`xmr.fused`: rankings fused in SQL are those fused in Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest

import xmr_core as xmr
from xmr_core.search.fusion import DEPTH, reciprocal_rank
from xmr_storage.duckdb.fusing import fused

Connection = duckdb.DuckDBPyConnection


@pytest.fixture
def con() -> Iterator[Connection]:
    with duckdb.connect() as con:
        con.execute("CREATE SCHEMA xmr")
        for statement in fused().statements():
            con.execute(statement)
        yield con


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("lengths", [(40,), (40, 25), (60, 0, 7, 60, 33)])
def test_scores_ranks_and_ties_are_those_of_python(
    con: Connection, rng: np.random.Generator, lengths: tuple[int, ...]
) -> None:
    lists = [rng.permutation(70)[:length] for length in lengths]
    rankings = [xmr.Hits(ids[None].astype(np.int64), np.zeros((1, len(ids)), np.float32)) for ids in lists]
    hits, ranks = reciprocal_rank(rankings, 20)
    rows = con.execute("FROM xmr.fused($1, k := 20)", [[ids.tolist() for ids in lists]]).fetchall()
    assert [row[0] for row in rows] == hits.ids[0, : len(rows)].tolist()
    assert np.array([row[1] for row in rows], np.float32).tolist() == (-hits.distances[0, : len(rows)]).tolist()
    assert [[rank or 0 for rank in row[2]] for row in rows] == ranks[0, : len(rows)].tolist()


def test_it_is_one_by_hand(con: Connection) -> None:
    rows = con.execute("SELECT item_id, ranks FROM xmr.fused([[3, 1, 2], [2, 5], NULL])").fetchall()
    assert rows == [(2, [3, 1, None]), (3, [1, None, None]), (1, [2, None, None]), (5, [None, 2, None])]


def test_it_goes_as_deep_as_python(con: Connection) -> None:
    deep = f"[range({3 * DEPTH}), range({DEPTH // 2}, {3 * DEPTH})]"
    for k, found in (("10", 10), (str(2 * DEPTH), 2 * DEPTH), ("NULL", 3 * DEPTH)):
        assert con.execute(f"SELECT count(*) FROM xmr.fused({deep}, k := {k})").fetchall() == [(found,)]
    (last,) = con.execute(f"SELECT max(list_max(ranks)) FROM xmr.fused({deep}, k := 20)").fetchall()[0]
    assert last <= DEPTH


@pytest.mark.parametrize("rankings", ["NULL", "[]", "[[]]", "[NULL, NULL]"])
def test_nothing_is_fused_to_nothing(con: Connection, rankings: str) -> None:
    assert con.execute(f"FROM xmr.fused({rankings})").fetchall() == []


def test_no_hits_wanted_are_none(con: Connection) -> None:
    assert con.execute("FROM xmr.fused([[1, 2]], k := 0)").fetchall() == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("[3, 1]", "xmr.fused: expected a list of rankings, each a list of item_id, got INTEGER[]"),
        ("7", "xmr.fused: expected a list of rankings, each a list of item_id, got INTEGER"),
        ("[[1.5]]", "xmr.fused: a ranking holds a number that is not whole"),
        ("[[1, NULL]]", "xmr.fused: a ranking holds NULL, or what is no id"),
        ("[['a']]", "xmr.fused: a ranking holds NULL, or what is no id"),
        ("[[1, 2, 1]]", "xmr.fused: a ranking holds an item twice"),
        ("[[1]], k := 2.5", "xmr.fused: k is a whole number, or NULL for all, got 2.5"),
    ],
)
def test_a_bad_argument_is_an_error_in_our_words(con: Connection, arguments: str, told: str) -> None:
    with pytest.raises(duckdb.InvalidInputException) as caught:
        con.execute(f"FROM xmr.fused({arguments})").fetchall()
    assert told in str(caught.value)


def test_a_lateral_join_fuses_for_each_row(con: Connection) -> None:
    rows = con.execute(
        "SELECT v.x, f.item_id FROM (VALUES (1), (2)) AS v(x), xmr.fused([[v.x, 9], [9]], k := 1) AS f ORDER BY v.x"
    ).fetchall()
    assert rows == [(1, 9), (2, 9)]


def test_spaces_are_fused_as_by_search(tmp_path: Path, rng: np.random.Generator) -> None:
    about = rng.normal(size=(60, 8))
    images, texts = (xmr.Items(kind, about + rng.normal(size=(60, 8)) / 2) for kind in ("image", "text"))
    with xmr.open(tmp_path / "two.duckdb", progress=False) as db:
        db.add(xmr.Pairs(images, texts, np.stack([np.arange(60)] * 2, axis=1)))
        db.fit("precomputed >> sign >> hamming", name="bits")
        db.fit("precomputed >> pq(bytes=4, bits=4)", name="small")
        found = db.search(item=5, spaces=["bits", "small"], k=8, exact=True)
        rankings = ", ".join(
            f"(SELECT list(item_id ORDER BY distance, item_id) FROM xmr.like_{space}(5, NULL))"
            for space in found.spaces
        )
        rows = db.sql(f"FROM xmr.fused([{rankings}], k := 8)").fetchall()
    assert [row[0] for row in rows] == found.ids[0].tolist()
    assert [row[1] for row in rows] == pytest.approx((-found.distances[0]).tolist())
    assert [row[2] for row in rows] == found.ranks[0].tolist()
