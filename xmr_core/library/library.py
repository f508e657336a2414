"""A library: items, codes and models in one database file, and the closest matches in the other modality.

db = xmr.open("flickr.duckdb")
db.add(xmr.datasets.flickr8k("Flickr8k/"))
db.fit("dcmh(bits=64) >> sign >> hamming", seed=0)
for hit in db.search(text="a dog on green grass", k=10):
    print(hit.distance, hit.key)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmr_core.datasets.readers import Source
from xmr_core.errors import Finding
from xmr_core.explain.attention import Attention
from xmr_core.images import Images
from xmr_core.library import (
    checkup,
    comparison,
    evaluation,
    fitting,
    hybrid,
    ingest,
    maintenance,
    query,
    saved,
    syncing,
    vqa,
)
from xmr_core.library.adding import Added
from xmr_core.library.evaluation import Evaluation, Measure
from xmr_core.library.results import Query, Results
from xmr_core.library.session import QueryEncoder, Session
from xmr_core.library.spaces import Space
from xmr_core.library.syncing import Synced
from xmr_core.library.vqa import AnswerEvaluation
from xmr_core.recipes import Recipe
from xmr_core.search.condition import Where
from xmr_core.store import Store
from xmr_core.types import IMAGE, TEXT, Embeddings, Float, Ids, Int, Texts
from xmr_core.vqa import Answers, Questions

__all__ = ["Library"]


class Library:
    """A library, open. Made by `xmr_core.open`; close it, or use it in a `with`.

    Open one in each thread: those of one process share a file, write one after the other, and see at once what the
    others did. Threads that share one are safe, and wait for each other. One process may write a file at a time, or any
    number may read it; a process that was forked opens its own, and may not use what it inherited.
    """

    def __init__(self, store: Store, progress: bool | None = None) -> None:
        self.store = store
        self._session = Session(store, progress)
        saved.tidy(store)

    def __enter__(self) -> Library:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database, and end what is done in the background."""
        self._session.forget()
        self.store.close()

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {what}s" for what, count in self.store.counts().items() if what in (IMAGE, TEXT))
        spaces = ", ".join(sorted({space.name for space in self.store.spaces()})) or "none"
        return f"<library {self.store.url}: {counts or 'empty'}; spaces: {spaces}>"

    # adding and deleting

    def add(self, source: Source, on_error: str = "refuse", encode: bool = True, **options: Any) -> Added:
        """Add images and captions, and which go together: all of it or, on any error, nothing.

        `source` is a file of rows or a pattern of them (CSV, TSV, Parquet, JSON, JSON lines, Arrow), a DataFrame, an
        Arrow table, a DuckDB relation, a Hugging Face Dataset, dicts, a folder of images, COCO captions, WebDataset
        shards, the folder of a known data set, or `Pairs` and `Items`. `options` are those of its reader: `image`,
        `text`, `labels`, `key` and `split` name columns, and `split=0.2` makes one (see `datasets.records`).

        An item whose key is known with the same content is not added twice; its links are added, its labels replaced,
        and its metadata updated where a value is given (`Added.updated` counts the items that changed by it). With
        other content, or another ready-made vector, it is refused; `upsert` replaces it.
        Without keys, an image's key is its path, and any other item's the digest of its content.
        `on_error` says what becomes of unreadable images and empty texts: "refuse" raises DataError naming their keys,
        "skip" leaves them out and reports them. `encode` gives new items codes in every published space.
        """
        return ingest.add(self._session, source, on_error, encode, options)

    def upsert(self, source: Source, on_error: str = "refuse", encode: bool = True, **options: Any) -> Added:
        """Add what is new, and let known items become what is given now, under the ids that they have.

        It takes what `add` takes. An item is known by its modality and key. Where its content is another, it gets new
        codes in every published space; what was made of the old content goes: its codes in unpublished versions, which
        `publish` makes again, its features, its attention, and ready-made vectors that are not given again. Links are
        added and none is dropped, labels are replaced; of metadata and vectors, what is not given stays as it was.
        `Added` says how many items were new, how many of the known were `updated`, how many `unchanged`.
        """
        return ingest.upsert(self._session, source, on_error, encode, options)

    def sync(
        self,
        folder: str | Path,
        prefix: str = "",
        reader: str | None = None,
        on_error: str = "refuse",
        encode: bool = True,
        **options: Any,
    ) -> Synced:
        """Let the library hold what a folder (or a file) holds: add what is new there, change what is another, remove
        what is gone, of what came from it; nothing where it is as it was.

        The folder is read as `add` reads it, by `reader` where that is not to be guessed, with the reader's `options`.
        An image goes together with its captions. Items that came from elsewhere are never removed or replaced, whatever
        the folder holds; `prefix` goes before every key, so that folders with the same file names keep apart. Images
        that were added from the folder by `add` count as its own. A file is read again when its size or times are
        others than before, and is another when its content is. Raises DataError where the folder is gone or empty.
        """
        return syncing.sync(self._session, folder, prefix, reader, on_error, encode, options)

    def add_embeddings(
        self, values: ArrayLike, space: str, recipe: Recipe | None = None, modality: str = IMAGE, ids: Ids | None = None
    ) -> NDArray[np.int64]:
        """Add embeddings made elsewhere: packed bits (n, bits/8) uint8, or vectors (n, d). Returns their ids (n,).

        If no space has that name, one is made from `recipe`, which has no encoder: "hamming", "flat",
        "pca(dim=24) >> pq(bytes=8)"; its components are fitted on these values. `ids` are yours to choose; without
        them they continue from the last.
        """
        return ingest.add_embeddings(self._session, values, space, recipe, modality, ids)

    def delete(self, ids: Ids | None = None, where: Where | None = None) -> int:
        """Delete items by id, or those that match a SQL condition, with links, labels, features and codes.

        Returns how many there were. The file keeps the space for new items; `compact` reclaims it.
        """
        return ingest.delete(self._session, ids, where)

    # fitting

    def fit(
        self,
        recipe: Recipe | None = None,
        name: str | None = None,
        where: Where | None = None,
        seed: Int = 0,
        publish: bool = True,
    ) -> Space:
        """Fit a recipe on pairs of this library, encode every item, store the codes, and publish the space.

        Without a recipe one is chosen that suits what is there, by held-out recall if several do; `space.choice` says
        which, why, and how well each did, and the space is called auto.

        `where` chooses the training items by a SQL condition; without it, those of `split = 'train'` if there are
        any, else all whose `split` is not query or test. A known `name` gets a new version, and the old one serves
        until the new one is ready. A killed fit resumes from its last checkpoint when it is called again with the same
        recipe, seed and items.
        """
        return fitting.fit(self._session, recipe, name, where, seed, publish)

    def refresh(self) -> int:
        """Give codes to items that lack them in a published space; returns how many codes were made."""
        return fitting.refresh(self._session)

    # spaces

    def spaces(self) -> list[str]:
        """The names of the published spaces."""
        return self._session.published()

    def space(self, name: str | None = None, version: int | None = None) -> Space:
        """A space, loaded once: the only one if no name is given, the published version if no version is."""
        return self._session.space(name, version)

    def publish(self, name: str, version: int) -> None:
        """Let a name mean this version from now on, here and in SQL, at once."""
        maintenance.publish(self._session, name, version)

    def drop(self, name: str, version: int | None = None) -> None:
        """Drop a version of a space with its codes and models, or all its versions."""
        maintenance.drop(self._session, name, version)

    def materialize(self, space: str | None = None, drop: bool = False) -> None:
        """Keep what the codes of a space stand for as a table, so that SQL need not decode them in every query.

        For spaces such as `lattice`, whose view `xmr.point_<space>` then reads a table `xmr.point_<space>_v<version>`.
        It follows every change of the codes, later versions and `restore`, and takes 4 bytes a dimension; `drop` takes
        it away. Searches in Python do not need it. Raises DataError where the codes are not decoded, StorageError
        where the space does not exist or the store has no such tables.
        """
        maintenance.materialize(self._session, space, drop)

    # searching

    def encode(self, text: Texts | None = None, image: Images | None = None, space: str | None = None) -> Query:
        """Texts or images as queries of a space, to search with later or more than once. Raises DataError."""
        return query.encode(self._session, text, image, space)

    def query_encoder(self, name: str, text: QueryEncoder | None = None, image: QueryEncoder | None = None) -> None:
        """Say how queries become ready-made vectors, in this process: what `search(text=...)` calls.

        `name` is that of the vectors (`precomputed(name=...)`) or of a space. `text` takes a list of n texts, `image` a
        list of n images as they were given to `search`; each returns (n, d) numbers, as the model made those that were
        added. None leaves a modality without one.
        """
        query.set_encoder(self._session, name, text, image)

    def search(
        self,
        text: Texts | None = None,
        image: Images | None = None,
        vector: Embeddings | ArrayLike | None = None,
        item: Int | None = None,
        k: Int | None = None,
        within: Float | None = None,
        where: Where | None = None,
        modality: str | None = None,
        space: str | None = None,
        exact: bool = False,
        explain: bool = False,
        rerank: Int = 0,
        spaces: Sequence[str] | None = None,
    ) -> Results:
        """The closest matches in the other modality: images for `text`, texts for `image`.

        The query is one of: `text`, a text or a list of them; `image`, a path, bytes, a PIL image, an array (h, w, 3),
        or a list of them; `item`, the id of a stored item; `vector`, what `encode` gave, or embeddings (d,) or (q, d).

        `k` hits at most (10 unless `within` is given), only those of distance `within` or less, only items that match
        the SQL condition `where` (k are returned if k match). `modality` is the one to find. `exact` searches
        exhaustively. `explain` gives hits and queries the attention that was paid to them. `rerank` takes so many
        candidates and compares them again by the vectors that their codes stand for, in the space before the last
        fuser: `catalyzer` restores them, and distances are then of that space.

        A space of texts alone finds texts, or images by their captions with `modality="image"`. `spaces` searches
        several and fuses their rankings by reciprocal rank; distances are negative scores. Raises DataError,
        SpaceMismatchError, and ConfigError if there is nothing to explain or no way to restore.
        """
        if spaces is not None:
            others = {"vector": vector is not None, "within": within is not None, "space": space is not None}
            others |= {"explain": explain, "rerank": bool(rerank)}
            return hybrid.search(self._session, spaces, text, image, item, k, where, modality, exact, others)
        return query.search(
            self._session, text, image, vector, item, k, within, where, modality, space, exact, explain, rerank
        )

    def attention(
        self,
        text: Texts | None = None,
        image: Images | None = None,
        item: Int | Ids | None = None,
        where: Where | None = None,
        space: str | None = None,
        keep: bool = False,
    ) -> list[Attention]:
        """Where a space looks in texts, in images, or in stored items by id or SQL condition, step by step.

        `keep` writes the weights of stored items to `xmr.attention` for SQL, replacing what was kept of them.
        Raises ConfigError if the space's fuser pays no attention, DataError.
        """
        return query.attend(self._session, text, image, item, where, space, keep)

    # figures

    def audit(self, k: Int = 10, sample: Int = 100, space: str | None = None, seed: Int = 0) -> Mapping[str, float]:
        """Recall@k of each modality's index against exact search over the same codes, by `sample` stored items.

        It is kept in `xmr.metrics` beside the median milliseconds of one encoded query and the bytes of one code.
        """
        return evaluation.audit(self._session, k, sample, space, seed)

    def evaluate(
        self,
        space: str | None = None,
        queries: Where | None = None,
        database: Where | None = None,
        measure: Measure | None = None,
    ) -> Evaluation:
        """MAP if items have labels, and recall@K if there are pairs: both directions, beside chance.

        `queries` and `database` are SQL conditions. Without them the queries are those of `split = 'query'`, else of
        `split = 'test'`; the database is all the rest for MAP, and the same split for recall, as is usual in the field.
        It says how many queries were trained on, and how many have no true item in the database. The figures are kept
        in `xmr.runs` and `xmr.metrics` with seed, split, recipe and protocol.
        """
        return evaluation.evaluate(self._session, space, queries, database, measure)

    def compare(
        self,
        recipes: Sequence[Recipe],
        seed: Int = 0,
        queries: Where | None = None,
        database: Where | None = None,
    ) -> list[Evaluation]:
        """Fit and evaluate recipes on the same items, one space each; those that exist already are not fitted again."""
        return comparison.compare(self._session, recipes, seed, queries, database)

    # questions about images

    def learn(self, recipe: Recipe, questions: Questions, name: str = "answers", seed: Int = 0) -> Space:
        """Learn to answer questions about images by a recipe, `rdan` or `each >> rdan`, from questions with answers.

        The images need not be items of this library; the features of those that are, under the same key, are taken
        from its cache. A known `name` is learned again, and the old one serves until the new one is ready. A killed
        run resumes from its last checkpoint when it is called again with the same recipe, seed and questions.
        """
        return vqa.learn(self._session, recipe, questions, name, seed)

    def answer(
        self,
        image: Images | None = None,
        question: Texts | None = None,
        k: Int = 5,
        name: str | None = None,
        item: Int | Ids | None = None,
    ) -> Answers:
        """The `k` most probable answers to a question about an image, with the attention paid to regions and words.

        `image` is a path, bytes, a PIL image or an array; `item` the id of a stored one instead. Either, and
        `question`, may be lists of one length, or one of them a list. `name` is the answerer; needed if there are
        several. Raises DataError if an image cannot be read, a question is blank, or none of its words is known.
        """
        return vqa.answer(self._session, image, question, k, name, item)

    def evaluate_answers(self, questions: Questions, name: str | None = None) -> AnswerEvaluation:
        """The accuracy of the VQA evaluation, over all questions and by type, beside the most frequent answer's.

        The figures are kept in `xmr.runs` and `xmr.metrics`.
        """
        return vqa.evaluate(self._session, questions, name)

    def answerers(self) -> list[str]:
        """The names of the answerers."""
        return self._session.published("answerer")

    def answerer(self, name: str | None = None) -> Space:
        """A space that answers questions, loaded once: the only one if no name is given."""
        return self._session.space(name, role="answerer")

    def drop_answerer(self, name: str) -> None:
        """Drop an answerer with its models."""
        maintenance.drop(self._session, name, role="answerer")

    # SQL and whole files

    def sql(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> Any:
        """The database's own result of a statement in its SQL, in which `xmr.search` and `xmr.encode_text` work too.

        >>> db.sql("SELECT * FROM xmr.search('a dog', 5)").fetchall()          # doctest: +SKIP
        """
        return maintenance.sql(self._session, statement, parameters)

    def register(self, connection: object) -> None:
        """Give a connection of yours on the same file the live functions; None means the library's own."""
        maintenance.register(self._session, connection)

    def export(self, folder: str | Path) -> Path:
        """Write the whole library into a new folder, a Parquet file a table; `restore` reads it back bit for bit."""
        return maintenance.export(self._session, folder)

    def restore(self, folder: str | Path) -> None:
        """Read what `export` wrote into this library, which must be empty."""
        maintenance.restore(self._session, folder)

    def compact(self) -> tuple[int, int]:
        """Reclaim disk space from deleted items; bytes before and after."""
        return self.store.compact()

    def doctor(self, repair: bool = False, thorough: bool = False) -> list[Finding]:
        """Check for inconsistencies; one sentence each that says what is wrong and what to do, none if all is well.

        `repair` mends what can be derived from the rest (views, macros, codes, rows of items that are gone), in one
        transaction, and returns what was found before; `mended` tells which of it is no longer there. Items are never
        deleted. `thorough` reads every image, text and vector, and compares it with the hash under which it is stored.
        """
        return checkup.doctor(self._session, repair, thorough)
