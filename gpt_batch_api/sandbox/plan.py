"""A plan: how the sandbox behaves, in fair weather and foul.

Everything has a default, so `Plan()` is the calm plan. Names and meanings here are the names in a plan file; reading
one is left to `plan_file`. A plan is a value: replacing it at run time never changes batches that exist already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

AnswerFault = Literal[
    "refusal", "length", "broken_json", "wrong_json", "content_filter", "empty", "blank_id", "no_usage"
]
ANSWER_FAULTS: tuple[AnswerFault, ...] = get_args(AnswerFault)
TransportFault = Literal["lose_before", "lose_after", "status", "cut", "short", "stall", "garbage"]
CallFault = Literal[TransportFault, AnswerFault]
LineFaultKind = Literal[
    "missing",
    "doubled",
    "broken",
    "unknown_id",
    "status",
    "infrastructure",
    "expired",
    "timeout",
    "fatal",
    AnswerFault,
]
BatchFaultKind = Literal[
    "fail", "expire", "cancel", "stuck", "odd_status", "no_counts", "blank_ids", "late_ids", "empty_error_file"
]


def share_of_1(default: float | None = 0.0) -> Any:
    """A field from 0 to 1."""
    return field(default=default, metadata={"least": 0, "most": 1})


def amount(default: float | None, *, least: float = 0) -> Any:
    """A field that is not below *least*."""
    return field(default=default, metadata={"least": least})


def status_from(least: int) -> Any:
    """A field for an HTTP status, *least* at least."""
    return field(default=500, metadata={"least": least, "most": 599})


@dataclass(frozen=True)
class Timing:
    """How fast batches move, in simulated seconds, and how fast simulated time runs."""

    validating_s: float = amount(1.0)
    requests_per_s: float = amount(500.0, least=1e-6)
    minimum_s: float = amount(1.0)
    maximum_s: float | None = amount(None)
    finalizing_s: float = amount(1.0)
    cancelling_s: float = amount(1.0)
    completion_window_s: float = amount(86_400.0)
    time_scale: float = amount(1.0, least=1e-9)


@dataclass(frozen=True)
class Lag:
    """How long something new stays invisible, in simulated seconds."""

    files: float = amount(0.0)
    batches: float = amount(0.0)

    @property
    def longest(self) -> float:
        """Of both."""
        return max(self.files, self.batches)


@dataclass(frozen=True)
class Limits:
    """The service's own ceilings; smaller ones make small tests."""

    batch_requests: int = amount(50_000, least=1)
    batch_bytes: int = amount(209_715_200, least=1)
    upload_bytes: int = amount(209_715_200, least=1)
    batches_per_hour: int = amount(2_000, least=1)
    context_tokens: int | None = amount(None, least=1)


@dataclass(frozen=True)
class RateLimits:
    """What direct calls may ask for in one simulated minute; null means unlimited."""

    requests_per_minute: int | None = amount(None, least=1)
    tokens_per_minute: int | None = amount(None, least=1)
    retry_after: bool = True


@dataclass(frozen=True)
class Answers:
    """What answers look like, and how often they go wrong."""

    answer_tokens: int = amount(40, least=1)
    refusal_rate: float = share_of_1()
    length_rate: float = share_of_1()
    broken_json_rate: float = share_of_1()
    cache_rate: float = share_of_1()
    cache_write_rate: float = share_of_1()
    always_maximum: bool = False


@dataclass(frozen=True, kw_only=True)
class Choice:
    """When a rule strikes: all of `match`, `nth` and `rate` that are given must agree, at most `times` times."""

    rate: float | None = share_of_1(None)
    nth: tuple[int, ...] = ()
    times: int | None = amount(None)


@dataclass(frozen=True, kw_only=True)
class CallRule(Choice):
    """A fault of calls: `on` names an operation, or several with `*`, or `direct` for all that answer."""

    on: str
    fault: CallFault
    match: str = ""
    status: int = status_from(200)
    code: str | None = None
    type: str | None = None
    message: str | None = None
    retry_after: float | None = amount(None)
    after_bytes: int = amount(0)
    seconds: float = amount(0.0)


@dataclass(frozen=True, kw_only=True)
class LineRule(Choice):
    """A fault of single lines in the result files of batches; `match` is looked for in the line that was sent."""

    fault: LineFaultKind
    match: str = ""
    status: int = status_from(0)
    code: str | None = None
    type: str | None = None
    message: str | None = None
    charged: bool | None = None


@dataclass(frozen=True, kw_only=True)
class BatchRule(Choice):
    """A fault of whole batches. `after_fraction` is the share of its requests that are done when it strikes."""

    fault: BatchFaultKind
    code: str | None = None
    message: str | None = None
    after_fraction: float = share_of_1(0.5)
    seconds: float = amount(10.0)


@dataclass(frozen=True)
class Plan:
    """The whole plan. See docs/sandbox.md, which lists every key."""

    seed: int = 0
    timing: Timing = Timing()
    limits: Limits = Limits()
    enqueued_token_limit: int | Mapping[str, int] | None = None
    list_lag_s: Lag = Lag()
    retrieve_lag_s: Lag = Lag()
    answers: Answers = Answers()
    rate_limits: RateLimits = RateLimits()
    latency_s: float = amount(0.0)
    latency_spread_s: float = amount(0.0)
    flex_unavailable_rate: float = share_of_1()
    billing_error: str | None = None
    unknown_file: Literal["refuse", "fail"] = "refuse"
    extra_models: tuple[str, ...] = ()
    faults: tuple[CallRule, ...] = ()
    lines: tuple[LineRule, ...] = ()
    batches: tuple[BatchRule, ...] = ()

    def enqueued_limit(self, model: str) -> int | None:
        """How many prompt tokens of *model* may be under way in batches at once; None is no limit."""
        limit = self.enqueued_token_limit
        return limit.get(model) if isinstance(limit, Mapping) else limit
