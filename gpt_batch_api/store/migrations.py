"""How a store of an earlier schema becomes one of the present schema: one step for each version.

All steps that are needed are one transaction, after a copy was put aside (`connection`). What a step does is never
changed once a version with it is out: stores may stand between any two.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from importlib import resources

SCHEMA_VERSION = 4

Migration = str | Callable[[sqlite3.Connection], None]


def packaged(name: str) -> str:
    """The text of an SQL file of this room."""
    return resources.files("gpt_batch_api.store").joinpath(name).read_text(encoding="utf-8")


def statements(script: str) -> Iterator[str]:
    """Cut a script into statements; a trigger's body stays whole, and what is left at the end is a statement too."""
    pending = ""
    for piece in re.split(r"(?<=;)", script):
        pending += piece
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    if pending.strip():
        yield pending


def _to_2(db: sqlite3.Connection) -> None:
    """What the stored answers teach is taken in at once."""
    from gpt_batch_api.store.lengths import learn_from_stored

    for statement in statements(packaged("migration_1.sql")):
        db.execute(statement)
    learn_from_stored(db)


MIGRATIONS: Mapping[int, Migration] = {1: _to_2, 2: packaged("migration_2.sql"), 3: packaged("migration_3.sql")}
"""How to get from schema version N to N + 1: SQL statements, or a function."""
