"""The strict subset: what is refused, in the words of the service."""

from __future__ import annotations

from typing import Any

import pytest

from gpt_batch_api.sandbox.schema_check import trouble_with_schema


def strict(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        **more,
    }


TEXT = {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "trouble"),
    [
        (TEXT, "schema must be a JSON Schema of 'type: \"object\"', got 'type: \"string\"'."),
        ([], "schema must be a JSON Schema of 'type: \"object\"', got 'type: \"None\"'."),
        ({"anyOf": [strict({})]}, "In context=(), 'anyOf' is not permitted."),
        (strict({}, anyOf=[strict({})]), "In context=(), 'anyOf' is not permitted."),
        (strict({}, oneOf=[strict({})]), "In context=(), 'oneOf' is not permitted."),
        (
            {"type": "object", "properties": {"a": TEXT}, "required": ["a"]},
            "In context=(), 'additionalProperties' is required to be supplied and to be false.",
        ),
        (
            strict({"a": strict({"b": TEXT}, required=[])}),
            "In context=('properties', 'a'), 'required' is required to be supplied and to be an array including every "
            "key in properties. Missing 'b'.",
        ),
        (
            strict({}, required=["a"]),
            "In context=(), 'required' is required to be supplied and to be an array including every key in "
            "properties. Extra required key 'a' supplied.",
        ),
        (
            strict({"a": {"type": "array", "items": {"type": "object"}}}),
            "In context=('properties', 'a', 'items'), 'additionalProperties' is required to be supplied and to be "
            "false.",
        ),
        (strict({"a": {"type": "array"}}), "In context=('properties', 'a'), array schema missing items."),
        (strict({"a": {}}), "In context=('properties', 'a'), schema must have a 'type' key."),
        (strict({"a": {**TEXT, "default": ""}}), "In context=('properties', 'a'), 'default' is not permitted."),
        (strict({"a": {**TEXT, "format": "uri"}}), "In context=('properties', 'a'), 'uri' is not a valid format."),
        (
            strict({"a": {"type": "array", "items": TEXT, "uniqueItems": True}}),
            "In context=('properties', 'a'), 'uniqueItems' is not permitted.",
        ),
        (
            strict({"a": {"$ref": "#/$defs/None"}}),
            "In context=('properties', 'a'), reference '#/$defs/None' can not be resolved.",
        ),
        (
            strict({}, **{"$defs": {"A": {"not": TEXT}}}),
            "In context=('$defs', 'A'), 'not' is not permitted.",
        ),
        (
            strict({"a": {"anyOf": [TEXT, {"type": "text"}]}}),
            "In context=('properties', 'a', 'anyOf', '1'), 'text' is not a valid type.",
        ),
    ],
)
def test_what_is_outside_the_subset_is_named_with_its_place(schema: Any, trouble: str) -> None:
    """The first breach, as the service puts it."""
    assert trouble_with_schema(schema, strict=True) == trouble


def test_what_the_subset_allows_passes() -> None:
    """References, recursion, unions below the root, bounds, formats and patterns."""
    schema = strict(
        {
            "a": {"$ref": "#/$defs/A"},
            "b": {"anyOf": [TEXT, {"type": "null"}]},
            "c": {"type": "array", "items": {"$ref": "#"}, "minItems": 1, "maxItems": 2},
            "d": {"type": ["integer", "null"], "minimum": 1, "exclusiveMaximum": 9, "multipleOf": 2},
            "e": {"type": "string", "format": "date-time"},
            "f": {"type": "string", "pattern": "^a+$"},
            "g": {"type": "string", "enum": ["x"], "title": "G", "description": "One of one."},
            "oneOf": TEXT,
        },
        **{"$defs": {"A": strict({"again": {"anyOf": [{"$ref": "#/$defs/A"}, {"type": "null"}]}})}},
    )
    assert trouble_with_schema(schema, strict=True) is None


def nested(levels: int) -> dict[str, Any]:
    return strict({"a": TEXT if levels == 1 else nested(levels - 1)})


@pytest.mark.parametrize(("levels", "fits"), [(9, True), (10, True), (11, False)])
def test_ten_levels_are_allowed(levels: int, fits: bool) -> None:
    """Exactly ten."""
    trouble = trouble_with_schema(nested(levels), strict=True)
    assert (trouble is None) == fits


@pytest.mark.parametrize(("values", "fits"), [(999, True), (1_000, True), (1_001, False)])
def test_a_thousand_enum_values_are_allowed(values: int, fits: bool) -> None:
    """Exactly a thousand, all enums together."""
    schema = strict({"a": {"enum": list(range(values - 1))}, "b": {"enum": [0]}})
    assert (trouble_with_schema(schema, strict=True) is None) == fits


def test_without_strict_only_the_root_must_be_an_object() -> None:
    """Everything else is the user's own risk."""
    assert trouble_with_schema({"type": "object", "oneOf": []}, strict=False) is None
    assert trouble_with_schema(TEXT, strict=False) is not None
