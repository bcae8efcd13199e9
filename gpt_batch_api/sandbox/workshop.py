"""The workshop: one thread that validates batches and makes their answers, while the server goes on serving.

It looks in the store for work, does a piece of it, records it in one transaction, and looks again; so a killed server
continues at the last piece. Validation goes first, because a caller waits for it. Pieces are small: whoever needs the
store waits for a few milliseconds at most. Result lines are written, cut to the recorded length first, in the same
transaction that records them; nobody else writes to those files before the batch is closed.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import threading
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from gpt_batch_api.sandbox.answering import ENDPOINTS, Answerer
from gpt_batch_api.sandbox.batch_check import Checked, Stopped, check_input
from gpt_batch_api.sandbox.batch_lines import LineMaker, Made, finishing_order
from gpt_batch_api.sandbox.billing import Billing, Usage
from gpt_batch_api.sandbox.counting import count_text
from gpt_batch_api.sandbox.faults import InForce, Rules, matching_lines
from gpt_batch_api.sandbox.motion import course_of
from gpt_batch_api.sandbox.plans_in_force import Plans
from gpt_batch_api.sandbox.settling import fault_of
from gpt_batch_api.sandbox.store import ENDED, Store, spool_name

_PIECE = 250
_NOTHING = Usage(0)


@dataclass
class _Order:
    """The finishing order of the batch that was worked on last."""

    batch: int = -1
    lines: list[int] = field(default_factory=list)


class Workshop:
    """Makes what batches need. `poke` it when there may be work; `close` it before the store."""

    def __init__(self, store: Store, plans: Plans, billing: Billing) -> None:
        self._store = store
        self._plans = plans
        self._billing = billing
        self._order = _Order()
        self._closing = False
        self._pieces = 0
        self._poked = True
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="sandbox-workshop", daemon=True)
        self._thread.start()

    @property
    def pieces(self) -> int:
        """How many pieces of work have been done; see `wait`."""
        return self._pieces

    def poke(self) -> None:
        """Look for work."""
        with self._changed:
            self._poked = True
            self._changed.notify_all()

    def wait(self, pieces: int, timeout_s: float) -> None:
        """Wait until more than *pieces* pieces have been done, or for *timeout_s* real seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._pieces > pieces or self._closing, timeout_s)

    def close(self) -> None:
        """Finish the present piece and stop."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        count_text("warm up", "gpt-4o")  # loads the vocabulary before the first batch needs it
        while not self._closing:
            with self._changed:
                self._poked = False
            worked = self._work()
            with self._changed:
                self._pieces += worked
                self._changed.notify_all()
                self._changed.wait_for(lambda: worked or self._poked or self._closing)  # noqa: B023 - used at once

    def _work(self) -> bool:
        """Do one piece; False if there is nothing to do."""
        with self._store.reading() as db:
            unchecked = "SELECT * FROM batch WHERE NOT checked AND status = 'validating' ORDER BY seq LIMIT 1"
            batch = db.execute(unchecked).fetchone()
            if batch is None:
                unanswered = f"""SELECT * FROM batch WHERE wanted AND answered < stop_at AND status NOT IN {ENDED}
                                 ORDER BY seq LIMIT 1"""
                batch = db.execute(unanswered).fetchone()
        if batch is None:
            return False
        try:
            if batch["checked"]:
                self._answer(batch)
            else:
                self._check(batch)
        except Stopped:
            return False
        except Exception as error:  # a fault of ours must end the batch, not hang whoever waits for it
            traceback.print_exc(file=sys.stderr)
            self._give_up(batch, error)
        return True

    def _check(self, batch: sqlite3.Row) -> None:
        force = self._plans.by_id(batch["plan_id"])
        path = self._input(batch)
        if path is None:
            checked = Checked(errors=[cannot_find(batch["input_file_id"])])
        else:
            answerer = Answerer(force.plan, self._billing)
            endpoint = ENDPOINTS[batch["endpoint"]]
            checked = check_input(path, endpoint=endpoint, answerer=answerer, stopped=lambda: self._closing)
        fault = fault_of(batch)
        # Answers are made ahead of time where it is certain already that they will be needed.
        certain = not checked.errors and force.plan.enqueued_token_limit is None
        certain = certain and (fault is None or fault.fault != "fail")
        course = course_of({"total": len(checked.lines)}, timing=force.plan.timing, fault=fault, started_at=0.0)
        with self._store.transaction() as tx:
            changed = tx.execute(
                """UPDATE batch SET checked = 1, model = ?, errors = ?, total = ?, prompt_tokens = ?, wanted = ?,
                   stop_at = ? WHERE seq = ? AND status = 'validating' AND NOT checked""",
                (
                    checked.model,
                    json.dumps(checked.errors) if checked.errors else None,
                    len(checked.lines),
                    checked.prompt_tokens,
                    certain,
                    course.most,
                    batch["seq"],
                ),
            ).rowcount
            if changed and not checked.errors:
                tx.executemany(
                    """INSERT INTO request (batch, line, start, length, custom_id, prompt_tokens)
                       VALUES (?, ?, ?, ?, ?, ?)""",
                    (
                        (batch["seq"], number, line.start, line.length, line.custom_id, line.prompt_tokens)
                        for number, line in enumerate(checked.lines)
                    ),
                )

    def _answer(self, batch: sqlite3.Row) -> None:
        """Make the next answers of *batch*, after choosing which of its lines meet a fault."""
        force = self._plans.by_id(batch["plan_id"])
        path = self._input(batch)
        if path is None:
            raise FileNotFoundError(f"the input of {batch['id']} is gone")
        with path.open("rb") as source:
            if not batch["struck"]:
                self._strike(batch, force, source)
            else:
                self._answer_piece(batch, force, source)

    def _strike(self, batch: sqlite3.Row, force: InForce, source: BinaryIO) -> None:
        """Choose the lines that meet a fault, in the order of the input file."""
        struck: list[tuple[int, int, int]] = []
        rules = None
        if force.plan.lines:
            with self._store.reading() as db:
                rules = Rules(db, force=force, kind="lines")
                query = "SELECT * FROM request WHERE batch = ? ORDER BY line"
                requests = db.execute(query, (batch["seq"],)).fetchall()
            for request in requests:
                matching = matching_lines(force.plan, _raw(source, request))
                hit = rules.strike(matching, request["custom_id"], batch["seq"])
                if hit is not None:
                    struck.append((hit, batch["seq"], request["line"]))
        with self._store.transaction() as tx:
            if rules is not None:
                rules.save(tx)
            tx.executemany("UPDATE request SET fault = ? WHERE batch = ? AND line = ?", struck)
            tx.execute("UPDATE batch SET struck = 1 WHERE seq = ?", (batch["seq"],))

    def _answer_piece(self, batch: sqlite3.Row, force: InForce, source: BinaryIO) -> None:
        plan, timing = force.plan, force.plan.timing
        started_at = batch["created_at"] + timing.validating_s
        course = course_of(batch, timing=timing, fault=fault_of(batch), started_at=started_at)
        maker = LineMaker(Answerer(plan, self._billing), ENDPOINTS[batch["endpoint"]], batch["seq"], batch["id"])
        first = batch["answered"]
        order = self._finishing_order(batch, plan.seed)[first : first + _PIECE]
        made = []
        for position, request in enumerate(self._requests(batch, order), start=first):
            rule = None if request["fault"] is None else plan.lines[request["fault"]]
            at = course.finished_at(position)
            raw = _raw(source, request)
            made.append(maker.make(raw, tokens=request["prompt_tokens"], at=at, rule=rule))
        self._record(batch, order, made)

    def _requests(self, batch: sqlite3.Row, lines: list[int]) -> list[sqlite3.Row]:
        marks = ", ".join("?" * len(lines))
        query = f"SELECT * FROM request WHERE batch = ? AND line IN ({marks})"
        with self._store.reading() as db:
            rows = {row["line"]: row for row in db.execute(query, (batch["seq"], *lines))}
        return [rows[line] for line in lines]

    def _record(self, batch: sqlite3.Row, lines: list[int], made: list[Made]) -> None:
        first, output_end, error_end = batch["answered"], batch["output_bytes"], batch["error_bytes"]
        seq = batch["seq"]
        query = f"SELECT 1 FROM batch WHERE seq = ? AND answered = ? AND status NOT IN {ENDED}"
        with self._store.transaction() as tx:
            if tx.execute(query, (seq, first)).fetchone() is None:
                return  # it has ended meanwhile
            failed = _failed_before(tx, seq, first)
            rows = []
            for offset, (line, entry) in enumerate(zip(lines, made, strict=True)):
                output_end += len(entry.output)
                error_end += len(entry.error)
                failed += entry.failed
                rows.append((seq, first + offset, line, output_end, error_end, failed, *self._charge(batch, entry)))
            self._append(seq, "output", batch["output_bytes"], b"".join(entry.output for entry in made))
            self._append(seq, "error", batch["error_bytes"], b"".join(entry.error for entry in made))
            tx.executemany(f"INSERT INTO result VALUES ({', '.join('?' * 13)})", rows)
            tx.execute(
                "UPDATE batch SET answered = ?, output_bytes = ?, error_bytes = ? WHERE seq = ?",
                (first + len(made), output_end, error_end, seq),
            )

    def _charge(self, batch: sqlite3.Row, made: Made) -> tuple[int, ...]:
        """The columns of a result row about money."""
        usage = made.usage or _NOTHING
        cost = self._billing.cost_pico(usage, model=batch["model"], road="batch")
        return (
            int(made.usage is not None),
            usage.input,
            usage.cached,
            usage.cache_write,
            usage.output,
            usage.reasoning,
            cost,
        )

    def _append(self, seq: int, kind: str, length: int, more: bytes) -> None:
        """Cut the result file to its recorded *length* and append *more*, on the disk when it returns."""
        if not more:
            return
        path = self._store.content_path(spool_name(seq, kind))
        with path.open("ab") as target:
            target.truncate(length)
            target.write(more)
            target.flush()
            os.fsync(target.fileno())

    def _finishing_order(self, batch: sqlite3.Row, seed: int) -> list[int]:
        if self._order.batch != batch["seq"]:
            order = finishing_order(batch["total"], seed=seed, batch_seq=batch["seq"])
            self._order = _Order(batch["seq"], order)
        return self._order.lines

    def _input(self, batch: sqlite3.Row) -> Path | None:
        with self._store.reading() as db:
            row = db.execute("SELECT path FROM file WHERE id = ?", (batch["input_file_id"],)).fetchone()
        path = None if row is None else self._store.content_path(row["path"])
        return path if path is not None and path.exists() else None

    def _give_up(self, batch: sqlite3.Row, error: Exception) -> None:
        problem = {"code": "sandbox_fault", "message": repr(error), "param": None, "line": None}
        with self._store.transaction() as tx:
            tx.execute(
                """UPDATE batch SET status = 'failed', failed_at = ?, checked = 1, errors = ?, next_at = NULL,
                   stop_at = 0 WHERE seq = ?""",
                (batch["created_at"], json.dumps([problem]), batch["seq"]),
            )


def cannot_find(file_id: str) -> dict[str, Any]:
    """The problem of a batch whose input file is unknown."""
    message = f"Cannot find file {file_id}, or project proj_sandbox does not have access to it."
    return {"code": "invalid_request", "message": message, "param": "file_id", "line": None}


def _raw(source: BinaryIO, request: sqlite3.Row) -> bytes:
    source.seek(request["start"])
    return source.read(request["length"])


def _failed_before(tx: sqlite3.Connection, seq: int, position: int) -> int:
    query = "SELECT failed_so_far FROM result WHERE batch = ? AND position = ?"
    row = tx.execute(query, (seq, position - 1)).fetchone()
    return int(row[0]) if row is not None else 0
