"""Stored codes in SQL: the views and macros of spaces. They persist in the file, so they use DuckDB's built-ins alone:
any DuckDB client, in any process, can query the codes with no Python and no extension.

`searches` has the macros that search, `bodies` their SQL and what it rests on; here are the others, and what makes,
replaces and drops them all.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Collection, Iterable, Iterator

from xmr_core.errors import DataError
from xmr_core.search.vector_indexer import vector_form
from xmr_core.sql import FUNCTIONS, Balance, SqlForm
from xmr_core.types import IMAGE, TEXT, Layout, Metric
from xmr_storage.duckdb.bodies import DIALECT, SAME_KIND, approximates, modality_given
from xmr_storage.duckdb.decoded import select
from xmr_storage.duckdb.fusing import fused
from xmr_storage.duckdb.searches import Macro, family_macros, family_name, space_macros
from xmr_storage.quoting import identifier, literal, quoted

__all__ = [
    "checked_space",
    "drop_family",
    "drop_statements",
    "families",
    "generation",
    "published_view",
    "shared_statements",
    "space_statements",
]

LONGEST = 40  # characters of a space's name: with what is set before and after, within PostgreSQL's 63
TABLE_MACROS = ("topk", "within", "distances", "like", "batch", "each", "balance", "collisions", "counts")
SCALARS = ("stored", "distance")
OF_FAMILY = ("nearest", "within", "distances", "nearest_to_item", "nearest_to_key", "nearest_each")


def checked_space(space: str) -> str:
    """The name, if views and macros may be named by it: no view of one space is then a table of another."""
    if len(identifier(space, "space")) > LONGEST or re.search(r"_v\d+$", space):
        raise DataError(f"space {space!r}: at most {LONGEST} characters, not ending in _v and a number")
    return space


@functools.cache
def generation() -> str:
    """What tells the macros of this version of xmr from those of another: they are made again where it differs."""
    functions = [DIALECT.functions[op](*"xyzw"[: max(least, 1)]) for op, (least, _) in FUNCTIONS.items()]
    vector = vector_form(2, "cosine")
    samples = [(Layout.vectors(2), vector), (Layout.symbols(2), vector), (Layout.bits(72), None)]
    spaces = [text for layout, form in samples for text in space_statements("s", 1, layout, form, vectors=["f"])]
    macros = families(("s", layout, form, "cosine") for layout, form in samples)
    of_families = [text for own in macros.values() for macro in own for text in macro.statements()]
    texts = [*shared_statements(), published_view(["s"]), *functions, *spaces, *of_families]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def shared_statements() -> list[str]:
    """The macros that belong to no space."""
    return [text for macro in (_hamming(), _words(), fused(), _help()) for text in macro.statements()]


def published_view(spaces: Collection[str]) -> str:
    """The statement that makes the view of the published spaces."""
    abouts = " UNION ALL ".join(f"SELECT space, family FROM xmr.about_{space}" for space in spaces)
    counts = " UNION ALL ".join(
        f"""
        SELECT
            '{space}' AS space,
            count(*) FILTER (modality = '{IMAGE}') AS images,
            count(*) FILTER (modality = '{TEXT}') AS texts
        FROM xmr.code_{space}
        """
        for space in spaces
    )
    none = "SELECT NULL::VARCHAR AS space, {} WHERE FALSE"
    return f"""
        CREATE OR REPLACE VIEW xmr.published AS
        SELECT
            s.space, s.version, s.recipe, s.layout, s.dim, s.metric, a.family, n.images, n.texts, s.created,
            l.audited, l.recall
        FROM xmr.spaces AS s
        LEFT JOIN ({abouts or none.format("NULL::VARCHAR AS family")}) AS a ON a.space = s.space
        LEFT JOIN ({counts or none.format("NULL::BIGINT AS images, NULL::BIGINT AS texts")}) AS n ON n.space = s.space
        LEFT JOIN (
            SELECT r.space, r.version, r.created AS audited, min(m.value) FILTER (m.name LIKE 'recall@%') AS recall
            FROM xmr.runs AS r JOIN xmr.metrics AS m ON m.run_id = r.run_id
            WHERE m.what LIKE 'audit %'
            GROUP BY r.space, r.version, r.run_id, r.created
            QUALIFY row_number() OVER (PARTITION BY r.space, r.version ORDER BY r.created DESC, r.run_id) = 1
        ) AS l ON l.space = s.space AND l.version = s.version
        WHERE s.published
        ORDER BY s.space
        """


def _help() -> Macro:
    """What comments say, so that each database that is attached tells of its own."""
    body = """
        SELECT
            f.database_name AS library,
            f.function_name AS name,
            f.function_name || '(' || array_to_string(f.parameters, ', ') || ')' AS signature,
            split_part(f.comment, chr(10) || 'Example: ', 1) AS meaning,
            nullif(split_part(f.comment, chr(10) || 'Example: ', 2), '') AS example
        FROM duckdb_functions() AS f
        WHERE f.schema_name = 'xmr'
        AND f.function_type IN ('macro', 'table_macro')
        AND f.comment IS NOT NULL
        ORDER BY f.database_name, f.function_name
        """
    return Macro("help", [], body, "The macros of the libraries that are open or attached.", "FROM xmr.help()")


def _hamming() -> Macro:
    """The type decides, while the statement is bound, and the branch that does not apply is gone before a row is read;
    TRY_CAST is there to let it bind."""
    body = """
        CASE
            WHEN a IS NULL OR b IS NULL THEN NULL
            WHEN typeof(a) LIKE '%]' THEN
                CASE
                    WHEN len(TRY_CAST(a AS BIGINT[])) = len(TRY_CAST(b AS BIGINT[])) THEN
                        CASE
                            WHEN list_count(TRY_CAST(a AS BIGINT[])) = len(TRY_CAST(a AS BIGINT[]))
                            AND list_count(TRY_CAST(b AS BIGINT[])) = len(TRY_CAST(b AS BIGINT[])) THEN
                                list_sum(
                                    list_transform(
                                        list_zip(TRY_CAST(a AS BIGINT[]), TRY_CAST(b AS BIGINT[])),
                                        lambda pair: bit_count(xor(pair[1], pair[2]))
                                    )
                                )::INTEGER
                        END
                    ELSE error('xmr.hamming: expected two BIGINT words, or two lists of as many BIGINT words')
                END
            ELSE coalesce(
                bit_count(xor(TRY_CAST(a AS BIGINT), TRY_CAST(b AS BIGINT)))::INTEGER,
                error('xmr.hamming: expected two BIGINT words, or two lists of as many BIGINT words')
            )
        END
        """
    meaning = "Differing bits of two BIGINT words, or of two lists of them; NULL where one is, or holds, NULL."
    return Macro("hamming", ["a", "b"], body, meaning, "SELECT xmr.hamming([7, -1], [0, -1])", scalar=True)


def _words() -> Macro:
    """As in `words_of`: bit i of a code is bit i % 64 of word i // 64, and bit i % 8 of byte i // 8."""
    told = "error('xmr.words: expected whole numbers of 64 bits or a list of them, BIT, BLOB or hexadecimal text')"
    digits = "CASE WHEN typeof(x) = 'BLOB' THEN hex(TRY_CAST(x AS BLOB)) ELSE replace(x::VARCHAR, '0x', '') END"
    eight = f"rpad(substr({digits}, 16 * j + 1, 16), 16, '0')"
    turned = " || ".join(f"substr({eight}, {at}, 2)" for at in range(15, 0, -2))
    body = f"""
        CASE
            WHEN x IS NULL THEN NULL
            WHEN typeof(x) = 'BIT' THEN
                list_transform(
                    range((len(x::VARCHAR) + 63) // 64),
                    lambda j: reverse(rpad(substr(x::VARCHAR, 64 * j + 1, 64), 64, '0'))::BIT::BIGINT
                )
            WHEN typeof(x) = 'BLOB'
            OR typeof(x) = 'VARCHAR' AND regexp_full_match(x::VARCHAR, '(0x)?([0-9a-fA-F]{{2}})+') THEN
                list_transform(range((len({digits}) + 15) // 16), lambda j: from_hex({turned})::BIT::BIGINT)
            WHEN typeof(x) LIKE '%INT%' AND typeof(x) NOT LIKE '%]' THEN
                [{_signed("TRY_CAST(x AS HUGEINT)", told)}]
            WHEN TRY_CAST(x AS HUGEINT[])::DOUBLE[] = TRY_CAST(x AS DOUBLE[]) THEN
                list_transform(TRY_CAST(x AS HUGEINT[]), lambda v: {_signed("v", told)})
            ELSE {told}
        END
        """
    meaning = (
        "A code as the list of BIGINT words that other macros take: of UBIGINT or other whole numbers, a list of them, "
        "BIT (its first character is bit 0), BLOB or hexadecimal text (bytes in order, the lowest 8 bits first)."
    )
    return Macro("words", ["x"], body, meaning, "FROM xmr.topk_hash(xmr.words('ff00000000000080'), 10)", scalar=True)


def _signed(word: str, told: str) -> str:
    """A HUGEINT as the BIGINT of the same 64 bits."""
    return f"""
        CASE
            WHEN {word} BETWEEN {-(2**63)} AND {2**63 - 1} THEN {word}::BIGINT
            WHEN {word} BETWEEN {2**63} AND {2**64 - 1} THEN ({word} - {2**64})::BIGINT
            ELSE {told}::BIGINT
        END
        """


def drop_statements(space: str, views: Collection[str] = ()) -> list[str]:
    """Statements that take away the macros of a space, the views of its codes, and these `views` beside them."""
    checked_space(space)
    return [
        *(f"DROP MACRO TABLE IF EXISTS xmr.{macro}_{space}" for macro in TABLE_MACROS),
        *(f"DROP MACRO IF EXISTS xmr.{macro}_{space}" for macro in SCALARS),
        *(f"DROP VIEW IF EXISTS xmr.{identifier(view)}_{space}" for view in (*views, "asked", "about", "code")),
    ]


def space_statements(
    space: str,
    version: int,
    layout: Layout,
    form: SqlForm | None,
    others: Collection[str] = (),
    metric: Metric | None = None,
    library: str = "",
    kept: bool = False,
    vectors: Collection[str] = (),
) -> list[str]:
    """Statements that publish a version: the views and macros of a space, in place of those of another version.

    To be run in one transaction; a reader sees the whole of one version or of the other. `others` are the views beside
    the codes that the other version may have, `library` the id of the library, `vectors` the tables of what codes were
    made of. Without a form, or a distance in it, there is no search. What codes stand for is `kept` as a table, or a
    view decodes them: over tables alone, since `IMPORT DATABASE` makes views in the order of their names.
    """
    tables = ("code", *(form.tables if form else ()))
    views = [
        f"CREATE VIEW xmr.{name}_{checked_space(space)} AS FROM xmr.{name}_{space}_v{version:d}" for name in tables
    ]
    views.append(_about(space, version, layout, form, metric, library))
    if approximates(layout, form):
        views.append(_asked(space, vectors))
    if form is not None and form.decoded is not None:
        name = f"{identifier(form.decoded.name)}_{space}"
        columns = _listed(["item_id", "modality", *(quoted(column.name) for column in form.decoded.columns)])
        decoded = (
            f"SELECT {columns} FROM xmr.{name}_v{version:d}" if kept else select(form.decoded, f"{space}_v{version:d}")
        )
        views.append(f"CREATE VIEW xmr.{name} AS {decoded}")
    present = {*others, *(form.views if form else ())}
    macros = [*_diagnostics(space, layout)]
    if form is not None and form.balance is not None:
        macros.append(_balance(space, form.balance))
    if form is not None and form.distance is not None:
        macros += space_macros(space, library, layout, form)
    made = (text for macro in macros for text in macro.statements())
    return [*drop_statements(space, sorted(present)), *views, *made]


def families(spaces: Iterable[tuple[str, Layout, SqlForm | None, Metric | None]]) -> dict[str, list[Macro]]:
    """The families of published spaces (name, layout, form, metric), and their macros.

    Where a macro would have the name of one of a space (one called `bits64`), there is but that of the space.
    """
    told, made = list(spaces), {}
    taken = {f"{verb}_{space}" for space, *_ in told for verb in (*TABLE_MACROS, *SCALARS)}
    for _, layout, form, metric in told:
        if form is not None and form.distance is not None:
            name = family_name(layout, form, metric)
            made[name] = [macro for macro in family_macros(name, layout, form) if macro.name not in taken]
    return made


def drop_family(name: str, spaces: Collection[str]) -> list[str]:
    """Statements that take away the macros of a family; those of a space of its name stay."""
    verbs = [verb for verb in OF_FAMILY if name not in spaces or verb not in TABLE_MACROS]
    dropped = [f"DROP MACRO TABLE IF EXISTS xmr.{verb}_{identifier(name)}" for verb in verbs]
    return dropped if name in spaces else [*dropped, f"DROP MACRO IF EXISTS xmr.distance_{identifier(name)}"]


def _about(space: str, version: int, layout: Layout, form: SqlForm | None, metric: Metric | None, library: str) -> str:
    """The view of one row that says what a space is, and of which library."""
    family = family_name(layout, form, metric) if form is not None and form.distance is not None else None
    columns = {
        "library": literal(library),
        "space": literal(space),
        "version": str(int(version)),
        "layout": literal(layout.name),
        "dim": str(layout.dim),
        "metric": "NULL::VARCHAR" if metric is None else literal(metric),
        "family": "NULL::VARCHAR" if family is None else literal(family),
    }
    return f"CREATE VIEW xmr.about_{space} AS SELECT {_listed(f'{x} AS {name}' for name, x in columns.items())}"


def _asked(space: str, vectors: Collection[str]) -> str:
    """The view of the vectors that stored items ask with."""
    every = " UNION ALL ".join(f"SELECT f.item_id, f.vector FROM xmr.{quoted(table)} AS f" for table in vectors)
    none = "SELECT NULL::BIGINT AS item_id, NULL::FLOAT[] AS vector WHERE FALSE"
    return f"CREATE VIEW xmr.asked_{space} AS {every or none}"


def _diagnostics(space: str, layout: Layout) -> Iterator[Macro]:
    code = _listed(f"c.{quoted(column.name)}" for column in layout.columns)
    codes = ("codes", literal(f"xmr.code_{space}"))
    yield Macro(
        f"counts_{space}",
        [codes],
        f"""
        SELECT g.modality, sum(g.items)::BIGINT AS items, count(*) AS codes
        FROM (SELECT c.modality, count(*) AS items FROM query_table(codes) AS c GROUP BY c.modality, {code}) AS g
        GROUP BY g.modality
        ORDER BY g.modality
        """,
        "Items and different codes of each modality.",
        f"FROM xmr.counts_{space}()",
    )
    yield Macro(
        f"collisions_{space}",
        [("modality", "NULL"), codes],
        f"""
        SELECT count(*) AS items, list(c.item_id ORDER BY c.item_id) AS item_ids
        {_of_modality(f"xmr.collisions_{space}")}
        GROUP BY {code}
        HAVING count(*) > 1
        ORDER BY items DESC, item_ids
        """,
        "Items that share a code, the largest groups first.",
        f"FROM xmr.collisions_{space}(modality := 'image')",
    )


def _of_modality(called: str) -> str:
    return f"FROM ({modality_given(called)}) AS p, query_table(codes) AS c WHERE {SAME_KIND}"


def _balance(space: str, balance: Balance) -> Macro:
    columns = [f"c.{quoted(name)}" for name in balance.columns]
    called = f"xmr.balance_{space}"
    if balance.of == "bits":
        ones = _listed(f"avg({columns[i // 64]} >> {i % 64} & 1)" for i in range(balance.count))
        meaning = "How often each bit is set; entropy is 1 where half of the items have it, 0 where all or none."
        body = f"""
        SELECT b.bit, b.ones, -coalesce(b.ones * log2(nullif(b.ones, 0)), 0)
            - coalesce((1 - b.ones) * log2(nullif(1 - b.ones, 0)), 0) AS entropy
        FROM (SELECT unnest(range({balance.count})) AS bit, unnest([{ones}]) AS ones {_of_modality(called)}) AS b
        ORDER BY b.bit
        """
    else:
        meaning = "How evenly each subquantizer uses its symbols: how many, the share of the largest, and entropy."
        body = f"""
        SELECT
            s.part, count(*) AS symbols, max(s.share) AS largest, -sum(s.share * log2(s.share)) AS entropy
        FROM (
            SELECT u.part, u.symbol, count(*) / sum(count(*)) OVER (PARTITION BY u.part) AS share
            FROM (SELECT {DIALECT.spread(columns, "part", "symbol")} {_of_modality(called)}) AS u
            GROUP BY u.part, u.symbol
        ) AS s
        GROUP BY s.part
        ORDER BY s.part
        """
    parameters = [("modality", "NULL"), ("codes", literal(f"xmr.code_{space}"))]
    return Macro(f"balance_{space}", parameters, body, meaning, f"FROM {called}()")


def _listed(parts: Iterable[str]) -> str:
    return ", ".join(parts)
