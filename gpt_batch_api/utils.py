"""Helpers for scripts built with this library: readable logging, and where a task's settings come from."""

from __future__ import annotations

import errno
import logging
import os
import sys
from typing import ClassVar, TextIO

from gpt_batch_api.cli.options import add_settings, make_parser, settings_from_args, settings_from_config
from gpt_batch_api.monitor.below import wants_color

__all__ = [
    "ColorFormatter",
    "add_settings",
    "configure_logging",
    "make_parser",
    "settings_from_args",
    "settings_from_config",
    "wants_color",
]

_RESET = "\033[0m"


class ColorFormatter(logging.Formatter):
    """Lets warnings and errors stand out: `[time] level: message`, yellow and red where colours are wanted."""

    COLORS: ClassVar[dict[int, str]] = {
        logging.DEBUG: "\033[2m",
        logging.WARNING: "\033[33m",
        logging.ERROR: "\033[31m",
        logging.CRITICAL: "\033[1;31m",
    }

    def __init__(
        self, fmt: str = "[%(asctime)s] %(message)s", datefmt: str = "%H:%M:%S", *, color: bool = True
    ) -> None:
        super().__init__(fmt, datefmt)
        self.color = color

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if record.levelno >= logging.WARNING:
            head, bracket, tail = text.partition("] ")
            text = f"{head}] {record.levelname}: {tail}" if bracket else f"{record.levelname}: {text}"
        color = self.COLORS.get(record.levelno) if self.color else None
        return f"{color}{text}{_RESET}" if color else text


class _LineHandler(logging.StreamHandler[TextIO]):
    """Writes to a stream for as long as somebody reads it. After that all that goes there is silent: what logs goes on."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        error = sys.exception()
        if not isinstance(error, OSError) or error.errno not in (errno.EPIPE, errno.EIO):
            super().handleError(record)
            return
        self.addFilter(lambda record: False)
        _silence(self.stream)


def _silence(stream: TextIO) -> None:
    """Let what is written to *stream* go nowhere; also what stands in its buffer, and would be missed at the very end."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # it is no file of the system
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def configure_logging(level: int | str = logging.INFO, *, stream: TextIO | None = None) -> logging.Handler:
    """Send log records of *level* and above to *stream* (standard output), coloured on a terminal.

    Replaces handlers that an earlier call made; those of others stay. When nobody reads the stream any more (`| head`, a
    terminal that was closed), all that goes there is silent from then on. Returns the handler.
    """
    stream = stream or sys.stdout
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler.formatter, ColorFormatter)]:
        root.removeHandler(old)
    handler = _LineHandler(stream)
    handler.setFormatter(ColorFormatter(color=wants_color(stream)))
    root.addHandler(handler)
    root.setLevel(level)
    for chatty in ("httpx2", "httpcore2", "openai"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return handler
