"""What a task's store holds, as files for other programs."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from gpt_batch_api.cli.main import main
from gpt_batch_api.task_manager import Result, Sample
from tests.cli.rig import command, document, finish_with_a_refusal
from tests.toy import ToyTask, books, rows_of


class Toy(ToyTask):
    """Keeps a state, writes lists, fails one sample."""

    count = 5

    def process_result(self, result: Result, sample: Sample) -> None:
        sample.state["seen"] = True
        if result.ok:
            sample.emit({"key": sample.key, "letters": list(result.value.word[:2])})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished task in which one of five requests was refused."""
    folder = tmp_path_factory.mktemp("exported")
    finish_with_a_refusal(Toy, folder, max_retries=0)
    return folder


def exported(folder: Path, what: str, *words: str) -> list[dict[str, Any]]:
    """The lines of an export."""
    path = folder / f"{what}.jsonl"
    assert document(command("export", path, "--what", what, "--json", *words, folder=folder))["what"] == what
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_rows_come_with_the_key_of_their_sample(folder: Path) -> None:
    shown = command("export", "rows.csv", folder=folder)
    assert shown.stdout == "rows.csv: 4 rows of 3 columns, rows of toy\n"
    with (folder / "rows.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["sample_key"] for row in rows] == [f"word-0000{n}" for n in (0, 1, 2, 4)]
    delivered = {row["key"]: row["letters"] for row in rows_of(folder / "tasks")}
    assert {row["key"]: json.loads(row["letters"]) for row in rows} == delivered


def test_the_summary_is_a_document_too(folder: Path) -> None:
    found = document(command("export", "out.parquet", "--json", folder=folder))
    size = (folder / "out.parquet").stat().st_size
    assert found == {
        "task": "toy", "what": "rows", "file": "out.parquet", "rows": 4,
        "columns": ["sample_key", "key", "letters"], "size_bytes": size,
    }  # fmt: skip


def test_requests_come_with_payload_state_and_cost(folder: Path) -> None:
    rows = exported(folder, "requests")
    assert [row["state"] for row in rows] == ["succeeded"] * 3 + ["failed", "succeeded"]
    assert "word-00003" in rows[3]["payload"]["messages"][0]["content"]
    assert (rows[3]["reason"], rows[3]["follow_up"]) == ("refusal", False)
    assert sum(row["cost_pico"] for row in rows) == books(folder / "tasks").spent


def test_responses_come_with_verdicts_usage_and_what_the_server_sent(folder: Path) -> None:
    rows = exported(folder, "responses", "--state", "failed")
    (refused,) = rows
    assert (refused["sample_key"], refused["road"], refused["verdict"]) == ("word-00003", "batch", "retryable")
    assert refused["response"]["response"]["body"]["choices"][0]["message"]["refusal"]
    assert len(exported(folder, "responses", "--since", "2020-01-01")) == 5
    assert exported(folder, "responses", "--until", "2020-01-01") == []


def test_samples_come_with_their_status_and_state(folder: Path) -> None:
    rows = exported(folder, "samples")
    assert [row["status"] for row in rows] == ["succeeded"] * 3 + ["failed", "succeeded"]
    assert all(row["state"] == {"seen": True} for row in rows)
    assert [row["rows"] for row in rows] == [1, 1, 1, 0, 1]
    assert [row["sample_key"] for row in exported(folder, "samples", "--reason", "refusal")] == ["word-00003"]


def test_the_ledger_adds_up_to_the_books(folder: Path) -> None:
    rows = exported(folder, "ledger")
    assert sum(row["spent_pico"] for row in rows) == books(folder / "tasks").spent
    assert sum(row["reserved_pico"] for row in rows) == 0
    assert {row["batch"] for row in exported(folder, "ledger", "--batch", "1")} == {1}


def test_a_selection_without_a_match_is_an_empty_file(folder: Path) -> None:
    assert exported(folder, "rows", "--key", "nobody") == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["out.xls"], "must end in one of: .csv, "),
        (["nowhere/out.csv"], "would lie in a folder that does not exist"),
        (["tasks/toy_output.jsonl"], "has the name of a file of the task itself"),
        (["out.csv", "--task_prefix", "other"], "There is no task 'other' in tasks."),
        (["out.csv", "--what", "ledger", "--key", "a"], "Lines of the ledger have no sample, state or reason"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_1(folder: Path, words: list[str], message: str) -> None:
    shown = command("export", *words, folder=folder)
    assert shown.returncode == 1
    assert message in shown.stderr
    assert len(shown.stderr.splitlines()) == 1
    assert not (folder / "out.csv").exists()


def test_without_pyarrow_the_missing_group_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["export", str(folder / "rows.parquet"), "--task_dir", str(folder / "tasks")]) == 1
    assert "pip install 'gpt-batch-api[parquet]'" in capsys.readouterr().err
