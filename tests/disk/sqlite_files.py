"""See, and refuse, what SQLite does to files: writes, truncations, syncs, removals.

SQLite speaks to the disk through a table of functions (its VFS). They are replaced, in this process, by functions that
ask first. This reaches the very SQLite that Python's `sqlite3` uses, and needs no compiler.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_int64, c_void_p
from typing import Any, Protocol

OK, FULL, CANNOT_OPEN = 0, 13, 14
IO_ERROR_WRITE, IO_ERROR_SYNC, IO_ERROR_TRUNCATE, IO_ERROR_DELETE = 778, 1034, 1546, 2570
_OPEN_CREATE, _OPEN_JOURNAL, _OPEN_WAL = 0x4, 0x800, 0x80000


class Asks(Protocol):
    """Who is asked before each change. An OSError is what SQLite gets instead."""

    def create(self, path: str) -> None: ...
    def write(self, path: str, offset: int, data: bytes) -> None: ...
    def truncate(self, path: str, size: int) -> None: ...
    def sync(self, path: str) -> None: ...
    def sync_folder(self, path: str) -> None: ...
    def unlink(self, path: str) -> None: ...
    def is_watched(self, path: str) -> bool: ...


_Close = CFUNCTYPE(c_int, c_void_p)
_Write = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Truncate = CFUNCTYPE(c_int, c_void_p, c_int64)
_Sync = CFUNCTYPE(c_int, c_void_p, c_int)
_Open = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_Delete = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)


class _Methods(Structure):
    """sqlite3_io_methods, version 3."""

    _fields_ = [
        ("version", c_int),
        ("close", _Close),
        ("read", c_void_p),
        ("write", _Write),
        ("truncate", _Truncate),
        ("sync", _Sync),
        *((f"rest{number}", c_void_p) for number in range(14)),
    ]


class _Vfs(Structure):
    """The beginning of sqlite3_vfs."""

    _fields_ = [
        ("version", c_int),
        ("file_size", c_int),
        ("longest_path", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        ("open", _Open),
        ("delete", _Delete),
    ]


class _File(Structure):
    """sqlite3_file."""

    _fields_ = [("methods", POINTER(_Methods))]


class NotReachable(Exception):
    """This Python keeps its SQLite to itself (it is linked into the program without names)."""


def _library() -> Any:
    import _sqlite3

    for name in (getattr(_sqlite3, "__file__", None), None):
        library = ctypes.CDLL(name)
        if hasattr(library, "sqlite3_vfs_find"):
            return library
    raise NotReachable


class WatchedSqlite:
    """All SQLite connections that this process opens from now on ask *asks*. For the rest of the process's life."""

    def __init__(self, asks: Asks) -> None:
        library = _library()
        library.sqlite3_initialize()
        find = library.sqlite3_vfs_find
        find.restype = POINTER(_Vfs)
        self._vfs = find(None).contents
        self._asks = asks
        self._paths: dict[int, str] = {}
        self._folder_waits: set[int] = set()
        self._tables: dict[int, tuple[_Methods, _Methods]] = {}
        self._original_open, self._original_delete = _copy(_Open, self._vfs.open), _copy(_Delete, self._vfs.delete)
        self._vfs.open = self._open_it = _Open(self._open)
        self._vfs.delete = self._delete_it = _Delete(self._delete)

    def _open(self, vfs: int, name: int | None, file: int, flags: int, out_flags: int) -> int:
        path = _text(name) if name else ""
        watched = self._asks.is_watched(path)
        is_new = watched and bool(flags & _OPEN_CREATE) and not os.path.exists(path)
        if is_new and (code := _asked(CANNOT_OPEN, self._asks.create, path)):
            return code
        code = int(self._original_open(vfs, name, file, flags, out_flags))
        if code == OK and watched:
            self._watch(file, path)
            if is_new and flags & (_OPEN_JOURNAL | _OPEN_WAL):
                self._folder_waits.add(file)  # synced by SQLite after the first sync of the file
        return code

    def _watch(self, file: int, path: str) -> None:
        handle = _File.from_address(file)
        address = ctypes.addressof(handle.methods.contents)
        if address not in self._tables:
            original = handle.methods.contents
            ours = _Methods.from_buffer_copy(original)
            ours.close, ours.write = _Close(self._close), _Write(self._write)
            ours.truncate, ours.sync = _Truncate(self._truncate), _Sync(self._sync)
            self._tables[address] = (original, ours)
            self._tables[ctypes.addressof(ours)] = (original, ours)
        handle.methods = ctypes.pointer(self._tables[address][1])
        self._paths[file] = path

    def _original(self, file: int) -> _Methods:
        return self._tables[ctypes.addressof(_File.from_address(file).methods.contents)][0]

    def _close(self, file: int) -> int:
        original = self._original(file)
        self._paths.pop(file, None)
        self._folder_waits.discard(file)
        return int(original.close(file))

    def _write(self, file: int, data: int, size: int, offset: int) -> int:
        path = self._paths[file]
        code = _asked(IO_ERROR_WRITE, self._asks.write, path, offset, ctypes.string_at(data, size))
        return code or int(self._original(file).write(file, data, size, offset))

    def _truncate(self, file: int, size: int) -> int:
        code = _asked(IO_ERROR_TRUNCATE, self._asks.truncate, self._paths[file], size)
        return code or int(self._original(file).truncate(file, size))

    def _sync(self, file: int, flags: int) -> int:
        path = self._paths[file]
        if code := _asked(IO_ERROR_SYNC, self._asks.sync, path):
            return code
        if file in self._folder_waits:
            self._folder_waits.discard(file)
            _asked(OK, self._asks.sync_folder, os.path.dirname(path))  # SQLite does not look at the result of this one
        return OK  # whoever asks for this keeps his own account of what is durable

    def _delete(self, vfs: int, name: int, syncs_folder: int) -> int:
        path = _text(name)
        if self._asks.is_watched(path) and os.path.exists(path):
            if code := _asked(IO_ERROR_DELETE, self._asks.unlink, path):
                return code
            if syncs_folder and (code := _asked(IO_ERROR_DELETE, self._asks.sync_folder, os.path.dirname(path))):
                return code
        return int(self._original_delete(vfs, name, syncs_folder))


def _text(address: int) -> str:
    """The name at *address*. (SQLite finds its parameters behind it, so the address itself is what goes on.)"""
    return os.fsdecode(ctypes.string_at(address))


def _copy(kind: Any, function: Any) -> Any:
    """A function pointer that stays what it is when the field it was read from is overwritten."""
    return kind(ctypes.cast(function, c_void_p).value)


def _asked(code: int, ask: Callable[..., None], *arguments: Any) -> int:
    """What SQLite is told: OK, or *code* for an OSError (a full disk has a code of its own)."""
    try:
        ask(*arguments)
    except OSError as error:
        return FULL if error.errno == errno.ENOSPC and code in (IO_ERROR_WRITE, IO_ERROR_TRUNCATE) else code
    return OK
