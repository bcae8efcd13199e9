"""What goes on after a run: its process of wandb, found by what stands in its environment."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path


def processes_with(name: str, value: str) -> list[int]:
    """The numbers of the processes that have this variable in their environment."""
    mark, found = f"\0{name}={value}\0".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            ended = (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            if not ended and mark in b"\0" + (process / "environ").read_bytes():
                found.append(int(process.name))
    return [number for number in found if number != os.getpid()]


def wait_for_their_end(name: str, value: str, *, timeout_s: float = 90) -> None:
    """Wait until there are no such processes."""
    deadline = time.monotonic() + timeout_s
    while left := processes_with(name, value):
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.05)
