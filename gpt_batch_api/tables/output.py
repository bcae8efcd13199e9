"""The output of a whole table: a row for each row of the input, in its order, and the failed ones again with reasons.

It is made anew from input and store, atomically, whenever a run ends, and never added to: the rows of an input can come,
go and change places between two runs, so there is no position to go on from. A kill while it is made leaves the old file,
and the same command makes the new one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from gpt_batch_api.domain.columns import ColumnKind
from gpt_batch_api.sinks.publish import remove, replace_file
from gpt_batch_api.tables.result import RowResult
from gpt_batch_api.tables.values import kind_of_schema
from gpt_batch_api.tables.writers import write_json_lines, write_table

ANSWER = "answer"
"""The column of an answer that is one text."""


@dataclass(frozen=True)
class Summary:
    """What the output says."""

    output: Path
    failed_file: Path | None
    """None: no row has failed."""
    statuses: Mapping[str, int]
    """How many rows are ok, cut_off, failed, held, pending; only what there is."""
    cost_pico: int

    @property
    def rows(self) -> int:
        return sum(self.statuses.values())


@dataclass(frozen=True)
class OutputTable:
    """Which columns the output has.

    The key comes first, then the columns of the input, then the answer: a column for each field of its schema, or one
    of all of it; then status and cost. A field that is named like a column of the input begins with `answer_`, and what is ours
    begins with `row_` if its name is taken.
    """

    path: Path
    kept: Mapping[str, Any]
    """Columns of the input that are asked for, each with its kind."""
    key_column: str | None
    schema: Mapping[str, Any] | None

    @property
    def failed_path(self) -> Path:
        """Where rows that failed are told with reason and payload."""
        return self.path.with_name(f"{self.path.name}.failed.jsonl")

    def write(self, results: Iterable[RowResult[Any]], *, payload_of: Callable[[str], bytes]) -> Summary:
        """Make the files anew, all or nothing each. *results* are consumed one by one."""
        statuses: Counter[str] = Counter()
        cost_pico = 0

        def write(failed: BinaryIO) -> None:
            def rows() -> Iterator[Mapping[str, Any]]:
                nonlocal cost_pico
                for result in results:
                    statuses[result.status] += 1
                    cost_pico += result.cost_pico
                    if result.failure is not None and result.failure.status != "pending":
                        _write_failed(failed, result, payload_of(result.key))
                    yield self._row(result)

            write_table(self.path, self._columns(), rows())

        replace_file(self.failed_path, write)
        has_failed = statuses["failed"] + statuses["held"] > 0
        if not has_failed:
            remove(self.failed_path)
        return Summary(self.path, self.failed_path if has_failed else None, dict(statuses), cost_pico)

    def remove(self) -> None:
        """Remove what was written."""
        remove(self.path)
        remove(self.failed_path)

    @property
    def _properties(self) -> Mapping[str, Any]:
        """What the schema says of each field; nothing if it has no fields."""
        return (self.schema or {}).get("properties") or {}

    @cached_property
    def _fields(self) -> dict[str, ColumnKind]:
        """What an answer consists of."""
        if self.schema is None:
            return {ANSWER: ColumnKind.TEXT}
        if not self._properties:
            return {ANSWER: ColumnKind.JSON}
        return {name: kind_of_schema(field, self.schema) for name, field in self._properties.items()}

    @cached_property
    def _names(self) -> dict[str, str]:
        """The column of each field of an answer."""
        taken = {*self.kept, *((self.key_column,) if self.key_column else ())}
        return {name: _free(name, taken, prefix="answer_") for name in self._fields}

    @cached_property
    def _own(self) -> dict[str, str]:
        """The columns that are ours."""
        taken = {*self.kept, *self._names.values(), *((self.key_column,) if self.key_column else ())}
        own = {name: _free(name, taken, prefix="row_") for name in ("key", "status", "cost")}
        return {**own, "key": self.key_column or own["key"]}

    def _columns(self) -> dict[str, Any]:
        key = self._own["key"]
        return {
            key: self.kept.get(key, ColumnKind.TEXT),
            **self.kept,
            **{self._names[name]: kind for name, kind in self._fields.items()},
            self._own["status"]: ColumnKind.TEXT,
            self._own["cost"]: ColumnKind.NUMBER,
        }

    def _row(self, result: RowResult[Any]) -> dict[str, Any]:
        answer = result.value if self._properties else {ANSWER: result.value}
        if not isinstance(answer, Mapping):  # there is none, or the schema was not strict
            answer = {}
        return {
            self._own["key"]: result.key,
            **{name: result.item.get(name) for name in self.kept},
            **{column: answer.get(name) for name, column in self._names.items()},
            self._own["status"]: result.status,
            self._own["cost"]: result.cost_pico / 1e12,
        }


def _free(name: str, taken: Container[str], *, prefix: str) -> str:
    while name in taken:
        name = prefix + name
    return name


def _write_failed(stream: BinaryIO, result: RowResult[Any], payload: bytes) -> None:
    failure = result.failure
    assert failure is not None
    row = {
        "row": result.number,
        "key": result.key,
        "status": failure.status,
        "reason": failure.reason,
        "message": failure.message,
        "attempts": failure.attempts,
        "cost": result.cost_pico / 1e12,
        "payload": json.loads(payload),
    }
    write_json_lines(stream, row, [row])


def choose_columns(columns: Mapping[str, Any], wanted: Sequence[str] | None) -> dict[str, Any]:
    """Of all *columns* those that are *wanted* (None: all), in the order wanted."""
    return dict(columns) if wanted is None else {name: columns.get(name, ColumnKind.TEXT) for name in wanted}
