"""Stored codes in SQL: the views and macros of a space. They persist in the file, so they use DuckDB's built-ins alone:
any DuckDB client, in any process, can query the codes with no Python and no extension.

What they rest on, seen in DuckDB 1.4, 1.5 and 2.0 and held by tests/storage/test_macros.py:

- Typed macro parameters want storage version 1.4, and a user's file is of version 1.0 as a rule. Defaults do not.
- A parameter replaces every unqualified name like it in the body. So columns are qualified, always.
- An argument is pasted where its parameter stands, and its names are then looked up there: `like_x(item_id, 5)` in a
  lateral join would mean the item_id of our own table, and find everything. So a parameter stands once, in a SELECT
  without FROM, under an alias that no column of a user's has; that a costly one (an encoder) is evaluated once is the
  other gain. It costs 0 to 7 percent. That SELECT comes first where it stands in FROM: a derived table sees the tables
  before it. As a CTE it makes DuckDB 2.0 fail in lateral joins; and `count(DISTINCT row(vector))` makes it crash.
- `LIMIT k` takes a parameter, but no column of a lateral join.
- `bit_count` gives TINYINT, which two opposite words of 64 bits overflow; and DuckDB 1 counts bit by bit (24 ns a
  word, DuckDB 2 takes 0.3). Counting by sums saves a quarter there and takes thrice as long in DuckDB 2.
- `min(struct, k) ... GROUP BY query` breaks ties by the struct's next field. A lateral top-k takes 5 times as long in
  DuckDB 1, and hundreds of times in 2.
- The symbols of PQ as SMALLINT: UTINYINT is no quicker, and PostgreSQL has none. Looking distances up in lists takes
  1.15 times as long as eight joins, but half as long as 32, and does not depend on the order an optimizer gives them.
- `array_cosine_distance` of a zero vector is 2 in DuckDB 1 and NaN in 2; here it is 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xmr_core.components import SqlDistance
from xmr_core.errors import DataError
from xmr_core.types import IMAGE, TEXT, Layout, Metric
from xmr_storage.quoting import identifier

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "code_columns",
    "drop_statements",
    "lengths_query",
    "shared_statements",
    "space_statements",
    "space_tables",
    "tables_of",
]

LONGEST = 40  # characters of a space's name: with what is set before and after, within PostgreSQL's 63
SAME_KIND = "(p.modality_ IS NULL OR c.modality = p.modality_)"
WANTED = f"coalesce(p.modality_, CASE h.modality WHEN '{IMAGE}' THEN '{TEXT}' ELSE '{IMAGE}' END) AS wanted"
BESIDE = {"pq": ("codebook", "rotation"), "lattice": ("step", "entry")}  # tables beside the codes
STEP = ("piece", "rest", "share", "below", "after", "first", "length")
MOST_PIECES = 16  # of a lattice point that joins put together; more would be no sane query
DECIMALS = 12  # of a cosine distance in DOUBLE; what remains below is rounding, and would part equal vectors


def code_columns(layout: Layout) -> list[tuple[str, str]]:
    """The columns of a code table after item_id and modality: names and SQL types."""
    if layout.kind == "float":
        return [("vector", f"FLOAT[{layout.dim}]")]
    if layout.kind == "pq":
        symbol = "SMALLINT" if layout.symbol_bits < 15 else "INTEGER"  # one more than the largest must fit as well
        return [(f"c{j}", symbol) for j in range(layout.dim)]
    return [(f"w{j}", "BIGINT") for j in range(-(-layout.nbytes // 8))]


def tables_of(space: str, version: int) -> list[str]:
    """The tables that a version of a space may have, without their schema."""
    return [f"{kind}_{_checked(space)}_v{version:d}" for kind in ("code", *BESIDE["pq"], *BESIDE["lattice"])]


def space_tables(space: str, version: int, layout: Layout, sql: SqlDistance) -> list[tuple[str, pa.Table | None]]:
    """Statements that make and fill the tables a version needs beside its codes, and the rows that each is given.

    The rows are to be visible as `_given_rows`. Raises DataError on codebooks that do not fit the layout.
    """
    _checked(space)
    if layout.kind == "lattice" and sql.tables:
        return _lattice_tables(space, version, sql)
    if layout.kind != "pq":
        return []
    import pyarrow as pa

    codebook, rotation = (f"{kind}_{space}_v{version:d}" for kind in BESIDE["pq"])
    books = np.asarray(sql.tables.get("codebooks", np.zeros((0, 0, 0))), np.float32)  # (m, ksub, dsub)
    turn = np.asarray(sql.tables.get("rotation", np.zeros((0, 0))), np.float32)  # (m * dsub, d)
    if sql.kind == "pq" and (books.ndim != 3 or len(books) != layout.dim):
        raise DataError(f"codebooks: expected ({layout.dim}, symbols, dimensions) for {layout}, got {books.shape}")
    if turn.size and turn.shape[0] != books.shape[0] * books.shape[2]:
        raise DataError(f"rotation: expected {books.shape[0] * books.shape[2]} rows, got {turn.shape}")
    parts, symbols = np.indices(books.shape[:2]).reshape(2, -1)
    centroids = pa.array(list(books.reshape(parts.size, books.shape[2])), pa.list_(pa.float32()))
    axes = pa.array(list(turn), pa.list_(pa.float32()))
    return [
        (
            f"""
            CREATE TABLE xmr.{codebook} AS
            SELECT part::SMALLINT AS part, symbol::INTEGER AS symbol, centroid::FLOAT[] AS centroid
            FROM _given_rows
            ORDER BY part, symbol
            """,
            pa.table({"part": parts, "symbol": symbols, "centroid": centroids}),
        ),
        (
            f"""
            CREATE TABLE xmr.{rotation} AS
            SELECT dimension::INTEGER AS dimension, axis::FLOAT[] AS axis
            FROM _given_rows
            ORDER BY dimension
            """,
            pa.table({"dimension": np.arange(len(turn)), "axis": axes}),
        ),
    ]


def _lattice_tables(space: str, version: int, sql: SqlDistance) -> list[tuple[str, pa.Table | None]]:
    import pyarrow as pa

    lengths = sql.tables["lengths"]
    if len(lengths) > MOST_PIECES:
        return []
    steps = np.asarray(sql.tables["steps"], np.uint64)  # (k, 6)
    columns = [*steps.T, lengths[steps[:, 0].astype(np.int64)]]
    entries = sql.tables["entries"]  # (e, 2 + longest)
    numbers = pa.array(list(entries[:, 2:]), pa.list_(pa.int64()))
    step, entry = (f"{kind}_{space}_v{version:d}" for kind in BESIDE["lattice"])
    return [
        (
            f"""
            CREATE TABLE xmr.{step} AS
            SELECT
                piece::INTEGER AS piece, rest::INTEGER AS rest, share::INTEGER AS share,
                below::UBIGINT AS below, after::UBIGINT AS after, first::UBIGINT AS first, length::INTEGER AS length
            FROM _given_rows
            ORDER BY piece, rest, below
            """,
            pa.table(dict(zip(STEP, columns, strict=True))),
        ),
        (
            f"""
            CREATE TABLE xmr.{entry} AS
            SELECT length::INTEGER AS length, entry::UBIGINT AS entry, numbers::TINYINT[] AS numbers
            FROM _given_rows
            ORDER BY length, entry
            """,
            pa.table({"length": entries[:, 0], "entry": entries[:, 1], "numbers": numbers}),
        ),
    ]


def shared_statements() -> list[str]:
    """The macros that belong to no space.

    `xmr.hamming(a, b)` takes two words or two lists of words. The type decides, while the statement is bound, and the
    branch that does not apply is gone before a row is read; TRY_CAST is there to let it bind.
    """
    return [
        """
        CREATE OR REPLACE MACRO xmr.hamming(a, b) AS
        coalesce(
            CASE
                WHEN typeof(a) LIKE '%]' THEN
                    CASE
                        WHEN len(TRY_CAST(a AS BIGINT[])) = len(TRY_CAST(b AS BIGINT[])) THEN
                            list_sum(
                                list_transform(
                                    list_zip(TRY_CAST(a AS BIGINT[]), TRY_CAST(b AS BIGINT[])),
                                    lambda pair: bit_count(xor(pair[1], pair[2]))
                                )
                            )::INTEGER
                    END
                ELSE bit_count(xor(TRY_CAST(a AS BIGINT), TRY_CAST(b AS BIGINT)))::INTEGER
            END,
            CASE
                WHEN a IS NOT NULL AND b IS NOT NULL THEN
                    error('xmr.hamming: expected two BIGINT words, or two lists of as many BIGINT words')
            END
        )
        """
    ]


def drop_statements(space: str) -> list[str]:
    """Statements that take the views and macros of a space away, whatever its layout was."""
    _checked(space)
    tables = [
        f"DROP MACRO TABLE IF EXISTS xmr.{macro}_{space}"
        for macro in ("topk", "within", "like", "batch", "balance", "collisions", "counts")
    ]
    views = [f"DROP VIEW IF EXISTS xmr.{view}_{space}" for view in ("point", "code", *BESIDE["pq"], *BESIDE["lattice"])]
    return [*tables, f"DROP MACRO IF EXISTS xmr.stored_{space}", *views]


def space_statements(
    space: str, version: int, layout: Layout, metric: Metric, lengths: Sequence[int] = ()
) -> list[str]:
    """Statements that publish a version: the views and macros of a space, in place of those of another version.

    To be run in one transaction; a reader sees the whole of one version or of the other. `lengths` are those of the
    pieces of a lattice's points, from `lengths_query`; without them its codes cannot be read in SQL.
    """
    beside = BESIDE.get(layout.kind, ()) if layout.kind != "lattice" or lengths else ()
    kinds = ("code", *beside)
    views = [f"CREATE VIEW xmr.{kind}_{_checked(space)} AS FROM xmr.{kind}_{space}_v{version:d}" for kind in kinds]
    if layout.kind == "lattice" and lengths:
        views.append(_points(space, layout, lengths))
    return [*drop_statements(space), *views, *_macros(space, layout, metric, bool(views[1:]))]


def lengths_query(space: str, version: int) -> tuple[str, str]:
    """A table, and the query for the lengths of the pieces of a lattice's points where that table exists."""
    table = f"{BESIDE['lattice'][0]}_{_checked(space)}_v{version:d}"
    return table, f"SELECT DISTINCT piece, length FROM xmr.{table} ORDER BY piece"


def _points(space: str, layout: Layout, lengths: Sequence[int]) -> str:
    """The view of lattice points: the number of each is taken apart piece by piece, see `SphereLattice.tables`."""
    step, entry = (f"xmr.{kind}_{space}" for kind in BESIDE["lattice"])
    parts = [
        f"""
        rest_0 AS (
            SELECT
                h.item_id, h.modality, (h.w0::HUGEINT + CASE WHEN h.w0 < 0 THEN {2**64} ELSE 0 END)::UBIGINT AS code,
                (SELECT max(s.rest) FROM {step} AS s) AS rest, []::TINYINT[] AS point
            FROM xmr.code_{space} AS h
        )"""
    ]
    for piece, length in enumerate(lengths):
        parts.append(f"""
        rest_{piece + 1} AS (
            SELECT
                c.item_id, c.modality, (c.code - s.below) % s.after AS code, c.rest - s.share AS rest,
                c.point || e.numbers[:{length}] AS point
            FROM rest_{piece} AS c
            ASOF JOIN (SELECT * FROM {step} WHERE piece = {piece}) AS s ON c.rest = s.rest AND c.code >= s.below
            JOIN {entry} AS e ON e.length = {length} AND e.entry = s.first + (c.code - s.below) // s.after
        )""")
    return f"""
        CREATE VIEW xmr.point_{space} AS
        WITH {_listed(parts)}
        SELECT c.item_id, c.modality, c.point::FLOAT[{layout.dim}] AS vector
        FROM rest_{len(lengths)} AS c
        """


def _checked(space: str) -> str:
    """The name, if views and macros may be named by it: no view of one space is then a table of another."""
    if len(identifier(space, "space")) > LONGEST or re.search(r"_v\d+$", space):
        raise DataError(f"space {space!r}: at most {LONGEST} characters, not ending in _v and a number")
    return space


@dataclass(frozen=True)
class _Form:
    """How codes of one layout are compared with a query.

    The CTE `asked` holds queries in the form that `distance` wants, which is an expression over `asked AS a` and
    `xmr.code_<space> AS c`. `given` and `chosen` are the CTEs that end in it. `given` makes one row of the macro's
    parameter q, none where that is NULL. `chosen` makes a row of each stored item in the CTE `chosen`, with its item_id
    and the modality `wanted` of the answers. `value` is a query for what q takes for the item of the parameter `item`.
    `codes` begins the name of the view that holds what is compared.
    """

    given: str
    chosen: str
    distance: str
    value: str
    radius: str = "p.r_"  # of the distance's type
    codes: str = "code"


def _macros(space: str, layout: Layout, metric: Metric, readable: bool) -> Iterator[str]:
    columns = [name for name, _ in code_columns(layout)]
    yield from _diagnostics(space, layout, columns)
    if layout.kind == "lattice" and not readable:
        return
    form = {"bits": _bits, "pq": _pq, "float": _float, "lattice": _lattice}[layout.kind](space, layout, metric)
    code = f"xmr.{form.codes}_{space}"
    yield f"""
        CREATE MACRO xmr.stored_{space}(item) AS (
            {form.value}
        )
        """
    yield f"""
        CREATE MACRO xmr.topk_{space}(q, k, modality := NULL) AS TABLE
        WITH {form.given}
        SELECT c.item_id, c.modality, {form.distance} AS distance
        FROM (SELECT modality::VARCHAR AS modality_) AS p, asked AS a, {code} AS c
        WHERE {SAME_KIND}
        ORDER BY distance, c.item_id
        LIMIT k
        """
    yield f"""
        CREATE MACRO xmr.within_{space}(q, r, modality := NULL) AS TABLE
        WITH {form.given}
        SELECT c.item_id, c.modality, {form.distance} AS distance
        FROM (SELECT r AS r_, modality::VARCHAR AS modality_) AS p, asked AS a, {code} AS c
        WHERE {SAME_KIND}
        AND {form.distance} <= {form.radius}
        ORDER BY distance, c.item_id
        """
    yield f"""
        CREATE MACRO xmr.like_{space}(item, k, modality := NULL) AS TABLE
        WITH chosen AS (
            SELECT h.*, {WANTED}
            FROM (SELECT item::BIGINT AS item_, modality::VARCHAR AS modality_) AS p
            JOIN {code} AS h ON h.item_id = p.item_
        ),
        {form.chosen}
        SELECT c.item_id, c.modality, {form.distance} AS distance
        FROM asked AS a, {code} AS c
        WHERE c.modality = a.wanted
        AND c.item_id <> a.item_id
        ORDER BY distance, c.item_id
        LIMIT k
        """
    yield f"""
        CREATE MACRO xmr.batch_{space}(k, modality := NULL, items := NULL) AS TABLE
        WITH parameters AS NOT MATERIALIZED (SELECT modality::VARCHAR AS modality_, items::BIGINT[] AS items_),
        chosen AS (
            SELECT h.*, {WANTED}
            FROM parameters AS p, {code} AS h
            WHERE p.items_ IS NULL OR h.item_id IN (SELECT unnest(l.items_) FROM parameters AS l)
        ),
        {form.chosen},
        found AS (
            SELECT a.item_id AS query, unnest(min({{'distance': {form.distance}, 'item_id': c.item_id}}, k)) AS hit
            FROM asked AS a, {code} AS c
            WHERE c.modality = a.wanted
            AND c.item_id <> a.item_id
            GROUP BY a.item_id
        )
        SELECT f.query, f.hit.item_id AS item_id, f.hit.distance AS distance
        FROM found AS f
        ORDER BY f.query, distance, f.hit.item_id
        """


def _bits(space: str, layout: Layout, metric: Metric) -> _Form:
    """Words, exclusive or, and counted bits; exact."""
    words = range(len(code_columns(layout)))
    return _Form(
        given=f"""
        asked AS MATERIALIZED (
            SELECT {_listed(f"g.q_[{j + 1}] AS w{j}" for j in words)}
            FROM {_given("BIGINT", len(words), f"space {space}: a query is a list of BIGINT words")} AS g
        )
        """,
        chosen="asked AS MATERIALIZED (SELECT * FROM chosen)",
        distance=" + ".join(f"bit_count(xor(c.w{j}, a.w{j}))::INTEGER" for j in words),
        value=f"SELECT [{_listed(f'h.w{j}' for j in words)}] FROM {_one(space)}",
    )


def _float(space: str, layout: Layout, metric: Metric) -> _Form:
    """Vectors; sums in DOUBLE, the distance rounded to FLOAT, as in Python."""
    x = f"c.vector::DOUBLE[{layout.dim}]"
    distances = {"l2": f"array_distance({x}, a.vector)", "ip": f"array_negative_inner_product({x}, a.vector)"}
    return _vectors(space, layout, distances.get(metric, _cosine_of(x)))


def _lattice(space: str, layout: Layout, metric: Metric) -> _Form:
    """Points, decoded on the way; a query is not rounded, and no length counts."""
    cosine = _cosine_of(f"c.vector::DOUBLE[{layout.dim}]")
    return _vectors(space, layout, cosine if metric == "cosine" else f"sqrt(2 * {cosine})", codes="point")


def _cosine_of(x: str) -> str:
    return _cosine(f"array_inner_product({x}, a.vector)", f"array_inner_product({x}, {x}) * a.square")


def _vectors(space: str, layout: Layout, distance: str, codes: str = "code") -> _Form:
    """Vectors of the view `codes`, and an expression over the query's and theirs."""
    d = layout.dim
    square = "array_inner_product(v.vector, v.vector) AS square"
    return _Form(
        given=f"""
        asked AS MATERIALIZED (
            SELECT v.vector, {square}
            FROM (
                SELECT g.q_::DOUBLE[{d}] AS vector
                FROM {_given("FLOAT", d, f"space {space}: a query is a vector")} AS g
            ) AS v
        )
        """,
        chosen=f"""
        asked AS MATERIALIZED (
            SELECT v.item_id, v.wanted, v.vector, {square}
            FROM (SELECT h.item_id, h.wanted, h.vector::DOUBLE[{d}] AS vector FROM chosen AS h) AS v
        )
        """,
        distance=f"({distance})::FLOAT",
        value=f"SELECT h.vector::FLOAT[] FROM {_one(space, codes)}",
        radius="p.r_::FLOAT",
        codes=codes,
    )


def _pq(space: str, layout: Layout, metric: Metric) -> _Form:
    """Asymmetric distance: for each part a list t of what every symbol adds, made once a query. A stored item asks as
    its reconstruction does."""
    codebook, rotation = f"xmr.codebook_{space}", f"xmr.rotation_{space}"
    parts = range(layout.dim)
    added = "list_distance({0}, {1}) ** 2" if metric == "l2" else "list_inner_product({0}, {1})"
    tables = [f"list(e.added ORDER BY e.symbol) FILTER (WHERE e.part = {j}) AS t{j}" for j in parts]
    total = " + ".join(f"a.t{j}[c.c{j} + 1]" for j in parts)
    distance = {"l2": f"sqrt({total})", "ip": f"-({total})"}.get(metric)
    if distance is None:
        tables += [f"list(e.square ORDER BY e.symbol) FILTER (WHERE e.part = {j}) AS s{j}" for j in parts]
        squares = " + ".join(f"a.s{j}[c.c{j} + 1]" for j in parts)
        distance = _cosine(total, f"({squares}) * a.square")
    piece = "v.vector[b.part * len(b.centroid) + 1 : (b.part + 1) * len(b.centroid)]"
    centroid = "b.centroid::DOUBLE[]"
    square = f"list_inner_product({centroid}, {centroid}) AS square"
    return _Form(
        given=f"""
        given AS MATERIALIZED (SELECT l.q_ FROM (SELECT q::FLOAT[]::DOUBLE[] AS q_) AS l WHERE l.q_ IS NOT NULL),
        turned AS (
            SELECT list(list_inner_product(t.axis::DOUBLE[], g.q_) ORDER BY t.dimension) AS vector
            FROM {rotation} AS t, given AS g
        ),
        width AS (SELECT sum(len(b.centroid)) AS width FROM {codebook} AS b WHERE b.symbol = 0),
        vectors AS MATERIALIZED (
            SELECT
                {_of_length("coalesce(t.vector, g.q_)", "w.width", f"space {space}: a query is a vector")} AS vector,
                list_inner_product(g.q_, g.q_) AS whole
            FROM given AS g, turned AS t, width AS w
        ),
        entries AS (
            SELECT b.part, b.symbol, {added.format(piece, centroid)} AS added, {square}, v.whole
            FROM {codebook} AS b, vectors AS v
        ),
        asked AS MATERIALIZED (
            SELECT {_listed(tables)}, any_value(e.whole) AS square
            FROM entries AS e
            HAVING count(*) > 0
        )
        """,
        chosen=f"""
        symbols AS (
            SELECT
                h.item_id, h.wanted,
                unnest(range({layout.dim})) AS part, unnest([{_listed(f"h.c{j}" for j in parts)}]) AS symbol
            FROM chosen AS h
        ),
        entries AS (
            SELECT
                s.item_id, s.wanted, s.symbol AS own, b.part, b.symbol,
                {added.format("o.centroid::DOUBLE[]", centroid)} AS added, {square}
            FROM symbols AS s
            JOIN {codebook} AS o ON o.part = s.part AND o.symbol = s.symbol
            JOIN {codebook} AS b ON b.part = s.part
        ),
        asked AS MATERIALIZED (
            SELECT e.item_id, e.wanted, {_listed(tables)}, sum(e.square) FILTER (WHERE e.symbol = e.own) AS square
            FROM entries AS e
            GROUP BY e.item_id, e.wanted
        )
        """,
        distance=f"({distance})::FLOAT",
        value=f"""
            SELECT coalesce({_turned_back("v.vector", rotation)}, v.vector)::FLOAT[]
            FROM (
                SELECT flatten(list(b.centroid ORDER BY b.part)) AS vector
                FROM {_one(space)}
                JOIN {codebook} AS b ON b.symbol = [{_listed(f"h.c{j}" for j in parts)}][b.part + 1]
                HAVING count(*) > 0
            ) AS v
        """,
        radius="p.r_::FLOAT",
    )


def _one(space: str, codes: str = "code") -> str:
    """What follows FROM: the code `h` of the item that a macro's parameter names."""
    return f"(SELECT item::BIGINT AS item_) AS p JOIN xmr.{codes}_{space} AS h ON h.item_id = p.item_"


def _turned_back(vector: str, rotation: str) -> str:
    """A scalar query: the vector before the rotation, whose axes are orthonormal; NULL where there is none."""
    return f"""(
                SELECT list(s.coordinate ORDER BY s.place)
                FROM (
                    SELECT p.place, sum(p.coordinate * {vector}[p.dimension + 1]) AS coordinate
                    FROM (
                        SELECT
                            t.dimension, unnest(t.axis)::DOUBLE AS coordinate,
                            generate_subscripts(t.axis, 1) AS place
                        FROM {rotation} AS t
                    ) AS p
                    GROUP BY p.place
                ) AS s
            )"""


def _cosine(product: str, squares: str) -> str:
    """1 - cosine, 1 where a vector is zero."""
    return f"greatest(round(1 - coalesce(({product}) / nullif(sqrt({squares}), 0), 0), {DECIMALS}), 0)"


def _given(kind: str, length: int, rule: str) -> str:
    """A derived table: the macro's parameter as the list `q_`, no row where it is NULL."""
    return f"""(
                SELECT {_of_length("l.q_", str(length), rule)} AS q_
                FROM (SELECT q::{kind}[] AS q_) AS l
                WHERE l.q_ IS NOT NULL
            )"""


def _of_length(query: str, length: str, rule: str) -> str:
    """An expression: the query, or an error where its length is another."""
    complaint = f"'{rule} of length ' || {length} || ', got ' || len({query})"
    return f"CASE WHEN len({query}) = {length} THEN {query} ELSE error({complaint}) END"


def _diagnostics(space: str, layout: Layout, columns: Sequence[str]) -> Iterator[str]:
    code = _listed(f"c.{column}" for column in columns)
    chosen = f"FROM (SELECT modality::VARCHAR AS modality_) AS p, xmr.code_{space} AS c WHERE {SAME_KIND}"
    yield f"""
        CREATE MACRO xmr.counts_{space}() AS TABLE
        SELECT g.modality, sum(g.items)::BIGINT AS items, count(*) AS codes
        FROM (SELECT c.modality, count(*) AS items FROM xmr.code_{space} AS c GROUP BY c.modality, {code}) AS g
        GROUP BY g.modality
        ORDER BY g.modality
        """
    yield f"""
        CREATE MACRO xmr.collisions_{space}(modality := NULL) AS TABLE
        SELECT count(*) AS items, list(c.item_id ORDER BY c.item_id) AS item_ids
        {chosen}
        GROUP BY {code}
        HAVING count(*) > 1
        ORDER BY items DESC, item_ids
        """
    if layout.kind == "bits":
        ones = _listed(f"avg(c.w{i // 64} >> {i % 64} & 1)" for i in range(layout.dim))
        yield f"""
        CREATE MACRO xmr.balance_{space}(modality := NULL) AS TABLE
        SELECT b.bit, b.ones, -coalesce(b.ones * log2(nullif(b.ones, 0)), 0)
            - coalesce((1 - b.ones) * log2(nullif(1 - b.ones, 0)), 0) AS entropy
        FROM (SELECT unnest(range({layout.dim})) AS bit, unnest([{ones}]) AS ones {chosen}) AS b
        ORDER BY b.bit
        """
    if layout.kind == "pq":
        yield f"""
        CREATE MACRO xmr.balance_{space}(modality := NULL) AS TABLE
        SELECT
            s.part, count(*) AS symbols, max(s.share) AS largest, -sum(s.share * log2(s.share)) AS entropy
        FROM (
            SELECT u.part, u.symbol, count(*) / sum(count(*)) OVER (PARTITION BY u.part) AS share
            FROM (SELECT unnest(range({layout.dim})) AS part, unnest([{code}]) AS symbol {chosen}) AS u
            GROUP BY u.part, u.symbol
        ) AS s
        GROUP BY s.part
        ORDER BY s.part
        """


def _listed(parts: Iterator[str] | Sequence[str]) -> str:
    return ", ".join(parts)
