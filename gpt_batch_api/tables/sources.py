"""What a user may give as rows: the right reader for it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gpt_batch_api.domain.errors import UserError
from gpt_batch_api.tables.csv_file import CsvFile
from gpt_batch_api.tables.in_memory import Frame, Items
from gpt_batch_api.tables.jsonl_file import JsonLinesFile
from gpt_batch_api.tables.parquet_file import ParquetFile
from gpt_batch_api.tables.row import Source

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}


def table_format(path: Path, *, what: str) -> str:
    """csv, jsonl or parquet, by the ending of *path*. Raises UserError for any other."""
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise UserError(
            f"The {what} {path} ends in {ending or 'nothing'!r}, but must end in one of: {', '.join(FORMATS)}."
        )
    return FORMATS[ending]


def open_file(path: Path, *, delimiter: str | None = None, encoding: str | None = None) -> Source:
    """The table in a file. Raises UserError if it cannot be one."""
    form = table_format(path, what="input")
    if not path.is_file():
        raise UserError(f"The input {path} {'is no file' if path.exists() else 'does not exist'}.")
    if form == "csv":
        return CsvFile(path, delimiter=delimiter, encoding=encoding)
    return JsonLinesFile(path, encoding=encoding) if form == "jsonl" else ParquetFile(path)


def open_items(items: Any) -> Source:
    """The rows of whatever `map` was given: a path, a frame, or anything that can be iterated."""
    if isinstance(items, str | os.PathLike):
        return open_file(Path(items))
    if hasattr(items, "itertuples") or hasattr(items, "iter_rows"):
        return Frame.of(items)
    if isinstance(items, Mapping) or not isinstance(items, Iterable):
        wish = "; a lazy frame has to be collected first" if hasattr(items, "collect") else ""
        raise UserError(
            f"The items are {type(items).__name__}, but must be a list, a generator, a path of a CSV, JSONL or Parquet file, "
            f"a frame or a data set{wish}."
        )
    return Items(items)
