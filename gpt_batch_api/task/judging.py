"""How an answer ends: by what the parser found, and by what the task's code decided about it."""

from __future__ import annotations

from gpt_batch_api.domain.hooks import Ended, ToHand
from gpt_batch_api.domain.outcome import Outcome, Verdict
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.task.results import Result


def is_asked_again(answer: ToHand, result: Result) -> bool:
    """An answer that does not fit its model is asked again by itself, unseen, as long as there are attempts."""
    return answer.outcome.ok and not result.ok and answer.may_retry


def ending(answer: ToHand, result: Result) -> Ended:
    """What becomes of the request of *answer*."""
    decision = result.decision
    if decision is not None:
        state = RequestState.QUEUED if decision.again and answer.may_retry else RequestState.FAILED
        outcome = Outcome(Verdict.RETRYABLE, "rejected_by_task", decision.reason)
    elif is_asked_again(answer, result):
        state, outcome = RequestState.QUEUED, result.outcome
    else:
        state, outcome = (RequestState.SUCCEEDED if result.ok else RequestState.FAILED), result.outcome
    return Ended(answer.response_id, answer.request_id, outcome, state)
