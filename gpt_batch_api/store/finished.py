"""What came of each batch whose answers are booked: one row of the batch table, for those who compare batches."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FinishedBatch:
    """One batch: what was predicted, and what came. Tokens as the server counted them, amounts in picodollars."""

    id: int
    model: str
    status: str | None
    """The server's last word."""
    requests: int
    size_bytes: int
    succeeded: int
    retried: int
    failed: int
    held: int
    free: int
    """Requests that did not run: expired or cancelled."""
    expected_input_tokens: int
    input_tokens: int | None
    """None, like all that follows, if nobody knows what became of the batch."""
    expected_output_tokens: int
    output_tokens: int | None
    output_allowance: int | None
    longest_output_tokens: int | None
    expected_cost_pico: int
    cost_pico: int | None
    pushed_at: float | None
    ended_at: float | None
    report: dict[str, Any]
    """The server's last document on it."""


def finished(db: sqlite3.Connection, *, only: int | None = None) -> list[FinishedBatch]:
    """All finished batches, oldest first, or *only* one of them. Wiped ones are left out."""
    rows = db.execute(
        "SELECT id, model, remote_status AS status, requests, size_bytes, n_succeeded AS succeeded, n_retried AS retried, "
        "n_failed AS failed, n_held AS held, n_free AS free, input_tokens AS expected_input_tokens, "
        "used_input_tokens AS input_tokens, expected_output_tokens, used_output_tokens AS output_tokens, "
        "used_output_allowance AS output_allowance, longest_output_tokens, expected_cost_pico, "
        "true_cost_pico AS cost_pico, pushed_at, ended_at, report "
        "FROM batch WHERE settled_at IS NOT NULL AND discard = 0 AND id = coalesce(?, id) ORDER BY id",
        (only,),
    )
    return [FinishedBatch(**{**dict(row), "report": json.loads(row["report"] or "{}")}) for row in rows]
