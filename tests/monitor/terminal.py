"""A terminal as a person has it: a process behind a real pseudo-terminal, and the screen that it draws."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyte

ROOT = Path(__file__).parents[2]


def heed_ctrl_c() -> None:
    """What a shell runs in the background is told to ignore it, and so are its children: these tests, perhaps."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def heed_terminal() -> None:
    """The terminal is the one that the process is told of: when it is closed, it gets SIGHUP."""
    heed_ctrl_c()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """A process, its pseudo-terminal, and what stands on its screen now."""

    def __init__(
        self, command: Sequence[str], *, columns: int, rows: int, environment: Mapping[str, str], controls: bool
    ) -> None:
        self._master, slave = os.openpty()
        self.screen = pyte.HistoryScreen(columns, rows, history=5000, ratio=0.5)
        self._stream = pyte.ByteStream(self.screen)
        self.written = b""
        self._set_size(columns, rows)
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=heed_terminal if controls else heed_ctrl_c,
            env={**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **environment},
        )
        os.close(slave)

    def resize(self, columns: int, rows: int) -> None:
        """Drag the window's corner."""
        self.screen.resize(rows, columns)
        self._set_size(columns, rows)
        self.process.send_signal(signal.SIGWINCH)

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def answer(self, text: str) -> None:
        """Type a line."""
        os.write(self._master, f"{text}\n".encode())

    def hang_up(self) -> None:
        """Close the window."""
        os.close(self._master)
        self._master = -1

    @property
    def lines(self) -> list[str]:
        """What stands on the screen, without blanks at the ends."""
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def everything(self) -> str:
        """The screen with all that has scrolled out of it above."""
        gone = ["".join(row[column].data for column in sorted(row)).rstrip() for row in self.screen.history.top]
        return "\n".join([*gone, *self.lines])

    def until(self, seen: Callable[[], object], *, timeout_s: float = 60) -> None:
        """Let the process write until *seen* holds, and what it was writing then has come whole."""
        deadline = time.monotonic() + timeout_s
        while not (seen() and self._rests() and seen()):
            assert time.monotonic() < deadline, f"never seen; the screen:\n{self.text}"
            assert self._read(0.2), f"the process ended too early; the screen:\n{self.text}"

    def end(self, *, timeout_s: float = 60) -> int:
        """Let the process write until it ends; its exit code."""
        deadline = time.monotonic() + timeout_s
        while self._read(0.2):
            assert time.monotonic() < deadline, f"it does not end; the screen:\n{self.text}"
        return self.process.wait(10)

    def _rests(self) -> bool:
        """Take in what is being written just now, until there is a pause."""
        while select.select([self._master], [], [], 0.1)[0]:
            if not self._read(0):
                break
        return True

    def _read(self, wait_s: float) -> bool:
        """Take in what is written; whether the process can still write."""
        if not select.select([self._master], [], [], wait_s)[0]:
            return self.process.poll() is None
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the other side is closed
            return False
        self.written += data
        self._stream.feed(data)
        return bool(data)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self._master >= 0:
            os.close(self._master)


@contextmanager
def terminal(
    *command: str,
    columns: int = 100,
    rows: int = 30,
    environment: Mapping[str, str] | None = None,
    controls: bool = False,
) -> Iterator[Terminal]:
    """Run a Python command in a terminal; if that *controls* it, its end is told to the process."""
    found = Terminal(
        [sys.executable, *command], columns=columns, rows=rows, environment=environment or {}, controls=controls
    )
    try:
        yield found
    finally:
        found.close()
