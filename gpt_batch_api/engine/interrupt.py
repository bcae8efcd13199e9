"""Ctrl+C: once means finish the present step and stop, twice means stop now. SIGTERM is the same.

Both are safe: what is committed stays, what is not is found on the server again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from gpt_batch_api.engine.context import Interruption

logger = logging.getLogger("gpt_batch_api")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Turn the first signal into a wish to stop, the second into KeyboardInterrupt, the third into the end.

    Outside the main thread no signals arrive, and none are handled.
    """
    interruption = Interruption()
    count = 0

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal count
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
    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            with contextlib.suppress(TypeError):  # a handler that was not set from Python
                signal.signal(number, handler)
