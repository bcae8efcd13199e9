"""Killed at any edge and restarted: every row once, no batch twice, nothing stuck, nothing left behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gpt_batch_api.sandbox.child import SandboxProcess
from tests.crash import jobs
from tests.crash.harness import KILLED, Job, World, edges_of, look, run
from tests.toy import QUICK_PLAN, ask, batches_of, query, sandbox

STORE = frozenset({"toy_state.db", "toy.lock", "toy_state.db-shm", "toy_state.db-wal"})


@dataclass(frozen=True)
class Trial:
    """A job that is killed at each of its edges, what was there before it, and what is run after the kill."""

    job: Job
    begun: bool = False
    """One batch is done, the other has ended on the server; a kill came before its answers were fetched."""
    after: Job | None = None
    """The same command again, if none is given."""
    shards: int = 2
    wipes: bool = False
    in_flight: int = 0
    """So many direct calls at most may be lost, and paid again."""
    outputs: frozenset[str] = field(default=frozenset({"toy_output.jsonl"}))

    def prepare(self, folder: Path, url: str) -> Path:
        folder.mkdir()
        if self.begun:
            assert run(jobs.one_batch, folder, url) == 3
            assert run(jobs.two_batches, folder, url, kill_at="before GET content") == KILLED
        return folder

    def check(self, folder: Path, server: SandboxProcess) -> None:
        """The world is as if nothing had happened."""
        world = look(folder, server, prefix="toy")
        if self.in_flight:
            check_direct(world, folder, in_flight=self.in_flight)
        else:
            check(world, wiped=self.wipes)
        assert world.folder - STORE == self.outputs


TRIALS = {
    "list": Trial(jobs.two_batches, shards=6),
    "document": Trial(jobs.document, outputs=frozenset({"toy_output.json", "count.txt"})),
    "direct": Trial(jobs.direct, in_flight=3),
    "wipe_requests": Trial(jobs.wipe_requests, begun=True, wipes=True),
    "wipe_requests, then run": Trial(jobs.wipe_requests, begun=True, after=jobs.two_batches, wipes=True),
    "wipe_task": Trial(jobs.wipe_task, begun=True, wipes=True),
    "wipe_task, then run": Trial(jobs.wipe_task, begun=True, after=jobs.two_batches, wipes=True),
}


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[SandboxProcess]:
    """A sandbox that serves this test only, so that whatever is left on it was left by this test."""
    with sandbox(tmp_path / "server") as process:
        yield process


def check(world: World, *, wiped: bool = False) -> None:
    """Every row once, everything paid once, every coin booked, nothing left on the server."""
    assert sorted(row["key"] for row in world.rows) == [f"word-{index:05}" for index in range(8)]
    assert world.states == {"succeeded": 8}
    assert set(world.batches_by_number.values()) == {1}, "a batch was paid twice"
    assert world.spent_pico == world.billed_pico > 0
    assert world.reserved_pico == 0
    assert world.spent_since_scratch_pico == world.linked_pico + world.unlinked_pico
    assert wiped or world.unlinked_pico == 0
    assert world.server_files == []


def check_direct(world: World, folder: Path, *, in_flight: int) -> None:
    """Every row once; at most the calls in flight at the kill are unknown: booked as spent, and asked again."""
    assert sorted(row["key"] for row in world.rows) == [f"word-{index:05}" for index in range(8)]
    assert world.states == {"succeeded": 8}
    assert world.batches_by_number == {}
    assert world.reserved_pico == 0
    assert world.spent_pico == world.linked_pico + world.unlinked_pico
    unknown = query(folder, "SELECT note FROM ledger WHERE kind = 'unknown'")
    assert len(unknown) <= 1
    assert not unknown or int(unknown[0][0].split()[0]) <= in_flight
    assert (world.unlinked_pico > 0) == bool(unknown)


@pytest.mark.crash
@pytest.mark.parametrize(
    ("name", "shard"), [(name, shard) for name, trial in TRIALS.items() for shard in range(trial.shards)]
)
def test_a_job_killed_at_any_edge_recovers_completely(
    alone: SandboxProcess, tmp_path: Path, name: str, shard: int
) -> None:
    """The process is killed at each commit, call and file operation of its run, then run again."""
    trial = TRIALS[name]
    calm = trial.prepare(tmp_path / "calm", alone.url)
    edges = edges_of(trial.job, calm, alone.url, record=tmp_path / "edges")
    trial.check(calm, alone)
    assert len(edges) > 40
    for number in range(shard + 1, len(edges) + 1, trial.shards):
        where = f"edge {number} ({edges[number - 1]})"
        folder = trial.prepare(tmp_path / f"edge{number}", alone.url)
        code = run(trial.job, folder, alone.url, kill_at=number)
        # Direct calls end in an order of their own, so a run of them may have an edge more or less than another.
        assert code == KILLED or (trial.in_flight and code == 0), f"{where} was not reached"
        assert run(trial.after or trial.job, folder, alone.url) == 0, f"no recovery from {where}"
        trial.check(folder, alone)


LAGGING = QUICK_PLAN + "list_lag_s: {files: 1.2, batches: 1.2}\n"


def edges_after_posts(folder: Path, url: str, *, record: Path) -> list[int]:
    """The edges at which the server has acted, and the process does not know it yet."""
    folder.mkdir()
    edges = edges_of(jobs.two_batches_with_lagging_lists, folder, url, record=record)
    found = [number for number, name in enumerate(edges, start=1) if name.startswith("after POST")]
    assert len(found) == 4
    return found


@pytest.mark.crash
@pytest.mark.parametrize("wipes", [False, True], ids=["run", "wipe"])
def test_a_job_killed_after_the_server_acted_is_not_fooled_by_lagging_lists(tmp_path: Path, wipes: bool) -> None:
    """What was uploaded or created just before the kill is not in the lists yet: it is waited for, adopted or swept."""
    job = jobs.two_batches_with_lagging_lists
    with sandbox(tmp_path / "server", LAGGING) as server:
        for number in edges_after_posts(tmp_path / "calm", server.url, record=tmp_path / "edges"):
            folder = tmp_path / f"edge{number}"
            folder.mkdir()
            assert run(job, folder, server.url, kill_at=number) == KILLED
            if wipes:
                assert run(jobs.wipe_with_lagging_lists, folder, server.url) == 0
            else:
                assert run(job, folder, server.url) == 0
            check(look(folder, server, prefix="toy"), wiped=wipes)


@pytest.mark.crash
def test_a_limit_set_after_a_kill_holds_also_for_what_was_about_to_be_sent(
    alone: SandboxProcess, tmp_path: Path
) -> None:
    """Killed between upload and creation, then run with --max_remote_batches 0: nothing is created."""
    folder = tmp_path / "killed"
    folder.mkdir()
    assert run(jobs.two_batches, folder, alone.url, kill_at="before POST batches") == KILLED
    assert run(jobs.nothing_more_may_go, folder, alone.url) == 3
    assert batches_of(alone, folder) == []
    assert run(jobs.two_batches, folder, alone.url) == 0
    check(look(folder, alone, prefix="toy"))
    assert ask(alone, "/v1/files")["data"] == []
