"""How far the output was delivered into files: the position that is cut back to after a kill."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from gpt_batch_api.domain.delivery import UNCERTAIN, Delivered, Progress
from gpt_batch_api.domain.events import OutputDelivered
from gpt_batch_api.store import samples

_COLUMNS = "part, generation, file_name, rows, size_bytes, crc32, last_output"


class StoredRows:
    """The output rows of the store, as a delivery reads them."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def after(self, last_output: int) -> Iterator[tuple[int, str]]:
        return samples.rows_after(self._db, last_output)

    def by_sample(self) -> Iterator[str]:
        return samples.rows_by_sample(self._db)

    def newest(self) -> int:
        return samples.last_row_id(self._db)


def delivered(db: sqlite3.Connection) -> list[Delivered]:
    """All delivered parts, in order; one for an output that is a single file."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM delivery ORDER BY part")
    return [Delivered(*row) for row in rows]


def mark(db: sqlite3.Connection) -> str:
    """A short text that changes whenever the output does."""
    generation, newest = db.execute("SELECT generation, (SELECT coalesce(max(id), 0) FROM output) FROM task").fetchone()
    return f"{generation}:{newest}"


def to_continue(db: sqlite3.Connection, generation: int) -> list[Delivered]:
    """What a delivery has to know: the last part if it is of *generation* (then all are), otherwise all parts."""
    row = db.execute(f"SELECT {_COLUMNS} FROM delivery ORDER BY part DESC LIMIT 1").fetchone()
    return [Delivered(*row)] if row is not None and row["generation"] == generation else delivered(db)


def count_delivered(db: sqlite3.Connection) -> int:
    """How many rows stand in the files."""
    count: int = db.execute("SELECT coalesce(sum(rows), 0) FROM delivery").fetchone()[0]
    return count


def is_appended(db: sqlite3.Connection) -> bool:
    """Whether all that was ever delivered into the files that are there now was added to them as it came.

    No where the timeline does not say so.
    """
    row = db.execute(
        "SELECT coalesce(min(coalesce(data ->> 'continuous', 0)), 0) FROM event WHERE kind = ? "
        "AND data ->> 'file_name' IN (SELECT file_name FROM delivery)",
        (OutputDelivered.kind,),
    ).fetchone()
    return bool(row[0])


def is_behind(db: sqlite3.Connection) -> bool:
    """Whether rows wait to be delivered, or delivered ones were taken back."""
    generation, newest = db.execute("SELECT generation, (SELECT coalesce(max(id), 0) FROM output) FROM task").fetchone()
    last = db.execute("SELECT last_output, generation FROM delivery ORDER BY part DESC LIMIT 1").fetchone()
    return bool(newest) if last is None else last[0] < newest or last[1] != generation


def note_progress(tx: sqlite3.Connection, progress: Progress) -> None:
    """The files hold this much now, or are about to be replaced."""
    if progress.begins:
        tx.execute("UPDATE delivery SET generation = ?", (UNCERTAIN,))
    if progress.replaces_all:
        tx.execute("DELETE FROM delivery")
    tx.executemany(
        f"INSERT OR REPLACE INTO delivery ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (part.part, part.generation, part.file_name, part.rows, part.size_bytes, part.crc32, part.last_output)
            for part in progress.parts
        ),
    )
