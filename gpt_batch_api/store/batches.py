"""Batches: seal, dissolve, follow on the server, settle, close. (Their way to the server: `pushes.py`.)"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from gpt_batch_api.domain.request import Load
from gpt_batch_api.domain.states import BatchState
from gpt_batch_api.store import ledger, tasks
from gpt_batch_api.store.codec import storable
from gpt_batch_api.store.connection import expect
from gpt_batch_api.store.requests import put_into_batch, return_to_queue


@dataclass(frozen=True)
class BatchRow:
    """A batch as the store knows it. `load.cost_pico` is what a push reserves."""

    id: int
    endpoint: str
    model: str
    state: BatchState
    file_name: str
    sha256: str
    plan: str
    load: Load
    session_id: int | None
    pushed_at: float | None
    moved_at: float | None
    not_before: float | None
    remote_id: str | None
    remote_status: str | None
    output_file_id: str | None
    error_file_id: str | None
    count_total: int | None
    count_completed: int | None
    count_failed: int | None
    failure: str | None
    failure_open: bool
    discard: bool

    def __str__(self) -> str:
        return f"batch {self.id}"


@dataclass(frozen=True)
class Report:
    """What the server says of a batch, as far as it matters to the store."""

    status: str
    output_file_id: str | None = None
    error_file_id: str | None = None
    total: int | None = None
    completed: int | None = None
    failed: int | None = None
    document: Mapping[str, Any] | None = None


_COLUMNS = (
    "id, endpoint, model, state, file_name, sha256, plan, requests, size_bytes, input_tokens, output_allowance, "
    "cost_pico, expected_output_tokens, expected_cost_pico, session_id, pushed_at, moved_at, not_before, remote_id, "
    "remote_status, output_file_id, error_file_id, count_total, count_completed, count_failed, failure, failure_open, discard"
)


def _batch(row: sqlite3.Row) -> BatchRow:
    values = dict(row)
    load = Load(**{field.name: values.pop(field.name) for field in fields(Load)})
    return BatchRow(
        **{
            **values,
            "load": load,
            "state": BatchState(values["state"]),
            "failure_open": bool(values["failure_open"]),
            "discard": bool(values["discard"]),
        }
    )


def get(db: sqlite3.Connection, batch_id: int) -> BatchRow:
    """One batch."""
    return _batch(db.execute(f"SELECT {_COLUMNS} FROM batch WHERE id = ?", (batch_id,)).fetchone())


def in_states(db: sqlite3.Connection, *states: BatchState) -> list[BatchRow]:
    """The batches in any of *states* that are not over, oldest first."""
    marks = ", ".join("?" * len(states))
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM batch WHERE state IN ({marks}) AND state NOT IN ('closed', 'dissolved') ORDER BY id",
        states,
    )
    return [_batch(row) for row in rows]


def with_open_failure(db: sqlite3.Connection) -> list[BatchRow]:
    """Failed batches that wait for the user's decision, oldest first."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM batch WHERE failure_open = 1 ORDER BY id")
    return [_batch(row) for row in rows]


def seal(
    tx: sqlite3.Connection,
    *,
    endpoint: str,
    model: str,
    request_ids: Sequence[int],
    load: Load,
    file_name: str,
    sha256: str,
    plan: str,
    now: float,
) -> int:
    """Make a batch of queued requests whose file lies on disk already; its number."""
    batch_id = tasks.take_batch_number(tx)
    tx.execute(
        "INSERT INTO batch (id, endpoint, model, file_name, sha256, plan, requests, size_bytes, input_tokens, "
        "output_allowance, cost_pico, expected_output_tokens, expected_cost_pico, sealed_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            batch_id, endpoint, model, file_name, sha256, plan, load.requests, load.size_bytes, load.input_tokens,
            load.output_allowance, load.cost_pico, load.expected_output_tokens, load.expected_cost_pico, now,
        ),
    )  # fmt: skip
    put_into_batch(tx, request_ids, batch_id=batch_id)
    return batch_id


def dissolve(tx: sqlite3.Connection, batch: BatchRow, *, now: float) -> None:
    """sealed → dissolved: its requests go back to the queue, to be batched anew."""
    cursor = tx.execute(
        "UPDATE batch SET state = 'dissolved', closed_at = ? WHERE id = ? AND state = 'sealed'", (now, batch.id)
    )
    expect(cursor, 1, f"dissolving {batch}")
    return_to_queue(tx, batch.id)


def has_moved(batch: BatchRow, report: Report) -> bool:
    """Whether the server says something new."""
    before = (batch.remote_status, batch.count_total, batch.count_completed, batch.count_failed)
    return before != (report.status, report.total, report.completed, report.failed)


def note_report(tx: sqlite3.Connection, batch: BatchRow, report: Report, *, now: float, ended: bool) -> None:
    """Write down what the server says; the batch has *ended* if that can change no more."""
    moved = has_moved(batch, report)
    cursor = tx.execute(
        "UPDATE batch SET remote_status = ?, output_file_id = ?, error_file_id = ?, count_total = ?, "
        "count_completed = ?, count_failed = ?, report = ?, moved_at = CASE WHEN ? THEN ? ELSE moved_at END "
        "WHERE id = ? AND state = 'remote'",
        (
            report.status, report.output_file_id, report.error_file_id, report.total, report.completed, report.failed,
            None if report.document is None else json.dumps(report.document), moved, now, batch.id,
        ),
    )  # fmt: skip
    expect(cursor, 1, f"noting the server's report on {batch}")
    if ended:
        tx.execute("UPDATE batch SET state = 'ended', ended_at = ? WHERE id = ?", (now, batch.id))
        add_server_files(
            tx, batch.id, {file_id: role for file_id, role in
            ((report.output_file_id, "output"), (report.error_file_id, "error")) if file_id}
        )  # fmt: skip


def report_of(db: sqlite3.Connection, batch_id: int) -> dict[str, Any]:
    """The server's last words on a batch, as it sent them."""
    text = db.execute("SELECT report FROM batch WHERE id = ?", (batch_id,)).fetchone()[0]
    document: dict[str, Any] = json.loads(text) if text else {}
    return document


@dataclass(frozen=True)
class Settlement:
    """What came of a batch: counts of requests, tokens of all answers, money."""

    succeeded: int = 0
    retried: int = 0
    failed: int = 0
    held: int = 0
    free: int = 0
    used_input_tokens: int = 0
    used_output_tokens: int = 0
    used_output_allowance: int = 0
    longest_output_tokens: int = 0
    cost_pico: int = 0


def settle(
    tx: sqlite3.Connection,
    batch: BatchRow,
    outcome: Settlement,
    *,
    expected_input_tokens: int,
    expected_output_tokens: int,
    failure: str | None,
    now: float,
) -> None:
    """ended → settled: all its answers are booked. A *failure* waits for the user if rows are held for it.

    *expected_input_tokens*, *expected_output_tokens*: of those requests that were answered.
    """
    cursor = tx.execute(
        "UPDATE batch SET state = 'settled', settled_at = ?, n_succeeded = ?, n_retried = ?, n_failed = ?, n_held = ?, "
        "n_free = ?, used_input_tokens = ?, used_output_tokens = ?, used_output_allowance = ?, "
        "longest_output_tokens = ?, true_cost_pico = ?, answered_input_tokens = ?, answered_output_tokens = ?, "
        "failure = ?, failure_open = ? WHERE id = ? AND state = 'ended'",
        (
            now, outcome.succeeded, outcome.retried, outcome.failed, outcome.held, outcome.free,
            outcome.used_input_tokens, outcome.used_output_tokens, outcome.used_output_allowance,
            outcome.longest_output_tokens, outcome.cost_pico, expected_input_tokens, expected_output_tokens,
            None if failure is None else storable(failure), int(failure is not None), batch.id,
        ),
    )  # fmt: skip
    expect(cursor, 1, f"settling {batch}")


def give_up(tx: sqlite3.Connection, batch: BatchRow, *, now: float) -> None:
    """remote → settled without answers: the server does not know it any more. What was reserved counts as spent."""
    assert batch.session_id is not None
    tx.execute("UPDATE batch SET state = 'ended', ended_at = ? WHERE id = ? AND state = 'remote'", (now, batch.id))
    cursor = tx.execute(
        "UPDATE batch SET state = 'settled', settled_at = ? WHERE id = ? AND state = 'ended'", (now, batch.id)
    )
    expect(cursor, 1, f"giving up {batch}")
    reserved = ledger.batch_total(tx, batch.id).reserved_pico
    ledger.book(
        tx,
        "unknown",
        now=now,
        session_id=batch.session_id,
        batch_id=batch.id,
        reserved_pico=-reserved,
        spent_pico=reserved,
        unlinked_pico=reserved,
        note="the server does not know the batch any more",
    )


def seal_again(tx: sqlite3.Connection, batch: BatchRow, *, not_before: float | None) -> None:
    """ended → sealed: nothing of it ran (token limit); the same file can go again."""
    cursor = tx.execute(
        "UPDATE batch SET state = 'sealed', remote_id = NULL, remote_status = NULL, output_file_id = NULL, "
        "error_file_id = NULL, count_total = NULL, count_completed = NULL, count_failed = NULL, report = NULL, "
        "pushed_at = NULL, moved_at = NULL, ended_at = NULL, session_id = NULL, not_before = ? "
        "WHERE id = ? AND state = 'ended'",
        (not_before, batch.id),
    )
    expect(cursor, 1, f"sealing {batch} again")


def close(tx: sqlite3.Connection, batch_id: int, *, now: float) -> None:
    """settled → closed: nothing of it is left on the server or on disk."""
    cursor = tx.execute(
        "UPDATE batch SET state = 'closed', closed_at = ? WHERE id = ? AND state = 'settled'", (now, batch_id)
    )
    expect(cursor, 1, f"closing batch {batch_id}")


def decide_failure(tx: sqlite3.Connection, batch_id: int) -> None:
    """The user has decided about a failed batch."""
    tx.execute("UPDATE batch SET failure_open = 0 WHERE id = ?", (batch_id,))


def unweighed(db: sqlite3.Connection) -> list[tuple[int, int, int]]:
    """(batch, requests, those that did not run) of settled batches whose answers the task has all seen only now.

    Asked after every chunk of answers, so SQLite is told the indexes that hold only what waits.
    """
    rows = db.execute(
        "SELECT id, requests, n_free FROM batch INDEXED BY batch_unweighed "
        "WHERE passed IS NULL AND discard = 0 AND state IN ('settled', 'closed') "
        "AND NOT EXISTS (SELECT 1 FROM response INDEXED BY response_to_hand_of_batch "
        "WHERE batch_id = batch.id AND handed = 0) ORDER BY id"
    )
    return [(batch_id, requests, free) for batch_id, requests, free in rows]


def note_passed(tx: sqlite3.Connection, batch_id: int, *, passed: bool) -> None:
    """Write down whether enough of the batch succeeded."""
    tx.execute("UPDATE batch SET passed = ? WHERE id = ?", (int(passed), batch_id))


# ---------------------------------------------------------------- files on the server
# CROSS JOIN: from the few files that are there to their batches, not from all batches that ever were.


def add_server_files(tx: sqlite3.Connection, batch_id: int, roles: Mapping[str, str]) -> None:
    """Remember files of ours on the server (id → role), so that they can be deleted."""
    tx.executemany(
        "INSERT INTO server_file (file_id, batch_id, role) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET deleted = 0",
        ((file_id, batch_id, role) for file_id, role in roles.items()),
    )


def files_to_delete(db: sqlite3.Connection) -> list[tuple[str, int]]:
    """(file id, batch) of files on the server that nothing needs any more: their batch is settled, over or gone.

    The input file of a batch that may go again with the same file is needed.
    """
    return [
        (file_id, batch_id)
        for file_id, batch_id in db.execute(
            "SELECT file_id, batch_id FROM server_file CROSS JOIN batch ON batch.id = batch_id "
            "WHERE deleted = 0 AND batch.state IN ('settled', 'closed', 'dissolved') ORDER BY batch_id, file_id"
        )
    ]


def count_server_files(db: sqlite3.Connection) -> int:
    """How many files of ours are known to lie on the server."""
    count: int = db.execute("SELECT count(*) FROM server_file WHERE deleted = 0").fetchone()[0]
    return count


def superseded_files(db: sqlite3.Connection) -> list[tuple[str, int]]:
    """(file id, batch) of input files that a batch under way does not use: it went with a later upload."""
    return [
        (file_id, batch_id)
        for file_id, batch_id in db.execute(
            "SELECT server_file.file_id, server_file.batch_id FROM server_file CROSS JOIN batch ON batch.id = batch_id "
            "WHERE deleted = 0 AND role = 'input' AND batch.state IN ('pushing', 'remote', 'ended') "
            "AND server_file.file_id <> coalesce((SELECT file_id FROM push WHERE push.batch_id = batch.id "
            "AND push.state <> 'lost' ORDER BY id DESC LIMIT 1), server_file.file_id)"
        )
    ]


def supersede_file(tx: sqlite3.Connection, file_id: str) -> None:
    """The server does not find this input file: it will be uploaded anew. (If it turns up again, it is an orphan.)"""
    tx.execute("UPDATE server_file SET deleted = 1 WHERE file_id = ?", (file_id,))
    # Several attempts may have gone with it; it is one orphan.
    tx.execute("UPDATE push SET orphan = 1 WHERE id = (SELECT min(id) FROM push WHERE file_id = ?)", (file_id,))


def count_uploads(db: sqlite3.Connection, batch_id: int) -> int:
    """How often the input file of a batch has been uploaded."""
    query = "SELECT count(*) FROM server_file WHERE batch_id = ? AND role = 'input'"
    return int(db.execute(query, (batch_id,)).fetchone()[0])


def mark_deleted(tx: sqlite3.Connection, file_ids: Iterable[str]) -> None:
    """These files are gone from the server, or are left there on purpose."""
    tx.executemany("UPDATE server_file SET deleted = 1 WHERE file_id = ?", ((file_id,) for file_id in file_ids))


def closable(db: sqlite3.Connection) -> list[BatchRow]:
    """Settled batches with nothing left on the server."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM batch WHERE state = 'settled' AND NOT EXISTS "
        "(SELECT 1 FROM server_file WHERE batch_id = batch.id AND deleted = 0) ORDER BY id"
    )
    return [_batch(row) for row in rows]
