"""Run a job in a real process and kill it at an edge."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from pathlib import Path

from tests.crash.edges import Edges

KILLED = -9
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.crash.warm"])
STUCK_S = 300.0

Job = Callable[[Path, str], int]
"""Runs a task in a folder against a server URL; its exit code. Must be a function at the top of a module."""


class Failed(AssertionError):
    """A promise did not hold."""


def log_of(folder: Path) -> Path:
    """Where the runs of a folder write what they say."""
    return folder.with_name(f"{folder.name}.log")


def end_with_parent() -> None:
    """From now on this process ends when the one that started it does, however that ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _child(job: Job, folder: Path, url: str, kill_at: int | str | None, record: Path | None) -> None:
    end_with_parent()
    log = os.open(log_of(folder), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    edges = Edges(folder, kill_at=kill_at, record=record)
    edges.install()
    raise SystemExit(job(folder, url))


def run(job: Job, folder: Path, url: str, *, kill_at: int | str | None = None, record: Path | None = None) -> int:
    """Run *job* in a process of its own; its exit code, KILLED if it ended at the edge."""
    process = FORKS.Process(target=_child, args=(job, folder, url, kill_at, record))
    process.start()
    process.join(STUCK_S)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise Failed(f"stuck: the job did not end within {STUCK_S:g} s (kill_at={kill_at})")
    return process.exitcode


def edges_of(job: Job, folder: Path, url: str, *, record: Path) -> list[str]:
    """The edges of an undisturbed run."""
    code = run(job, folder, url, record=record)
    if code != 0:
        raise Failed(f"the undisturbed run ended with {code}")
    return record.read_text(encoding="utf-8").splitlines()


def killed_after(job: Job, folder: Path, url: str, *, life_s: float | None) -> bool:
    """Run *job* and kill it after so many seconds (None: never); whether that came before its end."""
    process = FORKS.Process(target=_child, args=(job, folder, url, None, None))
    process.start()
    process.join(STUCK_S if life_s is None else life_s)
    if process.exitcode == 0:
        return False
    ended = process.exitcode
    process.kill()
    process.join()
    if ended is not None:
        raise Failed(f"the job ended with {ended}")
    if life_s is None:
        raise Failed(f"stuck: the job did not end within {STUCK_S:g} s")
    return True
