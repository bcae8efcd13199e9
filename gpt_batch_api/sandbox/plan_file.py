"""Read a plan from a packaged name, a YAML or JSON file, or a document; every mistake is one clear line.

The dataclasses of `plan` are the format: names, types and bounds come from there, so the two cannot drift apart.
"""

from __future__ import annotations

import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from gpt_batch_api.sandbox.faults import is_about
from gpt_batch_api.sandbox.operations import ANSWERING, OPERATIONS
from gpt_batch_api.sandbox.plan import ANSWER_FAULTS, Plan

PLANS = Path(__file__).parent / "plans"


class PlanError(ValueError):
    """A plan that cannot be read; the text is one line that says where and why."""


def plan_names() -> tuple[str, ...]:
    """The plans that come with the library."""
    return tuple(sorted(path.stem for path in PLANS.glob("*.yaml")))


def load_plan(name_or_path: str | Path) -> Plan:
    """Read the plan *name_or_path*: one of `plan_names()`, or a YAML or JSON file."""
    text = str(name_or_path)
    path = PLANS / f"{text}.yaml" if text in plan_names() else Path(name_or_path)
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        known = ", ".join(plan_names())
        raise PlanError(f"There is no sandbox plan '{text}': give a file, or one of {known}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"The sandbox plan {path} cannot be read: {error}.") from error
    return parse_plan(_document(content, path.name), source=path.name)


def parse_plan(document: Any, *, source: str = "plan") -> Plan:
    """Make a plan of *document* (what YAML or JSON gave); *source* names it in errors."""
    plan: Plan = _build(Plan, {} if document is None else document, where="", source=source)
    for index, rule in enumerate(plan.faults):
        if not any(is_about(rule, operation) for operation in OPERATIONS):
            known = ", ".join((*OPERATIONS, "direct"))
            raise PlanError(f"{source}: faults[{index}].on: '{rule.on}' is no operation; known are {known}.")
        if rule.fault in ANSWER_FAULTS and not any(is_about(rule, operation) for operation in ANSWERING):
            raise PlanError(
                f"{source}: faults[{index}].fault: '{rule.fault}' is a fault of answers, and '{rule.on}' gives none; use "
                f"it on {', '.join(ANSWERING)} or direct."
            )
    return plan


def dump_plan(plan: Plan) -> str:
    """*plan* as JSON; `parse_plan` of it gives an equal plan."""
    return json.dumps(asdict(plan), sort_keys=True)


def plan_digest(plan: Plan) -> str:
    """What tells one plan from another."""
    return hashlib.sha256(dump_plan(plan).encode()).hexdigest()[:16]


def with_overrides(plan: Plan, *, seed: int | None = None, time_scale: float | None = None) -> Plan:
    """*plan* with the seed and the speed of time replaced where they are given."""
    if seed is not None:
        plan = replace(plan, seed=seed)
    if time_scale is not None:
        if time_scale <= 0:
            raise PlanError(f"time_scale is {time_scale}, but time must run: give a number above 0.")
        plan = replace(plan, timing=replace(plan.timing, time_scale=time_scale))
    return plan


def _document(content: str, source: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML without the words yes, no, on and off as truth values: `on` is a key of ours."""

    Loader.yaml_implicit_resolvers = {
        letter: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool" or letter in "tTfF"]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        return yaml.load(content, Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise PlanError(f"{source}{place}: {problem}.") from error


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _build(cls: type, value: Any, *, where: str, source: str) -> Any:
    """Make the dataclass *cls* of the mapping *value*."""
    hints = _hints(cls)
    if isinstance(value, int | float) and not isinstance(value, bool) and cls.__name__ == "Lag":
        value = dict.fromkeys(hints, value)  # one number for both kinds
    if not isinstance(value, Mapping):
        raise _wrong(where, source, "a mapping of keys to values", value)
    for key in value:
        if key not in hints:
            place = f"{where}.{key}" if where else str(key)
            raise PlanError(f"{source}: {place}: unknown key; known are {', '.join(hints)}.")
    arguments: dict[str, Any] = {}
    for field in fields(cls):
        place = f"{where}.{field.name}" if where else field.name
        if field.name in value:
            entry = _convert(hints[field.name], value[field.name], where=place, source=source)
            _check_bounds(entry, field.metadata, where=place, source=source)
            arguments[field.name] = entry
    try:
        return cls(**arguments)
    except TypeError as error:
        missing = str(error).partition(": ")[2] or str(error)
        raise PlanError(f"{source}: {where}: missing {missing}.") from error


def _convert(hint: Any, value: Any, *, where: str, source: str) -> Any:
    origin = get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return _convert_union(get_args(hint), value, where=where, source=source)
    if origin is Literal:
        if value not in get_args(hint):
            raise PlanError(f"{source}: {where}: {value!r} is unknown; known are {', '.join(get_args(hint))}.")
        return value
    if origin is tuple:
        entries = value if isinstance(value, list | tuple) else [value]
        inner = get_args(hint)[0]
        return tuple(
            _convert(inner, entry, where=f"{where}[{index}]", source=source) for index, entry in enumerate(entries)
        )
    if is_dataclass(hint) and isinstance(hint, type):
        return _build(hint, value, where=where, source=source)
    return _convert_plain(hint, value, where=where, source=source)


def _convert_union(options: tuple[Any, ...], value: Any, *, where: str, source: str) -> Any:
    if value is None and type(None) in options:
        return None
    mappings = [option for option in options if get_origin(option) is not None]
    if isinstance(value, Mapping) and mappings:
        inner = get_args(mappings[0])[1]
        return {
            str(key): _convert_plain(inner, entry, where=f"{where}.{key}", source=source)
            for key, entry in value.items()
        }
    plain = [option for option in options if option is not type(None) and get_origin(option) is None]
    return _convert_plain(plain[0], value, where=where, source=source)


def _convert_plain(hint: Any, value: Any, *, where: str, source: str) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint is float and is_number:
        return float(value)
    if hint is int and is_number and value == int(value):
        return int(value)
    if hint is bool and isinstance(value, bool):
        return value
    if hint is str and isinstance(value, str):
        return value
    words = {float: "a number", int: "a whole number", bool: "true or false", str: "a text"}
    raise _wrong(where, source, words.get(hint, str(hint)), value)


def _check_bounds(value: Any, bounds: Mapping[str, Any], *, where: str, source: str) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return
    if "least" in bounds and value < bounds["least"]:
        raise PlanError(f"{source}: {where}: {value} is too small; at least {bounds['least']}.")
    if "most" in bounds and value > bounds["most"]:
        raise PlanError(f"{source}: {where}: {value} is too large; at most {bounds['most']}.")


def _wrong(where: str, source: str, expected: str, value: Any) -> PlanError:
    place = f"{where}: " if where else ""
    return PlanError(f"{source}: {place}expected {expected}, got {value!r}.")
