"""A space's figures: what they are over, beside chance, and kept in the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import xmr_core as xmr
from xmr_core.library import Library

pytestmark = pytest.mark.usefixtures("toy")


@pytest.fixture
def db(tmp_path: Path, pairs: xmr.Pairs) -> Iterator[Library]:
    with xmr.open(tmp_path / "colours.duckdb", progress=False) as library:
        library.add(pairs)
        library.fit("toy >> flat", name="toy")
        yield library


def test_labels_give_map_over_everything_but_the_queries(db: Library) -> None:
    made = db.evaluate(queries="key LIKE 'blue%'", database="true", measure="map")
    assert made.value("MAP", "image") == 1.0
    assert made.value("MAP", "text") == 1.0
    assert [(figure.n_queries, figure.n_database) for figure in made.figures] == [(1, 8), (2, 4)]
    # one relevant item among four in random order: (1 + 1/2 + 1/3 + 1/4) / 4
    assert made.figures[1].chance == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)


def test_the_default_queries_are_the_test_split(db: Library) -> None:
    made = db.evaluate()
    assert made.queries == "split = 'test'"
    assert made.database == "MAP: (split = 'test') IS NOT TRUE; R@K: split = 'test'"
    assert made.value("MAP", "image") == 0.0  # no colour of the test split is in the rest


def test_pairs_give_recall_within_the_split(db: Library) -> None:
    made = db.evaluate(measure="recall")
    assert made.value("R@1", "image") == 1.0
    assert made.value("median rank", "text") == 1.0
    assert {figure.n_database for figure in made.figures if figure.queries == "text"} == {2}
    assert made.figures[0].chance == pytest.approx(2 / 4)  # two of four sentences are true


def test_map_agrees_with_sklearn_on_a_ranking_without_ties(tmp_path: Path) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    images, texts = rng.normal(size=(30, 6)), rng.normal(size=(40, 6))
    labels = [rng.integers(0, 2, (n, 3)) for n in (30, 40)]
    sides = [
        xmr.Items(
            kind, values, metadata={"split": ["query" if i < 10 else "rest" for i in range(len(values))]}, labels=own
        )
        for kind, values, own in (("image", images, labels[0]), ("text", texts, labels[1]))
    ]
    with xmr.open(tmp_path / "r.duckdb", progress=False) as db:
        db.add(xmr.Pairs(*sides, np.zeros((0, 2)), ["a", "b", "c"]))
        db.fit("precomputed(dim=6) >> identity(metric='l2') >> flat", name="v", where="true")
        made = db.evaluate()
    relevant = labels[0][:10] @ labels[1][10:].T > 0
    distances = np.linalg.norm(images[:10, None] - texts[None, 10:], axis=2)
    scores = [
        metrics.average_precision_score(r, -d) if r.any() else 0 for r, d in zip(relevant, distances, strict=True)
    ]
    assert made.value("MAP", "image") == pytest.approx(np.mean(scores), abs=1e-6)


def test_figures_are_kept_with_all_that_explains_them(db: Library) -> None:
    made = db.evaluate(measure="recall")
    ((notes,),) = db.sql("SELECT DISTINCT notes FROM xmr.runs WHERE notes LIKE '%protocol%'").fetchall()
    assert json.loads(notes)["recipe"] == "toy >> flat"
    assert json.loads(notes)["seed"] == 0
    rows = db.sql("SELECT value FROM xmr.metrics WHERE name = 'R@1' ORDER BY what").fetchall()
    assert rows == [(made.value("R@1", "image"),), (made.value("R@1", "text"),)]
    assert "R@1" in str(made)
    assert "split = 'test'" in str(made)


def test_what_cannot_be_evaluated_says_why(db: Library, tmp_path: Path) -> None:
    with pytest.raises(xmr.DataError, match="no images where key = 'none'"):
        db.evaluate(queries="key = 'none'")
    with pytest.raises(xmr.ConfigError, match="must be one of map, recall"):
        db.evaluate(measure="accuracy")  # type: ignore[arg-type]
    with xmr.open(tmp_path / "bare.duckdb", progress=False) as bare:
        bare.add(xmr.Items("text", ["a red thing"]))
        bare.fit("toy >> flat", name="toy")
        with pytest.raises(xmr.DataError, match="which items are the queries"):
            bare.evaluate()


def test_recipes_are_compared_on_the_same_ground_and_fitted_once(db: Library) -> None:
    recipes = ["toy >> sign >> hamming", "toy >> flat"]
    first, second = db.compare(recipes), db.compare(recipes)
    assert [made.recipe for made in first] == recipes
    assert [made.version for made in second] == [1, 1]
    assert len(db.spaces()) == 2


def test_live_functions_answer_as_python_does(db: Library) -> None:
    import duckdb

    wanted = db.search(text="red or green", k=3).ids[0].tolist()
    assert [row[0] for row in db.sql("SELECT item_id FROM xmr.search('red or green', 3)").fetchall()] == wanted
    with duckdb.connect(db.store.url) as con:
        library = xmr.register(con)
        rows = con.execute(
            "SELECT s.item_id, i.key FROM xmr.search('red or green', 3) AS s JOIN xmr.items AS i USING (item_id)"
        ).fetchall()
        assert {row[0] for row in rows} == set(wanted)
        library.close()


def test_registering_wants_a_connection_with_a_library() -> None:
    import duckdb

    with pytest.raises(xmr.StorageError, match="register"):
        xmr.register("not a connection")
    with duckdb.connect() as con, pytest.raises(xmr.StorageError):
        xmr.register(con)


# figures that cannot mislead


def test_pairs_give_recall_beside_map(db: Library) -> None:
    made = db.evaluate()
    assert made.value("R@1", "image") == 1.0
    assert [figure.measure for figure in made.figures if figure.queries == "image"][:2] == ["MAP", "R@1"]


def test_it_says_that_no_query_was_trained_on(db: Library) -> None:
    made = db.evaluate()
    assert made.trained == 0
    assert "no query was in the training set" in str(made)


def test_it_says_how_many_queries_were_trained_on(db: Library) -> None:
    made = db.evaluate(queries="true", measure="recall")
    assert made.trained == 6  # red and green, with two captions each
    assert "TRAINED ON THE QUERIES: 6 of 12" in str(made)


def test_queries_are_left_out_of_the_fit_where_there_is_no_train_split(db: Library) -> None:
    db.sql("UPDATE xmr.metadata SET split = NULL WHERE split = 'train'")
    db.fit("toy >> flat", name="rest")
    made = db.evaluate("rest")
    assert made.trained == 0
    assert db.store.training_ids("rest", 1).tolist() == db.store.ids(where="split IS NULL").tolist()


def test_queries_without_a_true_item_in_the_database_are_counted(db: Library) -> None:
    made = db.evaluate(queries="true", database="key NOT LIKE 'red%'", measure="recall")
    assert made.outside == 3  # one image and two captions of red
    assert "3 of 12 queries have no true item in the database" in " ".join(made.remarks)


def test_a_version_that_is_dropped_forgets_what_it_was_fitted_on(db: Library) -> None:
    db.drop("toy")
    assert db.sql("SELECT count(*) FROM xmr.training").fetchall() == [(0,)]


def test_an_audit_is_kept_with_recall_time_and_bytes(db: Library) -> None:
    recalls = db.audit(k=2)
    rows = db.sql("SELECT what, name, value FROM xmr.metrics WHERE what LIKE 'audit%'").fetchall()
    kept = {(what, name): value for what, name, value in rows}
    assert {kept[f"audit {modality}", "recall@2"] for modality in recalls} == set(recalls.values())
    assert kept["audit image", "bytes"] == db.space("toy").record.code_layout.nbytes
    assert kept["audit text", "milliseconds"] > 0


def test_every_fit_leaves_a_run(db: Library) -> None:
    rows = db.sql("SELECT space, version, what, name FROM xmr.runs JOIN xmr.metrics USING (run_id)").fetchall()
    assert {("toy", 1, "fit", name) for name in ("seconds", "images", "texts")} <= set(rows)
