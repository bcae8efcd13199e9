"""The sandbox itself, without HTTP: all its parts, joined over one store.

It owns the lock on its database, so two servers never share one. Opening it after a crash finishes nothing by itself:
the store is consistent after every transaction, rubbish is swept, and the workshop finds its work again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from gpt_batch_api.domain.clock import Clock, SystemClock
from gpt_batch_api.sandbox import calls, ledger
from gpt_batch_api.sandbox.batches import Batches
from gpt_batch_api.sandbox.billing import Billing
from gpt_batch_api.sandbox.direct import Direct
from gpt_batch_api.sandbox.faults import InForce, choose_call_fault
from gpt_batch_api.sandbox.files import Files
from gpt_batch_api.sandbox.plan import CallRule, Plan
from gpt_batch_api.sandbox.plans_in_force import Plans
from gpt_batch_api.sandbox.settling import Settling
from gpt_batch_api.sandbox.simtime import SimulatedTime
from gpt_batch_api.sandbox.store import Store
from gpt_batch_api.sandbox.workshop import Workshop


class SandboxInUse(RuntimeError):
    """Another server holds the database."""


class Sandbox:
    """An emulated service with its state in the file *db*.

    *plan* is the plan to start with (None: the one that was in force last, at first the calm one). *prices* replace the
    packaged catalogue. A caller waits up to *patience_s* real seconds for results that are still being made.
    """

    def __init__(
        self,
        db: Path,
        *,
        plan: Plan | None = None,
        clock: Clock | None = None,
        prices: Mapping[str, Any] | None = None,
        lock_wait_s: float = 15.0,
        patience_s: float = 5.0,
    ) -> None:
        db = db.absolute()
        db.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(f"{db}.lock", thread_local=False)
        try:
            self._lock.acquire(timeout=lock_wait_s)
        except Timeout:
            raise SandboxInUse(f"Another sandbox still uses {db} after {lock_wait_s:g} s; end it first.") from None
        try:
            self._open(db, plan=plan, clock=clock or SystemClock(), prices=prices, patience_s=patience_s)
        except BaseException:
            self._lock.release()
            raise

    def _open(
        self, db: Path, *, plan: Plan | None, clock: Clock, prices: Mapping[str, Any] | None, patience_s: float
    ) -> None:
        self.store = Store(db)
        try:
            self.store.sweep()
            self.billing = Billing(prices)
            self.plans = Plans(self.store)
            self._force = self.plans.start_with(plan)
            with self.store.reading() as connection:
                last_call_at = calls.last_at(connection)
            scale = self._force.plan.timing.time_scale
            self.time = SimulatedTime(self.store, clock, scale=scale, not_before=last_call_at)
            self.files = Files(self.store)
            self._settling = Settling(self.store, self.plans, self.billing)
            self.direct = Direct(self.store, self.billing)
            self._workshop = Workshop(self.store, self.plans, self.billing)
        except BaseException:
            self.store.close()
            raise
        self.batches = Batches(
            self.store,
            plans=self.plans,
            files=self.files,
            settling=self._settling,
            workshop=self._workshop,
            patience_s=patience_s,
        )

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop working and let go of the database."""
        self._workshop.close()
        self.store.close()
        self._lock.release()

    @property
    def uuid(self) -> str:
        """Which sandbox this is, for as long as its database lives."""
        return self.store.uuid

    @property
    def force(self) -> InForce:
        """The plan in force."""
        return self._force

    def replace_plan(self, plan: Plan) -> None:
        """Put *plan* in force for everything that begins from now on."""
        self._force = self.plans.replace(plan)
        self.time.set_scale(plan.timing.time_scale)

    def call_fault(self, operation: str, text: str) -> CallRule | None:
        """The fault that a call of *operation* with the JSON body *text* meets, if any."""
        force = self._force
        if not force.plan.faults:
            return None
        with self.store.transaction() as tx:
            return choose_call_fault(tx, force, operation=operation, text=text)

    def log(self, call: calls.Call, *, status: int | None) -> None:
        """Write *call* down if that has not been done."""
        if not call.logged:
            with self.store.transaction() as tx:
                calls.log(tx, call, at=self.time.now(), status=status)

    def state(self) -> dict[str, Any]:
        """What there is: files by purpose, batches by status, calls by operation."""
        now = self.time.now()
        self.batches.catch_up(now)
        with self.store.reading() as db:
            alive = "deleted_at IS NULL AND (expires_at IS NULL OR expires_at > ?)"
            files = db.execute(f"SELECT purpose, COUNT(*) FROM file WHERE {alive} GROUP BY purpose", (now,))
            batches = db.execute("SELECT status, COUNT(*) FROM batch GROUP BY status")
            return {
                "sandbox": self.uuid,
                "now": now,
                "time_scale": self.time.scale,
                "files": {row[0]: row[1] for row in files},
                "batches": {row[0]: row[1] for row in batches},
                "calls": calls.counts(db),
            }

    def ledger(self, *, with_rows: bool, batch_id: str | None, after: int, limit: int) -> dict[str, Any]:
        """What has been charged by now."""
        now = self.time.now()
        self.batches.await_answers(now)
        self._settling.charge(now)
        with self.store.reading() as db:
            document = {"now": now, **ledger.totals(db)}
            if with_rows:
                document["rows"] = ledger.rows(db, batch_id=batch_id, after=after, limit=limit)
        return document

    def calls(self, *, operation: str | None, after: int, limit: int) -> dict[str, Any]:
        """The log of calls."""
        with self.store.reading() as db:
            return {"calls": calls.rows(db, operation=operation, after=after, limit=limit)}
