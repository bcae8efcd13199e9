"""Bring a batch to the server: the step that costs money, so the dangerous one.

    commit the intent (nonce, reservation) → upload, the nonce in the file name → commit the file id
    → commit the intent to create (another nonce) → create, the nonce in the metadata → commit the batch id

Each call is made once; nobody resends it behind our back. An attempt that is open when nobody works on it (its reply was
lost, the process died, Ctrl+C broke it off) is in doubt, and only the server knows: we look for its nonce in its lists.
What was created is adopted. What is not found is given up: an upload at once (it costs nothing, and the file that may
yet turn up is swept), a creation only when the lists can no longer be behind (`list_lag_wait`): before that, a second
batch might be paid. The batch is local again then and goes out anew like any other. Meanwhile everything else goes on.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable

from gpt_batch_api.domain.errors import AccountError, ServerError, Unreachable, UserError
from gpt_batch_api.domain.events import Advice, BatchPostponed, BatchPushed, PushRefused, ReplyLost
from gpt_batch_api.domain.states import PushState
from gpt_batch_api.engine.context import Context
from gpt_batch_api.engine.enqueued import named_limit
from gpt_batch_api.engine.seal import holds_batch, split_if_too_heavy, write_batch_file
from gpt_batch_api.engine.server import note_server
from gpt_batch_api.store import batches, pushes, requests, tasks
from gpt_batch_api.store.batches import BatchRow
from gpt_batch_api.store.pushes import PushRow
from gpt_batch_api.wire import batches as wire_batches
from gpt_batch_api.wire import files as wire_files
from gpt_batch_api.wire.trouble import Lost, NotSent, Refused

METADATA_TASK = "gpt_batch_api_task"
METADATA_BATCH = "gpt_batch_api_batch"
METADATA_NONCE = "gpt_batch_api_nonce"

CLOCK_SKEW_S = 3600.0
"""How far the server's clock may be from ours when its lists are read back in time."""
FIRST_LOOK_S = 1.0
LONGEST_LOOK_S = 60.0
LONGEST_WAIT_S = 3600.0
"""A batch is tried again after so long, also where the server asks for more: it can say so again."""
MISSING_FILE_WAIT_S = 120.0
"""How long after its upload a file may still be unknown to the server's other parts."""
MOST_UPLOADS = 5
"""If none of so many uploads of a batch is ever found there, trying again is of no use."""


async def push(context: Context, batch_id: int) -> None:
    """Bring a sealed batch to the server, or find out why it does not get there."""
    batch = batches.get(context.db, batch_id)
    _ensure_local_file(context, batch)
    if not context.remote.was_answered:  # the intent is dated in the server's time
        await wire_batches.newest_page(context.remote)
    with context.transaction() as tx:
        note_server(context, tx)
        push_id = pushes.begin(
            tx,
            batch,
            session_id=context.session_id,
            uploaded=pushes.reusable_file(tx, batch_id),
            nonce=context.nonce(),
            now=context.clock.now(),
            server_now=context.remote.server_now(),
        )
    batch = batches.get(context.db, batch_id)
    attempt = pushes.get(context.db, push_id)
    if attempt.state is PushState.UPLOADING:
        await _guarded(context, attempt, batch, _upload(context, attempt, batch))
        attempt = pushes.get(context.db, push_id)
    if attempt.state is PushState.UPLOADED:
        with context.transaction() as tx:
            pushes.begin_create(tx, attempt, nonce=context.nonce(), now=context.remote.server_now())
        attempt = pushes.get(context.db, push_id)
        await _guarded(context, attempt, batch, _create(context, attempt, batch))


async def resolve(context: Context, push_id: int) -> None:
    """Find out on the server what became of an attempt in doubt.

    A batch that was created is adopted. Otherwise the attempt is given up or taken back (what was uploaded is used
    again), and the batch is sealed again: it goes out anew as any other does, if limits still allow it.
    """
    attempt = pushes.get(context.db, push_id)
    match attempt.state:
        case PushState.UPLOADING:
            await _resolve_upload(context, attempt)
        case PushState.UPLOADED:
            _take_back(context, attempt, batches.get(context.db, attempt.batch_id), outcome="interrupted", told=False)
        case PushState.CREATING:
            await _resolve_create(context, attempt)


async def _upload(context: Context, push: PushRow, batch: BatchRow) -> None:
    path = context.workplace.folder / batch.file_name
    name = context.workplace.upload_name(batch.id, task_uuid=context.task_uuid, nonce=push.upload_nonce)
    file_id = await wire_files.upload(context.remote, path, filename=name)
    with context.transaction() as tx:
        pushes.note_uploaded(tx, push, file_id=file_id, server_now=context.remote.server_now())


async def _create(context: Context, push: PushRow, batch: BatchRow) -> None:
    assert push.file_id is not None
    assert push.create_nonce is not None
    remote = await wire_batches.create(
        context.remote,
        file_id=push.file_id,
        endpoint=batch.endpoint,
        metadata={
            METADATA_TASK: context.task_uuid,
            METADATA_BATCH: str(batch.id),
            METADATA_NONCE: push.create_nonce,
        },
    )
    _record_created(context, push, batch, remote_id=remote.id, status=remote.status, adopted=False)


def _record_created(
    context: Context, push: PushRow, batch: BatchRow, *, remote_id: str, status: str, adopted: bool
) -> None:
    now, server_now = context.clock.now(), context.remote.server_now()
    with context.transaction() as tx:
        pushes.note_created(tx, push, remote_id=remote_id, status=status, now=now, server_now=server_now)
        context.tell(
            BatchPushed(
                batch=batch.id,
                remote_id=remote_id,
                requests=batch.load.requests,
                input_tokens=batch.load.input_tokens,
                cost_pico=batch.load.cost_pico,
                adopted=adopted,
            )
        )


async def _guarded(context: Context, push: PushRow, batch: BatchRow, call: Awaitable[None]) -> None:
    """Make one call of a push, and record what its trouble means."""
    try:
        await call
    except NotSent as trouble:
        _take_back(context, push, batch, outcome=f"not sent: {trouble}", wait_s=FIRST_LOOK_S)
        raise Unreachable(f"The server cannot be reached: {trouble}") from trouble
    except Lost as trouble:
        with context.transaction() as tx:
            pushes.look_later(tx, push, at=context.clock.now() + FIRST_LOOK_S)
            context.tell(ReplyLost(batch=batch.id, operation=str(push.state), message=str(trouble)))
    except Refused as trouble:
        _record_refusal(context, push, batch, trouble)
    except AccountError as error:
        _take_back(context, push, batch, outcome=str(error))
        raise


def _record_refusal(context: Context, push: PushRow, batch: BatchRow, refused: Refused) -> None:
    """The server said no, so nothing happened. Some refusals pass by themselves; the others need the user."""
    limit = named_limit(refused.error)
    if limit is not None:
        _postpone(context, push, batch, refused, limit)
    elif refused.is_transient:
        wait_s = min(refused.retry_after_s or context.postponed_s, max(LONGEST_WAIT_S, context.postponed_s))
        _take_back(context, push, batch, outcome=str(refused), wait_s=wait_s)
    elif _names_unknown_file(push, refused) and not _is_hopeless(context, push):
        _take_back(context, push, batch, outcome=str(refused), wait_s=2.0)
    else:
        _take_back(context, push, batch, outcome=str(refused))
        raise ServerError(
            f"The server refused to take batch {batch.id}: {refused}. Nothing of it ran. "
            "Mend what it names and run the same command again."
        ) from refused


def _postpone(context: Context, push: PushRow, batch: BatchRow, refused: Refused, limit: int) -> None:
    now = context.clock.now()
    with context.transaction() as tx:
        if limit:
            tasks.learn_model_limit(tx, batch.model, enqueued_tokens=limit, now=now)
        pushes.refuse(tx, push, batch=batch, outcome=str(refused), not_before=now + context.postponed_s, now=now)
        context.tell(
            BatchPostponed(batch=batch.id, model=batch.model, limit_tokens=limit or None, message=str(refused))
        )
    split_if_too_heavy(context, batch.id)


def _take_back(
    context: Context, push: PushRow, batch: BatchRow, *, outcome: str, wait_s: float | None = None, told: bool = True
) -> None:
    """Nothing happened: the batch is local again, its reservation released, its uploaded file kept."""
    now = context.clock.now()
    with context.transaction() as tx:
        pushes.refuse(
            tx,
            push,
            batch=batch,
            outcome=outcome,
            not_before=None if wait_s is None else now + wait_s,
            now=now,
        )
        if told:
            context.tell(PushRefused(batch=batch.id, message=outcome))


def _names_unknown_file(push: PushRow, refused: Refused) -> bool:
    return refused.status in (400, 404) and push.file_id is not None and push.file_id in refused.error.message


def _is_hopeless(context: Context, push: PushRow) -> bool:
    """A file uploaded just now can be unknown to the batch service for some seconds. Later it is gone for good.

    Then it is uploaded anew, but not for ever.
    """
    assert push.file_id is not None
    if context.remote.server_now() - push.upload_at <= MISSING_FILE_WAIT_S:
        return False
    with context.transaction() as tx:
        batches.supersede_file(tx, push.file_id)
    return batches.count_uploads(context.db, push.batch_id) >= MOST_UPLOADS


async def _resolve_upload(context: Context, push: PushRow) -> None:
    name = context.workplace.upload_name(push.batch_id, task_uuid=context.task_uuid, nonce=push.upload_nonce)
    batch = batches.get(context.db, push.batch_id)
    async for file in wire_files.newest(context.remote, since=push.upload_at - CLOCK_SKEW_S):
        if file.filename == name:
            with context.transaction() as tx:
                pushes.note_uploaded(tx, push, file_id=file.id, server_now=context.remote.server_now())
            _take_back(context, pushes.get(context.db, push.id), batch, outcome="found uploaded", told=False)
            return
    with context.transaction() as tx:
        pushes.lose(tx, push, batch=batch, now=context.clock.now(), server_now=context.remote.server_now())


async def _resolve_create(context: Context, push: PushRow) -> None:
    assert push.create_at is not None
    batch = batches.get(context.db, push.batch_id)
    began_at = context.remote.server_now()
    async for remote in wire_batches.newest(context.remote, since=push.create_at - CLOCK_SKEW_S):
        if remote.metadata.get(METADATA_NONCE) == push.create_nonce:
            _record_created(context, push, batch, remote_id=remote.id, status=remote.status, adopted=True)
            return
    now = context.clock.now()
    looked_at = context.remote.looked_at(began_at)
    over_at = looked_at if push.over_at is None else push.over_at
    waited_s, lag_s = looked_at - over_at, context.settings.extra.list_lag_wait
    with context.transaction() as tx:
        if waited_s >= lag_s:
            pushes.lose(tx, push, batch=batch, now=now, server_now=looked_at)
        else:
            pushes.look_later(tx, push, at=now + _next_look_s(waited_s, lag_s), over_at=over_at)


def _next_look_s(waited_s: float, lag_s: float) -> float:
    """Look often at first, then more rarely, and once just when the lists can no longer be behind.

    A clock that was set back only makes the wait longer. (The server tells its time in whole seconds.)
    """
    if waited_s < -1:
        return min(LONGEST_LOOK_S, lag_s)
    doubling = 2.0 ** math.floor(math.log2(max(waited_s, FIRST_LOOK_S)))
    return max(0.05, min(LONGEST_LOOK_S, doubling, lag_s - waited_s))


def _ensure_local_file(context: Context, batch: BatchRow) -> None:
    """The local file must hold exactly the bytes that were sealed; if it is gone or touched, write it again."""
    path = context.workplace.folder / batch.file_name
    if path.exists():
        if holds_batch(path, batch):
            return
        context.tell(Advice(text=f"{batch.file_name} is not what was sealed, so it is written anew."))
    ids = tuple(requests.ids_of_batch(context.db, batch.id))
    written = write_batch_file(context, batch.file_name, ids)
    if written.sha256 != batch.sha256:
        raise UserError(
            f"The requests of batch {batch.id} are not what was sealed (the store was changed from outside). "
            "Run with --wipe_requests to make them anew."
        )
