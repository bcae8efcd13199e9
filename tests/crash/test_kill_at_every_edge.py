"""Killed at any edge and restarted: every row once, no batch twice, nothing stuck, nothing left behind."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpt_batch_api.sandbox.child import SandboxProcess
from tests.crash import jobs
from tests.crash.command import RESTART_EDGES
from tests.crash.harness import KILLED, edges_of, run
from tests.crash.kills import Bench, Kills
from tests.crash.trials import LATE, TRIALS
from tests.crash.world import Direct, look
from tests.toy import ask, batches_of, sandbox

EVERYWHERE = {
    "list": 4,
    "document": 2,
    "direct": 2,
    "reprocess": 1,
    "wipe_requests": 2,
    "wipe_requests_then_run": 2,
    "wipe_task": 2,
    "wipe_task_then_run": 2,
}
"""Jobs that are killed at every edge here, in so many tests. Of the others, and of double kills, a sample is tried;
`python -m tests.crash --all` tries all."""
SAMPLE = 6


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A place for trials."""
    place = Bench(tmp_path / "bench")
    yield place
    place.close()


def edges_undisturbed(bench: Bench, name: str) -> int:
    """How many edges a job has."""
    outcome = bench.undisturbed(name)
    assert outcome.failures == []
    assert len(outcome.edges) > 15
    return len(outcome.edges)


@pytest.mark.parametrize(
    ("name", "calls"),
    [("list", {"files": 2, "batches": 2}), ("direct", {"completions": 8}), ("mixed", {"batches": 1, "completions": 2})],
)
def test_every_call_is_an_edge(bench: Bench, name: str, calls: dict[str, int]) -> None:
    """By whatever library it goes: before it is sent, and when its reply is there."""
    edges = bench.undisturbed(name).edges
    for what, number in calls.items():
        assert [edges.count(f"{when} POST {what}") for when in ("before", "after")] == [number, number]


@pytest.mark.crash
@pytest.mark.parametrize(("name", "shard"), [(name, shard) for name, n in EVERYWHERE.items() for shard in range(n)])
def test_a_job_killed_at_any_edge_recovers_completely(bench: Bench, name: str, shard: int) -> None:
    """The process is killed at each commit, call and file operation of its run, then run again."""
    edges = edges_undisturbed(bench, name)
    for number in range(shard + 1, edges + 1, EVERYWHERE[name]):
        outcome = bench.kill(Kills(name, number))
        assert outcome.failures == []
        # Direct calls end in an order of their own, so a run of them may have an edge more or less than another.
        assert outcome.singles == 1 or TRIALS[name].in_flight, f"edge {number} was not reached"


@pytest.mark.crash
@pytest.mark.parametrize("name", TRIALS)
def test_a_recovery_killed_too_recovers_completely(bench: Bench, name: str) -> None:
    """The process is killed at some edge of its run, the next one at some edge of the recovery, then it is run again."""
    edges = edges_undisturbed(bench, name)
    chance = random.Random(f"double {name}")
    doubles = 0
    for number in chance.sample(range(1, edges + 1), SAMPLE):
        outcome = bench.kill(Kills(name, number, chance.randint(1, edges - number + RESTART_EDGES)))
        assert outcome.failures == []
        doubles += outcome.doubles
    assert doubles > 0


@pytest.mark.crash
@pytest.mark.parametrize("name", sorted(TRIALS.keys() - EVERYWHERE))
def test_a_job_killed_at_some_edges_recovers_completely(bench: Bench, name: str) -> None:
    """The same for more kinds of jobs, at some of their edges."""
    edges = edges_undisturbed(bench, name)
    for number in random.Random(f"single {name}").sample(range(1, edges + 1), SAMPLE):
        assert bench.kill(Kills(name, number)).failures == []


LAGGING = json.dumps(LATE)


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
            name = "wipe_requests" if wipes else "list"
            TRIALS[name].check(look(folder, server), charged=Direct(0, 0), kills=1)


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
    TRIALS["list"].check(look(folder, alone), charged=Direct(0, 0), kills=1)
    assert ask(alone, "/v1/files")["data"] == []
