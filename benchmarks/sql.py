"""Top-10 over a million stored codes in SQL: our macros beside hand-written statements and faiss, in one run.

    python benchmarks/sql.py [--rows 1000000] [--rounds 15] [--threads 2]

Every statement answers the same query over the same table and is checked to give the same ids. The runs of all of them
are interleaved and the quickest of each counts, so that another program on the machine disturbs all alike; take the
ratios. A statement's time includes parsing and planning; faiss searches one query.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import faiss
import numpy as np
from rich.console import Console
from rich.table import Table

from xmr_core.components import SqlDistance
from xmr_core.types import IMAGE, TEXT, Codes, Layout
from xmr_storage import macros
from xmr_storage.arrow import table_of_codes, words

K = 10
Runs = dict[str, Callable[[], list[int]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    faiss.omp_set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder, duckdb.connect(Path(folder) / "codes.duckdb") as con:
        con.execute(f"SET threads = {options.threads:d}")
        con.execute("CREATE SCHEMA xmr")
        for statement in macros.shared_statements():
            con.execute(statement)
        console = Console(width=110)
        console.print(f"DuckDB {duckdb.__version__}, faiss {faiss.__version__}, {options.threads} threads")
        for bits in (64, 128):
            title = f"Hamming, {bits} bits, {options.rows:,} codes, top {K} of one query"
            console.print(measured(title, hamming(con, rng, options.rows, bits), options.rounds))
        title = f"PQ 8x8 (64 dimensions, l2), {options.rows:,} codes, top {K} of one query"
        console.print(measured(title, pq(con, rng, options.rows), options.rounds))
        title = f"Hamming, 64 bits, top {K} of 200 queries among {options.rows // 20:,} codes of the other kind"
        console.print(measured(title, batch(con, rng, options.rows // 10), max(1, options.rounds // 5)))


def store(con: duckdb.DuckDBPyConnection, space: str, codes: Codes, sql: SqlDistance) -> None:
    """The codes as a published space; every other item is a picture, the others are texts."""
    columns = ", ".join(f"{name} {kind} NOT NULL" for name, kind in macros.code_columns(codes.layout))
    con.execute(f"CREATE TABLE xmr.code_{space}_v1 (item_id BIGINT NOT NULL, modality VARCHAR NOT NULL, {columns})")
    rows = table_of_codes(codes, TEXT)
    modality = f"CASE WHEN item_id % 2 = 0 THEN '{IMAGE}' ELSE modality END AS modality"
    con.register("rows", rows)
    con.execute(f"INSERT INTO xmr.code_{space}_v1 BY NAME SELECT * REPLACE ({modality}) FROM rows ORDER BY item_id")
    for statement, _given_rows in macros.space_tables(space, 1, codes.layout, sql):
        con.execute(statement)
    for statement in macros.space_statements(space, 1, codes.layout, sql.metric):
        con.execute(statement)
    con.execute("CHECKPOINT")


def hamming(con: duckdb.DuckDBPyConnection, rng: np.random.Generator, rows: int, bits: int) -> Runs:
    """One query over random codes, every way we know; the last of each pair of words is the text filter."""
    space = f"b{bits}"
    layout = Layout("bits", bits)
    codes = Codes(np.arange(rows), rng.integers(0, 256, (rows, layout.nbytes), dtype=np.uint8), layout)
    store(con, space, codes, SqlDistance("hamming", "hamming"))
    packed = rng.integers(0, 256, (1, layout.nbytes), dtype=np.uint8)
    q = words(packed)[0].tolist()
    table = f"xmr.code_{space}_v1"
    counted = " + ".join(f"bit_count(xor(w{j}, {word}))::INTEGER" for j, word in enumerate(q))
    swar = " + ".join(parallel_count(f"xor(w{j}, {word})") for j, word in enumerate(q))
    ordered = "SELECT item_id, modality, {0} AS distance FROM {1} {2} ORDER BY distance, item_id LIMIT 10"
    index = faiss.IndexBinaryFlat(bits)
    index.add(codes.values)

    def run(statement: str, *parameters: object) -> Callable[[], list[int]]:
        return lambda: [row[0] for row in con.execute(statement, parameters).fetchall()]

    return {
        "hand: ORDER BY distance, item_id LIMIT 10": run(ordered.format(counted, table, "")),
        "hand: the same, bits counted in parallel": run(ordered.format(swar, table, "")),
        "hand: min(struct, 10)": run(
            f"SELECT unnest(min({{'d': {counted}, 'i': item_id}}, 10)).i AS item_id FROM {table}"
        ),
        f"xmr.topk_{space}(q, 10), q written out": run(f"FROM xmr.topk_{space}({q}, 10)"),
        f"xmr.topk_{space}($1, 10), q bound": run(f"FROM xmr.topk_{space}($1, 10)", q),
        "faiss IndexBinaryFlat, one query": lambda: index.search(packed, K)[1][0].tolist(),
        "pictures only": lambda: [],
        "hand: WHERE modality = 'image'": run(ordered.format(counted, table, "WHERE modality = 'image'")),
        f"xmr.topk_{space}(q, 10, modality := 'image')": run(f"FROM xmr.topk_{space}({q}, 10, modality := 'image')"),
    }


def parallel_count(word: str) -> str:
    """Bits of a BIGINT counted by sums in fields of 2, 4, 8 bits; the sign bit apart, as DuckDB's sums are signed."""
    low = f"({word} & {2**63 - 1})"
    twos = f"({low} - (({low} >> 1) & {0x5555555555555555}))"
    fours = f"(({twos} & {0x3333333333333333}) + (({twos} >> 2) & {0x3333333333333333}))"
    eights = f"(({fours} + ({fours} >> 4)) & {0x0F0F0F0F0F0F0F0F})"
    return f"({eights} % 255 - ({word} >> 63))"


def pq(con: duckdb.DuckDBPyConnection, rng: np.random.Generator, rows: int) -> Runs:
    """One query by asymmetric distance; codes and codebooks at random, which changes no time."""
    m, ksub, dsub = 8, 256, 8
    layout = Layout("pq", m, 8)
    codes = Codes(np.arange(rows), rng.integers(0, 256, (rows, m), dtype=np.uint8), layout)
    books = rng.standard_normal((m, ksub, dsub)).astype(np.float32)
    store(con, "pq", codes, SqlDistance("pq", "l2", {"codebooks": books}))
    q = rng.standard_normal(m * dsub).astype(np.float32)
    tables = ((books - q.reshape(m, 1, dsub)) ** 2).sum(axis=2)  # (m, ksub)
    con.execute(
        f"CREATE TABLE given AS SELECT {', '.join(f'${j + 1}::DOUBLE[] AS t{j}' for j in range(m))}", tables.tolist()
    )
    for j in range(m):
        con.execute(f"CREATE TABLE t{j} AS SELECT (s - 1)::SMALLINT AS s, t{j}[s] AS d FROM given, range(1, 257) AS r(s)")
    listed = " + ".join(f"t{j}[c{j} + 1]" for j in range(m))
    joined = " + ".join(f"t{j}.d" for j in range(m))
    joins = " ".join(f"JOIN t{j} ON t{j}.s = c{j}" for j in range(m))
    index = faiss.IndexPQ(m * dsub, m, 8)
    faiss.copy_array_to_vector(books.ravel(), index.pq.centroids)
    index.is_trained = True
    faiss.copy_array_to_vector(codes.values.ravel(), index.codes)
    index.ntotal = rows

    def run(statement: str, *parameters: object) -> Callable[[], list[int]]:
        return lambda: [row[0] for row in con.execute(statement, parameters).fetchall()]

    ordered = "ORDER BY distance, item_id LIMIT 10"
    return {
        "hand: joins, tables of distances given": run(
            f"SELECT item_id, modality, sqrt({joined}) AS distance FROM xmr.code_pq_v1 {joins} {ordered}"
        ),
        "hand: lists, tables of distances given": run(
            f"SELECT item_id, modality, sqrt({listed}) AS distance FROM xmr.code_pq_v1, given {ordered}"
        ),
        "xmr.topk_pq($1, 10)": run("FROM xmr.topk_pq($1, 10)", q.tolist()),
        "faiss IndexPQ, one query": lambda: index.search(q[None], K)[1][0].tolist(),
    }


def batch(con: duckdb.DuckDBPyConnection, rng: np.random.Generator, rows: int) -> Runs:
    """The ten nearest pictures of 200 texts; here all hits are compared, one after the other."""
    layout = Layout("bits", 64)
    codes = Codes(np.arange(rows), rng.integers(0, 256, (rows, 8), dtype=np.uint8), layout)
    store(con, "few", codes, SqlDistance("hamming", "hamming"))
    asked = list(range(1, 400, 2))
    con.execute("CREATE TABLE asked AS SELECT unnest($1::BIGINT[]) AS query", [asked])

    def run(statement: str, *parameters: object) -> Callable[[], list[int]]:
        return lambda: [row[0] for row in con.execute(statement, parameters).fetchall()]

    return {
        "hand: min(struct, 10) GROUP BY query": run(
            """
            SELECT unnest(list(hit.i ORDER BY query)) FROM (
                SELECT q.item_id AS query, unnest(
                    min({'d': bit_count(xor(c.w0, q.w0)), 'i': c.item_id}, 10)
                ) AS hit
                FROM xmr.code_few_v1 AS c, xmr.code_few_v1 AS q
                WHERE c.modality = 'image' AND q.item_id IN (SELECT query FROM asked)
                GROUP BY q.item_id
            )
            """
        ),
        "xmr.batch_few(10, items := ...)": run("SELECT item_id FROM xmr.batch_few(10, items := $1)", asked),
        "LATERAL xmr.like_few(query, 10)": run(
            """
            SELECT n.item_id FROM asked AS a, xmr.like_few(a.query, 10) AS n ORDER BY a.query, n.distance, n.item_id
            """
        ),
    }


def measured(title: str, runs: Runs, rounds: int) -> Table:
    """Milliseconds of each, the quickest of `rounds`, and the ratio to the quickest written by hand."""
    quickest = dict.fromkeys(runs, float("inf"))
    found: dict[str, list[int]] = {}
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            found[name] = run()
            quickest[name] = min(quickest[name], time.perf_counter() - started)
    return tabled(title, quickest, found)


def tabled(title: str, quickest: dict[str, float], found: dict[str, list[int]]) -> Table:
    """A section begins at a name whose run finds nothing; in each, all must find the same."""
    table = Table(title=title, title_justify="left", min_width=100)
    for name in ("what", "ms", "x best by hand", "same hits"):
        table.add_column(name, justify="left" if name == "what" else "right")
    sections: list[list[str]] = [[]]
    for name, hits in found.items():
        if not hits:
            table.add_section() if False else sections.append([])
        else:
            sections[-1].append(name)
    for section in sections:
        best = min(quickest[name] for name in section if name.startswith("hand"))
        first = sorted(found[section[0]])
        for name in section:
            same = "yes" if sorted(found[name]) == first else "up to ties" if "faiss" in name else "NO"
            table.add_row(name, f"{quickest[name] * 1e3:.2f}", f"{quickest[name] / best:.2f}", same)
        table.add_section()
    return table


if __name__ == "__main__":
    main()
