"""The timeline: what happened, committed together with what it tells of."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass
from typing import Any

from gpt_batch_api.domain import events
from gpt_batch_api.domain.events import CallsUnknown, Event

TROUBLE: tuple[type[Event], ...] = (
    events.Advice,
    events.ReplyLost,
    events.PushRefused,
    events.UsageDiffers,
    events.CallsUnknown,
    events.HeldDecided,
    events.Wiped,
)
"""Events that somebody who looks on should not miss."""


@dataclass(frozen=True)
class Told:
    """An event of the timeline."""

    at: float
    kind: str
    data: dict[str, Any]


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


def last_trouble(db: sqlite3.Connection, *, limit: int) -> list[Told]:
    """The newest events of TROUBLE, the newest last. Looks at no others, however many there are."""
    newest = " UNION ALL ".join(
        "SELECT * FROM (SELECT id, at, kind, data FROM event WHERE kind = ? ORDER BY id DESC LIMIT ?)" for _ in TROUBLE
    )
    values = [value for event in TROUBLE for value in (event.kind, limit)]
    rows = db.execute(f"SELECT at, kind, data FROM ({newest}) ORDER BY id DESC LIMIT ?", (*values, limit)).fetchall()
    return [Told(at, kind, json.loads(data)) for at, kind, data in reversed(rows)]
