"""Stored answers shown to the corrected code of a task: our mistakes cost no money."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpt_batch_api.domain.errors import TaskCodeError, UserError
from gpt_batch_api.domain.selection import Selection
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.engine.doctor import examine
from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.task_manager import GPTRequest, Result, Sample, TaskManager
from tests.cli.rig import command, document, script
from tests.toy import ToyTask, ask, books, query, rows_of, settings_for

STARS = """
from pydantic import BaseModel
from gpt_batch_api import GPTRequest, TaskManager

class Verdict(BaseModel):
    reason: str

class Reviews(TaskManager):
    name = "reviews"
    defaults = {"model": "gpt-4o-mini", "max_completion_tokens": 200}

    def generate_requests(self):
        for key in ("r1", "r2", "r3"):
            messages = [{"role": "user", "content": f'Rate "review {key}".'}]
            yield GPTRequest(key, {**self.meta, "messages": messages, "response_format": Verdict})

    def process_result(self, result, sample):
        sample.emit({"key": sample.key, "reason": result.value.reason.REPAIR})

if __name__ == "__main__":
    raise SystemExit(Reviews.run_command_line())
"""


def charges(server: SandboxProcess) -> Any:
    """All that a server has charged, to whomever, for whatever."""
    return {name: sums for name, sums in ask(server, "/sandbox/ledger").items() if name != "now"}


def test_a_mistake_in_the_tasks_code_is_repaired_without_a_call(alone: SandboxProcess, tmp_path: Path) -> None:
    """A parser cuts every text to its first letter; the job is paid, and done, before anybody looks at the output."""
    path = tmp_path / "reviews.py"
    path.write_text(STARS.replace("REPAIR", "strip()[:1]"), encoding="utf-8")
    assert script(path, alone).returncode == 0
    assert all(len(row["reason"]) == 1 for row in rows_of(tmp_path / "tasks", "reviews"))
    charged, calls = charges(alone), ask(alone, "/sandbox/state")["calls"]

    path.write_text(STARS.replace("REPAIR", "strip()"), encoding="utf-8")
    shown = command("reprocess", "reviews.py", folder=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "samples    3 of 3 would change" in shown.stdout
    assert "rows       0 added, 0 removed, 3 changed" in shown.stdout
    assert "example    'r1'" in shown.stdout
    assert "Nothing was changed. To do it, add --yes." in shown.stdout
    assert all(len(row["reason"]) == 1 for row in rows_of(tmp_path / "tasks", "reviews"))

    done = command("reprocess", "reviews.py", "--yes", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "tasks", "reviews")
    assert [row["key"] for row in rows] == ["r1", "r2", "r3"]
    assert all(len(row["reason"]) > 1 for row in rows)
    assert query(tmp_path / "tasks", "SELECT complete FROM task", "reviews") == [(1,)]
    assert charges(alone) == charged
    assert ask(alone, "/sandbox/state")["calls"] == calls

    again = command("reprocess", "reviews.py", "--yes", folder=tmp_path)
    assert "Nothing would change." in again.stdout


def test_the_tasks_own_script_reprocesses_with_a_flag(server: SandboxProcess, tmp_path: Path) -> None:
    """It shows what would change, and with --yes it does it; it never runs the job."""
    path = tmp_path / "reviews.py"
    path.write_text(STARS.replace("REPAIR", "upper()"), encoding="utf-8")
    assert script(path, server).returncode == 0
    path.write_text(STARS.replace("REPAIR", "lower()"), encoding="utf-8")
    shown = script(path, server, "--reprocess")
    assert shown.returncode == 0
    assert "add --yes" in shown.stdout
    assert all(row["reason"].isupper() for row in rows_of(tmp_path / "tasks", "reviews"))
    assert script(path, server, "--reprocess", "--yes").returncode == 0
    assert all(row["reason"].islower() for row in rows_of(tmp_path / "tasks", "reviews"))


def test_json_says_what_would_change_and_whether_it_was_done(server: SandboxProcess, tmp_path: Path) -> None:
    path = tmp_path / "reviews.py"
    path.write_text(STARS.replace("REPAIR", "upper()"), encoding="utf-8")
    script(path, server)
    path.write_text(STARS.replace("REPAIR", "lower()"), encoding="utf-8")
    shown = document(command("reprocess", "reviews.py:Reviews", "--key", "r2", "--json", folder=tmp_path))
    assert shown["applied"] is False
    assert shown["samples"] == {"shown": 1, "changed": 1, "without_answers": 0}
    assert shown["rows"] == {"added": 0, "removed": 0, "changed": 1}
    (example,) = shown["examples"]
    assert example["sample"] == "r2"
    assert example["removed"][0]["reason"].lower() == example["added"][0]["reason"]
    assert document(command("reprocess", "reviews:Reviews", "--json", "--yes", folder=tmp_path))["applied"] is True
    assert document(command("reprocess", "reviews.py", "--json", "--yes", folder=tmp_path))["samples"]["changed"] == 0


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("nowhere.py", "There is no file nowhere.py"),
        ("no_such_module:Task", "There is no module 'no_such_module'"),
        ("json", "json has no TaskManager"),
        ("reviews.py:Other", "reviews.py has no task 'Other'. It has: Reviews."),
        ("broken.py", "The task code broken.py cannot be loaded: ZeroDivisionError"),
        ("reviews.py", "There is no task 'reviews' in tasks: it has no answers yet."),
    ],
)
def test_task_code_that_is_not_there_is_one_line_and_exit_1(tmp_path: Path, code: str, message: str) -> None:
    (tmp_path / "reviews.py").write_text(STARS.replace("REPAIR", "strip()"), encoding="utf-8")
    (tmp_path / "broken.py").write_text("1 / 0", encoding="utf-8")
    done = command("reprocess", code, folder=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


# ---------------------------------------------------------------- what follows from answers


class Toy(ToyTask):
    """A task whose code can be changed between runs."""

    count = 4

    def why(self, key: str) -> GPTRequest:
        return GPTRequest(key, self.payload(f"{key} why"), purpose="why")


def variant(process: Any) -> type[Toy]:
    """The same task with other code."""
    return type("Toy", (Toy,), {"process_result": process})


def asks_why(task: Toy, result: Result, sample: Sample) -> None:
    """Asks why, and writes one row of both answers."""
    if not result.purpose:
        sample.state["word"] = result.value.word
        sample.ask(task.why(sample.key))
    else:
        sample.emit({"key": sample.key, "word": sample.state["word"], "why": result.value.word})


def asks_nothing(task: Toy, result: Result, sample: Sample) -> None:
    """Writes a row at once; would write one for a follow-up too."""
    sample.emit({"key": sample.key, "purpose": result.purpose})


def sends_back(task: Toy, result: Result, sample: Sample) -> None:
    """Finds the first answers of two samples no good."""
    if sample.key in ("word-00001", "word-00002") and result.attempt == 1:
        result.retry("too short")
    else:
        sample.emit({"key": sample.key, "attempt": result.attempt})


def healthy(kind: type[TaskManager], values: dict[str, Any]) -> bool:
    """Whether the doctor finds nothing wrong with a task."""
    return examine(kind(values).workplace).healthy


def test_follow_ups_that_are_asked_again_bring_their_stored_answers(server: SandboxProcess, tasks: Path) -> None:
    """Their answers are not paid again, and their rows come out as they would have at first."""
    values = settings_for(server, tasks)
    assert variant(asks_why)(values).run()
    before = sorted(rows_of(tasks), key=str)
    spent = books(tasks)
    task = variant(asks_why)(values)
    assert not task.preview_reprocess().changes_something
    assert task.reprocess().snapshot.task.complete  # type: ignore[union-attr]
    assert sorted(rows_of(tasks), key=str) == before
    assert books(tasks) == spent
    assert healthy(Toy, values)


def test_a_follow_up_that_is_not_asked_any_more_leaves_no_row_but_its_answer_is_kept(
    server: SandboxProcess, tasks: Path
) -> None:
    """What is paid for is not thrown away: code that asks it again gets the answer for nothing."""
    values = settings_for(server, tasks)
    variant(asks_why)(values).run()
    before, spent = sorted(rows_of(tasks), key=str), books(tasks)
    found = variant(asks_nothing)(values).preview_reprocess().tally
    assert (found.changed, found.rows_changed, found.rows_added, found.asks.requests) == (4, 4, 0, 0)
    variant(asks_nothing)(values).reprocess()
    assert sorted(row["purpose"] for row in rows_of(tasks)) == [""] * 4
    assert variant(asks_nothing)(values).run()
    assert healthy(Toy, values)
    found = variant(asks_why)(values).preview_reprocess().tally
    assert found.asks.requests == 0
    variant(asks_why)(values).reprocess()
    assert sorted(rows_of(tasks), key=str) == before
    assert books(tasks) == spent


def test_an_answer_that_rests_stays_so_through_a_wipe(server: SandboxProcess, tasks: Path) -> None:
    """A wipe shows the answers of a sample again, but not one that nobody asks for any more."""

    def asks_more(task: Toy, result: Result, sample: Sample) -> None:
        sample.emit({"key": sample.key, "purpose": result.purpose})
        if not result.purpose:
            sample.ask(GPTRequest(sample.key, task.payload(f"{sample.key} more"), purpose="more"))

    values = settings_for(server, tasks)
    variant(asks_why)(values).run()
    variant(asks_more)(values).reprocess()
    assert variant(asks_more)(values, wipe_requests=True).run()
    assert sorted(row["purpose"] for row in rows_of(tasks)) == [""] * 4 + ["more"] * 4
    assert healthy(Toy, values)


def test_what_the_code_asks_anew_is_told_with_its_cost_and_asked_by_the_next_run(
    server: SandboxProcess, tasks: Path
) -> None:
    values = settings_for(server, tasks)
    variant(asks_nothing)(values).run()
    spent = books(tasks)
    asks = variant(asks_why)(values).preview_reprocess().tally.asks
    assert (asks.follow_ups, asks.retries) == (4, 0)
    assert 0 < asks.expected_cost_pico < 4 * spent.spent
    variant(asks_why)(values).reprocess()
    assert rows_of(tasks) == []
    assert books(tasks) == spent
    assert query(tasks, "SELECT count(*) FROM request WHERE state = 'queued'") == [(4,)]
    assert variant(asks_why)(values).run()
    assert len(rows_of(tasks)) == 4
    assert healthy(Toy, values)


def test_an_answer_that_is_sent_back_now_is_asked_again_by_the_next_run(server: SandboxProcess, tasks: Path) -> None:
    values = settings_for(server, tasks)
    variant(asks_nothing)(values).run()
    task = variant(sends_back)(values)
    found = task.preview_reprocess().tally
    assert found.asks.retries == 2
    assert found.endings == {(RequestState.SUCCEEDED, RequestState.QUEUED): 2}
    task.reprocess()
    assert sorted(row["key"] for row in rows_of(tasks)) == ["word-00000", "word-00003"]
    assert variant(sends_back)(values).run()
    assert sorted(row["attempt"] for row in rows_of(tasks)) == [1, 1, 2, 2]


def test_only_what_is_selected_is_made_anew(server: SandboxProcess, tasks: Path) -> None:
    """By key, by state, by reason and by time of the answer."""
    values = settings_for(server, tasks, max_retries=0, max_pass_failures=9)

    def fails(task: Toy, result: Result, sample: Sample) -> None:
        if sample.key == "word-00002":
            result.fail("nonsense")
        else:
            sample.emit({"key": sample.key, "purpose": "old"})

    variant(fails)(values).run()
    task = variant(asks_nothing)(values)

    def chosen(**selection: Any) -> int:
        return task.preview_reprocess(Selection(**selection)).tally.samples

    assert chosen(key="word-0000*") == 4
    assert chosen(states=frozenset({RequestState.FAILED})) == chosen(reason="rejected_by_task") == 1
    (first,) = query(tasks, "SELECT min(received_at) FROM response")[0]
    assert chosen(since=first) == 4
    with pytest.raises(UserError, match="No sample with an answer fits the selection"):
        chosen(until=first)
    task.reprocess(Selection(states=frozenset({RequestState.FAILED})))
    assert sorted((row["key"], row["purpose"]) for row in rows_of(tasks)) == [
        ("word-00000", "old"), ("word-00001", "old"), ("word-00002", ""), ("word-00003", "old"),
    ]  # fmt: skip


def test_answers_that_were_not_kept_cannot_be_shown(server: SandboxProcess, tasks: Path) -> None:
    """It is said, and nothing is changed."""
    values = settings_for(server, tasks, keep_responses=False)
    Toy(values).run()
    before = rows_of(tasks)
    with pytest.raises(UserError, match=r"4 samples cannot be reprocessed: their answers were not kept"):
        variant(asks_nothing)(values).preview_reprocess()
    variant(asks_nothing)(values).reprocess()
    assert rows_of(tasks) == before


def test_code_that_still_fails_is_told_before_anything_is_taken_back(server: SandboxProcess, tasks: Path) -> None:
    def raises(task: Toy, result: Result, sample: Sample) -> None:
        raise ZeroDivisionError("oops")

    values = settings_for(server, tasks)
    Toy(values).run()
    before = (tasks / "toy_output.jsonl").read_bytes()
    with pytest.raises(TaskCodeError, match="ZeroDivisionError for sample 'word-00000'"):
        variant(raises)(values, reprocess=True, yes=True).run_to_end()
    assert (tasks / "toy_output.jsonl").read_bytes() == before


def test_the_output_file_is_replaced_whole_and_postprocessed_again(server: SandboxProcess, tasks: Path) -> None:
    """Nobody sees a file with some rows of the old code and some of the new."""
    told: list[int] = []

    class Counted(Toy):
        def postprocess_output(self, output: Any) -> None:
            told.append(len(rows_of(tasks)))

    def double(task: Toy, result: Result, sample: Sample) -> None:
        for number in range(2):
            sample.emit({"key": sample.key, "number": number})

    values = settings_for(server, tasks)
    Counted.__name__ = "Toy"
    Counted(values).run()
    inode = (tasks / "toy_output.jsonl").stat().st_ino
    type("Toy", (Counted,), {"process_result": double})(values).reprocess()
    assert told == [4, 8]
    assert (tasks / "toy_output.jsonl").stat().st_ino != inode
    assert query(tasks, "SELECT generation FROM task") == [(2,)]
