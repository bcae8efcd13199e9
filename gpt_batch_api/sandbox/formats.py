"""Judge what a body says about structured outputs and function tools; the same in Chat and Responses but for paths."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpt_batch_api.sandbox import errors
from gpt_batch_api.sandbox.errors import ApiError
from gpt_batch_api.sandbox.schema_check import trouble_with_schema

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_KINDS = ("text", "json_object", "json_schema")


@dataclass(frozen=True)
class Layout:
    """The form that an answer must have: by *schema*, as any JSON, or free."""

    schema: Any = None
    as_json: bool = False


def read_layout(layout: Any, *, param: str, inner: str, label: str) -> Layout:
    """Judge and read a format.

    *param* is its place in the body ("response_format"), *inner* the key below which Chat puts name and schema ("" in
    Responses), *label* what the service calls it in messages about schemas.
    """
    if layout is None:
        return Layout()
    if not isinstance(layout, Mapping):
        raise errors.wrong_type(param, expected="an object", value=layout)
    kind = layout.get("type")
    if kind is None:
        raise errors.missing_parameter(f"{param}.type")
    if kind not in _KINDS:
        raise errors.wrong_value(f"{param}.type", value=kind, allowed=_KINDS)
    if kind != "json_schema":
        return Layout(as_json=kind == "json_object")
    place = f"{param}.{inner}" if inner else param
    given = layout.get(inner) if inner else layout
    if not isinstance(given, Mapping):
        raise errors.missing_parameter(place)
    name = check_name(given.get("name"), param=f"{place}.name")
    schema = given.get("schema")
    trouble = trouble_with_schema(schema, strict=given.get("strict") is True)
    if trouble is not None:
        raise ApiError(400, f"Invalid schema for {label} '{name}': {trouble}", param=param)
    return Layout(schema=schema, as_json=True)


def check_name(name: Any, *, param: str) -> str:
    """The name of a format or function; it is short and plain."""
    if name is None:
        raise errors.missing_parameter(param)
    if not isinstance(name, str):
        raise errors.wrong_type(param, expected="a string", value=name)
    if len(name) > 64:
        raise errors.too_long(param, most=64, length=len(name))
    if not _NAME.fullmatch(name):
        message = (
            f"Invalid '{param}': string does not match pattern. "
            "Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."
        )
        raise ApiError(400, message, param=param, code="invalid_value")
    return name


def check_function(function: Any, *, param: str) -> None:
    """Judge a function's definition at *param*."""
    if not isinstance(function, Mapping):
        raise errors.missing_parameter(param)
    name = check_name(function.get("name"), param=f"{param}.name")
    parameters = function.get("parameters")
    if parameters is None:
        return
    trouble = trouble_with_schema(parameters, strict=function.get("strict") is True)
    if trouble is not None:
        message = f"Invalid schema for function '{name}': {trouble}"
        raise ApiError(400, message, param=f"{param}.parameters", code="invalid_function_parameters")


def check_mentions_json(body: Mapping[str, Any], *, part: str, message: str) -> None:
    """`json_object` demands that *part* of the body speaks of JSON somewhere."""
    text = json.dumps([body.get(part), body.get("instructions")])
    if "json" not in text.lower():
        raise ApiError(400, message, param=part)
