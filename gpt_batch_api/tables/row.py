"""A row of the user's input, and where rows come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Row:
    """One row. `number` counts all rows of the input from 1; `place` is how a person finds it there."""

    number: int
    cells: Mapping[str, Any]
    item: Any
    """What the user gave: the cells, for a row of a file or frame."""
    place: str


class Source(Protocol):
    """Where rows come from."""

    name: str
    """What messages call it."""
    columns: tuple[str, ...] | None
    """All columns, where they are known before the first row."""
    kinds: Mapping[str, Any]
    """What each column holds (a `ColumnKind`, or its type in Parquet), where that is known before the first row."""
    repeatable: bool
    """Whether `rows` may be called again and gives the same rows."""
    folder: Path
    """What relative paths in cells begin at."""

    def rows(self) -> Iterator[Row]:
        """All rows, read as they are consumed. Raises UserError that names the place of whatever is wrong."""
        ...
