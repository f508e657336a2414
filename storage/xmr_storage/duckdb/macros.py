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
from collections.abc import Collection, Iterator, Sequence

from xmr_core.errors import DataError
from xmr_core.sql import Balance, Decoded, SqlForm
from xmr_core.types import IMAGE, TEXT, Layout
from xmr_storage.dialect import Writer
from xmr_storage.duckdb.dialect import DuckDBDialect
from xmr_storage.quoting import identifier, literal, quoted

__all__ = ["checked_space", "drop_statements", "shared_statements", "space_statements"]

LONGEST = 40  # characters of a space's name: with what is set before and after, within PostgreSQL's 63
SAME_KIND = "(p.modality_ IS NULL OR c.modality = p.modality_)"
WANTED = f"coalesce(p.modality_, CASE h.modality WHEN '{IMAGE}' THEN '{TEXT}' ELSE '{IMAGE}' END) AS wanted"
DIALECT = DuckDBDialect()


def checked_space(space: str) -> str:
    """The name, if views and macros may be named by it: no view of one space is then a table of another."""
    if len(identifier(space, "space")) > LONGEST or re.search(r"_v\d+$", space):
        raise DataError(f"space {space!r}: at most {LONGEST} characters, not ending in _v and a number")
    return space


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


def drop_statements(space: str, views: Collection[str] = ()) -> list[str]:
    """Statements that take away the macros of a space, the view of its codes, and these `views` beside it."""
    checked_space(space)
    tables = [
        f"DROP MACRO TABLE IF EXISTS xmr.{macro}_{space}"
        for macro in ("topk", "within", "like", "batch", "balance", "collisions", "counts")
    ]
    dropped = [f"DROP VIEW IF EXISTS xmr.{identifier(view)}_{space}" for view in (*views, "code")]
    return [*tables, f"DROP MACRO IF EXISTS xmr.stored_{space}", *dropped]


def space_statements(
    space: str, version: int, layout: Layout, form: SqlForm | None, others: Collection[str] = ()
) -> list[str]:
    """Statements that publish a version: the views and macros of a space, in place of those of another version.

    To be run in one transaction; a reader sees the whole of one version or of the other. `others` are the views beside
    the codes that the other version may have. Without a form, or a distance in it, there is no search.
    """
    tables = ("code", *(form.tables if form else ()))
    views = [
        f"CREATE VIEW xmr.{name}_{checked_space(space)} AS FROM xmr.{name}_{space}_v{version:d}" for name in tables
    ]
    if form is not None and form.decoded is not None:
        views.append(_decoded(space, form.decoded))
    present = {*others, *(form.views if form else ())}
    search = _search(space, form) if form is not None and form.distance is not None else ()
    balance = [_balance(space, form.balance)] if form is not None and form.balance is not None else []
    return [*drop_statements(space, sorted(present)), *views, *_diagnostics(space, layout), *balance, *search]


def _writer(space: str) -> Writer:
    return Writer(DIALECT, lambda name: f"xmr.{identifier(name)}_{space}")


def _decoded(space: str, decoded: Decoded) -> str:
    """The view of what codes stand for."""
    columns = _listed(f"v.{quoted(c.name)}::{DIALECT.column_type(c)} AS {quoted(c.name)}" for c in decoded.columns)
    points = _writer(space).query(f"SELECT h.* FROM xmr.code_{space} AS h", decoded.steps, ("item_id", "modality"))
    return f"""
        CREATE VIEW xmr.{identifier(decoded.name)}_{space} AS
        SELECT v.item_id, v.modality, {columns}
        FROM ({points}) AS v
        """


def _search(space: str, form: SqlForm) -> Iterator[str]:
    """The macros that compare codes `c` with the queries of the CTE `asked`, in the form that the distance wants."""
    assert form.distance is not None  # as the caller has seen to
    writer = _writer(space)
    code = f"xmr.{form.decoded.name if form.decoded else 'code'}_{space}"
    distance = writer.expression(form.distance)
    radius = "p.r_::FLOAT" if form.distance.op == "single" else "p.r_"  # of the distance's type
    given = f"asked AS MATERIALIZED ({writer.query(_given(space, form), (*form.of_query, *form.prepare))})"
    stored = writer.query("SELECT h.* FROM chosen AS h", (*form.of_code, *form.prepare), ("item_id", "wanted"))
    chosen = f"asked AS MATERIALIZED ({stored})"
    yield _stored(space, form, code)
    yield f"""
        CREATE MACRO xmr.topk_{space}(q, k, modality := NULL) AS TABLE
        WITH {given}
        SELECT c.item_id, c.modality, {distance} AS distance
        FROM (SELECT modality::VARCHAR AS modality_) AS p, asked AS a, {code} AS c
        WHERE {SAME_KIND}
        ORDER BY distance, c.item_id
        LIMIT k
        """
    yield f"""
        CREATE MACRO xmr.within_{space}(q, r, modality := NULL) AS TABLE
        WITH {given}
        SELECT c.item_id, c.modality, {distance} AS distance
        FROM (SELECT r AS r_, modality::VARCHAR AS modality_) AS p, asked AS a, {code} AS c
        WHERE {SAME_KIND}
        AND {distance} <= {radius}
        ORDER BY distance, c.item_id
        """
    yield from _by_item(space, code, distance, chosen)


def _by_item(space: str, code: str, distance: str, chosen: str) -> Iterator[str]:
    """The macros whose queries are stored items: `chosen` makes those of the CTE of that name the CTE `asked`."""
    yield f"""
        CREATE MACRO xmr.like_{space}(item, k, modality := NULL) AS TABLE
        WITH chosen AS (
            SELECT h.*, {WANTED}
            FROM (SELECT item::BIGINT AS item_, modality::VARCHAR AS modality_) AS p
            JOIN {code} AS h ON h.item_id = p.item_
        ),
        {chosen}
        SELECT c.item_id, c.modality, {distance} AS distance
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
        {chosen},
        found AS (
            SELECT a.item_id AS query, {DIALECT.nearest("a.item_id", distance, "c.item_id", "k")} AS hit
            FROM asked AS a, {code} AS c
            WHERE c.modality = a.wanted
            AND c.item_id <> a.item_id
            GROUP BY a.item_id
        )
        SELECT f.query, f.hit.item_id AS item_id, f.hit.distance AS distance
        FROM found AS f
        ORDER BY f.query, distance, f.hit.item_id
        """


def _stored(space: str, form: SqlForm, code: str) -> str:
    """The macro that gives the query which asks as a stored item does."""
    one = f"SELECT h.* FROM (SELECT item::BIGINT AS item_) AS p JOIN {code} AS h ON h.item_id = p.item_"
    value = _writer(space).query(one, (*form.of_code, *form.as_query))
    return f"""
        CREATE MACRO xmr.stored_{space}(item) AS (
            SELECT s.value FROM ({value}) AS s
        )
        """


def _given(space: str, form: SqlForm) -> str:
    """A query: the macro's parameter as the list `q`, no row where it is NULL, an error where its length is another."""
    assert form.query is not None  # where there is a distance
    what = {"words": "list of BIGINT words", "vector": "vector"}[form.query.numbers]
    rule = literal(f"space {space}: a query is a {what} of length {form.query.length}, got ")
    error = DIALECT.error(f"{rule} || len(l.q_)")
    return f"""
            SELECT CASE WHEN len(l.q_) = {form.query.length} THEN l.q_ ELSE {error} END AS q
            FROM (SELECT q::{DIALECT.list_of(form.query.numbers)} AS q_) AS l
            WHERE l.q_ IS NOT NULL
            """


def _diagnostics(space: str, layout: Layout) -> Iterator[str]:
    code = _listed(f"c.{quoted(column.name)}" for column in layout.columns)
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
        {_of_modality(space)}
        GROUP BY {code}
        HAVING count(*) > 1
        ORDER BY items DESC, item_ids
        """


def _of_modality(space: str) -> str:
    return f"FROM (SELECT modality::VARCHAR AS modality_) AS p, xmr.code_{space} AS c WHERE {SAME_KIND}"


def _balance(space: str, balance: Balance) -> str:
    columns = [f"c.{quoted(name)}" for name in balance.columns]
    if balance.of == "bits":
        ones = _listed(f"avg({columns[i // 64]} >> {i % 64} & 1)" for i in range(balance.count))
        return f"""
        CREATE MACRO xmr.balance_{space}(modality := NULL) AS TABLE
        SELECT b.bit, b.ones, -coalesce(b.ones * log2(nullif(b.ones, 0)), 0)
            - coalesce((1 - b.ones) * log2(nullif(1 - b.ones, 0)), 0) AS entropy
        FROM (SELECT unnest(range({balance.count})) AS bit, unnest([{ones}]) AS ones {_of_modality(space)}) AS b
        ORDER BY b.bit
        """
    return f"""
        CREATE MACRO xmr.balance_{space}(modality := NULL) AS TABLE
        SELECT
            s.part, count(*) AS symbols, max(s.share) AS largest, -sum(s.share * log2(s.share)) AS entropy
        FROM (
            SELECT u.part, u.symbol, count(*) / sum(count(*)) OVER (PARTITION BY u.part) AS share
            FROM (SELECT {DIALECT.spread(columns, "part", "symbol")} {_of_modality(space)}) AS u
            GROUP BY u.part, u.symbol
        ) AS s
        GROUP BY s.part
        ORDER BY s.part
        """


def _listed(parts: Iterator[str] | Sequence[str]) -> str:
    return ", ".join(parts)
