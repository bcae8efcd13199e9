"""Runs that meet what an earlier run, the server or a person left behind at an odd moment."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import openai
import pytest

from gpt_batch_api.domain.ending import Ending
from gpt_batch_api.domain.errors import OutputError, PayloadError, ServerError, WrongServer
from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.task_manager import Result, Sample
from tests.toy import ToyTask, ask, batches_of, books, files_of, query, rows_of, sandbox, settings_for


def test_a_request_over_the_limit_that_the_server_named_is_told_not_tried_for_ever(weather: Any, tasks: Path) -> None:
    """It could never be admitted: one clear error that names the request, instead of batches that wait for ever."""

    class OneLong(ToyTask):
        def payload(self, key: str) -> dict[str, Any]:
            payload = super().payload(key)
            if key == "word-00003":
                payload["messages"] = [{"role": "user", "content": "lengthy " * 3000}]
            return payload

    with weather("enqueued_token_limit: {gpt-4o-mini: 2000}\n") as server:
        with pytest.raises(PayloadError, match=r"word-00003.*alone has 3,\d\d\d input tokens.*only 2,000"):
            OneLong(settings_for(server, tasks)).run()
        assert query(tasks, "SELECT sum(reserved_pico) FROM ledger") == [(0,)]


def test_an_uploaded_file_that_is_gone_is_uploaded_anew(
    weather: Any, tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The creation was refused once; meanwhile somebody cleaned up the files on the server."""
    monkeypatch.setattr("gpt_batch_api.engine.push.MISSING_FILE_WAIT_S", 1.0)
    refused = "faults: [{on: batches.create, fault: status, status: 400, message: not now, times: 1}]\n"
    with weather(refused) as server:
        with pytest.raises(ServerError, match="not now"):
            ToyTask(settings_for(server, tasks)).run()
        with openai.OpenAI(base_url=server.url, api_key="sk-test") as client:
            for file in client.files.list():
                client.files.delete(file.id)
        assert ToyTask(settings_for(server, tasks)).run()
        assert len(rows_of(tasks)) == 8
        assert files_of(server, tasks) == []


def test_a_wipe_on_another_server_is_refused_before_anything_is_forgotten(weather: Any, tmp_path: Path) -> None:
    """Its batches are on the first server: wiped here, they would run, cost and stay there."""
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    with weather("") as first, sandbox(tmp_path / "second") as second:
        ToyTask(settings_for(first, tasks), max_session_requests=4, max_batch_requests=4).run()
        with sandbox(tmp_path / "slow", "timing: {validating_s: 100000}\n") as stuck:
            other = tmp_path / "other"
            other.mkdir()
            ToyTask(settings_for(stuck, other), once=True).run()
            for wipe in ("wipe_task", "wipe_requests", "wipe_failed"):
                with pytest.raises(WrongServer, match="this run would talk to"):
                    ToyTask(settings_for(second, other, **{wipe: True})).run()
            assert query(other, "SELECT state, count(*) FROM request GROUP BY 1") == [("batched", 8)]
            assert query(other, "SELECT wiping FROM task") == [(None,)]
            assert ToyTask(settings_for(stuck, other), wipe_task=True, run=False).main() == 0
            assert ask(stuck, "/v1/files")["data"] == []


def test_answers_that_vanished_are_booked_as_spent(weather: Any, tasks: Path) -> None:
    """They were paid; the books say so even though nothing is there to show for it."""
    plan = "faults: [{on: files.content, fault: status, status: 404, message: No such File object}]\n"
    with weather(plan) as server:
        assert ToyTask(settings_for(server, tasks)).main() == 1
        (billed,) = ask(server, "/sandbox/ledger")["batches"].values()
    spent, reserved, unlinked, _ = books(tasks)
    assert spent == unlinked == billed["cost_pico"] > 0
    assert reserved == 0


def test_rows_of_an_answer_that_is_sent_back_are_not_kept(server: SandboxProcess, tasks: Path) -> None:
    """Emitted, then rejected: the answer that counts is the next one, and its row the only one."""

    class Doubtful(ToyTask):
        def process_result(self, result: Result, sample: Sample) -> None:
            sample.state["seen"] = sample.state.get("seen", 0) + 1
            sample.emit({"key": sample.key, "attempt": result.attempt, "seen": sample.state["seen"]})
            if result.attempt == 1:
                result.retry("not yet")

    assert Doubtful(settings_for(server, tasks)).run()
    assert rows_of(tasks) == [{"key": f"word-{index:05}", "attempt": 2, "seen": 1} for index in range(8)]


@pytest.mark.parametrize("wipe", ["wipe_requests", "wipe_failed"])
def test_a_wipe_touches_no_output_that_was_changed_by_hand(server: SandboxProcess, tasks: Path, wipe: str) -> None:
    ToyTask(settings_for(server, tasks)).run()
    path = tasks / "toy_output.jsonl"
    path.write_bytes(b"mine" + path.read_bytes()[4:])
    before = path.read_bytes()
    with pytest.raises(OutputError, match="changed by hand"):
        ToyTask(settings_for(server, tasks, **{wipe: True})).run()
    assert path.read_bytes() == before
    assert query(tasks, "SELECT wiping FROM task") == [(None,)]
    assert query(tasks, "SELECT count(*) FROM request") == [(8,)]


def test_a_dry_run_shows_answers_that_wait_to_the_tasks_code(server: SandboxProcess, tasks: Path) -> None:
    """Booked answers are processed in the copy, so that the follow-ups they lead to are shown; nothing is kept."""

    class Mended(ToyTask):
        broken = True

        def process_result(self, result: Result, sample: Sample) -> None:
            if self.broken:
                raise ZeroDivisionError
            super().process_result(result, sample)

    assert Mended(settings_for(server, tasks)).main() == 1
    assert query(tasks, "SELECT state, count(*) FROM request GROUP BY 1") == [("answered", 8)]
    Mended.broken = False
    result = Mended(settings_for(server, tasks), dryrun=True).run_to_end()
    assert result.over.ending is Ending.DONE
    assert result.snapshot is not None
    assert result.snapshot.task.complete
    assert query(tasks, "SELECT state, count(*) FROM request GROUP BY 1") == [("answered", 8)]
    assert rows_of(tasks) == []
    assert Mended(settings_for(server, tasks)).run()
    assert len(batches_of(server, tasks)) == 1


def test_a_stop_while_waiting_for_the_lock_is_heard(server: SandboxProcess, tasks: Path) -> None:
    """Nothing is owned yet, so nothing has to be finished."""
    from filelock import FileLock

    from gpt_batch_api.engine.lock import hold

    stop = threading.Event()
    task = ToyTask(settings_for(server, tasks), lock_timeout=None)
    with FileLock(task.workplace.lock):
        threading.Timer(0.3, stop.set).start()
        with (
            pytest.raises(KeyboardInterrupt),
            hold(task.workplace.lock, task.settings, tell=lambda text: None, stop=stop.is_set),
        ):
            pytest.fail("the lock was held by somebody else")


def test_a_file_that_the_server_does_not_delete_stops_nothing(
    weather: Any, tasks: Path, log: pytest.LogCaptureFixture
) -> None:
    plan = "faults: [{on: files.delete, fault: status, status: %d, message: no deleting here, times: 1}]\n"
    for status in (400, 403):
        with weather(plan % status) as server:
            assert ToyTask(settings_for(server, tasks, task_prefix=f"toy{status}")).run()
            assert len(rows_of(tasks, f"toy{status}")) == 8
            assert query(tasks, "SELECT DISTINCT state FROM batch", f"toy{status}") == [("closed",)]
    assert log.text.count("The server does not delete file") == 2
    assert "no deleting here" in log.text
