"""What belongs to a sample: the task's own state of it, and its output rows."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence


def any_known(db: sqlite3.Connection) -> bool:
    """Whether anything has been asked about at all."""
    return db.execute("SELECT 1 FROM sample LIMIT 1").fetchone() is not None


def load_states(db: sqlite3.Connection, sample_ids: Iterable[int]) -> dict[int, str | None]:
    """The task's state of each sample as JSON text; None where it has not set one."""
    rows = db.execute(
        "SELECT id, state FROM sample WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(list(sample_ids)),)
    )
    return dict(rows.fetchall())


def save_states(tx: sqlite3.Connection, states: Mapping[int, str | None]) -> None:
    """Write the task's state (JSON text) of samples."""
    tx.executemany(
        "UPDATE sample SET state = ? WHERE id = ?", ((text, sample_id) for sample_id, text in states.items())
    )


def add_rows(tx: sqlite3.Connection, rows: Iterable[tuple[int, int, str]]) -> None:
    """Add output rows: (sample, request whose answer made it, row as JSON text)."""
    tx.executemany("INSERT INTO output (sample_id, request_id, row) VALUES (?, ?, ?)", rows)


def count_rows(db: sqlite3.Connection) -> int:
    """How many output rows there are."""
    count: int = db.execute("SELECT count(*) FROM output").fetchone()[0]
    return count


def rows_by_sample(db: sqlite3.Connection) -> Iterator[str]:
    """All output rows as JSON text, in the order in which the samples were first asked about."""
    for (text,) in db.execute("SELECT row FROM output ORDER BY sample_id, id"):
        yield text


def rows_after(db: sqlite3.Connection, last_output: int) -> Iterator[tuple[int, str]]:
    """(id, JSON text) of the rows made after the row *last_output*."""
    yield from db.execute("SELECT id, row FROM output WHERE id > ? ORDER BY id", (last_output,))


def rows_as_bytes(db: sqlite3.Connection) -> Iterator[tuple[int, bytes]]:
    """(id, JSON text) of all output rows as they are stored, whether they can be read or not."""
    yield from db.execute("SELECT id, CAST(row AS BLOB) FROM output ORDER BY id")


def count_succeeded_without_rows(db: sqlite3.Connection) -> int:
    """How many samples came to a good end, and nothing of them stands in the output."""
    count: int = db.execute(
        "SELECT count(*) FROM sample WHERE status = 'succeeded' "
        "AND NOT EXISTS (SELECT 1 FROM output WHERE sample_id = sample.id)"
    ).fetchone()[0]
    return count


def last_row_id(db: sqlite3.Connection) -> int:
    """The id of the newest output row, 0 if there is none."""
    newest: int = db.execute("SELECT coalesce(max(id), 0) FROM output").fetchone()[0]
    return newest


def rows_of(db: sqlite3.Connection, sample_ids: Sequence[int]) -> dict[int, list[str]]:
    """The output rows of some samples as JSON texts, by sample."""
    found: dict[int, list[str]] = {sample_id: [] for sample_id in sample_ids}
    for sample_id, text in db.execute(
        "SELECT sample_id, row FROM output WHERE sample_id IN (SELECT value FROM json_each(?)) ORDER BY id",
        (json.dumps(sample_ids),),
    ):
        found[sample_id].append(text)
    return found


def take_back_rows(tx: sqlite3.Connection) -> int:
    """Remove the rows of touched samples; if any was delivered, the output begins a new generation. How many."""
    last_delivered: int = tx.execute("SELECT coalesce(max(last_output), 0) FROM delivery").fetchone()[0]
    theirs = "FROM output WHERE sample_id IN (SELECT sample_id FROM temp.touched)"
    if tx.execute(f"SELECT 1 {theirs} AND id <= ? LIMIT 1", (last_delivered,)).fetchone():
        tx.execute("UPDATE task SET generation = generation + 1")
    return tx.execute(f"DELETE {theirs}").rowcount
