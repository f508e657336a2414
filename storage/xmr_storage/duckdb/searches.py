"""The macros that search: of a family, over any codes of its kind, and the same under the names of each space.

A family is one layout and one way to compare it. Its macros take the codes by name, of any attached file:
`xmr.nearest_bits64('photos.xmr.code_hash', q)`. Those of a space have its codes as the default of `codes`. DuckDB
resolves that name where the macro is *called*, so they compare the library that it leads to with their own, and raise
an error where it is another.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from xmr_core.search.vector_indexer import vector_form
from xmr_core.sql import Derive, Expression, SqlForm, added, asked, code, differing_bits
from xmr_core.types import Layout, Metric
from xmr_storage.dialect import Writer
from xmr_storage.duckdb.bodies import DIALECT, Bodies
from xmr_storage.quoting import literal

__all__ = ["Macro", "family_macros", "family_name", "space_macros"]

NARROWED = (("modality", "NULL"), ("items", "NULL"))
NARROWS = "modality := 'image' or 'text' and items := [ids] narrow what is compared."
NAMED = "codes is the name of a table or view of codes, as 'xmr.code_hash' or 'photos.xmr.code_hash'."
Parameters = Sequence[str | tuple[str, str]]  # names, or (name, default in SQL) where they may be left out


@dataclass(frozen=True)
class Macro:
    """A macro of the schema xmr; its comment says what it means and gives an example."""

    name: str
    parameters: Parameters
    body: str
    meaning: str
    example: str = ""
    scalar: bool = False

    @property
    def signature(self) -> str:
        """How it is called: `topk_hash(q, k, modality := NULL)`."""
        listed = (one if isinstance(one, str) else f"{one[0]} := {one[1]}" for one in self.parameters)
        return f"{self.name}({', '.join(listed)})"

    @property
    def comment(self) -> str:
        return self.meaning + (f"\nExample: {self.example}" if self.example else "")

    def statements(self) -> Iterator[str]:
        """What makes it, and describes it."""
        body = f"({self.body})" if self.scalar else f"TABLE {self.body}"
        yield f"CREATE OR REPLACE MACRO xmr.{self.signature} AS {body}"
        yield f"COMMENT ON MACRO{'' if self.scalar else ' TABLE'} xmr.{self.name} IS {literal(self.comment)}"

    def drop(self) -> str:
        """What takes it away."""
        return f"DROP MACRO{'' if self.scalar else ' TABLE'} IF EXISTS xmr.{self.name}"


def family_name(layout: Layout, form: SqlForm, metric: Metric | None) -> str:
    """The family that codes belong to. Codes of one family are compared alike, in any file and any version.

    Bits and plain vectors have names to remember, `bits64` and `float128_cosine`; in those of others, eight digits
    stand for the form.
    """
    name = re.sub(r"[^a-z0-9]", "", layout.name.lower())[:12] + str(layout.dim)
    words = [column.name for column in layout.columns]
    if layout.name == "bits" and form.distance == added(differing_bits(code(w), asked(w)) for w in words):
        return name
    if metric is not None and metric != "hamming":
        name = f"{name}_{metric}"
        if layout.name == "float" and form == vector_form(layout.dim, metric):
            return name
    return f"{name}_{hashlib.sha256(json.dumps(form.to_json(), sort_keys=True).encode()).hexdigest()[:8]}"


def family_macros(name: str, layout: Layout, form: SqlForm) -> list[Macro]:
    """The macros of a family."""
    bodies, q, k = Bodies(layout, form, "query", "radius"), _query(form), ("k", "10")
    ours = "'xmr.code_hash'"
    table: list[tuple[str, Parameters, str, str]] = [
        ("nearest", ["query", k], f"The k nearest to a query, {q}.", "query, k := 10"),
        ("within", ["query", "radius"], f"All within a radius of a query, {q}.", "query, 8"),
        (
            "distances",
            ["query"],
            f"The distance of each code to a query, {q}, in no order: join, filter, order and limit it.",
            "query",
        ),
        (
            "nearest_to_item",
            ["item", k],
            "The k nearest to a stored item, given by its id; of the other modality, if none is named.",
            "42, k := 10",
        ),
        (
            "nearest_to_key",
            ["key", k],
            "The k nearest to a stored item, given by its key; of the other modality, if none is named.",
            "'dog.jpg', k := 10",
        ),
        (
            "nearest_each",
            ["queries", k],
            f"The k nearest to each row (query_id, query) of the table or view called queries; a query is {q}.",
            "'my_queries', k := 10",
        ),
    ]
    return [
        Macro(
            f"{verb}_{name}",
            ["codes", *own, *NARROWED],
            getattr(bodies, verb)(f"xmr.{verb}_{name}"),
            f"{meaning} {NARROWS} {NAMED}",
            f"FROM xmr.{verb}_{name}({ours}, {example})",
        )
        for verb, own, meaning, example in table
    ] + _between(f"distance_{name}", layout, form)


def space_macros(space: str, library: str, layout: Layout, form: SqlForm) -> list[Macro]:
    """The macros of a space of the library with that id."""
    own_codes = literal(f"xmr.code_{space}")
    bodies, q = Bodies(layout, form, "q", "r", _guard(space, library, own_codes)), _query(form)
    codes = ("codes", own_codes)
    of = "codes := 'photos.xmr.code_x' names the codes of an attached file."

    def one(name: str, body: str, parameters: Parameters, meaning: str, example: str) -> Macro:
        called = f"{name}_{space}"
        text = getattr(bodies, body)(f"xmr.{called}")
        return Macro(called, [*parameters, codes], text, f"{meaning} {of}", f"FROM xmr.{called}({example})")

    return [
        one("topk", "nearest", ["q", "k", *NARROWED], f"The k nearest to a query, {q}. {NARROWS}", "query, 10"),
        one(
            "within", "within", ["q", "r", *NARROWED], f"All within the radius r of a query, {q}. {NARROWS}", "query, 8"
        ),
        one(
            "distances",
            "distances",
            ["q", *NARROWED],
            f"The distance of each code to a query, {q}, in no order: join, filter, order and limit it. {NARROWS}",
            "query",
        ),
        one(
            "like",
            "nearest_to_item",
            ["item", "k", *NARROWED],
            f"The k nearest to a stored item, given by its id; of the other modality, if none is named. {NARROWS}",
            "42, 10",
        ),
        one(
            "batch",
            "batch",
            ["k", *NARROWED],
            "The k nearest to each stored item, or to each of items := [ids]; of the other modality, if none is named.",
            "3, items := [1, 2]",
        ),
        one(
            "each",
            "nearest_each",
            ["queries", "k", *NARROWED],
            f"The k nearest to each row (query_id, query) of the table called queries; a query is {q}. {NARROWS}",
            "'my_queries', 10",
        ),
        Macro(
            f"stored_{space}",
            ["item", codes],
            bodies.stored(f"xmr.stored_{space}"),
            f"What asks as a stored item does: {q}. {of}",
            f"FROM xmr.topk_{space}(xmr.stored_{space}(42), 10)",
            scalar=True,
        ),
        *_between(f"distance_{space}", layout, form),
    ]


def _query(form: SqlForm) -> str:
    assert form.query is not None  # where there is a distance
    words = form.query.numbers == "words"
    return f"a list of {form.query.length} {'BIGINT words, the lowest 64 bits first' if words else 'numbers'}"


def _guard(space: str, library: str, own_codes: str) -> str:
    """One row that allows the codes: those that the caller names, or those of this library under the default."""
    told = DIALECT.error(
        literal(
            f"xmr.code_{space} is that of another library here; name the codes that you mean: "
            f"codes := '<database>.xmr.code_{space}'"
        )
    )
    return f"""(
            SELECT CASE
                WHEN codes <> {own_codes} OR contains(l::VARCHAR, {literal(library)}) THEN TRUE
                ELSE {told}::BOOLEAN
            END AS allowed
            FROM query_table(CASE WHEN codes = {own_codes} THEN {literal(f"xmr.about_{space}")} ELSE codes END) AS l
            LIMIT 1
        )"""


class Inlined(Writer):
    """Writes expressions over columns whose SQL is known."""

    def __init__(self, **columns: Mapping[str, str]) -> None:
        super().__init__(DIALECT, str)
        self.columns = columns

    def expression(self, x: Expression) -> str:
        return self.columns[x.op][str(x.of[0])] if x.op in self.columns else super().expression(x)


def _between(name: str, layout: Layout, form: SqlForm) -> list[Macro]:
    """The distance of two codes given as queries, where a query is a code: words of bits, or a plain vector."""
    assert form.query is not None  # where there is a distance
    assert form.distance is not None
    columns, length, numbers = layout.columns, form.query.length, DIALECT.list_of(form.query.numbers)
    steps = [*form.of_query, *form.prepare]
    if form.decoded is not None or not all(isinstance(step, Derive) for step in steps):
        return []
    if form.query.numbers == "words" and len(columns) == length:
        codes = {column.name: f"(b::{numbers})[{j + 1}]" for j, column in enumerate(columns)}
    elif len(columns) == 1 and columns[0].width == length:
        codes = {columns[0].name: f"b::{DIALECT.column_type(columns[0])}"}
    else:
        return []
    values = {"q": f"(a::{numbers})"}
    for step in steps:
        values = {column: Inlined(row=values).expression(x) for column, x in step.columns.items()}
    told = DIALECT.error(literal(f"xmr.{name}: expected two queries, each {_query(form)}"))
    body = f"""
        CASE
            WHEN len(a::{numbers}) <> {length} OR len(b::{numbers}) <> {length} THEN {told}
            ELSE {Inlined(asked=values, code=codes).expression(form.distance)}
        END
        """
    meaning = f"The distance of two codes, each {_query(form)}; NULL where one is, or holds, NULL."
    return [Macro(name, ["a", "b"], body, meaning, f"SELECT xmr.{name}(a, b)", scalar=True)]
