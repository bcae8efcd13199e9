"""Identical requests (`dedupe`): the first is asked, the others are its *twins* and wait for its answer.

Twins ask the same of the same endpoint, byte for byte, under the same purpose and number; so they belong to different
samples, and whoever wants several answers to one question (numbers 0, 1, 2 …) gets as many. When the first has its
answer, each twin gets a copy that cost nothing, and goes its own way from there: the task's code sees each of them, and
one that is to be asked again is asked by itself. An answer that is held for the user's decision is copied after it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection

from gpt_batch_api.store.connection import expect


def prepare(tx: sqlite3.Connection) -> None:
    """Make the index by which twins are found; only tasks that look for them pay for it."""
    tx.execute("CREATE INDEX IF NOT EXISTS request_payload ON request (payload_hash, purpose, number)")


_FIRST = (
    "SELECT min(first.id) FROM request AS first INDEXED BY request_payload "
    "WHERE first.payload_hash = new.payload_hash AND first.purpose = new.purpose AND first.number = new.number "
    "AND first.endpoint = new.endpoint AND first.id < new.id "
    "AND (first.state IN ('queued', 'batched', 'sending', 'held') "
    "  OR (first.state IN ('answered', 'succeeded') AND EXISTS (SELECT 1 FROM response JOIN raw_response "
    "      ON response_id = response.id WHERE request_id = first.id AND try = tries AND verdict = 'success')))"
)
"""The oldest identical request that has a good answer, or will have some answer."""


def join(tx: sqlite3.Connection, *, first_new_id: int, now: float) -> int:
    """Make twins of those of the new requests that others have asked already; how many. Some get their answer at once."""
    found = tx.execute(
        f"SELECT twin_of, id FROM (SELECT new.id, ({_FIRST}) AS twin_of FROM request AS new WHERE new.id >= ?) "
        "WHERE twin_of IS NOT NULL",
        (first_new_id,),
    ).fetchall()
    tx.executemany("UPDATE request SET state = 'twin', twin_of = ? WHERE id = ? AND state = 'queued'", found)
    answered = tx.execute(
        "SELECT id FROM request WHERE id IN (SELECT value FROM json_each(?)) AND state IN ('answered', 'succeeded')",
        (json.dumps(sorted({row[0] for row in found})),),
    )
    share(tx, [row[0] for row in answered], now=now)
    return len(found)


_WAITING = (
    "FROM request AS twin INDEXED BY request_twin JOIN request AS first ON first.id = twin.twin_of "
    "JOIN response AS original ON original.request_id = first.id AND original.try = first.tries "
    "WHERE twin.twin_of IN (SELECT value FROM json_each(?))"
)


def share(tx: sqlite3.Connection, answered_ids: Collection[int], *, now: float) -> None:
    """twin → answered, for all that wait for the answers of *answered_ids*: each gets a copy, to be handed over."""
    if not answered_ids or tx.execute("SELECT 1 FROM request WHERE twin_of IS NOT NULL LIMIT 1").fetchone() is None:
        return
    ids = json.dumps(list(answered_ids))
    copied = tx.execute(
        "INSERT INTO response (request_id, try, attempt, received_at, status_code, verdict, reason, message, "
        "input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_pico, handed) "
        "SELECT twin.id, twin.tries + 1, twin.attempt, ?, original.status_code, original.verdict, original.reason, "
        f"original.message, 0, 0, 0, 0, 0, 0, 0 {_WAITING}",
        (now, ids),
    ).rowcount
    tx.execute(
        "INSERT INTO raw_response (response_id, body) SELECT copy.id, raw_response.body "
        + _WAITING.replace(
            "WHERE",
            "JOIN response AS copy ON copy.request_id = twin.id AND copy.try = twin.tries + 1 "
            "JOIN raw_response ON raw_response.response_id = original.id WHERE",
        ),
        (ids,),
    )
    cursor = tx.execute(
        "UPDATE request SET state = 'answered', twin_of = NULL, tries = tries + 1, "
        "reason = (SELECT reason FROM request AS first WHERE first.id = request.twin_of) "
        "WHERE twin_of IN (SELECT value FROM json_each(?))",
        (ids,),
    )
    expect(cursor, copied, "giving answers to identical requests")
