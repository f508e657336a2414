"""The SQL of the macros that search, over codes whose name is the macro's parameter `codes`.

What they rest on, seen in DuckDB 1.4, 1.5 and 2.0 and held by tests/storage/test_macros.py:

- A macro's tables are resolved where it is called. `query_table` takes a name, which may be an expression of
  parameters, so the tables beside the codes are found by the name of the codes. It is as fast as the table itself.
- Typed macro parameters want storage version 1.4, and a user's file is of version 1.0 as a rule. Defaults do not.
- A parameter replaces every unqualified name like it in the body. So columns are qualified, always.
- An argument is pasted where its parameter stands, and its names are then looked up there: `like_x(item_id, 5)` in a
  lateral join would mean the item_id of our own table, and find everything. So a parameter stands in a SELECT without
  FROM, under an alias that no column of a user's has, and a costly one (an encoder) but once.
- `LIMIT k` takes a parameter, but no column of a lateral join; and anything but the bare parameter costs the top-n
  operator: three times as long, ten times in DuckDB 2. So k is checked beside it.
- What checks a parameter is no constant to the optimizer, and as a filter of all codes costs a fifth. So `modality`
  is checked beside the query, and the filter begins with the bare parameter: it is gone where that is NULL. DuckDB 2
  would find nothing by a bare 'picture' without looking, and so without the error.
- `items IS NULL OR item_id IN items` compares every row with every item. Two branches, of which one is empty, cost
  nothing where no items are given and a semi join where some are. An argument `(SELECT list(...) ...)` is a query that
  runs as often as it is pasted, so it is a CTE that is materialized. IN needs no DISTINCT, which took a third of the
  time of half a million items. What is left is 1.1 times a hand-written IN; an inner join on a dense key, which finds
  its rows by position, takes a third of that, but a list that names an item twice would find it twice.
- A filter over `distances` is no filter of the codes: a projection is computed before the join above it. So where few
  rows pass, all distances are computed for nothing, and `items` is better; where half of them pass, the join is.
- Sums of FLOAT arrays are in FLOAT in DuckDB, and of other order than NumPy's: the lists of neighbours would differ
  from Python's. So vectors are cast to DOUBLE, which costs as much as the distance itself.
- DuckDB 2 takes a join on a stored item out of a lateral subquery, and then ranks the codes for every item that there
  is: minutes for two rows. An outer join it leaves alone, and that tells an unknown item too.
- `bit_count` gives TINYINT, which two opposite words of 64 bits overflow; and DuckDB 1 counts bit by bit (24 ns a
  word, DuckDB 2 takes 0.3). Counting by sums saves a quarter there and takes thrice as long in DuckDB 2.
- `min(struct, k) ... GROUP BY query` breaks ties by the struct's next field. It takes k from 1 to 999,999.
- The symbols of PQ as SMALLINT: UTINYINT is no quicker, and PostgreSQL has none. Looking distances up in lists takes
  1.15 times as long as eight joins, but half as long as 32, and does not depend on the order an optimizer gives them.
- A stored item asks with its vector where the library keeps it: the view `asked` beside codes that do not hold it. It
  is found by an outer join, and one of two branches is empty, for the reasons above.
- `array_cosine_distance` of a zero vector is 2 in DuckDB 1 and NaN in 2; here it is 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from xmr_core.sql import QueryType, SqlForm
from xmr_core.types import IMAGE, TEXT, Layout
from xmr_storage.dialect import Writer
from xmr_storage.duckdb.dialect import DuckDBDialect
from xmr_storage.quoting import literal

__all__ = ["DIALECT", "SAME_KIND", "Bodies", "approximates", "beside", "modality_given"]

DIALECT = DuckDBDialect()
NEAREST_FIRST = "ORDER BY distance, c.item_id"
MOST = 999_999  # hits of each of many queries: `min(struct, k)` takes no larger k
SAME_KIND = "(p.modality_ IS NULL OR c.modality = p.modality_)"
WANTED = f"coalesce(p.modality_, CASE h.modality WHEN '{IMAGE}' THEN '{TEXT}' ELSE '{IMAGE}' END) AS wanted"
ITEMS = "(SELECT items::BIGINT[] AS items_)"
GIVEN_ITEMS = f"given_items AS MATERIALIZED {ITEMS}"  # once: where the argument is a query, it would run twice
CHECKED = "p.k_ IS DISTINCT FROM -1"  # so that the check of k is evaluated


def beside(name: str) -> str:
    """The name of a table or view beside the codes, as an expression: codebook_hash beside code_hash."""
    return rf"regexp_replace(codes, 'code_([^.]*)$', '{name}_\1')"


def approximates(layout: Layout, form: SqlForm | None) -> bool:
    """True where codes are compared with vectors that they only stand for."""
    kind = form.query if form is not None and form.distance is not None else None
    return kind is not None and kind.numbers == "vector" and not layout.holds_vectors


def modality_given(called: str) -> str:
    """The parameter `modality` as a column `modality_`: NULL, image or text, or an error."""
    told = literal(f"{called}: modality is '{IMAGE}', '{TEXT}' or NULL for both, got ")
    return f"""
        SELECT CASE
            WHEN g.given_ IS NULL OR g.given_ IN ('{IMAGE}', '{TEXT}') THEN g.given_
            ELSE {DIALECT.error(f"{told} || g.given_")}
        END AS modality_
        FROM (SELECT modality::VARCHAR AS given_) AS g
        """


def whole_given(called: str, parameter: str, what: str) -> str:
    """A parameter as the BIGINT column `whole_`: NULL, or an error where it is no whole number."""
    told = literal(f"{called}: {what}, got ")
    return f"""
        SELECT CASE
            WHEN g.given_ IS NULL THEN NULL
            WHEN TRY_CAST(g.given_ AS BIGINT) = TRY_CAST(g.given_ AS DOUBLE) THEN TRY_CAST(g.given_ AS BIGINT)
            ELSE {DIALECT.error(f"{told} || g.given_")}::BIGINT
        END AS whole_
        FROM (SELECT {parameter} AS given_) AS g
        """


@dataclass(frozen=True)
class Bodies:
    """The bodies of the macros over codes of one form; each is called by the name that its errors begin with.

    `query` and `radius` are the names of those parameters. `guard` is a table `g`, whose one row is there where the
    codes are those that are meant, and an error otherwise; empty where the codes are always named.
    """

    layout: Layout
    form: SqlForm
    query: str
    radius: str
    guard: str = ""

    @property
    def writer(self) -> Writer:
        return Writer(DIALECT, lambda name: f"query_table({beside(name)})")

    @cached_property
    def code(self) -> str:
        """The codes, decoded where the form decodes them, as an item of FROM."""
        return f"query_table({beside(self.form.decoded.name) if self.form.decoded else 'codes'})"

    @cached_property
    def distance(self) -> str:
        assert self.form.distance is not None  # where there is a search
        return self.writer.expression(self.form.distance)

    def nearest(self, called: str) -> str:
        return f"""
        {self._compared(called, k=True)}
        {NEAREST_FIRST}
        LIMIT k
        """

    def distances(self, called: str) -> str:
        return self._compared(called)

    def within(self, called: str) -> str:
        single = self.form.distance is not None and self.form.distance.op == "single"
        radius = "g.radius_::FLOAT" if single else "g.radius_"  # of the distance's type
        return f"""
        SELECT d.item_id, d.modality, d.distance
        FROM (SELECT {self.radius} AS radius_) AS g, ({self._compared(called)}) AS d
        WHERE d.distance <= {radius}
        ORDER BY d.distance, d.item_id
        """

    def nearest_to_item(self, called: str) -> str:
        item = whole_given(called, "item", "item is the id of an item")
        told = f"{literal(f'{called}: no code of item ')} || p.item_"
        return self._like(called, f"SELECT i.whole_ AS item_, i.whole_ AS of_ FROM ({item}) AS i", told)

    def nearest_to_key(self, called: str) -> str:
        """By the key that an item of the library was added under; of either modality, where both have it."""
        items = "query_table(regexp_replace(codes, '[^.]*$', 'items'))"
        told = f"{literal(f'{called}: no code of an item with the key ')} || p.of_"
        found = (
            f"SELECT t.item_id AS item_, i.key_ AS of_ FROM (SELECT key::VARCHAR AS key_) AS i LEFT JOIN {items} AS t"
        )
        return self._like(called, f"{found} ON t.key = i.key_", told)

    def nearest_each(self, called: str) -> str:
        """Hits of every row of the table `queries`."""
        asked = "SELECT g.query_id, g.query AS given_ FROM query_table(queries) AS g"
        prepared = self.writer.query(
            self._checked_query(called, asked, ["query_id"]), (*self.form.of_query, *self.form.prepare), ["query_id"]
        )
        return self._of_each(called, prepared, "query_id", SAME_KIND, "query_id")

    def batch(self, called: str) -> str:
        """Hits of stored items: those of the list `items`, or all."""
        told = f"{literal(f'{called}: no code of item ')} || u.item_"
        chosen = f"""
            SELECT h.*, {WANTED}
            FROM ({modality_given(called)}) AS p, (SELECT items::BIGINT[] AS items_) AS i, {self.code} AS h
            WHERE i.items_ IS NULL
            UNION ALL
            SELECT h.* REPLACE (coalesce(h.item_id, {DIALECT.error(told)}::BIGINT) AS item_id), {WANTED}
            FROM ({modality_given(called)}) AS p,
                (SELECT DISTINCT * FROM {_listed(called)} AS l) AS u LEFT JOIN {self.code} AS h ON h.item_id = u.item_
            """
        prepared = self._asking(chosen)
        return self._of_each(called, prepared, "item_id", "c.modality = a.wanted AND c.item_id <> a.item_id", "query")

    def stored(self, called: str) -> str:
        """The query that asks as a stored item does."""
        item = whole_given(called, "item", "item is the id of an item")
        told = f"{literal(f'{called}: no code of item ')} || i.whole_"
        one = f"""
            SELECT h.*
            FROM (SELECT w.whole_ FROM ({item}) AS w WHERE w.whole_ IS NOT NULL) AS i
            LEFT JOIN {self.code} AS h ON h.item_id = i.whole_
            WHERE CASE WHEN h.item_id IS NULL THEN {DIALECT.error(told)}::BOOLEAN ELSE TRUE END
            """
        steps = (*self.form.of_code, *self.form.as_query)
        if not approximates(self.layout, self.form):
            return f"SELECT s.value FROM ({self.writer.query(one, steps)}) AS s"
        codes, vectors = self._parted(one)
        stood_for = self.writer.query(codes, steps)
        return f"SELECT s.value FROM ({stood_for}) AS s UNION ALL SELECT s.q FROM ({vectors}) AS s"

    # what they are made of

    def _asking(self, chosen: str) -> str:
        """The prepared queries that ask as stored items do: `chosen` are their codes, with the column `wanted`."""
        keys, form = ("item_id", "wanted"), self.form
        if not approximates(self.layout, form):
            return self.writer.query(chosen, (*form.of_code, *form.prepare), keys)
        codes, vectors = self._parted(chosen, keys)
        sides = (self.writer.query(codes, form.of_code, keys), self.writer.query(vectors, form.of_query, keys))
        return self.writer.query(" UNION ALL BY NAME ".join(sides), form.prepare, keys)

    def _parted(self, chosen: str, keys: Sequence[str] = ()) -> tuple[str, str]:
        """Those of the chosen codes whose items have no vector to ask with, and the vectors of the others as `q`."""
        joined = f"FROM ({chosen}) AS h LEFT JOIN query_table({beside('asked')}) AS s ON s.item_id = h.item_id"
        vector = f"s.vector::{DIALECT.list_of('vector')} AS q"
        return (
            f"SELECT h.* {joined} WHERE s.item_id IS NULL",
            f"SELECT {', '.join([*(f'h.{key}' for key in keys), vector])} {joined} WHERE s.item_id IS NOT NULL",
        )

    def _compared(self, called: str, k: bool = False) -> str:
        """The distances of the codes to one query, in no order."""
        given = f"SELECT NULL AS none_, {self.query} AS given_"
        prepared = self.writer.query(self._checked_query(called, given), (*self.form.of_query, *self.form.prepare))
        return f"""
        WITH {GIVEN_ITEMS},
        asked AS MATERIALIZED (
            SELECT v.*, p.modality_
            FROM ({self._parameters(called, k)}) AS p{self._guarded()}, ({prepared}) AS v
            WHERE p.modality_ IS DISTINCT FROM ''{f" AND {CHECKED}" if k else ""}{self._allowed()}
        )
        SELECT c.item_id, c.modality, {self.distance} AS distance
        FROM (SELECT modality::VARCHAR AS modality_) AS p, asked AS a, {self._candidates(called, "given_items")} AS c
        WHERE (p.modality_ IS NULL OR c.modality = a.modality_)
        """

    def _like(self, called: str, item: str, told: str) -> str:
        """The k nearest of the other modality to stored items: `item` gives their ids as `item_`."""
        chosen = f"""
            SELECT h.* REPLACE (
                CASE WHEN p.of_ IS NOT NULL AND h.item_id IS NULL THEN {DIALECT.error(told)}::BIGINT ELSE h.item_id END
                AS item_id
            ), {WANTED}
            FROM (SELECT i.item_, i.of_, m.modality_ FROM ({item}) AS i, ({modality_given(called)}) AS m) AS p
            LEFT JOIN {self.code} AS h ON h.item_id = p.item_
            """
        prepared = self._asking(chosen)
        return f"""
        SELECT c.item_id, c.modality, {self.distance} AS distance
        FROM (
            SELECT v.*
            FROM ({self._parameters(called, True)}) AS p{self._guarded()}, ({prepared}) AS v
            WHERE {CHECKED}{self._allowed()}
        ) AS a, {self._candidates(called)} AS c
        WHERE c.modality = a.wanted
        AND c.item_id <> a.item_id
        {NEAREST_FIRST}
        LIMIT k
        """

    def _of_each(self, called: str, prepared: str, of: str, compared: str, name: str) -> str:
        """The k nearest of each of many queries, which the column `of` tells apart."""
        most = f"least(greatest(coalesce(k, {MOST}), 1), {MOST})::BIGINT"
        items = self._candidates(called, "given_items") if name == "query_id" else self.code
        too_many = DIALECT.error(
            literal(f"{called}: k is at most {MOST}, and NULL (all) is for no more codes than that")
        )
        return f"""
        WITH {GIVEN_ITEMS},
        asked AS MATERIALIZED ({prepared}),
        found AS (
            SELECT
                a.{of} AS of_, {DIALECT.k_nearest(self.distance, "c.item_id", most)} AS hits_, count(*) AS compared_
            FROM asked AS a, ({modality_given(called)}) AS p, {items} AS c
            WHERE {compared}
            GROUP BY a.{of}
        ),
        each_hit AS (
            SELECT f.of_, unnest(f.hits_) AS hit_
            FROM ({self._parameters(called, True)}) AS p{self._guarded()}, found AS f
            WHERE CASE
                WHEN p.k_ = 0 THEN FALSE
                WHEN f.compared_ > {MOST} AND (p.k_ IS NULL OR p.k_ > {MOST}) THEN {too_many}::BOOLEAN
                ELSE TRUE
            END{self._allowed()}
        )
        SELECT e.of_ AS {name}, e.hit_.item_id AS item_id, e.hit_.distance AS distance
        FROM each_hit AS e
        ORDER BY e.of_, distance, e.hit_.item_id
        """

    def _parameters(self, called: str, k: bool) -> str:
        """One row of the parameters, checked: `modality_`, and `k_`."""
        if not k:
            return modality_given(called)
        whole = whole_given(called, "k", "k is a whole number, or NULL for all")
        return f"SELECT m.modality_, n.whole_ AS k_ FROM ({modality_given(called)}) AS m, ({whole}) AS n"

    def _guarded(self) -> str:
        return f", {self.guard} AS g" if self.guard else ""

    def _allowed(self) -> str:
        return " AND g.allowed" if self.guard else ""

    def _candidates(self, called: str, given: str = ITEMS) -> str:
        """The codes of the items in the list `items`, or all; as an item of FROM. `given` is a table of that list."""
        return f"""(
            SELECT h.*
            FROM {given} AS i, {self.code} AS h
            WHERE i.items_ IS NULL
            UNION ALL
            SELECT h.* FROM {self.code} AS h WHERE h.item_id IN (SELECT u.item_ FROM {_listed(called, given)} AS u)
        )"""

    def _checked_query(self, called: str, given: str, keys: Sequence[str] = ()) -> str:
        """The queries `given_` as lists `q`; those that are NULL left out, an error where one cannot be a query."""
        kind = self.form.query
        assert kind is not None  # where there is a distance
        rules = self._rules(called, kind)
        cases = "\n".join(f"WHEN {rule} THEN {DIALECT.error(told)}" for rule, told in rules)
        listed = "".join(f"l.{key}, " for key in keys)
        doubles = ", TRY_CAST(y.given_ AS DOUBLE[]) AS d_" if kind.numbers == "words" else ""
        return f"""
            SELECT {listed}CASE {cases} ELSE l.q_ END AS q
            FROM (
                SELECT *, TRY_CAST(y.given_ AS {DIALECT.list_of(kind.numbers)}) AS q_{doubles}
                FROM ({given}) AS y
                WHERE y.given_ IS NOT NULL
            ) AS l
            """

    def _rules(self, called: str, kind: QueryType) -> Iterator[tuple[str, str]]:
        """What no query may be, and the message, both SQL over a query `q_` and its numbers in DOUBLE, `d_`."""
        length, words = kind.length, kind.numbers == "words"
        told = f"{called}: a query is a {'list of BIGINT words' if words else 'vector'} of length {length}, got "
        other = "; xmr.words makes them of UBIGINT, BIT, BLOB and hexadecimal text" if words else ""
        yield "l.q_ IS NULL", literal(f"{told}no list{other}")
        yield f"len(l.q_) <> {length}", f"{literal(told)} || len(l.q_)"
        yield f"list_count(l.q_) < {length}", literal(f"{told}one with NULL or numbers out of range in it{other}")
        if not words:
            yield "NOT isfinite(list_sum(l.q_))", literal(f"{told}infinity or NaN")
            return
        yield "l.q_::DOUBLE[] <> l.d_", literal(f"{told}numbers that are not whole")
        bits = self.layout.columns[-1].bits if len(self.layout.columns) == length else None
        if bits is not None and bits < 64:
            beyond = f"l.q_[{length}] < 0 OR l.q_[{length}] >> {bits} <> 0"
            yield beyond, literal(f"{called}: codes have {self.layout.dim} bits, the query has more")


def _listed(called: str, given: str = ITEMS) -> str:
    """The rows `item_` of the list `items`, as an item of FROM; no NULL."""
    told = DIALECT.error(literal(f"{called}: items holds NULL"))
    return f"""(
            SELECT coalesce(o.one_, {told}::BIGINT) AS item_
            FROM (SELECT unnest(i.items_) AS one_ FROM {given} AS i) AS o
        )"""
