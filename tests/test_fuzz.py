"""Whatever a user passes, what comes back is an answer or an `XmrError`, and no value ever becomes SQL.

`XMR_FUZZ=10000 pytest tests/test_fuzz.py` tries as many cases; without it, a few hundred, the same ones each time.
"""

from __future__ import annotations

import datetime
import decimal
import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import xmr_core as xmr
from xmr_core.registry import default

CASES = int(os.environ.get("XMR_FUZZ", "0"))
TESTS = 8  # that share the cases
few = settings(
    max_examples=CASES // TESTS or 25,
    derandomize=not CASES,
    database=None,
    deadline=None,
    phases=[Phase.generate],  # an example that fails is small as it is, and making it smaller takes minutes
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)

SQL = [
    "'; DROP TABLE precious; --",
    "x' OR 1=1; DELETE FROM precious; --",
    "') ; DROP TABLE precious; --",
    '"; DROP TABLE precious; --',
    "1; DROP TABLE precious",
    "(SELECT 1); INSERT INTO precious VALUES (9)",
    "$1",
    "?",
    "{}",
    "%s",
    "read_csv('/etc/passwd')",
    "getenv('HOME')",
    "key = 'a' UNION SELECT 1",
]
TEXT = st.one_of(
    st.text(st.characters(), max_size=20),  # lone surrogates too
    st.text(st.characters(categories=["Cs", "Cc", "Cf", "Zl"]), min_size=1, max_size=5),
    st.sampled_from(SQL),
    st.sampled_from(["", " ", "\0", "a\0b", "x" * 300, "x" * 5000, "..", "/", "/dev/zero", "a/b", "~", "near", "key"]),
)
NUMBER = st.one_of(
    st.integers(),
    st.sampled_from([-1, 0, 1, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 10**400]),
    st.floats(),
    st.booleans(),
    st.decimals(),
    st.sampled_from([np.int8(3), np.uint64(2**64 - 1), np.float16("nan"), np.bool_(True), np.str_("a"), 1 + 2j]),
)
OTHER = st.one_of(
    st.none(),
    st.binary(max_size=20),
    st.dates(),
    st.datetimes(timezones=st.none() | st.just(datetime.UTC)),
    st.timedeltas(),
    st.just(object()),
    st.just(np.datetime64("NaT")),
    st.just(np.zeros((2, 2))),
    st.just(np.array(["a", None], object)),
    st.just(Path("x" * 300)),
    st.just(decimal.Decimal("sNaN")),
    st.just(Exception),
    st.just(iter(())),
)
FLAT = st.one_of(TEXT, NUMBER, OTHER)
ANYTHING = st.one_of(
    FLAT,
    st.lists(FLAT, max_size=3),
    st.tuples(FLAT),
    st.sets(st.integers() | st.text(max_size=3), max_size=3),
    st.dictionaries(TEXT, FLAT, max_size=2),
    st.lists(st.lists(FLAT, max_size=2), max_size=2),
)

VECTORS = np.eye(4, dtype=np.float32)
FULL = 150  # operations on a library before a fresh one is made: each new column of metadata makes the next one slower


class Place:
    """A folder with a library in it, and beside the library's own tables one of the user's, which must survive."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number, self.used = folder, itertools.count(), FULL
        self._db: xmr.Library | None = None

    @property
    def db(self) -> xmr.Library:
        """The library; a fresh one where it was used for long."""
        if self._db is None or self.used >= FULL:
            self.close()
            self._db, self.used = xmr.open(self.folder / f"fuzz{next(self.number)}.duckdb", progress=False), 0
            self._db.add(xmr.Items("text", VECTORS, list("abcd"), metadata={"owner": ["me", "you", "me", "you"]}))
            self._db.fit("precomputed(dim=4) >> flat", name="near")
            self._db.sql("CREATE TABLE precious AS SELECT unnest([1, 2, 3]) AS x")
        self.used += 1
        return self._db

    def close(self) -> None:
        """Close the library."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def tries(self, *attempts: Callable[[xmr.Library], object]) -> None:
        """Each attempt succeeds or raises an XmrError; then the user's table is as it was, and the library answers."""
        db = self.db
        for attempt in attempts:
            try:
                repr(attempt(db))
            except xmr.XmrError as error:
                assert str(error).strip()
        assert db.sql("SELECT list(x ORDER BY x) FROM precious").fetchall() == [([1, 2, 3],)]
        assert db.search(vector=VECTORS[0], space="near", k=1, modality="text").ids.shape == (1, 1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("fuzz"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made.folder)
        yield made
    made.close()


@given(value=ANYTHING, column=TEXT)
@few
def test_conditions(place: Place, value: Any, column: str) -> None:
    def search(where: Any) -> Callable[[xmr.Library], object]:
        return lambda db: db.search(vector=VECTORS[0], space="near", k=2, where=where)

    place.tries(search(value), search(("owner = ?", [value])), search({"owner": value}), search({column: value}))
    place.tries(search(f"owner = '{column}"), search((column, value)), lambda db: db.delete(where={column: value}))


@given(key=ANYTHING, value=ANYTHING, other=ANYTHING, column=TEXT)
@few
def test_keys_metadata_and_columns(place: Place, key: Any, value: Any, other: Any, column: str) -> None:
    place.tries(
        lambda db: db.add([{"text": "a dog", "key": key, "owner": value}], encode=False),
        lambda db: db.add([{"text": value, column: other}], encode=False, on_error="skip"),
        lambda db: db.add(xmr.Items("text", ["one", "two"], ["k1", "k2"], metadata={column: [value, other]})),
        lambda db: db.add(xmr.Items("image", [value], [column])),
        lambda db: db.add({"text": [value, other], column: [1, 2]}),
    )


@given(value=ANYTHING, other=ANYTHING)
@few
def test_numbers_and_queries(place: Place, value: Any, other: Any) -> None:
    def search(**options: Any) -> Callable[[xmr.Library], object]:
        return lambda db: db.search(**{"vector": VECTORS[0], "space": "near", **options})

    place.tries(search(k=value), search(within=value), search(k=value, within=other), search(modality=value))
    place.tries(search(vector=value), search(vector=None, item=value), search(vector=None, text=value))
    place.tries(search(vector=None, image=value), search(rerank=value), lambda db: db.delete([value, other]))
    place.tries(
        lambda db: db.add_embeddings(value, "own", "flat"),
        lambda db: db.add_embeddings(VECTORS[:1], "near", ids=[value]),
    )


@given(name=ANYTHING, version=ANYTHING)
@few
def test_names_of_spaces(place: Place, name: Any, version: Any) -> None:
    place.tries(
        lambda db: db.search(vector=VECTORS[0], space=name),
        lambda db: db.search(vector=VECTORS[0], space=[name, "near"]),
        lambda db: db.publish(name, version),
        lambda db: db.publish("near", version),
        lambda db: db.drop(name, version) if not isinstance(name, str) or name != "near" else None,
        lambda db: db.space(name, version),
        lambda db: db.add_embeddings(VECTORS, name, "flat"),
        lambda db: db.fit("precomputed(dim=4) >> flat", name=name, publish=False),
    )


@given(value=ANYTHING, text=TEXT)
@few
def test_options_and_recipes(place: Place, value: Any, text: str) -> None:
    def make(component: Any, option: str) -> Callable[[xmr.Library], object]:
        return lambda _: component(**{option: value})

    for role in ("encoder", "fuser", "indexer"):
        for entry in default().entries(role):
            config = entry.component.Config
            place.tries(*(make(entry.component, option) for option in (config.__dataclass_fields__ if config else ())))
    place.tries(
        lambda _: xmr.Pipeline.parse(text),
        lambda _: xmr.Pipeline.parse(f"precomputed(dim={text}) >> flat"),
        lambda _: xmr.Pipeline.parse(f"precomputed({text}=4) >> pq(bytes={value!r})"),
    )


@given(options=st.recursive(FLAT, lambda inner: st.dictionaries(st.text(), inner), max_leaves=3), text=TEXT)
@few
def test_damaged_options(place: Place, options: Any, text: str) -> None:
    def search(damaged: str) -> Callable[[xmr.Library], object]:
        def attempt(db: xmr.Library) -> object:
            try:
                store(db, damaged)
                return db.search(vector=VECTORS[0], space="near", k=1)
            finally:
                store(db, '{"dim": 4, "metric": "cosine", "name": null}')

        return attempt

    def store(db: xmr.Library, plain: str) -> None:
        statement = "UPDATE xmr.parts SET options = $1 WHERE name = 'precomputed' AND space = 'near'"
        db.store.execute(statement, [plain])  # type: ignore[attr-defined]
        db._session.forget()

    place.tries(
        search(json.dumps(options, default=str)), search(json.dumps({"dim": options}, default=str)), search(text)
    )


@given(content=st.binary(max_size=200) | TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")), name=TEXT)
@few
def test_files(place: Place, content: bytes, name: str) -> None:
    files = []
    for suffix in (".csv", ".json", ".jsonl", ".parquet", ".tsv", ".arrow", ".tar", ".png", ".duckdb"):
        file = place.folder / f"data{suffix}"
        file.write_bytes(b"text,owner\n" + content if suffix == ".csv" else content)
        files.append(file)
    (place.folder / "out").mkdir(exist_ok=True)
    (place.folder / "out" / "library.json").write_bytes(content)
    place.tries(*(lambda db, file=file: db.add(file, encode=False, on_error="skip") for file in files))
    place.tries(*(lambda db, end=end: db.add(name + end, encode=False) for end in ("", ".csv", ".png")))
    place.tries(
        lambda _: xmr.open(files[-1], read_only=True).close(),
        lambda db: db.restore(place.folder / "out"),
        lambda db: db.restore(name),
        lambda db: db.search(vector=None, image=files[-2], space="near"),
        lambda db: db.export(place.folder / "out" / name) if name.strip("./~") else None,
    )


@given(value=ANYTHING)
@few
def test_parameters_of_statements(place: Place, value: Any) -> None:
    place.tries(
        lambda db: db.sql("SELECT count(*) FROM precious WHERE CAST(x AS VARCHAR) = CAST($1 AS VARCHAR)", [value]),
        lambda db: db.sql("SELECT item_id FROM xmr.catalog WHERE key = $key", {"key": value}),
        lambda db: db.sql("SELECT 1", value),
        lambda db: db.store.get_codes("near", 1, str(value)),
    )
