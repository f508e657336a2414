"""Items of a library in any SQL database: with their metadata, links, labels and features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import DataError
from xmr_core.search.condition import Where, as_condition
from xmr_core.store import ItemRows, Store
from xmr_core.types import IMAGE, TEXT, Items, Pairs
from xmr_storage import features, replacing, sources
from xmr_storage import metadata as own
from xmr_storage.chosen import chosen
from xmr_storage.codes import table_name
from xmr_storage.ids import ids_of, next_id, wanted
from xmr_storage.quoting import quoted
from xmr_storage.records import code_tables

if TYPE_CHECKING:
    import pyarrow as pa

    from xmr_storage.connection import Connection

__all__ = ["SqlItems"]

PRECOMPUTED = "precomputed"  # the extractor of vectors that were given ready-made
LABELS = "SELECT DISTINCT label FROM xmr.labels ORDER BY label"


class SqlItems(Store):
    """The part of a store that keeps items."""

    replaces: ClassVar[bool] = True
    keeps_sources: ClassVar[bool] = True

    db: Connection

    def match(self, modality: str, keys: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
        query = "SELECT key, item_id, content FROM xmr.items WHERE modality = $1"
        with chosen(self.db, "key", list(keys), first=2) as (which, values):
            found = {key: told for key, *told in self.db.rows(f"{query} AND {which}", [modality, *values])}
        ids, contents = np.full(len(keys), -1, np.int64), np.full(len(keys), None, object)
        for row, key in enumerate(keys if found else ()):
            if key in found:
                ids[row], contents[row] = found[key]
        return ids, contents

    def next_id(self) -> int:
        return next_id(self.db)

    def put_items(self, rows: ItemRows, metadata: Mapping[str, Sequence[Any]]) -> None:
        import pyarrow as pa

        with self.db.transaction():
            self.db.noted.use(rows.ids)
            self.db.insert("items", _table_of(rows))
            if metadata:
                fitting = own.fit_columns(self.db, self.typed_metadata(metadata))
                self.db.insert("metadata", pa.table({"item_id": rows.ids, **fitting}))

    def replace_items(self, rows: ItemRows) -> None:
        replacing.replace_items(self.db, rows, _table_of(rows))

    def typed_metadata(self, metadata: Mapping[str, Sequence[Any]]) -> Mapping[str, Any]:
        return {name: own.column(name, values) for name, values in metadata.items()}

    def update_metadata(self, ids: NDArray[np.int64], metadata: Mapping[str, Sequence[Any]]) -> NDArray[np.int64]:
        with self.db.transaction():
            return own.update(self.db, ids, self.typed_metadata(metadata))

    def metadata_columns(self) -> list[str]:
        return own.names(self.db)

    def put_links(self, image_ids: NDArray[np.int64], text_ids: NDArray[np.int64]) -> None:
        import pyarrow as pa

        if not len(image_ids):
            return
        with self.db.transaction(), self.db.given(_links=pa.table({"image_id": image_ids, "text_id": text_ids})):
            self.db.noted.links()
            self.db.execute(
                """
                INSERT INTO xmr.pairs
                SELECT image_id, text_id FROM _links
                EXCEPT
                SELECT image_id, text_id FROM xmr.pairs
                ORDER BY image_id, text_id
                """
            )

    def drop_links(self, image_ids: NDArray[np.int64], text_ids: NDArray[np.int64]) -> None:
        import pyarrow as pa

        if not len(image_ids):
            return
        with self.db.transaction(), self.db.given(_links=pa.table({"image_id": image_ids, "text_id": text_ids})):
            self.db.noted.links()
            self.db.execute(
                """
                DELETE FROM xmr.pairs
                WHERE EXISTS (
                    SELECT 1 FROM _links AS l WHERE l.image_id = pairs.image_id AND l.text_id = pairs.text_id
                )
                """
            )

    def put_labels(self, ids: NDArray[np.int64], labels: NDArray[np.uint8], names: Sequence[str]) -> None:
        import pyarrow as pa

        rows, columns = np.nonzero(labels)
        table = pa.table({"item_id": ids[rows], "label": pa.array(names, pa.string()).take(pa.array(columns))})
        with self.db.transaction():
            with self.db.given(_relabelled=pa.table({"item_id": ids})):
                self.db.execute("DELETE FROM xmr.labels WHERE item_id IN (SELECT item_id FROM _relabelled)")
            self.db.insert("labels", table)

    def ids(
        self, modality: str | None = None, where: Where | None = None, coded: tuple[str, int] | None = None
    ) -> NDArray[np.int64]:
        condition = None if where is None else as_condition(where)
        bound = condition.values if condition else ()
        of_kind, values = ("TRUE", bound) if modality is None else (f"modality = ${len(bound) + 1}", (*bound, modality))
        table = "xmr.items" if condition is None else f"({own.catalog(self.db)}) AS catalog"
        chosen = f"SELECT item_id FROM {table if coded is None else self._coded(*coded)} WHERE {of_kind}"
        if condition is None:
            return ids_of(self.db.arrow(f"{chosen} ORDER BY item_id", values))
        try:
            query = f"{chosen} AND (\n{condition.sql}\n) ORDER BY item_id"
            return ids_of(self.db.condition(condition.sql, query, values))
        except DataError as error:
            columns = ", ".join([*own.CATALOG, *self.metadata_columns()])
            raise DataError(f"where={str(condition)!r}: {error} (columns: {columns})") from error

    def _coded(self, name: str, version: int) -> str:
        """A table: the columns of the catalog, of all that has a code; NULL where a code belongs to no item."""
        columns = "".join(f", c.{quoted(column)}" for column in [*own.CATALOG[2:], *self.metadata_columns()])
        return f"""(
            SELECT v.item_id, v.modality{columns}
            FROM xmr.{table_name(name, version)} AS v LEFT JOIN ({own.catalog(self.db)}) AS c ON c.item_id = v.item_id
            ) AS catalog"""

    def items(self, ids: NDArray[np.int64], modality: str) -> Items:
        """Items by ids, in their order; those whose vectors were given ready-made have these for data."""
        with chosen(self.db, "item_id", ids) as (which, values):
            told = self.db.rows(f"SELECT item_id, key, text, source, data FROM xmr.items WHERE {which}", values)
        by_id = {item: row for item, *row in told}
        rows = [by_id[item] for item in ids.tolist() if item in by_id]
        if len(rows) != len(ids):
            raise DataError(f"{len(ids) - len(rows)} of {len(ids)} ids do not exist")
        data: list[Any] = [
            text if text is not None else blob if blob is not None else source for _, text, source, blob in rows
        ]
        bare = [row for row, entry in enumerate(data) if entry is None]
        if bare:
            found, vectors = self.get_features(PRECOMPUTED, ids[bare])
            for row, vector in zip(np.array(bare)[found], vectors, strict=True):
                data[row] = vector
        return Items(modality, data, [row[0] for row in rows], ids, stored=True, vectors=self)

    def pairs(self, where: Where | None = None) -> Pairs:
        condition = None if where is None else as_condition(where)
        images, texts = (self.items(self.ids(modality, condition), modality) for modality in (IMAGE, TEXT))
        links = self.links()
        links = links[np.isin(links[:, 0], images.ids) & np.isin(links[:, 1], texts.ids)]
        rows = [np.searchsorted(side.ids, links[:, column]) for column, side in enumerate((images, texts))]
        names = self._label_names()
        images, texts = (self._labelled(side, names) for side in (images, texts))
        return Pairs(images, texts, np.stack(rows, axis=1), names, name=str(condition) if condition else "all items")

    def links(self) -> NDArray[np.int64]:
        table = self.db.arrow("SELECT image_id, text_id FROM xmr.pairs ORDER BY image_id, text_id")
        return np.stack([ids_of(table, "image_id"), ids_of(table, "text_id")], axis=1)

    def _label_names(self) -> list[str]:
        return [name for (name,) in self.db.rows(LABELS)]

    def _labelled(self, items: Items, names: Sequence[str]) -> Items:
        if not names:
            return items
        return Items(
            items.modality,
            items.data,
            items.keys,
            items.ids,
            labels=self.labels(items.ids, names),
            stored=True,
            vectors=self,
        )

    def labels(self, ids: NDArray[np.int64], names: Sequence[str] | None = None) -> NDArray[np.uint8]:
        import pyarrow as pa

        names = self._label_names() if names is None else names
        columns = pa.table({"position": np.arange(len(names)), "label": pa.array(names, pa.string())})
        with self.db.given(_wanted=wanted(ids), _names=columns):
            found = self.db.arrow(
                """
                SELECT w.place, n.position
                FROM xmr.labels AS l
                JOIN _wanted AS w ON w.item_id = l.item_id
                JOIN _names AS n ON n.label = l.label
                """
            )
        labels = np.zeros((len(ids), len(names)), np.uint8)
        labels[ids_of(found, "place"), ids_of(found, "position")] = 1
        return labels

    def describe(self, ids: NDArray[np.int64]) -> Mapping[str, Sequence[Any]]:
        columns = [*own.CATALOG[1:], *self.metadata_columns()]
        with self.db.given(_wanted=wanted(ids)):
            rows = self.db.rows(
                f"""
                SELECT w.item_id, {", ".join(f"c.{quoted(name)}" for name in columns)}
                FROM _wanted AS w LEFT JOIN ({own.catalog(self.db)}) AS c ON c.item_id = w.item_id
                ORDER BY w.place
                """
            )
        names = [own.CATALOG[0], *columns]
        return {name: [row[position] for row in rows] for position, name in enumerate(names)}

    def counts(self) -> Mapping[str, int]:
        rows = self.db.rows("SELECT modality, count(*) FROM xmr.items GROUP BY modality ORDER BY modality")
        ((links,),) = self.db.rows("SELECT count(*) FROM xmr.pairs")
        ((labels,),) = self.db.rows("SELECT count(DISTINCT label) FROM xmr.labels")
        return {**{modality: int(count) for modality, count in rows}, "pairs": int(links), "labels": int(labels)}

    def delete(self, ids: NDArray[np.int64]) -> int:
        coded, ids = code_tables(self.db), np.unique(ids)
        tables = ["items", "metadata", "labels", "attention", "sources", *coded, *features.tables(self.db)]
        held = [ids[:0]]
        with self.db.transaction():
            with chosen(self.db, "item_id", ids) as (doomed, values):
                for table in tables:
                    statement = f"DELETE FROM xmr.{table} WHERE {doomed}"
                    if table == "items" or table in coded:
                        held.append(ids_of(self.db.arrow(f"{statement} RETURNING item_id", values)))
                    else:
                        self.db.execute(statement, values)
            for column in ("image_id", "text_id"):
                with chosen(self.db, column, ids) as (doomed, values):
                    self.db.execute(f"DELETE FROM xmr.pairs WHERE {doomed}", values)
            self.db.noted.went(ids)
            self.db.noted.links()
        return len(np.unique(np.concatenate(held)))

    def put_source(self, source: str, ids: NDArray[np.int64], stamps: Sequence[str]) -> None:
        sources.put(self.db, source, ids, stamps)

    def get_source(self, source: str) -> tuple[NDArray[np.int64], Sequence[str]]:
        return sources.get(self.db, source)

    def sourced_elsewhere(self, source: str, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        return sources.elsewhere(self.db, source, ids)

    def get_features(self, extractor: str, ids: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        return features.get(self.db, extractor, ids)

    def put_features(self, extractor: str, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        features.put(self.db, extractor, ids, vectors)

    def put_vectors(self, modality: str, name: str, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        try:
            features.put(self.db, features.vectors_name(modality, name), ids, vectors)
        except DataError as error:
            raise DataError(f"vectors {name!r} of {modality}s: {str(error).split(': ', 1)[-1]}") from None

    def replace_vectors(self, modality: str, name: str, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        replacing.replace_vectors(self.db, modality, features.vectors_name(modality, name), ids, vectors)

    def get_vectors(
        self, modality: str, name: str, ids: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        return features.get(self.db, features.vectors_name(modality, name), ids)

    def vector_widths(self, modality: str) -> Mapping[str, int]:
        return features.vector_widths(self.db, modality)


def _table_of(rows: ItemRows) -> pa.Table:
    """Items as `xmr.items` has them. Raises DataError on text that is not Unicode."""
    import pyarrow as pa

    try:
        given = {"key": rows.keys, "content": rows.content, "source": rows.source, "text": rows.text}
        texts = {name: pa.array(values, pa.string()) for name, values in given.items()}
    except UnicodeEncodeError as error:
        raise DataError(f"text is not valid Unicode: {error}") from None
    modality = pa.array([rows.modality]).take(pa.array(np.zeros(len(rows.ids), np.int8)))
    blobs = pa.array(rows.blob, pa.binary())
    return pa.table({"item_id": rows.ids, "modality": modality, **texts, "data": blobs})
