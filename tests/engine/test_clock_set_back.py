"""The wall clock of this machine is wrong, or is set back: nothing is lost, and nothing waits for it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from gpt_batch_api.domain.clock import SystemClock
from gpt_batch_api.domain.events import BatchPushed, Event, PushRefused, ReplyLost
from gpt_batch_api.engine.session import Seams
from tests.toy import ToyTask, batches_of, books, files_of, query, rows_of, settings_for

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
