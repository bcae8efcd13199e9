"""Rows of a JSON lines file: one object a line. A broken line is an error with its number."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gpt_batch_api.domain.errors import UserError
from gpt_batch_api.tables.row import Row
from gpt_batch_api.tables.text_file import reading


class JsonLinesFile:
    """A JSON lines file. Blank lines are no rows; a column is whatever any of the objects has."""

    repeatable = True
    columns: tuple[str, ...] | None = None
    kinds: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, path: Path, *, encoding: str | None = None) -> None:
        self.path = path
        self.name = str(path)
        self.folder = path.parent
        self._encoding = encoding

    def rows(self) -> Iterator[Row]:
        number = 0
        with reading(self.path, self._encoding) as stream:
            for line_number, line in enumerate(stream, start=1):
                if not line.strip():
                    continue
                number += 1
                cells = self._read(line, line_number)
                yield Row(number, cells, cells, f"line {line_number}")

    def _read(self, line: str, number: int) -> dict[str, object]:
        try:
            document = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"The input {self.path}, line {number}, is no JSON: {error}.") from error
        if not isinstance(document, dict):
            raise UserError(
                f"The input {self.path}, line {number}, is {line.strip()!r:.40}, but each line must be a JSON object: "
                '{"column": value, …}.'
            )
        return document
