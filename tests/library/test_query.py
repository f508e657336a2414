"""One query is encoded once, whichever way it is asked and however many steps of a search read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

import xmr_core as xmr
from xmr_core.library.query import Asked
from xmr_core.registry import default

pytestmark = pytest.mark.usefixtures("toy")


@pytest.fixture
def db(tmp_path: Path, pairs: xmr.Pairs) -> Iterator[xmr.Library]:
    """A space that looks at four regions of an image and can restore, and one of plain vectors."""
    with xmr.open(tmp_path / "asked.duckdb", progress=False) as library:
        library.add(pairs)
        library.fit("gaze >> mirror >> flat", name="looking")
        library.fit("costly >> flat", name="plain")
        yield library


def encoded(encoder: str, what: Callable[[], object]) -> int:
    """How many items an encoder of the toy plugin encodes meanwhile."""
    counter: Any = default().find("encoder", encoder)
    before: int = counter.encoded
    what()
    after: int = counter.encoded
    return after - before


@pytest.mark.parametrize("asked", [{}, {"rerank": 3}, {"explain": True}, {"rerank": 3, "explain": True}], ids=str)
def test_an_image_is_encoded_once(db: xmr.Library, pictures: list[Path], asked: dict[str, Any]) -> None:
    assert encoded("patches", lambda: db.search(image=pictures[1], k=2, space="looking", **asked)) == 1


@pytest.mark.parametrize("asked", [{}, {"rerank": 3}], ids=str)
def test_a_text_is_encoded_once(db: xmr.Library, asked: dict[str, Any]) -> None:
    assert encoded("costly", lambda: db.search(text="a red thing", k=2, space="plain", **asked)) == 1


def test_a_text_is_encoded_once_from_sql(db: xmr.Library) -> None:
    statement = "SELECT * FROM xmr.search('a red thing', 2, space := 'plain')"
    assert encoded("costly", lambda: db.sql(statement).fetchall()) == 1


def test_a_text_is_encoded_once_from_a_connection_of_the_users(db: xmr.Library) -> None:
    with duckdb.connect(db.store.url) as connection:
        db.register(connection)
        statement = "FROM xmr.search('a red thing', 2, space := 'plain')"
        assert encoded("costly", lambda: connection.execute(statement).fetchall()) == 1


@pytest.mark.parametrize("asked", [{}, {"rerank": 3, "explain": True}], ids=str)
def test_a_stored_item_is_not_encoded_again(db: xmr.Library, asked: dict[str, Any]) -> None:
    item = int(db.store.ids("image")[0])
    assert encoded("patches", lambda: db.search(item=item, k=2, space="looking", **asked)) == 0


def test_every_way_of_asking_finds_the_same(db: xmr.Library, pictures: list[Path]) -> None:
    plain = db.search(image=pictures, k=3, space="looking")
    item = db.search(item=int(db.store.ids("image")[0]), k=3, space="looking", explain=True)
    vector = db.search(vector=db.encode(image=pictures, space="looking"), k=3, modality="text", space="looking")
    whole = db.search(image=pictures, k=3, space="looking", explain=True, rerank=8)
    np.testing.assert_array_equal(plain.ids, whole.ids)
    np.testing.assert_array_equal(plain.ids, vector.ids)
    np.testing.assert_array_equal(plain.ids[:1], item.ids)
    assert (len(plain.attention), len(whole.attention)) == (0, len(pictures))


def test_many_queries_are_encoded_in_blocks_and_once(
    db: xmr.Library, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = db.search(image=pictures, k=3, space="looking", rerank=4, explain=True)
    monkeypatch.setattr("xmr_core.progress.FIRST", 1)
    monkeypatch.setattr("xmr_core.progress.BLOCK_BYTES", 1)
    found: list[xmr.Results] = []
    count = encoded(
        "patches", lambda: found.append(db.search(image=pictures, k=3, space="looking", rerank=4, explain=True))
    )
    assert count == len(pictures)
    np.testing.assert_array_equal(found[0].ids, whole.ids)
    assert [seen.key for seen in found[0].attention] == [seen.key for seen in whole.attention]


def test_without_explain_features_are_let_go(db: xmr.Library) -> None:
    asked = Asked(db.space("plain").pipeline, xmr.Items("text", ["a", "b"]))
    assert len(asked.embeddings) == 2
    assert not {"features", "inputs"} & set(vars(asked))


def test_what_was_encoded_cannot_be_reranked(db: xmr.Library) -> None:
    with pytest.raises(xmr.DataError, match="not what was encoded from it"):
        db.search(vector=db.encode(text="red", space="plain"), k=1, modality="image", space="plain", rerank=2)
