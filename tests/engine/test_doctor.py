"""`gpt-batch-api doctor`: a healthy task is called healthy at every moment, each kind of damage is named, nothing changes."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from filelock import FileLock

from gpt_batch_api.cli.main import main
from gpt_batch_api.domain.health import Check, Diagnosis, Health
from gpt_batch_api.domain.workplace import Workplace
from gpt_batch_api.engine.doctor import examine
from gpt_batch_api.monitor.health import health_lines
from gpt_batch_api.sandbox.child import SandboxProcess
from gpt_batch_api.store.checkup import RULES
from gpt_batch_api.store.connection import Store
from gpt_batch_api.task_manager import TaskOutputFile
from tests.crash import jobs
from tests.crash.harness import KILLED, edges_of, run
from tests.toy import ToyTask, query, sandbox, settings_for


def diagnose(folder: Path) -> Diagnosis:
    """What the doctor says; the folder must be as it was afterwards, to the byte."""
    before = content(folder)
    diagnosis = examine(Workplace(folder, "toy"))
    assert content(folder) == before, "the check left a trace"
    return diagnosis


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def check_of(diagnosis: Diagnosis, name: str) -> Check:
    (found,) = [check for check in diagnosis.checks if check.name == name]
    return found


def not_ok(diagnosis: Diagnosis) -> dict[str, Health]:
    return {check.name: check.health for check in diagnosis.checks if check.health is not Health.OK}


class SortedLines(TaskOutputFile):
    """JSON lines that the task writes itself: rows in the order of their samples, as one value each."""

    suffix = ".jsonl"

    def write(self, stream: BinaryIO, rows: Iterator[dict[str, Any]]) -> None:
        stream.writelines(b'"%s"\n' % row["key"].encode() for row in rows)


class SortedLinesTask(jobs.FourWords):
    output_file = SortedLines


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    """A sandbox for this module."""
    with sandbox(tmp_path_factory.mktemp("doctor")) as process:
        yield process


@pytest.fixture
def done(quick: SandboxProcess, tasks: Path) -> Path:
    """The folder of a complete task: 8 requests in 2 batches."""
    assert jobs.two_batches(tasks, quick.url) == 0
    return tasks


@pytest.fixture
def prepared(quick: SandboxProcess, tasks: Path) -> Path:
    """The folder of a task with two batches that are still to be pushed."""
    assert jobs.two_batches(tasks, quick.url, max_remote_batches=0) == 3
    return tasks


# ---------------------------------------------------------------- healthy


def test_a_complete_task_is_healthy_in_every_check(done: Path) -> None:
    diagnosis = diagnose(done)
    assert not_ok(diagnosis) == {}
    assert health_lines(diagnosis)[0] == "Task toy (ToyTask): healthy"
    assert check_of(diagnosis, "counts").found == ("8 requests of 8 samples",)
    assert check_of(diagnosis, "output").found == ("8 rows in 1 file, as delivered",)


def test_a_prepared_task_is_healthy_in_every_check(prepared: Path) -> None:
    diagnosis = diagnose(prepared)
    assert not_ok(diagnosis) == {}
    assert check_of(diagnosis, "batch files").found == ("2 batches to be pushed",)


@pytest.mark.parametrize("half", [False, True], ids=["done", "half done"])
def test_a_store_of_the_first_schema_is_healthy_before_and_after_its_migration(
    quick: SandboxProcess, tasks: Path, half: bool
) -> None:
    """Its copy is nobody's work file; what its answers teach is there."""
    assert (jobs.one_batch if half else jobs.two_batches)(tasks, quick.url) == (3 if half else 0)
    jobs.back_to_first_schema(tasks, quick.url)
    assert diagnose(tasks).healthy
    assert jobs.migration(tasks, quick.url) == 0
    assert (tasks / "toy_state.schema1.db").exists()
    diagnosis = diagnose(tasks)
    assert not_ok(diagnosis) == {}
    assert check_of(diagnosis, "lengths").found == ("learnt from 8 answers",)


def test_answers_that_were_not_to_be_kept_are_not_missed(quick: SandboxProcess, tasks: Path) -> None:
    """Not even those of other runs: nobody knows which run let go of them. What waits for the task's code is."""
    assert jobs.two_batches(tasks, quick.url, keep_responses=False) == 0
    assert not query(tasks, "SELECT 1 FROM raw_response")
    diagnosis = diagnose(tasks)
    assert not_ok(diagnosis) == {}
    assert check_of(diagnosis, "contents").found == ("8 payloads and 0 answers can be read",)
    change(tasks, "UPDATE response SET handed = 0, task_verdict = NULL WHERE id = 3")
    assert check_of(diagnose(tasks), "contents").found == ("1 good answers were not kept as they came: word-00002",)


@pytest.mark.parametrize("job", [jobs.dedupe, jobs.retries, jobs.expiry, jobs.opinions, jobs.mixed])
def test_a_job_of_any_kind_is_healthy_when_it_is_done(
    quick: SandboxProcess, tasks: Path, job: Callable[[Path, str], int]
) -> None:
    assert job(tasks, quick.url) == 0
    assert not_ok(diagnose(tasks)) == {}


def test_samples_that_succeeded_without_a_row_are_told_and_no_fault(quick: SandboxProcess, tasks: Path) -> None:
    """A task need not make a row of each sample."""
    assert jobs.run_toy(jobs.PairsTask, tasks, quick.url) == 0
    diagnosis = diagnose(tasks)
    assert not_ok(diagnosis) == {}
    assert check_of(diagnosis, "rows").found == ("3 rows, 3 delivered", "1 sample succeeded without a row")
    assert "                          1 sample succeeded without a row" in health_lines(diagnosis)


def test_a_new_store_is_healthy(tasks: Path) -> None:
    Store.open(tasks / "toy_state.db").close()
    assert check_of(diagnose(tasks), "store").found == ("the task has not begun",)


@pytest.mark.crash
@pytest.mark.parametrize(
    ("job", "begun"),
    [(jobs.two_batches, False), (jobs.direct, False), (jobs.document, False), (jobs.wipe_requests, True)],
)
def test_after_a_kill_at_any_edge_nothing_is_wrong(
    quick: SandboxProcess, tmp_path: Path, job: Callable[[Path, str], int], begun: bool
) -> None:
    """What a kill leaves half done is left to the next run, and after that all is well."""

    def prepare(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        if begun:
            assert run(jobs.one_batch, folder, quick.url) == 3
            assert run(jobs.two_batches, folder, quick.url, kill_at="before GET content") == KILLED
        return folder

    edges = edges_of(job, prepare("calm"), quick.url, record=tmp_path / "edges")
    for number in range(8, len(edges), len(edges) // 12):
        folder = prepare(f"edge{number}")
        assert run(job, folder, quick.url, kill_at=number) == KILLED
        diagnosis = diagnose(folder)
        assert diagnosis.healthy, "\n".join([edges[number - 1], *health_lines(diagnosis)])
        assert run(job, folder, quick.url) == 0
        assert not_ok(diagnose(folder)) == {}


# ---------------------------------------------------------------- left to the next run


def killed(quick: SandboxProcess, folder: Path, job: Callable[[Path, str], int], at: int | str) -> Diagnosis:
    assert run(job, folder, quick.url, kill_at=at) == KILLED
    diagnosis = diagnose(folder)
    assert health_lines(diagnosis)[0].endswith("healthy; the next run finishes what was left half done")
    assert "ended without a word" in check_of(diagnosis, "lock").found[0]
    return diagnosis


def test_calls_in_flight_at_a_kill_are_told_with_what_they_reserve(quick: SandboxProcess, tasks: Path) -> None:
    diagnosis = killed(quick, tasks, jobs.direct, "after POST completions")
    (reserved,) = query(tasks, "SELECT count(*), sum(reserved_pico) FROM direct_call")
    text = check_of(diagnosis, "direct calls").found[0]
    assert text.startswith(f"{reserved[0]} calls in flight when a run ended")
    assert "will count as spent, and they will be asked again" in text


@pytest.mark.parametrize(("at", "state"), [("after POST files", "uploading"), ("after POST batches", "creating")])
def test_a_push_in_doubt_is_told(quick: SandboxProcess, tasks: Path, at: str, state: str) -> None:
    diagnosis = killed(quick, tasks, jobs.two_batches, at)
    assert not_ok(diagnosis) == {"pushes": Health.NEXT_RUN}
    assert check_of(diagnosis, "pushes").found == (
        f"batch 1 was being pushed ({state}) when a run ended; the server will be asked about it",
    )


def test_a_wipe_that_was_interrupted_is_told(quick: SandboxProcess, tasks: Path) -> None:
    assert jobs.one_batch(tasks, quick.url) == 3
    assert run(jobs.two_batches, tasks, quick.url, kill_at="before GET content") == KILLED
    diagnosis = killed(quick, tasks, jobs.wipe_requests, "before GET content")
    assert check_of(diagnosis, "wipe").found == ("a wipe (requests) was begun and is not finished; it will be",)


def test_files_on_the_server_that_nobody_needs_are_told(quick: SandboxProcess, tasks: Path, tmp_path: Path) -> None:
    edges = edges_of(jobs.two_batches, tmp_path, quick.url, record=tmp_path / "edges")
    deletion = next(number for number, edge in enumerate(edges, start=1) if edge.startswith("before DELETE"))
    diagnosis = killed(quick, tasks, jobs.two_batches, deletion)
    assert check_of(diagnosis, "server files").found == ("2 files on the server not needed any more, to be deleted",)


def test_what_stands_behind_the_delivered_position_is_told(quick: SandboxProcess, done: Path) -> None:
    """And the next run does what is told, though the task is complete."""
    with (done / "toy_output.jsonl").open("a") as stream:
        stream.write('{"half')
    output = check_of(diagnose(done), "output")
    assert output.health is Health.NEXT_RUN
    assert output.found == ("toy_output.jsonl has 6 bytes behind the delivered rows; they will be cut off",)
    assert jobs.two_batches(done, quick.url) == 0
    assert check_of(diagnose(done), "output").found == ("8 rows in 1 file, as delivered",)
    assert len((done / "toy_output.jsonl").read_text(encoding="utf-8").splitlines()) == 8


def test_a_part_that_no_position_speaks_of_is_told(quick: SandboxProcess, tasks: Path) -> None:
    """And the next run removes it."""
    assert jobs.parts(tasks, quick.url) == 0
    (tasks / "toy_output_part003.jsonl").write_text('{"key": "stray"}\n', encoding="utf-8")
    output = check_of(diagnose(tasks), "output")
    assert output.health is Health.NEXT_RUN
    assert output.found == ("toy_output_part003.jsonl is a part that holds no delivered row; it will be removed",)
    assert jobs.parts(tasks, quick.url) == 0
    assert not_ok(diagnose(tasks)) == {}


def test_an_output_that_is_gone_is_told(done: Path) -> None:
    (done / "toy_output.jsonl").unlink()
    assert not_ok(diagnose(done)) == {"output": Health.NEXT_RUN}


def test_a_batch_file_that_is_gone_or_changed_is_told(prepared: Path) -> None:
    first, second = sorted(prepared.glob("toy_batch*.jsonl"))
    first.unlink()
    second.write_bytes(second.read_bytes().replace(b"Tell", b"Sell"))
    found = check_of(diagnose(prepared), "batch files")
    assert found.health is Health.NEXT_RUN
    assert found.found == (
        f"{first.name} is gone; it will be written again before it is pushed",
        f"{second.name} was changed; the batch will be pushed as it was sealed",
    )


def test_a_work_file_that_nothing_refers_to_is_told(done: Path) -> None:
    uuid = query(done, "SELECT uuid FROM task")[0][0]
    (done / f"toy_spool7_{uuid[:8]}_output.jsonl.part").write_text("left")
    found = check_of(diagnose(done), "work files")
    assert found.health is Health.NEXT_RUN
    assert "belongs to no batch under way; it will be removed" in found.found[0]


# ---------------------------------------------------------------- wrong


def change(folder: Path, *statements: str) -> None:
    """Change the store as this library never would: behind the back of its triggers."""
    with closing(sqlite3.connect(folder / "toy_state.db")) as db:
        db.execute("PRAGMA ignore_check_constraints = ON")  # they would refuse some of it
        triggers = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            db.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            assert db.execute(statement).rowcount != 0, f"changes nothing: {statement}"
        for _, sql in triggers:
            db.execute(sql)
        db.commit()


DAMAGE = {
    "a tally": (
        "UPDATE tally SET requests = requests + 1 WHERE state = 'succeeded'",
        "counts",
        "1 tallies are not the sums of their requests: succeeded gpt-4o-mini",
    ),
    "a sample's counts": (
        "UPDATE sample SET open = 0, succeeded = 2 WHERE key = 'word-00003'",
        "counts",
        "1 samples do not count their requests right: word-00003",
    ),
    "a tally of samples": (
        "DELETE FROM sample_tally",
        "counts",
        "1 tallies are not the sums of their samples: succeeded",
    ),
    "a count of reasons": (
        "INSERT INTO bad_end VALUES ('failed', 'refused', 2)",
        "counts",
        "1 requests that are held or have failed are not counted right by reason: failed refused",
    ),
    "a sum of batches": (
        "UPDATE settled SET true_cost_pico = true_cost_pico + 1",
        "counts",
        "1 sums of settled batches and direct groups are not the sums of them: batch",
    ),
    "an answer as it came": (
        "DELETE FROM raw_response WHERE response_id = 1",
        "contents",
        "1 good answers were not kept as they came: word-00000",
    ),
    "all answers as they came": (
        "DELETE FROM raw_response",
        "contents",
        "8 good answers were not kept as they came: word-00000, word-00001, word-00002 …",
    ),
    "what an answer says": (
        "UPDATE raw_response SET body = substr(body, 1, length(body) - 1) WHERE response_id IN (2, 3)",
        "contents",
        "2 answers cannot be read as they came: word-00001, word-00002",
    ),
    "what a payload asks": (
        "UPDATE payload SET body = CAST(x'00' || '{}' AS BLOB) WHERE request_id = 4",
        "contents",
        "1 payloads are not what was asked: word-00003",
    ),
    "the state of a sample": (
        """UPDATE sample SET state = '{"half' WHERE id = 5""",
        "contents",
        "1 states of samples cannot be read: word-00004",
    ),
    "a request's state": (
        "UPDATE request SET state = 'lost' WHERE id = 1",
        "requests",
        "1 requests are in no legal state: word-00000",
    ),
    "a payload": ("DELETE FROM payload WHERE request_id = 2", "requests", "1 requests have no payload: word-00001"),
    "a call without a request": (
        "INSERT INTO direct_call VALUES (1, 1, 'direct', 0, 0)",
        "requests",
        "1 requests are sending without a call, or have a call without sending: word-00000",
    ),
    "an answer to show": (
        "UPDATE request SET state = 'answered' WHERE id = 1",
        "requests",
        "1 requests are answered, but no answer of theirs waits for the task's code: word-00000",
    ),
    "an answer": (
        "DELETE FROM response WHERE request_id = 1",
        "requests",
        "1 requests are final, but the task's code has not seen their answer: word-00000",
    ),
    "a count of answers": (
        "UPDATE request SET tries = 4 WHERE id = 1",
        "requests",
        "1 requests do not count their answers right: word-00000",
    ),
    "a batch that is over": (
        "UPDATE request SET state = 'batched', batch_id = 1, line = 1 WHERE id = 1",
        "requests",
        "1 requests are batched, but their batch is over: word-00000",
    ),
    "a batch's state": (
        "UPDATE batch SET state = 'lost' WHERE id = 1",
        "batches",
        "1 batches are in no legal state: batch 1",
    ),
    "a batch's requests": (
        "UPDATE batch SET state = 'ended' WHERE id = 2",
        "batches",
        "1 batches do not hold the requests that they were made of: batch 2",
    ),
    "a push's state": ("UPDATE push SET state = 'lost in space'", "batches", "2 pushes are in no legal state"),
    "an open push": (
        "UPDATE push SET state = 'creating' WHERE id = 1",
        "batches",
        "1 batches are being pushed without an open push, or have one without being pushed: batch 1",
    ),
    "a remote id": (
        "UPDATE batch SET state = 'settled', remote_id = 'batch_other' WHERE id = 1",
        "batches",
        "1 batches are on the server under an id that no push of theirs created: batch 1",
    ),
    "files on the server": (
        "DELETE FROM server_file",
        "batches",
        "2 batches have files on the server that are not remembered: batch 1, batch 2",
    ),
    "a result file on the server": (
        "DELETE FROM server_file WHERE role = 'output' AND batch_id = 2",
        "batches",
        "1 batches have files on the server that are not remembered: batch 2",
    ),
    "an account": (
        "UPDATE account SET spent_pico = spent_pico + 1",
        "money",
        "1 accounts are not the sums of their ledger lines: session 1",
    ),
    "what was spent": (
        "UPDATE ledger SET spent_pico = spent_pico - 1 WHERE kind = 'settle' AND batch_id = 1",
        "money",
        "1 sums differ: what the ledger calls spent is not what all answers cost, and what has no answer to show for it",
    ),
    "costs of answers in two batches": (
        "UPDATE response SET cost_pico = cost_pico + iif(id = 1, 3, -3) WHERE id IN (1, (SELECT max(id) FROM response))",
        "money",
        "2 batches or direct groups cost, or used, something else than their answers: batch 1, batch 2",
    ),
    "costs of equal answers": (
        "UPDATE response SET output_tokens = 9, cost_pico = iif(id = 1, 7, 8) WHERE batch_id = 1",
        "money",
        "1 answers of one batch that used the same cost different amounts: batch 1",
    ),
    "a cost of nothing": (
        "UPDATE response SET input_tokens = 0, output_tokens = 0, cached_tokens = 0, cache_write_tokens = 0 WHERE id = 2",
        "money",
        "1 answers cost something, though they used nothing: word-00001",
    ),
    "what it was for": (
        "UPDATE spending SET cost_pico = cost_pico + 1",
        "money",
        "1 spending is not the sum of the answers: gpt-4o-mini ok",
    ),
    "what was learnt": (
        "UPDATE answer_kind SET output_tokens = output_tokens + 1",
        "lengths",
        "1 kinds of requests have learnt other lengths than their answers show: gpt-4o-mini",
    ),
    "a kind": (
        "UPDATE answer_kind SET max_output_tokens = 7",
        "lengths",
        "1 kinds of requests have learnt other lengths than their answers show: gpt-4o-mini",
    ),
    "a count of lengths": (
        "UPDATE answer_length SET answers = answers + 1",
        "lengths",
        "1 kinds of requests count other answers by length than all together: gpt-4o-mini",
    ),
    "a reservation": (
        "DELETE FROM ledger WHERE kind = 'settle' AND batch_id = 1",
        "money",
        "1 batches reserve something else than what they were sealed with while they are under way: batch 1",
    ),
    "a direct reservation": (
        "INSERT INTO ledger (at, era, session_id, kind, reserved_pico) VALUES (0, 1, 1, 'reserve', 5)",
        "money",
        "1 reservation differs from that of the direct calls under way: 5 reserved, 0 for calls (picodollars)",
    ),
    "whose row it is": (
        "UPDATE output SET sample_id = 5 WHERE id = 1",
        "rows",
        "1 rows of the output come from a request of another sample: row 1",
    ),
    "a delivered row": (
        "DELETE FROM output WHERE id = 3",
        "rows",
        "1 delivered parts count other rows than the store has: toy_output.jsonl (8 delivered, 7 there)",
    ),
    "the last delivered row": (
        "DELETE FROM output WHERE id = 8",
        "rows",
        "1 delivered parts end with a row that the store does not have: toy_output.jsonl (row 8)",
    ),
    "a row that is no row": (
        "UPDATE output SET row = '[1]' WHERE id = 2",
        "rows",
        "1 rows of the output are no JSON objects: word-00001",
    ),
    "what a row says": (
        "UPDATE output SET row = replace(row, 'word-00002', 'word-00009') WHERE id = 3",
        "rows",
        "toy_output.jsonl: other rows were delivered than the store has (their checksum is another)",
    ),
    "how long a row is": (
        "UPDATE output SET row = replace(row, 'word-00002', 'word') WHERE id = 3",
        "rows",
        " bytes were delivered, the rows of the store make ",
    ),
    "what is left to do": (
        "INSERT INTO output (sample_id, row) VALUES (1, '{}')",
        "rows",
        "1 things are left to do, though the task counts as complete: row 9",
    ),
    "a reference": ("DELETE FROM sample WHERE id = 4", "references", "1 rows of request point to no sample"),
    "an index": ("DROP INDEX output_sample", "schema", "the index output_sample is missing"),
    "a table": ("CREATE TABLE mine (text TEXT)", "schema", "the table mine is not ours"),
    "legal moves": ("DELETE FROM legal_move", "schema", "the table of legal moves is not that of this version"),
}


@pytest.mark.parametrize(("tokens", "health"), [(1, Health.OK), (-1, Health.WRONG)])
def test_after_a_wipe_more_may_be_learnt_than_the_answers_left_show_but_not_less(
    done: Path, tokens: int, health: Health
) -> None:
    """What was learnt of answers that are wiped stays."""
    change(done, "UPDATE task SET epoch = 2", f"UPDATE answer_kind SET output_tokens = output_tokens + {tokens}")
    assert check_of(diagnose(done), "lengths").health is health


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_of_the_store_is_named(done: Path, name: str) -> None:
    """Done to the rows behind the back of the triggers."""
    statement, check, words = DAMAGE[name]
    change(done, statement)
    diagnosis = diagnose(done)
    assert not diagnosis.healthy
    found = check_of(diagnosis, check)
    assert found.health is Health.WRONG
    assert any(words in text for text in found.found), found.found
    assert found.mended_by


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        (
            "UPDATE output SET row = replace(row, 'word-00003', 'word-00009') WHERE id = 4",
            ("toy_output_part002.jsonl: other rows were delivered than the store has (their checksum is another)",),
        ),
        (
            "UPDATE delivery SET rows = 2",
            (
                "2 delivered parts count other rows than the store has: toy_output_part001.jsonl (2 delivered, 3 there), "
                "toy_output_part002.jsonl (2 delivered, 1 there)",
            ),
        ),
        ("UPDATE delivery SET last_output = 2 WHERE part = 1", None),
    ],
    ids=["a row of the second part", "rows moved between parts", "the end of a part"],
)
def test_of_an_output_in_parts_each_must_be_as_the_rows_make_it(
    quick: SandboxProcess, tasks: Path, statement: str, found: tuple[str, ...] | None
) -> None:
    assert jobs.parts(tasks, quick.url) == 0
    assert not_ok(diagnose(tasks)) == {}
    change(tasks, statement)
    rows = check_of(diagnose(tasks), "rows")
    assert rows.health is Health.WRONG
    assert found is None or rows.found == found
    assert all("toy_output_part00" in text for text in rows.found)


@pytest.mark.parametrize("kind", [SortedLinesTask, jobs.DocumentTask])
def test_an_output_that_its_task_writes_whole_is_not_compared_byte_for_byte(
    quick: SandboxProcess, tasks: Path, kind: type[ToyTask]
) -> None:
    """Also if it happens to be JSON lines. Its rows are counted."""
    assert jobs.run_toy(kind, tasks, quick.url) == 0
    assert not_ok(diagnose(tasks)) == {}
    change(tasks, "DELETE FROM output WHERE id = 2")
    (text,) = check_of(diagnose(tasks), "rows").found
    assert text.startswith("1 delivered parts count other rows than the store has: toy_output.json")


@pytest.mark.parametrize("back", ["reprocess", "wipe_failed"])
def test_rows_that_were_taken_back_and_made_anew_are_as_delivered(
    quick: SandboxProcess, tasks: Path, back: str
) -> None:
    """Their numbers have gaps then, and the parts are of a later generation."""
    if back == "reprocess":
        assert jobs.with_a_mistake(tasks, quick.url) == 0
        assert jobs.reprocess(tasks, quick.url) == 0
    else:
        assert jobs.run_toy(jobs.BuggyPairsTask, tasks, quick.url) == 0
        assert jobs.wipe_pairs(tasks, quick.url) == 0
    assert not_ok(diagnose(tasks)) == {}


def test_a_trigger_that_is_gone_or_changed_is_named(done: Path) -> None:
    query(done, "DROP TRIGGER ledger_is_final")
    query(done, "DROP TRIGGER ledger_is_kept")
    query(done, "CREATE TRIGGER ledger_is_kept BEFORE DELETE ON ledger BEGIN SELECT 1; END")
    assert check_of(diagnose(done), "schema").found == (
        "the trigger ledger_is_final is missing",
        "the trigger ledger_is_kept was changed",
    )


def test_every_rule_is_broken_by_some_damage() -> None:
    """A rule that nothing breaks would not be missed."""
    complaints = {rule.complaint for rule in RULES}
    named = {complaint for complaint in complaints if any(complaint[:60] in words for _, _, words in DAMAGE.values())}
    assert named == complaints


def test_an_output_that_was_changed_is_named(done: Path) -> None:
    path = done / "toy_output.jsonl"
    path.write_bytes(path.read_bytes().replace(b"word-00002", b"word-00009"))
    output = check_of(diagnose(done), "output")
    assert output.health is Health.WRONG
    assert output.found == ("toy_output.jsonl was changed after it was delivered (its checksum is another)",)
    assert output.mended_by == "Move the file away: the next run writes it anew from the store."


def test_an_output_that_was_cut_is_named(done: Path) -> None:
    os.truncate(done / "toy_output.jsonl", 10)
    (found,) = check_of(diagnose(done), "output").found
    assert found.startswith("toy_output.jsonl has 10 bytes, ")


def test_pages_that_are_overwritten_are_named(done: Path) -> None:
    store = done / "toy_state.db"
    with store.open("r+b") as stream:
        stream.seek(4096 * 8)
        stream.write(bytes(4096 * 20))
    diagnosis = diagnose(done)
    assert not diagnosis.healthy
    assert check_of(diagnosis, "store").health is Health.WRONG


def test_pages_that_nothing_uses_any_more_are_a_line_each(done: Path) -> None:
    """Without the heading that SQLite puts above them."""
    with closing(sqlite3.connect(done / "toy_state.db")) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("DELETE FROM sqlite_schema WHERE name IN ('event', 'event_kind')")
        db.commit()
    found = check_of(diagnose(done), "store").found
    assert len(found) > 1
    assert all(re.match(r"Page \d+", text) for text in found)
    assert len(health_lines(diagnose(done))) == 1 + len(found) + 1 + 1  # the verdict, what mends it, the lock


@pytest.mark.parametrize(
    ("table", "column", "rows"),
    [
        ("task", "metadata", 1),
        ("task", "server", 1),
        ("session", "settings", 1),
        ("response_schema", "json", 1),
        ("request", "meta", 8),
        ("batch", "report", 2),
        ("event", "data", None),
    ],
)
def test_json_that_is_none_is_named(done: Path, table: str, column: str, rows: int | None) -> None:
    """Everything else is read with it: nothing more can be told."""
    if table == "response_schema":
        change(done, "INSERT INTO response_schema (name, json, python) VALUES ('Answer', '{', '')")
    else:
        change(done, f"UPDATE {table} SET {column} = '{{'")
    diagnosis = diagnose(done)
    (text,) = check_of(diagnosis, "store").found
    assert text.endswith(f" rows of {table} have a {column} that is no JSON")
    assert rows is None or text.startswith(f"{rows} ")
    assert [check.name for check in diagnosis.checks] == ["store", "lock"]


def test_a_store_of_a_newer_version_is_named(done: Path) -> None:
    query(done, "PRAGMA user_version = 99")
    (text,) = check_of(diagnose(done), "store").found
    assert text.startswith("The store toy_state.db was written by a newer gpt_batch_api (schema 99")


def test_something_else_than_a_store_is_named(tasks: Path) -> None:
    (tasks / "toy_state.db").write_text("my diary\n" * 1000)
    (text,) = check_of(diagnose(tasks), "store").found
    assert "toy_state.db" in text
    assert "is damaged" in text


# ---------------------------------------------------------------- while somebody works, and the command


def test_while_a_run_goes_on_it_is_read_in_peace(quick: SandboxProcess, tasks: Path) -> None:
    """The store of a process that has it open, with its journal, and with calls under way."""
    assert run(jobs.direct, tasks, quick.url, kill_at="after POST completions") == KILLED
    with FileLock(tasks / "toy.lock"):
        (tasks / "toy.lock").write_text('{"pid": 77, "host": "elsewhere", "since": 0}')
        diagnosis = diagnose(tasks)
    assert not_ok(diagnosis) == {}
    assert check_of(diagnosis, "direct calls").found[0].endswith(" in flight")
    assert check_of(diagnosis, "lock").found[0].startswith("process 77 on elsewhere")


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gpt_batch_api", "doctor", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_prints_a_line_for_each_check_and_exits_0(done: Path) -> None:
    shown = command("--task_dir", str(done))
    assert shown.returncode == 0, shown.stderr
    first, *lines = shown.stdout.splitlines()
    assert first == "Task toy (ToyTask): healthy"
    assert len(lines) == len(diagnose(done).checks)
    assert all(line.startswith("  ok        ") for line in lines)


def test_the_command_exits_1_if_something_is_wrong_and_says_what_mends_it(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(done, *(DAMAGE[name][0] for name in ("an account", "a tally")))
    assert main(["doctor", "--task_dir", str(done), "--task_prefix", "toy"]) == 1
    shown = capsys.readouterr().out
    assert "Task toy (ToyTask): WRONG in 2 of " in shown
    assert "  WRONG     money         1 accounts are not the sums of their ledger lines" in shown
    assert "→ Only something other than this library changes a store so." in shown


def test_the_command_writes_json_for_scripts(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(done, DAMAGE["a payload"][0])
    assert main(["doctor", "--task_dir", str(done), "--task_prefix", "toy", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["task"], document["healthy"]) == ("toy", False)
    (wrong,) = [check for check in document["checks"] if check["health"] == "wrong"]
    assert wrong["check"] == "requests"
    assert wrong["found"] == ["1 requests have no payload: word-00001"]
    assert wrong["mended_by"]


def test_the_command_looks_at_all_tasks_of_a_folder(
    quick: SandboxProcess, done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ToyTask(settings_for(quick, done), task_prefix="another").run()
    change(done, DAMAGE["a payload"][0])
    assert main(["doctor", "--task_dir", str(done), "--json"]) == 1
    documents = json.loads(capsys.readouterr().out)
    assert [(document["task"], document["healthy"]) for document in documents] == [("another", True), ("toy", False)]


def test_nothing_to_check_is_one_line(tmp_path: Path) -> None:
    shown = command("--task_dir", str(tmp_path))
    assert shown.returncode == 1
    assert shown.stderr == f"error: There are no tasks in {tmp_path}. Name their folder with --task_dir.\n"
