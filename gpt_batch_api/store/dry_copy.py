"""A throw-away copy of a store for a dry run, made without touching a byte of the original.

Copied are the task, its samples and requests, and what is alive: open payloads, answers not yet shown to the task,
batches under way, the money; and the answers of samples that a wipe would reset. Other payloads and answers stay
behind, and so do the texts of rows (a dry run delivers none): the copy of a big, nearly finished task is small.

The original is only looked at (see `quiet.py`).
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from gpt_batch_api.store.connection import Store
from gpt_batch_api.store.migrations import SCHEMA_VERSION
from gpt_batch_api.store.quiet import immutable_address, quietly

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


def copy_for_dry_run(original: Path, folder: Path) -> Store:
    """A store in *folder* that stands where *original* stands; a new one if there is no original."""
    target = folder / original.name
    if not original.exists():
        return Store.open(target)
    quietly(original, folder, lambda source: _copy(source, target))
    return Store.open(target)


def _copy(source: Path, target: Path) -> None:
    for left in (target, target.with_name(target.name + "-wal")):
        left.unlink(missing_ok=True)
    uri = immutable_address(source)
    if _version(uri) == SCHEMA_VERSION:
        with closing(Store.open(target)) as store:
            _fill(store.db, uri)
    else:  # migrated in the copy, or refused
        shutil.copyfile(source, target)


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
    for table in (*_WHOLE, "account", "tally", "sample_tally", "spending", "bad_end", "settled"):
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
