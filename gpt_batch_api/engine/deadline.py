"""Keep a deadline: watch how much time is left, and take batches back that would not be done by it.

A batch is taken back only if all of its requests may go by direct calls and the budget affords their price; what the
server has done of it by then is kept, and paid as batch. Once begun, the hurry lasts until the run ends.
"""

from __future__ import annotations

from collections.abc import Iterator

from gpt_batch_api.domain.events import Advice, BatchRecalled
from gpt_batch_api.domain.outcome import Road
from gpt_batch_api.domain.states import FINAL_REQUEST_STATES, BatchState, RequestState
from gpt_batch_api.domain.words import count, duration
from gpt_batch_api.engine.context import Context
from gpt_batch_api.engine.seal import dissolve
from gpt_batch_api.planning.deadline import Hurry, calls_per_s, hurry
from gpt_batch_api.store import batches, direct, requests
from gpt_batch_api.store.batches import BatchRow
from gpt_batch_api.wire import batches as wire_batches

_NEEDS_NO_CALL = {*FINAL_REQUEST_STATES, RequestState.ANSWERED, RequestState.HELD, RequestState.TWIN}

TELLING_GROUP = 20
"""A group of fewer answers tells nothing of how fast calls can be made."""
LEAST_RECALL_S = 30.0
LATE = "it would not be done by the deadline"


class Deadline:
    """The deadline of one run, if it has one."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._at = None if context.settings.requester.only_process else context.deadline_at
        self._hurry = self._told = Hurry.NONE
        self._recalled: dict[int, float] = {}
        self._fits: dict[int, bool] = {}

    def look(self) -> Hurry:
        """How the rest goes to the server from now on. Tells of it when that changes."""
        if self._at is None or self._told is Hurry.DIRECT:
            return self._hurry
        context = self._context
        left_s = self._at - context.clock.now()
        seen = direct.calls_per_s(context.db, groups=10, least_answers=TELLING_GROUP)
        rate = calls_per_s(seen, ceiling=context.settings.limits.max_direct_concurrency)
        left = self._unanswered()
        now = hurry(left_s=left_s, requests=left, calls_per_s=rate)
        self._hurry = max(self._hurry, now, key=list(Hurry).index)
        if left and self._hurry is not self._told:
            self._told = self._hurry
            context.tell(Advice(text=_told(self._hurry, left_s=left_s, left=left, need_s=left / rate)))
        return self._hurry

    def to_recall(self) -> tuple[int, ...]:
        """The batches to be taken back now, in the order in which the budget affords them."""
        if self._hurry is Hurry.NONE:
            return ()
        return tuple(batch.id for batch in self._affordable() if not self._is_recalled(batch))

    def _is_recalled(self, batch: BatchRow) -> bool:
        """Whether a batch was recalled, and the server says so or may yet do so.

        It may not have known the batch yet, or not have had the call: then it is recalled again.
        """
        at = self._recalled.get(batch.id)
        return at is not None and (
            batch.remote_status == "cancelling" or self._context.clock.monotonic() - at < self._recall_again_s
        )

    @property
    def _recall_again_s(self) -> float:
        return max(LEAST_RECALL_S, 2 * self._context.settings.requester.remote_update_interval)

    async def recall(self, batch_id: int) -> None:
        """Cancel a batch on the server, or dissolve a local one."""
        context = self._context
        batch = batches.get(context.db, batch_id)
        if batch.state is BatchState.SEALED:
            dissolve(context, batch, why=LATE)
        elif batch.state is BatchState.REMOTE:
            assert batch.remote_id is not None
            await wire_batches.cancel(context.remote, batch.remote_id)
            if batch_id not in self._recalled:
                context.tell(BatchRecalled(batch=batch.id, done=batch.count_completed, requests=batch.load.requests))
        self._recalled[batch_id] = context.clock.monotonic()

    def pretend_recall(self, batch_id: int) -> None:
        """The same in a dry run: without a call."""
        batch = batches.get(self._context.db, batch_id)
        if batch.state is BatchState.SEALED:
            dissolve(self._context, batch, why=LATE)
        else:
            self._context.tell(Advice(text=f"Batch {batch_id} would be cancelled because of the deadline."))
        self._recalled[batch_id] = float("inf")

    def _unanswered(self) -> int:
        db = self._context.db
        waiting = sum(load.requests for state, load in requests.state_loads(db).items() if state not in _NEEDS_NO_CALL)
        return waiting - sum(batch.count_completed or 0 for batch in batches.in_states(db, BatchState.REMOTE))

    def _affordable(self) -> Iterator[BatchRow]:
        """The batches whose rest may go by direct calls, as far as the money goes."""
        context = self._context
        room_pico = context.room_left().cost_pico
        for (endpoint, model), load in requests.queue_loads(context.db).items():
            room_pico -= context.plain_cost_pico(endpoint, model, load, road=Road.DIRECT)
        for batch in batches.in_states(context.db, BatchState.SEALED, BatchState.REMOTE):
            extra_pico = self._extra_pico(batch)
            if extra_pico <= room_pico and self._fits_direct(batch):
                room_pico -= extra_pico
                yield batch

    def _extra_pico(self, batch: BatchRow) -> int:
        """What direct calls for the rest of a batch cost beyond what is reserved for it."""
        direct_pico = self._context.plain_cost_pico(batch.endpoint, batch.model, batch.load, road=Road.DIRECT)
        reserved_pico = batch.load.cost_pico if batch.state is BatchState.REMOTE else 0
        undone = batch.load.requests - min(batch.count_completed or 0, batch.load.requests)
        return (direct_pico - reserved_pico) * undone // batch.load.requests

    def _fits_direct(self, batch: BatchRow) -> bool:
        """Whether each request of a batch is light enough for a direct call."""
        if batch.id not in self._fits:
            context = self._context
            tokens, allowance = direct.heaviest_of_batch(context.db, batch.id)
            load = context.heaviest_load(batch.endpoint, batch.model, input_tokens=tokens, output_allowance=allowance)
            self._fits[batch.id] = context.fits_direct(load)
        return self._fits[batch.id]


def _told(now: Hurry, *, left_s: float, left: int, need_s: float) -> str:
    rest = count(left, "request")
    if left_s <= 0:
        return f"The deadline has passed with {rest} left. They go by direct calls."
    ways = "flex calls, and direct calls where the server has no room for them" if now is Hurry.FLEX else "direct calls"
    return (
        f"The deadline is in {duration(left_s)}, and {rest} left would take about {duration(need_s)} by direct calls. "
        f"They go by {ways} from now on; batches on the server are cancelled, and what they have done is kept."
    )
