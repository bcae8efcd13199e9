"""SIGINT and SIGKILL in the middle of 500 direct calls, then the same command again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpt_batch_api.sandbox.child import SandboxProcess
from tests.toy import QUICK, ToyTask, ask, books, query, rows_of, sandbox

CALLS = 500
IN_FLIGHT = 20


class Many(ToyTask):
    """500 requests, 20 at a time."""

    count = CALLS


def run(folder: str, url: str) -> int:
    """The command that is interrupted and run again."""
    values = {**QUICK, "force_direct": True, "max_direct_concurrency": IN_FLIGHT}
    return Many(client_base_url=url, task_dir=folder, **values).main()


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[SandboxProcess]:
    """A server that takes a tenth of a second for each call."""
    with sandbox(tmp_path / "server", "latency_s: 0.1\n") as process:
        yield process


def start(folder: Path, url: str) -> subprocess.Popen[bytes]:
    """The command in a process of its own."""
    code = "import sys; from tests.processes.test_direct_interrupted import run; sys.exit(run(*sys.argv[1:]))"
    return subprocess.Popen([sys.executable, "-c", code, str(folder), url], cwd=Path(__file__).parents[2])


def paid(server: SandboxProcess) -> int:
    """How many calls the server has charged."""
    return int(ask(server, "/sandbox/ledger")["total"]["requests"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_at_most_the_calls_in_flight_are_paid_again(slow: SandboxProcess, tasks: Path, number: signal.Signals) -> None:
    process = start(tasks, slow.url)
    deadline = time.monotonic() + 60
    while paid(slow) < CALLS // 3:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, number)
    code = process.wait(20)
    assert code == (130 if number is signal.SIGINT else -signal.SIGKILL)
    if number is signal.SIGINT:
        assert query(tasks, "SELECT count(*) FROM direct_call") == [(0,)], "answers were waited for"
    assert start(tasks, slow.url).wait(60) == 0
    assert sorted(row["key"] for row in rows_of(tasks)) == [f"word-{index:05}" for index in range(CALLS)]
    assert CALLS <= paid(slow) <= CALLS + (0 if number is signal.SIGINT else IN_FLIGHT)
    spent, reserved, unlinked, linked = books(tasks)
    assert (spent, reserved) == (linked + unlinked, 0)
    assert (unlinked == 0) == (number is signal.SIGINT)
