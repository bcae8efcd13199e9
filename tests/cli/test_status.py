"""How tasks stand, and what waits for what."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gpt_batch_api.cli.main import main
from gpt_batch_api.store.connection import Store
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


@pytest.mark.parametrize("name", ["status", "estimate"])
def test_a_task_that_has_not_begun_is_told_so(name: str, tmp_path: Path, tasks: Path) -> None:
    Store.open(tasks / "new_state.db").close()
    named = ("--task_prefix", "new")
    assert command(name, *named, folder=tmp_path).stdout == command(name, folder=tmp_path).stdout
    assert command(name, *named, folder=tmp_path).stdout == "Task new: not begun\n"
    assert document(command(name, *named, "--json", folder=tmp_path)) == {"task": "new", "begun": False}
    assert document(command(name, "--json", folder=tmp_path)) == [{"task": "new", "begun": False}]


@pytest.mark.parametrize("words", [["status"], ["estimate"], ["watch", "--once"]], ids=" ".join)
def test_a_store_that_cannot_be_read_hides_none_of_the_others(
    words: list[str], tasks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Store.open(tasks / "good_state.db").close()
    Store.open(tasks / "later_state.db").close()
    with closing(sqlite3.connect(tasks / "later_state.db")) as db:
        db.execute("PRAGMA user_version = 99")
    here = ("--task_dir", str(tasks))
    assert main([*words, *here]) == 1
    shown = capsys.readouterr()
    assert "good: not begun" in shown.out
    assert shown.err.startswith("error: task later: The store later_state.db has schema 99")
    assert len(shown.err.splitlines()) == 1
    assert main([*words, *here, "--json"]) == 1
    assert "good" in (shown := capsys.readouterr()).out
    assert "later" not in shown.out
    assert main([*words, *here, "--task_prefix", "later", "--json"]) == 1
    assert (shown := capsys.readouterr()).out == ""
    assert shown.err.startswith("error: The store later_state.db has schema 99")
