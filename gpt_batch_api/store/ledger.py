"""Money: one line per movement, never changed; an account is the sum of its lines.

A batch is *reserved* at its expected cost before it is pushed, and *settled* to the true cost of its answers when they
are booked; what did not run is given back with the same line. *released* is a reservation for a push that did not
happen. What was spent without an answer to show for it (an unknown direct call, a wiped batch) is spent all the same,
and stands in `unlinked_pico` as well, so that always: spent = sum of the responses' costs + unlinked.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from gpt_batch_api.planning.admission import Total
from gpt_batch_api.store.codec import storable


@dataclass(frozen=True)
class Booked:
    """Totals of some ledger lines. Amounts in whole picodollars."""

    requests: int = 0
    input_tokens: int = 0
    reserved_pico: int = 0
    spent_pico: int = 0
    unlinked_pico: int = 0

    @property
    def cost_pico(self) -> int:
        """What counts against a limit: spent or promised."""
        return self.reserved_pico + self.spent_pico

    @property
    def total(self) -> Total:
        """All that counts against limits."""
        return Total(self.requests, self.input_tokens, self.cost_pico)


_SUMS = (
    "coalesce(sum(requests), 0), coalesce(sum(input_tokens), 0), coalesce(sum(reserved_pico), 0), "
    "coalesce(sum(spent_pico), 0), coalesce(sum(unlinked_pico), 0)"
)


def task_total(db: sqlite3.Connection) -> Booked:
    """All that the task has booked since it was last started from scratch."""
    return Booked(*db.execute(f"SELECT {_SUMS} FROM account WHERE era = (SELECT era FROM task)").fetchone())


def archived_total(db: sqlite3.Connection) -> Booked:
    """What was booked before the task was wiped: money spent all the same."""
    return Booked(*db.execute(f"SELECT {_SUMS} FROM account WHERE era < (SELECT era FROM task)").fetchone())


def session_total(db: sqlite3.Connection, session_id: int) -> Booked:
    """What was pushed by one session, and what came of it."""
    return Booked(
        *db.execute(
            f"SELECT {_SUMS} FROM account WHERE session_id = ? AND era = (SELECT era FROM task)", (session_id,)
        ).fetchone()
    )


def batch_total(db: sqlite3.Connection, batch_id: int) -> Booked:
    """What is booked for one batch now."""
    return Booked(*db.execute(f"SELECT {_SUMS} FROM ledger WHERE batch_id = ?", (batch_id,)).fetchone())


def book(
    tx: sqlite3.Connection,
    kind: str,
    *,
    now: float,
    session_id: int,
    batch_id: int | None = None,
    requests: int = 0,
    input_tokens: int = 0,
    reserved_pico: int = 0,
    spent_pico: int = 0,
    unlinked_pico: int = 0,
    note: str | None = None,
) -> None:
    """Write one line. Amounts are differences: a reservation given back is negative."""
    note = None if note is None else storable(note)
    tx.execute(
        "INSERT INTO ledger (at, era, session_id, kind, batch_id, requests, input_tokens, reserved_pico, spent_pico, "
        "unlinked_pico, note) SELECT ?, era, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM task",
        (
            now,
            session_id,
            kind,
            batch_id,
            requests,
            input_tokens,
            reserved_pico,
            spent_pico,
            unlinked_pico,
            note,
        ),
    )
