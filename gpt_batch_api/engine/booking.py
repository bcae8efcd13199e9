"""Turn judged answers into what the store books: where each request goes, what it cost, what all add up to.

Both roads come through here: the lines of an ended batch (`settle`) and the replies of direct calls (`direct`). No code
of the user runs here, so nothing that the user wrote can lose a paid answer.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, replace

from gpt_batch_api.domain.events import Problem
from gpt_batch_api.domain.outcome import Outcome, Road, Usage, Verdict
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.engine.context import Context
from gpt_batch_api.planning.retrying import Retrying, onward
from gpt_batch_api.pricing.cost import cost_pico
from gpt_batch_api.store import lengths, requests, responses
from gpt_batch_api.store.batches import Settlement
from gpt_batch_api.store.responses import Answer, Awaiting


@dataclass(frozen=True)
class Judged:
    """An answer and what it means, before it is booked. `raw`: a result line with the reply's body, if there was one.

    `expected_output_tokens` is what was expected when the request left; of a batch, that is known as a whole.
    """

    request: Awaiting
    outcome: Outcome
    usage: Usage = Usage()
    status: int | None = None
    raw: bytes | None = None
    expected_output_tokens: int = 0

    @property
    def hides_usage(self) -> bool:
        """Whether it was answered, and paid for, without a word on what was used."""
        return self.status == 200 and not self.usage.input_tokens + self.usage.output_tokens


class Booking:
    """Answers of one batch, or of one group of direct calls, on their way into the store.

    With *discards* they are added up, and thrown away.
    """

    def __init__(
        self, context: Context, *, batch_id: int | None = None, group_id: int | None = None, discards: bool = False
    ) -> None:
        self._context = context
        self._batch_id = batch_id
        self._group_id = group_id
        self._discards = discards
        self.sum = Settlement()
        self.used = Usage()
        self.expected_input_tokens = 0
        self.expected_output_tokens = 0
        self.answered_allowance = 0
        self.unrun_requests = 0
        self.unrun_tokens = 0
        self.account_trouble: Outcome | None = None
        self.first_fatal: str | None = None

    def book(self, tx: sqlite3.Connection, judged: Iterable[Judged], *, road: Road) -> None:
        """Book answers (at most one a request), move their requests on, and tell of those that are no good."""
        judged = list(judged)
        answers = [self._answer(item, road=road) for item in judged]
        if self._discards:
            return
        for answer in answers:
            if answer.outcome.reason != "ok":
                self._tell(tx, answer)
        responses.record(
            tx,
            answers,
            batch_id=self._batch_id,
            group_id=self._group_id,
            keep_raw=self._context.settings.extra.keep_responses,
            now=self._context.clock.now(),
        )
        learnt = lengths.learn(tx, ((item.request.kind, item.usage, item.outcome.reason) for item in judged))
        self._context.note_learnt(learnt)

    def problem(self, severity: str, request: str, reason: str, message: str) -> None:
        """Tell of something that is not as it should be."""
        self._context.tell(
            Problem(severity=severity, batch=self._batch_id, request=request, reason=reason, message=message)
        )

    def _answer(self, judged: Judged, *, road: Road) -> Answer:
        request, outcome, usage = judged.request, judged.outcome, judged.usage
        next_state = onward(
            outcome, attempt=request.attempt, expiries=request.expiries, policy=self._policy(request, outcome)
        )
        cost = cost_pico(usage, self._context.catalogue.prices(request.model), road=road)
        self._add_up(judged, cost=cost, state=next_state.state)
        return Answer(
            request_id=request.id,
            outcome=outcome,
            state=next_state.state,
            counts_attempt=next_state.counts_attempt,
            counts_expiry=next_state.counts_expiry,
            status_code=judged.status,
            usage=usage,
            cost_pico=cost,
            raw=judged.raw,
        )

    def _policy(self, request: Awaiting, outcome: Outcome) -> Retrying:
        """A request that expires too often and is too heavy for a direct call fails."""
        policy = self._context.retrying
        if outcome.verdict is not Verdict.FREE or not policy.may_go_direct:
            return policy
        load = self._context.direct_load(request.kind, input_tokens=request.input_tokens)
        return replace(policy, may_go_direct=self._context.fits_direct(load))

    def _add_up(self, judged: Judged, *, cost: int, state: RequestState) -> None:
        request, outcome, usage = judged.request, judged.outcome, judged.usage
        if usage.input_tokens:
            self.expected_input_tokens += request.input_tokens
            self.expected_output_tokens += judged.expected_output_tokens
            self.answered_allowance += request.kind.output_allowance
        if outcome.verdict in (Verdict.FREE, Verdict.ACCOUNT):
            self.unrun_requests += 1
            self.unrun_tokens += request.input_tokens
        if outcome.verdict is Verdict.ACCOUNT:
            self.account_trouble = outcome
        self.used += usage
        kind = _kind(outcome, state)
        self.sum = replace(
            self.sum,
            **{kind: getattr(self.sum, kind) + 1},
            used_input_tokens=self.sum.used_input_tokens + usage.input_tokens,
            used_output_tokens=self.sum.used_output_tokens + usage.output_tokens,
            used_output_allowance=self.sum.used_output_allowance
            + (request.kind.output_allowance if usage.output_tokens else 0),
            longest_output_tokens=max(self.sum.longest_output_tokens, usage.output_tokens),
            cost_pico=self.sum.cost_pico + cost,
        )

    def _tell(self, tx: sqlite3.Connection, answer: Answer) -> None:
        key = str(requests.describe(tx, answer.request_id))
        final = answer.state is not RequestState.QUEUED and not answer.outcome.ok
        if answer.state is RequestState.HELD and self.first_fatal is None:
            self.first_fatal = f"{key}: {answer.outcome.message}"
        self.problem("error" if final else "warning", key, answer.outcome.reason, answer.outcome.message)


def figures(total: Settlement) -> dict[str, int]:
    """What *total* says, by the names of an event that tells of settled answers (`AnswersSettled`)."""
    return {
        "succeeded": total.succeeded,
        "retried": total.retried,
        "failed": total.failed,
        "held": total.held,
        "free": total.free,
        "input_tokens": total.used_input_tokens,
        "output_tokens": total.used_output_tokens,
        "output_allowance": total.used_output_allowance,
        "longest_output_tokens": total.longest_output_tokens,
        "cost_pico": total.cost_pico,
    }


def _kind(outcome: Outcome, state: RequestState) -> str:
    if outcome.ok:
        return "succeeded"
    if state is RequestState.HELD:
        return "held"
    if state is RequestState.ANSWERED:
        return "failed"
    return "retried" if outcome.verdict is Verdict.RETRYABLE else "free"
