"""Files of rows as an Arrow table, by DuckDB's own readers: CSV, TSV, Parquet, JSON, JSON lines; Arrow by pyarrow.

Types of CSV are decided over all rows, not a sample: a column is BIGINT where every value is a whole number of 64 bits
(007 stays a text, so does a number of twenty digits), DOUBLE where every value is a number that a double holds, DATE
and TIMESTAMP where every value is one in ISO 8601. Only local files are read, and no extension is installed for it.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xmr_core.errors import DataError
from xmr_storage.quoting import quoted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

__all__ = ["read_table"]

DELIMITED = (".csv", ".tsv", ".txt")
JSON = (".json", ".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")
ARROW = (".arrow", ".feather", ".ipc", ".arrows")
WHOLE = r"-?(0|[1-9]\d{0,18})"
DECIMAL = r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?"
LONGEST = 15  # digits of a whole number that a double holds
OFFLINE: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}


def read_table(files: Sequence[Path]) -> pa.Table:
    """The rows of files of one kind and with the same columns, in their order. Raises DataError naming the file."""
    import duckdb
    import pyarrow as pa

    first, kind = files[0], _kind(files[0])
    if any(_kind(file) != kind for file in files):
        raise DataError(
            f"{first.name} and others: expected files of one kind, got {', '.join(f.name for f in files[:5])}"
        )
    try:
        if kind in ARROW:
            return pa.concat_tables([_arrow(file) for file in files])
        with duckdb.connect(":memory:", config=OFFLINE) as con:
            if kind in DELIMITED:
                return pa.concat_tables([_delimited(con, file) for file in files])
            names = [str(file) for file in files]
            reader = "read_parquet($1)" if kind in PARQUET else "read_json($1, maximum_object_size=1073741824)"
            return con.execute(f"FROM {reader}", [names]).to_arrow_table()
    except (duckdb.Error, pa.ArrowInvalid, OSError) as error:
        what = {**dict.fromkeys(PARQUET, "Parquet"), **dict.fromkeys(JSON, "JSON")}.get(kind, kind[1:].upper())
        line = " ".join(str(error).split())[:200]
        raise DataError(f"{first.name} cannot be read as {what}: {line}") from error


def _kind(file: Path) -> str:
    """The suffix that names the format, without that of a compression."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    return suffixes[-2] if len(suffixes) > 1 and suffixes[-1] in (".gz", ".zst") else suffixes[-1]


def _arrow(file: Path) -> pa.Table:
    from pyarrow import feather

    return feather.read_table(file)


def _delimited(con: duckdb.DuckDBPyConnection, file: Path) -> pa.Table:
    """A CSV or TSV file; TSV has no quotes, so that `"` is a character like others."""
    import duckdb
    import pyarrow as pa

    header, delimiter, quote = _header(file)
    if len(set(header)) < len(header):
        raise DataError(f"{file.name}: two columns have one name: {', '.join(header)}")
    if not header:
        return pa.table({})
    options = "header = true, all_varchar = true, strict_mode = true, auto_detect = false, max_line_size = 16777216"
    columns = ", ".join(f"{quoted(name)}: 'VARCHAR'" for name in header)
    read = f"read_csv($1, {options}, delim = $2, quote = $3, escape = $3, columns = {{{columns}}})"
    try:
        con.execute(f"CREATE OR REPLACE TEMP TABLE given AS FROM {read}", [str(file), delimiter, quote])
    except duckdb.Error as error:
        raise DataError(_fault(file, len(header), delimiter, quote, error)) from None
    return con.execute(f"SELECT {', '.join(_typed(con, name) for name in header)} FROM given").to_arrow_table()


def _header(file: Path) -> tuple[list[str], str, str]:
    """The names of the columns, and the characters that divide and quote fields."""
    opened = gzip.open if file.suffix.lower() == ".gz" else open
    try:
        with opened(file, "rt", encoding="utf-8-sig", newline="") as lines:
            line = next((line for line in lines if line.strip()), "")
    except UnicodeDecodeError:
        raise DataError(f"{file.name} cannot be read as {_kind(file)[1:].upper()} in UTF-8") from None
    if _kind(file) == ".tsv":
        return (line.rstrip("\r\n").split("\t") if line else []), "\t", ""
    delimiter = max(",;\t|", key=lambda candidate: (line.count(candidate), candidate == ","))
    return next(csv.reader([line], delimiter=delimiter), []), delimiter, '"'


def _typed(con: duckdb.DuckDBPyConnection, name: str) -> str:
    """An expression: the column as what all its values are; empty ones are NULL."""
    x = f"nullif({quoted(name)}, '')"
    checks = {
        "BIGINT": f"regexp_full_match({x}, '{WHOLE}') AND TRY_CAST({x} AS BIGINT) IS NOT NULL",
        "DOUBLE": f"regexp_full_match({x}, '{DECIMAL}') AND NOT regexp_full_match({x}, '-?\\d{{{LONGEST + 1},}}')",
        "DATE": f"regexp_full_match({x}, '\\d{{4}}-\\d{{2}}-\\d{{2}}') AND TRY_CAST({x} AS DATE) IS NOT NULL",
        "TIMESTAMP": rf"regexp_full_match({x}, '\d{{4}}-\d{{2}}-\d{{2}}[ T]\d{{2}}:\d{{2}}(:\d{{2}}(\.\d+)?)?') "
        f"AND TRY_CAST({x} AS TIMESTAMP) IS NOT NULL",
    }
    found = con.execute(f"SELECT {', '.join(f'bool_and({check})' for check in checks.values())} FROM given").fetchone()
    kind = next((kind for kind, all_are in zip(checks, found or (), strict=False) if all_are), "VARCHAR")
    return f"CAST({x} AS {kind}) AS {quoted(name)}"


def _fault(file: Path, width: int, delimiter: str, quote: str, error: Exception) -> str:
    """What is wrong with which row: DuckDB's own message fills a screen."""
    kind = _kind(file)[1:].upper()
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            for number, row in enumerate(_rows(lines, delimiter, quote)):
                if len(row) != width:
                    return f"{file.name}: row {number} has {len(row)} fields, the header {width}"
    except UnicodeDecodeError as broken:
        return f"{file.name} cannot be read as {kind} in UTF-8: {broken}"
    except csv.Error as broken:
        what = "a quote is opened and not closed, or closed too early"
        return f"{file.name}: line {_line(file, delimiter)}: {what} ({broken})"
    return f"{file.name} cannot be read as {kind}: {' '.join(str(error).split())[:200]}"


def _rows(lines: Iterator[str], delimiter: str, quote: str) -> Iterator[list[str]]:
    if not quote:
        yield from (row for row in csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE) if row)
    else:
        yield from (row for row in csv.reader(lines, delimiter=delimiter, strict=True) if row)


def _line(file: Path, delimiter: str) -> int:
    """The line on which the row begins that cannot be read."""
    last = 0
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            for _ in reader:
                last = reader.line_num
        except csv.Error:
            return last + 1
    return last
