"""A small task as a whole, sample by sample: what was asked, how it ended, and what came of it. For checks and tests."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from gpt_batch_api.domain.request import RequestKey
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.store.codec import unpack_payload


@dataclass(frozen=True)
class WholeRequest:
    """A request with its payload."""

    key: RequestKey
    state: RequestState
    body: bytes


@dataclass(frozen=True)
class WholeSample:
    """What came of a sample: the task's state of it and its output rows, all as JSON text."""

    key: str
    state: str | None
    rows: tuple[str, ...]


def requests(db: sqlite3.Connection) -> Iterator[WholeRequest]:
    """All requests."""
    rows = db.execute(
        "SELECT sample.key, purpose, number, request.state, payload.body FROM request "
        "JOIN sample ON sample.id = sample_id JOIN payload ON request_id = request.id ORDER BY request.id"
    )
    for key, purpose, number, state, body in rows:
        yield WholeRequest(RequestKey(key, purpose, number), RequestState(state), unpack_payload(db, body))


def samples(db: sqlite3.Connection) -> Iterator[WholeSample]:
    """All samples."""
    for sample_id, key, state in db.execute("SELECT id, key, state FROM sample ORDER BY id"):
        rows = db.execute("SELECT row FROM output WHERE sample_id = ? ORDER BY id", (sample_id,))
        yield WholeSample(key, state, tuple(text for (text,) in rows))
