"""What `Library.doctor` finds and mends: the store's own findings, and those that only the library can see."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from xmr_core.errors import Finding, StorageError, XmrError
from xmr_core.library.content import content_of
from xmr_core.library.drift import drift
from xmr_core.library.fitting import codes_of_items
from xmr_core.library.run import blocks
from xmr_core.library.session import Session
from xmr_core.library.spaces import Space
from xmr_core.registry import Role, default
from xmr_core.store import SpaceRecord, Store
from xmr_core.types import IMAGE, Head

__all__ = ["doctor"]

BLOCK = 10_000  # items that are looked at together
ROUNDS = 4  # of mending: what is mended may uncover more


def doctor(session: Session, repair: bool, thorough: bool) -> list[Finding]:
    """See `Library.doctor`."""
    if not repair:
        return list(_findings(session, thorough))
    done: list[Finding] = []
    with session.change():
        for _ in range(ROUNDS):
            found = list(_findings(session, thorough))
            mendable = [finding for finding in found if finding.mend is not None and finding not in done]
            if not mendable:
                break
            for finding in mendable:
                _mend(finding)
            done += mendable
    for finding in done:
        finding.mended = finding not in found
    return [*(finding for finding in done if finding.mended), *found]


def _mend(finding: Finding) -> None:
    assert finding.mend is not None  # as the caller has seen to
    try:
        finding.mend()
    except StorageError:
        raise
    except Exception:  # data that cannot be encoded, or a stranger's component: found again, and reported
        return


def _findings(session: Session, thorough: bool) -> Iterator[Finding]:
    of_store: list[Finding] = []
    for finding in session.store.doctor():
        of_store.append(finding)
        yield finding
    for look in (_unusable, _uncoded, _drifted, _lost_files, *((_changed_content,) if thorough else ())):
        try:
            yield from look(session, of_store)
        except StorageError:  # tables that are gone: the store has told of them
            if not of_store:
                raise


def _told(record: SpaceRecord, findings: Sequence[Finding]) -> bool:
    """True if a finding is already about this version of a space."""
    of = re.compile(rf"{_name(record)}(?!\d)")
    return any(of.search(finding) for finding in findings)


def _name(record: SpaceRecord) -> str:
    return (
        f"answerer {record.name!r}" if record.role == "answerer" else f"space {record.name!r} version {record.version}"
    )


def _unusable(session: Session, findings: Sequence[Finding]) -> Iterator[Finding]:
    """Spaces that cannot be loaded."""
    store = session.store
    for role in get_args(Head):
        for record in (record for record in store.spaces(role) if not _told(record, findings)):
            try:
                Space.load(store, record.name, record.version, role)
            except XmrError as error:
                verb = "fit" if role == "indexer" else "learn"
                bare = _without_state(store, record)
                if record.published and not bare:
                    yield from _waiting(store, record)
                stay = "; its codes stay, and SQL can search them" if role == "indexer" else ""
                wrong = f"{_name(record)}: the tensors of its {bare} are gone; drop it, and {verb} again"
                yield Finding(wrong if bare else f"{error}{stay}")


def _waiting(store: Store, record: SpaceRecord) -> Iterator[Finding]:
    """Items that lack codes in a space that cannot be loaded, of the modalities of which it has some."""
    if store.load_space(record.name, record.version, record.role).parts[0].role == "encoder":
        missing = sum(
            len(np.setdiff1d(store.ids(modality), store.coded_ids(record.name, record.version, modality)))
            for modality in record.counts
        )
        if missing:
            yield Finding(f"{missing} items have no code in space {record.name!r}; `refresh` makes them, see below")


def _without_state(store: Store, record: SpaceRecord) -> str:
    """The component of a space that has to be fitted and has no state; empty if there is none."""
    try:
        for part in store.load_space(record.name, record.version, record.role).parts:
            entry = default().entry(cast(Role, part.role), part.name)
            if entry is not None and entry.component.needs_fit and not part.state:
                return part.name
    except XmrError:
        return ""
    return ""


def _encoders(session: Session, findings: Sequence[Finding]) -> Iterator[Space]:
    """The published spaces that encode items and whose codes can be read."""
    for record in session.store.spaces():
        gone = f"the codes of {_name(record)} are"
        if record.published and not any(finding.startswith(gone) for finding in findings):
            try:
                space = Space.load(session.store, record.name, record.version)
            except XmrError:  # told by `_unusable`, or by the store
                continue
            if space.pipeline.encoder is not None:
                yield space


def _uncoded(session: Session, findings: Sequence[Finding]) -> Iterator[Finding]:
    """Items that lack codes in a published space, though they could have one."""
    store = session.store
    for space in _encoders(session, findings):
        for modality in space.pipeline.modalities:
            missing = np.setdiff1d(store.ids(modality), store.coded_ids(space.name, space.record.version, modality))
            count = len(missing)
            try:
                if count and store.vector_widths(modality):  # some may lack the vector that would be their code
                    count = sum(map(len, codes_of_items(store, space.pipeline, modality, missing, {})))
            except StorageError:
                raise
            except Exception:  # content that cannot be encoded, or a stranger's component: they lack codes all the same
                pass
            if count:
                what = f"{count} {modality}{'s have' if count > 1 else ' has'} no code in space {space.name!r}"
                yield Finding(f"{what}; repair or `refresh` makes them", _encoding(store, space, modality, missing))


def _drifted(session: Session, findings: Sequence[Finding]) -> Iterator[Finding]:
    """Published spaces that give items other codes than they hold; damaged tables are repaired first."""
    for space in () if findings else _encoders(session, findings):
        try:
            with session.run():
                yield from map(Finding, drift(session.store, space))
        except StorageError:
            raise
        except Exception as error:  # a stranger's component may do anything
            told = f"{'' if isinstance(error, XmrError) else f'{type(error).__name__}: '}{error}"
            yield Finding(f"{_name(space.record)} cannot encode: {told}; its codes stay, and SQL can search them")


def _encoding(store: Store, space: Space, modality: str, ids: NDArray[np.int64]) -> Any:
    def encode() -> None:
        for codes in codes_of_items(store, space.pipeline, modality, ids, {}):
            store.put_codes(space.name, space.record.version, modality, codes)

    return encode


def _lost_files(session: Session, findings: Sequence[Finding]) -> Iterator[Finding]:
    """Image files that are no longer where they were."""
    lost = [source for _, source in _sources(session.store) if source is not None and not _is_file(source)]
    if lost:
        are = "image files are" if len(lost) > 1 else "image file is"
        yield Finding(
            f"{len(lost)} {are} gone, the first is {lost[0]}; put them back there, or delete the items: their codes "
            "still answer, but nothing can be encoded from them again"
        )


def _sources(store: Store) -> Iterator[tuple[str, str | None]]:
    """Key and path of every image."""
    ids = store.ids(IMAGE)
    for rows in blocks(len(ids), BLOCK):
        told = store.describe(ids[rows])
        yield from zip(told["key"], told["source"], strict=True)


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # a name that no file system takes
        return False


def _changed_content(session: Session, findings: Sequence[Finding]) -> Iterator[Finding]:
    """Items whose content is no longer what its hash says."""
    store = session.store
    for modality in sorted(set(store.counts()) - {"pairs", "labels"}):
        ids, changed = store.ids(modality), []
        for rows in blocks(len(ids), BLOCK):
            items = store.items(ids[rows], modality)
            hashes = store.match(modality, items.keys)[1]
            changed += [
                key
                for key, data, content in zip(items.keys, items.data, hashes, strict=True)
                if _differs(data, content)
            ]
        if changed:
            have = f"{modality}s have" if len(changed) > 1 else f"{modality} has"
            yield Finding(
                f"{len(changed)} {have} other content than was added, the first has the key {changed[0]!r}: delete "
                "and add them again, so that their codes are of what they are now"
            )


def _differs(data: Any, content: str) -> bool:
    """True if content is there, and its hash is another. A file that is gone is told by `_lost_files`."""
    if isinstance(data, np.ndarray):
        return hashlib.sha256(data.tobytes()).hexdigest() != content
    if isinstance(data, str) and not _is_file(data):
        return hashlib.sha256(data.encode()).hexdigest() != content
    return data is not None and content_of(data) != content
