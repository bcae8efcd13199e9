"""The thread that a tracker lives in: nothing that the tracker does or fails to do reaches the run.

The trackers here are small ones of our own: they stand for libraries that are slow, broken, or well.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt_batch_api.monitor import tracker
from gpt_batch_api.monitor.tracker import Background, Declined, Figures, TrackedRun

RUN = TrackedRun("id", "toy", "words", None, "toy", "Toy", Path(), {})


class Recorder:
    """Takes everything, and calls back at each step of its life."""

    name = "recorder"

    def __init__(self, on: Callable[[str], None] = lambda moment: None) -> None:
        self.taken: list[int] = []
        self.life: list[str] = []
        self._on = on

    def start(self, run: TrackedRun) -> str:
        self._reach("start")
        return f"recording {run.id}"

    def log(self, figures: Figures, *, step: int) -> None:
        self._reach("log")
        self.taken.append(step)

    def finish(self) -> None:
        self._reach("finish")

    def _reach(self, moment: str) -> None:
        self.life.append(moment)
        self._on(moment)


def raising(*moments: str, error: type[Exception] = RuntimeError) -> Callable[[str], None]:
    def on(moment: str) -> None:
        if moment in moments:
            raise error("out of order")

    return on


def waiting_for(event: threading.Event) -> Callable[[str], None]:
    def on(moment: str) -> None:
        event.wait(60)

    return on


def test_all_looks_are_logged_in_order_before_the_end(log: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    background = Background(recorder, RUN)
    for step in range(100):
        background.log({"figure": step}, step=step)
    background.finish()
    assert recorder.taken == list(range(100))
    assert recorder.life[-1] == "finish"
    assert log.messages == ["recording id"]


def test_a_slow_tracker_loses_the_oldest_looks_and_stops_nobody() -> None:
    """Figures are cumulative: the newest are worth most."""
    may_go_on = threading.Event()
    recorder = Recorder(waiting_for(may_go_on))
    background = Background(recorder, RUN)
    begin = time.monotonic()
    for step in range(3 * tracker.QUEUE):
        background.log({"figure": step}, step=step)
    assert time.monotonic() - begin < 5
    may_go_on.set()
    background.finish()
    assert recorder.taken == list(range(2 * tracker.QUEUE, 3 * tracker.QUEUE))


def test_the_end_waits_only_seconds_for_a_tracker_that_hangs(
    monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracker, "END_WAIT_S", 0.2)
    may_go_on = threading.Event()
    background = Background(Recorder(waiting_for(may_go_on)), RUN)
    begin = time.monotonic()
    background.finish()
    assert time.monotonic() - begin < 5
    assert "has not taken the last figures" in log.messages[-1]
    may_go_on.set()


@pytest.mark.parametrize(
    ("moments", "complaint"),
    [
        (("start",), "cannot be used, so nothing is logged there (RuntimeError: out of order)"),
        (("log",), "did not take some figures (RuntimeError: out of order)"),
        (("finish",), "did not end well (RuntimeError: out of order)"),
        (("log", "finish"), "did not take some figures"),
    ],
)
def test_a_tracker_that_raises_is_complained_of_once(
    log: pytest.LogCaptureFixture, moments: tuple[str, ...], complaint: str
) -> None:
    background = Background(Recorder(raising(*moments)), RUN)
    for step in range(5):
        background.log({}, step=step)
    background.finish()
    (warning,) = [record for record in log.records if record.levelno == logging.WARNING]
    assert complaint in warning.getMessage()


def test_one_look_that_is_not_taken_does_not_keep_the_others_away() -> None:
    failed = threading.Event()

    def once(moment: str) -> None:
        if moment == "log" and not failed.is_set():
            failed.set()
            raise RuntimeError("out of order")

    recorder = Recorder(once)
    background = Background(recorder, RUN)
    for step in range(5):
        background.log({}, step=step)
    background.finish()
    assert recorder.taken == [1, 2, 3, 4]


def test_a_tracker_that_nobody_asked_for_declines_in_silence(log: pytest.LogCaptureFixture) -> None:
    background = Background(Recorder(raising("start", error=Declined)), RUN)
    background.log({}, step=1)
    background.finish()
    assert log.messages == []


def test_a_quiet_run_does_not_say_where(log: pytest.LogCaptureFixture) -> None:
    Background(Recorder(), RUN, quiet=True).finish()
    assert log.messages == []
