"""A request's whole story, from the store of a task."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from gpt_batch_api.cli.main import main
from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.task_manager import GPTRequest, Result, Sample
from tests.cli.rig import command, document, finish_with_a_refusal
from tests.toy import ToyTask, query, sandbox, settings_for

PICTURE = "data:image/png;base64," + base64.b64encode(bytes(3000)).decode()


class WithPictures(ToyTask):
    """Shows a picture with each word, sends one answer back, asks a follow-up about another."""

    def payload(self, key: str) -> dict[str, Any]:
        words, picture = {"type": "text", "text": f'Tell me about "{key}".'}, {"url": PICTURE}
        content = [words, {"type": "image_url", "image_url": picture}]
        return {**super().payload(key), "messages": [{"role": "user", "content": content}]}

    def process_result(self, result: Result, sample: Sample) -> None:
        if sample.key == "word-00001" and result.attempt == 1:
            result.retry("too short")
        elif sample.key == "word-00002" and not result.purpose:
            sample.state["first"] = result.value.word
            sample.ask(GPTRequest(sample.key, self.payload("more"), purpose="more", meta={"about": "it"}))
        else:
            super().process_result(result, sample)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished task in which one request was sent back and one refused."""
    folder = tmp_path_factory.mktemp("inspected")
    finish_with_a_refusal(WithPictures, folder, max_retries=1)
    return folder


def test_many_requests_are_a_line_each(folder: Path) -> None:
    shown = command("inspect", "--limit", "3", folder=folder)
    assert shown.returncode == 0, shown.stderr
    first, second, third, more = shown.stdout.splitlines()
    assert first.startswith("'word-00000'  succeeded, 1 answer, $0.0")
    assert second.startswith("'word-00001'  succeeded, 2 answers, ")
    assert third.startswith("'word-00002'  succeeded")
    assert more == "… 6 more; show them with a higher --limit"


def test_one_request_is_shown_in_full(folder: Path) -> None:
    """What was asked, both answers with their batches, what the task thought of them, and the sample's row."""
    shown = command("inspect", "--key", "word-00001", folder=folder).stdout
    assert 'Tell me about "word-00001".' in shown
    assert "<image/png, 3,000 bytes>" in shown
    assert PICTURE[:60] not in shown
    assert "── Request 'word-00001'" in shown
    assert "── Answer 'word-00001', answer 1" in shown
    assert "task: retryable: rejected_by_task (too short)" in shown
    assert "── Answer 'word-00001', answer 2" in shown
    assert "attempt 2, batch 2 (batch_" in shown
    assert "task: success" in shown
    assert "sample 'word-00001': succeeded, 1 output row" in shown
    assert '  row   {"key":"word-00001"' in shown


def test_json_has_payload_raw_responses_verdicts_and_cost(folder: Path) -> None:
    found = document(command("inspect", "--key", "word-00001", "--json", folder=folder))
    assert found["matching"] == 1
    (request,) = found["requests"]
    assert request["payload"]["messages"][0]["content"][1]["image_url"]["url"] == "<image/png, 3,000 bytes>"
    assert [answer["attempt"] for answer in request["tries"]] == [1, 2]
    assert request["tries"][0]["task_verdict"]["message"] == "too short"
    assert request["tries"][0]["response"]["response"]["body"]["choices"]
    assert request["cost_pico"] == sum(answer["cost_pico"] for answer in request["tries"]) > 0
    assert [row["key"] for row in request["sample_rows"]] == ["word-00001"]


def keys(folder: Path, *words: str) -> list[str]:
    """Which requests a selection shows."""
    found = document(command("inspect", "--json", *words, folder=folder))["requests"]
    return [request["sample"] + request["purpose"] for request in found]


def test_requests_are_found_by_key_state_reason_batch_and_time(folder: Path) -> None:
    assert keys(folder, "--key", "word-00002") == ["word-00002", "word-00002more"]
    assert len(keys(folder, "--key", "word-*")) == 9
    assert keys(folder, "--key", "wor") == []
    assert keys(folder, "--state", "failed") == keys(folder, "--reason", "refusal") == ["word-00003"]
    assert keys(folder, "--reason", "rejected_by_task") == ["word-00001"], "it was, at first"
    assert "word-00002more" in keys(folder, "--batch", "2")
    assert keys(folder, "--batch", "1", "--state", "failed") == ["word-00003"]
    assert len(keys(folder, "--since", "2020-01-01")) == 9
    assert keys(folder, "--until", "2020-01-01") == []


def test_a_follow_up_shows_its_metadata_and_the_state_of_its_sample(folder: Path) -> None:
    first, follow_up = document(command("inspect", "--key", "word-00002", "--full", "--json", folder=folder))[
        "requests"
    ]
    assert (first["follow_up"], follow_up["follow_up"]) == (False, True)
    assert follow_up["meta"] == {"about": "it"}
    assert first["sample_state"] == follow_up["sample_state"]
    assert follow_up["sample_state"].keys() == {"first"}


def test_no_request_that_fits_is_a_line(folder: Path) -> None:
    shown = command("inspect", "--key", "nobody", folder=folder)
    assert (shown.returncode, shown.stdout) == (0, "No request fits.\n")


def test_a_wrong_time_is_one_line_and_exit_1(folder: Path) -> None:
    shown = command("inspect", "--since", "tomorrow", folder=folder)
    assert shown.returncode == 1
    assert shown.stderr == (
        "error: argument --since: 'tomorrow' is no time such as 2026-12-01 or 2026-12-01T06:00. "
        "See gpt-batch-api inspect --help.\n"
    )


def test_several_tasks_in_a_folder_must_be_told_apart(
    server: SandboxProcess, tasks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for prefix in ("one", "two"):
        ToyTask(settings_for(server, tasks), task_prefix=prefix).run()
    assert main(["inspect", "--task_dir", str(tasks)]) == 1
    assert "Say which with --task_prefix: one, two." in capsys.readouterr().err
    assert main(["inspect", "--task_dir", str(tasks), "--task_prefix", "two"]) == 0


def test_it_reads_while_a_run_writes(tmp_path: Path, tasks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What waits for the server is shown with its batch, and nothing is changed by looking."""
    seen: list[str] = []

    def look(event: Any) -> None:
        if event.kind == "BatchPushed" and not seen:
            assert main(["inspect", "--task_dir", str(tasks), "--key", "word-00000"]) == 0
            seen.append(capsys.readouterr().out)

    with sandbox(tmp_path / "server", "timing: {validating_s: 100000}\n") as stuck:
        ToyTask(settings_for(stuck, tasks), listeners=[look], once=True).run()
    assert "waits for batch 1, which is remote as batch_" in seen[0]
    assert query(tasks, "SELECT count(*) FROM session") == [(1,)]
