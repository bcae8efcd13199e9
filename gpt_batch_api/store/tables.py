"""What a store holds as tables to be exported: flat rows, read as they are consumed. Money in whole picodollars."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gpt_batch_api.domain.columns import ColumnKind, Columns, columns_of
from gpt_batch_api.domain.errors import UserError
from gpt_batch_api.domain.selection import Selection
from gpt_batch_api.store.codec import unpack, unpack_payload
from gpt_batch_api.store.selecting import condition

Row = Mapping[str, Any]
Read = Callable[[sqlite3.Connection, Selection], Iterator[Row]]


@dataclass(frozen=True)
class Table:
    """How a table is read. `columns` None: they are learnt from the rows."""

    read: Read
    columns: Columns | None = None

    def columns_of(self, db: sqlite3.Connection, selection: Selection) -> Columns:
        """The columns; where they must be learnt, all rows are read once for it."""
        return columns_of(self.read(db, selection)) if self.columns is None else self.columns


_REQUEST_KEY: Columns = {"sample_key": ColumnKind.TEXT, "purpose": ColumnKind.TEXT, "number": ColumnKind.WHOLE}


def _rows(db: sqlite3.Connection, selection: Selection) -> Iterator[Row]:
    """The task's output rows, in the order of the samples; a field of the row wins over the sample's key."""
    where, values = condition(selection)
    for key, text in db.execute(
        "SELECT sample.key, row FROM output JOIN sample ON sample.id = output.sample_id "
        f"LEFT JOIN request ON request.id = output.request_id WHERE {where} ORDER BY output.sample_id, output.id",
        values,
    ):
        yield {"sample_key": key, **json.loads(text)}


_REQUESTS: Columns = {
    **_REQUEST_KEY,
    "state": ColumnKind.TEXT,
    "reason": ColumnKind.TEXT,
    "endpoint": ColumnKind.TEXT,
    "model": ColumnKind.TEXT,
    "follow_up": ColumnKind.BOOL,
    "attempt": ColumnKind.WHOLE,
    "answers": ColumnKind.WHOLE,
    "batch": ColumnKind.WHOLE,
    "input_tokens": ColumnKind.WHOLE,
    "max_output_tokens": ColumnKind.WHOLE,
    "cost_pico": ColumnKind.WHOLE,
    "meta": ColumnKind.JSON,
    "payload": ColumnKind.JSON,
}


def _requests(db: sqlite3.Connection, selection: Selection) -> Iterator[Row]:
    where, values = condition(selection)
    for row in db.execute(
        "SELECT sample.key, purpose, number, request.state, reason, endpoint, model, asked_by_task, attempt, tries, "
        "batch_id, input_tokens, max_output_tokens, "
        "(SELECT coalesce(sum(cost_pico), 0) FROM response WHERE request_id = request.id), meta, body "
        "FROM request JOIN sample ON sample.id = sample_id JOIN payload ON payload.request_id = request.id "
        f"WHERE {where} ORDER BY request.id",
        values,
    ):
        found = dict(zip(_REQUESTS, row, strict=True))
        found["follow_up"] = bool(found["follow_up"])
        found["meta"] = _parsed(found["meta"])
        found["payload"] = json.loads(unpack_payload(db, found["payload"]))
        yield found


_RESPONSES: Columns = {
    **_REQUEST_KEY,
    "answer": ColumnKind.WHOLE,
    "attempt": ColumnKind.WHOLE,
    "road": ColumnKind.TEXT,
    "batch": ColumnKind.WHOLE,
    "direct_group": ColumnKind.WHOLE,
    "received_at": ColumnKind.NUMBER,
    "status_code": ColumnKind.WHOLE,
    "verdict": ColumnKind.TEXT,
    "reason": ColumnKind.TEXT,
    "message": ColumnKind.TEXT,
    "task_verdict": ColumnKind.TEXT,
    "task_reason": ColumnKind.TEXT,
    "task_message": ColumnKind.TEXT,
    "input_tokens": ColumnKind.WHOLE,
    "cached_tokens": ColumnKind.WHOLE,
    "cache_write_tokens": ColumnKind.WHOLE,
    "output_tokens": ColumnKind.WHOLE,
    "reasoning_tokens": ColumnKind.WHOLE,
    "cost_pico": ColumnKind.WHOLE,
    "response": ColumnKind.JSON,
}


def _responses(db: sqlite3.Connection, selection: Selection) -> Iterator[Row]:
    """Answers to the requests that are meant; of those with a time only the answers of that time."""
    where, values = condition(selection)
    if ":since" in where:
        where += " AND answer.received_at >= :since AND answer.received_at < :until"
    for row in db.execute(
        "SELECT sample.key, purpose, number, try, answer.attempt, "
        "iif(answer.batch_id IS NOT NULL, 'batch', iif(group_id IS NOT NULL, 'direct', 'copy')), answer.batch_id, group_id, "
        "answer.received_at, status_code, verdict, answer.reason, message, task_verdict, task_reason, task_message, "
        "answer.input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_pico, body "
        "FROM response AS answer JOIN request ON request.id = answer.request_id JOIN sample ON sample.id = sample_id "
        f"LEFT JOIN raw_response ON response_id = answer.id WHERE {where} ORDER BY answer.id",
        values,
    ):
        found = dict(zip(_RESPONSES, row, strict=True))
        raw = found["response"]
        found["response"] = None if raw is None else json.loads(unpack(raw))
        yield found


_SAMPLES: Columns = {
    "sample_key": ColumnKind.TEXT,
    "status": ColumnKind.TEXT,
    "requests_open": ColumnKind.WHOLE,
    "requests_succeeded": ColumnKind.WHOLE,
    "requests_failed": ColumnKind.WHOLE,
    "rows": ColumnKind.WHOLE,
    "cost_pico": ColumnKind.WHOLE,
    "state": ColumnKind.JSON,
}


def _samples(db: sqlite3.Connection, selection: Selection) -> Iterator[Row]:
    where, values = condition(selection)
    for row in db.execute(
        "SELECT key, status, open, succeeded, failed, (SELECT count(*) FROM output WHERE sample_id = sample.id), "
        "(SELECT coalesce(sum(cost_pico), 0) FROM request JOIN response ON request_id = request.id "
        "WHERE sample_id = sample.id), state FROM sample "
        f"WHERE EXISTS (SELECT 1 FROM request WHERE sample_id = sample.id AND {where}) ORDER BY sample.id",
        values,
    ):
        found = dict(zip(_SAMPLES, row, strict=True))
        yield {**found, "state": _parsed(found["state"])}


_LEDGER: Columns = {
    "at": ColumnKind.NUMBER,
    "era": ColumnKind.WHOLE,
    "session": ColumnKind.WHOLE,
    "kind": ColumnKind.TEXT,
    "batch": ColumnKind.WHOLE,
    "requests": ColumnKind.WHOLE,
    "input_tokens": ColumnKind.WHOLE,
    "reserved_pico": ColumnKind.WHOLE,
    "spent_pico": ColumnKind.WHOLE,
    "unlinked_pico": ColumnKind.WHOLE,
    "note": ColumnKind.TEXT,
}


def _ledger(db: sqlite3.Connection, selection: Selection) -> Iterator[Row]:
    """All movements of money, those before a wipe of the task too: what each line changes."""
    if selection.key is not None or selection.states or selection.reason is not None:
        raise UserError("Lines of the ledger have no sample, state or reason: choose them by batch and time only.")
    for row in db.execute(
        "SELECT at, era, session_id, kind, batch_id, requests, input_tokens, reserved_pico, spent_pico, unlinked_pico, note "
        "FROM ledger WHERE (:batch IS NULL OR batch_id = :batch) AND (:since IS NULL OR at >= :since) "
        "AND (:until IS NULL OR at < :until) ORDER BY id",
        {"batch": selection.batch, "since": selection.since, "until": selection.until},
    ):
        yield dict(zip(_LEDGER, row, strict=True))


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)


TABLES = {
    "rows": Table(_rows),
    "requests": Table(_requests, _REQUESTS),
    "responses": Table(_responses, _RESPONSES),
    "samples": Table(_samples, _SAMPLES),
    "ledger": Table(_ledger, _LEDGER),
}
"""All tables, by name."""
