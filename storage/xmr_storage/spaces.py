"""Spaces of a library in any SQL database: their versions, codes, attention and runs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Hashable, Iterable
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xmr_core.components import Provider
from xmr_core.store import AttentionRows, RunRecord, SpaceRecord, Store
from xmr_core.types import Codes, Head
from xmr_storage import codes as stored
from xmr_storage import encoded, parts
from xmr_storage.records import ANSWERER, answerers, find, records

if TYPE_CHECKING:
    from xmr_storage.connection import Connection
    from xmr_storage.orphans import Orphans

__all__ = ["SqlSpaces"]

OF_VERSION = "space = $1 AND version = $2"


def now() -> str:
    """The time, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class SqlSpaces(Store):
    """The part of a store that keeps spaces. The four methods on code tables are there for a database to extend."""

    db: Connection
    _known_counts: tuple[Hashable | None, dict[str, dict[str, int]]] = (None, {})  # and the state they are of
    _orphans: Orphans = MappingProxyType({})  # codes that are not read, in a library that is open for reading only

    def _make_codes(self, space: SpaceRecord) -> None:
        """Make the empty table of codes of a new version, and what the database needs beside it."""
        stored.make(self.db, space)

    def _publish_codes(self, space: SpaceRecord) -> None:
        """Let the space's name mean this version in the database's own SQL, where it can."""

    def _drop_codes(self, name: str, versions: Iterable[int], published: bool) -> None:
        """Drop the codes of these versions; `published` where the name means one of them."""
        stored.drop(self.db, name, versions)

    def spaces(self, role: Head = "indexer") -> list[SpaceRecord]:
        tables = self.db.tables("code_") if role == "indexer" else ()
        return [self._counted(space, tables) if tables else space for space in self.uncounted(role)]

    def uncounted(self, role: Head = "indexer") -> list[SpaceRecord]:
        return answerers(self.db) if role == "answerer" else records(self.db)

    def _counted(self, space: SpaceRecord, tables: Collection[str]) -> SpaceRecord:
        table = stored.table_name(space.name, space.version)
        if table not in tables:  # `doctor` tells, `drop_space` cures
            return space
        return dataclasses.replace(space, counts=dict(self._counts(table)))

    def _counts(self, table: str) -> dict[str, int]:
        """The codes of each modality in a table, counted once where the database tells that nothing has changed."""
        state = None if self.db.changing is not None else self.db.state()
        at, counts = self._known_counts
        if state is None or state != at:
            counts = {}
        if table not in counts:
            rows = self.db.rows(f"SELECT modality, count(*) FROM xmr.{table} GROUP BY modality ORDER BY modality")
            counts = {**counts, table: {modality: int(count) for modality, count in rows}}
            self._known_counts = state, counts  # at once: other threads read it
        return counts[table]

    def load_space(self, name: str, version: int | None = None, role: Head = "indexer") -> SpaceRecord:
        space = find(self.db, name, version, role)
        if role == "indexer":
            tables = self.db.tables("code_")
            if stored.table_name(space.name, space.version) not in tables:
                raise stored.gone(self.db, space.name, space.version)
            space = self._counted(space, tables)
        return dataclasses.replace(space, parts=parts.get(self.db, name, space.version))

    def providers(self, name: str, version: int) -> list[Provider]:
        return [one for own in parts.providers(self.db, name, version).values() for one in own]

    def put_space(self, space: SpaceRecord) -> None:
        with self.db.transaction():
            if space.role == "answerer":
                self._put_answerer(space)
            else:
                self._put_coded(space)
                parts.put(self.db, space.name, space.version, space.parts)

    def _put_answerer(self, space: SpaceRecord) -> None:
        """Write a space that answers; it replaces the one of its name."""
        self._delete_answerer(space.name)
        self.db.execute(
            "INSERT INTO xmr.answerers VALUES ($1, $2, $3, $4, $5)",
            [space.name, space.recipe, space.fingerprint, space.seed, now()],
        )
        parts.put(self.db, space.name, ANSWERER, space.parts)

    def _delete_answerer(self, name: str) -> None:
        self.db.execute("DELETE FROM xmr.answerers WHERE answerer = $1", [name])
        parts.drop(self.db, name, ANSWERER)

    def _put_coded(self, space: SpaceRecord) -> None:
        """Write a space that searches, without its parts, and an empty table of codes."""
        self._make_codes(space)
        self.insert_space(space)

    def insert_space(self, space: SpaceRecord) -> None:
        """Write the row of a space that searches, not published."""
        layout = space.code_layout
        self.db.execute(
            "INSERT INTO xmr.spaces VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, FALSE)",
            [
                *(space.name, space.version, space.recipe, space.fingerprint, space.metric),
                *(layout.name, layout.dim, layout.columns[0].bits or 0, space.seed, now()),
            ],
        )

    def remake_codes(self, space: SpaceRecord) -> None:
        """Make an empty table of codes in the place of one that is gone or damaged, and what stands beside it."""
        form = stored.forms(self.db, space.name).get(space.version)
        tables = encoded.tables(self.db, space.name, space.version)
        kept = {modality: encoded.kept_in(modality, table) for modality, table in tables.items()}
        with self.db.transaction():
            self._drop_codes(space.name, [space.version], space.published)
            self._make_codes(dataclasses.replace(space, form=form, kept=kept))
            if space.published:
                self.publish(space.name, space.version)

    def publish(self, name: str, version: int) -> None:
        space = find(self.db, name, version)
        with self.db.transaction():
            self.db.execute("UPDATE xmr.spaces SET published = (version = $2) WHERE space = $1", [name, space.version])
            self._publish_codes(dataclasses.replace(space, parts=parts.get(self.db, name, space.version)))

    def drop_space(self, name: str, version: int | None = None, role: Head = "indexer") -> None:
        if role == "answerer":
            find(self.db, name, version, role)
            with self.db.transaction():
                self._delete_answerer(name)
            return
        doomed = [s for s in records(self.db) if s.name == name and version in (None, s.version)]
        if not doomed:
            find(self.db, name, version)
        with self.db.transaction():
            self._drop_codes(name, [gone.version for gone in doomed], any(gone.published for gone in doomed))
            for gone in doomed:
                for table in ("spaces", "attention", "training"):
                    self.db.execute(f"DELETE FROM xmr.{table} WHERE {OF_VERSION}", [name, gone.version])
                parts.drop(self.db, name, gone.version)
                self.db.noted.unknown(name, gone.version)

    def put_training(self, name: str, version: int, ids: NDArray[np.int64]) -> None:
        import pyarrow as pa

        table = pa.table(
            {
                "space": pa.array([name]).take(pa.array(np.zeros(len(ids), np.int8))),
                "version": np.full(len(ids), version),
                "item_id": ids,
            }
        )
        with self.db.transaction(counted=False):
            self.db.insert("training", table)

    def training_ids(self, name: str, version: int) -> NDArray[np.int64] | None:
        if not self.db.columns("training"):  # an older file, open for reading only
            return None
        rows = self.db.rows(f"SELECT item_id FROM xmr.training WHERE {OF_VERSION} ORDER BY item_id", [name, version])
        return np.array([item for (item,) in rows], np.int64) if rows else None

    def put_codes(self, name: str, version: int, modality: str, codes: Codes) -> None:
        with self.db.transaction():
            self.db.noted.use(codes.ids)
            self.db.noted.came(name, version, modality, codes.ids)
            stored.put(self.db, name, version, modality, codes)

    def get_codes(self, name: str, version: int, modality: str, ids: NDArray[np.int64] | None = None) -> Codes:
        codes, gone = (
            stored.get(self.db, find(self.db, name, version), modality, ids),
            self._orphans.get((name, version)),
        )
        return codes if gone is None else codes.take(~np.isin(codes.ids, gone))

    def coded_ids(self, name: str, version: int, modality: str) -> NDArray[np.int64]:
        ids, gone = stored.coded_ids(self.db, name, version, modality), self._orphans.get((name, version))
        return ids if gone is None else ids[~np.isin(ids, gone)]

    def put_attention(self, name: str, version: int, rows: AttentionRows) -> None:
        import pyarrow as pa

        table = pa.table(
            {
                "item_id": rows.ids,
                "space": pa.array([name]).take(pa.array(np.zeros(len(rows.ids), np.int8))),
                "version": np.full(len(rows.ids), version),
                "step": rows.steps,
                "position": rows.positions,
                "token": pa.array(rows.tokens, pa.string()),
                "weight": rows.weights,
            }
        )
        with self.db.transaction(counted=False):
            with self.db.given(_seen=table):
                self.db.execute(
                    f"DELETE FROM xmr.attention WHERE {OF_VERSION} AND item_id IN (SELECT item_id FROM _seen)",
                    [name, version],
                )
            self.db.insert("attention", table)

    # runs

    def put_run(self, record: RunRecord) -> None:
        with self.db.transaction(counted=False):
            if not self.db.rows("SELECT 1 FROM xmr.runs WHERE run_id = $1", [record.run]):
                self.db.execute(
                    "INSERT INTO xmr.runs VALUES ($1, $2, $3, $4, $5)",
                    [record.run, record.space, record.version, json.dumps(record.notes), now()],
                )
            for name, value in record.figures.items():
                self.db.execute(
                    "INSERT INTO xmr.metrics VALUES ($1, $2, $3, $4, $5)",
                    [record.run, record.what, record.step, name, float(value)],
                )

    def latest_runs(self, limit: int) -> list[RunRecord]:
        rows = self.db.rows(
            """
            SELECT r.run_id, r.space, r.version, r.notes, r.created, m.what, m.step, m.name, m.value
            FROM xmr.runs AS r
            JOIN xmr.metrics AS m ON m.run_id = r.run_id
            JOIN (SELECT run_id, what, max(step) AS step FROM xmr.metrics GROUP BY run_id, what) AS last
            ON last.run_id = m.run_id AND last.what = m.what AND last.step = m.step
            ORDER BY r.created DESC, r.run_id, m.what, m.name
            """
        )
        runs: dict[tuple[str, str], RunRecord] = {}
        for run, space, version, notes, created, what, step, name, value in rows:
            known = runs.get((run, what))
            figures = {**(known.figures if known else {}), name: value}
            runs[run, what] = RunRecord(
                run, space, version, what, step, figures, parts.json_object(notes, "the notes of a run"), created
            )
        return list(runs.values())[:limit]
