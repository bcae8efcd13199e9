"""What an error of the server means: one table, the first row that fits decides.

The same errors arrive in three ways: as an HTTP reply to a direct call, as a line of a result file
(`response.status_code` and `response.body.error`), and as a line's own `error`. Codes never heard of are judged by
their status class.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpt_batch_api.domain.outcome import Outcome, Verdict
from gpt_batch_api.endpoints.base import printable

BILLING_CODES = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
    }
)

MAX_CHARACTERS = 500
"""How much is kept of each text of an error."""


@dataclass(frozen=True)
class ServerError:
    """An error as the server words it; whatever it leaves out is empty."""

    status: int | None = None
    code: str = ""
    type: str = ""
    param: str = ""
    message: str = ""

    @classmethod
    def read(cls, body: object, *, status: int | None = None) -> ServerError:
        """Find the error in a reply body of any shape: `{"error": {…}}`, the inner object, a text, or nothing."""
        if isinstance(body, Mapping):
            inner = body.get("error", body)
            if isinstance(inner, Mapping):
                return cls(
                    status=status,
                    code=_text(inner.get("code")),
                    type=_text(inner.get("type")),
                    param=_text(inner.get("param")),
                    message=_text(inner.get("message")),
                )
            body = inner
        return cls(status=status, message=_text(body))

    @property
    def says_something(self) -> bool:
        """Whether it is an error at all, and no empty form."""
        return bool(self.code or self.type or self.message)

    def __str__(self) -> str:
        label = self.code or self.type or (f"HTTP {self.status}" if self.status else "error")
        return f"{label}: {self.message}" if self.message else label


def _text(value: Any) -> str:
    """The server's words, cut short: a proxy may send a whole page."""
    return "" if value is None else printable(str(value)[:MAX_CHARACTERS])


@dataclass(frozen=True)
class Row:
    """One row of the table: it fits if the code is among *codes* (when given) and the status among *statuses*."""

    verdict: Verdict
    reason: str
    codes: frozenset[str] = frozenset()
    statuses: frozenset[int] = frozenset()

    def fits(self, error: ServerError) -> bool:
        if self.codes and not ({error.code, error.type} & self.codes):
            return False
        return not self.statuses or error.status in self.statuses


def _row(verdict: Verdict, reason: str, *codes: str, status: tuple[int, ...] = ()) -> Row:
    return Row(verdict, reason, frozenset(codes), frozenset(status))


TABLE: tuple[Row, ...] = (
    # the whole account
    _row(Verdict.ACCOUNT, "billing", *BILLING_CODES),
    _row(Verdict.ACCOUNT, "invalid_api_key", "invalid_api_key"),
    _row(Verdict.ACCOUNT, "unauthorized", status=(401,)),
    _row(Verdict.ACCOUNT, "forbidden", status=(403,)),
    # did not run
    _row(Verdict.FREE, "expired", "batch_expired"),
    _row(Verdict.FREE, "cancelled", "batch_cancelled"),
    # may succeed another time
    _row(Verdict.RETRYABLE, "request_timeout", "request_timeout"),
    _row(Verdict.RETRYABLE, "slow_down", "slow_down"),
    _row(Verdict.RETRYABLE, "resource_unavailable", "resource_unavailable"),
    _row(Verdict.RETRYABLE, "overloaded", "server_is_overloaded"),
    _row(Verdict.RETRYABLE, "rate_limited", "rate_limit_exceeded"),
    _row(Verdict.RETRYABLE, "server_error", "server_error"),
    _row(Verdict.RETRYABLE, "infrastructure_fault", status=(0,)),
    _row(Verdict.RETRYABLE, "timeout", status=(408,)),
    _row(Verdict.RETRYABLE, "conflict", status=(409,)),
    _row(Verdict.RETRYABLE, "rate_limited", status=(429,)),
    # cannot
    _row(Verdict.FATAL, "context_length_exceeded", "context_length_exceeded"),
    _row(Verdict.FATAL, "model_not_found", "model_not_found"),
    _row(Verdict.FATAL, "invalid_request", status=(400, 404, 405, 413, 415, 422)),
)

_TOO_LARGE = re.compile(r"Limit:? ([0-9][0-9,]{0,20}), (?:Used:? [0-9,]+, )?Requested:? ([0-9][0-9,]{0,20})")


def judge(error: ServerError) -> Outcome:
    """The verdict on *error*, with the server's own words for the reader."""
    if _never_fits(error):
        return Outcome(Verdict.FATAL, "request_too_large", str(error))
    for row in TABLE:
        if row.fits(error):
            return Outcome(row.verdict, row.reason, str(error))
    return Outcome(_by_class(error.status), error.code or error.type or f"status_{error.status}", str(error))


def _never_fits(error: ServerError) -> bool:
    """A request larger than the rate limit has a rate limit's code, and never succeeds."""
    found = _TOO_LARGE.search(error.message)
    if not found or "rate_limit_exceeded" not in (error.code, error.type):
        return False
    limit, requested = (int(number.replace(",", "")) for number in found.groups())
    return requested > limit


def _by_class(status: int | None) -> Verdict:
    """Unknown codes: the client's mistakes (4xx) do not mend themselves, anything else may."""
    return Verdict.FATAL if status is not None and 400 <= status < 500 else Verdict.RETRYABLE
