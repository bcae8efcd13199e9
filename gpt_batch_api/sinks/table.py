"""Write a table to a file: CSV, JSON lines or Parquet, by the file's extension; all of it, or nothing.

Rows are written as they come, so memory does not grow with their number. What a format has no place for (lists and
objects in CSV and Parquet) is written as JSON text.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from gpt_batch_api.domain.columns import Columns, Kind
from gpt_batch_api.domain.errors import MissingExtra, UserError
from gpt_batch_api.sinks.publish import replace_file

Rows = Iterable[Mapping[str, Any]]
_CHUNK = 1000
"""So many rows are a group of a Parquet file."""


def refuse_unknown_format(path: Path) -> None:
    """Raise UserError unless the file's extension says how to write it; MissingExtra if that needs a library."""
    if path.suffix.lower() not in _FORMATS:
        raise UserError(f"The file {path.name} must end in {', '.join(_FORMATS)}: the ending says how it is written.")
    if path.suffix.lower() == ".parquet":
        _pyarrow()


def write_table(path: Path, columns: Columns, rows: Rows) -> int:
    """Put a file with *rows* in the place of *path*; how many there are. Raises OSError."""
    counted = _Counted(rows)
    write = _FORMATS[path.suffix.lower()]
    replace_file(path, lambda stream: write(stream, columns, counted))
    return counted.number


class _Counted:
    """Rows, and how many were taken."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.number = 0

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        for row in self._rows:
            self.number += 1
            yield row


def _write_jsonl(stream: BinaryIO, columns: Columns, rows: Rows) -> None:
    for row in rows:
        stream.write(_encoded(json.dumps(row, ensure_ascii=False)) + b"\n")


def _write_csv(stream: BinaryIO, columns: Columns, rows: Rows) -> None:
    text = io.TextIOWrapper(stream, encoding="utf-8", errors="backslashreplace", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(name), kind) for name, kind in columns.items()])
    text.detach()


def _cell(value: Any, kind: Kind) -> Any:
    if value is None:
        return ""
    if kind is Kind.JSON and not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return {True: "true", False: "false"}[value] if kind is Kind.TRUTH else value


def _write_parquet(stream: BinaryIO, columns: Columns, rows: Rows) -> None:
    pyarrow = _pyarrow()
    types = {
        Kind.TEXT: pyarrow.string(),
        Kind.JSON: pyarrow.string(),
        Kind.WHOLE: pyarrow.int64(),
        Kind.NUMBER: pyarrow.float64(),
        Kind.TRUTH: pyarrow.bool_(),
    }
    schema = pyarrow.schema([(name, types[kind]) for name, kind in columns.items()])
    left = iter(rows)
    with pyarrow.parquet.ParquetWriter(stream, schema) as writer:
        while chunk := list(islice(left, _CHUNK)):
            values = [[_value(row.get(name), kind) for row in chunk] for name, kind in columns.items()]
            writer.write_table(pyarrow.table(values, schema=schema))


def _value(value: Any, kind: Kind) -> Any:
    if value is None:
        return None
    if kind is Kind.JSON:
        value = json.dumps(value, ensure_ascii=False)
    return _encoded(value).decode() if isinstance(value, str) else value


def _encoded(text: str) -> bytes:
    """As bytes; half of a character pair, which UTF-8 has no place for, is written as JSON writes it."""
    return text.encode("utf-8", "backslashreplace")


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("parquet", "A Parquet file") from error
    return pyarrow


_FORMATS: dict[str, Callable[[BinaryIO, Columns, Rows], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
