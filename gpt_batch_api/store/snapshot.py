"""Everything that a watcher shows, read from committed rows in one consistent look.

Cheap whatever the task's size: sums come from the tallies that triggers keep, not from counting rows. Any process may
take a snapshot at any time; it never blocks the writer.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpt_batch_api.domain.delivery import Delivered
from gpt_batch_api.domain.request import Kind, Load
from gpt_batch_api.domain.states import BatchState, RequestState
from gpt_batch_api.store import batches, direct, events, ledger, lengths, outbox, spending, tasks
from gpt_batch_api.store import requests as stored_requests
from gpt_batch_api.store.batches import BatchRow
from gpt_batch_api.store.connection import reading
from gpt_batch_api.store.direct import Group
from gpt_batch_api.store.events import Told
from gpt_batch_api.store.ledger import Booked
from gpt_batch_api.store.pace import Pace, pace
from gpt_batch_api.store.spending import Line
from gpt_batch_api.store.tasks import ModelLimit, Session, TaskRow
from gpt_batch_api.tokens.calibrate import Lengths

LAST_TROUBLE = 10


@dataclass(frozen=True)
class Answered:
    """Totals over all answers that are booked. Tokens as the server counted them, amounts in picodollars."""

    batches: int
    """How many batches are settled."""
    settlements: int
    """The same, and groups of direct calls."""
    expected_cost_pico: int
    cost_pico: int
    expected_input_tokens: int
    """Of the requests that were answered, like the next."""
    expected_output_tokens: int
    input_tokens: int
    output_tokens: int
    output_allowance: int
    """Output tokens that the answered requests could have had."""
    longest_output_tokens: int

    @property
    def completion_ratio(self) -> float | None:
        """Share of the allowed output tokens that was used; None before the first answer."""
        return self.output_tokens / self.output_allowance if self.output_allowance else None


@dataclass(frozen=True)
class Snapshot:
    """One task at one moment."""

    task: TaskRow
    session: Session | None
    states: Mapping[RequestState, Load]
    queue: Mapping[tuple[str, str], Load]
    """What is queued, by endpoint and model."""
    samples: Mapping[str, int]
    """Samples by status: pending, succeeded, failed, mixed."""
    active: tuple[BatchRow, ...]
    """Batches that are not over."""
    failures: tuple[BatchRow, ...]
    """Failed batches that wait for the user."""
    failed_groups: tuple[Group, ...]
    """Groups of direct calls with held requests, likewise."""
    bad_ends: Mapping[RequestState, Mapping[str, int]]
    """Requests that are held, and those that have failed, by reason; the most frequent first."""
    unknown_calls: int
    """Direct calls of which nobody knows whether they ran, because a process ended meanwhile."""
    trouble: tuple[Told, ...]
    """What went wrong last, the newest last; a few."""
    booked: Booked
    archived: Booked
    session_booked: Booked
    answered: Answered
    lengths: Mapping[Kind, Lengths]
    """How long answers were, by kind of request; those with the most answers first."""
    spending: tuple[Line, ...]
    """What the stored answers cost, by model, road, attempt and outcome."""
    schema_names: Mapping[int, str]
    learnt_limits: Mapping[str, ModelLimit]
    pace: Pace
    delivered: tuple[Delivered, ...]
    rows: int
    """Output rows delivered."""

    @property
    def finished_batches(self) -> int:
        """Batches whose answers are all booked."""
        return self.answered.batches

    @property
    def asked(self) -> int:
        """All requests; always the sum of succeeded, failed, held and under way."""
        return sum(load.requests for load in self.states.values())

    @property
    def under_way(self) -> int:
        """Requests without a final result that are not held either."""
        final = (RequestState.SUCCEEDED, RequestState.FAILED, RequestState.HELD)
        return sum(load.requests for state, load in self.states.items() if state not in final)

    def count(self, state: RequestState) -> int:
        """How many requests are in *state*."""
        return self.states[state].requests

    def batches_in(self, *states: BatchState) -> list[BatchRow]:
        """The active batches in any of *states*."""
        return [batch for batch in self.active if batch.state in states]


def take(db: sqlite3.Connection) -> Snapshot:
    """Look at the whole task once."""
    if db.in_transaction:
        return _take(db)
    db.execute("BEGIN")
    try:
        return _take(db)
    finally:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")


def take_from(path: Path) -> Snapshot | None:
    """Look at the store at *path*, which another process may be writing; None if there is no task yet.

    Raises StoreError if it cannot be read.
    """
    if not path.exists():
        return None
    with reading(path) as db:
        return take(db) if tasks.has_begun(db) else None


def _take(db: sqlite3.Connection) -> Snapshot:
    session = tasks.last_session(db)
    delivered = tuple(outbox.delivered(db))
    return Snapshot(
        task=tasks.get_task(db),
        session=session,
        states=stored_requests.state_loads(db),
        queue=stored_requests.queue_loads(db),
        samples=_samples(db),
        active=tuple(
            batches.in_states(
                db, BatchState.SEALED, BatchState.PUSHING, BatchState.REMOTE, BatchState.ENDED, BatchState.SETTLED
            )
        ),
        failures=tuple(batches.with_open_failure(db)),
        failed_groups=tuple(direct.with_open_failure(db)),
        bad_ends=_bad_ends(db),
        unknown_calls=events.unknown_calls(db),
        trouble=tuple(events.last_trouble(db, limit=LAST_TROUBLE)),
        booked=ledger.task_total(db),
        archived=ledger.archived_total(db),
        session_booked=ledger.session_total(db, session.id) if session else Booked(),
        answered=_answered(db),
        lengths=lengths.learnt(db),
        spending=spending.lines(db),
        schema_names=dict(db.execute("SELECT id, name FROM response_schema").fetchall()),
        learnt_limits=tasks.learnt_limits(db),
        pace=pace(db),
        delivered=delivered,
        rows=sum(part.rows for part in delivered),
    )


def _samples(db: sqlite3.Connection) -> dict[str, int]:
    found = dict(db.execute("SELECT status, samples FROM sample_tally").fetchall())
    return {status: found.get(status, 0) for status in ("pending", "succeeded", "failed", "mixed")}


def _answered(db: sqlite3.Connection) -> Answered:
    row = db.execute(
        "SELECT coalesce(sum(iif(road = 'batch', settlements, 0)), 0), coalesce(sum(settlements), 0), "
        "coalesce(sum(expected_cost_pico), 0), coalesce(sum(true_cost_pico), 0), "
        "coalesce(sum(expected_input_tokens), 0), coalesce(sum(expected_output_tokens), 0), "
        "coalesce(sum(used_input_tokens), 0), coalesce(sum(used_output_tokens), 0), "
        "coalesce(sum(used_output_allowance), 0), coalesce(max(longest_output_tokens), 0) FROM settled"
    ).fetchone()
    return Answered(*row)


def _bad_ends(db: sqlite3.Connection) -> dict[RequestState, dict[str, int]]:
    found: dict[RequestState, dict[str, int]] = {RequestState.HELD: {}, RequestState.FAILED: {}}
    rows = db.execute("SELECT state, reason, requests FROM bad_end WHERE requests > 0 ORDER BY requests DESC, reason")
    for state, reason, requests in rows:
        found[RequestState(state)][reason] = requests
    return found
