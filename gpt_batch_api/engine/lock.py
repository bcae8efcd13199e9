"""One process owns a task at a time. The lock is the system's, so it is free again when its holder dies."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from gpt_batch_api.domain.errors import TaskLocked, UserError
from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.engine.disk import disk_explained


@contextmanager
def hold(path: Path, settings: Settings, *, tell: Callable[[str], None], stop: Callable[[], bool]) -> Iterator[None]:
    """Own the task whose lock file is *path*, waiting for another owner as the settings say.

    Raises TaskLocked, with the holder's name, when the wait is over; KeyboardInterrupt when *stop* says so.
    """
    from filelock import FileLock, Timeout

    requester = settings.requester
    lock = FileLock(path, timeout=0)
    begin = told = time.monotonic()
    while True:
        try:
            lock.acquire(poll_interval=requester.lock_poll_interval)
            break
        except Timeout:
            waited = time.monotonic() - begin
            left = None if requester.lock_timeout is None else requester.lock_timeout - waited
            if left is not None and left <= 0:
                raise _locked(path, settings) from None
            if waited == 0 or told == begin or time.monotonic() - told >= requester.lock_status_interval:
                told = time.monotonic()
                tell(f"Waiting for this task: {holder(path)} works on it. Ctrl+C is safe.")
            if stop():
                raise KeyboardInterrupt from None
            time.sleep(min(requester.lock_poll_interval, max(0.01, left if left is not None else 1.0)))
        except OSError as error:
            raise UserError(
                f"The lock file {path.absolute()} cannot be made: {error.strerror}. Look at the rights and the disk of its "
                "folder, then run the same command again."
            ) from error
    try:
        with disk_explained(path.parent):
            path.write_text(json.dumps(_myself()), encoding="utf-8")
        yield
    finally:
        with contextlib.suppress(OSError):
            path.write_text("", encoding="utf-8")
        lock.release()


def holder(path: Path) -> str:
    """Who holds the lock, as far as the lock file tells."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        since = datetime.fromtimestamp(facts["since"]).strftime("%Y-%m-%d %H:%M:%S")
        return f"process {facts['pid']} on {facts['host']} (since {since})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def held_by(path: Path) -> str | None:
    """Who works on the task whose lock file is *path*; None if nobody does. Makes and changes nothing."""
    import fcntl

    try:
        with path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)  # let go when the file is closed, at once
    except BlockingIOError:
        return holder(path)
    except FileNotFoundError:
        return None
    return None


def _myself() -> dict[str, object]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}


def _locked(path: Path, settings: Settings) -> TaskLocked:
    name = holder(path)
    return TaskLocked(
        f"This task is in use: {name} works on it (waited {settings.requester.lock_timeout:g} s). "
        "Wait for it, stop it, or choose another task_prefix.",
        holder=name,
    )
