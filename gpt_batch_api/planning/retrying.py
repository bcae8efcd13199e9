"""Where a request goes after an answer.

Forward only: a retry is not a jump back but the state *queued*, which the next batch finds. An answer that no further
try can mend leaves the request *held* until the user decides; the task's code sees it only then.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpt_batch_api.domain.outcome import Outcome, Verdict
from gpt_batch_api.domain.states import RequestState


@dataclass(frozen=True)
class Retrying:
    """How often a request may be asked again. Neither counts the first try."""

    max_retries: int
    max_expiries: int
    may_go_direct: bool = False
    """Whether a request that expires too often goes by a direct call; otherwise it fails."""


@dataclass(frozen=True)
class Onward:
    """The next state of a request, and what the step counts."""

    state: RequestState
    counts_attempt: bool = False
    counts_expiry: bool = False


def onward(outcome: Outcome, *, attempt: int, expiries: int, policy: Retrying) -> Onward:
    """Where a request goes whose *attempt*-th attempt (from 1) ended in *outcome*, after *expiries* free tries."""
    match outcome.verdict:
        case Verdict.SUCCESS:
            return Onward(RequestState.ANSWERED)
        case Verdict.RETRYABLE:
            if may_retry(attempt=attempt, policy=policy):
                return Onward(RequestState.QUEUED, counts_attempt=True)
            return Onward(RequestState.ANSWERED)
        case Verdict.FREE:
            if expiries < policy.max_expiries or policy.may_go_direct:
                return Onward(RequestState.QUEUED, counts_expiry=True)
            return Onward(RequestState.ANSWERED)
        case Verdict.ACCOUNT:
            return Onward(RequestState.QUEUED)
        case Verdict.FATAL:
            return Onward(RequestState.HELD)


def may_retry(*, attempt: int, policy: Retrying) -> bool:
    """Whether a request whose *attempt*-th attempt failed has another one left."""
    return attempt <= policy.max_retries
