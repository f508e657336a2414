"""The databases that this process has open: one `Instance` a file, however many handles are open on it.

A process that writes a DuckDB file is alone with it, and DuckDB lets any number of connections of that process work on
it at once, without noticing when two of them insert the same id. So what handles must agree on lives here, in memory:
who writes, and the latest revision. A forked child inherits all of it and may use none of it: two processes would write
one file, each by its own copy of DuckDB's memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import re
import shutil
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from xmr_core.errors import LockedError, SchemaVersionError, StorageError
from xmr_storage.duckdb.looks import Looks, looks
from xmr_storage.quoting import literal, quoted

if TYPE_CHECKING:
    import duckdb

__all__ = ["STORAGE_VERSION", "Instance", "acquire", "first_line"]

STORAGE_VERSION = "v1.4.0"  # of new files: refuses the log of another file; what DuckDB 2 writes by default, 1 cannot
LOG = 1 << 20  # bytes that may stay in the log beside a file after a commit; of larger files a fiftieth, of smaller all
CHECKPOINT = 4  # bytes that a checkpoint may write for one of the log: all of a column where little is new
MEMORY = ":memory:"
REMEMBERED = 1000  # files


class Instance:
    """One open database, shared by its handles. Made by `acquire`; every handle gives it back by `release`.

    `writer` is held by the transaction that writes, and is taken before any lock of a handle. `revision` is that of
    the last commit, None until it was read; it is set under `guard`. `root` is a connection that lives as long as any
    handle: what belongs to the database, not to a handle, such as Python functions, is made on it, and made again when
    `generation` has grown.
    """

    def __init__(self, path: str, read_only: bool) -> None:
        self.path, self.read_only = path, read_only
        self.process = _registry.process
        self.writer = threading.RLock()
        self.guard = threading.Lock()
        self.revision: int | None = None
        self.generation = 0
        self.definitions = 0  # grows where tables or columns may have changed
        fresh = path.startswith(MEMORY) or not Path(path).exists()  # a stranger has written nothing in it
        # it was seen that nothing in the file takes the place of what our statements name
        self.plain = fresh or _registry.left_plain(path)
        self.shared = False  # somebody else has, or may have, written SQL of their own
        self.compared = 0 if fresh else -1  # the generation in which views and macros were found to be ours
        self.handles = 0
        self.connections: weakref.WeakSet[duckdb.DuckDBPyConnection] = weakref.WeakSet()
        self.running: list[duckdb.DuckDBPyConnection] = []  # closing one that calls Python would wait for ever
        self._opening = threading.RLock()  # held as `_root` is opened or closed
        self._root: duckdb.DuckDBPyConnection | None = _open(path, read_only)
        self.file = _identity(path)

    @property
    def root(self) -> duckdb.DuckDBPyConnection:
        """A connection that lives as long as any handle; the database is opened again if it was given up."""
        with self._opening:
            if self._root is None:
                self._root = _opened_again(self.path, self.read_only)
                self.file = _identity(self.path)
            return self._root

    def give_up(self, generation: int) -> None:
        """Close the database of this generation, which DuckDB does not use after an error such as a full disk.

        Whoever asks for a connection next opens it again, with all that was committed. One in memory stays as it is.
        """
        with self._opening:
            if self.generation == generation and not self.path.startswith(MEMORY) and self._root is not None:
                self._close()

    def _close(self) -> None:
        """Close every connection that we made but those that are `running`: closing waits for the statement."""
        root, self._root = self._root, None
        with self.guard:
            self.generation += 1
            self.definitions += 1
            self.revision = None
        for connection in (*self.connections, root):
            if connection is not None and not any(connection is running for running in self.running):
                connection.close()
        self.connections.clear()

    def connect(self) -> duckdb.DuckDBPyConnection:
        """Another connection to the database."""
        self.require_process()
        made = self.root.cursor()
        if self.path in _registry.inherited:
            made.execute(f"USE {quoted(_database_name(self.path))}")
        self.connections.add(made)
        return made

    @contextlib.contextmanager
    def running_on(self, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """Inside, a statement runs on a connection that may call Python, and through it other connections."""
        self.running.append(connection)
        try:
            yield
        finally:
            self.running.remove(connection)

    @property
    def is_here(self) -> bool:
        """False in a forked child of the process that opened the database."""
        return self.process == _registry.process

    def require_process(self) -> None:
        """Raise StorageError in any process but the one that opened the database."""
        if not self.is_here:
            raise StorageError(
                f"{self.path} was opened in process {self.process}, this is process {_registry.process}: "
                "open it again in this one"
            )

    def replace(self, fresh: Path, modified: int) -> None:
        """Put another file in the place of this one's; handles have closed their connections by then.

        Raises LockedError where some connection of this process is still open: it would write into the file that is
        gone; and where the file was written after `modified`, in nanoseconds as the system tells it.
        """
        revision = self.revision
        with self._opening:
            self._close()
            _require_alone(self.path)
            with _held(self.path):
                if Path(self.path).stat().st_mtime_ns != modified or Path(f"{self.path}.wal").exists():
                    raise LockedError(f"{self.path} was changed by another connection meanwhile; try again")
                fresh.replace(self.path)
            self.revision = revision

    def tidy(self, whole: bool = False) -> None:
        """Move what was committed from the log into the file, if it is much, or the `whole` of it."""
        try:
            log, file = (Path(f"{self.path}{suffix}").stat().st_size for suffix in (".wal", ""))
        except OSError:  # nothing is in the log, or the database is in memory
            return
        if whole or log > max(min(LOG, file), file // 50):
            self.checkpoint()

    @property
    def checkpointed(self) -> int:
        """Bytes that a checkpoint may write, estimated."""
        try:
            return CHECKPOINT * Path(f"{self.path}.wal").stat().st_size
        except OSError:  # no log, or no file
            return 0

    @property
    def has_room(self) -> bool:
        """False where the disk may be too full for a checkpoint, which would take what is left, and fail."""
        return not self.checkpointed or self.checkpointed < shutil.disk_usage(Path(self.path).parent).free

    def checkpoint(self) -> None:
        """Move what was committed from the log into the file; another time if somebody is writing, or it fails."""
        import duckdb

        generation = self.generation
        if self.read_only or self._root is None or not self.has_room:
            return
        try:
            with self._root.cursor() as con:
                con.execute("CHECKPOINT")
        except duckdb.FatalException:
            self.give_up(generation)
        except duckdb.Error:
            return
        except RuntimeError as error:  # what DuckDB makes of Ctrl-C; what was committed stays so
            if str(error) != "Query interrupted":
                raise
            raise KeyboardInterrupt from error

    def release(self) -> None:
        """Give the database back: the last handle closes it. In a forked child nothing is touched."""
        if not self.is_here:
            return
        with _registry.lock:
            self.handles -= 1
            if not self.handles:
                try:
                    self.checkpoint()  # closing does so only where no other connection of the process is open
                finally:
                    if self._root is not None:
                        self._end(self._root)
                        if self.plain and not self.shared:
                            _registry.leave_plain(self.path)
                    _registry.forget(self)

    def _end(self, root: duckdb.DuckDBPyConnection) -> None:
        import duckdb

        if not self.has_room:
            with contextlib.suppress(duckdb.Error):
                root.execute("PRAGMA disable_checkpoint_on_shutdown")
        root.close()

    def require_only_handle(self) -> None:
        """Raise LockedError where several handles are open."""
        if self.handles > 1:
            raise LockedError(f"{self.path}: another connection of this process is open on it; close it first")

    def require_same(self, read_only: bool) -> None:
        """Raise LockedError where another handle cannot share this: DuckDB opens a file in one mode a process."""
        if self.read_only != read_only:
            mode = "reading only" if self.read_only else "writing"
            raise LockedError(f"{self.path} is open for {mode} in this process; open it likewise, or close it first")
        if self.file != _identity(self.path):
            raise LockedError(f"{self.path} was replaced while it is open in this process; close it first")


class _Registry:
    """The instances of this process. `inherited` are the files that were open when it was forked, path to parent."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a handle that is collected is released in whatever the thread is just doing
        self.process = os.getpid()
        self.files: dict[str, Instance] = {}
        self.all: set[Instance] = set()
        self.inherited: dict[str, Instance] = {}
        self._plain: dict[str, Looks] = {}  # files that were found plain, and what they looked like when closed

    def leave_plain(self, path: str) -> None:
        """Remember that a file which is closed now is plain, until somebody writes it."""
        if not path.startswith(MEMORY):
            if len(self._plain) >= REMEMBERED:
                self._plain.clear()
            self._plain[path] = looks(path)

    def left_plain(self, path: str) -> bool:
        """True where the file is as this process left it, and was plain then: to look again is half of opening it."""
        return path in self._plain and self._plain[path] == looks(path)

    def keep(self, instance: Instance) -> None:
        self.all.add(instance)
        if instance.path != MEMORY:
            self.files[instance.path] = instance

    def forget(self, instance: Instance) -> None:
        self.all.discard(instance)
        if self.files.get(instance.path) is instance:
            del self.files[instance.path]

    def forked(self) -> None:
        """In a child: forget the parent's databases, and never close their connections.

        Even as Python exits, DuckDB writes a checkpoint when the last connection to a database is destroyed: so each
        gets a reference that nobody gives back.
        """
        self.lock, self.process = threading.RLock(), os.getpid()
        self.inherited |= self.files
        for instance in self.all:
            for connection in filter(None, (instance._root, *instance.connections)):
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
        self.files, self.all = {}, set()


_registry = _Registry()
if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=lambda: _registry.forked())


def acquire(path: str, read_only: bool) -> Instance:
    """The database at a real path, or a new one in memory. Raises StorageError, SchemaVersionError, LockedError."""
    with _registry.lock:
        instance = _registry.files.get(path)
        if instance is None:
            _require_one_name(path)
            instance = Instance(path, read_only)
            _registry.keep(instance)
            instance.handles += 1
            return instance
        instance.handles += 1  # first of all: a handle that is just collected must not close it
        try:
            instance.require_same(read_only)
        except LockedError:
            instance.release()
            raise
        return instance


def first_line(error: Exception) -> str:
    """DuckDB's message without the statement that it quotes below."""
    return str(error).strip().split("\n", 1)[0]


def _open(path: str, read_only: bool) -> duckdb.DuckDBPyConnection:
    import duckdb

    try:
        if path in _registry.inherited:
            return _open_after_fork(path, read_only)
        fresh = not path.startswith(MEMORY) and not Path(path).exists()
        if fresh and read_only:
            raise StorageError(f"{path}: no such file")
        if fresh and not Path(path).parent.is_dir():
            raise StorageError(f"{path}: its folder does not exist")
        if fresh:  # the storage version is given here alone, so that other connections need no setting to match
            with duckdb.connect() as maker:
                maker.execute(f"ATTACH {literal(path)} AS fresh (STORAGE_VERSION '{STORAGE_VERSION}')")
        root = duckdb.connect(path, read_only=read_only)
        _close_doors(root, read_only)
        return root
    except duckdb.Error as error:
        raise _opening_error(path, first_line(error)) from error


def _opened_again(path: str, read_only: bool) -> duckdb.DuckDBPyConnection:
    """Raises StorageError where connections or results of this process keep alive what DuckDB has given up."""
    import duckdb

    gc.collect()
    root = _open(path, read_only)
    try:
        root.execute("SELECT 1")
    except duckdb.FatalException as error:
        root.close()
        raise StorageError(
            f"{path}: DuckDB has given up the database after an error; close your own connections to it and drop the "
            f"results of its statements, and it opens again ({first_line(error)})"
        ) from error
    return root


def _close_doors(root: duckdb.DuckDBPyConnection, read_only: bool) -> None:
    """Never let DuckDB install or load an extension by itself, nor a file that is only read make it open others.

    They are settings of the whole database, made after it is open, so that other connections of this process can be
    opened on the file. One that was open before keeps its own.
    """
    import duckdb

    with contextlib.suppress(duckdb.CatalogException):  # DuckDB before 1.5 cannot count them
        if root.execute("SELECT count FROM duckdb_connection_count()").fetchall() != [(1,)]:
            return
    root.execute("SET autoinstall_known_extensions = false")
    root.execute("SET autoload_known_extensions = false")
    if read_only:
        root.execute("SET enable_external_access = false")


def _open_after_fork(path: str, read_only: bool) -> duckdb.DuckDBPyConnection:
    """A database that the parent had open, for reading: `connect` would give its copy of the parent's, whose threads
    are gone. So it is attached to a new one. DuckDB refuses this where the parent's could write."""
    import duckdb

    parent = _registry.inherited[path]
    if not (read_only and parent.read_only):
        raise LockedError(
            f"{path} was open in process {parent.process} when this one was forked from it: fork before it is opened, "
            "start processes without forking (multiprocessing: 'spawn'), or open it read-only in both"
        )
    root = duckdb.connect(MEMORY)
    name = quoted(_database_name(path))
    root.execute(f"ATTACH {literal(path)} AS {name} (READ_ONLY)")
    root.execute(f"USE {name}")
    _close_doors(root, read_only)
    return root


def _database_name(path: str) -> str:
    """The name that DuckDB gives the database of a file."""
    return Path(path).name.split(".")[0]


def _identity(path: str) -> tuple[int, int] | None:
    """What tells a file from another that is put in its place; None of what is no file."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _require_one_name(path: str) -> None:
    """Raise LockedError where the file is open under another name: DuckDB would take a hard link for another file."""
    file = _identity(path)
    for known in _registry.files.values():
        if file is not None and known.file == file:
            raise LockedError(f"{path} is the same file as {known.path}, which is open; use that name")


def _require_alone(path: str) -> None:
    """Raise LockedError where a connection of this process is open on the file; DuckDB then refuses another mode."""
    import duckdb

    try:
        duckdb.connect(path, read_only=True).close()
    except duckdb.ConnectionException as error:
        raise LockedError(
            f"{path}: another connection of this process is open on it; close it first ({first_line(error)})"
        ) from error


@contextlib.contextmanager
def _held(path: str) -> Iterator[None]:
    """Inside, no other process can open the file: it is the lock that DuckDB asks for. Raises LockedError."""
    try:
        import fcntl
    except ImportError:  # Windows, where a file that is open cannot be replaced
        yield
        return
    with Path(path).open("rb+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LockedError(f"{path} was opened by another process meanwhile; try again") from error
        yield


def _opening_error(path: str, words: str) -> StorageError:
    if "set lock" in words:
        holder = re.search(r"PID (\d+)", words)
        who = f"process {holder[1]}" if holder else "another process"
        return LockedError(f"{path} is held by {who}; close it there, or open read-only beside readers only")
    if "different configuration" in words:
        return LockedError(f"{path} is open in this process by a connection with other settings; close it first")
    if "WAL does not match" in words:
        return StorageError(
            f"{path}.wal is the log of another file: every file has its own, and moves with it; put the right one "
            "beside the file, or remove this one, which gives up what it holds"
        )
    if "version number" in words:
        return SchemaVersionError(f"{path}: written by a newer DuckDB; upgrade duckdb to open it ({words})")
    if "not a valid DuckDB database" in words:
        return StorageError(f"{path} is no DuckDB database, or is damaged")
    return StorageError(f"{path} cannot be opened: {words}")
