"""Requests: look up, store, queue, and move between states."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from gpt_batch_api.domain.request import (
    Kind,
    KnownRequest,
    Load,
    NewRequest,
    RequestKey,
    ResponseSchema,
    batch_line,
)
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.store.codec import pack_payload, unpack_payload
from gpt_batch_api.store.connection import expect

KIND = "endpoint, model, max_output_tokens, output_allowance, schema_id"
"""The columns of a request that make a `Kind`, in its order."""
_LOAD = "requests, size_bytes, input_tokens, output_allowance"


@dataclass(frozen=True)
class QueuedRequest:
    """A queued request as planning weighs it."""

    id: int
    size_bytes: int
    input_tokens: int
    kind: Kind
    sureness: str


def find_known(db: sqlite3.Connection, keys: Sequence[RequestKey]) -> dict[RequestKey, KnownRequest]:
    """Those of *keys* (at most some thousands) that are stored already, in one query.

    Keys hold no zero characters (the intake refuses them): SQLite's JSON functions end a text there.
    """
    asked = json.dumps([[key.sample_key, key.purpose, key.number] for key in keys])
    rows = db.execute(
        "SELECT sample.key, request.purpose, request.number, payload_hash, metadata_version "
        "FROM json_each(?) AS asked "
        "JOIN sample ON sample.key = asked.value ->> 0 "
        "JOIN request ON sample_id = sample.id AND purpose = asked.value ->> 1 AND number = asked.value ->> 2",
        (asked,),
    )
    return {
        RequestKey(key, purpose, number): KnownRequest(payload_hash, version)
        for key, purpose, number, payload_hash, version in rows
    }


def add_requests(tx: sqlite3.Connection, new: Sequence[NewRequest], *, asked_by_task: bool = False) -> int:
    """Store requests that are not known yet, and their samples; all are queued. Returns the id of the first."""
    tx.executemany("INSERT OR IGNORE INTO sample (key) VALUES (?)", {(item.key.sample_key,): None for item in new})
    sample_ids = dict(
        tx.execute(
            "SELECT key, id FROM sample WHERE key IN (SELECT value FROM json_each(?))",
            (json.dumps([item.key.sample_key for item in new]),),
        ).fetchall()
    )
    schema_ids = {schema: _schema_id(tx, schema) for schema in {item.prepared.schema for item in new} if schema}
    epoch, version = tx.execute("SELECT epoch, metadata_version FROM task").fetchone()
    first_id: int = tx.execute("SELECT coalesce(max(id), 0) + 1 FROM request").fetchone()[0]
    rows = []
    payloads = []
    for request_id, item in enumerate(new, start=first_id):
        prepared = item.prepared
        line = batch_line(request_id, epoch, endpoint=item.endpoint, body=prepared.body)
        rows.append(
            (
                request_id, sample_ids[item.key.sample_key], item.key.purpose, item.key.number, int(asked_by_task),
                epoch, version, item.endpoint, prepared.model,
                schema_ids[prepared.schema] if prepared.schema else None, item.payload_hash,
                None if item.meta is None else json.dumps(item.meta),
                len(line), prepared.input_tokens, prepared.sureness, prepared.max_output_tokens,
                prepared.output_allowance,
            )
        )  # fmt: skip
        payloads.append((request_id, pack_payload(tx, prepared.body)))
    tx.executemany(
        "INSERT INTO request (id, sample_id, purpose, number, asked_by_task, epoch, metadata_version, endpoint, model, "
        "schema_id, payload_hash, meta, size_bytes, input_tokens, sureness, max_output_tokens, output_allowance) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    tx.executemany("INSERT INTO payload (request_id, body) VALUES (?, ?)", payloads)
    return first_id


def _schema_id(tx: sqlite3.Connection, schema: ResponseSchema) -> int:
    tx.execute(
        "INSERT OR IGNORE INTO response_schema (name, json, python) VALUES (?, ?, ?)",
        (schema.name, schema.json, schema.python or ""),
    )
    found = find_schema(tx, schema)
    assert found is not None
    return found


def find_schema(db: sqlite3.Connection, schema: ResponseSchema) -> int | None:
    """The number of a response schema; None if the store does not know it."""
    row = db.execute(
        "SELECT id FROM response_schema WHERE json = ? AND python = ?", (schema.json, schema.python or "")
    ).fetchone()
    return None if row is None else int(row[0])


def response_schemas(db: sqlite3.Connection, ids: Collection[int]) -> dict[int, ResponseSchema]:
    """Some response schemas of the task, by their ids."""
    rows = db.execute(
        "SELECT id, name, json, python FROM response_schema WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(ids)),),
    )
    return {schema_id: ResponseSchema(name, text, python or None) for schema_id, name, text, python in rows}


def queue_loads(db: sqlite3.Connection) -> dict[tuple[str, str], Load]:
    """What waits in the queue, by (endpoint, model); from the tally, so it costs nothing."""
    rows = db.execute(
        f"SELECT endpoint, model, {_LOAD} FROM tally WHERE state = 'queued' AND requests > 0 ORDER BY 1, 2"
    )
    return {(endpoint, model): Load(*numbers) for endpoint, model, *numbers in rows}


def state_loads(db: sqlite3.Connection) -> dict[RequestState, Load]:
    """The load of every state, zeros included."""
    rows = {
        state: Load(*numbers)
        for state, *numbers in db.execute(
            "SELECT state, sum(requests), sum(size_bytes), sum(input_tokens), sum(output_allowance) "
            "FROM tally GROUP BY state"
        )
    }
    return {state: rows.get(state, Load()) for state in RequestState}


def queued(
    db: sqlite3.Connection, *, endpoint: str, model: str, expiries_below: int | None = None
) -> Iterator[QueuedRequest]:
    """The queue of one endpoint and model, oldest first, read as it is consumed; without what expired too often."""
    rows = db.execute(
        f"SELECT id, size_bytes, input_tokens, sureness, {KIND} FROM request "
        "WHERE state = 'queued' AND endpoint = ? AND model = ? AND (? IS NULL OR expiries < max(1, ?)) ORDER BY id",
        (endpoint, model, expiries_below, expiries_below),
    )
    for request_id, size_bytes, input_tokens, sureness, *kind in rows:
        yield QueuedRequest(request_id, size_bytes, input_tokens, Kind(*kind), sureness)


def describe(db: sqlite3.Connection, request_id: int) -> RequestKey:
    """The key of a request, for messages."""
    row = db.execute(
        "SELECT key, purpose, number FROM request JOIN sample ON sample.id = sample_id WHERE request.id = ?",
        (request_id,),
    ).fetchone()
    return RequestKey(*row)


def body(db: sqlite3.Connection, request_id: int) -> bytes:
    """The payload of a request."""
    row = db.execute("SELECT body FROM payload WHERE request_id = ?", (request_id,)).fetchone()
    return unpack_payload(db, row[0])


def lines_of(db: sqlite3.Connection, request_ids: Iterable[int]) -> Iterator[bytes]:
    """The batch file lines of queued or batched requests, in the order given."""
    for request_id in request_ids:
        epoch, endpoint, body = db.execute(
            "SELECT epoch, endpoint, body FROM request JOIN payload ON request_id = request.id WHERE request.id = ?",
            (request_id,),
        ).fetchone()
        yield batch_line(request_id, epoch, endpoint=endpoint, body=unpack_payload(db, body))


def ids_of_batch(db: sqlite3.Connection, batch_id: int) -> list[int]:
    """The requests that a batch still holds, in the order of its lines."""
    rows = db.execute("SELECT id FROM request WHERE batch_id = ? ORDER BY line", (batch_id,))
    return [request_id for (request_id,) in rows]


def put_into_batch(tx: sqlite3.Connection, request_ids: Sequence[int], *, batch_id: int) -> None:
    """queued → batched, with their line numbers."""
    cursor = tx.executemany(
        "UPDATE request SET state = 'batched', batch_id = ?, line = ? WHERE id = ? AND state = 'queued'",
        ((batch_id, line, request_id) for line, request_id in enumerate(request_ids, start=1)),
    )
    expect(cursor, len(request_ids), f"putting requests into batch {batch_id}")


def return_to_queue(tx: sqlite3.Connection, batch_id: int) -> int:
    """batched → queued, for all that the batch still holds: nothing of it ran. How many."""
    return tx.execute(
        "UPDATE request SET state = 'queued', batch_id = NULL, line = NULL WHERE batch_id = ? AND state = 'batched'",
        (batch_id,),
    ).rowcount
