"""What every endpoint can do, and the JSON care that they share."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from gpt_batch_api.domain.errors import PayloadError, SettingError
from gpt_batch_api.domain.outcome import Outcome, Usage
from gpt_batch_api.domain.request import ResponseSchema

MAX_DEPTH = 100
"""How deep what goes out may be nested."""
MAX_NUMBER_BITS = 1024
"""How long a whole number may be; of much longer ones Python itself refuses to write the digits."""
MAX_TOKENS = 10**10
"""More than a whole batch can use, and little enough for its cost to fit into the store."""


@dataclass(frozen=True)
class Shape:
    """A payload made ready for the wire, and what its answer may weigh."""

    body: dict[str, Any]
    model: str
    max_output_tokens: int | None
    choices: int
    schema: ResponseSchema | None


@dataclass(frozen=True)
class Choice:
    """One alternative answer. `text` is None where there is none (a refusal, a tool call)."""

    text: str | None
    refusal: str | None
    finish_reason: str
    tool_calls: tuple[dict[str, Any], ...] = ()

    @property
    def cut_off(self) -> bool:
        """The answer reached the maximum of output tokens."""
        return self.finish_reason == "length"


@dataclass(frozen=True)
class Reading:
    """A reply with HTTP status 200, understood: is it of use, and what did it use?"""

    outcome: Outcome
    usage: Usage


class Endpoint(Protocol):
    """One endpoint of the API."""

    path: str

    def prepare(self, payload: Mapping[str, Any]) -> Shape:
        """Check *payload* and make it ready; raises PayloadError."""
        ...

    def read(self, body: Mapping[str, Any], *, structured: bool) -> Reading:
        """Judge a reply body; never raises, whatever it is."""
        ...

    def choices(self, body: Mapping[str, Any]) -> tuple[Choice, ...]:
        """The alternative answers of a reply body."""
        ...


def raw_body(raw: bytes | None) -> dict[str, Any]:
    """The reply's body in a stored result line."""
    if raw is None:
        return {}
    response = json.loads(raw).get("response")
    body = response.get("body") if isinstance(response, Mapping) else None
    return body if isinstance(body, dict) else {}


def batch_usage(report: Mapping[str, Any]) -> Usage | None:
    """What a batch object says all its answers used (by the same names for every endpoint); None if it does not say."""
    usage = report.get("usage")
    if not isinstance(usage, Mapping) or not count(usage.get("total_tokens")):
        return None
    details_in = usage.get("input_tokens_details")
    details_out = usage.get("output_tokens_details")
    return Usage(
        input_tokens=count(usage.get("input_tokens")),
        cached_tokens=count(details_in.get("cached_tokens")) if isinstance(details_in, Mapping) else 0,
        output_tokens=count(usage.get("output_tokens")),
        reasoning_tokens=count(details_out.get("reasoning_tokens")) if isinstance(details_out, Mapping) else 0,
    )


def get_endpoint(path: str) -> Endpoint:
    """The endpoint at *path*; raises SettingError if it is not supported."""
    from gpt_batch_api.endpoints.chat import ChatCompletions

    supported: dict[str, Endpoint] = {endpoint.path: endpoint for endpoint in (ChatCompletions(),)}
    if path not in supported:
        raise SettingError(f"endpoint is {path!r}, but only {', '.join(supported)} is supported.", "endpoint")
    return supported[path]


def encode(body: Mapping[str, Any], *, what: str = "The payload") -> bytes:
    """Compact JSON, byte for byte what goes out. Raises PayloadError that names the place of what is not JSON.

    It is looked for before writing, because `json` lets some of it pass: it would turn the key 1 into the text "1".
    """
    if found := _not_json(body):
        place, why = found
        raise PayloadError(f"{what} is not JSON{f' at {place}' if place else ''}: {why}.")
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _not_json(value: Any, path: str = "", *, depth: int = 0) -> tuple[str, str] | None:
    """Where, and why, *value* cannot be written as JSON."""
    if depth > MAX_DEPTH:
        return f"{path:.80}…", f"it is nested more than {MAX_DEPTH} deep, or holds itself"
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                return path, f"the key {key!r:.60} is no text"
            if _is_broken(key):
                return path, f"the key {key!r:.60} holds half of a character pair (a lone surrogate)"
            if found := _not_json(item, f"{path}.{key}" if path else key, depth=depth + 1):
                return found
        return None
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            if found := _not_json(item, f"{path}[{index}]", depth=depth + 1):
                return found
        return None
    why = _no_scalar(value)
    return (path, why) if why else None


def _no_scalar(value: Any) -> str | None:
    """Why *value* is no text, number, truth value or null of JSON; None if it is one."""
    if isinstance(value, str):
        return "the text holds half of a character pair (a lone surrogate)" if _is_broken(value) else None
    if isinstance(value, int):
        return "the number is too long" if value.bit_length() > MAX_NUMBER_BITS else None
    if value is None or (isinstance(value, float) and math.isfinite(value)):
        return None
    return f"{value!r:.60} is no JSON value"


def _is_broken(text: str) -> bool:
    return printable(text) != text


def printable(text: str) -> str:
    """*text* without the halves of character pairs that JSON can hold, but no file, database or screen."""
    return text.encode(errors="replace").decode()


def read_json(text: str) -> Any:
    """The value of a JSON text that a model or a server wrote. Raises ValueError for whatever is none.

    Brackets beyond any depth, numbers that JSON does not have and halves of character pairs occur.
    """
    try:
        value = json.loads(text, parse_constant=_refuse)
        return json.loads(printable(json.dumps(value, ensure_ascii=False))) if "\\ud" in text.lower() else value
    except RecursionError:
        raise ValueError("it is nested beyond reason") from None


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


def require_count(payload: Mapping[str, Any], name: str) -> int | None:
    """The positive whole number at *name*, None if absent."""
    value = payload.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise PayloadError(f"{name} is {value!r}, but must be a whole number of at least 1.")
    return value


def count(value: Any) -> int:
    """A number of tokens from a reply; whatever is no sensible number counts as 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_TOKENS else 0
