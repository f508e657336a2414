"""Packed bits in SQL: words, exclusive or, and counted bits; exact."""

from __future__ import annotations

from xmr_core.plugin import Layout
from xmr_core.sql import (
    Balance,
    Derive,
    QueryType,
    SqlForm,
    added,
    array,
    asked,
    code,
    differing_bits,
    number,
    pick,
    row,
)

__all__ = ["bit_form"]


def bit_form(bits: int) -> SqlForm:
    """How SQL compares codes of `Layout.bits`: a query is their words, the distance a count of differing bits."""
    words = [column.name for column in Layout.bits(bits).columns]
    same = {word: row(word) for word in words}
    return SqlForm(
        query=QueryType("words", len(words)),
        of_query=(Derive({word: pick(row("q"), number(j)) for j, word in enumerate(words)}),),
        of_code=(Derive(same),),
        as_query=(Derive({"value": array(*same.values())}),),
        distance=added(differing_bits(code(word), asked(word)) for word in words),
        balance=Balance("bits", tuple(words), bits),
    )
