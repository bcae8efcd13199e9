"""Requests one by one, each with all that is stored of it. Reads only, also while somebody writes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gpt_batch_api.domain.outcome import Outcome, Usage, Verdict
from gpt_batch_api.domain.request import RequestKey
from gpt_batch_api.domain.selection import Selection
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.store import samples
from gpt_batch_api.store.codec import unpack, unpack_payload
from gpt_batch_api.store.selecting import condition


@dataclass(frozen=True)
class RequestFacts:
    """One request in a line."""

    id: int
    sample_id: int
    key: RequestKey
    state: RequestState
    reason: str | None
    """Why it is held or failed."""
    endpoint: str
    model: str
    asked_by_task: bool
    """It is a follow-up."""
    attempt: int
    tries: int
    """Answers so far, those that cost no attempt included."""
    batch_id: int | None
    """The batch that it is in now."""
    input_tokens: int
    """Estimated."""
    max_output_tokens: int | None
    cost_pico: int
    """Of all its answers."""


@dataclass(frozen=True)
class Try:
    """One answer to a request, and what was thought of it."""

    number: int
    attempt: int
    batch_id: int | None
    remote_id: str | None
    group_id: int | None
    received_at: float
    status_code: int | None
    outcome: Outcome
    """By the server's answer."""
    shown: Outcome | None
    """What parser and task's code made of it; None: they have not seen it."""
    waits: bool
    """Whether it waits for the task's code."""
    usage: Usage
    cost_pico: int
    raw: bytes | None
    """As the server sent it; None: it was not kept."""

    @property
    def road(self) -> str:
        """How it came: `batch`, `direct`, or `copy` of the answer to an identical request."""
        return "batch" if self.batch_id is not None else "direct" if self.group_id is not None else "copy"


@dataclass(frozen=True)
class Story:
    """Everything about one request."""

    facts: RequestFacts
    meta: Any
    payload: bytes
    batch: tuple[int, str, str | None] | None
    """The batch that it is in now: number, state, the server's name for it."""
    tries: tuple[Try, ...]
    sample_status: str
    sample_state: str | None
    rows: tuple[str, ...]
    """Output rows of its sample, as JSON texts."""


_FACTS = (
    "SELECT request.id, sample_id, sample.key, purpose, number, request.state, request.reason, endpoint, model, "
    "asked_by_task, attempt, tries, batch_id, input_tokens, max_output_tokens, "
    "(SELECT coalesce(sum(cost_pico), 0) FROM response WHERE request_id = request.id) AS cost_pico "
    "FROM request JOIN sample ON sample.id = sample_id WHERE "
)


def count(db: sqlite3.Connection, selection: Selection) -> int:
    """How many requests are meant."""
    where, values = condition(selection)
    number: int = db.execute(
        f"SELECT count(*) FROM request JOIN sample ON sample.id = sample_id WHERE {where}", values
    ).fetchone()[0]
    return number


def facts(db: sqlite3.Connection, selection: Selection, *, limit: int = -1) -> Iterator[RequestFacts]:
    """The requests that are meant, in the order in which they were asked, read as they are consumed."""
    where, values = condition(selection)
    for row in db.execute(f"{_FACTS} {where} ORDER BY request.id LIMIT :limit", {**values, "limit": limit}):
        yield RequestFacts(
            row["id"],
            row["sample_id"],
            RequestKey(row["key"], row["purpose"], row["number"]),
            RequestState(row["state"]),
            row["reason"],
            row["endpoint"],
            row["model"],
            bool(row["asked_by_task"]),
            row["attempt"],
            row["tries"],
            row["batch_id"],
            row["input_tokens"],
            row["max_output_tokens"],
            row["cost_pico"],
        )


def story(db: sqlite3.Connection, request: RequestFacts) -> Story:
    """All that is stored of *request*."""
    meta, body, status, state = db.execute(
        "SELECT meta, body, status, sample.state FROM request JOIN sample ON sample.id = sample_id "
        "JOIN payload ON request_id = request.id WHERE request.id = ?",
        (request.id,),
    ).fetchone()
    batch = db.execute("SELECT id, state, remote_id FROM batch WHERE id = ?", (request.batch_id,)).fetchone()
    return Story(
        request,
        meta=None if meta is None else json.loads(meta),
        payload=unpack_payload(db, body),
        batch=None if batch is None else tuple(batch),
        tries=tuple(_tries(db, request.id)),
        sample_status=status,
        sample_state=state,
        rows=tuple(samples.rows_of(db, [request.sample_id])[request.sample_id]),
    )


def _tries(db: sqlite3.Connection, request_id: int) -> Iterator[Try]:
    for row in db.execute(
        "SELECT response.*, remote_id, body FROM response LEFT JOIN batch ON batch.id = batch_id "
        "LEFT JOIN raw_response ON response_id = response.id WHERE request_id = ? ORDER BY try",
        (request_id,),
    ):
        yield Try(
            number=row["try"],
            attempt=row["attempt"],
            batch_id=row["batch_id"],
            remote_id=row["remote_id"],
            group_id=row["group_id"],
            received_at=row["received_at"],
            status_code=row["status_code"],
            outcome=Outcome(Verdict(row["verdict"]), row["reason"], row["message"]),
            shown=None
            if row["task_verdict"] is None
            else Outcome(Verdict(row["task_verdict"]), row["task_reason"], row["task_message"]),
            waits=row["handed"] == 0,
            usage=Usage(
                row["input_tokens"],
                row["cached_tokens"],
                row["cache_write_tokens"],
                row["output_tokens"],
                row["reasoning_tokens"],
            ),
            cost_pico=row["cost_pico"],
            raw=None if row["body"] is None else unpack(row["body"]),
        )
