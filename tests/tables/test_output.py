"""The output is one row a row, with names that never collide; files are replaced all or nothing."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from gpt_batch_api.domain.columns import ColumnKind
from gpt_batch_api.domain.errors import UserError
from gpt_batch_api.domain.outcome import Usage
from gpt_batch_api.tables.output import OutputTable
from gpt_batch_api.tables.result import Failure, RowResult
from gpt_batch_api.tables.writers import check_writable

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"stars": {"type": "integer"}, "tags": {"type": "array", "items": {"type": "string"}}},
}


def result(number: int, value: Any = None, failure: Failure | None = None, **item: Any) -> RowResult[Any]:
    return RowResult(number, f"k{number}", item, value, failure, Usage(), 1_500_000)


def written(path: Path, table: OutputTable, results: list[RowResult[Any]]) -> list[dict[str, Any]]:
    table.write(results, payload_of=lambda key: b'{"asked": "%s"}' % key.encode())
    if path.suffix == ".csv":
        return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_text_answers_have_one_column(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    table = OutputTable(path, kept={"text": ColumnKind.TEXT}, key_column=None, schema=None)
    rows = written(path, table, [result(1, "good", text="a"), result(2, "bad", text="b")])
    assert rows == [
        {"key": "k1", "text": "a", "answer": "good", "status": "ok", "cost": "1.5e-06"},
        {"key": "k2", "text": "b", "answer": "bad", "status": "ok", "cost": "1.5e-06"},
    ]


def test_fields_of_a_schema_are_columns_and_lists_are_json_in_csv(tmp_path: Path) -> None:
    value = {"stars": 4, "tags": ["ü", "b"]}
    for name, tags in (("out.csv", '["ü", "b"]'), ("out.jsonl", ["ü", "b"])):
        table = OutputTable(tmp_path / name, kept={}, key_column="id", schema=SCHEMA)
        (row,) = written(tmp_path / name, table, [result(1, value)])
        assert list(row) == ["id", "stars", "tags", "status", "cost"]
        assert (row["id"], row["tags"]) == ("k1", tags)


def test_the_key_column_comes_first_and_once(tmp_path: Path) -> None:
    kept = {"text": ColumnKind.TEXT, "id": ColumnKind.TEXT}
    table = OutputTable(tmp_path / "out.jsonl", kept=kept, key_column="id", schema=None)
    (row,) = written(tmp_path / "out.jsonl", table, [result(1, "x", id="k1", text="a")])
    assert list(row) == ["id", "text", "answer", "status", "cost"]


def test_names_that_are_taken_are_left_to_the_input(tmp_path: Path) -> None:
    kept = dict.fromkeys(("stars", "status", "key"), ColumnKind.TEXT)
    schema = {"type": "object", "properties": {"stars": {"type": "integer"}, "cost": {"type": "number"}}}
    table = OutputTable(tmp_path / "out.jsonl", kept=kept, key_column=None, schema=schema)
    item: dict[str, Any] = {"stars": "gold", "status": "old", "key": "mine"}
    (row,) = written(tmp_path / "out.jsonl", table, [result(1, {"stars": 4, "cost": 9.5}, **item)])
    assert row == {
        "row_key": "k1", **item, "answer_stars": 4, "cost": 9.5, "row_status": "ok", "row_cost": 1.5e-06,
    }  # fmt: skip


def test_a_schema_without_fields_has_its_answer_in_one_column(tmp_path: Path) -> None:
    table = OutputTable(tmp_path / "out.jsonl", kept={}, key_column="id", schema={"type": "object"})
    (row,) = written(tmp_path / "out.jsonl", table, [result(1, {"anything": [1]})])
    assert row["answer"] == {"anything": [1]}


def test_an_answer_that_is_no_object_leaves_its_fields_empty(tmp_path: Path) -> None:
    """A schema that is not strict does not bind the model."""
    table = OutputTable(tmp_path / "out.jsonl", kept={}, key_column="id", schema=SCHEMA)
    (row,) = written(tmp_path / "out.jsonl", table, [result(1, ["x"])])
    assert (row["stars"], row["tags"], row["status"]) == (None, None, "ok")


def test_failed_rows_are_told_apart_with_reason_and_payload(tmp_path: Path) -> None:
    table = OutputTable(tmp_path / "out.jsonl", kept={}, key_column=None, schema=SCHEMA)
    refused = Failure("failed", "refusal", "no", 3)
    rows = written(
        tmp_path / "out.jsonl",
        table,
        [result(1, {"stars": 1}), result(2, None, refused), result(3, None, Failure("pending", "not_asked", "", 0))],
    )
    assert [row["status"] for row in rows] == ["ok", "failed", "pending"]
    assert rows[1]["stars"] is None
    (failed,) = [json.loads(line) for line in table.failed_path.read_text().splitlines()]
    assert table.failed_path.name == "out.jsonl.failed.jsonl"
    assert failed == {
        "row": 2, "key": "k2", "status": "failed", "reason": "refusal", "message": "no", "attempts": 3,
        "cost": 1.5e-06, "payload": {"asked": "k2"},
    }  # fmt: skip


def test_the_file_of_failed_rows_goes_when_none_has_failed_any_more(tmp_path: Path) -> None:
    table = OutputTable(tmp_path / "out.jsonl", kept={}, key_column=None, schema=None)
    written(tmp_path / "out.jsonl", table, [result(1, None, Failure("failed", "refusal", "no", 3))])
    assert table.failed_path.exists()
    written(tmp_path / "out.jsonl", table, [result(1, "yes")])
    assert not table.failed_path.exists()


def test_an_error_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    table = OutputTable(path, kept={}, key_column=None, schema=None)
    written(path, table, [result(1, "old")])
    before = path.read_bytes()

    def broken() -> Any:
        yield result(1, "new")
        raise UserError("the input is gone")

    with pytest.raises(UserError, match="the input is gone"):
        table.write(broken(), payload_of=lambda key: b"{}")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_parquet_has_types(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    table = OutputTable(path, kept={"n": ColumnKind.WHOLE}, key_column=None, schema=SCHEMA)
    table.write(
        [result(1, {"stars": 4, "tags": []}, n=7), result(2, None, Failure("held", "x", "", 1))],
        payload_of=lambda key: b"{}",
    )
    read = parquet.read_table(path)
    assert {field.name: str(field.type) for field in read.schema} == {
        "key": "string", "n": "int64", "stars": "int64", "tags": "string", "status": "string", "cost": "double",
    }  # fmt: skip
    assert read.to_pylist()[0]["stars"] == 4
    assert read.to_pylist()[1]["n"] is None


def test_what_cannot_be_written_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ends in '\.txt'"):
        check_writable(tmp_path / "out.txt")
    with pytest.raises(UserError, match="a folder that does not exist"):
        check_writable(tmp_path / "nowhere" / "out.csv")
    (tmp_path / "out.csv").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        check_writable(tmp_path / "out.csv")
