"""Trackers of experiments (Weights & Biases, Trackio): what one must be able to do, and the thread that it is called from.

Nothing that a tracker does or fails to do stops or slows a run: it is started and called in a thread of its own, behind
a short queue. What it cannot take in time is dropped, oldest first; figures are cumulative, so the next look makes up
for it. At the end the run waits a few seconds for it, and no longer. wandb itself is a process further away:
`wandb_process`.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gpt_batch_api.domain.words import sentence

logger = logging.getLogger("gpt_batch_api")

QUEUE = 500
"""So many looks wait for a slow tracker at most."""
END_WAIT_S = 5.0
"""How long the end of a run waits for what the tracker has not taken yet, or for the tracker to be there at all."""


@dataclass(frozen=True)
class Table:
    """Rows under named columns, shown as they are."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


Figures = Mapping[str, int | float | str | Table]


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told about the run at its beginning."""

    id: str
    """The same in all sessions of a task, so that they continue one another."""
    task_prefix: str
    project: str
    entity: str | None
    name: str | None
    group: str
    folder: Path | None
    config: Mapping[str, Any]
    """The settings without secrets, and the task's metadata."""


class Declined(Exception):
    """There is nothing to log to, and nobody asked for it: no line is needed."""


def installed(package: str) -> bool:
    """Whether *package* can be imported; a folder of files with that name, such as wandb makes,
    does not count."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None


class Tracker(Protocol):
    """Somewhere to log figures. All methods are called from one thread, and may raise whatever they like."""

    name: str

    def start(self, run: TrackedRun) -> str | None:
        """Begin or resume the run; one line that says where its figures are found, if that is known by now.

        Raises Declined.
        """
        ...

    def log(self, figures: Figures, *, step: int) -> None:
        """Take one look. Steps only go up."""
        ...

    def finish(self) -> None:
        """Let the run go."""
        ...


def _log(level: int, text: str) -> None:
    logger.log(level, "%s", text)


class Background:
    """A tracker in a thread of its own. What it has to tell goes to *say*: where the figures are, and one complaint."""

    def __init__(
        self, tracker: Tracker, run: TrackedRun, *, quiet: bool = False, say: Callable[[int, str], None] = _log
    ) -> None:
        self._tracker = tracker
        self._run = run
        self._quiet = quiet
        self._say = say
        self._looks: deque[tuple[int, Figures]] = deque(maxlen=QUEUE)
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._complained = False
        self._thread = threading.Thread(target=self._live, name="tracker", daemon=True)
        self._thread.start()

    def log(self, figures: Figures, *, step: int) -> None:
        """Have one look logged some time; returns at once."""
        self._looks.append((step, figures))
        self._wake.set()

    def finish(self) -> None:
        """Wait until all is logged, but not long."""
        self.close()
        if not self.ended(within_s=END_WAIT_S):
            self._complain(f"has not taken the last figures within {END_WAIT_S:.0f} s; the run does not wait for it")

    def close(self) -> None:
        """Let it end once all is logged; returns at once."""
        self._closing.set()
        self._wake.set()

    def ended(self, *, within_s: float | None) -> bool:
        """Whether it has come to its end within so many seconds."""
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def _live(self) -> None:
        try:
            where = self._tracker.start(self._run)
        except Declined:
            return
        except Exception as error:
            self._complain(f"cannot be used, so nothing is logged there ({_text(error)})")
            return
        if where is not None and not self._quiet:
            self._say(logging.INFO, where)
        while not self._closing.is_set():
            self._wake.wait()
            self._wake.clear()
            self._log_all()
        self._log_all()
        try:
            self._tracker.finish()
        except Exception as error:
            self._complain(f"did not end well ({_text(error)})")

    def _log_all(self) -> None:
        while self._looks:
            step, figures = self._looks.popleft()
            try:
                self._tracker.log(figures, step=step)
            except Exception as error:
                self._complain(f"did not take some figures ({_text(error)})")

    def _complain(self, text: str) -> None:
        """Say what is wrong, once: nobody needs to hear it at each look."""
        if not self._complained:
            self._complained = True
            self._say(logging.WARNING, sentence(f"{self._tracker.name} {text}. The run itself is not concerned"))


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip() or 'no message'}".partition("\n")[0]
