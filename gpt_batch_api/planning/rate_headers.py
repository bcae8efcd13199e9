"""What the headers of a reply say about the limits of its model.

What makes no sense counts as not said, so no header raises an error. What follows from them is left to `buckets`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

LONGEST_RESET_S = 2 * 86400.0

_UNITS_S = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|d|h|m|s)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_LONGEST_TEXT = 40
_LARGEST_LIMIT = 10**12


@dataclass(frozen=True)
class RateHeaders:
    """What a reply says about the limits of its model. None: nothing, or nothing that can be believed."""

    limit_requests: int | None = None
    remaining_requests: int | None = None
    reset_requests_s: float | None = None
    limit_tokens: int | None = None
    remaining_tokens: int | None = None
    reset_tokens_s: float | None = None

    @classmethod
    def read(cls, headers: Mapping[str, str]) -> RateHeaders:
        """Read `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, in whatever case they are written."""
        found = {name.lower(): value for name, value in headers.items() if name.lower().startswith("x-ratelimit-")}
        return cls(
            limit_requests=_count(found.get("x-ratelimit-limit-requests")),
            remaining_requests=_count(found.get("x-ratelimit-remaining-requests")),
            reset_requests_s=duration_s(found.get("x-ratelimit-reset-requests")),
            limit_tokens=_count(found.get("x-ratelimit-limit-tokens")),
            remaining_tokens=_count(found.get("x-ratelimit-remaining-tokens")),
            reset_tokens_s=duration_s(found.get("x-ratelimit-reset-tokens")),
        )


def duration_s(text: str | None) -> float | None:
    """Read a duration like `20ms`, `6m0s` or `1h2m3.5s`; a bare number counts seconds. None if it makes no sense."""
    text = (text or "").strip()
    if len(text) > _LONGEST_TEXT:
        return None
    if _NUMBER.fullmatch(text):
        seconds = float(text)
    elif _DURATION.fullmatch(text):
        seconds = sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))
    else:
        return None
    return seconds if seconds <= LONGEST_RESET_S else None


def _count(text: str | None) -> int | None:
    text = (text or "").strip()
    if len(text) > _LONGEST_TEXT or not _NUMBER.fullmatch(text):
        return None
    number = int(float(text))
    return number if number <= _LARGEST_LIMIT else None
