"""Which conditions choose the same items as long as the items are the same: what they choose may then be kept.

It is decided on DuckDB's parse tree, by what is known to be safe: comparisons of columns, constants and parameters, and
functions whose value follows from their arguments. Whatever else a condition holds (a subquery, `random()`, a macro),
it is asked again each time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

__all__ = ["columns_read"]

CLASSES = frozenset(
    (
        "BETWEEN",
        "CASE",
        "CAST",
        "COLUMN_REF",
        "COMPARISON",
        "CONJUNCTION",
        "CONSTANT",
        "FUNCTION",
        "OPERATOR",
        "PARAMETER",
    )
)
FUNCTIONS = re.compile(
    r"""
    [-+*/%^|&<>@~!]+ | (not_)?i?like_escape | abs | ceil | floor | round | sign | sqrt | ln | log | log2 | log10 | exp
    | pow | mod | greatest | least | lower | upper | lcase | ucase | [lr]?trim | len | length | strlen | left | right
    | substr | substring | replace | reverse | concat | contains | starts_with | ends_with | prefix | suffix | instr
    | position | strpos | regexp_(full_match|matches|extract)
    | (list|array)_(contains|has|has_any|has_all|extract|value) | row | struct_extract | map_extract | element_at
    | cardinality | json_(contains|extract|extract_string|extract_path_text) | date_?part | date_trunc | strftime
    | strptime | year | quarter | month | week | day | dayofweek | dayofyear | hour | minute | second
    """,
    re.VERBOSE | re.IGNORECASE,
)
TABLE = "catalog"  # before the name of a column


def columns_read(nodes: Iterable[dict[str, Any]]) -> frozenset[str] | None:
    """The columns, in lower case, that alone decide what the condition of a parse tree chooses; None where something
    else may. `current_date` and its kind are parsed as columns: the caller knows which columns there are."""
    columns = set()
    for node in nodes:
        kind, function, names = node.get("class"), node.get("function_name"), node.get("column_names")
        if isinstance(kind, str) and kind not in CLASSES:
            return None
        if isinstance(function, str) and (kind != "FUNCTION" or not FUNCTIONS.fullmatch(function)):
            return None
        if isinstance(names, list) and names:
            first = names[1] if len(names) > 1 and str(names[0]).lower() == TABLE else names[0]
            columns.add(str(first).lower())
    return frozenset(columns)
