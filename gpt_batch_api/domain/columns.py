"""Columns of a table that is read or written, and what kind of values stand in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any


class ColumnKind(StrEnum):
    """What the cells of a column are; any may be missing (None)."""

    EMPTY = "empty"
    """All are missing."""
    BOOL = "bool"
    WHOLE = "whole"
    NUMBER = "number"
    TEXT = "text"
    JSON = "json"
    """Lists and objects, or not all of one kind."""


Columns = Mapping[str, Any]
"""Names of columns in their order, each with its kind (`ColumnKind`), or its type in Parquet where that is known."""


def kind_of(value: Any) -> ColumnKind:
    """The kind of one value, as JSON has it."""
    if value is None:
        return ColumnKind.EMPTY
    if isinstance(value, bool):
        return ColumnKind.BOOL
    if isinstance(value, int):
        return ColumnKind.WHOLE if -(2**63) <= value < 2**63 else ColumnKind.JSON
    if isinstance(value, float):
        return ColumnKind.NUMBER
    return ColumnKind.TEXT if isinstance(value, str) else ColumnKind.JSON


def common_kind(kinds: Iterable[ColumnKind]) -> ColumnKind:
    """The one kind that holds values of all *kinds*."""
    found = set(kinds) - {ColumnKind.EMPTY}
    if not found:
        return ColumnKind.EMPTY
    if found <= {ColumnKind.WHOLE, ColumnKind.NUMBER}:
        return ColumnKind.NUMBER if ColumnKind.NUMBER in found else ColumnKind.WHOLE
    return found.pop() if len(found) == 1 else ColumnKind.JSON


def columns_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, ColumnKind]:
    """The columns that hold all *rows*, in the order in which they first appear."""
    found: dict[str, ColumnKind] = {}
    for row in rows:
        for name, value in row.items():
            found[name] = common_kind((found.get(name, ColumnKind.EMPTY), kind_of(value)))
    return found
