"""Direct calls: what is in flight, and the groups in which their answers are looked at.

A call is *sending* from the commit of its intent, with its expected cost reserved, to the commit of its answer. What is
sending when no process works on the task was in flight when one died: whether it ran, nobody can say. Its reservation
counts as spent then (*unknown*), and its request is asked again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gpt_batch_api.domain.outcome import Road
from gpt_batch_api.domain.request import Kind, Load
from gpt_batch_api.store import ledger
from gpt_batch_api.store.batches import Settlement
from gpt_batch_api.store.codec import storable, unpack_payload
from gpt_batch_api.store.connection import expect
from gpt_batch_api.store.requests import KIND
from gpt_batch_api.store.responses import Awaiting


@dataclass(frozen=True)
class Call:
    """One direct call: what it reserves."""

    request_id: int
    road: Road
    input_tokens: int
    reserved_pico: int


@dataclass(frozen=True)
class Ready:
    """A queued request with all that is needed to send it and to judge its answer."""

    request: Awaiting
    sureness: str
    body: bytes

    @property
    def endpoint(self) -> str:
        return self.request.kind.endpoint


_EXPIRED = "AND expiries > 0"
"""Lets SQLite use the small index of what expired."""


def ready(
    db: sqlite3.Connection, *, endpoint: str, model: str, least_expiries: int = 0, after_id: int = 0, limit: int
) -> Iterator[Ready]:
    """The next requests in the queue of one endpoint and model, of those that expired at least so often."""
    rows = db.execute(
        f"SELECT body, sureness, request.id, epoch, attempt, expiries, input_tokens, {KIND} "
        "FROM request JOIN payload ON request_id = request.id "
        "WHERE state = 'queued' AND endpoint = ? AND model = ? AND expiries >= ? AND request.id > ? "
        f"{_EXPIRED if least_expiries else ''} ORDER BY request.id LIMIT ?",
        (endpoint, model, least_expiries, after_id, limit),
    ).fetchall()
    for body, sureness, request_id, epoch, attempt, expiries, input_tokens, *kind in rows:
        request = Awaiting(request_id, epoch, attempt, expiries, input_tokens, None, Kind(*kind))
        yield Ready(request, sureness, unpack_payload(db, body))


def expired_loads(db: sqlite3.Connection, *, least_expiries: int) -> dict[tuple[str, str], Load]:
    """What waits in the queue after expiring at least so often (once or more), by (endpoint, model)."""
    rows = db.execute(
        "SELECT endpoint, model, count(*), sum(size_bytes), sum(input_tokens), sum(output_allowance) "
        "FROM request INDEXED BY request_expired "
        "WHERE state = 'queued' AND expiries > 0 AND expiries >= ? GROUP BY 1, 2",
        (least_expiries,),
    )
    return {(endpoint, model): Load(*numbers) for endpoint, model, *numbers in rows}


def first(db: sqlite3.Connection, *, endpoint: str, model: str, least_expiries: int = 0) -> tuple[int, Kind] | None:
    """(input tokens, kind) of the first request in a queue, of those that expired at least so often."""
    row = db.execute(
        f"SELECT input_tokens, {KIND} FROM request WHERE state = 'queued' AND endpoint = ? AND model = ? "
        f"AND expiries >= ? {_EXPIRED if least_expiries else ''} ORDER BY id LIMIT 1",
        (endpoint, model, least_expiries),
    ).fetchone()
    return None if row is None else (row[0], Kind(*row[1:]))


def heaviest(db: sqlite3.Connection, *, endpoint: str, model: str) -> tuple[int, int]:
    """The most (input tokens, output allowance) of any request in a queue; reads all of it."""
    row = db.execute(
        "SELECT coalesce(max(input_tokens), 0), coalesce(max(output_allowance), 0) FROM request "
        "WHERE state = 'queued' AND endpoint = ? AND model = ?",
        (endpoint, model),
    ).fetchone()
    return row[0], row[1]


def heaviest_of_batch(db: sqlite3.Connection, batch_id: int) -> tuple[int, int]:
    """The most (input tokens, output allowance) of any request that waits for a batch."""
    row = db.execute(
        "SELECT coalesce(max(input_tokens), 0), coalesce(max(output_allowance), 0) FROM request WHERE batch_id = ?",
        (batch_id,),
    ).fetchone()
    return row[0], row[1]


def calls_per_s(db: sqlite3.Connection, *, groups: int, least_answers: int = 0) -> float | None:
    """How many direct calls were answered in a second, by the newest *groups* of so many answers; None if none tells."""
    answered, took_s = db.execute(
        "SELECT sum(requests), sum(closed_at - opened_at) FROM (SELECT requests, closed_at, opened_at FROM direct_group "
        "WHERE closed_at > opened_at AND requests >= ? ORDER BY id DESC LIMIT ?)",
        (least_answers, groups),
    ).fetchone()
    return answered / took_s if took_s else None


def begin(tx: sqlite3.Connection, calls: Sequence[Call], *, session_id: int, now: float) -> None:
    """queued → sending: the intent to call, with what it reserves."""
    cursor = tx.executemany(
        "UPDATE request SET state = 'sending' WHERE id = ? AND state = 'queued'", ((call.request_id,) for call in calls)
    )
    expect(cursor, len(calls), "beginning direct calls")
    tx.executemany(
        "INSERT INTO direct_call (request_id, session_id, road, input_tokens, reserved_pico) VALUES (?, ?, ?, ?, ?)",
        ((call.request_id, session_id, call.road, call.input_tokens, call.reserved_pico) for call in calls),
    )
    _book(tx, "reserve", calls, session_id=session_id, now=now, sign=1)


def settle(
    tx: sqlite3.Connection, calls: Sequence[Call], *, session_id: int, cost_pico: int, unknown_pico: int, now: float
) -> None:
    """The answers of *calls* are booked: their reservations become what they cost.

    *unknown_pico*: what counts as spent for those whose reply was lost.
    """
    _forget(tx, calls)
    _book(tx, "settle", calls, session_id=session_id, now=now, spent_pico=cost_pico)
    if unknown_pico:
        ledger.book(
            tx,
            "unknown",
            now=now,
            session_id=session_id,
            spent_pico=unknown_pico,
            unlinked_pico=unknown_pico,
            note="direct calls whose reply was lost",
        )


def put_back(tx: sqlite3.Connection, calls: Sequence[Call], *, session_id: int, note: str, now: float) -> None:
    """sending → queued: they did not run, and reserve nothing any more."""
    _to_queue(tx, calls)
    _forget(tx, calls)
    _book(tx, "release", calls, session_id=session_id, now=now, sign=-1, note=note)


def open_calls(db: sqlite3.Connection) -> dict[int, list[Call]]:
    """What is sending, by the session that sent it."""
    found: dict[int, list[Call]] = {}
    for request_id, session_id, road, tokens, pico in db.execute(
        "SELECT request_id, session_id, road, input_tokens, reserved_pico FROM direct_call ORDER BY request_id"
    ):
        found.setdefault(session_id, []).append(Call(request_id, Road(road), tokens, pico))
    return found


def give_up(tx: sqlite3.Connection, calls: Sequence[Call], *, session_id: int, now: float) -> None:
    """sending → queued: nobody knows whether they ran. What they reserved counts as spent."""
    _to_queue(tx, calls)
    _forget(tx, calls)
    pico = sum(call.reserved_pico for call in calls)
    ledger.book(
        tx,
        "unknown",
        now=now,
        session_id=session_id,
        reserved_pico=-pico,
        spent_pico=pico,
        unlinked_pico=pico,
        note=f"{len(calls)} direct calls were in flight when the process ended",
    )


def _to_queue(tx: sqlite3.Connection, calls: Sequence[Call]) -> None:
    cursor = tx.executemany(
        "UPDATE request SET state = 'queued' WHERE id = ? AND state = 'sending'", ((call.request_id,) for call in calls)
    )
    expect(cursor, len(calls), "putting direct calls back into the queue")


def _forget(tx: sqlite3.Connection, calls: Sequence[Call]) -> None:
    cursor = tx.executemany("DELETE FROM direct_call WHERE request_id = ?", ((call.request_id,) for call in calls))
    expect(cursor, len(calls), "ending direct calls")


def _book(
    tx: sqlite3.Connection,
    kind: str,
    calls: Sequence[Call],
    *,
    session_id: int,
    now: float,
    sign: int = 0,
    spent_pico: int = 0,
    note: str | None = None,
) -> None:
    """One ledger line for *calls*: +1 reserves and counts them, -1 takes both back, 0 only settles the reservation."""
    reserved = sum(call.reserved_pico for call in calls)
    ledger.book(
        tx,
        kind,
        now=now,
        session_id=session_id,
        requests=sign * len(calls),
        input_tokens=sign * sum(call.input_tokens for call in calls),
        reserved_pico=reserved if sign > 0 else -reserved,
        spent_pico=spent_pico,
        note=note,
    )


# ---------------------------------------------------------------- groups


@dataclass(frozen=True)
class Group:
    """Answers that are looked at together."""

    id: int
    requests: int
    input_tokens: int
    cost_pico: int
    """Reserved."""
    expected_cost_pico: int
    expected_input_tokens: int
    """Of those that were answered, like the next."""
    expected_output_tokens: int
    sum: Settlement
    failure: str | None


_SUMS = (
    "succeeded", "retried", "failed", "held", "free",
    "used_input_tokens", "used_output_tokens", "used_output_allowance", "longest_output_tokens", "cost_pico",
)  # fmt: skip
_COLUMNS = (
    "id, requests, input_tokens, cost_pico, expected_cost_pico, expected_input_tokens, expected_output_tokens, "
    "iif(failure_open, failure, NULL) AS failure, n_succeeded, "
    "n_retried, n_failed, n_held, n_free, used_input_tokens, used_output_tokens, used_output_allowance, "
    "longest_output_tokens, true_cost_pico"
)


def _group(row: sqlite3.Row) -> Group:
    group_id, requests, tokens, reserved, cost, expected_in, expected_out, failure, *sums = row
    settlement = Settlement(**dict(zip(_SUMS, sums, strict=True)))
    return Group(group_id, requests, tokens, reserved, cost, expected_in, expected_out, settlement, failure)


def any_open_group(db: sqlite3.Connection) -> bool:
    """Whether answers still go into some group."""
    sql = "SELECT 1 FROM direct_group INDEXED BY direct_group_open WHERE closed_at IS NULL LIMIT 1"
    return db.execute(sql).fetchone() is not None


def open_group(tx: sqlite3.Connection, *, session_id: int, now: float) -> Group:
    """The group that answers go into now; a new one if there is none."""
    tx.execute(
        "INSERT OR IGNORE INTO direct_group (session_id, opened_at) SELECT ?, ? WHERE NOT EXISTS "
        "(SELECT 1 FROM direct_group WHERE session_id = ? AND closed_at IS NULL)",
        (session_id, now, session_id),
    )
    row = tx.execute(
        f"SELECT {_COLUMNS} FROM direct_group WHERE session_id = ? AND closed_at IS NULL", (session_id,)
    ).fetchone()
    return _group(row)


def add_to_group(
    tx: sqlite3.Connection,
    group_id: int,
    calls: Sequence[Call],
    outcome: Settlement,
    *,
    expected_input_tokens: int,
    expected_output_tokens: int,
    expected_cost_pico: int,
    failure: str | None,
) -> None:
    """Count answers in. The first *failure* stands for the group, and waits for the user."""
    tx.execute(
        "UPDATE direct_group SET requests = requests + ?, input_tokens = input_tokens + ?, cost_pico = cost_pico + ?, "
        "expected_input_tokens = expected_input_tokens + ?, expected_output_tokens = expected_output_tokens + ?, "
        "expected_cost_pico = expected_cost_pico + ?, n_succeeded = n_succeeded + ?, n_retried = n_retried + ?, "
        "n_failed = n_failed + ?, n_held = n_held + ?, n_free = n_free + ?, used_input_tokens = used_input_tokens + ?, "
        "used_output_tokens = used_output_tokens + ?, used_output_allowance = used_output_allowance + ?, "
        "longest_output_tokens = max(longest_output_tokens, ?), true_cost_pico = true_cost_pico + ?, "
        "failure = coalesce(failure, ?), failure_open = max(failure_open, ?) WHERE id = ?",
        (
            len(calls), sum(call.input_tokens for call in calls), sum(call.reserved_pico for call in calls),
            expected_input_tokens, expected_output_tokens, expected_cost_pico,
            outcome.succeeded, outcome.retried, outcome.failed, outcome.held, outcome.free,
            outcome.used_input_tokens, outcome.used_output_tokens, outcome.used_output_allowance,
            outcome.longest_output_tokens, outcome.cost_pico,
            None if failure is None else storable(failure), int(failure is not None), group_id,
        ),
    )  # fmt: skip


def close_groups(tx: sqlite3.Connection, *, session_id: int | None, now: float) -> list[Group]:
    """Close the group of a session that is open (None: of any session); which."""
    rows = tx.execute(
        f"SELECT {_COLUMNS} FROM direct_group INDEXED BY direct_group_open "
        "WHERE closed_at IS NULL AND (? IS NULL OR session_id = ?)",
        (session_id, session_id),
    ).fetchall()
    tx.executemany("UPDATE direct_group SET closed_at = ? WHERE id = ?", ((now, row["id"]) for row in rows))
    return [_group(row) for row in rows]


def unweighed(db: sqlite3.Connection) -> list[tuple[int, int, int]]:
    """(group, requests, those that did not run) of closed groups whose answers the task has all seen only now."""
    rows = db.execute(
        "SELECT id, requests, n_free FROM direct_group INDEXED BY direct_group_unweighed "
        "WHERE passed IS NULL AND closed_at IS NOT NULL "
        "AND NOT EXISTS (SELECT 1 FROM response INDEXED BY response_to_hand_of_group "
        "WHERE group_id = direct_group.id AND handed = 0) ORDER BY id"
    )
    return [(group_id, requests, free) for group_id, requests, free in rows]


def note_passed(tx: sqlite3.Connection, group_id: int, *, passed: bool) -> None:
    """Write down whether enough of the group succeeded."""
    tx.execute("UPDATE direct_group SET passed = ? WHERE id = ?", (int(passed), group_id))


def with_open_failure(db: sqlite3.Connection) -> list[Group]:
    """Groups with held requests that wait for the user."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM direct_group WHERE failure_open = 1 ORDER BY id")
    return [_group(row) for row in rows]


def decide_failure(tx: sqlite3.Connection, group_id: int) -> None:
    """The user has decided about a group."""
    tx.execute("UPDATE direct_group SET failure_open = 0 WHERE id = ?", (group_id,))
