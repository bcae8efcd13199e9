"""Rows of a CSV file. Whatever does not fit its header is an error with its line, never a shifted row."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from gpt_batch_api.domain.columns import ColumnKind
from gpt_batch_api.domain.errors import UserError
from gpt_batch_api.tables.row import Row
from gpt_batch_api.tables.text_file import reading

_LONGEST_CELL = 2**31 - 1
TABBED = (".tsv", ".tab")


class CsvFile:
    """A CSV file with a header line; all cells are texts. Blank lines are no rows.

    The delimiter is the one given, else a tab in `.tsv` files; a header without commas may have `;`, tabs or `|`.
    """

    repeatable = True

    def __init__(self, path: Path, *, delimiter: str | None = None, encoding: str | None = None) -> None:
        self.path = path
        self.name = str(path)
        self.folder = path.parent
        self._encoding = encoding
        if delimiter is not None and len(delimiter) != 1:
            raise UserError(f"delimiter is {delimiter!r}, but must be one character.")
        self._delimiter = delimiter or self._guess_delimiter()
        with self._reader() as (_, header):
            self.columns: tuple[str, ...] | None = header
            self.kinds: Mapping[str, Any] = dict.fromkeys(header, ColumnKind.TEXT)

    def rows(self) -> Iterator[Row]:
        with self._reader() as (reader, header):
            number = 0
            for cells in reader:
                if not cells:
                    continue
                number += 1
                place = f"line {reader.line_num}"
                if len(cells) != len(header):
                    raise UserError(
                        f"The input {self.path}, {place}: it has {len(cells)} cells, but the header has {len(header)}. "
                        f"Put cells that contain {self._delimiter!r} or line breaks into double quotes."
                    )
                row = dict(zip(header, cells, strict=True))
                yield Row(number, row, row, place)

    @contextmanager
    def _reader(self) -> Iterator[tuple[_LineReader, tuple[str, ...]]]:
        """(the file after its header, the header)."""
        with reading(self.path, self._encoding) as stream:
            reader = _LineReader(self.path, stream, self._delimiter)
            yield reader, reader.header()

    def _guess_delimiter(self) -> str:
        if self.path.suffix.lower() in TABBED:
            return "\t"
        with reading(self.path, self._encoding) as stream:
            header = next((line for line in stream if line.strip()), "")
        others = [mark for mark in ";\t|" if mark in header]
        return "," if "," in header or not others else max(others, key=header.count)


class _LineReader:
    """`csv.reader` that names file and line of what it cannot read."""

    def __init__(self, path: Path, stream: TextIO, delimiter: str) -> None:
        csv.field_size_limit(_LONGEST_CELL)
        self._path = path
        self._reader = csv.reader(stream, delimiter=delimiter, strict=True)

    @property
    def line_num(self) -> int:
        return self._reader.line_num

    def __iter__(self) -> _LineReader:
        return self

    def __next__(self) -> list[str]:
        begin = self.line_num + 1
        try:
            return next(self._reader)
        except csv.Error as error:
            raise UserError(
                f"The input {self._path}, the row that begins in line {begin}, is no good CSV: {error}. "
                "Look for a double quote that is not closed or not doubled."
            ) from error

    def header(self) -> tuple[str, ...]:
        """The names of the columns."""
        names = next((cells for cells in self if cells), None)
        if names is None:
            raise UserError(f"The input {self._path} is empty: it needs a header line with the names of its columns.")
        return unique_columns(names, self._path)


def unique_columns(names: list[str], path: Path) -> tuple[str, ...]:
    """*names*, if they can name columns."""
    for number, name in enumerate(names, start=1):
        if not name.strip():
            raise UserError(f"The input {path} has no name for its column {number}. Give each column a name.")
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"The input {path} has two columns {twice[0]!r}. Give each column a name of its own.")
    return tuple(names)
