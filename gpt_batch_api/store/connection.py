"""Open a task's store, own it, and change it in transactions.

Exactly one process writes (the task's lock sees to that), and in it one transaction at a time, so there are no locks
here. Every transaction is durable when `transaction()` returns: WAL with `synchronous=FULL`. What waits for the disk may
do so in a thread of its own (`transaction_beside()`). Readers open the file read-only and never checkpoint.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from gpt_batch_api.domain.disk import refused_write, sync_folder
from gpt_batch_api.domain.errors import InternalError, StateConflict, StoreError, UserError
from gpt_batch_api.domain.states import legal_moves
from gpt_batch_api.store.migrations import MIGRATIONS, SCHEMA_VERSION, Migration, packaged, statements

APPLICATION_ID = 0x67504241  # "gPBA": tells our files from other SQLite files

# After the page size and the like stand three numbers that are the same in every SQLite file: 64 ("@"), 32, 32 (blanks).
_SQLITE_HEAD = re.compile(rb"SQLite format 3\0.{5}@  .{44}(?P<application_id>.{4})", re.DOTALL)
_DAMAGE = ("image is malformed", "malformed database schema", "not a database", "unsupported file format")

_UNREADABLE = ("full", "disk I/O", "unable to open", "readonly")

P = ParamSpec("P")
T = TypeVar("T")


def _telling_damage(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """*method* of a cursor, with damage told as a StoreError."""

    def told(self: sqlite3.Cursor, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                assert isinstance(self.connection, Connection)
                raise _damaged(self.connection.path, error) from error
            raise

    return told


class _Cursor(sqlite3.Cursor):
    """Damage of the file shows whenever a page is read: it is a StoreError wherever that is."""

    execute = _telling_damage(sqlite3.Cursor.execute)
    executemany = _telling_damage(sqlite3.Cursor.executemany)
    fetchone = _telling_damage(sqlite3.Cursor.fetchone)
    fetchmany = _telling_damage(sqlite3.Cursor.fetchmany)
    fetchall = _telling_damage(sqlite3.Cursor.fetchall)
    __next__ = _telling_damage(sqlite3.Cursor.__next__)


class Connection(sqlite3.Connection):
    """A connection to the store at `path`."""

    path: Path

    def execute(self, *args: Any) -> sqlite3.Cursor:
        cursor: sqlite3.Cursor = self.cursor(_Cursor).execute(*args)
        return cursor

    def executemany(self, *args: Any) -> sqlite3.Cursor:
        cursor: sqlite3.Cursor = self.cursor(_Cursor).executemany(*args)
        return cursor


class Store:
    """The writer's hold on a task's store. `db` reads; `transaction()` writes."""

    def __init__(self, path: Path, *, db: Connection) -> None:
        self.path = path
        self.db = db
        self._committer: ThreadPoolExecutor | None = None

    @classmethod
    def open(cls, path: Path, *, migrations: Mapping[int, Migration] = MIGRATIONS) -> Store:
        """Open the store at *path*, created or migrated as needed.

        Raises StoreError if the file is damaged, not a store of ours, or of a newer schema.
        """
        with explained(path):
            db = connect(path)
            try:
                _prepare(
                    db, path, migrations, target=SCHEMA_VERSION if migrations is MIGRATIONS else max(migrations) + 1
                )
            except BaseException:
                db.close()
                raise
        return cls(path, db=db)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Change several rows together, or, on any exception, none of them."""
        with self._transaction():
            yield self.db
            self.commit()

    @asynccontextmanager
    async def transaction_beside(self) -> AsyncIterator[Connection]:
        """The same, but the event loop goes on while the disk makes it durable. Nothing else may use `db` meanwhile."""
        with self._transaction():
            yield self.db
            self._committer = self._committer or ThreadPoolExecutor(1, thread_name_prefix="commit")
            committing = asyncio.get_running_loop().run_in_executor(self._committer, self.commit)
            try:
                await asyncio.shield(committing)
            except asyncio.CancelledError:  # it cannot be broken off: know how it ended before anybody goes on
                with suppress(sqlite3.Error):
                    await committing
                raise

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if self.db.in_transaction:
            raise InternalError("A transaction was begun inside another one.")
        with explained(self.path):
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._roll_back()
                raise

    def commit(self) -> None:
        """Make the open transaction durable. (A seam: tests end the process here.)"""
        self.db.execute("COMMIT")

    def _roll_back(self) -> None:
        if self.db.in_transaction:  # SQLite may have done it itself, on a full disk for instance
            self.db.execute("ROLLBACK")

    def close(self) -> None:
        """Close; the last one to close leaves a single file without WAL."""
        if self._committer is not None:
            self._committer.shutdown()
        self.db.close()


def connect(path: Path) -> Connection:
    """A writing connection with our settings. A file of another program is refused before anything of it is changed."""
    refuse_foreign(path)
    db = _connect(str(path), path)
    try:
        if _application_id(db) != APPLICATION_ID:  # the file is new
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            "mmap_size = 0",
            "temp_store = MEMORY",
            "cache_size = -32000",
        ):
            db.execute(f"PRAGMA {pragma}")
    except BaseException:
        db.close()
        raise
    return db


def connect_readonly(path: Path) -> Connection:
    """A connection that can only read, sees what is committed, and never blocks the writer.

    A store that somebody is just making can be empty: see `is_new`.
    """
    with explained(path, only_reads=True):
        db = _connect(f"{path.absolute().as_uri()}?mode=ro", path)
        try:
            if db.execute("SELECT 1 FROM sqlite_schema").fetchone() and _application_id(db) != APPLICATION_ID:
                raise _foreign(path)
            if not is_new(db) and (version := _user_version(db)) != SCHEMA_VERSION:
                raise StoreError(
                    f"The store {path.name} has schema {version}, this version of gpt_batch_api reads {SCHEMA_VERSION}. "
                    + ("Run the task once to migrate it." if version < SCHEMA_VERSION else "Update gpt_batch_api.")
                )
        except BaseException:
            db.close()
            raise
    return db


@contextmanager
def reading(path: Path) -> Iterator[Connection]:
    """Look at the store at *path*, which another process may be writing. Raises StoreError if it cannot be read."""
    with explained(path, only_reads=True), closing(connect_readonly(path)) as db:
        yield db


def is_new(db: sqlite3.Connection) -> bool:
    """Whether the store has no tables yet: they come in one transaction with their version."""
    sql = "SELECT user_version = 0 AND NOT EXISTS (SELECT 1 FROM sqlite_schema) FROM pragma_user_version"
    return bool(db.execute(sql).fetchone()[0])


def refuse_foreign(path: Path) -> None:
    """Raise StoreError if *path* is an SQLite file of another program; told by its first bytes.

    To let SQLite open it would be too much: it may take in a journal that lies beside it. (Not for readers: closing
    the file here ends the locks that connections of this process hold on it, those of the writer perhaps.)
    """
    try:
        with path.open("rb") as stream:
            head = _SQLITE_HEAD.match(stream.read(100))
    except OSError:  # not there or not readable: the opening will tell
        return
    if head and int.from_bytes(head["application_id"], "big") != APPLICATION_ID:
        raise _foreign(path)


def _foreign(path: Path) -> StoreError:
    return StoreError(f"{path.name} is an SQLite file of another program. Choose another task_prefix or task_dir.")


def _connect(address: str, path: Path) -> Connection:
    db = sqlite3.connect(
        address,
        uri=address.startswith("file:"),
        isolation_level=None,
        timeout=30.0,
        factory=Connection,
        check_same_thread=False,
    )
    db.path = path
    db.row_factory = sqlite3.Row
    return db


@contextmanager
def explained(path: Path, *, only_reads: bool = False) -> Iterator[None]:
    """Turn SQLite's complaints about file and disk into errors that say what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:
        text = str(error)
        if is_damage(error):
            raise _damaged(path, error) from error
        if only_reads and any(words in text for words in _UNREADABLE):
            raise _unreadable(path, text) from error
        if "full" in text or "disk I/O" in text:
            raise StoreError(refused_write(path, text, full="full" in text)) from error
        if "unable to open" in text or "readonly" in text:
            raise StoreError(
                f"The store {path.absolute()} cannot be opened for writing ({text}). Look at the rights and the disk of its "
                "folder, then run the same command again."
            ) from error
        if "locked" in text:
            raise StoreError(f"Another program keeps the store {path.name} locked. Close it and try again.") from error
        raise
    except sqlite3.IntegrityError as error:
        if "illegal move" in str(error):
            raise StateConflict(str(error)) from error
        raise InternalError(f"The store {path.name} refused a change that breaks a promise: {error}") from error
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            raise _damaged(path, error) from error
        raise


def is_damage(error: sqlite3.Error) -> bool:
    """Whether SQLite says that the file itself is broken."""
    return any(words in str(error) for words in _DAMAGE)


def _damaged(path: Path, error: sqlite3.Error) -> StoreError:
    return StoreError(
        f"The store {path.name} is damaged ({error}). Restore it from a backup, or move it away to start anew."
    )


def _unreadable(path: Path, why: str) -> StoreError:
    why = "it is a folder" if path.is_dir() else why
    return StoreError(
        f"The store {path.absolute()} cannot be read ({why}). Look at its rights and its disk, then run the same command "
        "again."
    )


def expect(cursor: sqlite3.Cursor, count: int, what: str) -> None:
    """Insist that an update touched exactly *count* rows: all of them were in the state they must leave."""
    if cursor.rowcount != count:
        raise StateConflict(f"{what}: {cursor.rowcount} rows moved where {count} were expected.")


def _prepare(db: Connection, path: Path, migrations: Mapping[int, Migration], *, target: int) -> None:
    version = _user_version(db)
    if version == 0:
        _create(db)
    elif version > target:
        raise StoreError(
            f"The store {path.name} was written by a newer gpt_batch_api (schema {version}, this one knows {target}). "
            "Update gpt_batch_api."
        )
    elif version < target:
        _migrate(db, path, migrations, version=version, target=target)
    _refresh_legal_moves(db)


def _application_id(db: Connection) -> int:
    return int(db.execute("PRAGMA application_id").fetchone()[0])


def _user_version(db: Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _create(db: Connection) -> None:
    db.executescript(f"BEGIN IMMEDIATE; {packaged('schema.sql')}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")


def _migrate(db: Connection, path: Path, migrations: Mapping[int, Migration], *, version: int, target: int) -> None:
    """Bring an older store up to *target* in one transaction, after a copy of it was put aside."""
    if missing := [step for step in range(version, target) if step not in migrations]:
        raise StoreError(
            f"The store {path.name} has schema {version}, and this version of gpt_batch_api knows no way from schema "
            f"{missing[0]} to {missing[0] + 1}. Migrate it with an earlier version first."
        )
    _put_copy_aside(db, path.with_name(f"{path.stem}.schema{version}{path.suffix}"))
    db.execute("BEGIN IMMEDIATE")
    try:
        for step in range(version, target):
            migration = migrations[step]
            if callable(migration):
                migration(db)
            else:
                for statement in statements(migration):
                    db.execute(statement)
        db.execute(f"PRAGMA user_version = {target}")
        db.execute("COMMIT")
    except BaseException as error:
        db.execute("ROLLBACK")
        if isinstance(error, Exception) and not isinstance(error, UserError):
            raise StoreError(
                f"The store {path.name} could not be brought from schema {version} to {target}: {error}. It is unchanged."
            ) from error
        raise


def _put_copy_aside(db: Connection, backup: Path) -> None:
    """Copy all that is committed, durably; a copy from an earlier attempt is replaced, since it may be older."""
    partial = backup.with_name(backup.name + ".part")
    partial.unlink(missing_ok=True)
    with closing(sqlite3.connect(partial)) as copy:
        db.backup(copy)
    partial.replace(backup)
    sync_folder(backup.parent)


def _refresh_legal_moves(db: Connection) -> None:
    moves = legal_moves()
    if [tuple(row) for row in db.execute("SELECT kind, before, after FROM legal_move ORDER BY 1, 2, 3")] == moves:
        return
    db.execute("BEGIN IMMEDIATE")
    db.execute("DELETE FROM legal_move")
    db.executemany("INSERT INTO legal_move VALUES (?, ?, ?)", moves)
    db.execute("COMMIT")
