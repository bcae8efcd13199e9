"""Which keys the rows of an input have: on disk, because there may be millions, and only for as long as it is open."""

from __future__ import annotations

import sqlite3


class KeyBook:
    """Finds keys that occur twice. The file is SQLite's own temporary one; nobody else sees it."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("CREATE TABLE seen (key TEXT PRIMARY KEY, place TEXT NOT NULL) STRICT, WITHOUT ROWID")
        self._db.execute("BEGIN")

    def note(self, key: str, place: str) -> str | None:
        """Remember *key*; the place where it was seen before, if it was."""
        if self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, place)).rowcount:
            return None
        before: str = self._db.execute("SELECT place FROM seen WHERE key = ?", (key,)).fetchone()[0]
        return before

    def close(self) -> None:
        """Forget all."""
        self._db.close()
