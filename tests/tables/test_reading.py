"""Rows come out of files as they stand there, and whatever is wrong is told with its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpt_batch_api.domain.columns import ColumnKind
from gpt_batch_api.domain.errors import UserError
from gpt_batch_api.tables.sources import open_file, open_items
from gpt_batch_api.tables.writers import write_table

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def cells(path: Path, **how: str) -> list[dict[str, Any]]:
    return [dict(row.cells) for row in open_file(path, **how).rows()]


class TestCsv:
    def test_quotes_line_breaks_and_empty_cells_are_read_as_they_stand(self, write: Write) -> None:
        path = write("a.csv", 'id,text\n1,"two\nlines, and a ""word"""\n2,\n')
        assert cells(path) == [{"id": "1", "text": 'two\nlines, and a "word"'}, {"id": "2", "text": ""}]

    def test_a_row_knows_its_number_and_its_line(self, write: Write) -> None:
        path = write("a.csv", 'id,text\n1,"two\nlines"\n\n2,x\n')
        assert [(row.number, row.place) for row in open_file(path).rows()] == [(1, "line 3"), (2, "line 5")]

    @pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b""], ids=["with a mark", "without"])
    def test_a_byte_order_mark_is_no_part_of_the_first_column(self, write: Write, mark: bytes) -> None:
        assert cells(write("a.csv", mark + "id,text\n1,ü\n".encode())) == [{"id": "1", "text": "ü"}]

    def test_utf_16_is_known_by_its_mark(self, write: Write) -> None:
        assert cells(write("a.csv", "id,text\n1,ü\n".encode("utf-16"))) == [{"id": "1", "text": "ü"}]

    @pytest.mark.parametrize(
        ("name", "mark"), [("a.tsv", "\t"), ("a.csv", ";"), ("a.csv", "\t"), ("a.csv", "|"), ("a.csv", ",")]
    )
    def test_the_delimiter_is_found_out(self, write: Write, name: str, mark: str) -> None:
        assert cells(write(name, f"id{mark}text\n1{mark}x\n")) == [{"id": "1", "text": "x"}]

    def test_a_delimiter_that_is_given_wins(self, write: Write) -> None:
        assert cells(write("a.csv", "a,b;c\n1,2;3\n"), delimiter=";") == [{"a,b": "1,2", "c": "3"}]

    def test_windows_line_ends_are_no_part_of_cells(self, write: Write) -> None:
        assert cells(write("a.csv", "id,text\r\n1,x\r\n")) == [{"id": "1", "text": "x"}]

    def test_a_very_long_cell_is_read(self, write: Write) -> None:
        assert cells(write("a.csv", f"text\n{'x' * 300_000}\n"))[0]["text"] == "x" * 300_000

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("id,text\n1,x\n2,y,z\n", "line 3: it has 3 cells, but the header has 2"),
            ("id,text\n1\n", "line 2: it has 1 cells, but the header has 2"),
            ("id,id\n1,2\n", "two columns 'id'"),
            ("id,,text\n1,2,3\n", "no name for its column 2"),
            ("", "is empty"),
            ('id,text\n1,"open\n2,x\n', "the row that begins in line 2"),
            ('id,text\n1,"a"b\n', "the row that begins in line 2"),
            ("id,text\n1,x\n2,caf\xe9\n".encode("latin-1"), "line 3 (byte 0xe9) is not utf-8"),
        ],
    )
    def test_what_is_wrong_is_told_with_its_line(self, write: Write, content: str | bytes, message: str) -> None:
        with pytest.raises(UserError) as caught:
            cells(write("a.csv", content))
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_another_encoding_is_read_when_it_is_named(self, write: Write) -> None:
        path = write("a.csv", "text\ncaf\xe9\n".encode("latin-1"))
        assert cells(path, encoding="latin-1") == [{"text": "café"}]
        with pytest.raises(UserError, match="encoding is 'klingon'"):
            cells(path, encoding="klingon")


class TestJsonLines:
    def test_objects_are_rows_and_blank_lines_are_not(self, write: Write) -> None:
        path = write("a.jsonl", '{"id": 1, "tags": ["x"]}\n\n{"id": 2}\n')
        assert cells(path) == [{"id": 1, "tags": ["x"]}, {"id": 2}]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ('{"a": 1}\n{"a": \n', "line 2, is no JSON"),
            ("[1]\n", "line 1, is '[1]', but each line must be a JSON object"),
        ],
    )
    def test_a_broken_line_is_told_with_its_number(self, write: Write, content: str, message: str) -> None:
        with pytest.raises(UserError) as caught:
            cells(write("a.jsonl", content))
        assert message in str(caught.value)


class TestParquet:
    def test_what_was_written_is_read(self, tmp_path: Path) -> None:
        rows: list[dict[str, Any]] = [
            {"id": 1, "score": 0.5, "text": "ü", "tags": ["x"]},
            {"id": None, "score": 2, "text": None, "tags": None},
        ]
        path = tmp_path / "a.parquet"
        kinds = {"id": ColumnKind.WHOLE, "score": ColumnKind.NUMBER, "text": ColumnKind.TEXT, "tags": ColumnKind.JSON}
        write_table(path, kinds, rows)
        assert cells(path) == [{**rows[0], "tags": '["x"]'}, {**rows[1], "score": 2.0}]

    def test_a_file_that_is_none_is_one_line(self, write: Write) -> None:
        with pytest.raises(UserError, match="cannot be read as Parquet"):
            cells(write("a.parquet", "id,text\n"))


class TestWhatItMayBe:
    def test_an_unknown_ending_names_those_that_there_are(self, write: Write) -> None:
        with pytest.raises(UserError, match=r"ends in '.xlsx', but must end in one of: .csv"):
            open_file(write("a.xlsx", ""))

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="does not exist"):
            open_file(tmp_path / "a.csv")

    def test_what_is_no_table_is_refused(self) -> None:
        for wrong in (7, {"a": 1}, None):
            with pytest.raises(UserError, match="must be a list, a generator, a path"):
                open_items(wrong)
