"""Indexes saved in the folder beside a database: derived, so whatever is missing, old or damaged is done without.

    <folder>/indexes/<space>_v<version>_<modality>/
        about.json      what it belongs to: space, revision of the library, digest of the codes
        ids, values     the codes that the index was built over
        index/          what `Index.save` wrote

A folder is written under another name and renamed when it is whole, so that a killed process leaves none that is half.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmr_core.search.index import Index
from xmr_core.search.indexer import Indexer
from xmr_core.store import SpaceRecord, Store
from xmr_core.types import Codes, Layout

__all__ = ["Saved", "leave_no_empty", "remove", "tidy"]

FORMAT = 2
PROCESS = uuid.uuid4().hex[:12]  # in the names of halves that are being written by this process
HALF = ".half"


@dataclass(frozen=True)
class Saved:
    """The place of one index: of a version of a space, and a modality."""

    folder: Path
    about: dict[str, Any]

    @classmethod
    def of(cls, store: Store, record: SpaceRecord, modality: str) -> Saved | None:
        """The place, whether or not something is saved there; None where the store has no folder."""
        if store.folder is None or record.layout is None:
            return None
        kind = modality if re.fullmatch("[a-z]{1,20}", modality) else hashlib.sha256(modality.encode()).hexdigest()[:20]
        about = {
            "format": FORMAT,
            "space": record.fingerprint,
            "created": record.created,
            "modality": modality,
            "layout": record.layout.to_json(),
        }
        return cls(_indexes(store.folder) / f"{_prefix(record.name, record.version)}{kind}", about)

    def read(self) -> tuple[Codes, int] | None:
        """The codes, and the revision of the library that they are of; None where there are none that are sound."""
        with contextlib.suppress(Exception):  # whatever is wrong with it, it is built again
            about = json.loads((self.folder / "about.json").read_text())
            rows, revision, digest = (about.pop(key) for key in ("rows", "revision", "codes"))
            if about != json.loads(json.dumps(self.about)):
                return None
            layout = Layout.from_json(self.about["layout"])
            codes = Codes.mapped(self.folder / "ids", self.folder / "values", rows, layout)
            return (codes, int(revision)) if codes.digest == digest else None
        return None

    def load(self, indexer: Indexer, codes: Codes) -> Index | None:
        """The index over the codes that `read` gave; None where it is damaged, or another has come in its place."""
        with contextlib.suppress(Exception):
            return indexer.load_index(self.folder / "index", codes)
        return None

    def write(self, index: Index, revision: int, wanted: Callable[[], bool] = lambda: True) -> bool:
        """Save an index over the codes of a revision, in place of what was there; False where it was not done: building
        is as quick, the disk refuses, or it is not `wanted` any longer."""
        half = self.folder.with_name(f"{PROCESS}-{uuid.uuid4().hex[:12]}{HALF}")
        done = False
        with contextlib.suppress(OSError):  # a cache that cannot be written is done without
            (half / "index").mkdir(parents=True)
            if wanted() and index.save(half / "index"):
                codes = index.codes
                codes.ids.tofile(half / "ids")
                codes.values.tofile(half / "values")
                about = {**self.about, "rows": len(codes), "revision": revision, "codes": codes.digest}
                (half / "about.json").write_text(json.dumps(about))
                if wanted():
                    shutil.rmtree(self.folder, ignore_errors=True)
                    half.rename(self.folder)
                    done = True
        shutil.rmtree(half, ignore_errors=True)
        leave_no_empty(self.folder.parent)
        return done

    def discard(self) -> None:
        """Delete what is saved."""
        shutil.rmtree(self.folder, ignore_errors=True)
        leave_no_empty(self.folder.parent)


def remove(store: Store, name: str, versions: Iterable[int]) -> None:
    """Delete the saved indexes of versions of a space."""
    if store.folder is None:
        return
    for version in versions:
        for folder in _indexes(store.folder).glob(f"{_prefix(name, version)}*"):
            shutil.rmtree(folder, ignore_errors=True)
    leave_no_empty(_indexes(store.folder))


def tidy(store: Store) -> None:
    """Delete what killed processes and other versions of this package left: halves, and indexes of no space."""
    if store.folder is None or store.read_only:
        return
    with contextlib.suppress(OSError):
        found = [folder for folder in _indexes(store.folder).iterdir() if not folder.name.startswith(PROCESS)]
        if not found:
            return
        known = tuple(_prefix(record.name, record.version) for record in store.uncounted())
        for folder in found:
            sound = folder.name.startswith(known) and (folder / "about.json").is_file() and (folder / "index").is_dir()
            if not sound:
                shutil.rmtree(folder, ignore_errors=True)
    leave_no_empty(_indexes(store.folder))


def _indexes(folder: Path) -> Path:
    return folder / "indexes"


def _prefix(name: str, version: int) -> str:
    """How the folders of a version begin. No name of a space ends in _v and digits, so that no two begin alike."""
    return f"{name}_v{version}_"


def leave_no_empty(folder: Path) -> None:
    """Remove a folder beside the database file, and the one that holds it, where nothing is left in them."""
    with contextlib.suppress(OSError):
        folder.rmdir()
        folder.parent.rmdir()
