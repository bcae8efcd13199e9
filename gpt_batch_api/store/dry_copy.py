"""A throw-away copy of a store for a dry run, made without touching a byte of the original.

Copied are the task, its samples and requests, and what is alive: open payloads, answers not yet shown to the task,
batches under way, the money; and the answers of samples that a wipe would reset. Other payloads and answers stay
behind, and so do the texts of rows (a dry run delivers none): the copy of a big, nearly finished task is small.

The original's folder gets no new file: SQLite opens a store at rest as immutable, and one with a journal beside it is
read from a twin. Somebody may be writing meanwhile. As long as the journal is the same one, file and then journal can be
copied in peace: what a checkpoint writes into the file stands in the journal too, and is read from there. If the journal
begins anew, comes or goes, what was read is thrown away and read again.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from gpt_batch_api.domain.errors import StoreError
from gpt_batch_api.store.connection import Store, connect, explained, refuse_foreign
from gpt_batch_api.store.migrations import SCHEMA_VERSION

_WHOLE = (
    "task", "session", "sample", "response_schema", "request", "batch", "push", "server_file", "model_limit",
    "direct_call", "direct_group", "response", "output", "delivery", "answer_kind", "answer_length", "ledger",
)  # fmt: skip
_ALIVE = {
    "payload": "request_id IN (SELECT id FROM source.request WHERE state NOT IN ('succeeded', 'failed'))",
    "raw_response": "response_id IN (SELECT response.id FROM source.response "
    "JOIN source.request ON request.id = request_id JOIN source.sample ON sample.id = sample_id "
    "WHERE handed = 0 OR open > 0 OR failed > 0)",
    "content": "EXISTS (SELECT 1 FROM main.payload)",
}
_BLANK = {("output", "row"): "'null'"}
_ATTEMPTS = 50
_PAUSE_S = 0.1


class _Disturbed(Exception):
    """Somebody wrote to what was being read."""


def copy_for_dry_run(original: Path, folder: Path) -> Store:
    """A store in *folder* that stands where *original* stands; a new one if there is no original."""
    target = folder / original.name
    if not original.exists():
        return Store.open(target)
    with explained(original):
        refuse_foreign(original)
        for _ in range(_ATTEMPTS):
            with suppress(_Disturbed):
                _copy_once(original, target)
                return Store.open(target)
            time.sleep(_PAUSE_S)
    raise StoreError(f"The store {original.name} is being written to all the time. Try the dry run again later.")


def _copy_once(original: Path, target: Path) -> None:
    source, twin = original, target.with_name(f"source_{original.name}")
    for left in (target, twin, _journal(target), _journal(twin)):
        left.unlink(missing_ok=True)
    if _journal(original).exists():
        source = twin
        with _undisturbed(original):
            shutil.copyfile(original, twin)
            shutil.copyfile(_journal(original), _journal(twin))
        connect(twin).close()  # takes the journal in
    with _undisturbed(source):
        uri = f"{source.absolute().as_uri()}?immutable=1"
        if _version(uri) == SCHEMA_VERSION:
            with closing(Store.open(target)) as store:
                _fill(store.db, uri)
        else:  # migrated in the copy, or refused
            shutil.copyfile(source, target)


def _journal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


@contextmanager
def _undisturbed(path: Path) -> Iterator[None]:
    """Raise _Disturbed if somebody writes to the store at *path* meanwhile, whatever else was the trouble."""
    before = _stamp(path)
    try:
        yield
    except Exception as error:
        if _stamp(path) != before:
            raise _Disturbed from error
        raise
    if _stamp(path) != before:
        raise _Disturbed


def _stamp(path: Path) -> object:
    """What stays the same while file and journal fit together: the journal's head, or the file where there is none."""
    with suppress(FileNotFoundError), _journal(path).open("rb") as journal:
        if head := journal.read(32):
            return head
    state = path.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns


def _version(uri: str) -> int:
    db = sqlite3.connect(uri, uri=True)
    try:
        return int(db.execute("PRAGMA user_version").fetchone()[0])
    finally:
        db.close()


def _fill(db: sqlite3.Connection, source: str) -> None:
    db.execute("PRAGMA foreign_keys = OFF")
    db.execute("ATTACH ? AS source", (source,))
    db.execute("BEGIN IMMEDIATE")
    triggers = [
        tuple(row) for row in db.execute("SELECT name, sql FROM main.sqlite_schema WHERE type = 'trigger'").fetchall()
    ]
    for name, _ in triggers:
        db.execute(f'DROP TRIGGER "{name}"')
    for table in (*_WHOLE, "account", "tally", "sample_tally", "spending"):
        _copy_table(db, table, "1")
    for table, condition in _ALIVE.items():
        _copy_table(db, table, condition)
    for _, sql in triggers:
        db.execute(sql)
    db.execute("COMMIT")
    db.execute("DETACH source")
    db.execute("PRAGMA foreign_keys = ON")


def _copy_table(db: sqlite3.Connection, table: str, condition: str) -> None:
    columns = [row[1] for row in db.execute(f"PRAGMA main.table_xinfo({table})") if row[6] == 0]  # not generated
    values = ", ".join(_BLANK.get((table, column), f'"{column}"') for column in columns)
    names = ", ".join(f'"{column}"' for column in columns)
    db.execute(f"INSERT INTO main.{table} ({names}) SELECT {values} FROM source.{table} WHERE {condition}")
