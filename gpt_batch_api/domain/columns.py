"""Columns of a table that is written to a file, and what kind of values stand in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

Columns = dict[str, "Kind"]
"""By name, in their order."""


class Kind(StrEnum):
    """Any value may be missing (None)."""

    TEXT = "text"
    WHOLE = "whole number"
    NUMBER = "number"
    TRUTH = "true or false"
    JSON = "any JSON value"


_MOST = 2**63 - 1


def learnt(rows: Iterable[Mapping[str, Any]]) -> Columns:
    """The columns that hold all *rows*, in the order in which they first appear."""
    found: dict[str, Kind | None] = {}
    for row in rows:
        for name, value in row.items():
            found[name] = _joined(found.get(name), _kind_of(value))
    return {name: kind or Kind.TEXT for name, kind in found.items()}


def _kind_of(value: object) -> Kind | None:
    """None: a missing value says nothing."""
    match value:
        case None:
            return None
        case bool():
            return Kind.TRUTH
        case int():
            return Kind.WHOLE if -_MOST <= value <= _MOST else Kind.JSON
        case float():
            return Kind.NUMBER
        case str():
            return Kind.TEXT
    return Kind.JSON


def _joined(one: Kind | None, other: Kind | None) -> Kind | None:
    """A kind that takes values of both."""
    if one is None or other is None or one is other:
        return one or other
    return Kind.NUMBER if {one, other} == {Kind.WHOLE, Kind.NUMBER} else Kind.JSON
