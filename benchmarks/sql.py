"""The macros of stored codes beside the best statements by hand and faiss, in one run.

    python benchmarks/sql.py [--rows 1000000] [--rounds 15] [--threads 2] [--only SECTION ...]

All ways of a section answer the same query over the same table and are checked to find the same. Their runs are
interleaved and the quickest of each counts. The ratio is of CPU time, all threads together, which other programs on the
machine disturb least (a faiss thread that waits counts as busy). A statement's time includes parsing and planning.

Another version of DuckDB than the one installed is measured with its folder before others on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import duckdb
import faiss
import numpy as np
from rich.console import Console
from rich.table import Table

from xmr_core.search.codes import words_of
from xmr_core.search.vector_indexer import vector_form
from xmr_core.sql import SqlForm
from xmr_core.types import IMAGE, TEXT, Codes, Layout, Metric
from xmr_hamming.sql import bit_form
from xmr_pq.sql import pq_form
from xmr_spreading.lattice import sphere_lattice
from xmr_spreading.sql import lattice_form
from xmr_storage.arrow import table_of_codes
from xmr_storage.codes import columns_of
from xmr_storage.duckdb import macros
from xmr_storage.duckdb.codes import side_tables
from xmr_storage.duckdb.decoded import select

K = 10
METRICS: tuple[Metric, ...] = ("l2", "ip", "cosine")
NEAREST = f"ORDER BY distance, item_id LIMIT {K}"
Way = Callable[[], list[int]]  # gives the ids that it found
Section = dict[str, Way]  # the name of a way written by hand begins with "hand"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=sorted(SECTIONS), default=list(SECTIONS))
    options = parser.parse_args()
    faiss.omp_set_num_threads(options.threads)
    console = Console(width=110)
    console.print(f"DuckDB {duckdb.__version__}, faiss {faiss.__version__}, {options.threads} threads, top {K}")
    for name in options.only:
        with tempfile.TemporaryDirectory() as folder, duckdb.connect(Path(folder) / "codes.duckdb") as con:
            con.execute(f"SET threads = {options.threads:d}")
            con.execute("CREATE SCHEMA xmr")
            title, share, make = SECTIONS[name]
            rows = round(options.rows * share)
            sections = make(con, np.random.default_rng(0), rows)
            console.print(measured(f"{title}, {rows:,} codes", sections, options.rounds))


def hamming(con: duckdb.DuckDBPyConnection, rng: np.random.Generator, rows: int, bits: int) -> list[Section]:
    """One query over random codes: among all, among the images, and a stored text in place of the query."""
    layout = Layout.bits(bits)
    codes = Codes(np.arange(rows), rng.integers(0, 256, (rows, layout.nbytes), dtype=np.uint8), layout)
    publish(con, f"b{bits}", codes, bit_form(codes.layout.dim))
    packed = rng.integers(0, 256, (1, layout.nbytes), dtype=np.uint8)
    q: list[int] = words_of(packed)[0].tolist()
    counted = " + ".join(f"bit_count(xor(w{j}, {word}))::INTEGER" for j, word in enumerate(q))
    summed = " + ".join(counted_by_sums(f"xor(w{j}, {word})") for j, word in enumerate(q))
    paired = " + ".join(f"bit_count(xor(c.w{j}, s.w{j}))::INTEGER" for j in range(len(q)))
    table = f"xmr.code_b{bits}_v1"
    hits = f"min({{'distance': {counted}, 'item_id': item_id}}, {K})"
    index = faiss.IndexBinaryFlat(bits)
    index.add(codes.values)
    return [
        {
            "hand: bit_count, ORDER BY": way(
                con, f"SELECT item_id, modality, {counted} AS distance FROM {table} {NEAREST}"
            ),
            "hand: bits counted by sums, ORDER BY": way(
                con, f"SELECT item_id, modality, {summed} AS distance FROM {table} {NEAREST}"
            ),
            "hand: bit_count, min(struct, k)": way(con, f"SELECT unnest({hits}).item_id FROM {table}"),
            f"xmr.topk_b{bits}, q written out": way(con, f"FROM xmr.topk_b{bits}({q}, {K})"),
            f"xmr.topk_b{bits}, q bound": way(con, f"FROM xmr.topk_b{bits}($1, $2)", q, K),
            "faiss IndexBinaryFlat": lambda: index.search(packed, K)[1][0].tolist(),
        },
        {
            "hand: bit_count, WHERE modality = 'image'": way(
                con, f"SELECT item_id, {counted} AS distance FROM {table} WHERE modality = 'image' {NEAREST}"
            ),
            f"xmr.topk_b{bits}, modality := 'image'": way(con, f"FROM xmr.topk_b{bits}({q}, {K}, modality := 'image')"),
        },
        {
            "hand: the images like a stored text": way(
                con,
                f"""
                SELECT c.item_id, {paired} AS distance
                FROM {table} AS c, {table} AS s
                WHERE s.item_id = 1 AND c.modality = 'image'
                ORDER BY distance, c.item_id
                LIMIT {K}
                """,
            ),
            f"xmr.like_b{bits}": way(con, f"FROM xmr.like_b{bits}(1, {K})"),
        },
    ]


def counted_by_sums(word: str) -> str:
    """The bits of a BIGINT by sums in fields of 2, 4 and 8 bits; the sign bit apart, as sums are signed."""
    low = f"({word} & {2**63 - 1})"
    twos = f"({low} - (({low} >> 1) & {0x5555555555555555}))"
    fours = f"(({twos} & {0x3333333333333333}) + (({twos} >> 2) & {0x3333333333333333}))"
    eights = f"(({fours} + ({fours} >> 4)) & {0x0F0F0F0F0F0F0F0F})"
    return f"({eights} % 255 - ({word} >> 63))"


def pq(con: duckdb.DuckDBPyConnection, rng: np.random.Generator, rows: int) -> list[Section]:
    """One query by asymmetric distance, over random codes and codebooks. By hand, its tables are ready before."""
    m, ksub, dsub = 8, 256, 8
    codes = Codes(np.arange(rows), rng.integers(0, ksub, (rows, m), dtype=np.uint8), Layout.symbols(m, name="pq"))
    books = rng.standard_normal((m, ksub, dsub)).astype(np.float32)
    publish(con, "pq", codes, pq_form(codes.layout, "l2", books))
    q = rng.standard_normal(m * dsub).astype(np.float32)
    squares = ((books - q.reshape(m, 1, dsub)) ** 2).sum(axis=2).tolist()  # (m, ksub)
    parts = range(m)
    con.execute(f"CREATE TABLE given AS SELECT {', '.join(f'${j + 1}::DOUBLE[] AS t{j}' for j in parts)}", squares)
    for j in parts:
        rows_of = f"SELECT (i - 1)::SMALLINT AS c, t{j}[i] AS d FROM given, range(1, {ksub + 1}) AS r(i)"
        con.execute(f"CREATE TABLE t{j} AS {rows_of}")
    listed = " + ".join(f"t{j}[c{j} + 1]" for j in parts)
    joined = " + ".join(f"t{j}.d" for j in parts)
    joins = " ".join(f"JOIN t{j} ON t{j}.c = c{j}" for j in parts)
    index = faiss.IndexPQ(m * dsub, m, 8)
    faiss.copy_array_to_vector(books.ravel(), index.pq.centroids)
    faiss.copy_array_to_vector(codes.values.ravel(), index.codes)
    index.is_trained, index.ntotal = True, rows
    section = {
        "hand: eight joins": way(
            con, f"SELECT item_id, modality, sqrt({joined}) AS distance FROM xmr.code_pq_v1 {joins} {NEAREST}"
        ),
        "hand: eight lists": way(
            con, f"SELECT item_id, modality, sqrt({listed}) AS distance FROM xmr.code_pq_v1, given {NEAREST}"
        ),
        "xmr.topk_pq": way(
            con, "FROM xmr.topk_pq($1, $2)", str(q.tolist()), K
        ),  # a bound list of 64: 6 ms in DuckDB 1.5
        "faiss IndexPQ": lambda: index.search(q[None], K)[1][0].tolist(),
    }
    return [section]


def filtered(con: duckdb.DuckDBPyConnection, rng: np.random.Generator, rows: int) -> list[Section]:
    """One query over those random codes of 64 bits that a table of the user's chooses: a hundredth, and half."""
    codes = Codes(np.arange(rows), rng.integers(0, 256, (rows, 8), dtype=np.uint8), Layout.bits(64))
    publish(con, "b64", codes, bit_form(64))
    q: list[int] = words_of(rng.integers(0, 256, (1, 8), dtype=np.uint8))[0].tolist()
    con.execute("CREATE TABLE mine AS SELECT item_id, hash(item_id) % 100 AS part FROM xmr.code_b64_v1")
    sections = []
    for percent in (1, 50):
        own = f"SELECT item_id FROM mine WHERE part < {percent}"
        distance = f"bit_count(xor(c.w0, {q[0]}))::INTEGER"
        nearest = f"ORDER BY distance, c.item_id LIMIT {K}"
        code = "xmr.code_b64_v1 AS c"
        listed = f"items := (SELECT list(item_id) FROM mine WHERE part < {percent})"
        sections.append(
            {
                f"hand, {percent} %: JOIN": way(
                    con,
                    f"SELECT c.item_id, {distance} AS distance FROM {code} JOIN mine AS m ON m.item_id = c.item_id "
                    f"WHERE m.part < {percent} {nearest}",
                ),
                f"hand, {percent} %: IN (SELECT ...)": way(
                    con, f"SELECT c.item_id, {distance} AS distance FROM {code} WHERE c.item_id IN ({own}) {nearest}"
                ),
                f"xmr.topk_b64, {percent} %, items": way(con, f"FROM xmr.topk_b64({q}, {K}, {listed})"),
                f"xmr.distances_b64, {percent} %, JOIN": way(
                    con,
                    f"SELECT c.item_id, c.distance FROM xmr.distances_b64({q}) AS c JOIN mine AS m "
                    f"ON m.item_id = c.item_id WHERE m.part < {percent} {nearest}",
                ),
            }
        )
    return sections


def floats(con: duckdb.DuckDBPyConnection, rng: np.random.Generator, rows: int) -> list[Section]:
    """One query over vectors of 128 dimensions, by each metric."""
    vectors, q = rng.standard_normal((rows, 128), np.float32), rng.standard_normal(128).astype(np.float32)
    codes = Codes(np.arange(rows), vectors.view(np.uint8), Layout.vectors(128))
    text = str(q.tolist())
    sections = []
    for metric in METRICS:
        publish(con, f"f{metric}", codes, vector_form(128, metric))
        table = f"xmr.code_f{metric}_v1"
        sections.append(
            {
                **{
                    f"hand: {what}": way(con, f"SELECT item_id, {distance} AS distance FROM {table} {NEAREST}", text)
                    for what, distance in by_hand(metric, 128).items()
                },
                f"xmr.topk_f{metric}": way(con, f"FROM xmr.topk_f{metric}($1, {K})", text),
            }
        )
    return sections


def by_hand(metric: Metric, dim: int) -> dict[str, str]:
    """Distances of a column `vector` to the text $1."""
    arrays = {"l2": "array_distance", "ip": "array_negative_inner_product", "cosine": "array_cosine_distance"}
    return {f"{arrays[metric]} of FLOAT": f"{arrays[metric]}(vector, $1::FLOAT[{dim}])"}


def lattice(con: duckdb.DuckDBPyConnection, rng: np.random.Generator, rows: int) -> list[Section]:
    """One query over lattice codes of 64 bits in 24 dimensions."""
    points = sphere_lattice(24, 79)
    numbers = points.rank(points.closest(rng.standard_normal((rows, 24), np.float32))).astype("<u8")
    values = np.ascontiguousarray(numbers.view(np.uint8).reshape(-1, 8)[:, : points.nbytes])
    form = lattice_form(points, "cosine", True)
    assert form is not None
    codes = Codes(np.arange(rows), values, Layout.number(24, 64, name="lattice"))
    publish(con, "kept", codes, form, kept=True)
    publish(con, "plain", codes, form)
    con.execute("CREATE TABLE points AS SELECT item_id, modality, vector FROM xmr.point_kept")
    q = str(rng.standard_normal(24).tolist())
    return [
        {
            "hand: array_cosine_distance of points decoded once": way(
                con,
                f"SELECT item_id, array_cosine_distance(vector, $1::FLOAT[24]) AS distance FROM points {NEAREST}",
                q,
            ),
            "xmr.topk, its points materialized": way(con, f"FROM xmr.topk_kept($1, {K})", q),
            "xmr.topk, every code decoded": way(con, f"FROM xmr.topk_plain($1, {K})", q),
        }
    ]


def many(con: duckdb.DuckDBPyConnection, rng: np.random.Generator, rows: int) -> list[Section]:
    """The nearest images of 100 texts, which a table of the user's names."""
    codes = Codes(np.arange(rows), rng.integers(0, 256, (rows, 8), dtype=np.uint8), Layout.bits(64))
    publish(con, "few", codes, bit_form(codes.layout.dim))
    texts = list(range(1, 200, 2))
    con.execute("CREATE TABLE asked AS SELECT unnest($1::BIGINT[]) AS query", [texts])
    distance = "bit_count(xor(c.w0, s.w0))::INTEGER"
    lateral = f"""
        SELECT n.item_id
        FROM asked AS a, LATERAL (
            SELECT c.item_id, {distance} AS distance
            FROM xmr.code_few_v1 AS c, xmr.code_few_v1 AS s
            WHERE c.modality = 'image' AND s.item_id = a.query
            ORDER BY distance, c.item_id
            LIMIT {K}
        ) AS n
        ORDER BY a.query, n.distance, n.item_id
        """
    grouped = f"""
        SELECT hit.item_id
        FROM (
            SELECT s.item_id AS query, unnest(min({{'distance': {distance}, 'item_id': c.item_id}}, {K})) AS hit
            FROM xmr.code_few_v1 AS c, xmr.code_few_v1 AS s
            WHERE c.modality = 'image' AND s.item_id IN (SELECT query FROM asked)
            GROUP BY s.item_id
        )
        ORDER BY query, hit
        """
    like = f"FROM asked AS a, xmr.like_few(a.query, {K}) AS n ORDER BY a.query, n.distance, n.item_id"
    return [
        {
            "hand: LATERAL": way(con, lateral),
            "LATERAL xmr.like_few": way(con, f"SELECT n.item_id {like}"),
        },
        {
            "hand: min(struct, k) GROUP BY query": way(con, grouped),
            "xmr.batch_few": way(con, f"SELECT item_id FROM xmr.batch_few({K}, items := $1)", texts),
        },
    ]


def publish(con: duckdb.DuckDBPyConnection, space: str, codes: Codes, form: SqlForm, kept: bool = False) -> None:
    """The codes as a space, decoded once where they are `kept` so; every other item is an image, the rest are texts."""
    con.execute(f"CREATE TABLE xmr.code_{space}_v1 ({columns_of(codes.layout)})")
    con.register("rows", table_of_codes(codes, TEXT))
    kinds = f"CASE item_id % 2 WHEN 0 THEN '{IMAGE}' ELSE '{TEXT}' END AS modality"
    con.execute(f"INSERT INTO xmr.code_{space}_v1 BY NAME SELECT * REPLACE ({kinds}) FROM rows ORDER BY item_id")
    for table, columns, given_rows in side_tables(space, 1, form):
        con.execute(f"CREATE TABLE xmr.{table} ({columns})")
        con.register("given_rows", given_rows)
        con.execute(f"INSERT INTO xmr.{table} FROM given_rows")
    if kept and form.decoded is not None:
        rows = f"{select(form.decoded, f'{space}_v1')} ORDER BY v.item_id"
        con.execute(f"CREATE TABLE xmr.{form.decoded.name}_{space}_v1 AS {rows}")
    for statement in macros.space_statements(space, 1, codes.layout, form, kept=kept):
        con.execute(statement)
    con.execute("CHECKPOINT")


def way(con: duckdb.DuckDBPyConnection, statement: str, *parameters: object) -> Way:
    """A statement; its first column is the ids."""
    return lambda: [row[0] for row in con.execute(statement, parameters).fetchall()]


def measured(title: str, sections: Sequence[Section], rounds: int) -> Table:
    """Milliseconds of the clock and of the processors, the quickest of `rounds`, beside the best by hand."""
    table = Table(title=title, title_justify="left", min_width=90)
    table.add_column("what")
    for name in ("ms", "CPU ms", "x best by hand", "hits in common"):
        table.add_column(name, justify="right")
    for section in sections:
        seconds = {name: np.full((rounds, 2), np.inf) for name in section}
        found: dict[str, list[int]] = {}
        for i in range(rounds):
            for name, run in section.items():
                started = np.array([time.perf_counter(), time.process_time()])
                found[name] = run()
                seconds[name][i] = [time.perf_counter(), time.process_time()] - started
        quickest = {name: times.min(axis=0) for name, times in seconds.items()}
        by_hand = [name for name in section if name.startswith("hand")]
        best, expected = min(quickest[name][1] for name in by_hand), set(found[by_hand[0]])
        for name, (wall, cpu) in quickest.items():
            common = len(expected.intersection(found[name])) / len(expected)
            table.add_row(name, f"{wall * 1e3:.2f}", f"{cpu * 1e3:.2f}", f"{cpu / best:.2f}", f"{common:.0%}")
        table.add_section()
    return table


SECTIONS: dict[
    str, tuple[str, float, Callable[[duckdb.DuckDBPyConnection, np.random.Generator, int], list[Section]]]
] = {
    "bits64": ("One query, 64 bits", 1, partial(hamming, bits=64)),
    "bits128": ("One query, 128 bits", 1, partial(hamming, bits=128)),
    "bits256": ("One query, 256 bits", 1, partial(hamming, bits=256)),
    "filtered": ("One query among the items of a table, 64 bits", 1, filtered),
    "pq": ("One query, PQ 8x8 and l2", 1, pq),
    "floats": ("One query, 128 floats", 0.1, floats),
    "lattice": ("One query, lattice of 24 dimensions", 0.1, lattice),
    "many": ("100 texts, 64 bits", 0.1, many),
}


if __name__ == "__main__":
    main()
