"""The ledger: what every charged response has cost. Rows are only added."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gpt_batch_api.sandbox.billing import Road, Usage

_SUMMED = {
    "input_tokens": "input",
    "cached_tokens": "cached",
    "cache_write_tokens": "cache_write",
    "output_tokens": "output",
    "reasoning_tokens": "reasoning",
    "cost_pico": "cost_pico",
}
_SUMS = ", ".join(
    ("COUNT(*) AS requests", *(f"COALESCE(SUM({column}), 0) AS {name}" for name, column in _SUMMED.items()))
)


@dataclass(frozen=True)
class Entry:
    """One charged response."""

    at: float
    road: Road
    model: str
    usage: Usage
    cost_pico: int
    batch_id: str | None = None
    custom_id: str | None = None


def book(tx: sqlite3.Connection, entries: Iterable[Entry]) -> None:
    """Add *entries*."""
    tx.executemany(
        """INSERT INTO ledger (at, road, batch_id, custom_id, model, input, cached, cache_write, output, reasoning,
                               cost_pico) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            (
                entry.at,
                entry.road,
                entry.batch_id,
                entry.custom_id,
                entry.model,
                entry.usage.input,
                entry.usage.cached,
                entry.usage.cache_write,
                entry.usage.output,
                entry.usage.reasoning,
                entry.cost_pico,
            )
            for entry in entries
        ),
    )


def totals(db: sqlite3.Connection) -> dict[str, Any]:
    """The sums over everything, by road and by batch."""
    total = _sums(db.execute(f"SELECT {_SUMS} FROM ledger").fetchone())
    roads = db.execute(f"SELECT road, {_SUMS} FROM ledger GROUP BY road")
    batches = db.execute(f"SELECT batch_id, {_SUMS} FROM ledger WHERE batch_id IS NOT NULL GROUP BY batch_id")
    return {
        "total": total,
        "roads": {row["road"]: _sums(row) for row in roads},
        "batches": {row["batch_id"]: _sums(row) for row in batches},
    }


def batch_usage(db: sqlite3.Connection, batch_id: str) -> dict[str, int]:
    """The sums of one batch."""
    return _sums(db.execute(f"SELECT {_SUMS} FROM ledger WHERE batch_id = ?", (batch_id,)).fetchone())


def rows(db: sqlite3.Connection, *, batch_id: str | None, after: int, limit: int) -> list[dict[str, Any]]:
    """At most *limit* rows after number *after*, oldest first, of one batch or of all."""
    query = "SELECT * FROM ledger WHERE id > ? AND (? IS NULL OR batch_id = ?) ORDER BY id LIMIT ?"
    return [dict(row) for row in db.execute(query, (after, batch_id, batch_id, limit))]


def _sums(row: sqlite3.Row) -> dict[str, int]:
    return {name: int(row[name]) for name in ("requests", *_SUMMED)}
