"""The one row of the task, its sessions, and what is remembered for it as a whole."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpt_batch_api.domain.errors import InternalError
from gpt_batch_api.store.connection import is_new


@dataclass(frozen=True)
class TaskRow:
    """The task as the store knows it."""

    uuid: str
    kind: str
    created_at: float
    metadata: dict[str, Any]
    metadata_version: int
    server: dict[str, Any] | None
    era: int
    epoch: int
    generation: int
    wiping: str | None
    complete: bool
    postprocessed: str | None


@dataclass(frozen=True)
class Session:
    """One run of a process on the task; `ended_at` is None while it runs, or if it was killed."""

    id: int
    started_at: float
    ended_at: float | None
    pid: int
    host: str
    outcome: str | None
    settings: Mapping[str, Any]
    """Those that are no secret, by name."""


def load_task(db: sqlite3.Connection) -> TaskRow | None:
    """The task, or None in a store that was only just created."""
    row = db.execute("SELECT * FROM task").fetchone()
    if row is None:
        return None
    return TaskRow(
        uuid=row["uuid"],
        kind=row["kind"],
        created_at=row["created_at"],
        metadata=json.loads(row["metadata"]),
        metadata_version=row["metadata_version"],
        server=json.loads(row["server"]) if row["server"] else None,
        era=row["era"],
        epoch=row["epoch"],
        generation=row["generation"],
        wiping=row["wiping"],
        complete=bool(row["complete"]),
        postprocessed=row["postprocessed"],
    )


def has_begun(db: sqlite3.Connection) -> bool:
    """Whether the store holds a task; one that somebody is just making may not even have tables."""
    return not is_new(db) and load_task(db) is not None


def get_task(db: sqlite3.Connection) -> TaskRow:
    """The task of a store that has one."""
    task = load_task(db)
    if task is None:
        raise InternalError("The store has no task yet.")
    return task


def create_task(tx: sqlite3.Connection, *, uuid: str, kind: str, metadata: Mapping[str, Any], now: float) -> None:
    """Capture the task's metadata and identity, once."""
    tx.execute(
        "INSERT INTO task (id, uuid, kind, created_at, metadata) VALUES (1, ?, ?, ?, ?)",
        (uuid, kind, now, json.dumps(metadata)),
    )


def replace_metadata(tx: sqlite3.Connection, metadata: Mapping[str, Any]) -> None:
    """Capture the metadata anew; requests already known keep what they asked. The output's header may be another now."""
    tx.execute(
        "UPDATE task SET metadata = ?, metadata_version = metadata_version + 1, generation = generation + 1",
        (json.dumps(metadata),),
    )


def set_server(tx: sqlite3.Connection, server: Mapping[str, Any]) -> None:
    """Remember where the task's remote things are."""
    tx.execute("UPDATE task SET server = ?", (json.dumps(server),))


def set_complete(tx: sqlite3.Connection, complete: bool) -> None:
    """Note whether everything asked for is done and delivered."""
    tx.execute("UPDATE task SET complete = ?", (int(complete),))


def set_postprocessed(tx: sqlite3.Connection, mark: str) -> None:
    """Note up to where the output was post-processed."""
    tx.execute("UPDATE task SET postprocessed = ?", (mark,))


def take_batch_number(tx: sqlite3.Connection) -> int:
    """The next batch number; none is ever used twice, not even after a wipe."""
    number: int = tx.execute("UPDATE task SET next_batch = next_batch + 1 RETURNING next_batch - 1").fetchone()[0]
    return number


def next_batch_number(db: sqlite3.Connection) -> int:
    """The number that `take_batch_number` will give."""
    number: int = db.execute("SELECT next_batch FROM task").fetchone()[0]
    return number


def begin_session(tx: sqlite3.Connection, *, pid: int, host: str, settings: Mapping[str, Any], now: float) -> int:
    """Open a session; its id."""
    cursor = tx.execute(
        "INSERT INTO session (started_at, pid, host, settings) VALUES (?, ?, ?, ?)",
        (now, pid, host, json.dumps(settings, default=str)),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def end_session(tx: sqlite3.Connection, session_id: int, *, outcome: str, now: float) -> None:
    """Close a session with its outcome: `ended`, `interrupted` or `error`."""
    tx.execute("UPDATE session SET ended_at = ?, outcome = ? WHERE id = ?", (now, outcome, session_id))


def last_session(db: sqlite3.Connection) -> Session | None:
    """The newest session."""
    row = db.execute(
        "SELECT id, started_at, ended_at, pid, host, outcome, settings FROM session ORDER BY id DESC LIMIT 1"
    ).fetchone()
    if row is None:
        return None
    session_id, started_at, ended_at, pid, host, outcome, settings = row
    return Session(session_id, started_at, ended_at, pid, host, outcome, json.loads(settings))


def sessions_before(db: sqlite3.Connection, session_id: int) -> int:
    """How many sessions there were before this one."""
    count: int = db.execute("SELECT count(*) FROM session WHERE id < ?", (session_id,)).fetchone()[0]
    return count


@dataclass(frozen=True)
class ModelLimit:
    """How many enqueued prompt tokens of a model the server admits, as it said, and when."""

    enqueued_tokens: int
    learnt_at: float


def learnt_limits(db: sqlite3.Connection) -> dict[str, ModelLimit]:
    """All limits that were learnt, by model."""
    rows = db.execute("SELECT model, enqueued_tokens, learnt_at FROM model_limit ORDER BY model")
    return {model: ModelLimit(tokens, learnt_at) for model, tokens, learnt_at in rows}


def model_limits(db: sqlite3.Connection, *, learnt_after: float = 0.0) -> dict[str, int]:
    """Enqueued input tokens that the server admits, by model, as learnt from its refusals after some moment."""
    rows = db.execute("SELECT model, enqueued_tokens FROM model_limit WHERE learnt_at > ?", (learnt_after,))
    return dict(rows.fetchall())


def learn_model_limit(tx: sqlite3.Connection, model: str, *, enqueued_tokens: int, now: float) -> None:
    """Remember a limit that the server named."""
    tx.execute(
        "INSERT INTO model_limit VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET enqueued_tokens = excluded.enqueued_tokens, "
        "learnt_at = excluded.learnt_at",
        (model, enqueued_tokens, now),
    )
