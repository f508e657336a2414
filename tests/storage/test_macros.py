"""The codes in SQL, against numpy and faiss; in a bare DuckDB client; under hostile names and arguments."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from numpy.typing import NDArray

from xmr_core.errors import DataError
from xmr_core.search.codes import words_of
from xmr_core.search.vector_indexer import vector_form
from xmr_core.sql import SqlForm
from xmr_core.types import IMAGE, TEXT, Codes, Layout, Metric, unpack_bits
from xmr_hamming.sql import bit_form
from xmr_pq.sql import pq_form
from xmr_storage.arrow import table_of_codes
from xmr_storage.codes import columns_of, table_name
from xmr_storage.duckdb import macros
from xmr_storage.duckdb.codes import side_tables, tables_of

N = 300
item_ids = np.arange(N, dtype=np.int64) * 3  # not consecutive; the even ones are pictures
is_picture = item_ids % 2 == 0
WIDTHS = (16, 32, 64, 128, 256)
Connection = duckdb.DuckDBPyConnection


@pytest.fixture
def con() -> Iterator[Connection]:
    with duckdb.connect() as connection:
        prepare(connection)
        yield connection


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def prepare(con: Connection) -> None:
    con.execute("CREATE SCHEMA xmr")
    for statement in macros.shared_statements():
        con.execute(statement)


def put(con: Connection, space: str, codes: Codes, form: SqlForm | None, version: int = 1) -> None:
    """A version of a space: its tables, filled."""
    table = f"xmr.{table_name(space, version)}"
    con.execute(f"CREATE TABLE {table} ({columns_of(codes.layout)})")
    for modality, chosen in ((IMAGE, codes.ids % 2 == 0), (TEXT, codes.ids % 2 == 1)):
        con.register("rows", table_of_codes(codes.take(chosen), modality))
        con.execute(f"INSERT INTO {table} BY NAME SELECT * FROM rows")
    for name, columns, given_rows in side_tables(space, version, form) if form else ():
        con.execute(f"CREATE TABLE xmr.{name} ({columns})")
        con.register("given_rows", given_rows)
        con.execute(f"INSERT INTO xmr.{name} BY NAME SELECT * FROM given_rows")


def publish(con: Connection, space: str, codes: Codes, form: SqlForm | None, version: int = 1) -> None:
    """The version, read back from JSON as a file keeps it."""
    put(con, space, codes, form, version)
    kept = form and SqlForm.from_json(json.loads(json.dumps(form.to_json())))
    for statement in macros.space_statements(space, version, codes.layout, kept, ("codebook",)):
        con.execute(statement)


def binary(rng: np.random.Generator, bits: int, n: int = N) -> Codes:
    """Random codes; the first half of them near one another, so that there are ties; one of zeros and one of ones."""
    values = rng.integers(0, 256, (n, bits // 8), dtype=np.uint8)
    values[: n // 2] &= rng.integers(0, 256, (n // 2, bits // 8), dtype=np.uint8) & 17
    values[0], values[-1] = 0, 255
    return Codes(item_ids[:n], values, Layout.bits(bits))


def counts(codes: Codes, query: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(n,): differing bits, the slow way."""
    return (unpack_bits(codes.values) != unpack_bits(query[None])).sum(axis=1)


def nearest(distances: NDArray[Any], chosen: NDArray[np.bool_], k: int) -> list[tuple[int, str, Any]]:
    """What a macro should give: rows of item_id, modality, distance."""
    order = [i for i in np.lexsort((item_ids[: len(distances)], distances)) if chosen[i]][:k]
    return [(int(item_ids[i]), IMAGE if is_picture[i] else TEXT, distances[i].item()) for i in order]


def asked(codes: Codes, row: int) -> list[int]:
    return [int(word) for word in words_of(codes.values[row : row + 1])[0]]


# bits


@pytest.mark.parametrize("bits", WIDTHS)
def test_hamming_counts_every_bit(con: Connection, bits: int) -> None:
    codes = Codes(item_ids[:2], np.array([[0] * (bits // 8), [255] * (bits // 8)], np.uint8), Layout.bits(bits))
    pair = [asked(codes, 0), asked(codes, 1)]
    assert con.execute("SELECT xmr.hamming($1::BIGINT[], $2::BIGINT[])", pair).fetchall() == [(bits,)]
    if bits <= 64:
        assert con.execute("SELECT xmr.hamming($1, $2)", [pair[0][0], pair[1][0]]).fetchall() == [(bits,)]


@pytest.mark.parametrize(
    "arguments", ["[1, 2], [1]", "[1], 1", "1, [1]", "'x', 1", "18446744073709551615::UBIGINT, 1", "1.5, [2]"]
)
def test_hamming_refuses_what_it_cannot_compare(con: Connection, arguments: str) -> None:
    with pytest.raises(duckdb.Error, match="expected two BIGINT words"):
        con.execute(f"SELECT xmr.hamming({arguments})")


def test_hamming_of_nothing_is_nothing(con: Connection) -> None:
    query = (
        "SELECT xmr.hamming(NULL, 1), xmr.hamming([1], NULL), xmr.hamming(NULL, NULL), xmr.hamming([1, NULL], [1, 2])"
    )
    assert con.execute(query).fetchall() == [(None, None, None, None)]


@pytest.mark.parametrize("bits", (16, 64, 72, 128))
def test_words_takes_a_code_in_any_type(con: Connection, rng: np.random.Generator, bits: int) -> None:
    packed = rng.integers(128, 256, (1, bits // 8), dtype=np.uint8)
    words = words_of(packed)[0].tolist()
    text = "".join(map(str, unpack_bits(packed)[0].astype(int)))
    unsigned = [word % 2**64 for word in words]
    for given in (packed.tobytes(), packed.tobytes().hex(), f"0x{packed.tobytes().hex().upper()}", words, unsigned):
        assert con.execute("SELECT xmr.words($1)", [given]).fetchall() == [(words,)]
    assert con.execute("SELECT xmr.words($1::BIT)", [text]).fetchall() == [(words,)]
    if bits <= 64:
        assert con.execute("SELECT xmr.words($1), xmr.words($2)", [words[0], unsigned[0]]).fetchall() == [(words,) * 2]


@pytest.mark.parametrize("given", ["1.5", "[1.5]", "'a dog'", "[1, NULL]", "36893488147419103232", "'abc'", "[[1]]"])
def test_words_refuses_what_is_no_code(con: Connection, given: str) -> None:
    with pytest.raises(duckdb.Error, match=r"xmr\.words: expected"):
        con.execute(f"SELECT xmr.words({given})").fetchall()
    assert con.execute("SELECT xmr.words(NULL)").fetchall() == [(None,)]


@pytest.mark.parametrize("bits", WIDTHS)
def test_topk_is_the_exact_ranking_with_ties_to_the_smaller_id(
    con: Connection, rng: np.random.Generator, bits: int
) -> None:
    codes = binary(rng, bits)
    publish(con, "s", codes, bit_form(codes.layout.dim))
    for row in (0, 7, N - 1):
        expected = nearest(counts(codes, codes.values[row]), np.ones(N, bool), N)
        assert con.execute("FROM xmr.topk_s($1, $2)", [asked(codes, row), 20]).fetchall() == expected[:20]
        assert con.execute(f"FROM xmr.topk_s({asked(codes, row)}, {N + 5})").fetchall() == expected
    assert expected[-1][2] == bits  # the farthest of the ones is the zeros


@pytest.mark.parametrize("bits", WIDTHS)
def test_within_gives_all_of_the_radius(con: Connection, rng: np.random.Generator, bits: int) -> None:
    codes = binary(rng, bits)
    publish(con, "s", codes, bit_form(codes.layout.dim))
    distances = counts(codes, codes.values[3])
    radius = int(np.median(distances))
    expected = nearest(distances, distances <= radius, N)
    assert con.execute(f"FROM xmr.within_s({asked(codes, 3)}, {radius})").fetchall() == expected
    pictures = nearest(distances, (distances <= radius) & is_picture, N)
    assert con.execute(f"FROM xmr.within_s({asked(codes, 3)}, {radius}, modality := 'image')").fetchall() == pictures


@pytest.mark.parametrize("modality", [IMAGE, TEXT])
def test_topk_of_one_modality_has_k_hits(con: Connection, rng: np.random.Generator, modality: str) -> None:
    codes = binary(rng, 64)
    publish(con, "s", codes, bit_form(codes.layout.dim))
    expected = nearest(counts(codes, codes.values[0]), is_picture == (modality == IMAGE), 9)
    assert con.execute("FROM xmr.topk_s($1, 9, modality := $2)", [asked(codes, 0), modality]).fetchall() == expected


@pytest.mark.parametrize("bits", WIDTHS)
def test_like_crosses_modalities(con: Connection, rng: np.random.Generator, bits: int) -> None:
    codes = binary(rng, bits)
    publish(con, "s", codes, bit_form(codes.layout.dim))
    for row in (4, 5):
        distances = counts(codes, codes.values[row])
        other = nearest(distances, is_picture != is_picture[row], 12)
        assert con.execute("FROM xmr.like_s($1, 12)", [int(item_ids[row])]).fetchall() == other
        own = nearest(distances, (is_picture == is_picture[row]) & (item_ids != item_ids[row]), 12)
        kind = IMAGE if is_picture[row] else TEXT
        assert con.execute(f"FROM xmr.like_s({item_ids[row]}, 12, modality := '{kind}')").fetchall() == own


def test_batch_is_like_of_every_item(con: Connection, rng: np.random.Generator) -> None:
    publish(con, "s", binary(rng, 128, 60), bit_form(128))
    expected = [
        (query, item, distance)
        for query in item_ids[:60].tolist()
        for item, _, distance in con.execute(f"FROM xmr.like_s({query}, 3)").fetchall()
    ]
    assert con.execute("FROM xmr.batch_s(3)").fetchall() == expected


def test_batch_takes_a_list_of_items_and_a_modality(con: Connection, rng: np.random.Generator) -> None:
    publish(con, "s", binary(rng, 64), bit_form(64))
    con.execute("CREATE TABLE mine AS SELECT unnest([6, 9, 9]) AS item_id")
    found = con.execute("FROM xmr.batch_s(2, items := (SELECT list(item_id) FROM mine), modality := 'text')").fetchall()
    expected = [
        (query, item, distance)
        for query in (6, 9)
        for item, _, distance in con.execute(f"FROM xmr.like_s({query}, 2, modality := 'text')").fetchall()
    ]
    assert found == expected
    assert con.execute("FROM xmr.batch_s(2, items := [])").fetchall() == []


def test_narrow_codes_are_zero_extended(con: Connection, rng: np.random.Generator) -> None:
    codes = binary(rng, 16)
    publish(con, "s", codes, bit_form(codes.layout.dim))
    assert con.execute("SELECT min(w0) >= 0, max(w0) < 65536 FROM xmr.code_s").fetchall() == [(True, True)]


# vectors


def oracle(queries: NDArray[Any], vectors: NDArray[Any], metric: Metric) -> NDArray[np.float32]:
    """(n,) distances of one query, in float64."""
    q, x = queries.astype(np.float64), vectors.astype(np.float64)
    if metric == "l2":
        return np.sqrt(((x - q) ** 2).sum(axis=1)).astype(np.float32)
    if metric == "ip":
        return (-(x @ q)).astype(np.float32)
    sizes = np.sqrt((x * x).sum(axis=1) * (q @ q))
    return np.where(sizes > 0, 1 - (x @ q) / np.where(sizes > 0, sizes, 1), 1).astype(np.float32)


def agrees(found: list[Any], distances: NDArray[np.float32], chosen: NDArray[np.bool_], k: int) -> None:
    """The k nearest of those chosen, up to rounding; in order, ties to the smaller id."""
    expected = nearest(distances, chosen, k)
    np.testing.assert_allclose([row[2] for row in found], [row[2] for row in expected], rtol=1e-5, atol=1e-6)
    places = np.searchsorted(item_ids, [row[0] for row in found])
    np.testing.assert_allclose(distances[places], [row[2] for row in found], rtol=1e-5, atol=1e-6)
    assert chosen[places].all()
    assert [(row[2], row[0]) for row in found] == sorted((row[2], row[0]) for row in found)


def vectors_of(rng: np.random.Generator, dim: int = 24) -> NDArray[np.float32]:
    vectors = rng.standard_normal((N, dim)).astype(np.float32)
    vectors[10], vectors[11], vectors[12] = 0, vectors[9], 2 * vectors[9]
    return vectors


METRICS: tuple[Metric, ...] = ("l2", "ip", "cosine")


@pytest.mark.parametrize("metric", METRICS)
def test_vectors_are_ranked_by_the_true_distance(con: Connection, rng: np.random.Generator, metric: Metric) -> None:
    vectors = vectors_of(rng)
    publish(con, "s", Codes.of_vectors(item_ids, vectors), vector_form(24, metric))
    q = rng.standard_normal(24).astype(np.float32)
    distances, everything = oracle(q, vectors, metric), np.ones(N, bool)
    agrees(con.execute("FROM xmr.topk_s($1, 50)", [str(q.tolist())]).fetchall(), distances, everything, 50)
    agrees(con.execute(f"FROM xmr.topk_s({q.tolist()}, 300)").fetchall(), distances, everything, 300)
    radius = float(np.sort(distances)[N // 2])
    within = con.execute(f"FROM xmr.within_s({q.tolist()}, {radius!r}, modality := 'text')").fetchall()
    agrees(within, distances, ~is_picture & (distances <= radius), N)
    own = oracle(vectors[5], vectors, metric)
    like = con.execute(f"FROM xmr.like_s({item_ids[5]}, 9)").fetchall()
    agrees(like, own, is_picture != is_picture[5], 9)
    batch = con.execute(f"FROM xmr.batch_s(9, items := [{item_ids[5]}])").fetchall()
    assert [row[1:] for row in batch] == [row[::2] for row in like]


def test_a_zero_vector_is_at_cosine_distance_one_of_everything(con: Connection, rng: np.random.Generator) -> None:
    vectors = vectors_of(rng)
    publish(con, "s", Codes.of_vectors(item_ids, vectors), vector_form(24, "cosine"))
    assert {row[2] for row in con.execute(f"FROM xmr.topk_s({[0] * 24}, {N})").fetchall()} == {1.0}
    found = con.execute("FROM xmr.topk_s(xmr.stored_s(27), 300)").fetchall()
    assert [row[::2] for row in found[:3]] == [(27, 0.0), (33, 0.0), (36, 0.0)]  # itself, its copy, its double
    assert {row[0]: row[2] for row in found}[30] == 1.0


# product quantization


def quantized(rng: np.random.Generator, m: int = 4, bits: int = 5, dsub: int = 6) -> tuple[Codes, NDArray[np.float32]]:
    symbols = rng.integers(0, 1 << bits, (N, m), dtype=np.uint8 if bits <= 8 else np.uint16)
    values = symbols if bits <= 8 else symbols.astype("<u2").view(np.uint8)
    books = rng.standard_normal((m, 1 << bits, dsub)).astype(np.float32)
    return Codes(item_ids, values, Layout.symbols(m, bits, name="pq")), books


def decoded(codes: Codes, books: NDArray[np.float32]) -> NDArray[np.float32]:
    symbols = codes.values if codes.layout.columns[0].dtype == "uint8" else codes.values.view("<u2")
    return books[np.arange(len(books)), symbols].reshape(len(codes), -1)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("bits", [4, 8, 10])
def test_pq_is_the_distance_to_the_reconstruction(
    con: Connection, rng: np.random.Generator, metric: Metric, bits: int
) -> None:
    codes, books = quantized(rng, bits=bits)
    books[1, 3] = 0
    publish(con, "s", codes, pq_form(codes.layout, metric, books))
    vectors, q = decoded(codes, books), rng.standard_normal(24).astype(np.float32)
    distances = oracle(q, vectors, metric)
    agrees(con.execute("FROM xmr.topk_s($1, 40)", [q.tolist()]).fetchall(), distances, np.ones(N, bool), 40)
    text = con.execute(f"FROM xmr.topk_s('{q.tolist()}', 40, modality := 'text')").fetchall()
    agrees(text, distances, ~is_picture, 40)
    radius = float(np.sort(distances)[99])
    within = con.execute(f"FROM xmr.within_s({q.tolist()}, {radius!r})").fetchall()
    assert abs(len(within) - 100) <= 1  # the one at the rim may fall either way
    own = oracle(vectors[6], vectors, metric)
    like = con.execute(f"FROM xmr.like_s({item_ids[6]}, 9)").fetchall()
    agrees(like, own, is_picture != is_picture[6], 9)
    batch = con.execute(f"FROM xmr.batch_s(9, items := [{item_ids[6]}, {item_ids[7]}])").fetchall()
    assert [row[1:] for row in batch if row[0] == item_ids[6]] == [row[::2] for row in like]
    np.testing.assert_array_equal(con.execute(f"SELECT xmr.stored_s({item_ids[6]})").fetchall()[0][0], vectors[6])


@pytest.mark.parametrize("metric", METRICS)
def test_pq_turns_the_query_as_it_turned_the_vectors(con: Connection, rng: np.random.Generator, metric: Metric) -> None:
    codes, books = quantized(rng)
    rotation = np.linalg.qr(rng.standard_normal((30, 30)))[0][:24].astype(np.float32)  # and from 30 dimensions to 24
    publish(con, "s", codes, pq_form(codes.layout, metric, books, rotation))
    q = rng.standard_normal(30).astype(np.float32)
    vectors = decoded(codes, books) @ rotation
    distances = oracle(q, vectors, metric)
    if metric == "l2":  # the part of the query that the rotation drops is the same for all
        distances = oracle(rotation @ q, decoded(codes, books), metric)
    agrees(con.execute("FROM xmr.topk_s($1, 40)", [q.tolist()]).fetchall(), distances, np.ones(N, bool), 40)
    np.testing.assert_allclose(con.execute("SELECT xmr.stored_s(9)").fetchall()[0][0], vectors[3], atol=1e-5)


def test_pq_agrees_with_faiss(con: Connection, rng: np.random.Generator) -> None:
    faiss = pytest.importorskip("faiss")
    codes, books = quantized(rng, m=4, bits=8, dsub=4)
    publish(con, "s", codes, pq_form(codes.layout, "l2", books))
    index = faiss.IndexPQ(16, 4, 8)
    faiss.copy_array_to_vector(books.ravel(), index.pq.centroids)
    faiss.copy_array_to_vector(codes.values.ravel(), index.codes)
    index.is_trained, index.ntotal = True, N
    q = rng.standard_normal((1, 16)).astype(np.float32)
    squares, places = index.search(q, 25)
    found = con.execute("FROM xmr.topk_s($1, 25)", [q[0].tolist()]).fetchall()
    assert [row[0] for row in found] == item_ids[places[0]].tolist()
    np.testing.assert_allclose([row[2] for row in found], np.sqrt(squares[0]), rtol=1e-4)


def test_codebooks_that_do_not_fit_are_refused(rng: np.random.Generator) -> None:
    codes, books = quantized(rng)
    with pytest.raises(DataError, match=r"codebooks: expected \(4, symbols, dimensions\)"):
        pq_form(codes.layout, "l2", books[:3])
    with pytest.raises(DataError, match="rotation: expected 24 rows"):
        pq_form(codes.layout, "l2", books, np.eye(20, dtype=np.float32))


# what a caller gives


SPACES: dict[str, Callable[[np.random.Generator], tuple[Codes, SqlForm]]] = {
    "bits": lambda rng: (binary(rng, 128), bit_form(128)),
    "float": lambda rng: (Codes.of_vectors(item_ids, vectors_of(rng, 2)), vector_form(2, "l2")),
    "pq": lambda rng: (lambda made: (made[0], pq_form(made[0].layout, "l2", made[1])))(quantized(rng, m=2, dsub=1)),
}


@pytest.fixture(params=SPACES)
def space(request: pytest.FixtureRequest, con: Connection, rng: np.random.Generator) -> str:
    """A published space of each kind, called s; its queries are lists of two numbers."""
    publish(con, "s", *SPACES[request.param](rng))
    return str(request.param)


def test_a_query_of_the_wrong_length_is_refused(con: Connection, space: str) -> None:
    for query in ("[1, 2, 3]", "[1]", "[]::BIGINT[]"):
        with pytest.raises(duckdb.Error, match="length"):
            con.execute(f"FROM xmr.topk_s({query}, 3)")


def test_nothing_asked_finds_nothing(con: Connection, space: str) -> None:
    for call in ("topk_s(NULL, 3)", "within_s(NULL, 3)", "within_s(xmr.stored_s(6), NULL)", "distances_s(NULL)"):
        assert con.execute(f"FROM xmr.{call}").fetchall() == []
    assert con.execute("FROM xmr.like_s(NULL, 3)").fetchall() == []
    assert con.execute("SELECT xmr.stored_s(NULL)").fetchall() == [(None,)]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("FROM xmr.like_s(1, 3)", "xmr.like_s: no code of item 1$"),
        ("FROM xmr.like_s(6.5, 3)", "xmr.like_s: item is the id of an item, got 6.5$"),
        ("FROM xmr.like_s('dog.jpg', 3)", "xmr.like_s: item is the id of an item, got dog.jpg$"),
        ("FROM xmr.batch_s(3, items := [6, 1])", "xmr.batch_s: no code of item 1$"),
        ("FROM xmr.topk_s(xmr.stored_s(1), 3)", "xmr.stored_s: no code of item 1$"),
        *(
            (f"FROM xmr.{call.format(', items := [6, NULL]')}", "items holds NULL$")
            for call in ("topk_s([1, 2], 3{})", "within_s([1, 2], 3{})", "distances_s([1, 2]{})", "like_s(6, 3{})")
        ),
        ("FROM xmr.batch_s(3, items := [6, NULL])", "xmr.batch_s: items holds NULL$"),
        *(
            (
                f"FROM xmr.{call.format(f', modality := {given}')}",
                f"modality is 'image', 'text' or NULL .*, got {told}$",
            )
            for call in ("topk_s([1, 2], 3{})", "within_s([1, 2], 3{})", "distances_s([1, 2]{})", "like_s(6, 3{})")
            for given, told in (("'picture'", "picture"), ("'IMAGE'", "IMAGE"))
        ),
        ("FROM xmr.batch_s(3, modality := 'picture')", "xmr.batch_s: modality is 'image', 'text' or NULL .* picture$"),
        *(
            (f"FROM xmr.{call}", "k is a whole number, or NULL for all, got 2.6$")
            for call in ("topk_s([1, 2], 2.6)", "like_s(6, 2.6)", "batch_s(2.6)", "each_s('asked', 2.6)")
        ),
        *((f"FROM xmr.{call}([1, NULL], 3)", "NULL") for call in ("topk_s", "within_s")),
        *((f"FROM xmr.{call}(['infinity'::DOUBLE, 1], 3)", "infinity|range") for call in ("topk_s", "within_s")),
        *((f"FROM xmr.{call}(['nan'::DOUBLE, 1], 3)", "NaN|range") for call in ("topk_s", "within_s")),
        ("FROM xmr.topk_s('a dog', 3)", "xmr.topk_s: a query is a .* of length 2, got no list"),
        ("FROM xmr.each_s('wrong', 3)", "xmr.each_s: a query is a .* of length 2, got 1$"),
    ],
)
def test_a_bad_argument_is_an_error_in_our_words(con: Connection, space: str, call: str, told: str) -> None:
    con.execute("CREATE TABLE asked AS SELECT 1 AS query_id, [1, 2] AS query")
    con.execute("CREATE TABLE wrong AS SELECT 1 AS query_id, [1] AS query")
    with pytest.raises(duckdb.Error, match=told) as caught:
        con.execute(call).fetchall()
    assert "xmr." in str(caught.value)


def test_words_are_whole_and_no_wider_than_the_codes(con: Connection, rng: np.random.Generator) -> None:
    codes = binary(rng, 16)
    publish(con, "s", codes, bit_form(16))
    for query, told in (
        ("[1.7]", "got numbers that are not whole"),
        ("[65536]", "codes have 16 bits, the query has more"),
        ("[-1]", "codes have 16 bits, the query has more"),
        ("[18446744073709551615::UBIGINT]", "xmr.words makes them of UBIGINT"),
        ("'\\xFF'::BLOB", "xmr.words makes them of UBIGINT"),
    ):
        with pytest.raises(duckdb.Error, match=told):
            con.execute(f"FROM xmr.topk_s({query}, 3)")


def test_k_means_the_same_in_every_macro(con: Connection, space: str) -> None:
    con.execute("CREATE TABLE asked AS SELECT 1 AS query_id, xmr.stored_s(6) AS query")
    calls = ("topk_s(xmr.stored_s(6), {})", "like_s(6, {})", "batch_s({}, items := [6])", "each_s('asked', {})")
    for call in calls:
        every = con.execute(f"SELECT count(*) FROM xmr.{call.format('NULL')}").fetchall()
        assert every == [(N if "topk" in call or "each" in call else N // 2,)]
        assert con.execute(f"SELECT count(*) FROM xmr.{call.format(2_000_000)}").fetchall() == every
        assert con.execute(f"FROM xmr.{call.format(0)}").fetchall() == []
        assert len(con.execute(f"FROM xmr.{call.format(7)}").fetchall()) == 7


def test_no_k_gives_all_so_that_a_filter_costs_no_hits(con: Connection, space: str) -> None:
    con.execute("CREATE TABLE mine AS SELECT item_id FROM xmr.code_s WHERE item_id % 5 = 0")
    every = con.execute("FROM xmr.like_s(6, 1000)").fetchall()
    assert con.execute("FROM xmr.like_s(6, NULL)").fetchall() == every
    assert len(con.execute("FROM xmr.topk_s(xmr.stored_s(6), NULL)").fetchall()) == N
    filtered = "SELECT n.* FROM xmr.like_s(6, NULL) AS n SEMI JOIN mine USING (item_id) ORDER BY distance, item_id"
    assert con.execute(f"{filtered} LIMIT 8").fetchall() == [row for row in every if row[0] % 5 == 0][:8]


def test_columns_may_have_the_names_of_ours(con: Connection, space: str) -> None:
    """An argument means what it means outside, whatever columns and aliases there are inside."""
    con.execute("""
        CREATE TABLE c AS
        SELECT item_id, item_id AS item, xmr.stored_s(item_id) AS q, modality, 1e9 AS r, 2 AS k
        FROM xmr.code_s WHERE item_id IN (6, 9, 15)
    """)
    lateral = "SELECT c.item_id, n.item_id FROM c, xmr.{} AS n ORDER BY c.item_id, n.distance, n.item_id"

    def one_by_one(call: str) -> list[tuple[int, int]]:
        items = (6, 9, 15)
        return [(i, row[0]) for i in items for row in con.execute(f"FROM xmr.{call.format(i)}").fetchall()]

    assert con.execute(lateral.format("like_s(item_id, 2)")).fetchall() == one_by_one("like_s({}, 2)")
    assert con.execute(lateral.format("like_s(item, 2)")).fetchall() == one_by_one("like_s({}, 2)")
    assert con.execute(lateral.format("topk_s(q, 2)")).fetchall() == one_by_one("topk_s(xmr.stored_s({}), 2)")
    same_kind = one_by_one("like_s({0}, 2, modality := (SELECT modality FROM xmr.code_s WHERE item_id = {0}))")
    assert con.execute(lateral.format("like_s(item_id, 2, modality := modality)")).fetchall() == same_kind
    all_of_kind = con.execute(lateral.format("within_s(q, r, modality := modality)")).fetchall()
    assert len(all_of_kind) == 3 * N // 2
    assert len(con.execute("SELECT DISTINCT xmr.stored_s(item_id) FROM c").fetchall()) == 3


def test_an_argument_is_evaluated_once(con: Connection, space: str) -> None:
    calls: list[str] = []

    def encode(text: str) -> str:
        calls.append(text)
        return "[1, 2]"

    con.create_function("my_encoder", encode, ["VARCHAR"], "VARCHAR", side_effects=True)  # type: ignore[arg-type]
    assert len(con.execute("FROM xmr.topk_s(my_encoder('a dog'), 5)").fetchall()) == 5
    assert calls == ["a dog"]


def test_arguments_may_be_bound_and_statements_prepared(con: Connection, space: str) -> None:
    expected = con.execute("FROM xmr.topk_s(xmr.stored_s(6), 2, modality := 'text')").fetchall()
    assert con.execute("FROM xmr.topk_s(xmr.stored_s($1), $2, modality := $3)", [6, 2, "text"]).fetchall() == expected
    con.execute("PREPARE find AS FROM xmr.topk_s(xmr.stored_s($1), $2, modality := $3)")
    assert con.execute("EXECUTE find(6, 2, 'text')").fetchall() == expected


@pytest.mark.parametrize(
    "name",
    ["", "Dogs", "a b", 'a"b', "a;DROP TABLE x", "ä", "1a", "a" * 41, "dogs_v2", "a.b", "a--", "a\n", "a'b", "x_v10"],
)
def test_hostile_names_are_refused(name: str) -> None:
    layout = Layout.bits(64)
    with pytest.raises(DataError, match="space"):
        macros.space_statements(name, 1, layout, bit_form(64))
    with pytest.raises(DataError, match="space"):
        macros.drop_statements(name)
    with pytest.raises(DataError, match="space"):
        tables_of(name, 1)
    with pytest.raises(DataError, match="space"):
        list(side_tables(name, 1, SPACES["pq"](np.random.default_rng(0))[1]))


@pytest.mark.parametrize("name", ["select", "_", "a" * 40, "v2", "dogs_v2x", "order", "code_s"])
def test_odd_names_are_taken(con: Connection, rng: np.random.Generator, name: str) -> None:
    publish(con, name, binary(rng, 32), bit_form(32))
    assert len(con.execute(f"FROM xmr.like_{name}(6, 3)").fetchall()) == 3


# versions


def objects(con: Connection) -> set[str]:
    views = "SELECT view_name FROM duckdb_views() WHERE schema_name = 'xmr'"
    functions = "SELECT function_name FROM duckdb_functions() WHERE schema_name = 'xmr'"
    return {row[0] for row in con.execute(f"{views} UNION ALL {functions}").fetchall()}


def test_a_version_takes_the_place_of_another_at_once(con: Connection, rng: np.random.Generator) -> None:
    publish(con, "s", binary(rng, 64), bit_form(64))
    codes, books = quantized(rng)
    put(con, "s", codes, pq_form(codes.layout, "l2", books), version=2)
    reader = con.cursor().execute("BEGIN")
    before = reader.execute("FROM xmr.like_s(6, 3)").fetchall()
    con.execute("BEGIN")
    for statement in macros.space_statements("s", 2, codes.layout, pq_form(codes.layout, "l2", books)):
        con.execute(statement)
    assert reader.execute("FROM xmr.like_s(6, 3)").fetchall() == before
    con.execute("COMMIT")
    assert reader.execute("FROM xmr.like_s(6, 3)").fetchall() == before
    reader.execute("COMMIT")
    after = reader.execute("FROM xmr.like_s(6, 3)").fetchall()
    assert after != before
    assert after == con.execute("FROM xmr.like_s(6, 3)").fetchall()


def test_dropping_leaves_nothing_behind(con: Connection, rng: np.random.Generator) -> None:
    before = objects(con)
    codes, books = quantized(rng)
    publish(con, "s", codes, pq_form(codes.layout, "l2", books))
    publish(con, "t", binary(rng, 64), bit_form(64))
    for name in ("s", "t"):
        for statement in macros.drop_statements(name, ("codebook",)):
            con.execute(statement)
        for table in (table_name(name, 1), *tables_of(name, 1)):
            con.execute(f"DROP TABLE IF EXISTS xmr.{table}")
    assert objects(con) == before == {"hamming", "words", "fused", "help"}
    assert con.execute("SELECT count(*) FROM duckdb_tables()").fetchall() == [(0,)]


def test_a_version_of_another_layout_leaves_no_macro_of_the_last(con: Connection, rng: np.random.Generator) -> None:
    publish(con, "s", binary(rng, 64), bit_form(64))
    lattice = Codes(item_ids, rng.integers(0, 256, (N, 3), dtype=np.uint8), Layout.number(24, 20, name="lattice"))
    publish(con, "s", lattice, None, version=2)
    assert objects(con) == {"hamming", "words", "fused", "help", "code_s", "about_s", "counts_s", "collisions_s"}
    assert con.execute("SELECT sum(items) FROM xmr.counts_s()").fetchall() == [(N,)]


# diagnostics


def test_balance_of_bits(con: Connection, rng: np.random.Generator) -> None:
    codes = binary(rng, 128)
    publish(con, "s", codes, bit_form(codes.layout.dim))
    for chosen, call in ((np.ones(N, bool), "xmr.balance_s()"), (is_picture, "xmr.balance_s(modality := 'image')")):
        ones = unpack_bits(codes.values[chosen]).mean(axis=0)
        inner = np.clip(ones, 1e-300, 1 - 1e-16)
        entropy = np.where((ones > 0) & (ones < 1), -inner * np.log2(inner) - (1 - inner) * np.log2(1 - inner), 0)
        rows = con.execute(f"FROM {call}").fetchnumpy()
        assert rows["bit"].tolist() == list(range(128))
        np.testing.assert_allclose(rows["ones"], ones)
        np.testing.assert_allclose(rows["entropy"], entropy, atol=1e-12)


def test_balance_of_symbols(con: Connection) -> None:
    symbols = np.array([[0, 1], [0, 2], [0, 3], [0, 0]], np.uint8)
    codes = Codes(item_ids[:4], symbols, Layout.symbols(2, 2, name="pq"))
    publish(con, "s", codes, pq_form(codes.layout, "l2", np.zeros((2, 4, 1), np.float32)))
    assert con.execute("FROM xmr.balance_s()").fetchall() == [(0, 1, 1.0, 0.0), (1, 4, 0.25, 2.0)]


def test_collisions_and_counts(con: Connection) -> None:
    values = np.array([[1], [2], [1], [2], [1], [3]], np.uint8).repeat(8, axis=1)
    publish(
        con, "s", Codes(item_ids[:6], values, Layout.bits(64)), bit_form(64)
    )  # ids 0 3 6 9 12 15, every other a text
    assert con.execute("FROM xmr.collisions_s()").fetchall() == [(3, [0, 6, 12]), (2, [3, 9])]
    assert con.execute("FROM xmr.collisions_s(modality := 'text')").fetchall() == [(2, [3, 9])]
    assert con.execute("FROM xmr.counts_s()").fetchall() == [("image", 3, 1), ("text", 3, 2)]


# a bare client

BARE = """
import sys, duckdb
con = duckdb.connect(sys.argv[1], read_only=True)
print(con.execute("SELECT xmr.hamming([1, -1], [0, 0]), xmr.hamming(7, 0)").fetchall())
for space in ("bits", "float", "pq"):
    for call in ("topk_{0}(xmr.stored_{0}(6), 3)", "within_{0}(xmr.stored_{0}(6), 1e6, modality := 'text')",
                 "like_{0}(6, 3)", "batch_{0}(1, items := [6, 9])", "counts_{0}()", "collisions_{0}()"):
        print(con.execute("FROM xmr." + call.format(space)).fetchall())
print(con.execute("FROM xmr.balance_bits()").fetchall(), con.execute("FROM xmr.balance_pq()").fetchall())
print([name for name in sys.modules if name.split(".")[0] in ("xmr_core", "xmr_storage", "numpy", "torch", "faiss")])
"""


def test_a_bare_client_in_a_new_process_has_them_all(tmp_path: Path, rng: np.random.Generator) -> None:
    """The file is one of a user's, of the storage version that DuckDB gives by itself."""
    path = tmp_path / "mine.duckdb"
    with duckdb.connect(path) as con:
        con.execute("CREATE TABLE mine AS SELECT 1 AS one")
        prepare(con)
        for name, make in SPACES.items():
            publish(con, name, *make(rng))
    run = subprocess.run([sys.executable, "-I", "-c", BARE, str(path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) == 1 + 3 * 6 + 2
    assert lines[0] == "[(65, 3)]"
    assert lines[-1] == "[]"
