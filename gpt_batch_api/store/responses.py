"""Answers: booked first as they came, then handed to the task's code, each exactly once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gpt_batch_api.domain.hooks import Ended, ToHand
from gpt_batch_api.domain.outcome import Outcome, Source, Usage, Verdict
from gpt_batch_api.domain.request import Kind, RequestKey, ResponseSchema
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.store import twins
from gpt_batch_api.store.codec import pack, storable, unpack
from gpt_batch_api.store.connection import expect
from gpt_batch_api.store.requests import KIND, response_schemas


@dataclass(frozen=True)
class Awaiting:
    """A request whose answer is awaited, with what is needed to judge it."""

    id: int
    epoch: int
    attempt: int
    expiries: int
    input_tokens: int
    """Estimated."""
    line: int | None
    """In its batch file, from 1; None: it went by a direct call."""
    kind: Kind

    @property
    def model(self) -> str:
        return self.kind.model

    @property
    def structured(self) -> bool:
        return self.kind.schema_id is not None


@dataclass(frozen=True)
class Answer:
    """One answer, judged: what it means and costs, and where its request goes from here."""

    request_id: int
    outcome: Outcome
    state: RequestState
    """`answered` (to be handed to the task), `queued` (asked again) or `held`."""
    counts_attempt: bool = False
    counts_expiry: bool = False
    status_code: int | None = None
    usage: Usage = Usage()
    cost_pico: int = 0
    raw: bytes | None = None


_AWAITING = f"id, epoch, attempt, expiries, input_tokens, line, {KIND}"


def _awaiting(row: sqlite3.Row) -> Awaiting:
    request_id, epoch, attempt, expiries, input_tokens, line, *kind = row
    return Awaiting(request_id, epoch, attempt, expiries, input_tokens, line, Kind(*kind))


def awaiting(db: sqlite3.Connection, batch_id: int, request_ids: Iterable[int]) -> dict[int, Awaiting]:
    """Those of *request_ids* whose answer from *batch_id* is still awaited."""
    rows = db.execute(
        f"SELECT {_AWAITING} FROM request WHERE id IN (SELECT value FROM json_each(?)) "
        "AND batch_id = ? AND state = 'batched'",
        (json.dumps(list(request_ids)), batch_id),
    )
    return {row["id"]: _awaiting(row) for row in rows}


def unanswered(db: sqlite3.Connection, batch_id: int, *, limit: int) -> list[Awaiting]:
    """The first requests, in the order of their lines, that still wait for *batch_id*."""
    rows = db.execute(
        f"SELECT {_AWAITING} FROM request WHERE batch_id = ? AND state = 'batched' ORDER BY line LIMIT ?",
        (batch_id, limit),
    )
    return [_awaiting(row) for row in rows]


def record(
    tx: sqlite3.Connection,
    answers: Sequence[Answer],
    *,
    batch_id: int | None = None,
    group_id: int | None = None,
    keep_raw: bool,
    now: float,
) -> None:
    """Book *answers* (at most one a request) of a batch or of a group of direct calls, and move their requests on.

    Without *keep_raw* only what the task's code has still to see is kept as the server sent it.
    """
    first_id: int = tx.execute("SELECT coalesce(max(id), 0) + 1 FROM response").fetchone()[0]
    tx.executemany(
        "INSERT INTO response (id, request_id, try, attempt, batch_id, group_id, received_at, status_code, verdict, reason, "
        "message, input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_pico, handed) "
        "SELECT ?, id, tries + 1, attempt, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM request WHERE id = ?",
        (
            (
                response_id, batch_id, group_id, now, answer.status_code, answer.outcome.verdict, storable(answer.outcome.reason),
                storable(answer.outcome.message), answer.usage.input_tokens, answer.usage.cached_tokens,
                answer.usage.cache_write_tokens, answer.usage.output_tokens, answer.usage.reasoning_tokens,
                answer.cost_pico, 0 if answer.state is RequestState.ANSWERED else None, answer.request_id,
            )
            for response_id, answer in enumerate(answers, start=first_id)
        ),
    )  # fmt: skip
    tx.executemany(
        "INSERT INTO raw_response (response_id, body) VALUES (?, ?)",
        (
            (response_id, pack(answer.raw))
            for response_id, answer in enumerate(answers, start=first_id)
            if answer.raw is not None and (keep_raw or answer.state is RequestState.ANSWERED)
        ),
    )
    cursor = tx.executemany(
        "UPDATE request SET state = ?, batch_id = NULL, line = NULL, tries = tries + 1, attempt = attempt + ?, "
        "expiries = expiries + ?, reason = ? WHERE id = ? AND state IN ('batched', 'sending')",
        (
            (
                answer.state, int(answer.counts_attempt), int(answer.counts_expiry),
                None if answer.outcome.ok else storable(answer.outcome.reason), answer.request_id,
            )
            for answer in answers
        ),
    )  # fmt: skip
    expect(cursor, len(answers), "booking answers")
    twins.share(tx, [answer.request_id for answer in answers if answer.state is RequestState.ANSWERED], now=now)


def any_to_hand(db: sqlite3.Connection) -> bool:
    """Whether the task's code has answers to see."""
    return db.execute("SELECT 1 FROM response WHERE handed = 0 LIMIT 1").fetchone() is not None


def count(db: sqlite3.Connection) -> int:
    """How many answers are booked."""
    number: int = db.execute("SELECT count(*) FROM response").fetchone()[0]
    return number


def to_hand(db: sqlite3.Connection, *, limit: int, max_retries: int) -> list[ToHand]:
    """The oldest answers that the task's code has not seen."""
    rows = db.execute(f"{_ANSWERS} WHERE handed = 0 ORDER BY response.id LIMIT ?", (limit,)).fetchall()
    return _all_to_hand(db, rows, max_retries=max_retries)


def seen(db: sqlite3.Connection, *, max_retries: int) -> list[ToHand]:
    """All answers that the task's code has seen, oldest first: for small tasks only."""
    rows = db.execute(f"{_ANSWERS} WHERE handed = 1 ORDER BY response.id").fetchall()
    return _all_to_hand(db, rows, max_retries=max_retries)


def stored(db: sqlite3.Connection, response_ids: Iterable[int], *, max_retries: int) -> list[ToHand]:
    """Some answers, seen by the task's code or not, in the order in which they came."""
    rows = db.execute(
        f"{_ANSWERS} WHERE response.id IN (SELECT value FROM json_each(?)) ORDER BY response.id",
        (json.dumps(list(response_ids)),),
    ).fetchall()
    return _all_to_hand(db, rows, max_retries=max_retries)


_ANSWERS = (
    "SELECT response.*, request.sample_id, sample.key, request.purpose, request.number, request.endpoint, "
    "request.model, request.schema_id, request.meta, raw_response.body AS raw "
    "FROM response JOIN request ON request.id = request_id JOIN sample ON sample.id = sample_id "
    "LEFT JOIN raw_response ON response_id = response.id"
)


def _all_to_hand(db: sqlite3.Connection, rows: Sequence[sqlite3.Row], *, max_retries: int) -> list[ToHand]:
    schemas = response_schemas(db, {row["schema_id"] for row in rows if row["schema_id"] is not None})
    return [_to_hand(row, schemas, max_retries=max_retries) for row in rows]


def _to_hand(row: sqlite3.Row, schemas: Mapping[int, ResponseSchema], *, max_retries: int) -> ToHand:
    usage = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
    return ToHand(
        response_id=row["id"],
        request_id=row["request_id"],
        sample_id=row["sample_id"],
        key=RequestKey(row["key"], row["purpose"], row["number"]),
        endpoint=row["endpoint"],
        model=row["model"],
        schema=schemas.get(row["schema_id"]),
        meta=json.loads(row["meta"]) if row["meta"] else None,
        attempt=row["attempt"],
        may_retry=row["attempt"] <= max_retries,
        outcome=Outcome(Verdict(row["verdict"]), row["reason"], row["message"]),
        usage=Usage(*(row[name] for name in usage)),
        cost_pico=row["cost_pico"],
        raw=None if row["raw"] is None else unpack(row["raw"]),
        direct=row["group_id"] is not None,
    )


def finish(tx: sqlite3.Connection, endings: Sequence[Ended], *, keep_raw: bool) -> None:
    """answered → succeeded, failed or queued, and the answers count as handed over."""
    cursor = tx.executemany(
        "UPDATE request SET state = ?, attempt = attempt + ?, reason = ? WHERE id = ? AND state = 'answered'",
        (
            (
                ending.state,
                int(ending.state is RequestState.QUEUED),
                None if ending.outcome.ok else storable(ending.outcome.reason),
                ending.request_id,
            )
            for ending in endings
        ),
    )
    expect(cursor, len(endings), "finishing requests")
    cursor = tx.executemany(
        "UPDATE response SET handed = 1, task_verdict = ?, task_reason = ?, task_message = ? WHERE id = ? AND handed = 0",
        (
            (
                ending.outcome.verdict,
                storable(ending.outcome.reason),
                storable(ending.outcome.message),
                ending.response_id,
            )
            for ending in endings
        ),
    )
    expect(cursor, len(endings), "noting what became of answers")
    if not keep_raw:
        tx.executemany("DELETE FROM raw_response WHERE response_id = ?", ((e.response_id,) for e in endings))


@dataclass(frozen=True)
class HeldRequest:
    """A request that waits for the user's decision."""

    id: int
    key: RequestKey
    attempt: int
    response_id: int
    outcome: Outcome


def held_of(db: sqlite3.Connection, source: Source, *, limit: int) -> list[HeldRequest]:
    """The requests held because of their answer in a batch or in a group of direct calls."""
    rows = db.execute(
        "SELECT request.id, key, purpose, number, request.attempt, response.id, verdict, response.reason, message "
        "FROM response JOIN request ON request.id = request_id AND request.tries = response.try "
        "JOIN sample ON sample.id = sample_id "
        f"WHERE response.{_column(source)} = ? AND request.state = 'held' ORDER BY request.id LIMIT ?",
        (source.id, limit),
    )
    return [
        HeldRequest(
            row[0], RequestKey(row[1], row[2], row[3]), row[4], row[5], Outcome(Verdict(row[6]), row[7], row[8])
        )
        for row in rows
    ]


def release_held(tx: sqlite3.Connection, held: Sequence[HeldRequest], *, retry: bool, now: float) -> None:
    """held → queued (asked again, which counts an attempt) or → answered (handed to the task as failed)."""
    state = RequestState.QUEUED if retry else RequestState.ANSWERED
    cursor = tx.executemany(
        "UPDATE request SET state = ?, attempt = attempt + ? WHERE id = ? AND state = 'held'",
        ((state, int(retry), request.id) for request in held),
    )
    expect(cursor, len(held), "deciding about held requests")
    if not retry:
        cursor = tx.executemany(
            "UPDATE response SET handed = 0 WHERE id = ? AND handed IS NULL",
            ((request.response_id,) for request in held),
        )
        expect(cursor, len(held), "handing over held answers")
        twins.share(tx, [request.id for request in held], now=now)


def succeeded_of(db: sqlite3.Connection, source: Source) -> int:
    """How many answers of a batch, or a group of direct calls, count as successes, now that the task has seen them."""
    count: int = db.execute(
        f"SELECT count(*) FROM response WHERE {_column(source)} = ? AND task_verdict = 'success'", (source.id,)
    ).fetchone()[0]
    return count


def _column(source: Source) -> str:
    return "batch_id" if source.kind == "batch" else "group_id"
