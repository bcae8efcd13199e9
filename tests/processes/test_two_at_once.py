"""Two processes and one task: writers take turns, readers disturb nobody and are not fooled, a copy goes on elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gpt_batch_api.domain.health import Health
from gpt_batch_api.domain.states import FINAL_REQUEST_STATES, RequestState
from gpt_batch_api.domain.workplace import Workplace
from gpt_batch_api.engine.doctor import examine
from gpt_batch_api.monitor.health import health_lines
from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.store.snapshot import take_from
from tests.crash import harness
from tests.crash.harness import KILLED
from tests.toy import QUICK, ToyTask, batches_of, books, files_of, query, rows_of

ROOT = Path(__file__).parents[2]
REQUESTS = 3000


class Heavy(ToyTask):
    """3,000 requests in 15 batches."""

    name = "toy"
    count = REQUESTS


def heavy(folder: Path | str, url: str, wait_s: str = "0") -> int:
    """The job."""
    values = {**QUICK, "max_batch_requests": 200, "lock_timeout": float(wait_s), "lock_poll_interval": 0.05}
    return Heavy(client_base_url=url, task_dir=folder, **values).main()


def start(folder: Path, url: str, *, wait_s: float = 0.0) -> subprocess.Popen[str]:
    """The job in a process of its own."""
    code = "import sys; from tests.processes.test_two_at_once import heavy; sys.exit(heavy(*sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder), url, str(wait_s)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


@contextmanager
def running(folder: Path, url: str) -> Iterator[subprocess.Popen[str]]:
    """The job under way; it has ended when this is left."""
    process = start(folder, url)
    try:
        yield process
        process.wait(120)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def is_complete(folder: Path, server: SandboxProcess, *, count: int = REQUESTS) -> None:
    """Every row once, every batch once, every coin booked, nothing left on the server, nothing wrong."""
    assert len({row["key"] for row in rows_of(folder)}) == len(rows_of(folder)) == count
    numbers = [batch["metadata"]["gpt_batch_api_batch"] for batch in batches_of(server, folder)]
    assert len(numbers) == len(set(numbers)), "a batch was paid twice"
    spent, reserved, unlinked, linked = books(folder)
    assert (spent, reserved, unlinked) == (linked, 0, 0)
    assert files_of(server, folder) == []
    diagnosis = examine(Workplace(folder, "toy"))
    assert all(check.health is Health.OK for check in diagnosis.checks), health_lines(diagnosis)


def test_two_that_start_together_take_turns(alone: SandboxProcess, tasks: Path) -> None:
    """One works, the other waits and then finds all done."""
    first, second = (start(tasks, alone.url, wait_s=120) for _ in range(2))
    errors = [process.communicate(timeout=120)[1] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], errors
    is_complete(tasks, alone)
    sessions = query(tasks, "SELECT started_at, ended_at, outcome FROM session ORDER BY id")
    assert [outcome for *_, outcome in sessions] == ["ended", "ended"]
    assert sessions[0][1] <= sessions[1][0], "both worked at the same time"


def test_the_second_is_refused_with_the_name_of_the_first_and_disturbs_nothing(
    alone: SandboxProcess, tasks: Path
) -> None:
    with running(tasks, alone.url) as first:
        wait_for_rows(tasks, first, least=1)
        second = start(tasks, alone.url)
        _, error = second.communicate(timeout=60)
        assert second.returncode == 1
        assert f"process {first.pid} on {os.uname().nodename}" in error
    assert first.returncode == 0
    is_complete(tasks, alone)


def wait_for_rows(folder: Path, process: subprocess.Popen[str], *, least: int) -> None:
    """Wait until so many answers are booked."""
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, "the process ended too early"
        assert time.monotonic() < deadline
        taken = take_from(folder / "toy_state.db") if (folder / "toy_state.db").exists() else None
        if taken is not None and taken.rows >= least:
            return
        time.sleep(0.01)


SUMS = """
SELECT (SELECT count(*) FROM request), (SELECT coalesce(sum(requests), 0) FROM tally),
    (SELECT count(*) FROM response), (SELECT coalesce(sum(tries), 0) FROM request),
    (SELECT coalesce(sum(spent_pico), 0) FROM ledger), (SELECT coalesce(sum(cost_pico), 0) FROM response),
    (SELECT coalesce(sum(rows), 0) FROM delivery), (SELECT count(*) FROM output)
"""


def test_readers_see_a_consistent_state_at_every_moment_and_block_nobody(alone: SandboxProcess, tasks: Path) -> None:
    """`status` and raw snapshots, as fast as they can, while 3,000 requests go through."""
    looks = moved = 0
    before: tuple[int, ...] = ()
    store = tasks / "toy_state.db"
    with running(tasks, alone.url) as writer:
        wait_for_rows(tasks, writer, least=0)
        while writer.poll() is None:
            taken = take_from(store)
            assert taken is not None
            final = sum(taken.count(state) for state in (*FINAL_REQUEST_STATES, RequestState.HELD))
            assert taken.asked == final + taken.under_way
            with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as db:
                requests, tallied, answers, tries, spent, cost, delivered, rows = db.execute(SUMS).fetchone()
            assert (requests, answers, spent) == (tallied, tries, cost), "half a transaction was seen"
            assert delivered <= rows <= answers <= requests
            now = (requests, answers, spent, delivered, rows)
            assert all(new >= old for new, old in zip(now, before or now, strict=True)), "time went back"
            looks, moved, before = looks + 1, moved + (now != before), now
    assert writer.returncode == 0
    assert looks > 50
    assert moved > 10
    is_complete(tasks, alone)


def test_a_reader_that_holds_its_snapshot_the_whole_time_sees_one_moment_and_the_writer_goes_on(
    alone: SandboxProcess, tasks: Path
) -> None:
    """A transaction that stays open keeps SQLite from taking its journal in; nobody waits for it all the same."""
    with running(tasks, alone.url) as writer:
        wait_for_rows(tasks, writer, least=1)
        with closing(sqlite3.connect(f"{(tasks / 'toy_state.db').as_uri()}?mode=ro", uri=True)) as reader:
            reader.execute("BEGIN")
            seen = reader.execute(SUMS).fetchone()
            assert seen[-1] < REQUESTS
            assert writer.wait(120) == 0
            assert reader.execute(SUMS).fetchone() == seen
    is_complete(tasks, alone)


GROWING = ("requests/total", "requests/succeeded", "answers/total", "output/rows", "money/spent_pico")


@pytest.mark.parametrize("words", ["status", "doctor", "watch --once"])
def test_commands_work_during_heavy_writing(alone: SandboxProcess, tasks: Path, words: str) -> None:
    """In real processes, again and again. The doctor leaves no trace, not even when it is the last to go."""
    where = ["--task_dir", str(tasks), "--task_prefix", "toy", "--json"]
    line = [sys.executable, "-m", "gpt_batch_api", *words.split(), *where]
    with running(tasks, alone.url) as writer:
        wait_for_rows(tasks, writer, least=0)
        rounds = 0
        before = dict.fromkeys(GROWING, 0)
        while writer.poll() is None:
            shown = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
            assert shown.returncode == 0, shown.stdout + shown.stderr
            if words == "status":
                requests = json.loads(shown.stdout)["requests"]
                parts = ("succeeded", "failed", "held", "under_way")
                assert requests["asked"] == sum(requests[part] for part in parts)
            elif words == "watch --once":
                now = json.loads(shown.stdout)["figures"]
                parts = ("succeeded", "failed", "held", "under_way")
                assert now["requests/total"] == sum(now[f"requests/{part}"] for part in parts)
                assert now["answers/total"] == now["requests/succeeded"] + now["requests/answered"]
                assert all(now[name] >= before[name] for name in GROWING), "time went back"
                before = {name: now[name] for name in GROWING}
            rounds += 1
    assert writer.returncode == 0
    assert rounds >= 2
    if words == "doctor":
        assert {path.name for path in tasks.iterdir()} == {"toy.lock", "toy_output.jsonl", "toy_state.db"}
    is_complete(tasks, alone)


def small(folder: Path, url: str) -> int:
    """40 requests in 10 batches."""

    class Small(ToyTask):
        name = "toy"
        count = 40

    return Small(client_base_url=url, task_dir=folder, **{**QUICK, "max_batch_requests": 4}).main()


def test_a_lock_whose_holder_was_killed_is_free(alone: SandboxProcess, tasks: Path) -> None:
    """Its file still names the dead process; the next run does not wait for it."""
    assert harness.run(small, tasks, alone.url, kill_at="before GET content") == KILLED
    named = json.loads((tasks / "toy.lock").read_text())
    assert named["pid"] != os.getpid()
    # Even if another process has that number by now.
    (tasks / "toy.lock").write_text(json.dumps({**named, "pid": os.getpid()}))
    (lock,) = [check for check in examine(Workplace(tasks, "toy")).checks if check.name == "lock"]
    assert lock.found[0].startswith("free; the last run (process")
    assert harness.run(small, tasks, alone.url) == 0
    assert (tasks / "toy.lock").read_text() == ""


@pytest.mark.crash
@pytest.mark.parametrize(
    "edge",
    [
        "before POST files",
        "after POST files",
        "after POST batches",
        "before GET content",
        "after GET content",
        "replace",
    ],
)
def test_a_folder_that_is_copied_in_the_middle_goes_on_elsewhere(
    alone: SandboxProcess, tasks: Path, tmp_path: Path, edge: str
) -> None:
    """The lock file comes along and names a process of the other machine; paths are others. Nothing depends on them."""
    assert harness.run(small, tasks, alone.url, kill_at=edge) == KILLED
    elsewhere = tmp_path / "another machine" / "jobs"
    elsewhere.parent.mkdir()
    shutil.copytree(tasks, elsewhere)
    (elsewhere / "toy.lock").write_text('{"pid": 1, "host": "the-old-one", "since": 0}')
    with sqlite3.connect(elsewhere / "toy_state.db") as db:
        db.execute("UPDATE session SET host = 'the-old-one', pid = 1")
    db.close()
    shutil.rmtree(tasks)
    assert harness.run(small, elsewhere, alone.url) == 0
    is_complete(elsewhere, alone, count=40)
