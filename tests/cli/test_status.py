"""How tasks stand, and what waits for what."""

from __future__ import annotations

from pathlib import Path

from gpt_batch_api.task_manager import Result, Sample
from tests.cli.rig import command, document
from tests.toy import ToyTask, books, sandbox, settings_for

STUCK = "timing: {validating_s: 100000}\n"
REFUSES = (
    "lines: [{fault: status, status: 400, match: word-00003}]\n"
    "timing: {validating_s: 0, minimum_s: 0, finalizing_s: 0, requests_per_s: 1000000}\n"
)


def waits(tmp_path: Path) -> dict[str, list[str]]:
    """What waits for what, of the only task."""
    (found,) = document(command("status", "--json", folder=tmp_path))
    return {each["what"]: each["for"] for each in found["waits"]}


def test_batches_wait_for_the_server_and_for_the_limits_of_the_last_run(tmp_path: Path, tasks: Path) -> None:
    """Limits are those that the run had, not the defaults."""
    with sandbox(tmp_path / "server", STUCK) as stuck:
        ToyTask(settings_for(stuck, tasks), max_batch_requests=2, max_remote_requests=5, once=True).run()
    assert waits(tmp_path) == {
        "batch 1": ["the server (validating)"],
        "batch 2": ["the server (validating)"],
        "batch 3": ["max_remote_requests: 4 of 5 used, 2 more needed"],
        "batch 4": ["max_remote_requests: 4 of 5 used, 2 more needed"],
    }
    shown = command("status", folder=tmp_path).stdout
    assert "  waits      batch 1 for the server (validating)" in shown
    assert "  waits      batch 3 for max_remote_requests: 4 of 5 used, 2 more needed" in shown
    assert "server: 2 of 15 batches" in shown


def test_the_limit_of_a_session_that_is_over_holds_nothing_back(tmp_path: Path, tasks: Path) -> None:
    """The next run has its own."""
    with sandbox(tmp_path / "server", STUCK) as stuck:
        ToyTask(settings_for(stuck, tasks), max_batch_requests=2, max_session_requests=2, once=True).run()
    found = waits(tmp_path)
    assert found["batch 1"] == ["the server (validating)"]
    assert found["batch 2"] == ["a run to push it"]


def test_held_requests_wait_for_the_user_and_answers_for_the_code(tmp_path: Path, tasks: Path) -> None:
    class Broken(ToyTask):
        def process_result(self, result: Result, sample: Sample) -> None:
            raise ZeroDivisionError

    Broken.__name__ = "ToyTask"
    with sandbox(tmp_path / "server", REFUSES) as rough:
        assert Broken(settings_for(rough, tasks)).main() == 1
    found = waits(tmp_path)
    assert found["7 answers"] == ["the task's code, in a run"]
    assert found["1 held request"][0].startswith("you: --process_failed_batches")


def test_all_tasks_of_a_folder_are_summed_up(tmp_path: Path, tasks: Path) -> None:
    with sandbox(tmp_path / "server", STUCK) as stuck:
        ToyTask(settings_for(stuck, tasks), task_prefix="one", once=True).run()
        ToyTask(settings_for(stuck, tasks), task_prefix="two", once=True).run()
    last = command("status", folder=tmp_path).stdout.splitlines()[-1]
    assert last.startswith("2 tasks, 0 complete; 2 batches on the server; $0.00 spent, $")
    assert len(document(command("status", "--json", folder=tmp_path))) == 2
    assert books(tasks, "one").reserved > 0
