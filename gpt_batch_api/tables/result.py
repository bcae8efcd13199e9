"""What became of one row."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, TypeVar

from gpt_batch_api.domain.outcome import Usage

T = TypeVar("T")


@dataclass(frozen=True)
class Failure:
    """Why a row has no value (yet).

    `status` is `failed` (for good), `held` (the run stopped and waits for your decision) or `pending` (not answered
    yet). `reason` is a short, stable code such as `refusal`, `cut_off` or `parse_failure`; `message` is for people.
    """

    status: str
    reason: str
    message: str
    attempts: int

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.status, self.reason, self.message)))


@dataclass(frozen=True)
class RowResult(Generic[T]):
    """One row and its answer: a `value`, or a `failure` that says why there is none."""

    number: int
    """The row's number in the input, from 1."""
    key: str
    item: Any
    """What was asked about: the item as it was given, or the row of a file or frame as a dict."""
    value: T | None
    failure: Failure | None
    usage: Usage
    """Tokens of all its attempts."""
    cost_pico: int
    """What all its attempts cost, in whole picodollars (10^12 to the dollar)."""
    cut_off: bool = False
    """The text ends where the maximum of output tokens was reached."""

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.failure is None

    @property
    def status(self) -> str:
        """In one word: `ok`, `cut_off`, `failed`, `held` or `pending`."""
        if self.failure is not None:
            return self.failure.status
        return "cut_off" if self.cut_off else "ok"

    @property
    def cost(self) -> Decimal:
        """What all its attempts cost, in dollars, exactly."""
        return Decimal(self.cost_pico).scaleb(-12)
