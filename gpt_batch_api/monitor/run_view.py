"""What a person sees of a run while it goes on: a live view on a terminal, a line every so often in a log.

A thread of its own looks at the store, as any other process may, once a second at most; the run never waits for it, and
whatever befalls it, the run goes on. When the session ends it has looked for the last time, so that the store can close as
the last one.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

from gpt_batch_api.domain.errors import GPTBatchError
from gpt_batch_api.domain.events import Event, SessionEnded
from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.monitor.below import Below, Diversion, can_redraw, wants_color
from gpt_batch_api.monitor.facts import Facts, facts_of
from gpt_batch_api.monitor.view import Rates, log_line, view_lines
from gpt_batch_api.store.snapshot import take_from

logger = logging.getLogger("gpt_batch_api")

LOOK_S = 1.0
DRAW_S = 0.25
"""How soon the view stands again after log lines, and in a window of another size."""
LINE_S = 60.0
"""How often a log is told how far the task is."""
LONGEST_GOODBYE_S = 5.0


class RunView:
    """A context manager around a run, and a listener of it. Quiet settings show nothing."""

    def __init__(self, settings: Settings, store: Path, *, prefix: str, line_s: float = LINE_S) -> None:
        self._settings = settings
        self._store = store
        self._prefix = prefix
        self._line_s = line_s
        self._rates = Rates()
        self._over = threading.Event()
        self._looking = threading.Lock()
        self._thread: threading.Thread | None = None
        self._below: Below | None = None
        self._diversion: Diversion | None = None

    @property
    def is_live(self) -> bool:
        """Whether it is a live view, on a terminal."""
        return self._shows and can_redraw(sys.stdout)

    @property
    def _shows(self) -> bool:
        return self._settings.extra.verbosity != "quiet"

    def __enter__(self) -> RunView:
        if self.is_live:
            self._below = Below(sys.stdout, color=wants_color(sys.stdout))
            self._diversion = Diversion(self._below)
            self._diversion.start()
        if self._shows:
            self._thread = threading.Thread(target=self._watch, name="run view", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        try:
            if self._thread is not None:
                self._thread.join(LONGEST_GOODBYE_S)  # or it might draw once more
            if self._below is not None:
                with contextlib.suppress(OSError):  # the terminal is gone
                    self._below.clear()
        finally:
            if self._diversion is not None:
                self._diversion.stop()

    def __call__(self, event: Event) -> None:
        if isinstance(event, SessionEnded):
            self._stop()

    def _stop(self) -> None:
        self._over.set()
        with self._looking:  # the last look is over
            pass

    def _watch(self) -> None:
        try:
            if self._below is None:
                self._write_lines()
            else:
                self._keep_drawn(self._below)
        except Exception as error:  # a run must not end, nor a screen break, because nobody can look at it
            with contextlib.suppress(Exception):
                logger.warning("The view of this run is over (%s); the run goes on.", error)

    def _write_lines(self) -> None:
        while not self._over.wait(self._line_s):
            if (facts := self._look()) is not None:
                logger.info("%s", log_line(facts, self._rates))

    def _keep_drawn(self, below: Below) -> None:
        facts, size, due_s = None, below.size, time.monotonic() + DRAW_S
        while not self._over.wait(DRAW_S):
            looks = time.monotonic() >= due_s
            if looks:
                due_s = time.monotonic() + LOOK_S
                facts = self._look() or facts
            if facts is None or not (looks or size != below.size or not below.stands):
                continue
            size = below.size
            # One row is left for the cursor, and some for the log.
            below.show(view_lines(facts, self._rates, prefix=self._prefix, width=size[0] - 1, height=size[1] - 3))

    def _look(self) -> Facts | None:
        """The task now; None if there is nothing to see (yet)."""
        with self._looking:
            if self._over.is_set():
                return None
            try:
                taken = take_from(self._store)
            except GPTBatchError:  # just being made, brought up to date, or damaged: the run itself will tell
                return None
        if taken is None:
            return None
        facts = facts_of(taken, settings=self._settings, now=time.time())
        self._rates.note(facts)
        return facts
