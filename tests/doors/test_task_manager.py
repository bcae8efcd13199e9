"""A task from its first request to its last row."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gpt_batch_api.domain.errors import (
    OutputError,
    PayloadError,
    SafetyStop,
    SettingError,
    TaskCodeError,
    UserError,
    WrongServer,
)
from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.task_manager import (
    DataclassListOutputFile,
    DataclassOutputFile,
    GPTRequest,
    Result,
    Sample,
    TaskManager,
    TaskOutputFile,
)
from tests.toy import MODEL, ToyTask, batches_of, files_of, query, rows_of, sandbox, settings_for


def test_a_task_runs_to_its_output_file(server: SandboxProcess, tasks: Path) -> None:
    """Every request is answered once, every row stands once in the output, nothing is left on the server."""
    assert ToyTask(settings_for(server, tasks)).run()
    assert sorted(row["word"] for row in rows_of(tasks)) == [f"word-{index:05}" for index in range(8)]
    assert files_of(server, tasks) == []
    assert len(batches_of(server, tasks)) == 1


def test_running_a_complete_task_again_does_nothing(server: SandboxProcess, tasks: Path) -> None:
    """The same command may be repeated at will."""
    ToyTask(settings_for(server, tasks)).run()
    before = (tasks / "toy_output.jsonl").read_bytes()
    assert ToyTask(settings_for(server, tasks)).run()
    assert (tasks / "toy_output.jsonl").read_bytes() == before
    assert len(batches_of(server, tasks)) == 1


def test_samples_that_come_later_are_picked_up(server: SandboxProcess, tasks: Path) -> None:
    """A generator may yield more than last time; what is known is not asked again."""
    ToyTask(settings_for(server, tasks)).run()

    class MoreWords(ToyTask):
        count = 11

    MoreWords.__name__ = "ToyTask"
    assert MoreWords(settings_for(server, tasks)).run()
    assert len(rows_of(tasks)) == 11
    assert sum(batch["request_counts"]["total"] for batch in batches_of(server, tasks)) == 11


def test_payload_functions_are_called_only_for_new_requests(server: SandboxProcess, tasks: Path) -> None:
    """Making a payload may be expensive: a restart must not make those of known requests."""
    made: list[str] = []

    class LazyTask(ToyTask):
        def generate_requests(self) -> Iterable[GPTRequest]:
            def make(key: str) -> dict[str, Any]:
                made.append(key)
                return self.payload(key)

            for key in self.keys():
                yield GPTRequest(key, lambda key=key: make(key))  # type: ignore[misc]

    LazyTask(settings_for(server, tasks)).run()
    assert len(made) == 8
    LazyTask(settings_for(server, tasks)).run()
    assert len(made) == 8


def test_the_same_key_with_another_payload_is_refused(server: SandboxProcess, tasks: Path) -> None:
    """A silent mixture of two questions under one key would be worse than stopping."""
    ToyTask(settings_for(server, tasks)).run()

    class OtherQuestion(ToyTask):
        def payload(self, key: str) -> dict[str, Any]:
            return {**super().payload(key), "temperature": 1.5}

    OtherQuestion.__name__ = "ToyTask"
    with pytest.raises(PayloadError, match=r"'word-00000' was asked before with another payload.*--wipe_requests"):
        OtherQuestion(settings_for(server, tasks)).run()


def test_an_answer_can_be_sent_back(server: SandboxProcess, tasks: Path) -> None:
    """result.retry() asks again as another attempt of the same request."""
    attempts: list[int] = []

    class Picky(ToyTask):
        count = 1

        def process_result(self, result: Result, sample: Sample) -> None:
            attempts.append(result.attempt)
            if result.attempt < 3:
                result.retry("not yet")
            else:
                sample.emit({"attempt": result.attempt})

    assert Picky(settings_for(server, tasks), max_retries=2, max_pass_failures=9).run()
    assert attempts == [1, 2, 3]
    assert rows_of(tasks) == [{"attempt": 3}]


def test_a_retry_without_attempts_left_fails_with_its_reason(server: SandboxProcess, tasks: Path) -> None:
    """The task is not called a second time for it."""

    class NeverContent(ToyTask):
        count = 1

        def process_result(self, result: Result, sample: Sample) -> None:
            result.retry("never good enough")

    assert NeverContent(settings_for(server, tasks), max_retries=1, max_pass_failures=9).run()
    assert query(tasks, "SELECT state, reason, attempt FROM request") == [("failed", "rejected_by_task", 2)]
    assert query(tasks, "SELECT task_message FROM response ORDER BY id") == [("never good enough",)] * 2


def test_a_follow_up_is_asked_and_answered(server: SandboxProcess, tasks: Path) -> None:
    """sample.ask() adds a request with another purpose; sample.state carries what is needed between them."""

    class TwoSteps(ToyTask):
        count = 3

        def process_result(self, result: Result, sample: Sample) -> None:
            if result.purpose == "":
                sample.state["first"] = result.value.word
                sample.ask(GPTRequest(sample.key, self.payload(f"{sample.key}-again"), purpose="second"))
            else:
                sample.emit({"first": sample.state["first"], "second": result.value.word})

    assert TwoSteps(settings_for(server, tasks)).run()
    assert sorted(row["second"] for row in rows_of(tasks)) == [f"word-{index:05}-again" for index in range(3)]
    assert all(row["second"].startswith(row["first"]) for row in rows_of(tasks))


@dataclass
class Notes:
    """A typed sample state."""

    seen: int = 0


def test_the_state_of_a_sample_can_be_a_dataclass(server: SandboxProcess, tasks: Path) -> None:
    class Counting(ToyTask):
        count = 1
        state_type = Notes

        def process_result(self, result: Result, sample: Sample) -> None:
            sample.state.seen += 1
            if result.number < 2:
                sample.ask(GPTRequest(sample.key, self.payload(sample.key), number=result.number + 1))
            else:
                sample.emit({"seen": sample.state.seen})

    assert Counting(settings_for(server, tasks)).run()
    assert rows_of(tasks) == [{"seen": 3}]


def test_an_exception_of_the_tasks_code_names_sample_and_line(server: SandboxProcess, tasks: Path) -> None:
    """Nothing of the chunk is recorded, nothing paid is lost, and the corrected task continues there."""

    class Broken(ToyTask):
        def process_result(self, result: Result, sample: Sample) -> None:
            super().process_result(result, sample)
            if sample.key == "word-00005":
                raise ZeroDivisionError("oops")

    Broken.__name__ = "ToyTask"
    with pytest.raises(
        TaskCodeError, match=r"ZeroDivisionError for sample 'word-00005' at .*test_task_manager.py:\d+: oops"
    ):
        Broken(settings_for(server, tasks)).run()
    assert rows_of(tasks) == []
    assert ToyTask(settings_for(server, tasks)).run()
    assert len(rows_of(tasks)) == 8
    assert len(batches_of(server, tasks)) == 1, "answers were paid again"


def test_an_exception_of_the_generator_names_the_line(server: SandboxProcess, tasks: Path) -> None:
    class BrokenGenerator(ToyTask):
        def generate_requests(self) -> Iterable[GPTRequest]:
            yield from super().generate_requests()
            raise KeyError("no more input")

    with pytest.raises(TaskCodeError, match=r"generate_requests of BrokenGenerator raised KeyError at .*py:\d+"):
        BrokenGenerator(settings_for(server, tasks)).run()


def test_answers_that_do_not_fit_the_model_are_asked_again(tmp_path: Path, tasks: Path) -> None:
    """A broken JSON answer never reaches the task while there are attempts left."""
    plan = "lines: [{fault: broken_json, nth: [1, 2]}]\ntiming: {validating_s: 0, minimum_s: 0, finalizing_s: 0}\n"
    with sandbox(tmp_path / "server", plan) as rough:
        assert ToyTask(settings_for(rough, tasks)).run()
    assert len(rows_of(tasks)) == 8
    assert query(tasks, "SELECT count(*) FROM response WHERE reason = 'parse_failure'")[0][0] >= 1


def test_a_failed_request_reaches_the_task_once(tmp_path: Path, tasks: Path) -> None:
    """The final failure is a result too: result.ok is false, with the reason."""
    seen: list[tuple[str, str]] = []

    class Watching(ToyTask):
        def process_result(self, result: Result, sample: Sample) -> None:
            if not result.ok:
                seen.append((sample.key, result.reason))
            super().process_result(result, sample)

    plan = "lines: [{fault: status, status: 500, match: word-00003}]\ntiming: {validating_s: 0, minimum_s: 0, finalizing_s: 0}\n"
    with sandbox(tmp_path / "server", plan) as rough:
        assert Watching(settings_for(rough, tasks), max_retries=1).run()
    assert seen == [("word-00003", "server_error")]
    assert len(rows_of(tasks)) == 7


# ---------------------------------------------------------------- outputs


@dataclass
class Row:
    key: str
    word: str


@dataclass
class Document:
    title: str
    rows: list[Row]


class Rows(DataclassListOutputFile):
    Dataclass = Row


class Parts(DataclassListOutputFile):
    Dataclass = Row
    max_entries = 3


class Whole(DataclassOutputFile):
    Dataclass = Document


class Lines(TaskOutputFile):
    suffix = ".txt"

    def write(self, stream: Any, rows: Any) -> None:
        for row in rows:
            stream.write(f"{row['word']}\n".encode())


class RowTask(ToyTask):
    def process_result(self, result: Result, sample: Sample) -> None:
        sample.emit(Row(sample.key, result.value.word))

    def output_header(self) -> dict[str, str]:
        return {"title": "words"}


def with_output(kind: type[TaskOutputFile]) -> type[TaskManager]:
    return type("RowTask", (RowTask,), {"output_file": kind})


def test_list_outputs_can_be_read_back_without_the_task(server: SandboxProcess, tasks: Path) -> None:
    with_output(Rows)(settings_for(server, tasks)).run()
    rows = list(Rows.load(tasks / "toy_output"))
    assert len(rows) == 8
    assert all(isinstance(row, Row) for row in rows)


def test_list_outputs_can_be_cut_into_parts(server: SandboxProcess, tasks: Path) -> None:
    with_output(Parts)(settings_for(server, tasks)).run()
    assert sorted(path.name for path in tasks.glob("*part*")) == [
        f"toy_output_part{part:03}.jsonl" for part in (1, 2, 3)
    ]
    assert len(list(Parts.load(tasks / "toy_output"))) == 8


def test_document_outputs_have_header_and_rows_in_sample_order(server: SandboxProcess, tasks: Path) -> None:
    with_output(Whole)(settings_for(server, tasks)).run()
    document = Whole.load(tasks / "toy_output")
    assert document.title == "words"
    assert [row.key for row in document.rows] == [f"word-{index:05}" for index in range(8)]


def test_outputs_can_have_a_format_of_the_users_own(server: SandboxProcess, tasks: Path) -> None:
    with_output(Lines)(settings_for(server, tasks)).run()
    assert (tasks / "toy_output.txt").read_text().splitlines() == [f"word-{index:05}" for index in range(8)]


def test_a_row_of_the_wrong_type_is_refused(server: SandboxProcess, tasks: Path) -> None:
    class WrongRow(RowTask):
        output_file = Rows

        def process_result(self, result: Result, sample: Sample) -> None:
            sample.emit({"key": sample.key})

    with pytest.raises(TaskCodeError, match="it is a dict, but rows of Rows are Row"):
        WrongRow(settings_for(server, tasks)).run()


def test_an_output_changed_by_hand_is_not_touched(server: SandboxProcess, tasks: Path) -> None:
    ToyTask(settings_for(server, tasks)).run()
    path = tasks / "toy_output.jsonl"
    path.write_bytes(b"mine" + path.read_bytes()[4:])
    with pytest.raises(OutputError, match=r"toy_output.jsonl was changed by hand.*Move it away"):
        ToyTask(settings_for(server, tasks)).run()
    path.unlink()
    assert ToyTask(settings_for(server, tasks)).run()
    assert len(rows_of(tasks)) == 8


def test_an_output_file_of_somebody_else_is_not_overwritten(server: SandboxProcess, tasks: Path) -> None:
    (tasks / "toy_output.jsonl").write_text("precious\n")
    with pytest.raises(OutputError, match="exists already, but this task is new"):
        ToyTask(settings_for(server, tasks)).run()
    assert (tasks / "toy_output.jsonl").read_text() == "precious\n"


@pytest.mark.parametrize(("mode", "calls"), [("never", [0, 0]), ("if_written", [1, 1]), ("always", [1, 2])])
def test_postprocessing_is_called_as_the_setting_says(
    server: SandboxProcess, tasks: Path, mode: str, calls: list[int]
) -> None:
    done: list[Path] = []

    class Post(ToyTask):
        def postprocess_output(self, output: TaskOutputFile) -> None:
            done.append(output.path)

    counts = []
    for _ in range(2):
        Post(settings_for(server, tasks), postprocess_output=mode).run()
        counts.append(len(done))
    assert counts == calls


# ---------------------------------------------------------------- what bad input gets


def test_a_missing_key_is_an_error_never_a_sandbox(tasks: Path) -> None:
    with pytest.raises(SettingError, match=r"There is no API key: set OPENAI_API_KEY.*--sandbox"):
        ToyTask(task_dir=tasks).run()


def test_a_wrong_key_is_told_and_nothing_is_lost(server: SandboxProcess, tasks: Path) -> None:
    task = ToyTask(settings_for(server, tasks), openai_api_key="sk-wrong")
    with pytest.raises(Exception, match="refuses this account: invalid_api_key") as caught:
        task.run()
    assert "sk-wrong" not in str(caught.value)
    assert ToyTask(settings_for(server, tasks)).run()


def test_a_task_dir_without_parent_is_refused(server: SandboxProcess, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"task_dir is .*/no/tasks, but the folder .*/no does not exist either"):
        ToyTask(settings_for(server, tmp_path / "no" / "tasks")).run()


def test_a_task_dir_is_made_only_if_wanted(server: SandboxProcess, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="autocreate_working_dir is off"):
        ToyTask(settings_for(server, tmp_path / "new"), autocreate_working_dir=False).run()
    assert ToyTask(settings_for(server, tmp_path / "new")).run()


def test_a_request_heavier_than_a_whole_batch_is_refused_before_it_is_stored(
    server: SandboxProcess, tasks: Path
) -> None:
    class Long(ToyTask):
        def payload(self, key: str) -> dict[str, Any]:
            words = "word " * 2000 if key == "word-00003" else "word"
            return {"model": MODEL, "messages": [{"role": "user", "content": words}]}

    Long.__name__ = "ToyTask"
    with pytest.raises(
        PayloadError, match=r"Request 'word-00003' alone needs 2,0\d\d tokens, but max_batch_ktokens is 1\.0.*"
    ):
        Long(settings_for(server, tasks), max_batch_ktokens=1.0).run()
    assert query(
        tasks, "SELECT count(*) FROM request JOIN sample ON sample.id = sample_id WHERE key = 'word-00003'"
    ) == [(0,)]


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"messages": [{"role": "user", "content": "hi"}]}, "names no model"),
        ({"model": MODEL}, "has no messages"),
        ({"model": MODEL, "messages": []}, "has no messages"),
        ({"model": MODEL, "messages": [{"role": "user", "content": {1, 2}}]}, r"not JSON at messages\[0\].content"),
        ({"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": True}, "asks for streaming"),
        ({"model": "gpt-99", "messages": [{"role": "user", "content": "hi"}]}, "gpt-99"),
        (
            {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "response_format": dict},
            "is no pydantic model",
        ),
    ],
)
def test_a_payload_that_cannot_be_sent_is_refused_with_one_line(
    server: SandboxProcess, tasks: Path, payload: dict[str, Any], message: str
) -> None:
    class Bad(ToyTask):
        def generate_requests(self) -> Iterable[GPTRequest]:
            yield GPTRequest("bad", payload)

    with pytest.raises(UserError, match=message) as caught:
        Bad(settings_for(server, tasks)).run()
    assert "\n" not in str(caught.value)


def test_something_else_than_requests_is_refused(server: SandboxProcess, tasks: Path) -> None:
    class Wrong(ToyTask):
        def generate_requests(self) -> Any:
            yield {"key": 1}

    with pytest.raises(PayloadError, match="requests must be GPTRequest objects"):
        Wrong(settings_for(server, tasks)).run()


def test_an_unknown_endpoint_is_refused(server: SandboxProcess, tasks: Path) -> None:
    with pytest.raises(SettingError, match=r"endpoint is '/v1/nothing', but only /v1/chat/completions is supported"):
        ToyTask(settings_for(server, tasks), endpoint="/v1/nothing").run()


def test_files_of_another_task_class_are_refused(server: SandboxProcess, tasks: Path) -> None:
    ToyTask(settings_for(server, tasks)).run()

    class Other(ToyTask):
        pass

    with pytest.raises(UserError, match="belong to a task of class ToyTask, not Other"):
        Other(settings_for(server, tasks)).run()


def test_another_server_is_refused_while_something_is_on_the_first(tmp_path: Path, tasks: Path) -> None:
    """Batches of the first server would be lost from sight."""
    slow = "timing: {validating_s: 100000}\n"
    with sandbox(tmp_path / "first", slow) as first, sandbox(tmp_path / "second") as second:
        assert not ToyTask(settings_for(first, tasks), once=True).run()
        with pytest.raises(WrongServer, match=r"1 of this task's batches are on the sandbox .* Use that server again"):
            ToyTask(settings_for(second, tasks)).run()


def test_a_task_of_a_sandbox_never_goes_to_a_provider(server: SandboxProcess, tasks: Path) -> None:
    """Made-up answers and real ones are never mixed, even when nothing is under way any more."""
    ToyTask(settings_for(server, tasks)).run()
    with pytest.raises(WrongServer, match=r"was begun with the sandbox .* must not be mixed"):
        ToyTask(task_dir=tasks, openai_api_key="sk-real").run()


# ---------------------------------------------------------------- metadata


def test_metadata_are_captured_once(server: SandboxProcess, tasks: Path, log: pytest.LogCaptureFixture) -> None:
    ToyTask(settings_for(server, tasks), max_completion_tokens=50, max_session_requests=0).run()
    task = ToyTask(settings_for(server, tasks), max_completion_tokens=60)
    assert task.run()
    assert task.meta["max_completion_tokens"] == 50
    assert "max_completion_tokens is 60 in this run, but the task was created with 50, which stays" in log.text


def test_reinit_meta_captures_them_anew_and_keeps_what_was_asked(server: SandboxProcess, tasks: Path) -> None:
    """Known requests keep their payload; new ones are asked the new way."""
    ToyTask(settings_for(server, tasks), max_completion_tokens=50).run()

    class More(ToyTask):
        count = 10

    More.__name__ = "ToyTask"
    assert More(settings_for(server, tasks), max_completion_tokens=60, reinit_meta=True).run()
    assert query(tasks, "SELECT max_output_tokens, count(*) FROM request GROUP BY 1 ORDER BY 1") == [(50, 8), (60, 2)]


def test_metadata_stand_in_the_store_as_they_were_captured(server: SandboxProcess, tasks: Path) -> None:
    ToyTask(settings_for(server, tasks), temperature=0.5).run()
    assert json.loads(query(tasks, "SELECT metadata FROM task")[0][0]) == {"model": MODEL, "max_completion_tokens": 100}


def test_no_secret_is_stored(server: SandboxProcess, tasks: Path) -> None:
    """Neither key, nor organisation, nor project stands in any file of the task."""
    secrets = {"openai_api_key": "sk-very-secret", "openai_organization": "org-hidden", "openai_project": "proj-hidden"}
    ToyTask({**settings_for(server, tasks), **secrets}).run()
    for path in tasks.iterdir():
        content = path.read_bytes()
        assert b"sk-very-secret" not in content, path.name


def test_a_safety_stop_is_raised_with_its_reason(tmp_path: Path, tasks: Path) -> None:
    plan = (
        "lines: [{fault: status, status: 400, code: bad, message: no good, match: word-00002}]\n"
        "timing: {validating_s: 0, minimum_s: 0, finalizing_s: 0}\n"
    )
    with sandbox(tmp_path / "server", plan) as strict:
        with pytest.raises(
            SafetyStop, match=r"Batch 1 failed: 1 of its 8 requests cannot succeed; the first: 'word-00002'"
        ):
            ToyTask(settings_for(strict, tasks)).run()
        assert len(rows_of(tasks)) == 7, "good rows are delivered at once"
        assert ToyTask(settings_for(strict, tasks), process_failed_batches=1).run()
    assert query(tasks, "SELECT state, count(*) FROM request GROUP BY 1 ORDER BY 1") == [
        ("failed", 1),
        ("succeeded", 7),
    ]
