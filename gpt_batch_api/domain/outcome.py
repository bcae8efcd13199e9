"""What came back for one request, in words that do not depend on the endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


@dataclass(frozen=True)
class Usage:
    """Tokens that the server says it used for one response.

    Totals include their details: `input_tokens` contains `cached_tokens` and `cache_write_tokens`, `output_tokens`
    contains `reasoning_tokens`. A detail that the server leaves out counts as 0.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.output_tokens + other.output_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


class Road(StrEnum):
    """How a request travels, which decides its price."""

    BATCH = "batch"
    DIRECT = "direct"
    FLEX = "flex"


@dataclass(frozen=True, order=True)
class Source:
    """Where answers come from: a batch, or a group of direct calls that is looked at together."""

    kind: Literal["batch", "group"]
    id: int

    def __str__(self) -> str:
        return f"Batch {self.id}" if self.kind == "batch" else f"Direct group {self.id}"


class Verdict(StrEnum):
    """What an answer means for its request."""

    SUCCESS = "success"
    RETRYABLE = "retryable"
    """May succeed if asked again; counts as an attempt."""
    FREE = "free"
    """The request did not run (its batch expired or was cancelled): asked again without counting an attempt."""
    FATAL = "fatal"
    """Asking again cannot help; only the user can."""
    ACCOUNT = "account"
    """Concerns the whole account: the run pauses, no attempt is used up."""


@dataclass(frozen=True)
class Outcome:
    """The judgement of one answer: `reason` is a stable short code, `message` what a person reads."""

    verdict: Verdict
    reason: str
    message: str = ""

    @property
    def ok(self) -> bool:
        return self.verdict is Verdict.SUCCESS


SUCCESS = Outcome(Verdict.SUCCESS, "ok")
LOST_REPLY = "lost_reply"
"""The reason of a direct call whose answer nobody has seen."""
