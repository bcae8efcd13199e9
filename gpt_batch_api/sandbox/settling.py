"""Let batches move to where they must be by now: every move that is due, oldest first, in one transaction.

Moves are a simulation of events in the order of their simulated times, whenever they are applied; so what is decided
(which batch passes the limit of enqueued tokens) does not depend on who asked when. A move that needs results which the
workshop has not made yet blocks those after it: time stands still for batches until the workshop has caught up.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpt_batch_api.sandbox import ledger
from gpt_batch_api.sandbox.answering import ENDPOINTS, Answerer
from gpt_batch_api.sandbox.batch_lines import LineMaker, finishing_order
from gpt_batch_api.sandbox.billing import Billing
from gpt_batch_api.sandbox.files import DEFAULT_LIFE_S, forgettable, insert_file
from gpt_batch_api.sandbox.models import base_name
from gpt_batch_api.sandbox.motion import Course, Move, course_of, next_move
from gpt_batch_api.sandbox.plan import BatchRule, Plan
from gpt_batch_api.sandbox.plans_in_force import Plans
from gpt_batch_api.sandbox.store import Store, spool_name, sync_folder

_USUAL_TOKEN_LIMIT = 2_000_000  # what a batch that fails by a rule of the plan is told
_UNFINISHED_CODE = {"expired": "batch_expired", "cancelled": "batch_cancelled"}


@dataclass
class Settled:
    """What came of settling. `blocked`: a due move waits for the workshop. `rubbish`: contents nobody needs now."""

    blocked: bool = False
    moved: bool = False
    rubbish: list[Path] = field(default_factory=list)


class Settling:
    """Applies due moves."""

    def __init__(self, store: Store, plans: Plans, billing: Billing) -> None:
        self._store = store
        self._plans = plans
        self._billing = billing

    def settle(self, now: float) -> Settled:
        """Apply what is due at *now*, as far as the workshop has got."""
        query = "SELECT * FROM batch WHERE next_at <= ? ORDER BY next_at, seq LIMIT 1"
        settled = Settled()
        with self._store.reading() as db:
            if db.execute(query, (now,)).fetchone() is None:
                return settled
        with self._store.transaction() as tx:
            while (batch := tx.execute(query, (now,)).fetchone()) is not None:
                if not self._apply(tx, batch, settled):
                    settled.blocked = True
                    break
                settled.moved = True
        for path in settled.rubbish:
            path.unlink(missing_ok=True)
        return settled

    def charge(self, now: float) -> None:
        """Book what the batches under way have finished by *now*."""
        query = "SELECT * FROM batch WHERE status IN ('in_progress', 'finalizing', 'cancelling') AND answered > charged"
        with self._store.transaction() as tx:
            for batch in tx.execute(query).fetchall():
                if batch["in_progress_at"] is not None:
                    _charge(tx, batch, self.course(tx, batch), upto=self.done(tx, batch, now))

    def course(self, db: sqlite3.Connection, batch: sqlite3.Row) -> Course:
        """The course of a batch that has begun."""
        plan = self._plans.within(db, batch["plan_id"]).plan
        return course_of(batch, timing=plan.timing, fault=fault_of(batch), started_at=batch["in_progress_at"])

    def done(self, db: sqlite3.Connection, batch: sqlite3.Row, now: float) -> int:
        """How many requests of a batch that has begun are done at *now*, as far as the workshop has got."""
        done = self.course(db, batch).done(now)
        if batch["status"] == "cancelling":
            plan = self._plans.within(db, batch["plan_id"]).plan
            move = next_move(batch, timing=plan.timing, fault=fault_of(batch))
            done = min(done, move.done if move else done)
        return min(done, int(batch["answered"]))

    def _apply(self, tx: sqlite3.Connection, batch: sqlite3.Row, settled: Settled) -> bool:
        """Make the next move of *batch*; False if it must wait for the workshop."""
        plan, fault = self._plans.within(tx, batch["plan_id"]).plan, fault_of(batch)
        move = next_move(batch, timing=plan.timing, fault=fault)
        if move is None:
            _change(tx, batch, next_at=None)
        elif batch["status"] == "validating":
            if not batch["checked"]:
                return False
            self._end_validation(tx, batch, move, plan=plan, fault=fault, settled=settled)
        elif move.to in ("finalizing", "cancelling"):
            _change(tx, batch, status=move.to, **{f"{move.to}_at": move.at})
            reschedule(tx, batch["seq"], plan=plan)
        elif batch["answered"] < move.done:
            return False
        else:
            self._close(tx, batch, move, plan=plan, settled=settled)
        return True

    def _end_validation(
        self,
        tx: sqlite3.Connection,
        batch: sqlite3.Row,
        move: Move,
        *,
        plan: Plan,
        fault: BatchRule | None,
        settled: Settled,
    ) -> None:
        problems = _problems(tx, batch, plan=plan, fault=fault)
        if problems:
            errors = json.dumps(problems)
            _change(tx, batch, status="failed", failed_at=move.at, errors=errors, next_at=None, stop_at=0)
            self._clean_up(tx, batch, settled)
            return
        _change(tx, batch, status="in_progress", in_progress_at=move.at, wanted=1)
        reschedule(tx, batch["seq"], plan=plan)

    def _close(self, tx: sqlite3.Connection, batch: sqlite3.Row, move: Move, *, plan: Plan, settled: Settled) -> None:
        """End the batch: book what is finished, publish the result files."""
        final: dict[str, Any] = {"status": move.to, f"{move.to}_at": move.at, "next_at": None, "stop_at": 0}
        if batch["in_progress_at"] is not None:
            course = self.course(tx, batch)
            _charge(tx, batch, course, upto=move.done)
            ends = _ends(tx, batch, move.done)
            output, error = self._spool(batch, "output"), self._spool(batch, "error")
            _finish_spool(output, ends["output_end"], ())
            _finish_spool(error, ends["error_end"], self._unfinished(tx, batch, move, plan))
            sync_folder(self._store.folder)
            final["failed"] = ends["failed_so_far"]
            final["completed"] = move.done - ends["failed_so_far"]
            final["usage"] = json.dumps(ledger.batch_usage(tx, batch["id"]))
            final["output_file_id"] = self._publish(tx, batch, output, "output", move.at)
            final["error_file_id"] = self._publish(tx, batch, error, "error", move.at)
        _change(tx, batch, **final)
        self._clean_up(tx, batch, settled)

    def _unfinished(self, tx: sqlite3.Connection, batch: sqlite3.Row, move: Move, plan: Plan) -> Iterable[bytes]:
        """The error lines of requests that were not executed."""
        code = _UNFINISHED_CODE.get(move.to)
        if code is None:
            return
        order = finishing_order(batch["total"], seed=plan.seed, batch_seq=batch["seq"])
        rows = tx.execute("SELECT line, custom_id FROM request WHERE batch = ?", (batch["seq"],))
        names = {row["line"]: row["custom_id"] for row in rows}
        endpoint = ENDPOINTS[batch["endpoint"]]
        maker = LineMaker(Answerer(plan, self._billing), endpoint, batch["seq"], batch["id"])
        for line in order[move.done :]:
            yield maker.unfinished(names[line], code)

    def _publish(self, tx: sqlite3.Connection, batch: sqlite3.Row, content: Path, kind: str, at: float) -> str | None:
        """Make the result file, which exists, a file of the API; None if it is empty."""
        fault = fault_of(batch)
        even_empty = kind == "error" and fault is not None and fault.fault == "empty_error_file"
        if content.stat().st_size == 0 and not even_empty:
            return None
        row = insert_file(
            tx,
            uuid=self._store.uuid,
            purpose="batch_output",
            filename=f"{batch['id']}_{kind}.jsonl",
            content=content,
            created_at=at,
            expires_at=at + (batch["output_seconds"] or DEFAULT_LIFE_S),
            listed_at=at,
            visible_at=at,
        )
        return str(row["id"])

    def _clean_up(self, tx: sqlite3.Connection, batch: sqlite3.Row, settled: Settled) -> None:
        tx.execute("DELETE FROM result WHERE batch = ?", (batch["seq"],))
        tx.execute("DELETE FROM request WHERE batch = ?", (batch["seq"],))
        published = "SELECT 1 FROM file WHERE path = ?"
        for kind in ("output", "error"):
            spool = self._spool(batch, kind)
            if tx.execute(published, (spool.name,)).fetchone() is None:
                settled.rubbish.append(spool)
        source = tx.execute("SELECT path, deleted_at FROM file WHERE id = ?", (batch["input_file_id"],)).fetchone()
        if source is not None and source["deleted_at"] is not None and forgettable(tx, batch["input_file_id"]):
            settled.rubbish.append(self._store.content_path(source["path"]))

    def _spool(self, batch: sqlite3.Row, kind: str) -> Path:
        return self._store.content_path(spool_name(batch["seq"], kind))


def fault_of(batch: sqlite3.Row) -> BatchRule | None:
    """What befalls *batch*, if anything."""
    return BatchRule(**json.loads(batch["fault"])) if batch["fault"] else None


def reschedule(tx: sqlite3.Connection, seq: int, *, plan: Plan) -> None:
    """Write down when the batch number *seq* moves next, and how many answers that needs."""
    batch = tx.execute("SELECT * FROM batch WHERE seq = ?", (seq,)).fetchone()
    fault = fault_of(batch)
    move = next_move(batch, timing=plan.timing, fault=fault)
    needed = 0 if batch["status"] == "cancelling" else batch["stop_at"]
    if batch["in_progress_at"] is not None:
        course = course_of(batch, timing=plan.timing, fault=fault, started_at=batch["in_progress_at"])
        needed = move.done if move is not None and move.to in ("expired", "cancelled") else course.most
    _change(tx, batch, next_at=None if move is None else move.at, stop_at=needed)


def _problems(
    tx: sqlite3.Connection, batch: sqlite3.Row, *, plan: Plan, fault: BatchRule | None
) -> list[dict[str, Any]]:
    """Why *batch* fails at the end of its validation; empty if it does not."""
    if fault is not None and fault.fault == "fail":
        return [_as_planned(fault, batch["model"], plan)]
    if batch["errors"]:
        problems: list[dict[str, Any]] = json.loads(batch["errors"])
        return problems
    if plan.billing_error == "billing_hard_limit_reached":
        return [_problem(plan.billing_error, "Billing hard limit has been reached")]
    limit = plan.enqueued_limit(batch["model"])
    if limit is None:
        limit = plan.enqueued_limit(base_name(batch["model"]))
    if limit is not None and _enqueued(tx, batch["model"]) + batch["prompt_tokens"] > limit:
        return [_too_many_tokens(batch["model"], limit)]
    return []


def _as_planned(fault: BatchRule, model: str | None, plan: Plan) -> dict[str, Any]:
    """The problem that *fault* asks for, in the service's words where it has some."""
    if fault.code == "token_limit_exceeded" and fault.message is None:
        return _too_many_tokens(model or "the model", plan.enqueued_limit(model or "") or _USUAL_TOKEN_LIMIT)
    return _problem(fault.code or "invalid_request", fault.message or "The plan of the sandbox says so.")


def _too_many_tokens(model: str, limit: int) -> dict[str, Any]:
    message = (
        f"Enqueued token limit reached for {model} in organization org-sandbox. Limit: {limit:,} enqueued "
        "tokens. Please try again once some in_progress batches have been completed."
    )
    return _problem("token_limit_exceeded", message)


def _problem(code: str, message: str) -> dict[str, Any]:
    return {"code": code, "message": message, "param": None, "line": None}


def _enqueued(tx: sqlite3.Connection, model: str) -> int:
    """The prompt tokens of the batches of *model* that have begun and not ended."""
    query = """SELECT model, prompt_tokens FROM batch WHERE in_progress_at IS NOT NULL
               AND status IN ('in_progress', 'finalizing', 'cancelling')"""
    rows = tx.execute(query)
    return sum(row["prompt_tokens"] for row in rows if base_name(row["model"]) == base_name(model))


def _change(tx: sqlite3.Connection, batch: sqlite3.Row, **columns: Any) -> None:
    names = ", ".join(f"{name} = ?" for name in columns)
    tx.execute(f"UPDATE batch SET {names} WHERE seq = ?", (*columns.values(), batch["seq"]))


def _charge(tx: sqlite3.Connection, batch: sqlite3.Row, course: Course, *, upto: int) -> None:
    """Book the requests up to the position *upto* that are not booked yet."""
    if upto <= batch["charged"]:
        return
    tx.execute(
        """INSERT INTO ledger (at, road, batch_id, custom_id, model, input, cached, cache_write, output, reasoning,
                               cost_pico)
           SELECT :started + :duration * (result.position + 1) / :requests, 'batch', :id, request.custom_id, :model,
                  result.input, result.cached, result.cache_write, result.output, result.reasoning, result.cost_pico
           FROM result JOIN request ON request.batch = result.batch AND request.line = result.line
           WHERE result.batch = :seq AND result.position >= :charged AND result.position < :upto AND result.charged
           ORDER BY result.position""",
        {
            "started": course.started_at,
            "duration": course.duration_s,
            "requests": course.requests,
            "id": batch["id"],
            "model": batch["model"],
            "seq": batch["seq"],
            "charged": batch["charged"],
            "upto": upto,
        },
    )
    _change(tx, batch, charged=upto)


def _ends(tx: sqlite3.Connection, batch: sqlite3.Row, done: int) -> dict[str, int]:
    """How long the result files are, and how many requests have failed, when *done* requests are done."""
    row = tx.execute(
        "SELECT output_end, error_end, failed_so_far FROM result WHERE batch = ? AND position = ?",
        (batch["seq"], done - 1),
    ).fetchone()
    return dict(row) if row is not None else {"output_end": 0, "error_end": 0, "failed_so_far": 0}


def _finish_spool(path: Path, length: int, more: Iterable[bytes]) -> None:
    """Cut the file to *length* and append *more*; doing it again after a crash gives the same file."""
    with suppress(FileNotFoundError):
        os.truncate(path, length)
    with path.open("ab") as target:
        for line in more:
            target.write(line)
        target.flush()
        os.fsync(target.fileno())
