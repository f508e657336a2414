"""The macro `xmr.fused`: several rankings as one, by reciprocal rank, as `db.search(spaces=[...])` fuses them.

Source: Cormack, Clarke & Buettcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning
methods", SIGIR 2009.
"""

from __future__ import annotations

from xmr_core.search.fusion import DEPTH, RANK_CONSTANT
from xmr_storage.duckdb.bodies import CHECKED, DIALECT, whole_given
from xmr_storage.duckdb.searches import Macro
from xmr_storage.quoting import literal

__all__ = ["fused"]

CALLED = "xmr.fused"
EXAMPLE = """FROM xmr.fused([
    (SELECT list(item_id ORDER BY distance, item_id) FROM xmr.like_hash(42, 100)),
    (SELECT list(item_id ORDER BY distance, item_id) FROM xmr.like_words(42, 100))
], k := 10)"""


def fused() -> Macro:
    """Shares are added in the order of the rankings, in DOUBLE, and the sum is rounded: ties are those of Python."""
    share = f"CASE WHEN rank_ IS NULL THEN 0 ELSE 1::DOUBLE / ({RANK_CONSTANT} + rank_) END"
    body = f"""
        SELECT s.item_id, list_sum(list_transform(s.ranks, lambda rank_: {share}))::FLOAT AS score, s.ranks
        FROM (SELECT n.whole_ AS k_ FROM ({_whole_k()}) AS n) AS p, (
            SELECT e.item_ AS item_id, list_transform(
                range(1, any_value(e.rankings_) + 1),
                lambda at_: list_extract(list(e.rank_), list_position(list(e.at_), at_))
            ) AS ranks
            FROM ({_entries()}) AS e
            GROUP BY e.item_
        ) AS s
        WHERE {CHECKED}
        ORDER BY score DESC, s.item_id
        LIMIT k
        """
    meaning = (
        f"Several rankings as one: an item scores 1 / ({RANK_CONSTANT} + rank) in each, and the scores are added. "
        "rankings is a list of lists of item_id, the nearest first; NULL is an empty one. The first "
        f"{DEPTH} of each count, or k where that is more. ranks has the rank in each, NULL where an item is not in it."
    )
    return Macro("fused", ["rankings", ("k", "10")], body, meaning, EXAMPLE)


def _whole_k() -> str:
    return whole_given(CALLED, "k", "k is a whole number, or NULL for all")


def _entries() -> str:
    """A row for each entry: its item, its rank, and which of how many rankings it is in."""
    told = literal(f"{CALLED}: expected a list of rankings, each a list of item_id, got ")
    faults = {
        "g.lists_ IS NULL OR list_count(g.lists_) <> list_count(TRY_CAST(g.given_ AS VARCHAR[]))": (
            f"{told} || typeof(g.given_)"
        ),
        "g.lists_::DOUBLE[][] IS DISTINCT FROM TRY_CAST(g.given_ AS DOUBLE[][])": literal(
            f"{CALLED}: a ranking holds a number that is not whole"
        ),
        "list_count(flatten(g.lists_)) < len(flatten(g.lists_))": literal(
            f"{CALLED}: a ranking holds NULL, or what is no id"
        ),
        "len(list_filter(g.lists_, lambda l_: len(l_) > list_unique(l_))) > 0": literal(
            f"{CALLED}: a ranking holds an item twice"
        ),
    }
    cases = " ".join(f"WHEN {fault} THEN {DIALECT.error(message)}" for fault, message in faults.items())
    return f"""
        SELECT
            o.at_, o.rankings_, unnest(o.one_) AS item_, unnest(range(1, len(o.one_) + 1)) AS rank_
        FROM (
            SELECT
                a.at_, len(a.lists_) AS rankings_,
                a.lists_[a.at_][1 : CASE WHEN a.k_ IS NULL THEN len(a.lists_[a.at_]) ELSE greatest(a.k_, {DEPTH}) END]
                AS one_
            FROM (
                SELECT c.lists_, c.k_, unnest(range(1, len(c.lists_) + 1)) AS at_
                FROM (
                    SELECT n.whole_ AS k_, CASE {cases} ELSE g.lists_ END AS lists_
                    FROM ({_whole_k()}) AS n, (
                        SELECT r.given_, TRY_CAST(r.given_ AS BIGINT[][]) AS lists_
                        FROM (SELECT rankings AS given_) AS r
                        WHERE r.given_ IS NOT NULL
                    ) AS g
                ) AS c
            ) AS a
        ) AS o
        """
