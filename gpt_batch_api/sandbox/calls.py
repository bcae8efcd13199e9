"""The log of calls: what was asked of the API, in which order, and how it ended."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any


@dataclass
class Call:
    """One call under way. It is logged once, with the change that it makes if it makes one."""

    operation: str
    key: str | None = None
    fault: str | None = None
    logged: bool = False


def log(tx: sqlite3.Connection, call: Call, *, at: float, status: int | None) -> None:
    """Write *call* down, unless that has been done. *status* is None where no reply is given."""
    if call.logged:
        return
    tx.execute(
        "INSERT INTO call (at, operation, key, status, fault) VALUES (?, ?, ?, ?, ?)",
        (at, call.operation, call.key, status, call.fault),
    )
    call.logged = True


def rows(db: sqlite3.Connection, *, operation: str | None, after: int, limit: int) -> list[dict[str, Any]]:
    """At most *limit* calls after number *after*, oldest first, of one operation or of all."""
    query = "SELECT * FROM call WHERE id > ? AND (? IS NULL OR operation = ?) ORDER BY id LIMIT ?"
    return [dict(row) for row in db.execute(query, (after, operation, operation, limit))]


def last_at(db: sqlite3.Connection) -> float:
    """When the last call came; 0 if none did."""
    row = db.execute("SELECT at FROM call ORDER BY id DESC LIMIT 1").fetchone()
    return float(row[0]) if row else 0.0


def counts(db: sqlite3.Connection) -> dict[str, int]:
    """How often each operation was called."""
    return {row[0]: row[1] for row in db.execute("SELECT operation, COUNT(*) FROM call GROUP BY operation")}
