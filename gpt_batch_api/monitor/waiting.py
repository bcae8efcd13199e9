"""What of a task waits for what: batches for a limit or for the server, answers for the task's code, people for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gpt_batch_api.domain.limits import less_token_margin
from gpt_batch_api.domain.request import Load
from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.domain.states import BatchState, RequestState
from gpt_batch_api.domain.words import count, moment
from gpt_batch_api.planning.admission import Hold, Limits, OnServer, Total, admit
from gpt_batch_api.store.batches import BatchRow
from gpt_batch_api.store.snapshot import Snapshot


@dataclass(frozen=True)
class Waits:
    """Something, and all that it waits for."""

    what: str
    reasons: tuple[str, ...]


def waits(snapshot: Snapshot, settings: Settings) -> list[Waits]:
    """Everything that waits, in the order in which a request meets it."""
    return [*_queued(snapshot), *_local(snapshot, settings), *_remote(snapshot), *_answered(snapshot)]


def _queued(snapshot: Snapshot) -> Iterator[Waits]:
    if queued := snapshot.count(RequestState.QUEUED):
        yield Waits(count(queued, "queued request"), ("to be put into a batch, or called directly, by a run",))
    if twins := snapshot.count(RequestState.TWIN):
        yield Waits(count(twins, "request"), ("the answers of identical ones",))


def _local(snapshot: Snapshot, settings: Settings) -> Iterator[Waits]:
    there = snapshot.batches_in(BatchState.PUSHING, BatchState.REMOTE)
    tokens: dict[str, int] = {}
    for batch in there:
        tokens[batch.model] = tokens.get(batch.model, 0) + batch.load.input_tokens
    on_server = OnServer(len(there), sum((batch.load for batch in there), Load()), tuple(tokens.items()))
    for batch in snapshot.batches_in(BatchState.SEALED):
        holds = tuple(map(str, _holds(batch, on_server, snapshot, settings)))
        postponed = () if batch.not_before is None else (f"its time, {moment(batch.not_before)}",)
        yield Waits(str(batch), (*holds, *postponed) or ("a run to push it",))


def _holds(batch: BatchRow, on_server: OnServer, snapshot: Snapshot, settings: Settings) -> tuple[Hold, ...]:
    """The limits that keep a local batch back. A session that is over counts no more: the next run begins another."""
    over = snapshot.session is None or snapshot.session.ended_at is not None
    learnt = snapshot.learnt_limits.get(batch.model)
    return admit(
        batch.load,
        model=batch.model,
        task=snapshot.booked.total,
        session=Total() if over else snapshot.session_booked.total,
        remote=on_server,
        limits=Limits.of(settings),
        learnt=None if learnt is None else less_token_margin(learnt.enqueued_tokens, settings),
    )


def _remote(snapshot: Snapshot) -> Iterator[Waits]:
    for batch in snapshot.batches_in(BatchState.PUSHING):
        yield Waits(str(batch), ("a run to find out whether the server has it",))
    for batch in snapshot.batches_in(BatchState.REMOTE):
        yield Waits(str(batch), (f"the server ({batch.remote_status})",))
    for batch in snapshot.batches_in(BatchState.ENDED):
        yield Waits(str(batch), ("a run to fetch its answers",))
    if sending := snapshot.count(RequestState.SENDING):
        yield Waits(count(sending, "direct call"), ("the server",))


def _answered(snapshot: Snapshot) -> Iterator[Waits]:
    if answered := snapshot.count(RequestState.ANSWERED):
        yield Waits(count(answered, "answer"), ("the task's code, in a run",))
    if held := snapshot.count(RequestState.HELD):
        yield Waits(
            count(held, "held request"),
            ("you: --process_failed_batches lets them fail, with --retry_fatal_requests they are asked again",),
        )
