"""SIGKILL at a random moment of each writing operation, and what the next open finds: see `tests/test_kills.py`.

    python tests/kills.py FOLDER COUNT [OPERATION ...]

prints one line of JSON for each kill: what was lost, could not be opened, answered wrongly or was left over. Each
writer and each inspection is a fork of this process, which has imported everything and opened nothing: so a kill costs
what the operation costs.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import xmr_core as xmr
from xmr_core.library import saved
from xmr_storage import transfer

DIM, START, LOOPS = 8, 400, 1000
LONGEST = {"fit": 2, "compact": 2, "export": 2, "rebuild": 2}  # seconds until the kill; 1 of the others
BATCH = {"rebuild": 60}  # items of a transaction; 5 of the others
MINE = "precious"  # a table of the user's beside the library

Acknowledge = Callable[[str, Any], object]
Write = Callable[[xmr.Library, Acknowledge, Path], None]


def vector(key: str) -> np.ndarray:
    """What belongs to a key: `a7` has another vector than `b7`."""
    return _unit(np.random.default_rng([ord(key[0]), int(key[1:])]).normal(size=DIM))


def _unit(values: np.ndarray) -> np.ndarray:
    """Of length one, so that the space's distance orders as the Euclidean one."""
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


def items(keys: list[str], names: list[str] | None = None) -> xmr.Items:
    """Texts that have vectors alone; with `names`, those of other keys."""
    return xmr.Items("text", np.stack([vector(name) for name in names or keys]), keys)


def make(file: Path) -> None:
    """A library of 400 items, with a flat space of two versions, an index that is saved, and a table of the user's."""
    with xmr.open(file, progress=False) as db:
        db.add(items([f"a{row}" for row in range(START)]))
        db.fit("precomputed(dim=8) >> flat", name="near")
        db.fit("precomputed(dim=8) >> flat", name="near")
        db.fit("precomputed(dim=8) >> kdtree", name="tree")
        db.sql(f"CREATE TABLE {MINE} AS SELECT 7 AS x")


# what is killed


def add(db: xmr.Library, acknowledge: Acknowledge, folder: Path) -> None:
    """Five items at a time."""
    for start in range(0, LOOPS, 5):
        keys = [f"b{row}" for row in range(start, start + 5)]
        db.add(items(keys))
        acknowledge("add", keys)


def upsert(db: xmr.Library, acknowledge: Acknowledge, folder: Path) -> None:
    """Known keys get other vectors."""
    for start in range(0, START, 5):
        keys = [f"a{row}" for row in range(start, start + 5)]
        db.upsert(items(keys, [f"c{key[1:]}" for key in keys]))
        acknowledge("upsert", keys)


def delete(db: xmr.Library, acknowledge: Acknowledge, folder: Path) -> None:
    """Five items at a time."""
    for start in range(0, START - 20, 5):
        keys = [f"a{row}" for row in range(start, start + 5)]
        db.delete(where={"key": keys})
        acknowledge("delete", keys)


def fit(db: xmr.Library, acknowledge: Acknowledge, folder: Path) -> None:
    """New versions."""
    for _ in range(LOOPS):
        acknowledge("fit", db.fit("precomputed(dim=8) >> flat", name="near").record.version)


def publish(db: xmr.Library, acknowledge: Acknowledge, folder: Path) -> None:
    """One version and the other."""
    for turn in range(LOOPS):
        db.publish("near", 1 + turn % 2)
        acknowledge("publish", 1 + turn % 2)


def compact(db: xmr.Library, acknowledge: Acknowledge, folder: Path) -> None:
    """Again and again, items deleted before it."""
    for start in range(0, START - 20, 5):
        keys = [f"a{row}" for row in range(start, start + 5)]
        db.delete(where={"key": keys})
        acknowledge("delete", keys)
        db.compact()


def export(db: xmr.Library, acknowledge: Acknowledge, folder: Path) -> None:
    """Into one folder after the other."""
    for turn in range(LOOPS):
        db.export(folder / f"out{turn}")
        acknowledge("export", f"out{turn}")


def rebuild(db: xmr.Library, acknowledge: Acknowledge, folder: Path) -> None:
    """More than a tenth comes, so that the index is built again beside the searches."""
    for start in range(0, LOOPS, BATCH["rebuild"]):
        keys = [f"b{row}" for row in range(start, start + BATCH["rebuild"])]
        db.add(items(keys))
        acknowledge("add", keys)
        for key in keys[:3]:
            db.search(vector=vector(key), space="tree", k=1)


OPERATIONS: dict[str, Write] = {
    made.__name__: made
    for made in (add, upsert, delete, fit, publish, compact, export, rebuild)
    if made is not upsert or hasattr(xmr.Library, "upsert")
}


# what is found afterwards


def held(log: list[tuple[str, Any]]) -> tuple[dict[str, str], set[str]]:
    """Keys that are there for sure and whose vector each has; keys that are gone for sure."""
    there: dict[str, str] = {f"a{row}": f"a{row}" for row in range(START)}
    gone: set[str] = set()
    for done, what in log:
        if done == "add":
            there |= {key: key for key in what}
        elif done == "upsert":
            there |= {key: f"c{key[1:]}" for key in what}
        elif done == "delete":
            gone |= set(what)
    return {key: name for key, name in there.items() if key not in gone}, gone


def inspect(file: Path, operation: str, log: list[tuple[str, Any]]) -> dict[str, list[str]]:
    """What is wrong with a library after a kill: lists of sentences, all empty if nothing is."""
    saved.PROCESS = transfer.PROCESS = uuid.uuid4().hex[:12]  # a fork is no other process by these names
    wrong: dict[str, list[str]] = {"lost": [], "unopenable": [], "wrong": [], "left": []}
    try:
        with xmr.open(file, progress=False) as db:
            _look(db, operation, log, wrong)
    except xmr.XmrError as error:
        wrong["unopenable"].append(str(error))
    expected = {file.name, f"{file.name}.xmr", "log"} | {path.name for path in file.parent.glob("out*") if whole(path)}
    wrong["left"] += [path.name for path in file.parent.iterdir() if path.name not in expected]
    cache = file.with_name(f"{file.name}.xmr")
    wrong["left"] += [str(path.relative_to(cache)) for path in cache.rglob("*") if ".half" in path.name]
    wrong["left"] += [str(path.relative_to(cache)) for path in cache.glob("*") if path.name != "indexes"]
    return wrong


def whole(export: Path) -> bool:
    """True for an export that can be restored."""
    return export.is_dir() and (export / "library.json").is_file()


def _look(db: xmr.Library, operation: str, log: list[tuple[str, Any]], wrong: dict[str, list[str]]) -> None:
    there, gone = held(log)
    keys = {key: int(item) for item, key in db.sql("SELECT item_id, key FROM xmr.items").fetchall()}
    half = {0, BATCH.get(operation, 5)}  # what was not acknowledged came whole or not at all
    missing, more = there.keys() - keys.keys(), keys.keys() - there.keys() - gone
    if len(missing) not in (half if operation in ("delete", "compact") else {0}):
        wrong["lost"].append(f"{len(missing)} items, {sorted(missing)[:3]}")
    if len(more) not in (half if operation in ("add", "rebuild") else {0}):
        wrong["wrong"].append(f"{len(more)} items came, {sorted(more)[:3]}")
    wrong["lost"] += [f"{key} was deleted" for key in gone & keys.keys()]
    versions = {space.version for space in db.store.spaces() if space.name == "near"}
    wrong["lost"] += [f"version {what} was fitted" for done, what in log if done == "fit" and what not in versions]
    exported = [what for done, what in log if done == "export"]
    wrong["lost"] += [f"{what} was exported" for what in exported if not whole(Path(db.store.url).parent / what)]
    if db.sql(f"FROM {MINE}").fetchall() != [(7,)]:
        wrong["lost"].append(f"the table {MINE}")
    published = [space.version for space in db.store.spaces() if space.name == "near" and space.published]
    told = [what for done, what in log if done == "publish"]
    if told and published not in ([told[-1]], [3 - told[-1]]):
        wrong["lost"].append(f"published are {published}")
    wrong["wrong"] += list(_answers(db, keys, there, operation))
    wrong["wrong"] += [f"doctor: {finding}" for finding in db.doctor()]


def _answers(db: xmr.Library, keys: dict[str, int], there: dict[str, str], operation: str) -> Iterator[str]:
    """Searches that differ from an exhaustive one in NumPy, by ids and distances."""
    ids = np.array(sorted(keys.values()))
    have, stored = db.store.get_features("precomputed", ids)
    if not have.all():
        yield f"{(~have).sum()} items have no vector"
        return
    of_key = dict(zip(ids.tolist(), stored, strict=True))
    changed = [
        key
        for key, name in there.items()
        if key in keys
        and not np.array_equal(of_key[keys[key]], vector(name))
        and not (operation == "upsert" and np.array_equal(of_key[keys[key]], vector(f"c{key[1:]}")))
    ]
    if changed:
        yield f"{changed[:3]} have other vectors than were given"
    rng = np.random.default_rng(0)
    for query in (*_unit(rng.normal(size=(3, DIM))), *stored[rng.integers(0, len(stored), 3)]):
        distances = np.linalg.norm(stored - query, axis=1)
        nearest = ids[np.lexsort((ids, distances))[:10]].tolist()
        for space, exact in (("near", False), ("tree", False), ("tree", True)):
            found = [hit.id for hit in db.search(vector=query, space=space, k=10, modality="text", exact=exact)]
            if found != nearest:
                yield f"{space}, exact={exact}: {found} for {nearest}"


# the processes


def forked(work: Callable[[], object]) -> int:
    """Do something in a fork of this process; its id."""
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
        finally:
            os._exit(status)
    return child


def write(file: Path, operation: str) -> None:
    """Do an operation for as long as the process lives, and note in a file what was acknowledged."""
    with (file.parent / "log").open("w", buffering=1) as log, xmr.open(file, progress=False) as db:
        log.write('["ready", null]\n')
        with contextlib.suppress(KeyError):
            OPERATIONS[operation](db, lambda done, what: log.write(f"{json.dumps([done, what])}\n"), file.parent)
        time.sleep(60)  # until it is killed


def kill(made: Path, operation: str, moment: float, folder: Path) -> dict[str, Any]:
    """One kill, `moment` seconds after the library was opened; what was found afterwards."""
    folder.mkdir()
    file = Path(shutil.copy(made, folder))
    child = forked(lambda: write(file, operation))
    noted = folder / "log"
    for _ in range(6000):
        if noted.exists() and noted.read_text():
            break
        time.sleep(0.01)
    time.sleep(moment)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    log = [tuple(json.loads(line)) for line in noted.read_text().splitlines() if line.endswith("]")]
    result = folder / "result"
    inspector = forked(lambda: result.write_text(json.dumps(inspect(file, operation, log))))
    _, ended = os.waitpid(inspector, 0)
    found = json.loads(result.read_text()) if not ended else {"unopenable": [f"inspection ended with {ended}"]}
    shutil.rmtree(folder)
    return {"operation": operation, "moment": round(moment, 3), "done": len(log) - 1, "killed": status == 9, **found}


def main(folder: Path, count: int, operations: list[str]) -> None:
    """Kill as often as asked, the operations in turn."""
    import duckdb  # noqa: F401  (imported before the first fork)
    import pyarrow  # noqa: F401
    import scipy.spatial  # noqa: F401

    from xmr_core.registry import default

    default().entries("store")
    made = folder / "made.duckdb"
    os.waitpid(forked(lambda: make(made)), 0)
    chance = random.Random(count)
    for turn in range(count):
        operation = operations[turn % len(operations)]
        moment = chance.uniform(0, LONGEST.get(operation, 1))
        sys.stdout.write(f"{json.dumps(kill(made, operation, moment, folder / str(turn)))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] or list(OPERATIONS))
