"""A deadline: what the Batch API would not finish in time goes by flex, then by direct calls, within the budget."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpt_batch_api.engine import deadline
from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.wire import direct as wire_direct
from tests.toy import ToyTask, ask, batches_of, books, let_time_pass, query, rows_of, sandbox, settings_for, tell

SLOW = "timing: {validating_s: 0, requests_per_s: 0.001, minimum_s: 0, finalizing_s: 0, cancelling_s: 0}\n"
"""Each request of a batch takes a quarter of an hour."""
NEAR, FLEX, FAR = "10m", "25m", "6h"
"""So near that only direct calls are quick enough; near enough for flex; far."""


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[SandboxProcess]:
    with sandbox(tmp_path / "server", SLOW) as server:
        yield server


def roads(server: SandboxProcess) -> dict[str, int]:
    """How many answers the server has charged for on each road."""
    return {road: entry["requests"] for road, entry in ask(server, "/sandbox/ledger")["roads"].items()}


def begun(server: SandboxProcess, tasks: Path, **values: Any) -> None:
    """Two batches of four on a server that never ends them."""
    assert not ToyTask(settings_for(server, tasks), max_batch_requests=4, once=True, **values).run()
    assert len(batches_of(server, tasks)) == 2


def check_done(tasks: Path) -> None:
    """Every row once, every coin booked."""
    assert sorted(row["key"] for row in rows_of(tasks)) == [f"word-{index:05}" for index in range(8)]
    spent, reserved, unlinked, linked = books(tasks)
    assert spent == linked > 0
    assert reserved == unlinked == 0


def test_batches_that_would_be_late_are_cancelled_and_the_rest_goes_direct(
    slow: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture
) -> None:
    begun(slow, tasks)
    assert ToyTask(settings_for(slow, tasks), max_batch_requests=4, deadline=NEAR).run()
    assert {batch["status"] for batch in batches_of(slow, tasks)} == {"cancelled"}
    assert roads(slow) == {"direct": 8}
    check_done(tasks)
    assert "The deadline is in 10 min, and 8 requests left would take about 2 s by direct calls." in log.text
    assert "Batch 1: cancelled because of the deadline" in log.text


def test_what_a_cancelled_batch_had_done_is_kept(slow: SandboxProcess, tasks: Path) -> None:
    begun(slow, tasks)
    let_time_pass(slow, 2500)
    assert ToyTask(settings_for(slow, tasks), max_batch_requests=4, deadline=NEAR).run()
    paid = roads(slow)
    assert paid["batch"] >= 2
    assert paid["batch"] + paid["direct"] == 8
    check_done(tasks)


def test_flex_comes_first_at_the_price_of_batches(slow: SandboxProcess, tasks: Path) -> None:
    begun(slow, tasks)
    assert ToyTask(settings_for(slow, tasks), max_batch_requests=4, deadline=FLEX).run()
    assert roads(slow) == {"flex": 8}
    assert books(tasks).spent == ask(slow, "/sandbox/ledger")["total"]["cost_pico"]
    check_done(tasks)


def test_what_is_in_flight_by_flex_when_a_run_stops_has_the_time_of_flex(
    tmp_path: Path, tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off earlier, its answers would be paid again."""
    monkeypatch.setattr(wire_direct, "DIRECT_S", 0.1)
    bad = "latency_s: 1.5\nfaults: [{on: direct, fault: status, status: 400, message: Bad word, match: word-00000}]"
    with sandbox(tmp_path / "server", SLOW + bad) as server:
        assert ToyTask(settings_for(server, tasks), deadline=FLEX).main() == 1
        assert roads(server) == {"flex": 7}
    assert len(rows_of(tasks)) == 7
    assert books(tasks).unlinked == 0


def test_a_batch_that_the_server_did_not_know_yet_is_recalled_again(
    slow: SandboxProcess, tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would run on, and the deadline would be missed."""
    monkeypatch.setattr(deadline, "LEAST_RECALL_S", 0.1)
    begun(slow, tasks)
    unknown = {"on": "batches.cancel", "fault": "status", "status": 404, "message": "No batch found", "times": 2}
    tell(slow, "/sandbox/plan", {**yaml.safe_load(SLOW), "faults": [unknown]})
    assert ToyTask(settings_for(slow, tasks), max_batch_requests=4, deadline=NEAR).run()
    assert {batch["status"] for batch in batches_of(slow, tasks)} == {"cancelled"}
    assert query(tasks, "SELECT count(*) FROM event WHERE kind = 'BatchRecalled'") == [(2,)]
    check_done(tasks)


def test_where_flex_has_no_room_direct_calls_take_its_place(tmp_path: Path, tasks: Path) -> None:
    with sandbox(tmp_path / "server", SLOW + "flex_unavailable_rate: 0.5") as server:
        begun(server, tasks)
        assert ToyTask(settings_for(server, tasks), deadline=FLEX, max_direct_concurrency=1).run()
        paid = roads(server)
        assert paid["direct"] >= 1
        assert sum(paid.values()) == 8
        assert books(tasks).spent == ask(server, "/sandbox/ledger")["total"]["cost_pico"]
    check_done(tasks)
    assert query(tasks, "SELECT max(attempt) FROM request") == [(1,)]


def test_a_model_without_flex_is_asked_without_it(tmp_path: Path, tasks: Path) -> None:
    refusal = "faults: [{on: direct, fault: status, status: 400, message: 'Invalid service_tier.', nth: [1, 2, 3]}]"
    with sandbox(tmp_path / "server", SLOW + refusal) as server:
        assert ToyTask(settings_for(server, tasks), deadline=FLEX, max_direct_concurrency=3).run()
        assert roads(server) == {"direct": 8}
    check_done(tasks)
    assert query(tasks, "SELECT max(tries) FROM request") == [(1,)]


def test_a_tier_that_the_task_names_itself_is_left_to_it(slow: SandboxProcess, tasks: Path) -> None:
    class Particular(ToyTask):
        def payload(self, key: str) -> dict[str, Any]:
            return {**super().payload(key), "service_tier": "default"}

    assert Particular(settings_for(slow, tasks), deadline=FLEX).run()
    assert roads(slow) == {"direct": 8}
    check_done(tasks)


def test_batches_stay_where_direct_calls_are_not_in_the_budget(slow: SandboxProcess, tasks: Path) -> None:
    """What is reserved for them is all that may be spent."""
    begun(slow, tasks)
    reserved = books(tasks).reserved / 1e12
    run = ToyTask(settings_for(slow, tasks), max_batch_requests=4, deadline=NEAR, max_task_cost=reserved, once=True)
    assert not run.run()
    assert {batch["status"] for batch in batches_of(slow, tasks)} == {"in_progress"}
    assert roads(slow) == {}


def test_the_budget_may_be_enough_for_one_batch_only(slow: SandboxProcess, tasks: Path) -> None:
    begun(slow, tasks)
    reserved = books(tasks).reserved / 1e12
    most = reserved * 1.6
    run = ToyTask(settings_for(slow, tasks), max_batch_requests=4, deadline=NEAR, max_task_cost=most, once=True)
    assert not run.run()
    statuses = sorted(batch["status"] for batch in batches_of(slow, tasks))
    assert statuses == ["cancelled", "in_progress"]


def test_local_batches_are_dissolved(slow: SandboxProcess, tasks: Path) -> None:
    ToyTask(settings_for(slow, tasks), max_batch_requests=4, max_session_requests=0).run()
    assert query(tasks, "SELECT count(*) FROM batch WHERE state = 'sealed'") == [(2,)]
    assert ToyTask(settings_for(slow, tasks), max_batch_requests=4, deadline=NEAR).run()
    assert batches_of(slow, tasks) == []
    check_done(tasks)


def test_requests_that_no_direct_call_can_carry_stay_with_the_batch_api(server: SandboxProcess, tasks: Path) -> None:
    assert ToyTask(settings_for(server, tasks), max_batch_requests=4, deadline=NEAR, max_direct_ktokens=0.01).run()
    assert len(batches_of(server, tasks)) == 2
    check_done(tasks)


def test_a_deadline_that_is_far_changes_nothing(server: SandboxProcess, tasks: Path) -> None:
    assert ToyTask(settings_for(server, tasks), max_batch_requests=4, deadline=FAR).run()
    assert len(batches_of(server, tasks)) == 2
    check_done(tasks)


def test_a_run_that_only_processes_cancels_nothing(slow: SandboxProcess, tasks: Path) -> None:
    begun(slow, tasks)
    assert not ToyTask(settings_for(slow, tasks), deadline=NEAR, only_process=True, once=True).run()
    assert {batch["status"] for batch in batches_of(slow, tasks)} == {"in_progress"}


def test_a_dry_run_says_what_would_be_cancelled_and_changes_nothing(
    slow: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture
) -> None:
    begun(slow, tasks)
    ToyTask(settings_for(slow, tasks), deadline=NEAR, dryrun=True).run()
    assert "Batch 2 would be cancelled because of the deadline" in log.text
    assert {batch["status"] for batch in batches_of(slow, tasks)} == {"in_progress"}
    assert query(tasks, "SELECT state, count(*) FROM batch GROUP BY 1") == [("remote", 2)]


def test_a_deadline_that_has_passed_is_told_and_the_rest_goes_direct(
    slow: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture
) -> None:
    assert ToyTask(settings_for(slow, tasks), deadline="2026-01-01T06:00").run()
    assert roads(slow) == {"direct": 8}
    assert "The deadline has passed" in log.text
    check_done(tasks)
