"""Indexes keep up with what a library holds: no build for a change, none after reopening, nothing left over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("hnswlib", reason="the graph is an extra")

import xmr_core as xmr
from xmr_core.library import rebuilding, warming
from xmr_core.library.indexes import differences
from xmr_core.library.library import Library
from xmr_core.search import layered
from xmr_core.testing import clustered
from xmr_hnsw import Hnsw
from xmr_storage.duckdb.connection import DuckDBConnection

N, DIM, K = 1500, 16, 10
POINTS = clustered("l2", 2 * N, DIM, 60).values
MANY = POINTS[: 2 * warming.SCANNED]  # queries, enough for a saved graph to be loaded


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "graph.duckdb"


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many codes each graph was built over, from here on."""
    noted: list[int] = []
    build = Hnsw.build

    def counted(self: Hnsw, codes: xmr.Codes) -> xmr.Index:
        noted.append(len(codes))
        return build(self, codes)

    monkeypatch.setattr(Hnsw, "build", counted)
    return noted


@pytest.fixture
def built(file: Path, builds: list[int]) -> Path:
    """The file of a library with a graph that was built and saved."""
    with opened(file) as db:
        db.add_embeddings(POINTS[:N], "s", "hnsw(m=8)", ids=np.arange(N))
        db.search(vector=MANY, space="s")
    assert builds == [N]
    builds.clear()
    return file


def opened(file: Path, **options: Any) -> Library:
    return xmr.open(file, progress=False, **options)


def found(db: Library, queries: NDArray[np.float32] = MANY, **options: Any) -> NDArray[np.int64]:
    return db.search(vector=queries, space="s", k=K, **options).ids


def folder(file: Path) -> Path:
    return Path(f"{file}.xmr") / "indexes"


def wait(db: Library) -> None:
    """Until nothing is built in the background."""
    db.search(vector=POINTS[:1], space="s")
    for kept in db.space("s").indexes._kept.values():
        for _ in range(600):
            if kept.rebuilding is None or kept.rebuilding.done:
                break
            time.sleep(0.05)
        assert kept.rebuilding is None or kept.rebuilding.done


# changes


def test_one_more_and_one_less_take_no_build(built: Path, builds: list[int]) -> None:
    with opened(built) as db:
        found(db)
        (new,) = db.add_embeddings(POINTS[N : N + 1], "s")
        assert db.search(vector=POINTS[N], space="s", k=1).ids[0, 0] == new
        db.delete([new, 3])
        assert not {new, 3} & set(found(db, POINTS[[N, 3]]).ravel().tolist())
        assert found(db, exact=True).tolist() == found(db, exact=True).tolist()
    assert builds == []


def test_a_reopened_library_has_what_came_and_not_what_went_and_builds_nothing(
    built: Path, builds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(built) as db:
        (new,) = db.add_embeddings(POINTS[N : N + 1], "s")
        db.delete([7])
    with opened(built) as db:
        read: list[object] = []
        get_codes = type(db.store).get_codes
        monkeypatch.setattr(
            type(db.store), "get_codes", lambda self, *given: read.append(given[3]) or get_codes(self, *given)
        )
        for queries in (POINTS[[N, 7]], np.concatenate([POINTS[[N, 7]], MANY])):  # by the scan, then by the graph
            ids = found(db, queries)
            assert ids[0, 0] == new
            assert 7 not in ids
        assert [None if ids is None else len(ids) for ids in read] == [1]  # type: ignore[arg-type]  # ids
    assert builds == []


def test_the_first_queries_are_scanned_and_then_the_saved_graph_answers(built: Path) -> None:
    with opened(built) as db:
        first = db.search(vector=POINTS[:1], space="s", k=K)
        assert first.exact
        assert not db.search(vector=MANY, space="s", k=K).exact
        assert not db.search(vector=POINTS[:1], space="s", k=K).exact


@pytest.mark.parametrize("recipe", ["flat", "hnsw(m=8)", "lsh(tables=4, planes=3)", "pq(bytes=4)", "kdtree"])
def test_any_history_of_changes_and_reopenings_is_searched_as_if_built_at_once(recipe: str, file: Path) -> None:
    rng, rows = np.random.default_rng(3), {number: number for number in range(300)}
    db = opened(file)
    db.add_embeddings(POINTS[:300], "s", recipe, ids=np.arange(300))
    for step in range(14):
        what = ["add", "add", "between", "delete", "reopen", "search"][rng.integers(6)]
        if what == "add" or what == "between":
            free = np.setdiff1d(np.arange(2000), list(rows)) if what == "between" else max(rows) + 1 + np.arange(50)
            new = np.sort(rng.choice(free, rng.choice([1, 30]), replace=False))
            made = rng.integers(300, len(POINTS), len(new))
            db.add_embeddings(POINTS[made], "s", ids=new)
            rows |= dict(zip(new.tolist(), made.tolist(), strict=True))
        elif what == "delete":
            gone = rng.choice(list(rows), 20, replace=False).tolist()
            assert db.delete(gone) == 20
            rows = {number: row for number, row in rows.items() if number not in gone}
        elif what == "reopen":
            db.close()
            db = opened(file)
        hits, truth = found(db), found(db, exact=True)
        assert set(hits.ravel().tolist()) <= set(rows), f"step {step}: {what}"
        own = [len(np.intersect1d(a, b)) for a, b in zip(hits, truth, strict=True)]
        assert np.mean(own) >= 0.9 * K, f"step {step}: {what}"
        some = np.array(sorted(rows))[::3]
        among = found(db, where=f"item_id IN ({', '.join(map(str, some))})")
        assert np.isin(among, some).all(), f"step {step}: {what}"
    db.close()


def test_another_handle_sees_the_change(built: Path, builds: list[int]) -> None:
    with opened(built) as db, opened(built) as other:
        found(db)
        (new,) = other.add_embeddings(POINTS[N : N + 1], "s")
        assert db.search(vector=POINTS[N], space="s", k=1).ids[0, 0] == new
        other.delete([new])
        assert new not in found(db, POINTS[[N]])
    assert builds == []


def test_where_the_store_cannot_tell_what_changed_it_is_found_by_comparing(
    built: Path, builds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(built) as db:
        found(db)
        monkeypatch.setattr(type(db.store), "changes", lambda *_: None)
        (new,) = db.add_embeddings(POINTS[N : N + 1], "s")
        db.delete([5])
        ids = found(db, POINTS[[N, 5]])
        assert ids[0, 0] == new
        assert 5 not in ids
    assert builds == []


def test_differences_are_what_came_changed_and_went() -> None:
    ids = np.array([1, 3, 5, 7])
    old = xmr.Codes.of_vectors(ids, POINTS[:4])
    new = xmr.Codes.of_vectors(np.array([0, 3, 5, 9]), POINTS[[4, 1, 5, 6]])
    came, went = differences(old, new)
    np.testing.assert_array_equal(came.ids, [0, 5, 9])
    np.testing.assert_array_equal(came.vectors, POINTS[[4, 5, 6]])
    np.testing.assert_array_equal(went, [1, 7])


# building again, in the background


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth is what counts, however small the collection."""
    monkeypatch.setattr(layered, "LEAST", 0)


@pytest.mark.usefixtures("impatient")
def test_past_a_tenth_it_is_built_again_and_saved_while_the_old_one_answers(built: Path, builds: list[int]) -> None:
    with opened(built) as db:
        found(db)
        new = db.add_embeddings(POINTS[N : N + 200], "s")
        assert found(db, POINTS[N : N + 20])[:, 0].tolist() == new[:20].tolist()
        db.delete(new[:5])  # while it is built
        wait(db)
        assert not set(new[:5].tolist()) & set(found(db, POINTS[N : N + 20]).ravel().tolist())
        assert db.space("s").indexes._kept["image", False].index.behind <= 5
    assert builds == [N + 200]
    with opened(built) as db:
        ids = found(db, np.concatenate([POINTS[N : N + 20], MANY]))
        assert ids[5:20, 0].tolist() == new[5:20].tolist()
        assert not set(new[:5].tolist()) & set(ids.ravel().tolist())
    assert builds == [N + 200]


@pytest.mark.usefixtures("impatient")
def test_a_failure_in_the_background_is_told_and_searching_goes_on(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> xmr.Index:
        raise MemoryError("no room for a graph")

    with opened(built) as db:
        found(db)
        monkeypatch.setattr(Hnsw, "build", fails)
        new = db.add_embeddings(POINTS[N : N + 200], "s")
        with pytest.warns(RuntimeWarning, match="no room for a graph"):
            wait(db)
            ids = found(db, POINTS[N : N + 20])
        assert ids[:, 0].tolist() == new[:20].tolist()
        db.add_embeddings(POINTS[N + 200 : N + 201], "s")
        assert found(db, POINTS[N : N + 20])[:, 0].tolist() == new[:20].tolist()  # and it is not tried at once again


@pytest.mark.usefixtures("impatient")
def test_closing_ends_a_build_and_nothing_is_written_after_it(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xmr_hnsw.ADDED", 1)  # so many steps that it is not done in time
    db = opened(built)
    found(db)
    db.add_embeddings(POINTS[N : N + 200], "s")
    db.search(vector=POINTS[:1], space="s")
    (running,) = [kept.rebuilding for kept in db.space("s").indexes._kept.values()]
    assert running is not None
    db.close()
    assert running.done
    assert running.index is None
    before = sorted(path.stat().st_mtime_ns for path in folder(built).rglob("*"))
    time.sleep(0.2)
    assert sorted(path.stat().st_mtime_ns for path in folder(built).rglob("*")) == before


def test_a_build_without_steps_is_left_to_itself_and_its_index_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding, "PATIENCE", 0.05)
    kept: list[xmr.Index] = []

    def slow() -> xmr.Index:
        time.sleep(0.3)
        return None  # type: ignore[return-value]  # no index is needed here

    begun = rebuilding.Rebuilding(slow, lambda index, wanted: kept.append(index))
    begun.stop()
    assert not begun.done
    time.sleep(0.5)
    assert begun.done
    assert kept == []


# what lies beside the database


def damaged(path: Path, rng: np.random.Generator) -> Iterator[None]:
    """The file cut short, empty, gone, and with single bits flipped; whole again between them."""
    whole = path.read_bytes()
    for cut in (0, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        yield
    for place in rng.integers(0, len(whole), 4).tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << int(rng.integers(8))]) + whole[place + 1 :])
        yield
    path.unlink()
    yield
    path.write_bytes(whole)


@pytest.mark.parametrize(
    "name", ["about.json", "ids", "values", "index/about.json", "index/graph.bin", "index/groups.npz"]
)
def test_a_damaged_cache_is_built_again_and_never_believed(name: str, built: Path, tmp_path: Path) -> None:
    (place,) = folder(built).iterdir()
    with opened(built, read_only=True) as db:
        want = found(db)
    for _ in damaged(place / name, np.random.default_rng(0)):
        with opened(built, read_only=True) as db:
            assert found(db).tolist() == want.tolist()
            assert found(db).tolist() == want.tolist()


def test_a_damaged_cache_is_replaced(built: Path, builds: list[int]) -> None:
    (place,) = folder(built).iterdir()
    for name in ("index/graph.bin", "values"):
        (place / name).write_bytes(b"nothing")
        for expected in ([N], []):
            builds.clear()
            with opened(built) as db:
                found(db)
            assert builds == expected


def test_what_belongs_to_no_space_is_removed_when_a_library_is_opened_for_writing(built: Path) -> None:
    (kept,) = folder(built).iterdir()
    strange = ("0123456789ab-cdef.half", "s_v1_image_0123456789abcdef", "gone_v2_image", "s_v2_text")
    for name in strange:
        (folder(built) / name / "index").mkdir(parents=True)
    (folder(built) / "gone_v2_image" / "about.json").write_text("{}")
    with opened(built, read_only=True):
        assert len(list(folder(built).iterdir())) == 1 + len(strange)
    with opened(built):
        assert list(folder(built).iterdir()) == [kept]


def test_the_graph_of_a_dropped_space_is_removed(built: Path) -> None:
    with opened(built) as db:
        found(db)
        db.drop("s")
        assert not folder(built).exists()


def test_a_space_of_the_same_name_does_not_take_the_graph_of_the_one_before(built: Path, builds: list[int]) -> None:
    with opened(built) as db:
        db.drop("s")
    with opened(built) as db:
        db.add_embeddings(POINTS[N:], "s", "hnsw(m=8)", ids=np.arange(N))
        assert found(db, POINTS[N : N + 20])[:, 0].tolist() == list(range(20))
    assert builds == [N]


def test_a_copy_that_was_changed_in_another_way_does_not_believe_the_graph_of_the_first(
    built: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.duckdb"
    copy.write_bytes(built.read_bytes())
    with opened(copy) as db:
        db.delete([0, 1, 2])
        new = db.add_embeddings(POINTS[N : N + 3], "s")
    with opened(built) as db:
        db.add_embeddings(POINTS[N + 10 : N + 30], "s")
        found(db)
    for path in folder(built).rglob("*"):  # the folder of the first beside the copy
        target = folder(copy) / path.relative_to(folder(built))
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            target.write_bytes(path.read_bytes())
    with opened(copy) as db:
        ids = found(db, np.concatenate([POINTS[N : N + 3], POINTS[:3], MANY]))
        assert ids[:3, 0].tolist() == new.tolist()
        assert not {0, 1, 2} & set(ids.ravel().tolist())


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the database is asked, from here on."""
    noted: list[str] = []
    execute = DuckDBConnection.execute

    def counted(self: DuckDBConnection, query: str, parameters: Any = None) -> Any:
        noted.append(" ".join(query.split()))
        return execute(self, query, parameters)

    monkeypatch.setattr(DuckDBConnection, "execute", counted)
    return noted


@pytest.mark.parametrize("spaces", [1, 3])
def test_a_change_of_one_item_reads_spaces_once(file: Path, statements: list[str], spaces: int) -> None:
    with opened(file) as db:
        rows = [{"key": str(n), "text": f"text {n}", "vector": POINTS[n]} for n in range(40)]
        db.add(rows[:30], vectors={"v": (None, "vector")})
        for number in range(spaces):
            db.fit('precomputed(name="v", metric="l2") >> flat', name=f"s{number}")
        db.search(vector=POINTS[:1], space="s0", modality="text")
        for change in (lambda: db.add(rows[30:31], vectors={"v": (None, "vector")}), lambda: db.delete([30])):
            statements.clear()
            change()
            db.search(vector=POINTS[:1], space="s0", modality="text")
            assert sum("FROM xmr.spaces" in query for query in statements) <= 2
            assert len(statements) <= 16 + 8 * spaces


def test_spaces_are_read_again_after_any_change_of_them(file: Path) -> None:
    with opened(file) as one, opened(file) as other:
        one.add_embeddings(POINTS[:30], "s", "flat", ids=np.arange(30))
        assert [space.counts for space in other.store.spaces()] == [{"image": 30}]
        one.add_embeddings(POINTS[30:40], "s", ids=np.arange(30, 40))
        one.add_embeddings(POINTS[:5], "t", "flat", ids=np.arange(5))
        assert [space.counts for space in other.store.spaces()] == [{"image": 40}, {"image": 5}]
        other.store.connection.execute("UPDATE xmr.spaces SET recipe = 'mine' WHERE space = 't'")
        assert [space.recipe for space in one.store.spaces()][1] == "mine"
        with pytest.raises(ZeroDivisionError), one.store.transaction():
            one.drop("t")
            assert [space.name for space in one.store.spaces()] == ["s"]
            raise ZeroDivisionError
        assert [space.name for space in one.store.spaces()] == ["s", "t"]
