"""Judge a JSON schema against the strict subset, in the service's words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

_FORBIDDEN = (
    "allOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "patternProperties",
    "propertyNames",
    "unevaluatedProperties",
    "minProperties",
    "maxProperties",
    "prefixItems",
    "contains",
    "minContains",
    "maxContains",
    "unevaluatedItems",
    "uniqueItems",
    "minLength",
    "maxLength",
    "default",
)
_TYPES = ("string", "number", "boolean", "integer", "object", "array", "null")
_FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
_MAX_PROPERTIES, _MAX_LEVELS, _MAX_ENUM_VALUES, _MAX_CHARACTERS = 5_000, 10, 1_000, 120_000

Context = tuple[str, ...]


def trouble_with_schema(schema: Any, *, strict: bool) -> str | None:
    """What is wrong with *schema*, or None. Without *strict* only its root must be an object."""
    try:
        return _trouble(json.dumps(schema), strict)
    except RecursionError:
        return f"schema exceeds the maximum depth of {_MAX_LEVELS} levels."


@lru_cache(maxsize=512)
def _trouble(schema_text: str, strict: bool) -> str | None:
    # Cached: the lines of a batch mostly share one schema.
    schema = json.loads(schema_text)
    kind = schema.get("type") if isinstance(schema, dict) else None
    if kind != "object":
        if strict and isinstance(schema, dict) and "anyOf" in schema:
            return "In context=(), 'anyOf' is not permitted."
        return f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'."
    return (next(_walk(schema, (), schema, level=1), None) or _too_large(schema)) if strict else None


def _walk(schema: Any, context: Context, root: dict[str, Any], *, level: int) -> Iterator[str]:
    """Each breach in *schema* and below it; *context* is the way there, *level* the depth of objects."""
    if not isinstance(schema, dict):
        yield f"In context={context}, schema must be an object."
        return
    for keyword in _FORBIDDEN:
        if keyword in schema:
            yield f"In context={context}, '{keyword}' is not permitted."
    if not context and "anyOf" in schema:
        yield "In context=(), 'anyOf' is not permitted."
    yield from _walk_keywords(schema, context, root, level=level)
    for name in ("$defs", "definitions"):
        for key, inner in _mapping(schema.get(name)).items():
            yield from _walk(inner, (*context, name, key), root, level=1)


def _walk_keywords(schema: dict[str, Any], context: Context, root: dict[str, Any], *, level: int) -> Iterator[str]:
    if "$ref" in schema:
        if not _resolves(schema["$ref"], root):
            yield f"In context={context}, reference '{schema['$ref']}' can not be resolved."
        return
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if kinds == [None] and not any(key in schema for key in ("anyOf", "enum", "const")):
        yield f"In context={context}, schema must have a 'type' key."
    for kind in kinds:
        if kind is not None and kind not in _TYPES:
            yield f"In context={context}, '{kind}' is not a valid type."
    if "format" in schema and schema["format"] not in _FORMATS:
        yield f"In context={context}, '{schema['format']}' is not a valid format."
    if "object" in kinds:
        yield from _walk_object(schema, context, root, level=level)
    if "array" in kinds:
        if "items" not in schema:
            yield f"In context={context}, array schema missing items."
        else:
            yield from _walk(schema["items"], (*context, "items"), root, level=level)
    for index, branch in enumerate(schema.get("anyOf") or ()):
        yield from _walk(branch, (*context, "anyOf", str(index)), root, level=level)


def _walk_object(schema: dict[str, Any], context: Context, root: dict[str, Any], *, level: int) -> Iterator[str]:
    if level > _MAX_LEVELS:
        yield f"In context={context}, schema exceeds the maximum depth of {_MAX_LEVELS} levels."
        return
    if schema.get("additionalProperties") is not False:
        yield f"In context={context}, 'additionalProperties' is required to be supplied and to be false."
    properties, required = _mapping(schema.get("properties")), schema.get("required")
    demand = "'required' is required to be supplied and to be an array including every key in properties."
    names = required if isinstance(required, list) else []
    for name in properties:
        if name not in names:
            yield f"In context={context}, {demand} Missing '{name}'."
    for name in names:
        if name not in properties:
            yield f"In context={context}, {demand} Extra required key '{name}' supplied."
    for name, inner in properties.items():
        yield from _walk(inner, (*context, "properties", name), root, level=level + 1)


def _too_large(schema: dict[str, Any]) -> str | None:
    properties = values = characters = 0
    for inner in _all_schemas(schema):
        names = [*_mapping(inner.get("properties")), *_mapping(inner.get("$defs"))]
        enum = inner.get("enum") if isinstance(inner.get("enum"), list) else []
        properties += len(_mapping(inner.get("properties")))
        values += len(enum or ())
        characters += sum(map(len, names)) + sum(len(value) for value in enum or () if isinstance(value, str))
    if properties > _MAX_PROPERTIES:
        return f"schema has {properties} properties, more than the maximum of {_MAX_PROPERTIES}."
    if values > _MAX_ENUM_VALUES:
        return f"schema has {values} enum values, more than the maximum of {_MAX_ENUM_VALUES}."
    if characters > _MAX_CHARACTERS:
        return f"schema has {characters} characters of names and enum values, more than {_MAX_CHARACTERS}."
    return None


def _all_schemas(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _all_schemas(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _all_schemas(inner)


def _resolves(reference: Any, root: dict[str, Any]) -> bool:
    return isinstance(reference, str) and follow(reference, root) is not None


def follow(reference: str, root: Any) -> Any:
    """What the local JSON pointer *reference* ("#/$defs/Name") points to in *root*, or None."""
    if not reference.startswith("#"):
        return None
    found = root
    for step in reference[1:].split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
