"""The doctor: each fault is made by raw SQL, found in one sentence, and mended where it can be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pytest
from conftest import colour_pairs, toy_installed

import xmr_core as xmr

pytestmark = pytest.mark.usefixtures("toy")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images (0 to 3), eight texts (4 to 11), spaces `toy` and `pq`, and `mine` of embeddings (ids from 12)."""
    rng, file = np.random.default_rng(0), tmp_path_factory.mktemp("made") / "colours.duckdb"
    with pytest.MonkeyPatch.context() as patch, toy_installed(patch), xmr.open(file, progress=False) as library:
        library.add(colour_pairs(file.parent))
        library.fit("toy >> flat", name="toy")
        library.fit("toy >> pq(bytes=1, bits=1)", name="pq")
        library.add_embeddings(rng.integers(0, 256, (5, 8), np.uint8), "mine", "hamming")
    return file


@pytest.fixture
def db(made: Path, tmp_path: Path) -> Iterator[xmr.Library]:
    """A copy of that library; the image files are where they were."""
    with xmr.open(shutil.copy(made, tmp_path), progress=False) as library:
        yield library


@dataclass(frozen=True)
class Fault:
    """Statements, and what the doctor says of them; `kept` where nothing mends it."""

    statements: str
    says: str
    kept: bool = False


FAULTS = {
    "items deleted by SQL": Fault(
        "DELETE FROM xmr.items WHERE item_id = 0",
        "1 rows of metadata refer to an item that does not exist; repair deletes them\n"
        "1 labels refer to an item that does not exist; repair deletes them\n"
        "2 pairs refer to an item that does not exist; repair deletes them\n"
        "1 codes of space 'pq' version 1 refer to no item; repair deletes them\n"
        "1 codes of space 'toy' version 1 refer to no item; repair deletes them",
    ),
    "metadata of no item": Fault(
        "INSERT INTO xmr.metadata (item_id) VALUES (99)",
        "1 rows of metadata refer to an item that does not exist; repair deletes them",
    ),
    "metadata twice": Fault(
        "INSERT INTO xmr.metadata FROM xmr.metadata",
        "12 rows of metadata are there twice; repair keeps the last",
    ),
    "labels of no item": Fault(
        "INSERT INTO xmr.labels VALUES (99, 'red')",
        "1 labels refer to an item that does not exist; repair deletes them",
    ),
    "sources of no item": Fault(
        "INSERT INTO xmr.sources VALUES ('folder', 0, ''), ('folder', 99, ''), ('other', 0, '')",
        "1 rows of sources refer to an item that does not exist; repair deletes them",
    ),
    "sources twice": Fault(
        "INSERT INTO xmr.sources VALUES ('folder', 0, 'a'), ('folder', 0, 'b')",
        "1 rows of sources are there twice; repair keeps the last",
    ),
    "labels twice": Fault("INSERT INTO xmr.labels FROM xmr.labels", "12 labels are there twice; repair keeps the last"),
    "links to nothing": Fault(
        "INSERT INTO xmr.pairs VALUES (0, 99)", "1 pairs refer to an item that does not exist; repair deletes them"
    ),
    "links of one side": Fault(
        "INSERT INTO xmr.pairs VALUES (0, 1)", "1 pairs are not of an image and a text; repair deletes them"
    ),
    "links turned round": Fault(
        "UPDATE xmr.pairs SET image_id = text_id, text_id = image_id WHERE image_id = 0",
        "2 pairs have the text for the image and the image for the text; repair turns them round",
    ),
    "links twice": Fault("INSERT INTO xmr.pairs FROM xmr.pairs", "8 pairs are there twice; repair keeps the last"),
    "attention of no item": Fault(
        "INSERT INTO xmr.attention VALUES (99, 'toy', 1, 1, 0, 'a', 1)",
        "1 rows of attention refer to an item that does not exist; repair deletes them",
    ),
    "attention of no space": Fault(
        "INSERT INTO xmr.attention VALUES (0, 'gone', 1, 1, 0, 'a', 1)",
        "1 rows of attention refer to a space that does not exist; repair deletes them",
    ),
    "items twice": Fault(
        "INSERT INTO xmr.items FROM xmr.items WHERE item_id = 1",
        "1 rows of items are there twice; repair keeps the last",
    ),
    "ids twice": Fault(
        "UPDATE xmr.items SET item_id = 5 WHERE item_id = 4; DELETE FROM xmr.metadata WHERE item_id = 4; "
        "DELETE FROM xmr.labels WHERE item_id = 4; DELETE FROM xmr.pairs WHERE text_id = 4; "
        "DELETE FROM xmr.code_toy_v1 WHERE item_id = 4; DELETE FROM xmr.code_pq_v1 WHERE item_id = 4",
        "1 item ids are there twice; give one of each another in SQL (SELECT item_id FROM xmr.items GROUP BY item_id "
        "HAVING count(*) > 1 names them), or restore an export",
        kept=True,
    ),
    "keys twice": Fault(
        "UPDATE xmr.items SET key = 'red' WHERE key = 'blue'",
        "1 keys of one modality are there twice; give one of each another in SQL (SELECT modality, key FROM xmr.items "
        "GROUP BY modality, key HAVING count(*) > 1 names them), or restore an export",
        kept=True,
    ),
    "an unknown modality": Fault(
        "UPDATE xmr.items SET modality = 'imgae' WHERE item_id = 0",
        "1 items have content and a modality other than image and text, which no space encodes; UPDATE xmr.items SET "
        "modality = ... says which it is\n"
        "2 pairs are not of an image and a text; repair deletes them\n"
        "1 codes of space 'pq' version 1 have another modality than their item; repair deletes them\n"
        "1 codes of space 'toy' version 1 have another modality than their item; repair deletes them",
        kept=True,
    ),
    "items without content": Fault(
        "UPDATE xmr.items SET text = NULL WHERE item_id = 5",
        "1 items of modality 'text' have neither content nor a vector; xmr.feature_precomputed has lost their rows: "
        "restore an export, or delete them and add them again",
        kept=True,
    ),
    "the labels gone": Fault(
        "DROP TABLE xmr.labels",
        "the table xmr.labels is gone; restore an export to have its rows again, or repair makes an empty one",
    ),
    "the items gone": Fault(
        "DROP VIEW xmr.catalog; DROP TABLE xmr.items",
        "the table xmr.items is gone; restore an export into a new file",
        kept=True,
    ),
    "a column gone": Fault(
        "DROP VIEW xmr.catalog; ALTER TABLE xmr.items DROP COLUMN text",
        "xmr.items lacks the columns text; restore an export into a new file",
        kept=True,
    ),
    "the catalog gone": Fault(
        "DROP VIEW xmr.catalog",
        "the view xmr.catalog is gone, or lacks columns of xmr.metadata; repair makes it again",
    ),
    "the catalog of other rows": Fault(
        "CREATE OR REPLACE VIEW xmr.catalog AS SELECT i.item_id, i.modality, i.key, i.source, i.text, m.split "
        "FROM xmr.items AS i LEFT JOIN xmr.metadata AS m ON m.item_id = i.item_id WHERE i.item_id > 3",
        "the view xmr.catalog differs from what this version writes; repair writes it again",
    ),
    "a macro gone": Fault(
        "DROP MACRO TABLE xmr.topk_toy",
        "1 views and macros of space 'toy' are gone (xmr.topk_toy); repair writes them again",
    ),
    "a macro changed": Fault(
        "CREATE OR REPLACE MACRO xmr.counts_toy() AS TABLE SELECT 1 AS one",
        "1 views and macros of space 'toy' are gone, or differ from what this version writes (xmr.counts_toy); "
        "repair writes them again",
    ),
    "a shared macro gone": Fault(
        "DROP MACRO xmr.hamming", "1 views and macros are gone (xmr.hamming); repair writes them again"
    ),
    "a table beside the codes gone": Fault(
        "DROP TABLE xmr.codebook_pq_v1",
        "the table xmr.codebook_pq_v1 of space 'pq' is gone or has other rows; repair writes it again",
    ),
    "a table beside the codes changed": Fault(
        "UPDATE xmr.codebook_pq_v1 SET part = 7 WHERE part = 1",
        "the table xmr.codebook_pq_v1 of space 'pq' is gone or has other rows; repair writes it again",
    ),
    "codes gone": Fault(
        "DROP TABLE xmr.code_toy_v1", "the codes of space 'toy' version 1 are gone; repair makes them again"
    ),
    "codes of other columns": Fault(
        "ALTER TABLE xmr.code_toy_v1 ALTER COLUMN modality TYPE BLOB USING 'x'::BLOB",
        "the codes of space 'toy' version 1 are damaged: its table has other columns; repair makes them again",
    ),
    "embeddings gone": Fault(
        "DROP TABLE xmr.code_mine_v1",
        "the codes of space 'mine' version 1 are gone; drop it, and add the embeddings again",
        kept=True,
    ),
    "codes emptied": Fault(
        "DELETE FROM xmr.code_toy_v1",
        "4 images have no code in space 'toy'; repair or `refresh` makes them\n"
        "8 texts have no code in space 'toy'; repair or `refresh` makes them",
    ),
    "codes twice": Fault(
        "INSERT INTO xmr.code_toy_v1 FROM xmr.code_toy_v1",
        "12 codes of space 'toy' version 1 are there twice; repair keeps the last",
    ),
    "codes of no item": Fault(
        "INSERT INTO xmr.code_toy_v1 SELECT * REPLACE (99 AS item_id) FROM xmr.code_toy_v1 WHERE item_id = 0",
        "the counter of ids says 17, the highest in use is 99; repair sets it\n"
        "1 codes of space 'toy' version 1 refer to no item; repair deletes them",
    ),
    "codes of the other modality": Fault(
        "UPDATE xmr.code_toy_v1 SET modality = 'text' WHERE item_id = 0",
        "1 codes of space 'toy' version 1 have another modality than their item; repair deletes them\n"
        "1 image has no code in space 'toy'; repair or `refresh` makes them",
    ),
    "all codes NaN": Fault(
        "UPDATE xmr.code_toy_v1 SET vector = ['nan'::FLOAT, 0, 0, 0, 0, 0, 0, 0]",
        "4 image codes of space 'toy' version 1 hold NaN or infinity; repair makes them again\n"
        "8 text codes of space 'toy' version 1 hold NaN or infinity; repair makes them again",
    ),
    "a code table of no space": Fault(
        "CREATE TABLE xmr.code_gone_v3 (item_id BIGINT, modality VARCHAR)",
        "the table xmr.code_gone_v3 belongs to no space; repair drops it",
    ),
    "spaces emptied": Fault(
        "DELETE FROM xmr.spaces WHERE space = 'toy'",
        "xmr.spaces has lost space 'toy' version 1, whose codes and components are there; repair writes its row again",
    ),
    "parts emptied": Fault(
        "DELETE FROM xmr.parts WHERE space = 'toy'",
        "the parts of space 'toy' version 1 are gone; drop it, and fit again",
        kept=True,
    ),
    "options damaged": Fault(
        "UPDATE xmr.parts SET options = '{' WHERE space = 'toy' AND position = 0",
        "the parts of space 'toy' version 1 are damaged (the stored options of a component are damaged: Expecting "
        "property name enclosed in double quotes: line 1 column 2 (char 1)); drop it, and fit again",
        kept=True,
    ),
    "tensors emptied": Fault(
        "DELETE FROM xmr.tensors WHERE space = 'pq'",
        "space 'pq' version 1: the tensors of its pq are gone; drop it, and fit again",
        kept=True,
    ),
    "parts of no space": Fault(
        "INSERT INTO xmr.parts SELECT * REPLACE ('gone' AS space) FROM xmr.parts WHERE space = 'toy'",
        "2 components belong to no space; repair deletes them",
    ),
    "tensors of no component": Fault(
        "INSERT INTO xmr.tensors SELECT * REPLACE ('gone' AS space) FROM xmr.tensors LIMIT 1",
        "1 tensors belong to no component; repair deletes them",
    ),
    "the counter of ids below them": Fault(
        "UPDATE xmr.meta SET value = '3' WHERE key = 'next_id'",
        "the counter of ids says 3, the highest in use is 16; repair sets it",
    ),
    "the counter of ids twice, and no number": Fault(
        "INSERT INTO xmr.meta VALUES ('next_id', 'x')",
        "the counter of ids says 17 and x, the highest in use is 16; repair sets it",
    ),
    "a history of what cannot be": Fault(
        "UPDATE xmr.changes SET revision = 9000000000000000000 WHERE space = 'toy'",
        "2 rows of xmr.changes cannot be; repair empties it, and all is loaded again",
    ),
    "figures of no run": Fault(
        "INSERT INTO xmr.metrics VALUES ('gone', 'fit', 1, 'loss', 0.5)",
        "1 figures belong to no run; repair deletes them",
    ),
    "no published version": Fault(
        "UPDATE xmr.spaces SET published = FALSE WHERE space = 'toy'",
        "space 'toy' has no published version, so that no search by its name works; publish one of 1: "
        "db.publish('toy', 1)\n"
        "xmr.code_toy means version 1 of space 'toy', which is not published; repair publishes it",
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_found_and_mended(db: xmr.Library, fault: Fault) -> None:
    for statement in fault.statements.split("; "):
        db.store.execute(statement)
    found = db.doctor()
    assert "\n".join(found) == fault.says
    if fault.kept:
        assert not found[0].repairable
        return
    assert any(finding.repairable for finding in found)
    mended = db.doctor(repair=True)
    assert all(finding.mended for finding in mended if finding.repairable)
    assert db.doctor() == []
    assert db.search(text="red", k=1, space="toy", exact=True)[0].key in ("red", "green")


def test_a_sound_library_has_no_fault(db: xmr.Library) -> None:
    assert db.doctor(thorough=True) == []
    assert db.doctor(repair=True, thorough=True) == []


# items that were deleted in SQL


def keys_found(db: xmr.Library, **options: bool) -> set[str]:
    """The keys of all images that a search finds."""
    return {hit.key for hit in db.search(text="red", k=10, space="toy", modality="image", **options)}


@pytest.mark.parametrize("read_only", [False, True])
def test_codes_of_items_deleted_by_another_client_are_never_found(made: Path, tmp_path: Path, read_only: bool) -> None:
    file = shutil.copy(made, tmp_path)
    with duckdb.connect(file) as client:
        client.execute("DELETE FROM xmr.items WHERE key = 'red'")
    with xmr.open(file, read_only=read_only, progress=False) as db:
        for exact in (False, True):
            assert keys_found(db, exact=exact) == {"green", "blue", "white"}
        assert 0 not in db.store.coded_ids("toy", 1, "image")
        assert len(db.store.coded_ids("mine", 1, "image")) == 5  # embeddings belong to no item
    with xmr.open(file, progress=False) as db:
        db.doctor(repair=True)
        assert db.doctor() == []
        assert keys_found(db) == {"green", "blue", "white"}


@pytest.mark.parametrize("read_only", [False, True])
def test_a_saved_index_does_not_bring_them_back(tmp_path: Path, read_only: bool) -> None:
    vectors, file = np.random.default_rng(0).normal(size=(3000, 8)).astype(np.float32), str(tmp_path / "many.duckdb")
    with xmr.open(file, progress=False) as db:
        db.add(xmr.Items("text", vectors, [f"t{row}" for row in range(3000)]))
        db.fit("precomputed(dim=8) >> kdtree", name="near")
        assert db.search(vector=vectors[7], k=1, modality="text")[0].id == 7
    with duckdb.connect(file) as client:
        client.execute("DELETE FROM xmr.items WHERE item_id = 7")
    with xmr.open(file, read_only=read_only, progress=False) as db:
        assert db.search(vector=vectors[7], k=1, modality="text")[0].id != 7
        assert len(db.store.get_codes("near", 1, "text")) == 2999


def test_items_deleted_through_the_library_in_sql_are_gone_at_once(db: xmr.Library) -> None:
    assert "red" in keys_found(db)
    db.sql("DELETE FROM xmr.items WHERE key = 'red'")
    assert keys_found(db) == {"green", "blue", "white"}


# exports


@pytest.mark.parametrize("table", ["items", "metadata", "spaces", "parts", "code_toy_v1"])
def test_an_export_without_its_tables_is_refused(db: xmr.Library, tmp_path: Path, table: str) -> None:
    manifest = db.export(tmp_path / "out") / "library.json"
    whole = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**whole, "tables": {k: v for k, v in whole["tables"].items() if k != table}}))
    with xmr.open(tmp_path / "again.duckdb", progress=False) as again:
        with pytest.raises(xmr.StorageError, match=rf"not a whole export: its library\.json lacks {table}; restore"):
            again.restore(tmp_path / "out")
        assert again.doctor() == [] and again.spaces() == []


def test_a_manifest_without_any_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "library.json").write_text('{"format_version": 2, "tables": {}}')
    with (
        xmr.open(tmp_path / "again.duckdb", progress=False) as again,
        pytest.raises(xmr.StorageError, match="not a whole export"),
    ):
        again.restore(tmp_path)


# a table of codes that another client has dropped


def without_codes(made: Path, tmp_path: Path, space: str) -> str:
    file = shutil.copy(made, tmp_path)
    with duckdb.connect(file) as client:
        client.execute(f"DROP TABLE xmr.code_{space}_v1")
        client.execute("UPDATE xmr.meta SET value = 'of another version' WHERE key = 'macros'")
    return str(file)


@pytest.mark.parametrize("read_only", [False, True])
def test_codes_that_are_gone_are_said_to_be(made: Path, tmp_path: Path, read_only: bool) -> None:
    file = without_codes(made, tmp_path, "toy")
    told = (
        r"codes of space 'toy' version 1 are gone, with their table xmr\.code_toy_v1; db\.doctor\(repair=True\) makes"
    )
    with xmr.open(file, read_only=read_only, progress=False) as db:
        with pytest.raises(xmr.StorageError, match=told):
            db.search(text="red", space="toy")
        if not read_only:
            with pytest.raises(xmr.StorageError, match=told):
                db.publish("toy", 1)
        assert any(finding.startswith("the codes of space 'toy' version 1 are gone") for finding in db.doctor())


def test_codes_that_are_gone_are_made_again(made: Path, tmp_path: Path) -> None:
    with xmr.open(without_codes(made, tmp_path, "toy"), progress=False) as db:
        db.doctor(repair=True)
        assert db.doctor() == []
        assert keys_found(db) == {"red", "green", "blue", "white"}
        assert len(db.sql("FROM xmr.published").fetchall()) == len(db.spaces())


def test_embeddings_that_are_gone_leave_the_other_spaces_alone(made: Path, tmp_path: Path) -> None:
    with xmr.open(without_codes(made, tmp_path, "mine"), progress=False) as db:
        with pytest.raises(xmr.StorageError, match=r"drop the space, db\.drop\('mine'\), and add the embeddings again"):
            db.search(vector=np.zeros(1, np.uint8), space="mine")
        db.publish("toy", 1)
        assert keys_found(db) == {"red", "green", "blue", "white"}
        db.drop("mine")
        assert db.doctor() == []


def test_codes_that_go_while_the_library_is_open_are_said_to_be(db: xmr.Library) -> None:
    assert keys_found(db)
    db.sql("DROP TABLE xmr.code_toy_v1")
    with pytest.raises(xmr.StorageError, match="the codes of space 'toy' version 1 are gone"):
        keys_found(db)
