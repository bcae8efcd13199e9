"""What the limit settings mean in the units that the engine counts in: requests, bytes, tokens, picodollars.

MB are 10^6 bytes, ktokens 1000 tokens; both are divided by their safety factor and rounded down. Cost is whole
picodollars (10^12 to the unit of currency, whichever that is). A limit on a batch never lies above the limit on what may
be on the server at once, unless that is 0: then nothing is sent, but batches are prepared all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from gpt_batch_api.domain.settings import Settings

Measure = Literal["requests", "mb", "ktokens", "cost"]

_PICO = 10**12


@dataclass(frozen=True)
class BatchLimits:
    """Limits of one batch."""

    requests: int
    size_bytes: int
    input_tokens: int
    cost_pico: int

    @classmethod
    def of(cls, settings: Settings) -> BatchLimits:
        return cls(
            requests=effective_batch_limit(settings, "requests"),
            size_bytes=_size_bytes(settings, effective_batch_limit(settings, "mb")),
            input_tokens=_tokens(settings, effective_batch_limit(settings, "ktokens")),
            cost_pico=_pico(effective_batch_limit(settings, "cost")),
        )


@dataclass(frozen=True)
class RemoteLimits:
    """Limits of what may be on the server at once; a 0 means that nothing may."""

    batches: int
    requests: int
    size_bytes: int
    input_tokens: int
    cost_pico: int

    @classmethod
    def of(cls, settings: Settings) -> RemoteLimits:
        limits = settings.limits
        return cls(
            batches=limits.max_remote_batches,
            requests=limits.max_remote_requests,
            size_bytes=_size_bytes(settings, limits.max_remote_mb),
            input_tokens=_tokens(settings, limits.max_remote_ktokens),
            cost_pico=_pico(limits.max_remote_cost),
        )


@dataclass(frozen=True)
class TotalLimits:
    """Limits of a sum: of the whole task, of one run, of the direct requests that are booked together."""

    requests: int
    input_tokens: int
    cost_pico: int

    @classmethod
    def of_task(cls, settings: Settings) -> TotalLimits:
        limits = settings.limits
        return cls._of(settings, limits.max_task_requests, limits.max_task_ktokens, limits.max_task_cost)

    @classmethod
    def of_session(cls, settings: Settings) -> TotalLimits:
        limits = settings.limits
        return cls._of(settings, limits.max_session_requests, limits.max_session_ktokens, limits.max_session_cost)

    @classmethod
    def of_direct(cls, settings: Settings) -> TotalLimits:
        limits = settings.limits
        return cls._of(settings, limits.max_direct_requests, limits.max_direct_ktokens, limits.max_direct_cost)

    @classmethod
    def _of(cls, settings: Settings, requests: int, ktokens: float, cost: Decimal) -> TotalLimits:
        return cls(requests=requests, input_tokens=_tokens(settings, ktokens), cost_pico=_pico(cost))


def effective_batch_limit(settings: Settings, measure: Measure) -> Any:
    """The value of max_batch_*measure* as it works: what may be on the server at once bounds it too, unless that is 0."""
    batch, remote = (settings.value(f"max_{where}_{measure}") for where in ("batch", "remote"))
    return min(batch, remote) if remote else batch


def less_token_margin(learnt: int, settings: Settings) -> int:
    """How many tokens are counted on where the server was found to take *learnt*; 1 at least."""
    return max(1, _divide(learnt, 1, settings.limits.max_token_safety))


def _tokens(settings: Settings, ktokens: float) -> int:
    return _divide(ktokens, 1000, settings.limits.max_token_safety)


def _size_bytes(settings: Settings, megabytes: float) -> int:
    return _divide(megabytes, 10**6, settings.limits.max_mb_safety)


def _pico(cost: Decimal) -> int:
    return int(cost * _PICO)


def _divide(amount: float, unit: int, safety: float) -> int:
    """*amount* units over *safety*, rounded down: exactly as the user wrote both, not as binary fractions have them."""
    return int(Decimal(repr(amount)) * unit // Decimal(repr(safety)))
