"""Write rows as one file, all or nothing: whoever looks sees the old file or the whole new one."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from gpt_batch_api.domain.columns import ColumnKind, Columns
from gpt_batch_api.domain.errors import UserError
from gpt_batch_api.sinks.publish import replace_file
from gpt_batch_api.tables.csv_file import TABBED
from gpt_batch_api.tables.parquet_file import require_pyarrow
from gpt_batch_api.tables.sources import table_format
from gpt_batch_api.tables.values import as_plain, as_text

Cells = Mapping[str, Any]

_GROUP = 2000
"""Rows that are written to Parquet together."""
_HALVES = "backslashreplace"
"""Half of a character pair, which UTF-8 has no place for, is written as JSON writes it."""


def check_writable(path: Path) -> None:
    """Raise UserError if no table can be written to *path*."""
    if table_format(path, what="output") == "parquet":
        require_pyarrow(f"The output {path}")
    if not path.absolute().parent.is_dir():
        raise UserError(f"The output {path} would lie in a folder that does not exist. Make it first.")
    if path.is_dir():
        raise UserError(f"The output {path} is a folder. Name a file.")


def write_table(path: Path, columns: Columns, rows: Iterable[Cells]) -> int:
    """Put a table in the place of *path*, in the format of its ending; how many rows it has.

    *rows* are consumed one by one, so that memory does not grow with their number. Raises OSError.
    """
    writers: dict[str, Callable[[BinaryIO, Columns, Iterable[Cells]], None]] = {
        "csv": _write_tabs if path.suffix.lower() in TABBED else _write_csv,
        "jsonl": write_json_lines,
        "parquet": _write_parquet,
    }
    write = writers[table_format(path, what="output")]
    written = 0

    def counted() -> Iterator[Cells]:
        nonlocal written
        for row in rows:
            written += 1
            yield row

    replace_file(path, lambda stream: write(stream, columns, counted()))
    return written


def write_json_lines(stream: BinaryIO, columns: Columns, rows: Iterable[Cells]) -> None:
    """One object a line, with all *columns*."""
    for row in rows:
        document = {name: as_plain(row.get(name)) for name in columns}
        stream.write(json.dumps(document, ensure_ascii=False).encode(errors=_HALVES) + b"\n")


def _write_csv(stream: BinaryIO, columns: Columns, rows: Iterable[Cells], *, delimiter: str = ",") -> None:
    text = io.TextIOWrapper(stream, encoding="utf-8", errors=_HALVES, newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([as_text(row.get(name)) for name in columns])
    text.flush()
    text.detach()


def _write_tabs(stream: BinaryIO, columns: Columns, rows: Iterable[Cells]) -> None:
    _write_csv(stream, columns, rows, delimiter="\t")


def _write_parquet(stream: BinaryIO, columns: Columns, rows: Iterable[Cells]) -> None:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    kinds = {
        ColumnKind.BOOL: pyarrow.bool_(),
        ColumnKind.WHOLE: pyarrow.int64(),
        ColumnKind.NUMBER: pyarrow.float64(),
    }
    types = {
        name: kinds.get(kind, pyarrow.string()) if isinstance(kind, ColumnKind) else kind
        for name, kind in columns.items()
    }
    with ParquetWriter(stream, pyarrow.schema(types.items())) as writer:
        for group in _groups(rows):
            arrays = [
                pyarrow.array([_cell(row.get(name), kind) for row in group], types[name])
                for name, kind in columns.items()
            ]
            writer.write_table(pyarrow.table(arrays, schema=writer.schema))


def _cell(value: Any, kind: Any) -> Any:
    """A value as its Parquet column takes it."""
    if not isinstance(kind, ColumnKind):
        return value
    plain = as_plain(value)
    if plain is None or kind not in (ColumnKind.EMPTY, ColumnKind.TEXT, ColumnKind.JSON):
        return plain
    return as_text(plain).encode(errors=_HALVES).decode()


def _groups(rows: Iterable[Cells]) -> Iterator[Sequence[Cells]]:
    iterator = iter(rows)
    while group := list(islice(iterator, _GROUP)):
        yield group
