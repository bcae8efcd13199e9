"""Forget part of a task on purpose: the server first, then the store. An interrupted wipe is continued by the next run.

On the server each batch is cancelled and waited for; what it cost is booked, its rows are thrown away, its files
deleted. Only when nothing of ours is left there are the rows of the store forgotten.
"""

from __future__ import annotations

from gpt_batch_api.domain.errors import ServerError, Unreachable
from gpt_batch_api.domain.events import Advice, Waiting, Wiped
from gpt_batch_api.domain.settings import Settings
from gpt_batch_api.domain.states import BatchState
from gpt_batch_api.domain.words import count
from gpt_batch_api.engine import poll, push, settle, sweep
from gpt_batch_api.engine.context import Context
from gpt_batch_api.engine.deliver import deliver
from gpt_batch_api.engine.seal import dissolve
from gpt_batch_api.store import batches, pushes, tasks, wipe
from gpt_batch_api.wire import batches as wire_batches
from gpt_batch_api.wire.trouble import Refused

PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0
LEAST_UNKNOWN_S = 60.0
"""A batch that was there is given up only if the server goes on for so long not to know it."""


def wanted(settings: Settings) -> str | None:
    """Which wipe the settings ask for, the greatest if several."""
    if settings.requester.wipe_task:
        return "task"
    if settings.task.wipe_failed:
        return "failed"
    return "requests" if settings.requester.wipe_requests else None


def begun_or_wanted(context: Context) -> str | None:
    """The wipe that this session has to do: one that was begun is finished, and never becomes a smaller one."""
    return wipe.greatest(tasks.get_task(context.db).wiping, wanted(context.settings))


def begin(context: Context, kind: str) -> None:
    """Commit to a wipe. From here on it is finished, by this run or a later one."""
    with context.transaction() as tx:
        wipe.begin(tx, kind)
        wipe.discard_batches(tx)


async def finish(context: Context) -> None:
    """Clean the server, then forget what the begun wipe says, then make the output good."""
    kind = tasks.get_task(context.db).wiping
    if kind is None:
        return
    for batch in batches.in_states(context.db, BatchState.SEALED):
        dissolve(context, batch, why="wiped")
    await _clean_server(context)
    sweep.remove_all_work_files(context)
    if kind == "task" and context.hooks.output is not None:
        context.hooks.output.remove()
    with context.transaction() as tx:
        done = wipe.finish(tx, kind, metadata=context.metadata, session_id=context.session_id, now=context.clock.now())
        context.tell(told(kind, done))
    if kind != "task":
        deliver(context)


def told(kind: str, done: wipe.Wiped) -> Wiped:
    """The event of a finished wipe."""
    return Wiped(what=kind, requests=done.requests, samples=done.samples, rows=done.rows, to_replay=done.to_replay)


async def _clean_server(context: Context) -> None:
    pause_s = PAUSE_S
    unknown: dict[int, float] = {}
    while reasons := _left_on_server(context):
        try:
            await _one_round(context, unknown)
        except Unreachable as error:
            context.tell(Advice(text=f"{error}. The wipe goes on when it is back."))
        except Refused as refused:
            raise ServerError(f"The server refused a call that the wipe needs: {refused}.") from refused
        if reasons := _left_on_server(context):
            context.tell(Waiting(delay_s=pause_s, reasons=reasons))
            await context.clock.sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_S, pause_s * 1.5)


def _left_on_server(context: Context) -> tuple[str, ...]:
    """What of the task is, or may be, on the server, in words."""
    db = context.db
    reasons = []
    if under_way := len(batches.in_states(db, BatchState.PUSHING, BatchState.REMOTE, BatchState.ENDED)):
        reasons.append(f"{count(under_way, 'batch')} to end there")
    if batches.count_server_files(db):
        reasons.append("files to be deleted there")
    if pushes.orphans(db):
        reasons.append("a file that a lost upload may have left there")
    return tuple(reasons)


async def _one_round(context: Context, unknown: dict[int, float]) -> None:
    """One look at everything that is still there.

    *unknown* keeps since when the server has not known which batches, in its own time.
    """
    for attempt in pushes.open_pushes(context.db):
        await push.resolve(context, attempt.id)
    with context.transaction() as tx:
        wipe.discard_batches(tx)
    for batch in batches.in_states(context.db, BatchState.SEALED):
        dissolve(context, batch, why="wiped")
    if batches.in_states(context.db, BatchState.REMOTE):
        began_at = context.remote.server_now()
        await poll.poll(context)
        await _cancel_remote(context)
        _give_up_unknown(context, unknown, asked_at=context.remote.looked_at(began_at))
    for batch in batches.in_states(context.db, BatchState.ENDED):
        if context.results_due_s(batch.id) <= 0:
            await settle.settle(context, batch.id)
    await sweep.look_for_orphans(context)
    if context.sweeping.due_s <= context.clock.monotonic():
        await sweep.sweep(context)


async def _cancel_remote(context: Context) -> None:
    for batch in batches.in_states(context.db, BatchState.REMOTE):
        assert batch.remote_id is not None
        if batch.remote_status != "cancelling":
            await wire_batches.cancel(context.remote, batch.remote_id)


def _give_up_unknown(context: Context, unknown: dict[int, float], *, asked_at: float) -> None:
    """A batch that the server does not know cannot be cancelled or waited for; its reservation counts as spent.

    One that was created just now may only not be shown yet, and one answer may be a mistake.
    """
    lag_s = context.settings.extra.list_lag_wait
    for batch in batches.in_states(context.db, BatchState.REMOTE):
        if batch.remote_status != "not found":
            unknown.pop(batch.id, None)
            continue
        unknown_s = asked_at - unknown.setdefault(batch.id, asked_at)
        known_s = poll.known_for_s(context, batch, at=asked_at)
        if known_s >= lag_s and unknown_s >= min(LEAST_UNKNOWN_S, lag_s):
            with context.transaction() as tx:
                batches.give_up(tx, batch, now=context.clock.now())
