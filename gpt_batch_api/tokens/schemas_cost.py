"""Structured output: what a JSON schema in `response_format` or `text.format` adds to the prompt.

The server shows the model a section "# Response Formats" with the schema as compact JSON in the given key order. Keys
that only constrain values are left out of it; a *property* that happens to be called like one stays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from gpt_batch_api.tokens.text import LONGEST_KEPT, compact_json

_NOT_SHOWN = frozenset(
    {
        "required",
        "additionalProperties",
        "$schema",
        "default",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "minContains",
        "maxContains",
        "pattern",
        "format",
        "multipleOf",
        "uniqueItems",
    }
)
_NAME_TO_SCHEMA = frozenset({"properties", "$defs", "definitions", "patternProperties"})
_VALUES = frozenset({"enum", "const", "examples", "title", "description"})


@dataclass(frozen=True)
class SchemaText:
    """What the model sees of a response schema."""

    name: str
    text: str


def response_schema(format_: Any) -> SchemaText | None:
    """What is shown of *format_*, the value of `response_format` or `text.format`; None if it asks for no schema."""
    if not isinstance(format_, Mapping) or format_.get("type") != "json_schema":
        return None
    inner = format_.get("json_schema")
    spec = inner if isinstance(inner, Mapping) else format_
    name, description = spec.get("name"), spec.get("description")
    name = name if isinstance(name, str) else ""
    description = description if isinstance(description, str) else ""
    key = compact_json(spec.get("schema"))
    render = _render_kept if len(key) <= LONGEST_KEPT else _render
    return SchemaText(name, render(name, description, key))


@lru_cache(maxsize=256)
def _render_kept(name: str, description: str, schema: str) -> str:
    """The same, remembered: millions of requests share a schema."""
    return _render(name, description, schema)


def _render(name: str, description: str, schema: str) -> str:
    comment = f"// {description}\n" if description else ""
    return f"# Response Formats\n\n## {name}\n\n{comment}{compact_json(_shown(json.loads(schema)))}"


def _shown(schema: Any) -> Any:
    """*schema* without what the model does not see."""
    if isinstance(schema, list):
        return [_shown(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _shown_value(key, value) for key, value in schema.items() if key not in _NOT_SHOWN}


def _shown_value(key: str, value: Any) -> Any:
    if key in _VALUES:
        return value
    if key in _NAME_TO_SCHEMA and isinstance(value, dict):
        return {name: _shown(inner) for name, inner in value.items()}
    return _shown(value)
