"""Output files that a task writes rows into; all can be read later without the task.

`DataclassListOutputFile`   JSON lines, one row each, appended as answers come; optionally cut into parts.
`DataclassOutputFile`       one JSON document: a header and one list of rows; written when a run ends.
`TaskOutputFile`            the base of your own formats: override `suffix` and `write`.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from gpt_batch_api.domain.delivery import Output
from gpt_batch_api.domain.errors import OutputError
from gpt_batch_api.sinks.document import Document, write_json
from gpt_batch_api.sinks.jsonl import JsonLines, Parts


class TaskOutputFile:
    """An output of a format of your own: one file, written whole whenever a run ends.

    Override `suffix` and `write`; set `Dataclass` to have each row checked. *base* is the path without suffix,
    *header* what the task's `output_header` returned.
    """

    Dataclass: ClassVar[type | None] = None
    """The type of a row (of the whole document for `DataclassOutputFile`); None: rows are dicts."""
    suffix: ClassVar[str] = ".txt"

    def __init__(self, base: Path, *, header: Mapping[str, Any] | None = None) -> None:
        self.base = base
        self.header = dict(header or {})

    @cached_property
    def output(self) -> Output:
        """How the engine delivers into this file."""
        return Document(self.path, write=lambda stream, rows: self.write(stream, map(json.loads, rows)))

    @property
    def path(self) -> Path:
        """The file."""
        return self.base.with_name(self.base.name + self.suffix)

    def write(self, stream: BinaryIO, rows: Iterator[dict[str, Any]]) -> None:
        """Write the whole output. *rows* come one by one, in the order of the samples."""
        raise NotImplementedError(f"{type(self).__name__} must override write().")

    @property
    def row_type(self) -> type | None:
        """The type that every row must have; None: anything that is a JSON object."""
        return self.Dataclass

    def dump_row(self, row: Any) -> str:
        """*row* as JSON text. Raises TypeError if it is not of the output's type, ValueError if it is no JSON."""
        from pydantic_core import PydanticSerializationError, to_json

        if self.row_type is not None and not isinstance(row, self.row_type):
            raise TypeError(
                f"it is a {type(row).__name__}, but rows of {type(self).__name__} are {self.row_type.__name__}"
            )
        try:
            text = to_json(row, inf_nan_mode="strings").decode()
        except (PydanticSerializationError, UnicodeError) as error:
            raise ValueError(str(error)) from error
        if not text.startswith("{"):
            raise TypeError(f"a row must be a dataclass, a pydantic model or a dict, not {type(row).__name__}")
        return text


class DataclassListOutputFile(TaskOutputFile):
    """JSON lines: one row a line, in the order of the answers. Delivered lines never change.

    With `max_entries` or `max_mb` the output is cut into parts `<base>_part001.jsonl`, `<base>_part002.jsonl` …
    """

    suffix = ".jsonl"
    max_entries: ClassVar[int | None] = None
    """Rows per part."""
    max_mb: ClassVar[float | None] = None
    """Size of a part, in MB (10^6 bytes)."""

    @cached_property
    def output(self) -> Output:
        max_bytes = None if self.max_mb is None else int(self.max_mb * 1e6)
        return JsonLines(self.base, parts=Parts(self.max_entries, max_bytes))

    @classmethod
    def load(cls, base: Path | str) -> Iterator[Any]:
        """Read the rows back, as `Dataclass` (or dicts). *base* is the path without `.jsonl`, or the path of one file."""
        base = Path(base)
        if base.suffix == ".jsonl":
            paths = [base]
        else:
            single = base.with_name(base.name + ".jsonl")
            paths = [single] if single.exists() else JsonLines(base, parts=Parts(max_entries=1)).files()
        if not paths:
            raise OutputError(f"There is no output at {base}.")
        convert = _converter(cls.Dataclass)
        for path in paths:
            with path.open("rb") as stream:
                for line in stream:
                    yield convert(json.loads(line))


class DataclassOutputFile(TaskOutputFile):
    """One JSON document: the fields of `Dataclass`, one of which is the list of rows (`rows_field`).

    The other fields come from the task's `output_header`. The rows stand in the order of the samples.
    """

    suffix = ".json"
    rows_field: ClassVar[str | None] = None
    """Name of the field that holds the rows; found by itself if `Dataclass` has only one list."""

    @cached_property
    def output(self) -> Output:
        return Document(self.path, write=write_json(self._full_header(), self._rows_field()))

    @property
    def row_type(self) -> type | None:
        if self.Dataclass is None:
            return None
        arguments = typing.get_args(typing.get_type_hints(self.Dataclass)[self._rows_field()])
        return arguments[0] if arguments and isinstance(arguments[0], type) else None

    @classmethod
    def load(cls, path: Path | str) -> Any:
        """Read the document back, as `Dataclass` (or a dict). *path* may leave out `.json`."""
        path = Path(path)
        path = path if path.suffix == ".json" else path.with_name(path.name + ".json")
        try:
            document = json.loads(path.read_bytes())
        except OSError as error:
            raise OutputError(f"There is no output at {path}: {error}.") from error
        return _converter(cls.Dataclass)(document)

    def _rows_field(self) -> str:
        if self.rows_field is not None:
            return self.rows_field
        if self.Dataclass is None:
            return "rows"
        hints = typing.get_type_hints(self.Dataclass)
        lists = [name for name, hint in hints.items() if typing.get_origin(hint) is list]
        if len(lists) != 1:
            raise OutputError(
                f"{self.Dataclass.__name__} has {len(lists)} lists: say in rows_field which one holds the rows."
            )
        return lists[0]

    def _full_header(self) -> dict[str, Any]:
        """All fields in the dataclass's order, rows as a placeholder."""
        if self.Dataclass is None:
            return self.header
        rows_field = self._rows_field()
        fields = [field.name for field in dataclasses.fields(self.Dataclass)]
        defaults = {
            field.name: field.default
            for field in dataclasses.fields(self.Dataclass)
            if field.default is not dataclasses.MISSING
        }
        header = {**defaults, **self.header, rows_field: []}
        if missing := [name for name in fields if name not in header]:
            raise OutputError(f"output_header gives no value for {missing[0]!r}, a field of {self.Dataclass.__name__}.")
        return {name: header[name] for name in fields}


def _converter(kind: type | None) -> Any:
    """From a JSON document to an instance of *kind*."""
    if kind is None:
        return lambda document: document
    from pydantic import TypeAdapter

    return TypeAdapter(kind).validate_python
