"""The sandbox's one SQLite file and the folder of file contents beside it.

One connection, one lock: whoever holds a transaction is alone, so every read in it is of one moment. A transaction is
on the disk before it returns. Contents are written and synced before the row that names them is committed; a file that
no row names is rubbish of a crash, swept at the next start.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

SCHEMA_VERSION = 1
APPLICATION_ID = 0x47425342
ENDED = ("failed", "completed", "expired", "cancelled")


class StoreDamaged(RuntimeError):
    """The file is no sandbox database of this version."""


class Store:
    """The open database. Close it, or use it in `with`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path.with_name(path.name + ".files")
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=15)
        try:
            self._open()
        except BaseException:
            self._connection.close()
            raise
        self.folder.mkdir(exist_ok=True)
        self.uuid = self.meta("uuid") or ""

    def close(self) -> None:
        """Let go of the file. Waits for the transaction under way."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Be alone with the database; everything is committed at the end, or nothing if it raises."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # some errors have ended it already
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Be alone with the database without writing to it."""
        with self._lock:
            yield self._connection

    def meta(self, key: str) -> str | None:
        """The remembered value of *key*."""
        with self.reading() as db:
            row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else None

    def remember(self, **values: str) -> None:
        """Remember *values* by their names."""
        with self.transaction() as tx:
            tx.executemany("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", values.items())

    def content_path(self, name: str) -> Path:
        """Where the content *name* lies."""
        return self.folder / name

    def sweep(self) -> None:
        """Remove contents that no row names."""
        with self.reading() as db:
            named = {str(row[0]) for row in db.execute("SELECT path FROM file WHERE deleted_at IS NULL")}
            under_way = f"""SELECT file.path, batch.seq FROM batch JOIN file ON file.id = batch.input_file_id
                            WHERE batch.status NOT IN {ENDED}"""
            for path, seq in db.execute(under_way):
                named |= {str(path), spool_name(seq, "output"), spool_name(seq, "error")}
        for content in self.folder.iterdir():
            if content.name not in named:
                content.unlink(missing_ok=True)

    def _open(self) -> None:
        db = self._connection
        db.row_factory = sqlite3.Row
        try:
            if db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0] == 0:
                self._create()
            if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                raise StoreDamaged(f"{self.path} is no sandbox database but another one; use a new file.")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version != SCHEMA_VERSION:
                raise StoreDamaged(f"{self.path} is of another version ({version}) of the sandbox; use a new file.")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
        except sqlite3.DatabaseError as error:
            raise StoreDamaged(f"{self.path} is no sandbox database: {error}.") from error

    def _create(self) -> None:
        schema = (Path(__file__).parent / "schema.sql").read_text(encoding="utf-8")
        self._connection.executescript(f"BEGIN IMMEDIATE;\nPRAGMA application_id = {APPLICATION_ID};\n{schema}")
        self._connection.execute("INSERT INTO meta (key, value) VALUES ('uuid', ?)", (str(uuid4()),))
        self._connection.execute("COMMIT")


def spool_name(batch_seq: int, kind: str) -> str:
    """The content name of a batch's *kind* of result file ("output", "error")."""
    return f"batch-{batch_seq:06d}.{kind}"


def sync_folder(folder: Path) -> None:
    """Make new and renamed names in *folder* survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
