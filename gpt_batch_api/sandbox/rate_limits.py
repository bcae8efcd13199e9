"""Rate limits of direct calls: two buckets per model that fill up again in simulated time.

As at the service, the tokens of a call are guessed from its characters. Kept in memory only: after a restart the
buckets are full.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Literal

from gpt_batch_api.sandbox.errors import ApiError
from gpt_batch_api.sandbox.plan import RateLimits

_CHARACTERS_PER_TOKEN = 4
Kind = Literal["requests", "tokens"]


@dataclass
class _Bucket:
    limit: int
    level: float
    at: float

    def refill(self, now: float) -> None:
        self.level = min(self.limit, self.level + max(0.0, now - self.at) * self.limit / 60)
        self.at = max(self.at, now)  # calls come by several threads, and not quite in order

    def wait_s(self, amount: float) -> float:
        """How long until *amount* is there."""
        return max(0.0, (amount - self.level) * 60 / self.limit)


class RateLimiter:
    """Admits calls, or raises the service's 429."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, Kind, int], _Bucket] = {}
        self._lock = threading.Lock()

    def admit(
        self, model: str, *, characters: int, limits: RateLimits, now: float, time_scale: float
    ) -> dict[str, str]:
        """Take a call of *characters* off the buckets of *model*; return the headers that say what is left."""
        wanted: dict[Kind, int] = {"requests": 1, "tokens": math.ceil(characters / _CHARACTERS_PER_TOKEN)}
        ceilings: dict[Kind, int | None] = {
            "requests": limits.requests_per_minute,
            "tokens": limits.tokens_per_minute,
        }
        with self._lock:
            buckets = {
                kind: self._bucket(model, kind, limit, now) for kind, limit in ceilings.items() if limit is not None
            }
            headers = _headers(buckets, time_scale)
            for kind, bucket in buckets.items():
                if wanted[kind] > bucket.level:
                    raise _refusal(model, kind, bucket, wanted[kind], limits, headers, time_scale)
            for kind, bucket in buckets.items():
                bucket.level -= wanted[kind]
            return _headers(buckets, time_scale)

    def _bucket(self, model: str, kind: Kind, limit: int, now: float) -> _Bucket:
        bucket = self._buckets.setdefault((model, kind, limit), _Bucket(limit, limit, now))
        bucket.refill(now)
        return bucket


def duration_text(seconds: float) -> str:
    """*seconds* as the service writes them: 20ms, 1.5s, 6m0s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    if seconds < 60:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s"


def _headers(buckets: dict[Kind, _Bucket], time_scale: float) -> dict[str, str]:
    headers = {}
    for kind, bucket in buckets.items():
        headers[f"x-ratelimit-limit-{kind}"] = str(bucket.limit)
        headers[f"x-ratelimit-remaining-{kind}"] = str(int(bucket.level))
        headers[f"x-ratelimit-reset-{kind}"] = duration_text(bucket.wait_s(bucket.limit) / time_scale)
    return headers


def _refusal(
    model: str,
    kind: Kind,
    bucket: _Bucket,
    wanted: int,
    limits: RateLimits,
    headers: dict[str, str],
    time_scale: float,
) -> ApiError:
    unit = "requests per min (RPM)" if kind == "requests" else "tokens per min (TPM)"
    if wanted > bucket.limit:
        message = (
            f"Request too large for {model} in organization org-sandbox on {unit}: Limit {bucket.limit}, "
            f"Requested {wanted}. The input or output tokens must be reduced in order to run successfully."
        )
        return ApiError(429, message, type=kind, code="rate_limit_exceeded", headers=headers)
    wait = bucket.wait_s(wanted) / time_scale
    message = (
        f"Rate limit reached for {model} in organization org-sandbox on {unit}: Limit {bucket.limit}, "
        f"Used {bucket.limit - int(bucket.level)}, Requested {wanted}. Please try again in {duration_text(wait)}."
    )
    if limits.retry_after:
        headers = {**headers, "retry-after": str(math.ceil(wait))}
    return ApiError(429, message, type=kind, code="rate_limit_exceeded", headers=headers)
