"""What `where=` becomes: a condition whose brackets and quotes are closed, and the values of its parameters."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest

from xmr_core import Condition, DataError
from xmr_core.search.condition import as_condition


def test_a_string_stays_as_it_is() -> None:
    assert as_condition("split = 'it''s ?'") == Condition("split = 'it''s ?'")
    assert as_condition("split = 'it''s ?'").sql == "split = 'it''s ?'"


def test_question_marks_are_numbered() -> None:
    made = as_condition(("owner = ? AND year > ?", ["anna", 2020]))
    assert (made.sql, made.values) == ("owner = $1 AND year > $2", ("anna", 2020))
    assert str(made) == "owner = $1 AND year > $2 [$1 = 'anna', $2 = 2020]"


def test_a_number_may_stand_twice() -> None:
    assert as_condition(("a = $1 OR b = $1", [3])).values == (3,)


def test_a_dict_means_equality_membership_and_missing() -> None:
    made = as_condition({"owner": "anna", "split": ["a", "b"], "x": None, 'q"': [1, None], "none": []})
    assert made.sql == (
        'catalog."owner" = $1 AND (catalog."split" IN ($2, $3)) AND catalog."x" IS NULL '
        'AND (catalog."q""" IN ($4) OR catalog."q""" IS NULL) AND (FALSE)'
    )
    assert made.values == ("anna", "a", "b", 1)


def test_values_of_numpy_are_pythons() -> None:
    made = Condition(
        "a = ? AND b = ? AND c = ANY(?)", (np.int64(3), np.datetime64("2024-02-01", "D"), np.array(["x", "y"]))
    )
    assert made.values[0] == 3
    assert type(made.values[0]) is int
    assert str(made.values[1]).startswith("2024-02-01")
    assert made.values[2] == ("x", "y")


def test_a_condition_is_hashable_and_knows_the_types_of_its_values() -> None:
    one, other = Condition("a = ?", (1,)), Condition("a = $1", (1,))
    assert one == other
    assert hash(one) == hash(other)
    assert len({one, Condition("a = ?", (True,)), Condition("a = ?", (1.0,)), Condition("a = ?", ((1,),))}) == 4


def test_a_set_has_one_order() -> None:
    assert as_condition({"a": {"z", "b", "m"}}).values == ("b", "m", "z")


def test_the_negation_keeps_a_comment_from_its_end() -> None:
    assert Condition("a = 1 -- x").negated().sql == "(a = 1 -- x\n) IS NOT TRUE"
    assert Condition("a = ?", (1,)).negated() == Condition("(a = ?) IS NOT TRUE", (1,))


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("owner = 'x') UNION ALL SELECT unnest(range(3)) WHERE (true", "closed that was not opened"),
        ("(true", "not closed"),
        ("a = 'b", "a quote is not closed"),
        ('"a = 1', "a quote is not closed"),
        ("true; DROP TABLE xmr.items", "without `;`"),
        ("/* a", "a comment is not closed"),
        ("/* /* */ true", "a comment holds another"),
        ("$$a$$ = b", "bind texts"),
        ("a = $name", "parameters as"),
        ("a = '\0'", None),
        ("a = \0", "NUL"),
        ("a = ?", "1 parameters and 0 values"),
        (("a = ?", []), "1 parameters and 0 values"),
        (("a = $2", [1, 2]), "use each"),
        (("a = ? OR b = $1", [1]), "all as"),
        (("a = ?", "x"), "expected a SQL condition"),
        (("a = ?", [object()]), "expected texts, numbers or dates"),
        (("a = ?", [[[1]]]), "expected lists of values"),
        (("a = ?", ["\ud800"]), "not valid Unicode"),
        (("a = ?", [1 << 200]), "more than 128 bits"),
        ({}, "at least one column"),
        ({"": 1}, "names of columns"),
        ({"a": {"b": 1}}, "expected texts, numbers or dates"),
        ("", "expected a SQL condition"),
        (5, "expected a SQL condition"),
        ("\ud800", "expected a SQL condition"),
    ],
)
def test_what_is_no_condition_is_refused(where: Any, says: str | None) -> None:
    if says is None:
        as_condition(where)  # inside quotes it is the database's affair
        return
    with pytest.raises(DataError, match=says):
        as_condition(where)


@pytest.mark.parametrize(
    "sql", ["a LIKE'x\\' AND (b)", "E'\\')' = a", "a$1 = 'b' AND (c)", "\"(\" = ')'", "a -- ) ' \n OR b", "/* ( */ a"]
)
def test_brackets_and_quotes_within_quotes_names_and_comments_count_for_nothing(sql: str) -> None:
    assert Condition(sql).sql == sql


def test_dates_are_values() -> None:
    assert Condition("day > ?", (date(2024, 1, 1),)).values == (date(2024, 1, 1),)
