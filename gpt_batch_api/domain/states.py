"""All states of requests and batches, and every legal move between them.

A **request** is *queued* until it is put into a batch (*batched*) or leaves by the direct API (*sending*). Its answer
makes it *answered*: raw answer and money are booked, the task's code has not seen it yet. The task's code makes it
*succeeded* or *failed*, or sends it back to the queue. An answer that no second try can mend, in a batch that nobody
has looked at yet, leaves the request *held* until the user decides. With `dedupe` a request that another has asked
already is its *twin*, and gets a copy of its answer.

A **batch** is *sealed* when its file lies on disk, *pushing* from the committed intent to the committed remote id,
*remote* while the server works, *ended* when the server will change nothing more, *settled* when all its answers are
booked, *closed* when nothing of it is left on the server or on disk. A sealed batch may be *dissolved*: its requests
go back to the queue. If nothing of it ran, an ended batch is sealed again (token limit).

The store repeats this table in a trigger: a move that is not here cannot be committed, by no code at all.
"""

from __future__ import annotations

from enum import StrEnum


class RequestState(StrEnum):
    QUEUED = "queued"
    BATCHED = "batched"
    SENDING = "sending"
    TWIN = "twin"
    ANSWERED = "answered"
    HELD = "held"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class BatchState(StrEnum):
    SEALED = "sealed"
    PUSHING = "pushing"
    REMOTE = "remote"
    ENDED = "ended"
    SETTLED = "settled"
    CLOSED = "closed"
    DISSOLVED = "dissolved"


class PushState(StrEnum):
    """How far one attempt to bring a batch to the server has come; see `engine/push.py`."""

    UPLOADING = "uploading"
    UPLOADED = "uploaded"
    CREATING = "creating"
    CREATED = "created"
    REFUSED = "refused"
    LOST = "lost"


REQUEST_MOVES: dict[RequestState, frozenset[RequestState]] = {
    RequestState.QUEUED: frozenset({RequestState.BATCHED, RequestState.SENDING, RequestState.TWIN}),
    RequestState.BATCHED: frozenset({RequestState.QUEUED, RequestState.ANSWERED, RequestState.HELD}),
    RequestState.SENDING: frozenset({RequestState.QUEUED, RequestState.ANSWERED, RequestState.HELD}),
    RequestState.TWIN: frozenset({RequestState.ANSWERED}),
    RequestState.ANSWERED: frozenset({RequestState.QUEUED, RequestState.SUCCEEDED, RequestState.FAILED}),
    RequestState.HELD: frozenset({RequestState.QUEUED, RequestState.ANSWERED}),
    RequestState.SUCCEEDED: frozenset(),
    RequestState.FAILED: frozenset(),
}

REPLAY_MOVES: dict[RequestState, frozenset[RequestState]] = {
    # Only a wipe or a reprocess goes back: the stored answer is shown to the task's code again.
    RequestState.SUCCEEDED: frozenset({RequestState.ANSWERED}),
    RequestState.FAILED: frozenset({RequestState.ANSWERED}),
}

BATCH_MOVES: dict[BatchState, frozenset[BatchState]] = {
    BatchState.SEALED: frozenset({BatchState.PUSHING, BatchState.DISSOLVED}),
    BatchState.PUSHING: frozenset({BatchState.REMOTE, BatchState.SEALED}),
    BatchState.REMOTE: frozenset({BatchState.ENDED}),
    BatchState.ENDED: frozenset({BatchState.SETTLED, BatchState.SEALED}),
    BatchState.SETTLED: frozenset({BatchState.CLOSED}),
    BatchState.CLOSED: frozenset(),
    BatchState.DISSOLVED: frozenset(),
}

PUSH_MOVES: dict[PushState, frozenset[PushState]] = {
    PushState.UPLOADING: frozenset({PushState.UPLOADED, PushState.REFUSED, PushState.LOST}),
    PushState.UPLOADED: frozenset({PushState.CREATING, PushState.REFUSED}),
    PushState.CREATING: frozenset({PushState.CREATED, PushState.REFUSED, PushState.LOST}),
    PushState.CREATED: frozenset(),
    PushState.REFUSED: frozenset(),
    PushState.LOST: frozenset(),
}

FINAL_REQUEST_STATES = frozenset(state for state, moves in REQUEST_MOVES.items() if not moves)


def legal_moves() -> list[tuple[str, str, str]]:
    """Every legal move as (kind, from, to), the form in which the store keeps them."""
    moves: list[tuple[str, str, str]] = []
    for table in (REQUEST_MOVES, REPLAY_MOVES):
        moves += (("request", before, after) for before, allowed in table.items() for after in allowed)
    moves += (("batch", before, after) for before, allowed in BATCH_MOVES.items() for after in allowed)
    moves += (("push", before, after) for before, allowed in PUSH_MOVES.items() for after in allowed)
    return sorted((kind, str(before), str(after)) for kind, before, after in moves)
