"""Note what the server says of the batches it works on; decide nothing.

Few batches are asked for one by one; many with one call of the list, and only those that it does not show one by one.
"""

from __future__ import annotations

from collections.abc import Mapping

from gpt_batch_api.domain.errors import Unreachable
from gpt_batch_api.domain.events import Advice, BatchEnded, BatchProgressed
from gpt_batch_api.domain.states import BatchState
from gpt_batch_api.domain.words import sentence
from gpt_batch_api.engine.context import Context
from gpt_batch_api.store import batches, pushes
from gpt_batch_api.store.batches import BatchRow, Report
from gpt_batch_api.wire import batches as wire_batches
from gpt_batch_api.wire.batches import RemoteBatch

LIST_FROM = 3
"""From so many batches on, the list is cheaper than asking for each."""


async def poll(context: Context) -> None:
    """Ask how all remote batches stand, and write it down."""
    remote = batches.in_states(context.db, BatchState.REMOTE)
    listed: dict[str, RemoteBatch] = {}
    if len(remote) >= LIST_FROM:
        listed = {batch.id: batch for batch in (await wire_batches.newest_page(context.remote)).items}
    for batch in remote:
        try:
            seen = await _ask(context, batch, listed)
        except Unreachable as trouble:
            await wire_batches.check_there(context.remote)
            _warn_if_silent(context, batch, trouble)
        else:
            _record(context, batch, seen)


async def _ask(context: Context, batch: BatchRow, listed: Mapping[str, RemoteBatch]) -> RemoteBatch | None:
    """How a batch stands. A list may tell less than the batch itself does."""
    assert batch.remote_id is not None
    seen = listed.get(batch.remote_id)
    if seen is None or (seen.ended and seen.hides_answers):
        return await wire_batches.retrieve(context.remote, batch.remote_id)
    return seen


def _record(context: Context, batch: BatchRow, seen: RemoteBatch | None) -> None:
    report = (
        Report(status="not found")
        if seen is None
        else Report(
            status=seen.status,
            output_file_id=seen.output_file_id,
            error_file_id=seen.error_file_id,
            total=seen.total,
            completed=seen.completed,
            failed=seen.failed,
            document=seen.document,
        )
    )
    hides = seen is not None and seen.ended and seen.hides_answers and _may_yet_show_them(context, batch, report, seen)
    ended = seen is not None and seen.ended and not hides
    if not batches.has_moved(batch, report) and not ended:
        _warn_if_stuck(context, batch)
        return
    with context.transaction() as tx:
        batches.note_report(tx, batch, report, now=context.clock.now(), ended=ended)
        if seen is None:
            _warn_if_lost_sight(context, batch)
        elif ended:
            context.tell(BatchEnded(batch=batch.id, status=report.status))
        elif hides:
            wait_s = context.settings.extra.list_lag_wait
            context.tell(
                Advice(
                    text=f"The server says that batch {batch.id} is {report.status}, and does not say yet in which file its "
                    f"answers are. It is asked again, for up to {wait_s:,.0f} s."
                )
            )
        else:
            context.tell(
                BatchProgressed(
                    batch=batch.id,
                    status=report.status,
                    completed=report.completed,
                    failed=report.failed,
                    total=report.total,
                )
            )


def _may_yet_show_them(context: Context, batch: BatchRow, report: Report, seen: RemoteBatch) -> bool:
    """Whether a batch ended so lately that the server may not name the file of its answers yet."""
    longest_s = context.settings.extra.list_lag_wait
    if seen.ended_at is not None:
        return context.remote.server_now() - seen.ended_at < longest_s
    return batches.has_moved(batch, report) or context.clock.now() - (batch.moved_at or 0.0) < longest_s


def _warn_if_silent(context: Context, batch: BatchRow, trouble: Unreachable) -> None:
    """A batch that cannot be asked about is told about once in each run; the others go on."""
    if batch.id not in context.told_silent:
        context.told_silent.add(batch.id)
        context.tell(
            Advice(text=f"Batch {batch.id} cannot be asked about: {sentence(trouble.happened)} It is tried again.")
        )


def _warn_if_stuck(context: Context, batch: BatchRow) -> None:
    """A batch that has not moved for long is told about once in each run."""
    since = batch.moved_at or batch.pushed_at or context.clock.now()
    hours = (context.clock.now() - since) / 3600
    if hours >= context.settings.extra.stuck_after and batch.id not in context.told_stuck:
        context.told_stuck.add(batch.id)
        context.tell(
            Advice(
                text=f"Batch {batch.id} ({batch.remote_id}) has not moved for {hours:,.1f} hours (status "
                f"{batch.remote_status}). It may still end by itself. To give it up, cancel it in the provider's console: "
                "its unfinished requests will be asked again."
            )
        )


def known_for_s(context: Context, batch: BatchRow, *, at: float) -> float:
    """How long a batch had been on the server *at* a moment, both in the server's time: the clock here may have been set."""
    return at - pushes.created_at(context.db, batch.id)


def _warn_if_lost_sight(context: Context, batch: BatchRow) -> None:
    """A batch that was created just now may only not be shown yet."""
    if known_for_s(context, batch, at=context.remote.server_now()) >= min(60.0, context.settings.extra.list_lag_wait):
        context.tell(
            Advice(
                text=f"The server does not know batch {batch.id} ({batch.remote_id}) any more. It is asked for again at "
                "every update. If it stays away, --wipe_requests gives it up; its requests are then asked, and paid, anew."
            )
        )
