"""Live functions of many connections, threads and libraries at once: each case in a process of its own, as what they
must not do is to crash it. `XMR_RUNS=20` repeats each in as many processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import xmr_core as xmr

RUNS = int(os.environ.get("XMR_RUNS", "1"))
START = """
import gc, sys, threading
import duckdb
import xmr_core as xmr

a, b = (f"{sys.argv[1]}/{name}.duckdb" for name in "ab")
DOGS = "FROM xmr.search('dog', 3, modality := 'text')"
IN_A, IN_B = [0, 1, 2], [10, 11, 12]

def ids(con):
    return [row[0] for row in con.execute(DOGS).fetchall()]

def refused(run, words):
    try:
        run()
    except (duckdb.Error, xmr.XmrError) as error:
        assert words in str(error), error
    else:
        raise AssertionError("answered")
"""
CASES = {
    "a cursor a thread, each registering": """
con = duckdb.connect(a)
wrong = []
def work():
    with con.cursor() as cursor:
        library = xmr.register(cursor)
        for _ in range(10):
            if ids(cursor) != IN_A:
                wrong.append(1)
    library.close()
threads = [threading.Thread(target=work) for _ in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert not wrong
""",
    "a cursor a thread, of one library": """
con = duckdb.connect(a)
db = xmr.open(a)
wrong = []
def work():
    with con.cursor() as cursor:
        db.register(cursor)
        for _ in range(10):
            if ids(cursor) != IN_A:
                wrong.append(1)
threads = [threading.Thread(target=work) for _ in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert not wrong
""",
    "two connections to one file, of which one closes": """
one, two = duckdb.connect(a), duckdb.connect(a)
xmr.register(one), xmr.register(two)
assert ids(one) == ids(two) == IN_A
two.close()
gc.collect()
assert ids(one) == IN_A
""",
    "a pool, of which one cursor closes": """
con = duckdb.connect(a)
pool = [con.cursor() for _ in range(4)]
for cursor in pool: xmr.register(cursor)
pool.pop().close()
gc.collect()
for cursor in pool:
    assert ids(cursor) == IN_A
""",
    "two libraries on one file, of which one closes": """
one, two = xmr.open(a), xmr.open(a)
assert [row[0] for row in one.sql(DOGS).fetchall()] == [row[0] for row in two.sql(DOGS).fetchall()] == IN_A
two.close()
gc.collect()
assert [row[0] for row in one.sql(DOGS).fetchall()] == IN_A
one.close()
refused(lambda: one.sql(DOGS), "closed")
""",
    "a library that was closed before its connection": """
con = duckdb.connect(a)
library = xmr.register(con)
assert ids(con) == IN_A
library.close()
gc.collect()
refused(lambda: ids(con), "the library behind this connection is closed")
refused(lambda: con.execute("SELECT xmr.encode_text('dog')"), "the library behind this connection is closed")
again = xmr.register(con)
assert ids(con) == IN_A
""",
    "a connection lets go of the file": """
con = duckdb.connect(a)
xmr.register(con)
assert ids(con) == IN_A
con.close()
gc.collect()
duckdb.connect(a, read_only=True).close()
""",
    "two attached libraries": """
con = duckdb.connect()
con.execute(f"ATTACH '{a}' AS a (READ_ONLY)")
con.execute(f"ATTACH '{b}' AS b (READ_ONLY)")
cursors = [con.cursor(), con.cursor()]
for name, cursor in zip("ab", cursors):
    cursor.execute(f"USE {name}")
    xmr.register(cursor)
assert [ids(cursor) for cursor in cursors] == [IN_A, IN_B]
of_a = f"FROM xmr.search('dog', 3, modality := 'text', library := 'a')"
assert [row[0] for row in cursors[1].execute(of_a).fetchall()] == IN_A
for name, wanted in (("a", IN_A), ("b", IN_B), ("a", IN_A)):
    con.execute(f"USE {name}")
    xmr.register(con)
    assert ids(con) == wanted
assert [ids(cursor) for cursor in cursors] == [IN_A, IN_B]
""",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two libraries; the dogs of the second have other ids."""
    folder = tmp_path_factory.mktemp("libraries")
    for name, texts in (("a", ["dog"] * 3 + ["cat"] * 7), ("b", ["cat"] * 10 + ["dog"] * 3)):
        with xmr.open(folder / f"{name}.duckdb", progress=False) as db:
            db.add([{"text": f"a {text} number {i}"} for i, text in enumerate(texts)])
            db.fit("bm25", name="words")
    return folder


@pytest.mark.parametrize("case", CASES)
def test_live_functions_never_crash(folder: Path, case: str) -> None:
    for _ in range(RUNS):
        program = [sys.executable, "-X", "faulthandler", "-c", START + CASES[case], str(folder)]
        run = subprocess.run(program, capture_output=True, text=True, check=False)
        assert run.returncode == 0, f"exit {run.returncode}\n{run.stderr}"
