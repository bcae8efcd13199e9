"""Make a local batch of queued requests: its file first, then the rows.

The file holds the exact bytes that will be uploaded, so a person can look at them before. If the process dies between
file and rows, the file has no batch, and start-up removes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from gpt_batch_api.domain.errors import PayloadError
from gpt_batch_api.domain.events import BatchDissolved, BatchSealed
from gpt_batch_api.domain.limits import BatchLimits, less_token_margin
from gpt_batch_api.domain.request import Load
from gpt_batch_api.domain.states import BatchState
from gpt_batch_api.engine.context import Context
from gpt_batch_api.engine.intake import too_heavy, unbudgetable
from gpt_batch_api.planning.batching import Fill, Weighed, fill, fills_a_batch, passed_limit, within
from gpt_batch_api.sinks.publish import remove, replace_with
from gpt_batch_api.store import batches, pushes, requests, tasks
from gpt_batch_api.store.batches import BatchRow


def seal(context: Context, *, endpoint: str, model: str) -> None:
    """Batch what is queued for *endpoint* and *model*, up to the limits."""
    chosen = _choose(context, endpoint, model)
    batch_id = tasks.next_batch_number(context.db)
    file_name = context.workplace.batch_file_name(batch_id, task_uuid=context.task_uuid)
    written = write_batch_file(context, file_name, chosen.ids)
    with context.transaction() as tx:
        batches.seal(
            tx,
            endpoint=endpoint,
            model=model,
            request_ids=chosen.ids,
            load=chosen.load,
            file_name=file_name,
            sha256=written.sha256,
            plan=context.plan_fingerprint(model),
            now=context.clock.now(),
        )
        context.tell(
            BatchSealed(
                batch=batch_id,
                requests=chosen.load.requests,
                size_bytes=chosen.load.size_bytes,
                input_tokens=chosen.load.input_tokens,
                cost_pico=chosen.load.cost_pico,
                file_name=file_name,
                full=chosen.full,
            )
        )


LEARNT_FOR_S = 12 * 3600.0
"""How long a limit that the server named is taken for granted."""
REFUSALS_BEFORE_HALVING = 2
"""The first may come of what others have enqueued for a moment."""
MOST_UNDERCOUNT = 8
"""No server counts more than so many times what we do: a lighter batch is refused for what others have enqueued."""


@dataclass(frozen=True)
class SealLimits:
    """What bounds the next batch: `own` by the settings and by what the server admits, `now` also by the room left."""

    own: BatchLimits
    now: BatchLimits


def seal_limits(context: Context, model: str) -> SealLimits:
    """The limits of the next batch of *model*."""
    own = context.limits.batch
    own = replace(own, requests=min(own.requests, context.most_requests.get(model, own.requests)))
    admitted = admitted_tokens(context, model)
    if admitted is not None:
        own = replace(own, input_tokens=min(own.input_tokens, admitted))
    if context.room_taken:
        return SealLimits(own, own)
    waiting = (batch.load for batch in batches.in_states(context.db, BatchState.SEALED))
    return SealLimits(own, within(own, context.room_left().less(sum(waiting, Load()))))


def is_full(context: Context, model: str, pile: Load) -> bool:
    """Whether what is queued for *model* is enough for a full batch.

    Where the room that is left is smaller than one request, it bounds nothing: what is prepared is for a later session.
    """
    limits = seal_limits(context, model)
    average = Load(
        1,
        pile.size_bytes // pile.requests,
        pile.input_tokens // pile.requests,
        cost_pico=pile.cost_pico // pile.requests,
    )
    fits_room = passed_limit(average, limits.now) is None
    return fills_a_batch(pile, limits.now if fits_room else limits.own)


def admitted_tokens(context: Context, model: str) -> int | None:
    """Input tokens of *model* that the server is known to admit at once, less a margin; None if it has refused none lately.

    Providers raise limits: what was learnt long ago is tried again.
    """
    learnt = tasks.model_limits(context.db, learnt_after=context.clock.now() - LEARNT_FOR_S).get(model)
    return None if learnt is None else less_token_margin(learnt, context.settings)


def split_if_too_heavy(context: Context, batch_id: int) -> None:
    """Dissolve a local batch that the server does not admit; its requests are batched anew, within the limit.

    The server counts in its own way. A batch that it refuses time and again, with nothing else of ours enqueued, may be
    heavier than we think, so it is tried by halves. (If others fill the queue, smaller batches find room sooner.)
    """
    batch = batches.get(context.db, batch_id)
    admitted = admitted_tokens(context, batch.model)
    if batch.state is not BatchState.SEALED or admitted is None:
        return
    if batch.load.input_tokens > admitted:
        dissolve(context, batch, why="the server never admits so many tokens at once")
    elif (
        batch.load.requests > 1
        and batch.load.input_tokens * MOST_UNDERCOUNT > admitted
        and pushes.count_pushes(context.db, batch.id) >= REFUSALS_BEFORE_HALVING
        and not _others_enqueued(context, batch.model)
    ):
        context.most_requests[batch.model] = batch.load.requests // 2
        dissolve(context, batch, why="the server does not admit it, though nothing else of the task is enqueued")


def _others_enqueued(context: Context, model: str) -> bool:
    there = batches.in_states(context.db, BatchState.PUSHING, BatchState.REMOTE)
    return any(batch.model == model for batch in there)


def dissolve_misfits(context: Context) -> None:
    """Dissolve local batches that would be sealed differently now: other limits, other prices, less room."""
    room = context.room_left()
    for batch in batches.in_states(context.db, BatchState.SEALED):
        if context.settings.requester.force_direct:
            dissolve(context, batch, why="everything goes by direct calls")
        elif batch.plan != context.plan_fingerprint(batch.model):
            dissolve(context, batch, why="limits or prices have changed")
        elif not room.none and not room.fits(batch.load):
            dissolve(context, batch, why="it is more than this session may send")
        else:
            room = room.less(batch.load)


def dissolve(context: Context, batch: BatchRow, *, why: str) -> None:
    """Put the requests of a local batch back into the queue and remove its file."""
    with context.transaction() as tx:
        batches.dissolve(tx, batch, now=context.clock.now())
        context.tell(BatchDissolved(batch=batch.id, requests=batch.load.requests, why=why))
    remove(context.workplace.folder / batch.file_name)


@dataclass(frozen=True)
class Written:
    """A batch file on disk."""

    size_bytes: int
    sha256: str


def holds_batch(path: Path, batch: BatchRow) -> bool:
    """Whether the file at *path* holds exactly the bytes that were sealed."""
    if path.stat().st_size != batch.load.size_bytes:
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == batch.sha256


def write_batch_file(context: Context, file_name: str, request_ids: tuple[int, ...]) -> Written:
    """Write the lines of *request_ids* to the local batch file."""
    digest = hashlib.sha256()
    size_bytes = 0

    def lines() -> Iterator[bytes]:
        nonlocal size_bytes
        for line in requests.lines_of(context.db, request_ids):
            digest.update(line)
            size_bytes += len(line)
            yield line

    replace_with(context.workplace.folder / file_name, lines())
    return Written(size_bytes, digest.hexdigest())


def _choose(context: Context, endpoint: str, model: str) -> Fill:
    """What goes into the next batch. Raises PayloadError if not even the first request fits into any."""
    limits = seal_limits(context, model)
    chosen = fill(_weighed(context, endpoint, model), limits.now)
    if chosen.too_heavy:  # if only the room is too small, what is prepared now is for a later session
        chosen = fill(_weighed(context, endpoint, model), limits.own)
    elif chosen.full is not None and getattr(limits.now, chosen.full) < getattr(limits.own, chosen.full):
        context.room_taken = True
    if not chosen.too_heavy:
        return chosen
    assert chosen.full is not None
    first = next(_weighed(context, endpoint, model))
    key = requests.describe(context.db, first.id)
    if passed_limit(first.load, context.limits.batch) is None:
        raise PayloadError(
            f"Request {key} alone has {first.load.input_tokens:,} input tokens, but the server admits only "
            f"{tasks.model_limits(context.db)[model]:,} enqueued tokens of {model}. Shorten the request, or ask the "
            "provider for a higher limit.",
            sample_key=key.sample_key,
        )
    raise too_heavy(context, key, first.load, chosen.full)


def _weighed(context: Context, endpoint: str, model: str) -> Iterator[Weighed]:
    most = context.retrying.max_expiries if context.retrying.may_go_direct else None
    for request in requests.queued(context.db, endpoint=endpoint, model=model, expiries_below=most):
        bounded = request.kind.max_output_tokens is not None
        if not context.is_budgetable(bounded=bounded, sureness=request.sureness):
            raise unbudgetable(requests.describe(context.db, request.id), bounded=bounded)
        yield Weighed(
            request.id, context.load(request.kind, size_bytes=request.size_bytes, input_tokens=request.input_tokens)
        )
