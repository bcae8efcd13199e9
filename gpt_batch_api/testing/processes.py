"""The processes of a self-check, in two worlds that differ in what must make no difference."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EAST = {"PYTHONHASHSEED": "1", "TZ": "AAA-14"}
WEST = {"PYTHONHASHSEED": "2", "TZ": "BBB12"}
"""Sets have another order in each, and it is never the same day in both."""
_ELSEWHERE = ("OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID")


class Nursery:
    """Starts a process for each job, see `nursery.py`. Many may be under way at a time, from several threads."""

    def __init__(self, address: Path, *, world: Mapping[str, str]) -> None:
        self._address = str(address)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "gpt_batch_api.testing.nursery", self._address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**_environment(), **world},
        )

    def wait_until_ready(self) -> None:
        """Wait until jobs can be done. Raises RuntimeError if that will never be."""
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            raise RuntimeError("The processes of the self-check do not start. What they said stands above.")

    def close(self) -> None:
        """End it."""
        with self._process:
            pass

    def do(self, job: Mapping[str, Any]) -> int:
        """Let a new process do *job*; its exit code, negative if a signal killed it."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self._address)
            connection.sendall(json.dumps(job).encode() + b"\n")
            with connection.makefile("rb") as stream:
                return int(stream.readline())


@dataclass(frozen=True)
class Worlds:
    """A task is run in the one world and its answers are replayed in the other."""

    east: Nursery
    west: Nursery


@contextmanager
def worlds(folder: Path) -> Iterator[Worlds]:
    """Both, with their sockets in *folder*."""
    with ExitStack() as stack:
        both = Worlds(Nursery(folder / "east", world=EAST), Nursery(folder / "west", world=WEST))
        for nursery in (both.east, both.west):
            stack.callback(nursery.close)
        for nursery in (both.east, both.west):
            nursery.wait_until_ready()
        yield both


def _environment() -> dict[str, str]:
    """This process's environment, without the user's servers; modules are found where this process finds them."""
    own = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return {**own, "PYTHONPATH": path, "OPENAI_API_KEY": "sandbox"}
