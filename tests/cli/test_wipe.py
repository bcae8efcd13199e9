"""Parts of a task forgotten by command, without the task's code."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpt_batch_api.engine.doctor import examine
from gpt_batch_api.sandbox.child import SandboxProcess
from tests.cli.rig import ROOT, command, document, python
from tests.toy import ToyTask, batches_of, books, files_of, query, rows_of, sandbox, settings_for

REFUSES = (
    "lines: [{fault: refusal, match: word-00003}]\n"
    "timing: {validating_s: 0, minimum_s: 0, finalizing_s: 0, requests_per_s: 1000000}\n"
)
STUCK = "timing: {validating_s: 100000, cancelling_s: 0}\n"


def with_a_failure(tasks: Path, folder: Path) -> dict[str, Any]:
    """A finished task with a failed sample; the settings of its runs."""
    with sandbox(folder / "server", REFUSES) as server:
        values = settings_for(server, tasks, max_retries=0, process_failed_batches=-1)
        ToyTask(values).run()
    return values


def test_what_would_be_lost_is_told_and_nothing_done_where_nobody_can_be_asked(tmp_path: Path, tasks: Path) -> None:
    with_a_failure(tasks, tmp_path)
    before = {
        path: path.read_bytes() for path in tasks.iterdir()
    }  # a look may leave SQLite's -wal and -shm beside them
    shown = command("wipe", "failed", folder=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.splitlines()[:3] == [
        "Task toy: wiping failed samples and what is under way; other results stay",
        "  requests   1 forgotten, 1 sample concerned",
        "  output     0 rows taken back",
    ]
    assert "$0.0000" in shown.stdout
    assert "add --yes" in shown.stdout
    assert {path: path.read_bytes() for path in before} == before


def test_failed_samples_are_forgotten_and_asked_again_by_the_next_run(
    server: SandboxProcess, tmp_path: Path, tasks: Path
) -> None:
    """No server and no key are needed: nothing of the task is on it."""
    with_a_failure(tasks, tmp_path)
    spent = books(tasks).spent
    assert command("wipe", "failed", "--yes", folder=tmp_path).stdout.endswith("Done.\n")
    assert query(tasks, "SELECT state, count(*) FROM request GROUP BY 1") == [("succeeded", 7)]
    assert books(tasks).spent == spent
    assert examine(ToyTask(task_dir=tasks).workplace).healthy
    assert ToyTask(settings_for(server, tasks)).run()
    assert len(rows_of(tasks)) == 8


def test_json_says_what_is_lost_and_whether_it_was_done(tmp_path: Path, tasks: Path) -> None:
    with_a_failure(tasks, tmp_path)
    shown = document(command("wipe", "task", "--json", folder=tmp_path))
    spent = books(tasks).spent
    assert shown == {
        "task": "toy", "wipe": "task", "done": False, "requests": 8, "samples": 8, "rows": 7,
        "answers_to_show_again": 0, "cost_pico": spent, "batches": {"local": 0, "on_server": 0}, "reserved_pico": 0,
    }  # fmt: skip
    assert document(command("wipe", "task", "--json", "--yes", folder=tmp_path)) == {**shown, "done": True}
    assert not (tasks / "toy_output.jsonl").exists()
    assert query(tasks, "SELECT count(*) FROM request") == [(0,)]
    assert books(tasks).spent == spent


def test_batches_on_the_server_are_cancelled_and_cleaned_up(tmp_path: Path, tasks: Path) -> None:
    """For that the server is needed, and its key."""
    with sandbox(tmp_path / "server", STUCK) as stuck:
        values = settings_for(stuck, tasks)
        ToyTask(values, max_batch_requests=4, once=True).run()
        shown = command("wipe", "requests", folder=tmp_path)
        assert "  server     2 batches cancelled; what they have done by then is paid" in shown.stdout
        assert {batch["status"] for batch in batches_of(stuck, tasks)} == {"validating"}
        no_key = python("-m", "gpt_batch_api", "wipe", "requests", "--yes", folder=tmp_path, OPENAI_API_KEY="")
        assert no_key.returncode == 1
        assert "There is no API key" in no_key.stderr
        words = ("--client_base_url", stuck.url, "--openai_api_key", "sk-test", "--remote_update_interval", "0.01")
        done = command("wipe", "requests", "--yes", *words, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert {batch["status"] for batch in batches_of(stuck, tasks)} == {"cancelled"}
        assert files_of(stuck, tasks) == []
    assert query(tasks, "SELECT count(*) FROM request") == [(0,)]
    assert books(tasks).reserved == 0


def test_answers_of_a_sample_that_is_concerned_wait_for_its_code(
    server: SandboxProcess, tmp_path: Path, tasks: Path
) -> None:
    """A sample with one request answered and one queued: the answer is shown again, its row comes back once."""

    class Two(ToyTask):
        count = 2

        def generate_requests(self) -> Any:
            for request in super().generate_requests():
                yield request
                yield type(request)(request.sample_key, request.payload, number=1)

    Two.__name__ = "ToyTask"
    values = settings_for(server, tasks)
    Two(values, max_batch_requests=3, max_session_requests=3).run()
    shown = command("wipe", "requests", "--yes", folder=tmp_path)
    assert "  next run   1 stored answer shown to the task's code again" in shown.stdout
    assert Two(values).run()
    assert sorted(row["key"] for row in rows_of(tasks)) == ["word-00000"] * 2 + ["word-00001"] * 2


def test_the_embedded_sandbox_of_a_task_is_found_by_itself(tmp_path: Path) -> None:
    """It runs only while its task does, so the wipe starts it."""
    demo = ("-m", "gpt_batch_api.task_manager_demo", "--task", "utterance_emotion", "--sandbox", "--once")
    plan = tmp_path / "stuck.yaml"
    plan.write_text(STUCK, encoding="utf-8")
    assert python(*demo, "--sandbox_plan", plan, folder=tmp_path).returncode == 3
    done = command("wipe", "task", "--yes", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert query(tmp_path / "tasks", "SELECT count(*) FROM batch", "utterance_emotion") == [(0,)]


@pytest.mark.parametrize(("answer", "done"), [("y", True), ("n", False), ("", False)])
def test_a_person_at_a_terminal_is_asked(tmp_path: Path, tasks: Path, answer: str, done: bool) -> None:
    with_a_failure(tasks, tmp_path)
    parent, child = pty.openpty()
    os.write(parent, f"{answer}\n".encode())
    process = subprocess.run(
        [sys.executable, "-m", "gpt_batch_api", "wipe", "failed"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=child,
        stdout=child,
        stderr=child,
        timeout=60,
        check=False,
    )
    os.close(child)
    seen = os.read(parent, 100_000).decode()
    os.close(parent)
    assert process.returncode == 0
    assert "Forget this? [y/N]" in seen
    assert query(tasks, "SELECT count(*) FROM request WHERE state = 'failed'") == [(0 if done else 1,)]


def test_a_task_that_runs_is_refused_with_the_name_of_who_runs_it(server: SandboxProcess, tasks: Path) -> None:
    tried = []

    def meanwhile(event: Any) -> None:
        if event.kind == "RequestsAdded":
            tried.append(command("wipe", "requests", "--yes", "--lock_timeout", "0", folder=tasks.parent))

    assert ToyTask(settings_for(server, tasks), listeners=[meanwhile]).run()
    (refused,) = tried
    assert refused.returncode == 1
    assert f"process {os.getpid()}" in refused.stderr
