"""The engine without a task, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpt_batch_api import GPTRequest, GPTRequester, UserError
from gpt_batch_api.domain.errors import PayloadError, SafetyStop, SettingError
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.sandbox.child import SandboxProcess
from tests.toy import MODEL, QUICK_PLAN, Word, batches_of, files_of, query, sandbox, settings_for


def requests(count: int, *, text: str = "Tell me about") -> Iterator[GPTRequest]:
    for index in range(count):
        key = f"word-{index:05}"
        payload = {
            "model": MODEL,
            "max_completion_tokens": 100,
            "messages": [{"role": "user", "content": f'{text} "{key}".'}],
            "response_format": Word,
        }
        yield GPTRequest(key, payload, meta={"index": index})


def requester(server: SandboxProcess, folder: Path, **values: Any) -> GPTRequester:
    return GPTRequester("job", settings_for(server, folder, **values))


def test_a_job_goes_step_by_step(server: SandboxProcess, tasks: Path) -> None:
    """add, commit, batch, push, wait, process."""
    with requester(server, tasks, max_batch_requests=4) as job:
        job.add(requests(6))
        assert job.commit() == 6
        assert job.batch() == 2
        assert query(tasks, "SELECT count(*) FROM batch WHERE state = 'sealed'", "job") == [(2,)]
        assert job.push() == 2
        assert job.wait(everything=True) == 6
        with job.process() as results:
            assert [result.value.word for result in results] == [f"word-{index:05}" for index in range(6)]
            assert [result.meta for result in results] == [{"index": index} for index in range(6)]
        assert job.status().count(RequestState.SUCCEEDED) == 6
        with job.process() as results:
            assert results == []
    assert files_of(server, tasks, "job") == []


def test_what_is_committed_survives_and_is_not_asked_twice(server: SandboxProcess, tasks: Path) -> None:
    with requester(server, tasks) as job:
        job.add(requests(3))
        job.commit()
    with requester(server, tasks) as job:
        job.add(requests(5))
        assert job.commit() == 2
        job.batch()
        job.push()
        assert job.wait(everything=True) == 5
    assert sum(batch["request_counts"]["total"] for batch in batches_of(server, tasks, "job")) == 5


def test_results_left_with_an_exception_are_given_out_again(server: SandboxProcess, tasks: Path) -> None:
    with requester(server, tasks) as job:
        job.add(requests(2))
        job.batch()
        job.push()
        job.wait()
        with pytest.raises(ZeroDivisionError), job.process() as results:  # noqa: PT012 - the block is what is tested
            assert len(results) == 2
            raise ZeroDivisionError
    with requester(server, tasks) as job, job.process() as results:
        assert len(results) == 2
    assert query(tasks, "SELECT DISTINCT state FROM request", "job") == [("succeeded",)]


def test_results_can_be_given_out_in_portions(server: SandboxProcess, tasks: Path) -> None:
    with requester(server, tasks) as job:
        job.add(requests(5))
        job.batch()
        job.push()
        job.wait()
        sizes = []
        for _ in range(3):
            with job.process(limit=2) as results:
                sizes.append(len(results))
    assert sizes == [2, 2, 1]


def test_a_result_can_be_sent_back_or_given_up(server: SandboxProcess, tasks: Path) -> None:
    with requester(server, tasks) as job:
        job.add(requests(3))
        job.batch()
        job.push()
        job.wait()
        with job.process() as results:
            results[0].retry("once more")
            results[1].fail("no use")
        assert job.status().count(RequestState.QUEUED) == 1
        assert job.status().count(RequestState.FAILED) == 1
        assert job.wait(everything=True) == 1
        with job.process() as results:
            assert [result.attempt for result in results] == [2]
    assert query(tasks, "SELECT state, count(*) FROM request GROUP BY 1 ORDER BY 1", "job") == [
        ("failed", 1),
        ("succeeded", 2),
    ]


def test_answers_that_do_not_fit_are_asked_again_unseen(tmp_path: Path, tasks: Path) -> None:
    plan = "lines: [{fault: broken_json, nth: [1]}]\ntiming: {validating_s: 0, minimum_s: 0, finalizing_s: 0}\n"
    with sandbox(tmp_path / "server", plan) as rough, requester(rough, tasks) as job:
        job.add(requests(2))
        job.batch()
        job.push()
        seen = []
        while job.wait():
            with job.process() as results:
                seen += [result.sample_key for result in results]
    assert sorted(seen) == ["word-00000", "word-00001"]


def test_local_batches_stay_within_max_unpushed_batches(server: SandboxProcess, tasks: Path) -> None:
    with requester(server, tasks, max_batch_requests=1, max_unpushed_batches=2) as job:
        job.add(requests(5))
        assert job.batch() == 2
        assert job.push() == 2
        assert job.batch() == 2


def test_pushing_stops_at_the_limits(server: SandboxProcess, tasks: Path) -> None:
    with requester(server, tasks, max_batch_requests=2, max_session_requests=4) as job:
        job.add(requests(8))
        job.batch()
        assert job.push() == 2
        assert job.push() == 0


def test_waiting_stops_at_a_failed_batch_with_its_reason(tmp_path: Path, tasks: Path) -> None:
    plan = (
        "lines: [{fault: status, status: 400, message: no way, match: word-00001}]\n"
        "timing: {validating_s: 0, minimum_s: 0, finalizing_s: 0}\n"
    )
    with sandbox(tmp_path / "server", plan) as rough, requester(rough, tasks) as job:
        job.add(requests(2))
        job.batch()
        job.push()
        assert job.wait() == 1
        with job.process() as results:
            assert len(results) == 1
        with pytest.raises(SafetyStop, match="no way"):
            job.wait()


def test_a_changed_payload_is_refused_and_nothing_of_it_is_stored(server: SandboxProcess, tasks: Path) -> None:
    with requester(server, tasks) as job:
        job.add(requests(2))
        job.commit()
        job.add(requests(4, text="Say something else about"))
        with pytest.raises(PayloadError, match="was asked before with another payload"):
            job.commit()
        assert job.status().asked == 2


def test_it_must_be_open_and_cannot_run_dry(server: SandboxProcess, tasks: Path) -> None:
    with pytest.raises(UserError, match="is not open"):
        requester(server, tasks).batch()
    with pytest.raises(SettingError, match="dryrun is on"), requester(server, tasks, dryrun=True):
        pass


def test_only_one_process_may_own_a_job(server: SandboxProcess, tasks: Path) -> None:
    with requester(server, tasks), pytest.raises(UserError, match="This task is in use"), requester(server, tasks):
        pass


def test_a_job_can_go_by_direct_calls(server: SandboxProcess, tasks: Path) -> None:
    with requester(server, tasks, max_session_requests=5) as job:
        job.add(requests(8))
        assert job.direct() == 5
        assert job.direct() == 0, "the session's limit is reached"
        with job.process() as results:
            assert sorted(result.value.word for result in results) == [f"word-{index:05}" for index in range(5)]
    with requester(server, tasks) as job:
        assert job.direct() == 3
    assert batches_of(server, tasks, "job") == []


def test_what_expires_too_often_is_answered_while_waiting(tmp_path: Path, tasks: Path) -> None:
    """It goes by direct calls; none is left in flight when the wait is over."""
    plan = QUICK_PLAN + "batches: [{fault: expire, after_fraction: 0}]\n"
    with sandbox(tmp_path / "server", plan) as server, requester(server, tasks, max_expiries=1) as job:
        job.add(requests(6))
        job.batch()
        job.push()
        assert job.wait() > 0
        assert query(tasks, "SELECT count(*) FROM direct_call", "job") == [(0,)]
        assert job.wait(everything=True) == 6


def test_waiting_keeps_the_deadline(tmp_path: Path, tasks: Path) -> None:
    """The batch would take for ever: it is cancelled, and its requests go by direct calls."""
    with sandbox(tmp_path / "slow", "timing: {requests_per_s: 0.0001, cancelling_s: 0}") as server:
        with requester(server, tasks, deadline="5m") as job:
            job.add(requests(3))
            job.batch()
            job.push()
            assert job.wait(everything=True) == 3
        assert [batch["status"] for batch in batches_of(server, tasks, "job")] == ["cancelled"]


def test_what_is_asked_twice_is_sent_once(server: SandboxProcess, tasks: Path) -> None:
    """dedupe: each of them has its own result."""
    same = [GPTRequest(f"copy-{index}", next(requests(1)).payload) for index in range(3)]
    with requester(server, tasks, dedupe=True) as job:
        job.add(same)
        job.batch()
        job.push()
        assert job.wait(everything=True) == 3
        with job.process() as results:
            assert [result.value.word for result in results] == ["word-00000"] * 3
    assert [batch["request_counts"]["total"] for batch in batches_of(server, tasks, "job")] == [1]
