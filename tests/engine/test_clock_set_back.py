"""The wall clock of this machine is wrong, or is set back: nothing is lost, and nothing waits for it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from gpt_batch_api.domain.clock import SystemClock
from gpt_batch_api.domain.events import BatchPushed, Event, PushRefused, ReplyLost
from gpt_batch_api.engine.session import Seams
from gpt_batch_api.wire.transport import Reply, Transport
from tests.toy import ToyTask, batches_of, books, files_of, let_time_pass, query, rows_of, sandbox, settings_for

DAY_S = 86_400.0


class WrongClock(SystemClock):
    """The machine's clock, some seconds ahead."""

    def __init__(self, ahead_s: float) -> None:
        self.ahead_s = ahead_s

    def now(self) -> float:
        return time.time() + self.ahead_s


def finishes(server: Any, tasks: Path, clock: WrongClock) -> None:
    """The job ends completely, each batch paid once."""
    assert ToyTask(settings_for(server, tasks), seams=Seams(clock=clock), max_batch_requests=4).run()
    assert len({row["key"] for row in rows_of(tasks)}) == len(rows_of(tasks)) == ToyTask.count
    paid = [batch for batch in batches_of(server, tasks) if batch["status"] != "failed"]
    assert len(paid) == len({batch["metadata"]["gpt_batch_api_batch"] for batch in paid}) == 2
    spent, reserved, unlinked, linked = books(tasks)
    assert (spent, reserved, unlinked) == (linked, 0, 0)
    assert files_of(server, tasks) == []


class PowerOff(Exception):
    """The first run ends here."""


def power_off(event: Event) -> None:
    """What a kill after the first trouble does."""
    if isinstance(event, ReplyLost | PushRefused):
        raise PowerOff


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("fault", "waiting"),
    [
        ("{on: batches.create, fault: status, status: 429, retry_after: 300, nth: [1]}", "max(not_before) FROM batch"),
        ("{on: batches.create, fault: lose_after, nth: [1]}", "max(look_at) FROM push"),
    ],
    ids=["postponed", "in doubt"],
)
def test_what_waits_for_a_moment_does_not_wait_for_the_clock_to_come_back_to_it(
    weather: Any, tasks: Path, fault: str, waiting: str
) -> None:
    """Begun with a clock that is a day ahead, continued with the right one."""
    with weather(f"faults: [{fault}]") as server:
        ahead = Seams(clock=WrongClock(DAY_S))
        with pytest.raises(PowerOff):
            ToyTask(settings_for(server, tasks), seams=ahead, listeners=[power_off], max_batch_requests=4).run()
        assert query(tasks, f"SELECT {waiting}")[0][0] > time.time() + DAY_S / 2
        finishes(server, tasks, WrongClock(0.0))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("moved_s", [-3 * DAY_S, 3 * DAY_S])
def test_a_clock_that_is_set_in_the_middle_of_a_run_does_no_harm(weather: Any, tasks: Path, moved_s: float) -> None:
    """By days, each time that a batch was pushed."""
    clock = WrongClock(0.0)

    def nudge(event: Event) -> None:
        if isinstance(event, BatchPushed):
            clock.ahead_s += moved_s

    with weather("faults: [{on: batches.create, fault: lose_after, nth: [1]}]") as server:
        task = ToyTask(settings_for(server, tasks), seams=Seams(clock=clock), listeners=[nudge], max_batch_requests=4)
        assert task.run()
        assert clock.ahead_s == 2 * moved_s
        finishes(server, tasks, clock)


@pytest.mark.timeout(60)
def test_a_machine_that_sleeps_while_it_looks_for_a_batch_looks_again(weather: Any, tasks: Path) -> None:
    """The lists were read before that day, when they were still behind: they say nothing about it."""
    clock = WrongClock(0.0)
    lost: list[Event] = []

    class Drowsy(Transport):
        """Sleeps for a day, once, just after it has read the list in which a batch is missing."""

        def read(self, raw: Any) -> Reply:
            reply = super().read(raw)
            if lost and reply.document["object"] == "list":
                lost.clear()
                clock.ahead_s += DAY_S
                let_time_pass(server, DAY_S)
            return reply

    def note(event: Event) -> None:
        if isinstance(event, ReplyLost):
            lost.append(event)

    plan = "faults: [{on: batches.create, fault: lose_after, nth: [1]}]\nlist_lag_s: {files: 0, batches: 5}"
    with weather(plan) as server:
        seams = Seams(clock=clock, make_transport=lambda server, clock: Drowsy(server, clock=clock))
        given = settings_for(server, tasks, max_batch_requests=4, list_lag_wait=60.0)
        assert ToyTask(given, seams=seams, listeners=[note]).run()
        assert clock.ahead_s == DAY_S
        finishes(server, tasks, clock)


SHOWN_LATE = """
timing: {validating_s: 0, requests_per_s: 0.0001, minimum_s: 0, finalizing_s: 0, cancelling_s: 0}
retrieve_lag_s: {files: 0, batches: %s}
"""
"""A batch takes for ever, and cannot be asked about for a while after its creation."""


def wipes(server: Any, tasks: Path, clock: WrongClock, *, list_lag_wait: float) -> None:
    """Two batches are created with the right clock; then, with *clock*, they are wiped."""
    given = settings_for(server, tasks, max_batch_requests=4, list_lag_wait=list_lag_wait)
    assert not ToyTask(given, once=True).run()
    ToyTask(given, seams=Seams(clock=clock), wipe_requests=True, run=False).run()
    assert query(tasks, "SELECT count(*) FROM batch WHERE state IN ('pushing', 'remote', 'ended')") == [(0,)]
    assert files_of(server, tasks) == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("ahead_s", [-DAY_S, 0.0, DAY_S])
def test_a_wipe_cancels_what_is_shown_late_whatever_the_clock_says(tmp_path: Path, tasks: Path, ahead_s: float) -> None:
    """How long a batch has been there is told by the server's time: it is not given up as unknown too early."""
    with sandbox(tmp_path / "server", SHOWN_LATE % 1.5) as server:
        wipes(server, tasks, WrongClock(ahead_s), list_lag_wait=30.0)
        assert [batch["status"] for batch in batches_of(server, tasks)] == ["cancelled", "cancelled"]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("ahead_s", [-DAY_S, 0.0, DAY_S])
def test_a_wipe_gives_up_what_stays_unknown_whatever_the_clock_says(
    tmp_path: Path, tasks: Path, ahead_s: float
) -> None:
    """A clock that was set back does not make it wait for a day."""
    with sandbox(tmp_path / "server", SHOWN_LATE % 1000) as server:
        wipes(server, tasks, WrongClock(ahead_s), list_lag_wait=1.0)
