"""See every change that a process makes to the files below a folder; end it, or refuse the change, at any of them.

Python's own files are caught where they leave Python (`io.open`, `os`), those of SQLite in its VFS. Each change is
written to a log *before* it is made. The log has what is needed to work out what a power cut at any point leaves
(`survival.py`). Syncs are logged, not made: durable is what the log says is durable.
"""

from __future__ import annotations

import builtins
import errno
import functools
import io
import os
import pickle
import signal
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from tests.disk.sqlite_files import WatchedSqlite


class Change(NamedTuple):
    """One change: what, where, and with which data. `acknowledged` is none: it carries what is promised from there on."""

    kind: str
    path: str
    data: Any = None

    @property
    def name(self) -> str:
        """What a person calls it."""
        return f"{self.kind} {os.path.basename(self.path)}"


SYNCS = ("sync", "sync_folder")
GROWS = ("create", "write", "mkdir")
"""What a full disk refuses."""


@dataclass(frozen=True)
class Fault:
    """Change number `at` (from 1) is refused with `error`, and if `stays` all that come after it."""

    at: int
    error: int
    stays: bool = False

    def hits(self, number: int, change: Change) -> bool:
        if self.error == errno.ENOSPC and change.kind not in (*GROWS, "sync"):  # late allocation shows at a sync
            return False
        return number >= self.at if self.stays else number == self.at


class Watch:
    """Counts changes below *root* and logs them. At change *cut_at* the process dies; *fault* is refused.

    Syncs named like *forgets* (`sync *-wal`) are left out of the log, as if the program had forgotten them.
    """

    def __init__(
        self, root: Path, log: Path, *, cut_at: int | None = None, fault: Fault | None = None, forgets: str = ""
    ) -> None:
        self._root = str(root)
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._write_log = os.write
        self._cut_at = cut_at
        self._fault = fault
        self._forgets = forgets
        self.count = 0
        self._folders: dict[int, str] = {}

    def is_watched(self, path: str) -> bool:
        return path.startswith(self._root + os.sep) and not path.endswith("-shm")

    # ------------------------------------------------------------ changes

    def create(self, path: str) -> None:
        self._cross(Change("create", path))

    def write(self, path: str, offset: int, data: bytes) -> None:
        self._cross(Change("write", path, (offset, data)))

    def truncate(self, path: str, size: int) -> None:
        self._cross(Change("truncate", path, size))

    def sync(self, path: str) -> None:
        self._cross(Change("sync", path))

    def sync_folder(self, path: str) -> None:
        self._cross(Change("sync_folder", path))

    def unlink(self, path: str) -> None:
        self._cross(Change("unlink", path))

    def rename(self, path: str, target: str) -> None:
        self._cross(Change("rename", path, target))

    def mkdir(self, path: str) -> None:
        self._cross(Change("mkdir", path))

    def acknowledge(self, facts: Any) -> None:
        """The process may rely on *facts* from now on, and tell them to others."""
        self._write_log(self._log, pickle.dumps(Change("acknowledged", "", facts)))

    def _cross(self, change: Change) -> None:
        self.count += 1
        if self.count == self._cut_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fault is not None and self._fault.hits(self.count, change):
            if change.kind == "sync":
                self._write_log(self._log, pickle.dumps(change._replace(kind="sync_failed")))
            raise OSError(self._fault.error, os.strerror(self._fault.error), change.path)
        if not (change.kind in SYNCS and fnmatch(change.name, self._forgets)):
            self._write_log(self._log, pickle.dumps(change))

    # ------------------------------------------------------------ where changes come from

    def install(self) -> None:
        """Watch this process from now on."""
        self._sqlite = WatchedSqlite(self)  # must live as long as SQLite may call it
        builtins.open = io.open = self._opener(io.open)
        self._replace("open", self._os_open)
        self._replace("fsync", self._fsync)
        self._replace("mkdir", self._one_path(self.mkdir))
        for name in ("unlink", "remove"):
            self._replace(name, self._one_path(self.unlink, must_exist=True))
        for name in ("rename", "replace"):
            self._replace(name, self._rename)

    def _replace(self, name: str, ours: Callable[..., Any]) -> None:
        original = getattr(os, name)
        setattr(os, name, functools.wraps(original)(functools.partial(ours, original)))

    def _opener(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def opened(file: Any, mode: str = "r", *arguments: Any, **keywords: Any) -> Any:
            path = "" if isinstance(file, int) else os.path.abspath(os.fspath(file))
            if not (set(mode) & set("wax+") and self.is_watched(path)):
                return original(file, mode, *arguments, **keywords)
            raw = WatchedFile(path, mode.replace("b", "").replace("t", ""), self)
            stream = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return stream if "b" in mode else io.TextIOWrapper(stream, encoding=keywords.get("encoding"))

        return opened

    def _os_open(self, original: Callable[..., int], path: Any, flags: int, *arguments: Any, **keywords: Any) -> int:
        where = os.path.abspath(os.fsdecode(path))
        if self.is_watched(where) and flags & os.O_CREAT and not os.path.exists(where):
            self.create(where)
        elif self.is_watched(where) and flags & os.O_TRUNC and os.path.getsize(where):
            self.truncate(where, 0)
        descriptor = original(path, flags, *arguments, **keywords)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            self._folders[descriptor] = where
        return descriptor

    def _fsync(self, original: Callable[[int], None], file: Any) -> None:
        descriptor = file if isinstance(file, int) else file.fileno()
        state = os.fstat(descriptor)
        if stat.S_ISDIR(state.st_mode):
            path = self._folders[descriptor]
            if (path + os.sep).startswith(self._root):
                self.sync_folder(path)
                return
        elif watched := WatchedFile.by_descriptor.get(descriptor):
            self.sync(watched)
            return
        original(descriptor)

    def _one_path(self, note: Callable[[str], None], *, must_exist: bool = False) -> Callable[..., Any]:
        def made(original: Callable[..., Any], path: Any, *arguments: Any, **keywords: Any) -> Any:
            where = os.path.abspath(os.fsdecode(path))
            if self.is_watched(where) and os.path.exists(where) == must_exist:
                note(where)
            return original(path, *arguments, **keywords)

        return made

    def _rename(self, original: Callable[..., Any], path: Any, target: Any, **keywords: Any) -> Any:
        where, to = os.path.abspath(os.fsdecode(path)), os.path.abspath(os.fsdecode(target))
        if self.is_watched(where) and os.path.exists(where):
            self.rename(where, to)
        return original(path, target, **keywords)


class WatchedFile(io.FileIO):
    """A file whose writes are seen."""

    by_descriptor: dict[int, str] = {}  # noqa: RUF012

    def __init__(self, path: str, mode: str, watch: Watch) -> None:
        if not os.path.exists(path):
            watch.create(path)
        elif "w" in mode and os.path.getsize(path):
            watch.truncate(path, 0)
        super().__init__(path, mode)
        self._path, self._watch, self._appends = path, watch, "a" in mode
        self.by_descriptor[self.fileno()] = path

    def write(self, data: Any) -> int:
        offset = os.fstat(self.fileno()).st_size if self._appends else self.tell()
        self._watch.write(self._path, offset, bytes(data))
        return super().write(data)

    def truncate(self, size: int | None = None) -> int:
        size = self.tell() if size is None else size
        if size != os.fstat(self.fileno()).st_size:
            self._watch.truncate(self._path, size)
        return super().truncate(size)

    def close(self) -> None:
        if not self.closed:
            self.by_descriptor.pop(self.fileno(), None)
        super().close()


def changes_in(log: Path) -> Iterator[Change]:
    """What a log holds, in order."""
    with log.open("rb") as stream:
        while True:
            try:
                yield pickle.load(stream)
            except EOFError:
                return
