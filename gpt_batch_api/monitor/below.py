"""A block of lines at the bottom of a terminal, below all that is logged.

What is logged or printed meanwhile appears above the block, whole. The block is taken away for it, and drawn again when
it is shown next: ten thousand log lines cost ten thousand writes, not as many blocks. (That is why the lines come from
rich, but their place is kept here.) The cursor stays visible and nothing of the terminal is switched, so a process that
is killed leaves nothing to repair.

In a window that became narrower, rows that the terminal has wrapped are left standing rather than log lines taken away.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Sequence
from io import TextIOBase
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


def can_redraw(stream: TextIO | None) -> bool:
    """Whether *stream* is a terminal on which lines can be drawn again."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def wants_color(stream: TextIO) -> bool:
    """Colours go to terminals only, and never against NO_COLOR (https://no-color.org)."""
    return not os.environ.get("NO_COLOR") and can_redraw(stream)


class Below:
    """The block on one terminal."""

    def __init__(self, stream: TextIO, *, color: bool) -> None:
        self._stream = stream
        self._color = color
        self._rows = 0
        self._in_mid_line = False
        self._shown: list[str] = []
        self._lock = threading.RLock()
        self._console: Console | None = None

    @property
    def stands(self) -> bool:
        """Whether the block is on the screen now."""
        return self._rows > 0

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows of the window now."""
        try:
            columns, rows = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            columns, rows = 80, 24
        return columns or 80, rows or 24

    def show(self, lines: Sequence[Text]) -> None:
        """Show *lines* in the place of those shown before; nothing is written if they are the same and stand there.

        Nothing is shown either while half a line stands above: a prompt, somebody else's progress bar.
        """
        drawn = [self._drawn(line) for line in lines]
        with self._lock:
            if self._in_mid_line or (self._rows == len(drawn) and self._shown == drawn):
                return
            self._write(self._erasure() + "".join(f"{line}\n" for line in drawn))
            self._rows, self._shown = len(drawn), drawn

    def above(self, text: str) -> None:
        """Write *text* where the block stands; it is drawn again below when it is shown next."""
        with self._lock:
            self._write(self._erasure() + text)
            if text:
                self._in_mid_line = not text.endswith("\n")

    def clear(self) -> None:
        """Take the block away."""
        self.above("")

    def _erasure(self) -> str:
        rows = min(self._rows, self.size[1] - 1)  # what is above the window cannot be reached
        self._rows = 0
        return f"\r\033[{rows}A\033[J" if rows > 0 else ""

    def _write(self, text: str) -> None:
        if text:
            self._stream.write(text)
            self._stream.flush()

    def _drawn(self, line: Text) -> str:
        """*line* as it is written; what the terminal's encoding has not becomes a question mark."""
        encoding = self._stream.encoding or "utf-8"
        return self._styled(line).encode(encoding, "replace").decode(encoding)

    def _styled(self, line: Text) -> str:
        if not self._color:
            return line.plain
        if self._console is None:
            from rich.console import Console

            self._console = Console(force_terminal=True, color_system="standard")
        segments = line.render(self._console)
        return "".join(segment.style.render(segment.text) if segment.style else segment.text for segment in segments)


class AboveStream(TextIOBase):
    """Stands where a stream to the terminal stood, and writes above the block for as long as there is one."""

    def __init__(self, below: Below, original: TextIO) -> None:
        self._below: Below | None = below
        self._original = original

    def write(self, text: str) -> int:
        if self._below is None:
            return self._original.write(text)
        self._below.above(text)
        return len(text)

    def release(self) -> None:
        """From now on everything goes where it went before; somebody may have kept this stream."""
        self._below = None

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        self._original.flush()

    def isatty(self) -> bool:
        return self._original.isatty()

    def fileno(self) -> int:
        return self._original.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._original.encoding

    def __getattr__(self, name: str) -> Any:
        """Whatever else a stream has (`buffer`, `reconfigure`), as it is."""
        return getattr(self._original, name)


class Diversion:
    """While it is on, what goes to standard output and standard error, log handlers too, goes above the block."""

    def __init__(self, below: Below) -> None:
        self._below = below
        self._streams: list[tuple[str, TextIO, AboveStream]] = []
        self._handlers: list[tuple[logging.StreamHandler[TextIO], TextIO]] = []

    def start(self) -> None:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is not None and stream.isatty():
                above = AboveStream(self._below, stream)
                self._streams.append((name, stream, above))
                setattr(sys, name, above)
        for handler in _handlers():
            for _, stream, above in self._streams:
                if handler.stream is stream:
                    handler.setStream(cast(TextIO, above))
                    self._handlers.append((handler, stream))

    def stop(self) -> None:
        for handler, stream in self._handlers:
            handler.setStream(stream)
        for name, stream, above in self._streams:
            if getattr(sys, name) is above:
                setattr(sys, name, stream)
            above.release()
        self._handlers, self._streams = [], []


def _handlers() -> list[logging.StreamHandler[TextIO]]:
    """All handlers of all loggers that write to a stream."""
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    found = [handler for logger in loggers if isinstance(logger, logging.Logger) for handler in logger.handlers]
    return [handler for handler in found if isinstance(handler, logging.StreamHandler)]
