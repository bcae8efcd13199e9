"""The direct road: calls in flight, booked as they come."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from gpt_batch_api.domain.errors import AccountError
from gpt_batch_api.endpoints.base import raw_body
from gpt_batch_api.engine.direct import as_line
from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.task_manager import Result, Sample
from gpt_batch_api.wire import direct as wire_direct
from gpt_batch_api.wire.direct import Reply
from tests.toy import ToyTask, ask, batches_of, books, query, rows_of, sandbox, settings_for


def test_everything_goes_by_direct_calls_if_wanted(server: SandboxProcess, tasks: Path) -> None:
    assert ToyTask(settings_for(server, tasks), force_direct=True).run()
    assert sorted(row["key"] for row in rows_of(tasks)) == [f"word-{index:05}" for index in range(8)]
    assert batches_of(server, tasks) == []
    spent, reserved, unlinked, linked = books(tasks)
    assert spent == linked > 0
    assert reserved == unlinked == 0


def test_a_small_remainder_goes_by_direct_calls(server: SandboxProcess, tasks: Path) -> None:
    """6 make a full batch, 2 are left: fewer than min_batch_requests."""
    assert ToyTask(settings_for(server, tasks), max_batch_requests=6, min_batch_requests=3).run()
    assert [batch["request_counts"]["total"] for batch in batches_of(server, tasks)] == [6]
    assert query(tasks, "SELECT requests, n_succeeded FROM direct_group") == [(2, 2)]
    assert len(rows_of(tasks)) == 8


def test_limits_of_the_session_hold_for_direct_calls(
    server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture
) -> None:
    for sent in (3, 6, 8):
        done = ToyTask(settings_for(server, tasks), force_direct=True, max_session_requests=3).run()
        assert query(tasks, "SELECT count(*) FROM response") == [(sent,)]
        assert done == (sent == 8)
    assert "max_session_requests: 3 of 3 used, 1 more needed" in log.text


def test_a_rate_limit_costs_no_attempt(weather: Any, tasks: Path) -> None:
    with weather(
        "faults: [{on: direct, fault: status, status: 429, code: rate_limit_exceeded, nth: [2, 3, 5]}]"
    ) as server:
        assert ToyTask(settings_for(server, tasks), force_direct=True).run()
        assert len(rows_of(tasks)) == 8
    assert query(tasks, "SELECT max(attempt), max(tries) FROM request") == [(1, 1)]
    spent, reserved, unlinked, linked = books(tasks)
    assert (spent, reserved, unlinked) == (linked, 0, 0)


@pytest.mark.parametrize("status", [404, 410])
def test_the_page_of_a_gateway_is_no_verdict_on_a_request(
    server: SandboxProcess, tasks: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture, status: int
) -> None:
    """The way to the server is wrong for a while: nothing ran, nothing is held, and the call is made again."""
    pages = [Reply(status, {}, b"<html>no such page</html>", None, None)] * 3
    ask_really = wire_direct.ask

    async def ask_through_a_gateway(*args: Any, **values: Any) -> Reply:
        return pages.pop() if pages else await ask_really(*args, **values)

    monkeypatch.setattr(wire_direct, "ask", ask_through_a_gateway)
    assert ToyTask(settings_for(server, tasks), force_direct=True).run()
    assert len(rows_of(tasks)) == 8
    assert query(tasks, "SELECT max(attempt), max(tries) FROM request") == [(1, 1)]
    assert books(tasks).unlinked == 0
    assert f"The server cannot be reached: HTTP {status}" in log.text


def test_a_lost_reply_counts_as_spent_and_is_asked_again(weather: Any, tasks: Path) -> None:
    """Nobody knows whether it ran, so the books say that it did."""
    with weather("faults: [{on: direct, fault: lose_after, nth: [2]}]") as server:
        assert ToyTask(settings_for(server, tasks), force_direct=True).run()
        assert len(rows_of(tasks)) == 8
        assert len(ask(server, "/sandbox/state")["calls"]) > 0
    spent, reserved, unlinked, linked = books(tasks)
    assert spent == linked + unlinked
    assert unlinked > 0
    assert reserved == 0
    assert any("with no answer to show for it" in line for line in ToyTask(settings_for(server, tasks)).status())
    assert query(tasks, "SELECT reason, count(*) FROM response WHERE verdict = 'retryable' GROUP BY 1") == [
        ("lost_reply", 1)
    ]


def test_a_request_that_cannot_succeed_is_held_and_the_user_decides(weather: Any, tasks: Path) -> None:
    plan = "faults: [{on: direct, fault: status, status: 400, message: Bad word, match: word-00003}]"
    with weather(plan) as server:
        assert ToyTask(settings_for(server, tasks), force_direct=True).main() == 1
        assert query(tasks, "SELECT state, count(*) FROM request WHERE state = 'held' GROUP BY 1") == [("held", 1)]
        assert ToyTask(settings_for(server, tasks), force_direct=True, process_failed_batches=1).run()
    assert len(rows_of(tasks)) == 7
    assert query(tasks, "SELECT state, reason FROM request WHERE state = 'failed'") == [("failed", "invalid_request")]


def test_a_billing_stop_keeps_everything(weather: Any, tasks: Path) -> None:
    plan = "faults: [{on: direct, fault: status, status: 429, code: insufficient_quota, message: No money, nth: [3]}]"
    with weather(plan) as server:
        with pytest.raises(AccountError, match="No money"):
            ToyTask(settings_for(server, tasks), force_direct=True).run()
        assert query(tasks, "SELECT sum(reserved_pico) FROM ledger") == [(0,)]
        assert ToyTask(settings_for(server, tasks), force_direct=True).run()
        assert len(rows_of(tasks)) == 8
    assert query(tasks, "SELECT max(attempt) FROM request") == [(1,)]


def test_local_batches_are_dissolved_for_direct_calls(server: SandboxProcess, tasks: Path) -> None:
    ToyTask(settings_for(server, tasks), max_session_requests=0, max_batch_requests=4).run()
    assert query(tasks, "SELECT count(*) FROM batch WHERE state = 'sealed'") == [(2,)]
    assert ToyTask(settings_for(server, tasks), force_direct=True).run()
    assert batches_of(server, tasks) == []


def test_a_dry_run_shows_the_requests(server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture) -> None:
    calls = ask(server, "/sandbox/state")["calls"]
    settings = settings_for(server, tasks, force_direct=True, direct_verbose="always", max_session_requests=3)
    assert not ToyTask(settings, dryrun=True).run()
    assert ask(server, "/sandbox/state")["calls"] == calls
    assert "3 requests would be sent by direct calls now" in log.text
    assert log.text.count('Tell me about "word-0000') == 3


@pytest.mark.parametrize(("wanted", "shown"), [("always", 8), ("warn", 2), ("error", 1), ("never", 0)])
def test_exchanges_are_shown_as_wanted(
    server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture, wanted: str, shown: int
) -> None:
    class Picky(ToyTask):
        def process_result(self, result: Result, sample: Sample) -> None:
            if sample.key == "word-00001" and result.attempt == 1:
                result.retry("once more")
            elif sample.key == "word-00002":
                result.fail("never")
            else:
                super().process_result(result, sample)

    settings = settings_for(server, tasks, force_direct=True, direct_verbose=wanted)
    assert Picky(settings).run()
    exchanges = log.text.count("Tell me about")
    assert exchanges == shown + (wanted == "always")


def test_the_ceiling_of_calls_in_flight_holds(server: SandboxProcess, tasks: Path) -> None:
    class Many(ToyTask):
        count = 40

    assert Many(settings_for(server, tasks), force_direct=True, max_direct_concurrency=3).run()
    assert len(rows_of(tasks)) == 40
    assert query(tasks, "SELECT max(-requests) FROM ledger WHERE kind = 'release'") in ([(None,)], [(0,)])
    assert query(tasks, "SELECT max(requests) FROM ledger WHERE kind = 'reserve'")[0][0] <= 3


def test_calls_go_on_when_the_server_is_back(tmp_path: Path, tasks: Path, log: pytest.LogCaptureFixture) -> None:
    """Twenty calls that could not be sent are one piece of trouble: it is told once, and waited for once."""

    class Many(ToyTask):
        count = 20

    with sandbox(tmp_path / "server") as server:
        port = int(server.url.rsplit(":", 1)[1].split("/")[0])
    command = [sys.executable, "-m", "gpt_batch_api", "sandbox", "--port", str(port), "--db", str(tmp_path / "late.db")]
    started: list[subprocess.Popen[bytes]] = []
    later = threading.Timer(1.0, lambda: started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL)))
    later.start()
    try:
        assert Many(settings_for(server, tasks), force_direct=True).run()
    finally:
        later.join()
        started[0].terminate()
        started[0].wait()
    assert log.text.count("The server cannot be reached") <= 2
    assert len(rows_of(tasks)) == 20
    assert query(tasks, "SELECT max(attempt), max(tries) FROM request") == [(1, 1)]
    assert books(tasks)[1:3] == (0, 0)


def test_a_session_never_spends_more_than_its_limit_by_much_cheaper_guesses(
    server: SandboxProcess, tasks: Path
) -> None:
    """Calls cost more than was reserved: what is booked counts before the next ones leave."""

    class Many(ToyTask):
        count = 60

    limit = 0.0010
    settings = settings_for(server, tasks, force_direct=True, assumed_completion_ratio=0.01, max_direct_concurrency=2)
    assert not Many(settings, max_session_cost=limit).run()
    (dearest,) = query(tasks, "SELECT max(cost_pico) FROM response")[0]
    assert books(tasks)[0] <= limit * 1e12 + 2 * dearest, "more than the calls in flight can add"


def test_a_task_of_a_sandbox_stays_there_also_without_batches(
    server: SandboxProcess, tasks: Path, tmp_path: Path
) -> None:
    assert not ToyTask(settings_for(server, tasks), force_direct=True, max_session_requests=3).run()
    assert json.loads(query(tasks, "SELECT server FROM task")[0][0])["sandbox"]


def test_a_wipe_settles_a_failed_group(weather: Any, tasks: Path) -> None:
    plan = "faults: [{on: direct, fault: status, status: 400, message: Bad word, match: word-00003, times: 1}]"
    with weather(plan) as server:
        assert ToyTask(settings_for(server, tasks), force_direct=True).main() == 1
        assert ToyTask(settings_for(server, tasks), force_direct=True, wipe_requests=True).run()
    assert len(rows_of(tasks)) == 8


def test_good_rows_are_delivered_though_the_run_stops(weather: Any, tasks: Path) -> None:
    plan = "latency_s: 0.2\nfaults: [{on: direct, fault: status, status: 400, match: word-00003}]"
    with weather(plan) as server:
        assert ToyTask(settings_for(server, tasks), force_direct=True).main() == 1
    assert len(rows_of(tasks)) == 7


def test_a_key_that_the_server_repeats_is_shown_nowhere(
    weather: Any, tasks: Path, log: pytest.LogCaptureFixture
) -> None:
    key = "sk-secret-0123456789"
    plan = f"faults: [{{on: direct, fault: status, status: 400, message: 'Key {key} may not do this'}}]"
    with weather(plan) as server:
        assert ToyTask(settings_for(server, tasks, openai_api_key=key), force_direct=True).main() == 1
    assert "may not do this" in log.text
    assert key not in log.text
    assert all(key.encode() not in path.read_bytes() for path in tasks.iterdir())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_reply_in_any_encoding_of_json_is_kept_as_a_line(encoding: str) -> None:
    body = {"choices": [{"message": {"content": "naïve 😀"}}]}
    content = json.dumps(body, ensure_ascii=False).encode(encoding)
    assert raw_body(as_line(Reply(200, {}, content, body, None))) == body
