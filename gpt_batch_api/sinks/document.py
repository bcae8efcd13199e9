"""Rows as one document, written whole: atomically replaced when a run ends or the task is complete."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from gpt_batch_api.domain.delivery import UNCERTAIN, Delivered, Progress, Rows
from gpt_batch_api.domain.errors import OutputError
from gpt_batch_api.sinks.checksum import crc32_of
from gpt_batch_api.sinks.publish import remove, replace_file

Write = Callable[[BinaryIO, Iterator[str]], None]
"""Writes a whole document of the given rows (JSON texts, in sample order) to a stream."""


class Document:
    """An output that is one file of any format; *write* knows the format."""

    continuous = False

    def __init__(self, path: Path, *, write: Write) -> None:
        self.path = path
        self._write = write

    def check(self, delivered: Sequence[Delivered]) -> bool:
        complete = True
        for part in delivered:
            path = self.path.with_name(part.file_name)
            if part.generation == UNCERTAIN or not path.exists():
                complete = False
            elif path.stat().st_size != part.size_bytes or crc32_of(path) != part.crc32:
                raise OutputError(
                    f"The output file {part.file_name} was changed by hand after it was delivered. "
                    "Move it away: it will be written anew from the store."
                )
        return complete

    def deliver(self, rows: Rows, delivered: Sequence[Delivered], *, generation: int) -> Iterator[Progress]:
        newest = rows.newest()
        if any(
            part.generation == generation
            and part.last_output == newest
            and part.file_name == self.path.name
            and self.path.exists()
            for part in delivered
        ):
            return
        yield Progress(begins=True)
        counter = _Counter()

        def write(stream: BinaryIO) -> None:
            self._write(stream, counter.counted(rows.by_sample()))

        replace_file(self.path, write)
        part = Delivered(
            1, generation, self.path.name, counter.rows, self.path.stat().st_size, crc32_of(self.path), newest
        )
        yield Progress((part,), replaces_all=True)

    def files(self) -> list[Path]:
        return [path for path in (self.path,) if path.exists()]

    def remove(self) -> None:
        remove(self.path)


def write_json(header: Mapping[str, Any], rows_field: str) -> Write:
    """A writer of one JSON object: the *header*'s fields, with the rows streamed into *rows_field*, one a line."""

    def write(stream: BinaryIO, rows: Iterator[str]) -> None:
        fields = {**header} if rows_field in header else {**header, rows_field: []}
        stream.write(b"{\n")
        for index, (name, value) in enumerate(fields.items()):
            stream.write(b",\n" if index else b"")
            stream.write(f"  {json.dumps(name, ensure_ascii=False)}: ".encode())
            if name == rows_field:
                _write_list(stream, rows)
            else:
                stream.write(_header_value(name, value))
        stream.write(b"\n}\n")

    return write


def _header_value(name: str, value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise OutputError(f"output_header gives for {name!r} what is no JSON: {error}.") from error


def _write_list(stream: BinaryIO, rows: Iterator[str]) -> None:
    stream.write(b"[")
    empty = True
    for row in rows:
        stream.write(b"\n    " if empty else b",\n    ")
        stream.write(row.encode())
        empty = False
    stream.write(b"]" if empty else b"\n  ]")


class _Counter:
    """Counts rows as they pass."""

    def __init__(self) -> None:
        self.rows = 0

    def counted(self, rows: Iterator[str]) -> Iterator[str]:
        for row in rows:
            self.rows += 1
            yield row
