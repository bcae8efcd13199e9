"""Stores of the first schema, made from present ones, for whoever tries to bring them up to date."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

SCHEMA = Path(__file__).with_name("schema_1.sql").read_text(encoding="utf-8")


def make_empty(path: Path, *, application_id: int) -> None:
    """A store of the first schema without a task."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript(SCHEMA)
        db.execute(f"PRAGMA application_id = {application_id}")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA user_version = 1")
        db.commit()


def make_from(present: Path, path: Path) -> None:
    """A store of the first schema that holds all of *present* that it has columns for."""
    with closing(sqlite3.connect(present)) as source:
        make_empty(path, application_id=source.execute("PRAGMA application_id").fetchone()[0])
        with closing(sqlite3.connect(path)) as db:
            triggers = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
            for name, _ in triggers:
                db.execute(f"DROP TRIGGER {name}")
            for (table,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
                _copy(source, db, table)
            for _, sql in triggers:
                db.execute(sql)
            db.commit()


def _copy(source: sqlite3.Connection, db: sqlite3.Connection, table: str) -> None:
    columns = [row[1] for row in db.execute(f"PRAGMA table_xinfo({table})") if row[6] == 0]  # not generated
    names, places = ", ".join(columns), ", ".join("?" * len(columns))
    db.executemany(
        f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({places})", source.execute(f"SELECT {names} FROM {table}")
    )
