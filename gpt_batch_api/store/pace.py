"""How quick a task has been lately: the only ground on which anybody can say when it will be done."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from gpt_batch_api.store import direct

RECENT = 50
"""So many of the newest batches, and groups of direct calls, show how long they take."""


@dataclass(frozen=True)
class Pace:
    """How quick things have been lately; None where nothing shows it."""

    batch_s: float | None
    """Median, from the push to the end."""
    longest_batch_s: float | None
    direct_per_s: float | None


def pace(db: sqlite3.Connection) -> Pace:
    """Told by the newest batches and groups of direct calls."""
    took = sorted(
        seconds
        for (seconds,) in db.execute(
            "SELECT ended_at - pushed_at FROM batch WHERE ended_at IS NOT NULL AND pushed_at IS NOT NULL "
            "AND n_succeeded > 0 ORDER BY id DESC LIMIT ?",
            (RECENT,),
        )
    )
    return Pace(
        batch_s=took[len(took) // 2] if took else None,
        longest_batch_s=took[-1] if took else None,
        direct_per_s=direct.calls_per_s(db, groups=RECENT),
    )
