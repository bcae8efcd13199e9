"""Count the edges of a run, and end the process at one of them.

An edge is a place where a power cut would show: a transaction about to be committed, a call about to be sent, a reply
that has arrived, a file about to be opened for writing, synced, renamed or removed. Everything is caught where the
program leaves Python for the world (SQLite's trace, the HTTP library's transport, `os`), so the product needs no hooks.
"""

from __future__ import annotations

import functools
import os
import re
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

_ID = re.compile(r"(?<=file)-\w{8,}|_[0-9a-f]{8,}")
"""What is another one in each run: the id of a batch, a file, a task."""


def nameless(name: str) -> str:
    """*name* without ids, so that an edge has the same name in each run."""
    return _ID.sub("", name)


class Edges:
    """Counts edges; at edge *kill_at* the process ends itself with SIGKILL, before the edge is crossed.

    It is a number (from 1), or a name: the first edge of that name is meant, or the one that its number says: `commit#3`.
    """

    def __init__(self, folder: Path, *, kill_at: int | str | None, record: Path | None = None) -> None:
        self._folder = f"{folder}{os.sep}"
        self._kill_at = kill_at
        self._record = None if record is None else os.open(record, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self.count = 0
        self._of_name: Counter[str] = Counter()

    def cross(self, name: str) -> None:
        """Note one edge, or die at it."""
        self.count += 1
        self._of_name[name] += 1
        if self._record is not None:
            os.write(self._record, f"{name}\n".encode())
        if self._kill_at in (self.count, name, f"{name}#{self._of_name[name]}"):
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Watch commits, calls and files of this process from now on."""
        sys.addaudithook(self._on_audit)
        self._watch_http()
        self._watch_commits()
        for name in ("fsync", "truncate", "rename", "replace", "unlink"):
            setattr(os, name, self._watched(name, getattr(os, name)))

    def _on_audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and self._is_write(arguments):
            self.cross(f"open {nameless(Path(str(arguments[0])).name)}")

    def _is_write(self, arguments: tuple[Any, ...]) -> bool:
        path, mode, _ = arguments
        return isinstance(mode, str) and bool(set(mode) & set("wax+")) and str(path).startswith(self._folder)

    def _on_statement(self, statement: str) -> None:
        if statement.strip(" ;") == "COMMIT":
            self.cross("commit")

    def _watch_commits(self) -> None:
        connect = sqlite3.connect

        def watched(*arguments: Any, **keywords: Any) -> sqlite3.Connection:
            db: sqlite3.Connection = connect(*arguments, **keywords)
            db.set_trace_callback(self._on_statement)
            return db

        setattr(sqlite3, "connect", watched)  # noqa: B010

    def _watch_http(self) -> None:
        """Both libraries: that of the official client, and that of direct calls."""
        import aiohttp
        import httpx2

        self._watch_calls(
            httpx2.AsyncHTTPTransport, "handle_async_request", lambda request: (request.method, request.url.path)
        )
        self._watch_calls(aiohttp.ClientSession, "_request", lambda method, url: (method, str(url)))

    def _watch_calls(self, kind: type, name: str, line_of: Callable[..., tuple[str, str]]) -> None:
        original: Callable[..., Awaitable[Any]] = getattr(kind, name)

        @functools.wraps(original)
        async def watched(caller: Any, *arguments: Any, **keywords: Any) -> Any:
            method, path = line_of(*arguments)
            call = f"{method} {nameless(path.rsplit('/', 1)[-1])}"
            self.cross(f"before {call}")
            response = await original(caller, *arguments, **keywords)
            self.cross(f"after {call}")
            return response

        setattr(kind, name, watched)

    def _watched(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def watched(*arguments: Any, **keywords: Any) -> Any:
            self.cross(name)
            return original(*arguments, **keywords)

        return watched
