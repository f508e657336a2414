"""Several handles of one file: they share one writer and one counter of ids, and each sees what the others did."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest

import xmr_core as xmr
from xmr_core import Library

pytestmark = pytest.mark.usefixtures("toy")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def texts(*keys: str) -> xmr.Items:
    return xmr.Items("text", [f"the colour {key}" for key in keys], list(keys))


def vectors(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 8)).astype(np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shared.duckdb"


@pytest.fixture
def one(path: Path) -> Iterator[Library]:
    with xmr.open(path, progress=False) as db:
        yield db


@pytest.fixture
def other(path: Path, one: Library) -> Iterator[Library]:
    with xmr.open(path, progress=False) as db:
        yield db


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run the work in threads, and raise what any of them raised."""
    raised: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not any(thread.is_alive() for thread in threads), "threads wait for each other"
    if raised:
        raise raised[0]


def in_child(work: Callable[[], str]) -> str:
    """What the work tells in a forked child, which ends without running anything of the parent's."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            told = work()
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        os.write(writing, told.encode()[:4000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return told


# one writer, one counter


def test_threads_with_handles_of_their_own_give_every_item_its_id(path: Path, one: Library) -> None:
    def add(number: int) -> None:
        with xmr.open(path, progress=False) as db:
            for call in range(20):
                db.add(texts(*(f"{number}-{call}-{row}" for row in range(3))))

    in_threads(4, add)
    ids = one.store.ids()
    assert len(ids) == 240 and len(np.unique(ids)) == 240
    assert one.doctor() == []


def test_threads_that_share_a_handle_give_every_item_its_id(one: Library) -> None:
    in_threads(4, lambda number: [one.add(texts(f"{number}-{call}")) for call in range(10)] and None)
    assert len(np.unique(one.store.ids())) == 40


def test_ten_thousand_adds_in_threads_give_ten_thousand_ids(path: Path, one: Library) -> None:
    one.add_embeddings(vectors(1), space="s", recipe="flat")

    def add(number: int) -> None:
        with xmr.open(path, progress=False) as db:
            for call in range(20):
                db.add_embeddings(vectors(125, seed=1000 * number + call), space="s")

    in_threads(4, add)
    ids = one.store.get_codes("s", 1, "image").ids
    assert len(ids) == 10_001 and ids.tolist() == list(range(10_001))


def test_threads_search_while_another_adds(path: Path, one: Library) -> None:
    one.add_embeddings(vectors(50), space="s", recipe="flat")
    queries = vectors(5, seed=9)

    def work(number: int) -> None:
        with xmr.open(path, progress=False) as db:
            for call in range(15):
                if number:
                    assert (db.search(vector=queries, space="s", k=50).ids >= 0).all()
                else:
                    db.add_embeddings(vectors(3, seed=call), space="s")

    in_threads(4, work)
    assert len(one.search(vector=queries, space="s", k=95).ids[0]) == 95


def test_ids_continue_after_those_that_another_handle_deleted(one: Library, other: Library) -> None:
    one.add(texts("red", "green"))
    other.delete([1])
    one.add(texts("blue"))
    assert other.store.ids().tolist() == [0, 2]


def test_a_transaction_on_two_handles_in_one_thread_is_refused_and_not_a_deadlock(one: Library, other: Library) -> None:
    with one.store.transaction(), pytest.raises(xmr.LockedError, match="try again"):
        other.add(texts("red"))
    other.add(texts("red"))
    assert one.store.ids().tolist() == [0]


def test_a_file_is_one_database_under_every_spelling_of_its_path(path: Path, one: Library) -> None:
    link = path.with_name("link.duckdb")
    link.symlink_to(path)
    for spelling in (link, path.parent / "." / "x" / ".." / path.name):
        (path.parent / "x").mkdir(exist_ok=True)
        with xmr.open(spelling, progress=False) as db:
            db.add(texts(str(spelling)))
    assert one.store.ids().tolist() == [0, 1]


def test_a_hard_link_to_a_file_that_is_open_is_refused(path: Path, one: Library) -> None:
    link = path.with_name("hard.duckdb")
    os.link(path, link)
    with pytest.raises(xmr.LockedError, match=r"the same file as .*shared\.duckdb"):
        xmr.open(link)


def test_a_file_that_replaced_the_open_one_is_not_opened_beside_it(path: Path, one: Library, tmp_path: Path) -> None:
    with xmr.open(tmp_path / "new.duckdb", progress=False) as new:
        new.add(texts("red"))
    (tmp_path / "new.duckdb").replace(path)
    with pytest.raises(xmr.LockedError, match="replaced while it is open"):
        xmr.open(path)
    one.close()
    with xmr.open(path, progress=False) as db:
        assert len(db.store.ids()) == 1


def test_a_reader_beside_a_writer_of_this_process_is_refused(path: Path, one: Library) -> None:
    with pytest.raises(xmr.LockedError, match="open for writing in this process"):
        xmr.open(path, read_only=True)


def test_readers_share_a_file(path: Path, one: Library) -> None:
    one.add(texts("red"))
    one.close()
    with xmr.open(path, read_only=True) as a, xmr.open(path, read_only=True) as b:
        assert a.store.revision() == b.store.revision() > 0
        assert len(b.store.ids()) == 1
        with pytest.raises(xmr.LockedError, match="open for reading only"):
            xmr.open(path)


def test_another_process_is_refused_while_this_one_has_the_file_open(path: Path, one: Library) -> None:
    one.add(texts("red"))
    code = "import sys, xmr_core as xmr\ntry: xmr.open(sys.argv[1])\nexcept xmr.LockedError as error: print(error)"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120)
    assert f"is held by process {os.getpid()}" in done.stdout


def test_closing_one_handle_leaves_the_other_open(one: Library, other: Library) -> None:
    other.close()
    other.close()
    one.add(texts("red"))
    with pytest.raises(xmr.StorageError, match="closed"):
        other.search(text="red")


def test_a_handle_that_nobody_closes_lets_go_of_the_file(path: Path, one: Library) -> None:
    one.close()
    db = xmr.open(path, progress=False)
    db.add(texts("red"))
    del db
    gc.collect()
    duckdb.connect(str(path), read_only=True).close()


def test_databases_in_memory_are_apart() -> None:
    with xmr.open(":memory:", progress=False) as a, xmr.open(":memory:", progress=False) as b:
        a.add(texts("red"))
        assert len(b.store.ids()) == 0


# every handle sees the present


def found(db: Library, n: int) -> list[int]:
    return sorted(id for id in db.search(vector=vectors(1)[0], space="s", k=n).ids[0].tolist() if id >= 0)


def test_a_handle_sees_what_another_adds_and_deletes(one: Library, other: Library) -> None:
    one.add_embeddings(vectors(5), space="s", recipe="flat")
    assert found(other, 20) == [0, 1, 2, 3, 4]
    one.add_embeddings(vectors(2, seed=1), space="s")
    assert found(other, 20) == [0, 1, 2, 3, 4, 5, 6]
    one.delete([0, 3, 6])
    assert found(other, 20) == [1, 2, 4, 5] == found(one, 20)


def test_a_handle_sees_what_another_does_in_sql(one: Library, other: Library) -> None:
    one.add_embeddings(vectors(5), space="s", recipe="flat")
    assert found(other, 20) == [0, 1, 2, 3, 4]
    one.sql("DELETE FROM xmr.code_s_v1 WHERE item_id = 2")
    assert found(other, 20) == [0, 1, 3, 4] == found(one, 20)
    one.sql("BEGIN")
    one.sql("DELETE FROM xmr.code_s_v1 WHERE item_id = 4")
    assert found(other, 20) == [0, 1, 3, 4]
    one.sql("COMMIT")
    assert found(other, 20) == [0, 1, 3] == found(one, 20)


def test_a_handle_sees_versions_that_another_publishes_and_drops(one: Library, other: Library) -> None:
    one.add(texts("red", "green", "blue"))
    one.fit("toy >> flat", name="s")
    assert other.space("s").record.version == 1
    one.fit("toy >> flat", name="s")
    assert other.space("s").record.version == 2
    one.publish("s", 1)
    assert other.space("s").record.version == 1 and other.space("s", 2).record.published is False
    one.drop("s")
    assert other.spaces() == []
    with pytest.raises(xmr.StorageError, match="no space 's'"):
        other.search(text="red", space="s")


def test_a_handle_sees_a_space_that_was_fitted_in_the_place_of_another(one: Library, other: Library) -> None:
    one.add_embeddings(vectors(5), space="s", recipe="flat")
    assert found(other, 20) == [0, 1, 2, 3, 4]
    one.drop("s")
    one.add_embeddings(vectors(3), space="s", recipe="flat")
    assert found(other, 20) == [5, 6, 7]


def test_a_handle_sees_links_that_another_adds(one: Library, other: Library) -> None:
    one.add(xmr.Pairs(xmr.Items("image", vectors(2), ["a", "b"]), texts("red", "green"), np.array([[0, 0]])))
    one.fit("bm25", name="s")
    assert sorted(hit.key for hit in other.search(text="the colour", modality="image", space="s")) == ["a"]
    one.add(xmr.Pairs(xmr.Items("image", vectors(2), ["a", "b"]), texts("red", "green"), np.array([[1, 1]])))
    assert sorted(hit.key for hit in other.search(text="the colour", modality="image", space="s")) == ["a", "b"]


def test_a_registered_connection_sees_the_present(path: Path, one: Library) -> None:
    one.add(texts("red", "green", "blue"))
    one.fit("bm25", name="s")
    with duckdb.connect(str(path)) as mine, xmr.register(mine):
        search = "SELECT list(item_id ORDER BY item_id) FROM xmr.search('the colour', 10)"
        assert mine.execute(search).fetchall() == [([0, 1, 2],)]
        one.delete([1])
        assert mine.execute(search).fetchall() == [([0, 2],)]
        one.add(texts("white"))
        assert mine.execute(search).fetchall() == [([0, 2, 3],)]


def test_a_rollback_is_nothing_that_happened(one: Library, other: Library) -> None:
    one.add_embeddings(vectors(5), space="s", recipe="flat")
    assert found(other, 20) == found(one, 20) == [0, 1, 2, 3, 4]
    before = one.store.revision()
    with pytest.raises(ZeroDivisionError), one.store.transaction():
        one.add_embeddings(vectors(2, seed=1), space="s")
        assert found(one, 20) == [0, 1, 2, 3, 4, 5, 6], "a transaction sees what it does"
        raise ZeroDivisionError
    assert one.store.revision() == before == other.store.revision()
    assert found(other, 20) == found(one, 20) == [0, 1, 2, 3, 4]


def test_what_did_not_change_is_not_loaded_again(one: Library, other: Library) -> None:
    one.add_embeddings(vectors(5), space="s", recipe="flat")
    one.add_embeddings(vectors(5), space="t", recipe="flat")
    space = other.space("s")
    index = space.index("image")
    one.add_embeddings(vectors(2, seed=1), space="t")
    one.add(texts("red"))
    assert other.space("s") is space and space.index("image") is index


# publishing


def test_a_version_that_is_published_has_what_was_added_since(one: Library) -> None:
    one.add(texts("red", "green", "blue"))
    one.fit("toy >> flat", name="s")
    one.fit("toy >> flat", name="s")
    one.add(texts("white red", "black blue"))
    one.publish("s", 1)
    hits = one.search(text="red", space="s", modality="text", k=9)
    assert sorted(hit.id for hit in hits) == [0, 1, 2, 3, 4]
    assert one.store.get_codes("s", 1, "text").ids.tolist() == [0, 1, 2, 3, 4]
    assert one.doctor() == []


def test_a_version_that_was_fitted_unpublished_has_what_was_added_since(one: Library) -> None:
    one.add(texts("red", "green", "blue"))
    one.fit("toy >> flat", name="s", publish=False)
    one.add(texts("white"))
    one.publish("s", 1)
    assert one.store.get_codes("s", 1, "text").ids.tolist() == [0, 1, 2, 3]


def test_while_one_handle_fits_another_searches_and_adds(
    one: Library, other: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.add(texts("red", "green", "blue"))
    one.fit("toy >> flat", name="first")
    encode, meanwhile = xmr.Pipeline.encode, [True]

    def changed(pipeline: xmr.Pipeline, items: xmr.Items) -> xmr.Codes:
        codes = encode(pipeline, items)
        if meanwhile:
            meanwhile.clear()
            assert other.search(text="red", space="first", modality="text", k=1).ids.tolist() == [[0]]
            other.add(texts("white"))
            other.delete([1])
        return codes

    monkeypatch.setattr(xmr.Pipeline, "encode", changed)
    one.fit("toy >> flat", name="second")
    assert not meanwhile
    for db in (one, other):
        assert db.store.get_codes("second", 1, "text").ids.tolist() == [0, 2, 3]
        assert db.doctor() == []


def test_a_fit_encodes_what_nobody_changed_only_once(one: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    one.add(texts("red", "green", "blue"))
    encode, calls = xmr.Pipeline.encode, []

    def counted(pipeline: xmr.Pipeline, items: xmr.Items) -> xmr.Codes:
        calls.append(len(items))
        return encode(pipeline, items)

    monkeypatch.setattr(xmr.Pipeline, "encode", counted)
    one.fit("toy >> flat", name="s")
    assert sum(calls) == 3


# forks


@needs_fork
def test_a_handle_refuses_to_work_in_a_forked_child(one: Library) -> None:
    one.add_embeddings(vectors(5), space="s", recipe="flat")
    found(one, 3)
    calls: list[Callable[[], object]] = [
        lambda: found(one, 3),
        lambda: one.add(texts("red")),
        lambda: one.delete([0]),
        lambda: one.sql("SELECT 1"),
        lambda: one.spaces(),
        lambda: one.doctor(),
        lambda: repr(one),
    ]
    for call in calls:
        told = in_child(lambda call=call: str(call()))
        assert told.startswith("StorageError") and "open it again in this one" in told


@needs_fork
def test_a_child_that_closes_what_it_inherited_harms_nothing(path: Path, one: Library) -> None:
    one.add(texts("red"))

    def close() -> str:
        one.close()
        return "closed"

    assert in_child(close) == "closed"
    one.add(texts("green"))
    one.close()
    with xmr.open(path, progress=False) as db:
        assert len(db.store.ids()) == 2 and db.doctor() == []


@needs_fork
def test_a_child_that_ends_as_python_does_harms_nothing(path: Path, one: Library) -> None:
    one.add(texts("red"))
    code = (
        "import os, sys, xmr_core as xmr\n"
        "db = xmr.open(sys.argv[1], progress=False)\n"
        "db.add(xmr.Items('text', ['a white wall'], ['white']))\n"
        "if not os.fork():\n"
        "    sys.exit(0)\n"
        "assert os.wait()[1] == 0\n"
        "db.add(xmr.Items('text', ['a black wall'], ['black']))\n"
        "os._exit(0)\n"
    )
    one.close()
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    with xmr.open(path, progress=False) as db:
        assert sorted(db.store.describe(db.store.ids())["key"]) == ["black", "red", "white"]


@needs_fork
def test_a_child_opens_a_library_that_it_inherited_for_reading(path: Path, one: Library) -> None:
    one.add_embeddings(vectors(5), space="s", recipe="flat")
    one.close()
    with xmr.open(path, read_only=True) as reader:
        assert len(found(reader, 9)) == 5

        def read() -> str:
            with xmr.open(path, read_only=True) as own:
                return f"{len(found(own, 9))} {own.sql('SELECT count(*) FROM xmr.code_s').fetchone()[0]}"

        assert in_child(read) == "5 5"


@needs_fork
def test_a_child_is_told_why_it_cannot_open_what_its_parent_writes(path: Path, one: Library) -> None:
    told = in_child(lambda: str(xmr.open(path, progress=False)))
    assert told.startswith("LockedError") and "when this one was forked from it" in told
