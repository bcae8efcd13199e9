"""What the emulated API answers when it refuses: one exception that knows its own reply.

The texts and codes are the service's where they are known (see docs/sandbox.md for those that are guesses).
Nothing here is raised for a fault of the sandbox itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

INVALID = "invalid_request_error"


@dataclass
class ApiError(Exception):
    """A reply with an error status; `body()` is its JSON."""

    status: int
    message: str
    type: str = INVALID
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.status} {self.message}"

    def body(self) -> dict[str, Any]:
        """The error document as the API sends it."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


def missing_parameter(param: str) -> ApiError:
    """Say that *param* must be given."""
    return ApiError(400, f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")


def wrong_type(param: str, *, expected: str, value: Any) -> ApiError:
    """Say that *param* must be *expected* ("a string") and what kind of thing it was."""
    message = f"Invalid type for '{param}': expected {expected}, but got {kind_of(value)} instead."
    return ApiError(400, message, param=param, code="invalid_type")


def wrong_value(param: str, *, value: Any, allowed: tuple[str, ...]) -> ApiError:
    """Say that *param* must be one of *allowed*."""
    names = [f"'{name}'" for name in allowed]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])}, and {names[-1]}"
    message = f"Invalid value: '{value}'. Supported values are: {listed}."
    return ApiError(400, message, param=param, code="invalid_value")


def too_long(param: str, *, most: int, length: int) -> ApiError:
    """Say that the text *param* may have *most* characters."""
    message = (
        f"Invalid '{param}': string too long. Expected a string with maximum length {most}, "
        f"but got a string with length {length} instead."
    )
    return ApiError(400, message, param=param, code="string_above_max_length")


def out_of_range(param: str, *, value: float, bound: float, above: bool) -> ApiError:
    """Say that the number *param* lies above (or below) its *bound*."""
    kind = "integer" if isinstance(value, int) and isinstance(bound, int) else "decimal"
    side, sign = ("above maximum", "<=") if above else ("below minimum", ">=")
    message = f"Invalid '{param}': {kind} {side} value. Expected a value {sign} {bound}, but got {value} instead."
    code = f"{kind}_{'above_max' if above else 'below_min'}_value"
    return ApiError(400, message, param=param, code=code)


def kind_of(value: Any) -> str:
    """The API's words for the JSON type of *value*."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int):
        return "an integer"
    if isinstance(value, float):
        return "a decimal"
    if isinstance(value, str):
        return "a string"
    return "an array" if isinstance(value, list) else "an object"
