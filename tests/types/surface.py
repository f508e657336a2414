"""What a user's type checker knows. Nothing here is run: mypy reads it, and an error that is expected must be one.

Each `type: ignore` names the error of a mistake; where that is no error, mypy says that the comment is unused.
"""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import xmr_core as xmr
from xmr_core.registry import default
from xmr_core.store import Store

db = xmr.open("photos.duckdb")


def searching() -> None:
    hits = db.search(text="a dog", k=np.int64(5))
    assert_type(hits, xmr.Results)
    assert_type(hits[0], xmr.Hit)
    assert_type(hits[:2], list[xmr.Hit])
    assert_type(hits[0].distance, float)
    assert_type(hits.ids, NDArray[np.int64])
    for hit in hits:
        assert_type(hit.key, str)
    db.search(image="dog.jpg")
    db.search(image=[Path("dog.jpg"), b"...", np.zeros((8, 8, 3), np.uint8)])
    db.search(item=np.int64(3), rerank=np.int64(100))
    db.search(vector=np.zeros((2, 8), np.float32))
    db.search(vector=[0.5, 0.25])
    db.search(vector=db.encode(text=["a dog", "a cat"]))
    db.search(image=3.5)  # type: ignore[arg-type]
    db.search(text=b"a dog")  # type: ignore[arg-type]
    db.search(text="a dog", k="ten")  # type: ignore[arg-type]
    db.search(text="a dog", item="red")  # type: ignore[arg-type]
    db.search(text="a dog", radius=3)  # type: ignore[call-arg]


def filling() -> None:
    added = db.add(xmr.datasets.flickr8k("Flickr8k"))
    assert_type(db.upsert("captions.csv", on_error="skip"), xmr.Added)
    assert_type(db.sync("photos", prefix="p/").removed, int)
    assert_type(added, xmr.Added)
    assert_type(added.skipped, dict[str, str])
    assert_type(db.delete(np.array([1, 2])), int)
    assert_type(db.add_embeddings([[0.5, 0.25]], "own", ids=[7]), NDArray[np.int64])
    db.delete("split = 'test'")  # type: ignore[arg-type]


def measuring() -> None:
    space = db.fit("cca >> flat")
    assert_type(space, xmr.Space)
    assert_type(space.pipeline, xmr.Pipeline)
    made = db.evaluate("hash", measure="map")
    assert_type(made, xmr.Evaluation)
    assert_type(made.figures[0], xmr.Figure)
    assert_type(made.value("MAP", "image"), float)
    db.evaluate("hash", measure="precision")  # type: ignore[arg-type]


def answering() -> None:
    answers = db.answer("dog.jpg", "what is it?")
    assert_type(answers, xmr.Answers)
    assert_type(answers[0], xmr.Answer)
    assert_type(answers[1:], list[xmr.Answer])


def looking_up() -> None:
    assert_type(default().find("encoder", "each"), type[xmr.Encoder])
    assert_type(default().find("fuser", "dcmh"), type[xmr.Fuser])
    assert_type(default().find("indexer", "pq"), type[xmr.Indexer])
    assert_type(default().find("answerer", "rdan"), type[xmr.Answerer])
    assert_type(default().find("store", "duckdb"), type[Store])
    default().find("embedder", "pq")  # type: ignore[call-overload]
