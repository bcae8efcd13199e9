"""Clocks: the machine's own, and the one that tests turn by hand."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_batch_api.domain.clock import HurriedClock, ManualClock, SystemClock

seconds = st.floats(0, 10**6)


def test_a_manual_clock_stands_still() -> None:
    clock = ManualClock(100.0)
    assert (clock.now(), clock.monotonic()) == (clock.now(), clock.monotonic()) == (100.0, 0.0)


@given(steps=st.lists(seconds, max_size=10))
def test_a_manual_clock_moves_as_it_is_told(steps: list[float]) -> None:
    """Wall clock and elapsed time move together."""
    clock = ManualClock(0.0)
    for step in steps:
        clock.advance(step)
    assert clock.now() == clock.monotonic() == sum(steps, 0.0)


@given(before=seconds, back=seconds)
def test_setting_a_manual_clock_back_leaves_elapsed_time_alone(before: float, back: float) -> None:
    """Time for waits within a process never goes back."""
    clock = ManualClock(10.0**9)
    clock.advance(before)
    clock.set_back(back)
    assert clock.monotonic() == before
    assert clock.now() == pytest.approx(10.0**9 + before - back)


def test_sleep_on_a_manual_clock_moves_it_and_lets_others_run() -> None:
    clock = ManualClock(0.0)
    seen: list[str] = []

    async def other() -> None:
        seen.append("other")

    async def main() -> None:
        task = asyncio.create_task(other())
        await clock.sleep(3600.0)
        seen.append("woke")
        await task

    asyncio.run(main())
    assert clock.now() == clock.monotonic() == 3600.0
    assert seen == ["other", "woke"]


def test_the_system_clock_is_the_machines() -> None:
    clock = SystemClock()
    before = time.time(), time.monotonic()
    found = clock.now(), clock.monotonic()
    after = time.time(), time.monotonic()
    assert before[0] <= found[0] <= after[0]
    assert before[1] <= found[1] <= after[1]


def test_the_system_clock_gives_way_while_it_sleeps() -> None:
    """A sleep of no length still lets others run."""
    seen: list[str] = []

    async def other() -> None:
        seen.append("other")

    async def main() -> None:
        task = asyncio.create_task(other())
        await SystemClock().sleep(0)
        seen.append("woke")
        await task

    asyncio.run(main())
    assert seen == ["other", "woke"]


def test_a_hurried_clock_runs_fast_from_its_beginning_on() -> None:
    """Also for those who sleep by it."""
    clock = HurriedClock(began_at=time.time() - 1, scale=1000)
    assert clock.now() - clock.began_at >= 1000
    before = clock.monotonic(), time.monotonic()
    asyncio.run(clock.sleep(100))
    assert clock.monotonic() - before[0] >= 100
    assert time.monotonic() - before[1] < 100
