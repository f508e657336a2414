"""The tables of a library, declared once. SQLAlchemy writes their DDL, so that PostgreSQL can be given the same.

One table a space version for codes, one an extractor for features, and the columns of `metadata`, come as they are
needed; everything else is here. No primary keys: they slow ingest fivefold and fail under update in DuckDB; the store
keeps ids unique, and `doctor` checks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from sqlalchemy import REAL, BigInteger, Boolean, Column, Double, Integer, LargeBinary, MetaData, Table, Text
from sqlalchemy.dialects import registry
from sqlalchemy.schema import CreateTable

__all__ = ["FIRST", "FORMAT_VERSION", "LATER", "SCHEMA", "TABLES", "ddl"]

SCHEMA = "xmr"
FORMAT_VERSION = 2  # of everything below; a file of a higher one is refused, of a lower one migrated

_metadata = MetaData(schema=SCHEMA)


def _table(name: str, *columns: Column[object]) -> Table:
    return Table(name, _metadata, *columns)


def _text(name: str, nullable: bool = False) -> Column[object]:
    return Column(name, Text, nullable=nullable)


def _id(name: str) -> Column[object]:
    return Column(name, BigInteger, nullable=False, autoincrement=False)


def _int(name: str) -> Column[object]:
    return Column(name, Integer, nullable=False, autoincrement=False)


TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        # format_version, and whatever else the file says of itself
        _table("meta", _text("key"), _text("value")),
        # the formats that the file has had: when it got each, and from which version of xmr
        _table("migrations", _int("format"), _text("applied"), _text("xmr")),
        # one picture or sentence; source is a path, data the bytes of a file, content the sha256 of what it is
        _table(
            "items",
            _id("item_id"),
            _text("modality"),
            _text("key"),
            _text("content"),
            _text("source", nullable=True),
            _text("text", nullable=True),
            Column("data", LargeBinary, nullable=True),
        ),
        # which items came from a folder that is synced; the stamp tells that a file is as it was, "" tells nothing
        _table("sources", _text("source"), _id("item_id"), _text("stamp")),
        # the user's own columns, added as they come: split, license, width, ...
        _table("metadata", _id("item_id")),
        # which picture goes with which sentence
        _table("pairs", _id("image_id"), _id("text_id")),
        # the labels that hold
        _table("labels", _id("item_id"), _text("label")),
        # one fit of one recipe; codes lie in code_<space>_v<version>
        _table(
            "spaces",
            _text("space"),
            _int("version"),
            _text("recipe"),
            _text("fingerprint"),
            _text("metric"),
            _text("layout"),
            _int("dim"),
            _int("symbol_bits"),
            Column("seed", BigInteger, nullable=True),
            _text("created"),
            Column("published", Boolean, nullable=False),
        ),
        # how the codes of a space are laid out, and how SQL reads and compares them; JSON, NULL where it cannot
        _table("forms", _text("space"), _int("version"), _text("layout"), _text("form", nullable=True)),
        # the table of the vectors that the codes of a version were made of, where the library keeps them
        _table("encoded", _text("space"), _int("version"), _text("modality"), _text("vectors")),
        # where the fuser of a space looked: the weight of a region ("row,column") or a word of an item, by step
        _table(
            "attention",
            _id("item_id"),
            _text("space"),
            _int("version"),
            _int("step"),
            _int("position"),
            _text("token"),
            Column("weight", REAL, nullable=False),
        ),
        # the spaces that answer questions; their components are those of version 0 in parts and tensors
        _table(
            "answerers",
            _text("answerer"),
            _text("recipe"),
            _text("fingerprint"),
            Column("seed", BigInteger, nullable=False),
            _text("created"),
        ),
        # the items that a version of a space was fitted on
        _table("training", _text("space"), _int("version"), _id("item_id")),
        # the components of a space, in order; options are JSON
        _table(
            "parts",
            _text("space"),
            _int("version"),
            _int("position"),
            _text("role"),
            _text("name"),
            _text("options"),
            _int("state_version"),
            _text("fingerprint"),
        ),
        # the distributions that they came from, and those that they name in their options
        _table(
            "providers",
            _text("space"),
            _int("version"),
            _int("position"),
            _text("role"),
            _text("component"),
            _text("distribution"),
            _text("release"),
        ),
        # their states: arrays, little-endian, row-major; shape is JSON
        _table(
            "tensors",
            _text("space"),
            _int("version"),
            _int("position"),
            _text("name"),
            _text("dtype"),
            _text("shape"),
            Column("data", LargeBinary, nullable=False),
        ),
        # what each revision changed: codes of a version whose ids lie between two, or are gone; a row of no space says
        # what concerns all of them, one of no ids that anything may have changed (see history.py)
        _table(
            "changes",
            Column("revision", BigInteger, nullable=False, autoincrement=False),
            _text("space"),
            _int("version"),
            _text("modality"),
            Column("first_id", BigInteger, nullable=True),
            Column("last_id", BigInteger, nullable=True),
            Column("removed", Boolean, nullable=False),
        ),
        # a fit or an evaluation; notes are JSON: seed, split, protocol, versions
        _table("runs", _text("run_id"), _text("space"), _int("version"), _text("notes"), _text("created")),
        # the figures of a run
        _table("metrics", _text("run_id"), _text("what"), _int("step"), _text("name"), Column("value", Double)),
    )
}

FIRST = {"meta", "items", "metadata", "pairs", "labels", "spaces", "parts", "tensors", "runs", "metrics"}
LATER = TABLES.keys() - FIRST  # what older files lack, and can be read without


def ddl(present: Collection[str] = (), dialect: str = "postgresql", schemas: bool = True) -> Iterator[str]:
    """The statements that make the schema, in order, but for the tables that are there."""
    speaks = registry.load(dialect)()
    if schemas:
        yield f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"
    for table in (table for name, table in TABLES.items() if name not in present):
        yield str(CreateTable(table).compile(dialect=speaks)).strip()
