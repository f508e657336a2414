"""The run that a library sets around its work: progress bars, figures into the database, checkpoints, the cache."""

from __future__ import annotations

import contextlib
import sys
import uuid
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from xmr_core.components import Encoder
from xmr_core.errors import DataError, not_written
from xmr_core.library.region_cache import Regions, digests_of
from xmr_core.progress import Run
from xmr_core.store import RunRecord, Store
from xmr_core.types import Features, Items

__all__ = ["LibraryRun", "blocks", "wants_progress"]

T = TypeVar("T")
CACHE_BLOCK = 512  # items whose vectors are computed and kept at once; what a killed process loses at most
REGION_BLOCK = 128  # likewise by regions, which are larger


def wants_progress(progress: bool | None) -> bool:
    """True where bars are asked for, or somebody watches the error stream."""
    return sys.stderr.isatty() if progress is None else progress


def blocks(n: int, size: int) -> list[NDArray[np.int64]]:
    """The rows 0 to n - 1, in blocks of `size`."""
    return [np.arange(start, min(start + size, n)) for start in range(0, n, size)]


class LibraryRun(Run):
    """A run over a store. Use it as a context manager, so that its bars end with it."""

    def __init__(
        self,
        store: Store,
        space: str = "",
        version: int = 0,
        notes: Mapping[str, Any] | None = None,
        progress: bool | None = None,
        checkpoints: Path | None = None,
    ) -> None:
        """`checkpoints` is a folder of this fit's own; None keeps none."""
        self._store, self._space, self._version = store, space, version
        self._notes = dict(notes or {})
        self._checkpoints, self._part = checkpoints, "part"
        self._watched = wants_progress(progress)
        self._progress: Any = None
        self._figures: dict[str, str] = {}

    @cached_property
    def id(self) -> str:
        """What its figures are kept under; a search, which keeps none, draws none."""
        return uuid.uuid4().hex[:12]

    def __enter__(self) -> LibraryRun:
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def track(
        self, steps: Iterable[T], what: str, total: int | None = None, size: Callable[[T], int] | None = None
    ) -> Iterator[T]:
        """See `Run.track`."""
        if not self._watched:
            yield from steps
            return
        bars = self._bars()
        if total is None and isinstance(steps, Sized):
            total = len(steps)
        task = bars.add_task(what, total=total)
        try:
            for step in steps:
                yield step
                done = 1 if size is None else size(step)
                bars.update(task, advance=done, description=f"{what} {self._figures.get(what, '')}".strip())
        finally:
            bars.remove_task(task)

    def _bars(self) -> Any:
        if self._progress is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            from xmr_core.library.rate import Rate

            told = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
            self._progress = Progress(*told, console=Console(stderr=True), transient=True)
            self._progress.start()
        return self._progress

    def log(self, what: str, step: int, **figures: float) -> None:
        """See `Run.log`; figures that are not finite are left out of the bar, not of the log."""
        self._figures[what] = " ".join(f"{name}={value:.4g}" for name, value in figures.items())
        if not self._store.read_only:
            record = RunRecord(self.id, self._space, self._version, what, step, figures, self._notes)
            self._store.put_run(record)

    def begin(self, part: str) -> None:
        """See `Run.begin`."""
        self._part = part

    def checkpoint(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """See `Run.checkpoint`."""
        if self._checkpoints is None:
            return
        half = self._checkpoints / f"{self._part}.half"
        try:
            self._checkpoints.mkdir(parents=True, exist_ok=True)
            with half.open("wb") as file:
                np.savez(file, **dict(arrays))  # type: ignore[arg-type]  # the stub takes the arrays for allow_pickle
            half.replace(self._checkpoints / f"{self._part}.npz")
        except OSError as error:
            raise not_written(half, error) from error

    def restore(self) -> dict[str, NDArray[Any]] | None:
        """See `Run.restore`; a damaged checkpoint counts as none."""
        path = self._checkpoints / f"{self._part}.npz" if self._checkpoints else None
        if path is None or not path.exists():
            return None
        with contextlib.suppress(OSError, ValueError, EOFError, zipfile.BadZipFile), np.load(path) as arrays:
            return dict(arrays)
        return None

    def cached(self, encoder: Encoder, items: Items) -> Features | None:
        """See `Run.cached`; features are kept block by block, so a killed process keeps what it had.

        One vector an item goes into the database, regions into files beside it.
        """
        if not items.stored:
            return None
        extractor = encoder.extractor
        form = encoder.forms.get(items.modality)
        if form == "regions" and self._store.folder is not None:
            return self._cached_regions(encoder, items, Regions.of(self._store.folder, extractor))
        return self._cached_vectors(encoder, items, extractor) if form == "vector" else None

    def _cached_vectors(self, encoder: Encoder, items: Items, extractor: str) -> Features:
        have, vectors = self._store.get_features(extractor, items.ids)
        if not have.all():
            missing = np.flatnonzero(~have)
            made = np.concatenate(list(self._made(encoder, items.take(missing), extractor)))
            whole = np.empty((len(items), made.shape[1]), np.float32)
            whole[missing], whole[have] = made, vectors if have.any() else made[:0]
            vectors = whole
        return Features.of_vectors(items.modality, vectors, encoder.metric)

    def _made(self, encoder: Encoder, items: Items, extractor: str) -> Iterator[NDArray[np.float32]]:
        for block in self._blocks(encoder, items, CACHE_BLOCK):
            vectors = encoder.encode(block).vectors
            if not self._store.read_only:
                self._store.put_features(extractor, block.ids, vectors)
            yield vectors

    def _cached_regions(self, encoder: Encoder, items: Items, regions: Regions) -> Features | None:
        """None where regions are missing and nothing may be written, and the caller computes them."""
        digests = digests_of(self._store.match(items.modality, items.keys)[1])
        missing = np.flatnonzero(regions.find(digests) < 0)
        if len(missing) and self._store.read_only:
            return None
        places = {item: place for place, item in enumerate(items.ids.tolist())}
        for block in self._blocks(encoder, items.take(missing), REGION_BLOCK) if len(missing) else ():
            features = encoder.encode(block)
            if features.mask is not None:
                raise DataError(f"{encoder.name}: regions under a mask cannot be kept; set cacheable to False")
            regions.append(digests[[places[item] for item in block.ids.tolist()]], features.values)
        rows = regions.find(digests)
        if (rows < 0).any():  # the folder was deleted meanwhile
            return None
        return Features(items.modality, regions.read(rows), metric=encoder.metric)

    def _blocks(self, encoder: Encoder, items: Items, size: int) -> Iterator[Items]:
        for rows in self.track(blocks(len(items), size), f"{encoder.name}: {items.modality}s", len(items), len):
            yield items.take(rows)
