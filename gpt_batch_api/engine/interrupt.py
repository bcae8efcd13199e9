"""Ctrl+C: once means finish the present step and stop, twice means stop now. SIGTERM is the same.

A terminal that is closed (SIGHUP) is a wish to stop too, however often it is told; `nohup` makes a run deaf to it. All are
safe: what is committed stays, what is not is found on the server again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from gpt_batch_api.engine.context import Interruption

logger = logging.getLogger("gpt_batch_api")

T = TypeVar("T")

_HANG_UP: signal.Signals | None = getattr(signal, "SIGHUP", None)  # not on Windows


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Turn the first signal into a wish to stop, the second into KeyboardInterrupt, the third into the end.

    Outside the main thread no signals arrive, and none are handled.
    """
    interruption = Interruption()
    count = 0

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal count
        if number == _HANG_UP and count:
            return
        count += 1
        if count == 1:
            interruption.set()
            logger.warning("Stopping after the present step. Nothing is lost. Once more stops at once, safely too.")
        elif count == 2:
            raise KeyboardInterrupt
        else:
            os._exit(130)

    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.signal(number, on_signal) for number in _heeded()}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            with contextlib.suppress(TypeError):  # a handler that was not set from Python
                signal.signal(number, handler)


def _heeded() -> Iterator[signal.Signals]:
    yield from (signal.SIGINT, signal.SIGTERM)
    if _HANG_UP is not None and signal.getsignal(_HANG_UP) is not signal.SIG_IGN:
        yield _HANG_UP


def run_interruptible(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, but tasks that a KeyboardInterrupt has ended say nothing of it."""

    def make_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(_on_exception)
        return loop

    with asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(main)


def _on_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if not isinstance(context.get("exception"), KeyboardInterrupt):
        loop.default_exception_handler(context)
