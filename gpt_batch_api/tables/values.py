"""Values of cells: as text in a prompt or a CSV cell, as JSON, and of which kind a schema's are."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import math
import uuid
from collections.abc import Mapping
from typing import Any

from gpt_batch_api.domain.columns import ColumnKind, common_kind, kind_of


def as_plain(value: Any) -> Any:
    """*value* as JSON has it: None for what is missing, texts for moments and exact numbers, bytes as base64.

    Raises TypeError for what has no such form.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): as_plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_plain(item) for item in value]
    if isinstance(value, datetime.date | datetime.time):
        return None if value != value else value.isoformat()
    if isinstance(value, decimal.Decimal | datetime.timedelta | uuid.UUID):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if callable(scalar := getattr(value, "tolist", None)):  # numpy's numbers and arrays
        return as_plain(scalar())
    if type(value).__name__ in ("NAType", "NaTType"):  # what pandas writes for "missing"
        return None
    raise TypeError(f"{value!r:.60} ({type(value).__name__}) has no form in JSON")


def as_text(value: Any) -> str:
    """*value* as it stands in a prompt or a cell: texts as they are, nothing for what is missing, JSON for the rest."""
    plain = as_plain(value)
    if plain is None:
        return ""
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def kind_of_schema(schema: Mapping[str, Any], root: Mapping[str, Any]) -> ColumnKind:
    """The kind of the values that a JSON schema (inside *root*) allows."""
    if isinstance(reference := schema.get("$ref"), str):
        target: Any = root
        for step in reference.removeprefix("#").split("/")[1:]:
            target = target.get(step, {})
        return ColumnKind.JSON if target is root else kind_of_schema(target, root)
    if "anyOf" in schema:
        return common_kind(kind_of_schema(item, root) for item in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return common_kind(kind_of(value) for value in schema.get("enum", [schema.get("const")]))
    types = schema.get("type", [])
    names = {
        "string": ColumnKind.TEXT,
        "integer": ColumnKind.WHOLE,
        "number": ColumnKind.NUMBER,
        "boolean": ColumnKind.BOOL,
        "null": ColumnKind.EMPTY,
    }
    return common_kind(
        names.get(name, ColumnKind.JSON) for name in ([types] if isinstance(types, str) else types or ["object"])
    )
