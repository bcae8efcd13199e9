"""Which plan is in force, and which was when a batch was created."""

from __future__ import annotations

import json
import sqlite3

from gpt_batch_api.sandbox.faults import InForce
from gpt_batch_api.sandbox.plan import Plan
from gpt_batch_api.sandbox.plan_file import dump_plan, parse_plan, plan_digest
from gpt_batch_api.sandbox.store import Store


class Plans:
    """All plans that a store knows. Plans are never changed, so they are read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[int, InForce] = {}

    def start_with(self, plan: Plan | None) -> InForce:
        """Say what is in force when the server starts with *plan* (None: no wish).

        A plan that was put in force while the server ran stays so over restarts with the same *plan*: only another
        one than last time replaces it.
        """
        wished = None if plan is None else plan_digest(plan)
        current = self._store.meta("plan_id")
        if current is not None and (wished is None or wished == self._store.meta("started_with")):
            return self.by_id(int(current))
        self._store.remember(started_with=wished or "")
        return self.replace(plan or Plan())

    def replace(self, plan: Plan) -> InForce:
        """Put *plan* in force; its rules count from nought."""
        with self._store.transaction() as tx:
            plan_id = tx.execute("INSERT INTO plan (document) VALUES (?)", (dump_plan(plan),)).lastrowid
            tx.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('plan_id', ?)", (str(plan_id),))
        assert plan_id is not None
        return self._known.setdefault(plan_id, InForce(plan_id, plan))

    def by_id(self, plan_id: int) -> InForce:
        """The plan number *plan_id*; not within a transaction."""
        if plan_id not in self._known:
            with self._store.reading() as db:
                return self.within(db, plan_id)
        return self._known[plan_id]

    def within(self, db: sqlite3.Connection, plan_id: int) -> InForce:
        """The plan number *plan_id*, for who holds the store already."""
        if plan_id not in self._known:
            row = db.execute("SELECT document FROM plan WHERE id = ?", (plan_id,)).fetchone()
            self._known[plan_id] = InForce(plan_id, parse_plan(json.loads(row[0]), source="stored plan"))
        return self._known[plan_id]
