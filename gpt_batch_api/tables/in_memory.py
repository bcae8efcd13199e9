"""Rows of what a program holds: lists, generators, frames, data sets. Known by how they behave, never imported."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gpt_batch_api.domain.errors import UserError
from gpt_batch_api.tables.row import Row

ITEM = "item"
"""The one column of items that have no columns of their own."""


class Items:
    """A list, a generator, a Hugging Face data set: anything that can be iterated.

    Mappings, dataclasses, pydantic models and named tuples have columns; any other item is its own column `item`.
    """

    name = "the list of items"
    columns: tuple[str, ...] | None = None
    folder = Path()
    kinds: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = items
        self.repeatable = iter(items) is not items

    def rows(self) -> Iterator[Row]:
        for number, item in enumerate(self._items, start=1):
            yield Row(number, _cells(item), item, f"item {number}")


class Frame:
    """A pandas or polars frame, read row by row. An index is no column."""

    name = "the frame"
    repeatable = True
    folder = Path()
    kinds: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, columns: Sequence[str], read: Callable[[], Iterable[Sequence[Any]]]) -> None:
        """*read* gives the values of each row, in the order of *columns*."""
        if twice := [name for name in columns if columns.count(name) > 1]:
            raise UserError(f"The frame has two columns {twice[0]!r}. Give each column a name of its own.")
        self.columns: tuple[str, ...] | None = tuple(columns)
        self._read = read

    @classmethod
    def of(cls, frame: Any) -> Frame:
        """The rows of *frame*: `itertuples` reads those of pandas, `iter_rows` those of polars."""
        columns = [str(name) for name in frame.columns]
        if hasattr(frame, "itertuples"):
            return cls(columns, lambda: frame.itertuples(index=False, name=None))
        return cls(columns, frame.iter_rows)

    def rows(self) -> Iterator[Row]:
        assert self.columns is not None
        for number, values in enumerate(self._read(), start=1):
            cells = dict(zip(self.columns, values, strict=True))
            yield Row(number, cells, cells, f"row {number}")


def _cells(item: Any) -> Mapping[str, Any]:
    if isinstance(item, Mapping):
        return item
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        return {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
    for method in ("model_dump", "_asdict"):  # of pydantic models, of named tuples
        if callable(convert := getattr(item, method, None)):
            cells: Mapping[str, Any] = convert()
            return cells
    return {ITEM: item}
