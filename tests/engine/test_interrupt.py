"""What a wish to stop does, and that it makes no noise."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Iterator

import pytest

from gpt_batch_api.engine.interrupt import interruptible, run_interruptible


async def alone(error: BaseException) -> None:
    """A task ends with *error*, and nobody asks for it."""

    async def work() -> None:
        raise error

    task = asyncio.ensure_future(work())
    await asyncio.wait({task})


def test_a_task_that_ctrl_c_ends_says_nothing_of_it(caplog: pytest.LogCaptureFixture) -> None:
    """The second Ctrl+C may come in the midst of any step."""
    with pytest.raises(KeyboardInterrupt):
        run_interruptible(alone(KeyboardInterrupt()))
    gc.collect()
    assert caplog.records == []


def test_any_other_error_that_nobody_asks_for_is_told(caplog: pytest.LogCaptureFixture) -> None:
    run_interruptible(alone(ValueError("mine")))
    gc.collect()
    assert ["never retrieved" in record.getMessage() for record in caplog.records] == [True]


@pytest.fixture
def hang_up() -> Iterator[None]:
    """SIGHUP means what it means by default, and afterwards what it meant before."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_a_closed_terminal_is_a_wish_to_stop_however_often_it_is_told(hang_up: None) -> None:
    """The shell tells it, and the system does."""
    with interruptible() as interruption:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGHUP)
        assert interruption.wanted
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_nohup_is_heeded(hang_up: None) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interruptible() as interruption:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not interruption.wanted
