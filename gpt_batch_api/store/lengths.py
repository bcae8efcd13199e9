"""How long answers were, by kind of request: sums and counts that grow with every answer that is booked.

Only answers with usage count: what failed, expired or was cancelled without running says nothing. They are added in the
transaction that books the answers, so nothing is counted twice or lost, and reading them never looks at answers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from gpt_batch_api.domain.outcome import Usage
from gpt_batch_api.domain.request import Kind
from gpt_batch_api.store.requests import KIND
from gpt_batch_api.tokens.calibrate import Lengths

CUT_OFF = "cut_off"
"""The reason of an answer that had reached its maximum."""

Answered = tuple[Kind, Usage, str]
"""An answer's kind, usage and reason."""


def learn(tx: sqlite3.Connection, answers: Iterable[Answered]) -> int:
    """Add what *answers* show; how many of them count."""
    found: dict[Kind, list[tuple[int, bool]]] = {}
    for kind, usage, reason in answers:
        if usage.input_tokens + usage.output_tokens:
            found.setdefault(kind, []).append((usage.output_tokens, reason == CUT_OFF))
    for kind, lengths in found.items():
        _add(tx, kind, Lengths.of(lengths))
    return sum(map(len, found.values()))


def learnt(db: sqlite3.Connection) -> dict[Kind, Lengths]:
    """All that was learnt so far."""
    counts: dict[int, dict[int, int]] = {}
    for kind_id, bucket, answers in db.execute("SELECT kind_id, bucket, answers FROM answer_length"):
        counts.setdefault(kind_id, {})[bucket] = answers
    rows = db.execute(
        "SELECT id, answers, output_tokens, longest, cut_off, endpoint, model, nullif(max_output_tokens, 0), "
        "output_allowance, nullif(schema_id, 0) FROM answer_kind ORDER BY answers DESC, id"
    )
    return {
        Kind(*kind): Lengths(answers, output_tokens, longest, cut_off, counts.get(kind_id, {}))
        for kind_id, answers, output_tokens, longest, cut_off, *kind in rows
    }


def _add(tx: sqlite3.Connection, kind: Kind, new: Lengths) -> None:
    kind_id: int = tx.execute(
        f"INSERT INTO answer_kind ({KIND}, answers, output_tokens, longest, cut_off) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET answers = answers + excluded.answers, "
        "output_tokens = output_tokens + excluded.output_tokens, longest = max(longest, excluded.longest), "
        "cut_off = cut_off + excluded.cut_off RETURNING id",
        (
            kind.endpoint, kind.model, kind.max_output_tokens or 0, kind.output_allowance, kind.schema_id or 0,
            new.answers, new.output_tokens, new.longest, new.cut_off,
        ),
    ).fetchone()[0]  # fmt: skip
    tx.executemany(
        "INSERT INTO answer_length VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET answers = answers + excluded.answers",
        ((kind_id, bucket, number) for bucket, number in new.counts.items()),
    )


def learn_from_stored(tx: sqlite3.Connection) -> None:
    """Add all answers that the store holds (a store of an earlier schema has learnt nothing yet)."""
    columns = ", ".join(f"request.{name}" for name in KIND.split(", "))
    rows = tx.execute(
        "SELECT response.input_tokens, response.output_tokens, response.reason, "
        f"{columns} FROM response JOIN request ON request.id = request_id"
    )
    while page := rows.fetchmany(10_000):
        learn(tx, ((Kind(*kind), Usage(tokens, output_tokens=out), reason) for tokens, out, reason, *kind in page))
