"""When a task will be done, as far as its own history tells. What nothing shows is None: unknown.

Batches take as long as the task's last ones took, and go out in as many rounds as the limits make of them. While there is
no history, a batch that the server counts progress of is taken to go on as it went. Direct calls go as fast as the last
ones went. Only what has been asked so far is looked at: what the generator has still to yield nobody knows.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpt_batch_api.domain.limits import BatchLimits, RemoteLimits, less_token_margin
from gpt_batch_api.domain.request import Load
from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.domain.states import BatchState, RequestState
from gpt_batch_api.planning.schedule import Schedule, schedule
from gpt_batch_api.store.batches import BatchRow
from gpt_batch_api.store.snapshot import Snapshot

LEAST_SHARE = 0.05
"""A batch of which less is done says nothing yet about how fast it goes."""


@dataclass(frozen=True)
class Eta:
    """Seconds that each phase will still take; None: nobody knows. A phase without work takes 0."""

    server_s: float | None
    """Until the last of the batches that are on the server now has ended."""
    waiting_s: float | None
    """From then on, until all that waits has gone through the server in batches."""
    direct_s: float | None
    """For what goes by direct calls."""

    @property
    def total_s(self) -> float | None:
        """Until all that has been asked is answered; direct calls go on beside batches."""
        if self.server_s is None or self.waiting_s is None or self.direct_s is None:
            return None
        return max(self.server_s + self.waiting_s, self.direct_s)


def eta_of(snapshot: Snapshot, *, settings: Settings, now: float) -> Eta:
    """Foretell each phase."""
    there = snapshot.batches_in(BatchState.PUSHING, BatchState.REMOTE)
    plan = _plan(snapshot, settings)
    direct = snapshot.count(RequestState.SENDING) + plan.direct_requests
    return Eta(
        server_s=_longest([_left_s(batch, snapshot, now) for batch in there]),
        waiting_s=_waiting_s(plan, snapshot, rounds_there=int(bool(there))),
        direct_s=_direct_s(direct, snapshot.pace.direct_per_s),
    )


def _left_s(batch: BatchRow, snapshot: Snapshot, now: float) -> float | None:
    """How long the server will still work on a batch."""
    if batch.pushed_at is None:
        return snapshot.pace.batch_s
    elapsed_s = max(0.0, now - batch.pushed_at)
    for usual_s in (snapshot.pace.batch_s, snapshot.pace.longest_batch_s):
        if usual_s is not None and elapsed_s <= usual_s:
            return usual_s - elapsed_s
    done = (batch.count_completed or 0) + (batch.count_failed or 0)
    if batch.count_total and done >= LEAST_SHARE * batch.count_total:
        return elapsed_s * (batch.count_total - done) / done
    return None


def _longest(times_s: list[float | None]) -> float | None:
    known = [time_s for time_s in times_s if time_s is not None]
    return None if len(known) < len(times_s) else max(known, default=0.0)


def _waiting_s(plan: Schedule, snapshot: Snapshot, *, rounds_there: int) -> float | None:
    if plan.rounds is None:
        return None
    rounds = max(0, plan.rounds - rounds_there)
    if not rounds:
        return 0.0
    return None if snapshot.pace.batch_s is None else rounds * snapshot.pace.batch_s


def _direct_s(requests: int, per_s: float | None) -> float | None:
    if not requests:
        return 0.0
    return requests / per_s if per_s else None


def _plan(snapshot: Snapshot, settings: Settings) -> Schedule:
    """How all that is queued, local and on the server goes through the present limits."""
    if settings.requester.force_direct:
        return Schedule(0, sum(load.requests for load in snapshot.queue.values()), 0)
    local = [batch.load for batch in snapshot.batches_in(BatchState.SEALED)]
    there = snapshot.batches_in(BatchState.PUSHING, BatchState.REMOTE)
    tokens_of: dict[str, int] = {}
    for batch in snapshot.batches_in(BatchState.SEALED, BatchState.PUSHING, BatchState.REMOTE):
        tokens_of[batch.model] = tokens_of.get(batch.model, 0) + batch.load.input_tokens
    return schedule(
        {pile: load + Load(cost_pico=_cost_pico(load, snapshot)) for pile, load in snapshot.queue.items()},
        local,
        [batch.load for batch in there],
        batch=BatchLimits.of(settings),
        remote=RemoteLimits.of(settings),
        admitted={
            model: less_token_margin(limit.enqueued_tokens, settings) for model, limit in snapshot.learnt_limits.items()
        },
        min_batch_requests=settings.limits.min_batch_requests,
        tokens_of=tokens_of,
    )


def _cost_pico(load: Load, snapshot: Snapshot) -> int:
    """What queued requests will reserve, if they cost what the task's requests have cost so far."""
    booked = snapshot.booked
    return load.requests * booked.cost_pico // booked.requests if booked.requests > 0 else 0
