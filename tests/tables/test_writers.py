"""Tables in files: what was put in comes out, in each format."""

from __future__ import annotations

import csv
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpt_batch_api.domain.columns import ColumnKind, columns_of
from gpt_batch_api.domain.errors import UserError
from gpt_batch_api.tables.writers import check_writable, write_table

ROWS: list[dict[str, Any]] = [
    {"key": "a", "stars": 4, "share": 1, "good": True, "tags": ["x", "y"], "note": None},
    {"key": 'b, "quoted"\nand on', "stars": None, "share": 0.25, "good": False, "tags": {"é": 1}, "note": None},
    {"key": "\ud83d half a character", "share": 0.5, "late": "appears late"},
]


def test_columns_are_learnt_from_all_rows() -> None:
    """In the order of their first appearance; a column that is always empty is of no kind."""
    assert columns_of(ROWS) == {
        "key": ColumnKind.TEXT,
        "stars": ColumnKind.WHOLE,
        "share": ColumnKind.NUMBER,
        "good": ColumnKind.BOOL,
        "tags": ColumnKind.JSON,
        "note": ColumnKind.EMPTY,
        "late": ColumnKind.TEXT,
    }
    assert columns_of([{"mixed": 1}, {"mixed": "one"}, {"mixed": None}]) == {"mixed": ColumnKind.JSON}
    assert columns_of([{"huge": 2**70}]) == {"huge": ColumnKind.JSON}
    assert columns_of([]) == {}


def test_json_lines_keep_every_value_and_name_every_column(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert write_table(path, columns_of(ROWS), ROWS) == 3
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == [
        {name: row.get(name) for name in columns_of(ROWS)} for row in ROWS
    ]


def test_csv_has_a_header_and_json_where_it_has_no_place(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    assert write_table(path, columns_of(ROWS), ROWS) == 3
    with path.open(encoding="utf-8", newline="") as stream:
        first, second, third = csv.DictReader(stream)
    assert list(first) == ["key", "stars", "share", "good", "tags", "note", "late"]
    assert first == {
        "key": "a", "stars": "4", "share": "1", "good": "true", "tags": '["x", "y"]', "note": "", "late": "",
    }  # fmt: skip
    assert second["key"] == ROWS[1]["key"]
    assert json.loads(second["tags"]) == {"é": 1}
    assert third["late"] == "appears late"
    assert third["key"] == "\\ud83d half a character"


def test_parquet_keeps_types(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "rows.PARQUET"
    check_writable(path)
    assert write_table(path, columns_of(ROWS), ROWS) == 3
    table = parquet.read_table(path)
    assert [str(kind) for kind in table.schema.types] == [
        "string", "int64", "double", "bool", "string", "string", "string",
    ]  # fmt: skip
    first, second, third = table.to_pylist()
    assert (first["stars"], first["share"], first["good"], first["note"]) == (4, 1.0, True, None)
    assert json.loads(second["tags"]) == {"é": 1}
    assert third["stars"] is None


def test_parquet_takes_more_rows_than_a_group_has(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "rows.parquet"
    assert write_table(path, {"n": ColumnKind.WHOLE}, ({"n": n} for n in range(2500))) == 2500
    assert parquet.read_table(path)["n"].to_pylist() == list(range(2500))


def test_another_ending_is_refused() -> None:
    with pytest.raises(UserError, match=r"rows\.xls ends in '\.xls', but must end in one of: \.csv, "):
        check_writable(Path("rows.xls"))


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_table_that_breaks_off_leaves_the_file_as_it_was(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows.{ending}"
    path.write_text("before")

    def breaks() -> Iterator[dict[str, Any]]:
        yield from [{"n": 1}] * 5000
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        write_table(path, {"n": ColumnKind.WHOLE}, breaks())
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, ending: str) -> None:
    """20 MB of rows pass through less than 5 MB."""
    write_table(tmp_path / f"warm.{ending}", {"n": ColumnKind.WHOLE}, [{"n": 1}])
    tracemalloc.start()
    try:
        rows = ({"n": n, "text": f"{n:0200}"} for n in range(100_000))
        assert (
            write_table(tmp_path / f"rows.{ending}", {"n": ColumnKind.WHOLE, "text": ColumnKind.TEXT}, rows) == 100_000
        )
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
