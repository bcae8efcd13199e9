"""The timeline: what happened, committed together with what it tells of."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict

from gpt_batch_api.domain.events import CallsUnknown, Event


def add(tx: sqlite3.Connection, event: Event, *, session_id: int | None, now: float) -> None:
    """Write down one event."""
    data = asdict(event)
    tx.execute(
        "INSERT INTO event (at, session_id, kind, batch_id, data) VALUES (?, ?, ?, ?, ?)",
        (now, session_id, event.kind, data.get("batch"), json.dumps(data, default=str)),
    )


def unknown_calls(db: sqlite3.Connection) -> int:
    """How many direct calls were in flight when a process ended, as far as the timeline tells."""
    count: int = db.execute(
        "SELECT coalesce(sum(json_extract(data, '$.count')), 0) FROM event WHERE kind = ?", (CallsUnknown.kind,)
    ).fetchone()[0]
    return count
