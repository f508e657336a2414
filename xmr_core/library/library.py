"""A library: items, codes and models in one database file, and the nearest of the other kind.

db = xmr.open("flickr.duckdb")
db.add(xmr.datasets.flickr8k("Flickr8k/"))
db.fit("dcmh(bits=64) >> sign >> hamming", seed=0)
for hit in db.search(text="a dog on green grass", k=10):
    print(hit.distance, hit.key)
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import ConfigError, DataError, SpaceMismatchError, StorageError
from xmr_core.explain import attention
from xmr_core.explain.attention import Attention, Explained
from xmr_core.library import answers, region_cache
from xmr_core.library.answers import AnswerEvaluation, Learnt
from xmr_core.library.evaluation import Evaluation, Measure, evaluate, has_split
from xmr_core.library.ingest import Added, Prepared, check_keys, fault_of_text, named, prepare
from xmr_core.library.results import Query, Results
from xmr_core.library.run import LibraryRun
from xmr_core.library.spaces import Space, leave_no_empty, record_of
from xmr_core.progress import current_run, use_run
from xmr_core.recipes import Pipeline
from xmr_core.registry import default
from xmr_core.search import reranking
from xmr_core.search.exact import check_search
from xmr_core.store import ItemRows, Store
from xmr_core.types import IMAGE, TEXT, Codes, Embeddings, Items, Pairs, as_array, as_ids
from xmr_core.vqa import Answers, Questions

__all__ = ["Library", "open", "register"]

OTHER = {IMAGE: TEXT, TEXT: IMAGE}
ADD_BLOCK = 2000  # items that are checked and stored at once
CODE_BLOCK = 4096  # items that are encoded and stored at once
PADDING = 1 << 24  # empty places that an answer may have, where k is larger than the collection
SPACE_NAME = re.compile(r"(?!.*_v\d+$)[a-z][a-z0-9_]{0,39}")


def open(url: str | Path, read_only: bool = False, progress: bool | None = None) -> Library:
    """The library at `url`: the path of a DuckDB file (made where it is not there), or `scheme://` of another store.

    The file may hold tables of yours; everything here stays in its schema `xmr`. `progress` shows bars; None shows
    them where somebody watches the error stream. Raises StorageError, SchemaVersionError, LockedError.
    """
    if not isinstance(url, (str, Path)) or not str(url).strip() or "\0" in str(url):
        raise StorageError(f"open: expected the path of a file, got {url!r}")
    url = str(url)
    scheme = url.split("://", 1)[0] if "://" in url else ""
    stores = default().entries("store")
    for entry in stores:
        if scheme in entry.component.schemes:
            return Library(entry.component.open(url, read_only), progress)
    known = sorted({f"{known}://" for entry in stores for known in entry.component.schemes if known})
    raise StorageError(f"{url}: no store opens this; there are {', '.join(known) or 'none installed'}")


def register(connection: Any) -> Library:
    """Give a database connection of yours the live functions `xmr.search` and `xmr.encode_text`.

    The connection must be open on a file that holds a library; the functions live as long as it does and leave nothing
    in the file. Returns the library behind them. Raises StorageError.
    """
    for entry in default().entries("store"):
        url = entry.component.url_of(connection)
        if url is not None:
            library = _beside(url)
            library.register(connection)
            return library
    raise StorageError("register: expected a connection that is open on a database file with a library in it")


def _beside(url: str) -> Library:
    """The library at a URL that a connection of the user's holds already, for writing or for reading only."""
    try:
        return open(url, progress=False)
    except StorageError:
        return open(url, read_only=True, progress=False)


class Library:
    """A library, open. Made by `xmr_core.open`; close it, or use it in a `with`. It is for one thread.

    One process may write a file at a time, or any number may read it.
    """

    def __init__(self, store: Store, progress: bool | None = None) -> None:
        self.store, self._progress = store, progress
        self._spaces: dict[tuple[str | None, int | None], Space] = {}
        self._answerers: dict[str, Learnt] = {}

    def __enter__(self) -> Library:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self.store.close()

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {what}s" for what, count in self.store.counts().items() if what in OTHER)
        spaces = ", ".join(sorted({space.name for space in self.store.spaces()})) or "none"
        return f"<library {self.store.url}: {counts or 'empty'}; spaces: {spaces}>"

    def _run(self) -> LibraryRun:
        return LibraryRun(self.store, progress=self._progress)

    # adding and deleting

    def add(self, source: Pairs | Items, on_error: str = "refuse", encode: bool = True) -> Added:
        """Add pictures and sentences, and which go together: all of it or, on any error, nothing.

        An item whose key is known with the same content is left as it is, so that adding twice adds nothing; its links
        and labels are added. `on_error` says what becomes of unreadable pictures and empty texts: "refuse" raises
        DataError naming their keys, "skip" leaves them out and reports them. `encode` gives new items codes in every
        published space.
        """
        if on_error not in ("refuse", "skip"):
            raise ConfigError("on_error", on_error, "must be 'refuse' or 'skip'")
        if not isinstance(source, (Pairs, Items)):
            raise DataError(f"add: expected Pairs or Items, got {type(source).__name__}")
        if isinstance(source, Items) and source.labels is not None:
            raise DataError("add: labels have names in Pairs alone; give Pairs, with an empty side if need be")
        sides = [source] if isinstance(source, Items) else [source.images, source.texts]
        names = () if isinstance(source, Items) else source.label_names
        with self._run() as run, use_run(run), self.store.transaction():
            added, ids = Added(skipped=dict(getattr(source, "skipped", {}))), []
            for items in sides:
                report, placed = self._add_items(items, names, on_error, run)
                added += report
                ids.append(placed)
            if isinstance(source, Pairs):
                links = np.stack([ids[side][source.links[:, side]] for side in (0, 1)], axis=1)
                links = links[(links >= 0).all(axis=1)]
                self.store.put_links(links[:, 0], links[:, 1])
            if added.new and encode:
                self._refresh()
        self._forget()
        return added

    def _add_items(
        self, items: Items, names: Sequence[str], on_error: str, run: LibraryRun
    ) -> tuple[Added, NDArray[np.int64]]:
        """The report, and (n,) the ids that the items have now, -1 where skipped."""
        added, ids = Added(), [np.empty(0, np.int64)]
        for places in run.track(_blocks(len(items), ADD_BLOCK), f"adding {items.modality}s, {ADD_BLOCK} at a time"):
            block = items.take(places)
            rows = prepare(block)
            if rows.bad and on_error == "refuse":
                keys = [block.keys[place] for place in rows.bad]
                raise DataError(
                    f"{len(keys)} of these {items.modality}s cannot be used: {named(keys)} "
                    f"({next(iter(rows.bad.values()))}); nothing was added; on_error='skip' leaves them out",
                    keys,
                )
            report, placed = self._add_block(block, rows, names)
            added += report
            ids.append(placed)
        return added, np.concatenate(ids)

    def _add_block(self, block: Items, rows: Prepared, names: Sequence[str]) -> tuple[Added, NDArray[np.int64]]:
        good = np.array([place for place in range(len(block)) if place not in rows.bad], np.int64)
        ids, known = self.store.match(block.modality, block.keys)
        changed = [block.keys[place] for place in good if ids[place] >= 0 and known[place] != rows.content[place]]
        if changed:
            raise DataError(
                f"{named(changed)}: already there with other content; delete these first, or give new keys", changed
            )
        firsts = good[check_keys(block.take(good), [rows.content[place] for place in good])]
        new = firsts[ids[firsts] < 0]
        start = self.store.next_id()
        assigned = {block.keys[place]: start + order for order, place in enumerate(new)}
        ids = np.array([assigned.get(key, ids[place]) for place, key in enumerate(block.keys)], np.int64)
        ids[list(rows.bad)] = -1
        if len(new):
            columns = [[column[place] for place in new] for column in (rows.content, rows.source, rows.text, rows.blob)]
            items = block.take(new)
            self.store.put_items(ItemRows(block.modality, ids[new], items.keys, *columns), items.metadata)
            if rows.vectors is not None:
                self.store.put_features("precomputed", ids[new], rows.vectors[new])
        if block.labels is not None and len(good):
            self.store.put_labels(ids[good], block.labels[good], names)
        skipped = {block.keys[place]: reason for place, reason in rows.bad.items()}
        return Added(len(new), len(good) - len(new), skipped), ids

    def add_embeddings(
        self,
        values: object,
        space: str,
        recipe: str | None = None,
        modality: str = IMAGE,
        ids: NDArray[np.int64] | None = None,
    ) -> NDArray[np.int64]:
        """Add embeddings made elsewhere: packed bits (n, bits/8) uint8, or vectors (n, d). Returns their ids (n,).

        Where there is no space of that name, one is made from `recipe`, which has no encoder: "hamming", "flat",
        "pca(dim=24) >> pq(bytes=8)"; its parts are fitted on these values. `ids` are yours to choose; without them
        they go on from the last.
        """
        made = _embeddings(values)
        if not isinstance(modality, str) or not modality:
            raise DataError(f"modality {modality!r}: expected a name, like {IMAGE!r} or {TEXT!r}")
        _space_name(space)
        chosen = None if ids is None else as_ids(ids)
        if chosen is not None and (chosen.shape != (len(made),) or len(np.unique(chosen)) < len(made)):
            raise DataError(f"ids: expected {len(made)} different ones, got {len(np.unique(chosen))} in {chosen.shape}")
        with self._run() as run, use_run(run), self.store.transaction():
            loaded = next((self.space(space) for known in self.store.spaces() if known.name == space), None)
            pipeline = loaded.pipeline if loaded else _pipeline(recipe or "hamming").fit_embeddings(made, modality)
            final = np.arange(len(made)) + self.store.next_id() if chosen is None else chosen
            order = np.argsort(final, kind="stable")
            codes = pipeline.indexer.encode(pipeline.embed_vectors(made, modality).take(order), final[order])
            version = loaded.record.version if loaded else self._new_version(space)
            if loaded is None:
                self._put_space(space, version, pipeline, codes, None)
                self.store.publish(space, version)
            else:
                self._check_new(loaded, modality, codes)
            self.store.put_codes(space, version, modality, codes)
        self._forget()
        return final

    def _check_new(self, space: Space, modality: str, codes: Codes) -> None:
        if codes.layout != space.record.layout:
            raise DataError(f"space {space.name!r} holds codes of {space.record.layout}, got {codes.layout}")
        clash = np.intersect1d(self.store.coded_ids(space.name, space.record.version, modality), codes.ids)
        if len(clash):
            raise DataError(f"space {space.name!r} has {modality} codes of {len(clash)} of these ids, first {clash[0]}")

    def delete(self, ids: Sequence[int] | NDArray[np.int64] | None = None, where: str | None = None) -> int:
        """Delete items by id, or those that match a SQL condition, with links, labels, features and codes.

        Returns how many there were. The file keeps the room for what comes; `compact` gives it back to the disk.
        """
        if (ids is None) == (where is None):
            raise DataError("delete: give ids or where")
        doomed = self.store.ids(where=where) if ids is None else as_ids(ids)
        digests = region_cache.kept_of(self.store, doomed)
        count = self.store.delete(doomed)
        region_cache.forget(self.store, digests)
        self._forget()
        return count

    # fitting

    def fit(
        self,
        recipe: str | Pipeline,
        name: str | None = None,
        where: str | None = None,
        seed: int = 0,
        publish: bool = True,
    ) -> Space:
        """Fit a recipe on pairs of this library, encode every item, store the codes, and publish the space.

        `where` chooses the training items by a SQL condition; without it, those of `split = 'train'` where there are
        any, else all. A known `name` gets a new version, and the old one serves until the new one is ready. A killed
        fit goes on from its last checkpoint when it is called again with the same recipe, seed and items.
        """
        pipeline = _pipeline(recipe).with_seed(_seed(seed))
        name = _space_name(name or "_".join(part.name for part in pipeline.parts))
        pairs = self.store.pairs(where if where is not None else self._training())
        if not len(pairs.images) and not len(pairs.texts):
            raise DataError(f"nothing to fit on: no items{f' where {where}' if where else ''}; add some first")
        notes = {"recipe": repr(pipeline), "seed": seed, "where": pairs.name, "pairs": len(pairs.links)}
        checkpoints = self._checkpoints(pipeline, pairs)
        version = self._new_version(name)
        with LibraryRun(self.store, name, version, notes, self._progress, checkpoints) as run, use_run(run):
            fitted = pipeline.fit(pairs)
            with self.store.transaction():
                self._encode_all(name, version, fitted, seed)
                if publish:
                    self.store.publish(name, version)
        if checkpoints is not None:
            shutil.rmtree(checkpoints, ignore_errors=True)
            leave_no_empty(checkpoints.parent)
        self._forget()
        return self.space(name, version)

    def _training(self) -> str | None:
        return "split = 'train'" if has_split(self.store, "train") else None

    def _checkpoints(self, pipeline: Pipeline, pairs: Pairs) -> Path | None:
        if self.store.folder is None:
            return None
        digest = hashlib.sha256(repr(pipeline).encode())
        for array in (pairs.images.ids, pairs.texts.ids, pairs.links, pairs.labels):
            digest.update(b"-" if array is None else array.tobytes())
        return self.store.folder / "checkpoints" / digest.hexdigest()[:16]

    def _new_version(self, name: str) -> int:
        return 1 + max((space.version for space in self.store.spaces() if space.name == name), default=0)

    def _encode_all(self, name: str, version: int, pipeline: Pipeline, seed: int) -> None:
        made = False
        for modality in pipeline.modalities:
            for codes in self._codes(pipeline, modality, self.store.ids(modality)):
                if not made:
                    self._put_space(name, version, pipeline, codes, seed)
                    made = True
                self.store.put_codes(name, version, modality, codes)

    def _put_space(self, name: str, version: int, pipeline: Pipeline, codes: Codes, seed: int | None) -> None:
        self.store.put_space(record_of(_space_name(name), version, pipeline, codes.layout, seed))

    def _codes(self, pipeline: Pipeline, modality: str, ids: NDArray[np.int64]) -> Iterator[Codes]:
        blocks = current_run().track(_blocks(len(ids), CODE_BLOCK), f"encoding {modality}s, {CODE_BLOCK} at a time")
        for places in blocks:
            yield pipeline.encode(self.store.items(ids[places], modality))

    def refresh(self) -> int:
        """Give codes to items that lack them in a published space; returns how many codes were made."""
        with self._run() as run, use_run(run), self.store.transaction():
            count = self._refresh()
        self._forget()
        return count

    def _refresh(self) -> int:
        count = 0
        for record in self.store.spaces():
            space = self.space(record.name) if record.published else None
            if space is None or space.pipeline.encoder is None:
                continue
            for modality in space.pipeline.modalities:
                have = self.store.coded_ids(record.name, record.version, modality)
                missing = np.setdiff1d(self.store.ids(modality), have, assume_unique=True)
                for codes in self._codes(space.pipeline, modality, missing):
                    self.store.put_codes(record.name, record.version, modality, codes)
                    count += len(codes)
        return count

    def _forget(self) -> None:
        """Load spaces anew when they are next asked for: codes, versions or names have changed."""
        self._spaces.clear()
        self._answerers.clear()

    # spaces

    def spaces(self) -> list[str]:
        """The names of the spaces that are published."""
        return sorted(space.name for space in self.store.spaces() if space.published)

    def space(self, name: str | None = None, version: int | None = None) -> Space:
        """A space, loaded once: the only one where none is named, the published version where none is given."""
        found = self._spaces.get((name, version))
        if found is None:
            named = name or self._only_space()
            loaded = (space for space in self._spaces.values() if _is(space, named, version))  # under another call
            found = next(loaded, None) or Space.load(self.store, named, version)
            self._spaces[name, version] = found
        return found

    def _only_space(self) -> str:
        names = self.spaces()
        if len(names) != 1:
            raise DataError(
                f"which space? there are {', '.join(names)}" if names else "no space yet: fit a recipe first"
            )
        return names[0]

    def publish(self, name: str, version: int) -> None:
        """Let a name mean this version from now on, here and in SQL, at once."""
        self.store.publish(name, version)
        self._forget()

    def drop(self, name: str, version: int | None = None) -> None:
        """Drop a version of a space with its codes and models, or all its versions."""
        self.store.drop_space(name, version)
        self._forget()

    # searching

    def encode(self, text: str | Sequence[str] | None = None, image: Any = None, space: str | None = None) -> Query:
        """Sentences or pictures as queries of a space, to search with later or more than once. Raises DataError."""
        items = _query_items(text, image)
        loaded = self.space(space)
        made = loaded.pipeline.embed(items)
        return Query(made.values, made.metric, loaded.record.fingerprint)

    def search(
        self,
        text: str | Sequence[str] | None = None,
        image: Any = None,
        vector: object = None,
        item: int | None = None,
        k: int | None = None,
        within: float | None = None,
        where: str | None = None,
        modality: str | None = None,
        space: str | None = None,
        exact: bool = False,
        explain: bool = False,
        rerank: int = 0,
    ) -> Results:
        """The nearest of the other kind: pictures for `text`, texts for `image`.

        The query is one of: `text`, a sentence or a list of them; `image`, a path, bytes, picture or a list of them;
        `item`, the id of a stored item; `vector`, what `encode` gave, or embeddings (d,) or (q, d) of the space.

        `k` hits at most (10 unless `within` is given), only those of distance `within` or less, only items that match
        the SQL condition `where` (k are returned where k match). `modality` is the kind to find. `exact` searches
        exhaustively. `explain` gives hits and queries the attention that was paid to them. `rerank` takes so many
        candidates and compares them again by the vectors that their codes stand for, in the space before the last
        fuser: `catalyzer` restores them, and distances are then of that space. Raises DataError, SpaceMismatchError,
        and ConfigError where there is nothing to explain or no way to restore.
        """
        if sum(given is not None for given in (text, image, vector, item)) != 1:
            raise DataError("search: give one of text, image, vector, item")
        k = 10 if k is None and within is None else k
        check_search(k, within)
        reranking.check_rerank(rerank, k, within)
        loaded = self.space(space)
        queries, kind = self._queries(loaded, text, image, vector, item)
        target = self._target(loaded, kind) if modality is None else modality
        if target not in loaded.modalities:
            raise DataError(f"modality={target!r}: space {loaded.name!r} has {' and '.join(loaded.modalities)}")
        among = None if where is None else self.store.ids(target, where)
        index = loaded.index(target, exact)
        if k is not None and len(queries) * (k - len(index)) > PADDING:
            raise DataError(f"k={k}: there are {len(index)} {target}s to find; ask for no more than that")
        explained = self._explained(loaded, text, image, item) if explain else None
        if rerank:  # nothing is restored yet, but a pipeline without a way back says so
            loaded.pipeline.restore(loaded.codes(target).take(np.arange(0)))
        candidates = min(rerank, max(k or 0, len(index)))  # more than there are would be padding alone
        hits = index.search(queries, candidates or k, within, among)
        if rerank and k is not None:
            given, _ = self._queries(loaded, text, image, vector, item, last=False)
            hits = reranking.rerank(hits, given, loaded.codes(target), loaded.pipeline.restore, k)
        return Results(hits, self.store, target, loaded.name, explained)

    def _explained(self, space: Space, text: Any, image: Any, item: int | None) -> Explained:
        attention.require(space.pipeline)
        given = any(query is not None for query in (text, image, item))
        queries = self._attention(space, text, image, item) if given else []
        return Explained(queries, lambda ids: self._attention(space, None, None, ids))

    def attention(
        self,
        text: str | Sequence[str] | None = None,
        image: Any = None,
        item: int | Sequence[int] | NDArray[np.int64] | None = None,
        where: str | None = None,
        space: str | None = None,
        keep: bool = False,
    ) -> list[Attention]:
        """Where a space looks in sentences, in pictures, or in stored items by id or SQL condition, step by step.

        `keep` puts the weights of stored items into `xmr.attention` for SQL, in the place of what was there of them.
        Raises ConfigError where the space's fuser pays no attention, DataError.
        """
        if sum(given is not None for given in (text, image, item, where)) != 1:
            raise DataError("attention: give one of text, image, item, where")
        if keep and item is None and where is None:
            raise DataError("attention: only that of stored items is kept; give item or where")
        loaded = self.space(space)
        seen = self._attention(loaded, text, image, self.store.ids(where=where) if where is not None else item)
        if keep:
            self.store.put_attention(loaded.name, loaded.record.version, attention.rows(seen))
        return seen

    def _attention(self, space: Space, text: Any, image: Any, item: Any) -> list[Attention]:
        with self._run() as run, use_run(run):
            if item is not None:
                return attention.of_stored(self.store, space.pipeline, as_ids(item, "item"))
            return attention.attend(space.pipeline, _query_items(text, image))

    def _queries(
        self, space: Space, text: Any, image: Any, vector: object, item: int | None, last: bool = True
    ) -> tuple[Embeddings, str | None]:
        """Queries as the space's indexer wants them, or without `last` as its last fuser does, and their kind."""
        if vector is not None:
            return self._given(space, vector, last), None
        if item is not None:
            ids = as_ids(item, "item")
            kind = self.store.describe(ids)["modality"][0] if len(ids) == 1 else None
            if kind is None:
                raise DataError(f"item={item}: no such item")
            return self._embedded(space, ids, kind, last), kind
        items = _query_items(text, image)
        return space.pipeline.embed(items, last), items.modality

    def _embedded(self, space: Space, ids: NDArray[np.int64], modality: str, last: bool = True) -> Embeddings:
        """Embeddings of stored items, by way of the cache of their features."""
        with self._run() as run, use_run(run):
            return space.pipeline.embed(self.store.items(ids, modality), last)

    @staticmethod
    def _given(space: Space, vector: object, last: bool = True) -> Embeddings:
        if not last and (space.pipeline.encoder is not None or isinstance(vector, Embeddings)):
            raise DataError("rerank: needs the text, picture, item or vector itself, not what was encoded from it")
        if isinstance(vector, Query):
            if vector.fingerprint != space.record.fingerprint:
                raise SpaceMismatchError(
                    f"the query was encoded by {vector.fingerprint[:12]}, the codes of space {space.name!r} by "
                    f"{space.record.fingerprint[:12]}: encode it for this space"
                )
            return vector
        pipeline = space.pipeline
        if isinstance(vector, Embeddings):
            return pipeline.indexer.queries(vector)
        if pipeline.encoder is None:
            return pipeline.embed_vectors(_embeddings(vector), last=last)
        return Embeddings(as_array(vector, "vector"), pipeline.metric)

    @staticmethod
    def _target(space: Space, kind: str | None) -> str:
        if kind is not None:
            other = OTHER.get(kind, kind)
            return other if other in space.modalities else kind
        stored = sorted(space.record.counts)
        if len(stored) != 1:
            raise DataError(f"which kind to find? give modality, one of {', '.join(stored or space.modalities)}")
        return stored[0]

    def audit(self, k: int = 10, sample: int = 100, space: str | None = None, seed: int = 0) -> Mapping[str, float]:
        """Recall@k of each modality's index against exact search over the same codes, by `sample` stored items."""
        check_search(k, None)
        if sample < 1:
            raise ConfigError("sample", sample, "must be 1 or more")
        loaded = self.space(space)
        rng = np.random.default_rng(_seed(seed))
        recalls = {}
        for modality in loaded.pipeline.modalities:
            ids = self.store.ids(modality)
            if not len(ids):
                continue
            chosen = np.sort(rng.choice(ids, min(sample, len(ids)), replace=False))
            queries = self._embedded(loaded, chosen, modality)
            found, truth = (loaded.index(modality, exact).search(queries, k).ids for exact in (False, True))
            shared = [len(np.intersect1d(a[a >= 0], b[b >= 0])) for a, b in zip(found, truth, strict=True)]
            recalls[modality] = float(np.sum(shared) / max(1, (truth >= 0).sum()))
        return recalls

    def evaluate(
        self,
        space: str | None = None,
        queries: str | None = None,
        database: str | None = None,
        measure: Measure | None = None,
    ) -> Evaluation:
        """MAP where items have labels, recall@K by their pairs where not: both directions, beside chance.

        `queries` and `database` are SQL conditions. Without them the queries are those of `split = 'query'`, else of
        `split = 'test'`; the database is all the rest for MAP, and the same split for recall, as the field has it.
        The figures are kept in `xmr.runs` and `xmr.metrics` with seed, split, recipe and protocol.
        """
        with self._run() as run, use_run(run):
            return evaluate(self.store, self.space(space), queries, database, measure)

    def compare(
        self,
        recipes: Sequence[str | Pipeline],
        seed: int = 0,
        queries: str | None = None,
        database: str | None = None,
    ) -> list[Evaluation]:
        """Fit and evaluate recipes on the same items, one space each; those that are there already are not refitted."""
        if isinstance(recipes, (str, Pipeline)):
            raise ConfigError(f"compare: expected a list of recipes, got {recipes!r}")
        made = []
        for pipeline in [_pipeline(recipe).with_seed(_seed(seed)) for recipe in recipes]:
            wanted = repr(pipeline)
            known = [space for space in self.store.spaces() if space.published and space.recipe == wanted]
            name = known[0].name if known else self._free_name(pipeline)
            if not known:
                self.fit(pipeline, name, seed=seed)
            made.append(self.evaluate(name, queries, database))
        return made

    def _free_name(self, pipeline: Pipeline) -> str:
        base = _space_name("_".join(part.name for part in pipeline.parts))
        taken = {space.name for space in self.store.spaces()}
        return next(name for name in (base, *(f"{base}_{i}" for i in range(2, 1000))) if name not in taken)

    # questions about pictures

    def learn(self, recipe: str, questions: Questions, name: str = "answers", seed: int = 0) -> Learnt:
        """Learn to answer questions about pictures by a recipe, `rdan` or `each >> rdan`, from questions with answers.

        The pictures need not be items of this library; the features of those that are, under the same key, are taken
        from its cache. A known `name` is learnt anew, and the old one serves until the new one is ready. What was
        killed goes on from its last checkpoint when it is called again with the same recipe, seed and questions.
        """
        learner = Learnt.parse(recipe).called(_space_name(name), _seed(seed))
        learnt = answers.learn(self.store, learner, questions, self._progress)
        self._answerers.clear()
        return learnt

    def answer(
        self,
        image: Any = None,
        question: str | Sequence[str] | None = None,
        k: int = 5,
        name: str | None = None,
        item: int | Sequence[int] | None = None,
    ) -> Answers:
        """The `k` most probable answers to a question about a picture, with the attention paid to regions and words.

        `image` is a path, bytes, or picture; `item` the id of a stored one instead. Either, and `question`, may be
        lists of one length, or one of them a list. `name` is the answerer; needed where there are several. Raises
        DataError where a picture cannot be read, a question is blank, or none of its words is known.
        """
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
            raise ConfigError("k", k, "must be a whole number, 1 or more")
        learnt = self.answerer(name)
        questions = answers.asked(self.store, image, question, item)
        with self._run() as run, use_run(run):
            return learnt.ask(questions, int(k))

    def evaluate_answers(self, questions: Questions, name: str | None = None) -> AnswerEvaluation:
        """The accuracy of the VQA evaluation, over all questions and by type, beside the most frequent answer's.

        The figures are kept in `xmr.runs` and `xmr.metrics`.
        """
        learnt = self.answerer(name)
        with self._run() as run, use_run(run):
            return answers.evaluate(self.store, learnt, questions)

    def answerers(self) -> list[str]:
        """The names of what was learnt to answer questions."""
        return [record.name for record in self.store.answerers()]

    def answerer(self, name: str | None = None) -> Learnt:
        """An answerer, loaded once: the only one where none is named."""
        names = self.answerers()
        if name is None and len(names) != 1:
            there = ", ".join(names)
            raise DataError(f"which answerer? there are {there}" if names else "no answerer yet: learn one first")
        chosen = names[0] if name is None else name
        if chosen not in self._answerers:
            self._answerers[chosen] = Learnt.load(self.store, chosen)
        return self._answerers[chosen]

    def drop_answerer(self, name: str) -> None:
        """Drop an answerer with its models."""
        self.store.drop_answerer(name)
        self._answerers.clear()

    # SQL and whole files

    def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> Any:
        """A query in the database's own SQL, with `xmr.search` and `xmr.encode_text` at hand; its own result.

        >>> db.sql("SELECT * FROM xmr.search('a dog', 5)").fetchall()          # doctest: +SKIP
        """
        self.register(None)
        return self.store.sql(query, parameters)

    def register(self, connection: Any) -> None:
        """Give a connection of yours on the same file the live functions; None means the library's own."""
        self.store.live(connection, self._live_search, self._live_encode)

    def _live_search(self, text: str, k: int, space: str | None) -> tuple[list[int], list[float]]:
        found = self.search(text=text, k=k, space=space)
        kept = found.ids[0] >= 0
        return found.ids[0][kept].tolist(), found.distances[0][kept].tolist()

    def _live_encode(self, text: str, space: str | None) -> list[int] | list[float]:
        values = self.encode(text=text, space=space).values[0]
        if values.dtype != np.uint8:
            return [float(value) for value in values]
        words = np.zeros(-(-len(values) // 8) * 8, np.uint8)
        words[: len(values)] = values
        return [int(word) for word in words.view("<i8")]

    def export(self, folder: str | Path) -> Path:
        """Write the whole library into a new folder, a Parquet file a table; `restore` reads it back bit for bit."""
        folder = Path(folder)
        self.store.export(folder)
        return folder

    def restore(self, folder: str | Path) -> None:
        """Read what `export` wrote into this library, which must be empty."""
        self.store.restore(Path(folder))
        self._forget()

    def compact(self) -> tuple[int, int]:
        """Give the room of what was deleted back to the disk; bytes before and after."""
        return self.store.compact()

    def doctor(self) -> list[str]:
        """What does not fit together in the file, a sentence each; nothing where all is well."""
        return list(self.store.doctor())


def _blocks(n: int, size: int) -> list[NDArray[np.int64]]:
    return [np.arange(start, min(start + size, n)) for start in range(0, n, size)]


def _embeddings(values: object) -> Embeddings:
    array = as_array(values, "embeddings")
    return Embeddings(array, "hamming" if array.dtype == np.uint8 else "l2")


def _pipeline(recipe: str | Pipeline) -> Pipeline:
    return recipe if isinstance(recipe, Pipeline) else Pipeline.parse(recipe)


def _seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 1 << 63:
        raise ConfigError("seed", seed, "must be a whole number from 0 to 2**63 - 1")
    return int(seed)


def _is(space: Space, name: str, version: int | None) -> bool:
    record = space.record
    return record.name == name and (record.published if version is None else record.version == version)


def _space_name(name: str) -> str:
    if not isinstance(name, str) or not SPACE_NAME.fullmatch(name):
        rule = "use a to z, 0 to 9 and _, beginning with a letter, 40 characters at most, not ending in _v1"
        raise ConfigError("name", name, rule)
    return name


def _query_items(text: Any, image: Any) -> Items:
    if (text is None) == (image is None):
        raise DataError("give text or image")
    modality, given = (TEXT, text) if text is not None else (IMAGE, image)
    asked = list(given) if isinstance(given, (list, tuple)) else [given]
    for place, fault in enumerate(map(fault_of_text, asked) if modality == TEXT else ()):
        if fault:
            raise DataError(f"text {place}: {fault}" if len(asked) > 1 else f"text: {fault}")
    return Items(modality, asked)
