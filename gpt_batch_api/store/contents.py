"""Whether what a store keeps packed can still be read: payloads, answers as they came, states of samples.

No count tells of it, and a run reads it only when it is needed: a payload to ask again, an answer to be reprocessed. Here
all of it is read as it would be there, one by one, and media that payloads share once.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Callable, Iterator

from gpt_batch_api.domain.outcome import Verdict
from gpt_batch_api.domain.request import hash_of_payload
from gpt_batch_api.endpoints.base import raw_body
from gpt_batch_api.store.checkup import complaint_of
from gpt_batch_api.store.codec import unpack, unpack_without_media


def unreadable(db: sqlite3.Connection) -> Iterator[str]:
    """A line for each kind of thing that cannot be read: how many, and some of their samples."""
    yield from complaint_of("payloads are not what was asked", _broken_payloads(db))
    yield from complaint_of("answers cannot be read as they came", _broken_answers(db))
    yield from complaint_of("states of samples cannot be read", _broken_states(db))


def count_kept(db: sqlite3.Connection) -> int:
    """How many answers are kept as they came."""
    number: int = db.execute("SELECT count(*) FROM raw_response").fetchone()[0]
    return number


def _broken_payloads(db: sqlite3.Connection) -> Iterator[str]:
    broken_media = {
        name for name, body in db.execute("SELECT hash, body FROM content") if hashlib.sha256(body).digest() != name
    }

    def is_medium(name: bytes) -> bool:
        there = db.execute("SELECT 1 FROM content WHERE hash = ?", (name,)).fetchone() is not None
        return there and name not in broken_media

    def is_payload(packed: bytes, should: bytes) -> bool:
        body, media = unpack_without_media(packed)
        if not media:
            return hash_of_payload(body) == should
        return isinstance(json.loads(body), dict) and all(map(is_medium, media))

    yield from _failing(
        db,
        "SELECT key, body, payload_hash FROM payload JOIN request ON request.id = request_id "
        "JOIN sample ON sample.id = sample_id ORDER BY request_id",
        is_payload,
    )


def _broken_answers(db: sqlite3.Connection) -> Iterator[str]:
    def is_answer(packed: bytes, verdict: str) -> bool:
        body = raw_body(unpack(packed))
        return bool(body) or verdict != Verdict.SUCCESS

    yield from _failing(
        db,
        "SELECT key, body, verdict FROM raw_response JOIN response ON response.id = response_id "
        "JOIN request ON request.id = request_id JOIN sample ON sample.id = sample_id ORDER BY response_id",
        is_answer,
    )


def _broken_states(db: sqlite3.Connection) -> Iterator[str]:
    def is_state(text: bytes) -> bool:
        json.loads(text.decode())
        return True

    sql = "SELECT key, CAST(state AS BLOB) FROM sample WHERE state IS NOT NULL ORDER BY id"
    yield from _failing(db, sql, is_state)


def _failing(db: sqlite3.Connection, sql: str, test: Callable[..., bool]) -> Iterator[str]:
    """The first value of each row of *sql* whose other values do not pass *test*."""
    for key, *values in db.execute(sql):
        if not _holds(test, *values):
            yield key


def _holds(test: Callable[..., bool], *values: object) -> bool:
    """Whether *test* says yes; what cannot even be read does not."""
    try:
        return test(*values)
    except (ValueError, AttributeError, RecursionError, zlib.error):
        return False
