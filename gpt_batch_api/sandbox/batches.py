"""Batches as the API shows them: created, looked at, listed, cancelled. How they move is left to `motion` and
`settling`, what they contain to the workshop.
"""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import asdict
from typing import Any

from gpt_batch_api.sandbox import calls, errors
from gpt_batch_api.sandbox.answering import ENDPOINTS
from gpt_batch_api.sandbox.calls import Call
from gpt_batch_api.sandbox.chance import hexadecimal
from gpt_batch_api.sandbox.errors import ApiError
from gpt_batch_api.sandbox.faults import InForce, choose_batch_fault
from gpt_batch_api.sandbox.files import Files, page_of, read_life
from gpt_batch_api.sandbox.plan import BatchRule
from gpt_batch_api.sandbox.plans_in_force import Plans
from gpt_batch_api.sandbox.settling import Settling, fault_of, reschedule
from gpt_batch_api.sandbox.store import ENDED, Store
from gpt_batch_api.sandbox.workshop import Workshop, cannot_find

MAX_PAGE = 100
_ALL_ENDPOINTS = (
    "/v1/responses",
    "/v1/chat/completions",
    "/v1/embeddings",
    "/v1/completions",
    "/v1/moderations",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/videos",
)
_PARAMETERS = ("input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after")
_MOST_PAIRS, _MOST_KEY, _MOST_VALUE = 16, 64, 512
_ODD_STATUS = "throttled"
_TIMES = (
    "created_at",
    "in_progress_at",
    "expires_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
)


class Batches:
    """The batches in a store."""

    def __init__(
        self, store: Store, *, plans: Plans, files: Files, settling: Settling, workshop: Workshop, patience_s: float
    ) -> None:
        self._store = store
        self._plans = plans
        self._files = files
        self._settling = settling
        self._workshop = workshop
        self._patience_s = patience_s

    def create(self, body: Any, *, force: InForce, now: float, call: Call) -> dict[str, Any]:
        """Create a batch, or raise what the service says at once against *body*."""
        wanted = _judge(body)
        life = _output_life(wanted.get("output_expires_after"))
        self._find_input(wanted["input_file_id"], force=force, now=now)
        plan = force.plan
        with self._store.transaction() as tx:
            _check_pace(tx, now=now, most=plan.limits.batches_per_hour)
            fault = choose_batch_fault(tx, force)
            seq = tx.execute("SELECT COALESCE(MAX(seq), 0) + 1 FROM batch").fetchone()[0]
            values = {
                "seq": seq,
                "id": f"batch_{hexadecimal(32, self._store.uuid, 'batch', seq)}",
                "plan_id": force.id,
                "endpoint": wanted["endpoint"],
                "completion_window": wanted["completion_window"],
                "input_file_id": wanted["input_file_id"],
                "metadata": None if wanted.get("metadata") is None else json.dumps(wanted["metadata"]),
                "output_seconds": life,
                "fault": None if fault is None else json.dumps(asdict(fault)),
                "created_at": now,
                "expires_at": now + plan.timing.completion_window_s,
                "listed_at": now + plan.list_lag_s.batches,
                "visible_at": now + plan.retrieve_lag_s.batches,
            }
            marks = ", ".join("?" * len(values))
            tx.execute(f"INSERT INTO batch ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))
            reschedule(tx, seq, plan=plan)
            row = tx.execute("SELECT * FROM batch WHERE seq = ?", (seq,)).fetchone()
            call.key = row["id"]
            calls.log(tx, call, at=now, status=200)
            document = self._view(tx, row, now)
        self._workshop.poke()
        return document

    def retrieve(self, batch_id: str, *, now: float) -> dict[str, Any]:
        """The batch as it is now."""
        self.await_answers(now, batch_id=batch_id)
        with self._store.reading() as db:
            return self._view(db, self._row(db, batch_id, now), now)

    def page(self, *, after: str | None, limit: int, now: float) -> dict[str, Any]:
        """A page of the listing, newest first."""
        self.catch_up(now)
        with self._store.reading() as db:
            place = None
            if after:
                found = db.execute("SELECT seq FROM batch WHERE id = ?", (after,)).fetchone()
                if found is None:
                    raise _no_such_batch(after)
                place = found["seq"]
            query = """SELECT * FROM batch WHERE listed_at <= :now AND (:after IS NULL OR seq < :after)
                       ORDER BY seq DESC LIMIT :limit"""
            rows = db.execute(query, {"now": now, "after": place, "limit": limit + 1}).fetchall()
            data = [self._view(db, row, now) for row in rows[:limit]]
        return page_of(data, has_more=len(rows) > limit)

    def cancel(self, batch_id: str, *, now: float, call: Call) -> dict[str, Any]:
        """Begin to cancel the batch; a cancelled one stays as it is, another ended one is an error."""
        self.catch_up(now, patience_s=10 * self._patience_s)
        with self._store.transaction() as tx:
            row = self._row(tx, batch_id, now)
            if row["status"] in ("completed", "failed", "expired"):
                raise ApiError(409, f"Cannot cancel a batch with status '{row['status']}'.")
            if row["status"] not in ("cancelling", "cancelled"):
                change = "UPDATE batch SET status = 'cancelling', cancelling_at = ? WHERE seq = ?"
                tx.execute(change, (now, row["seq"]))
                reschedule(tx, row["seq"], plan=self._plans.within(tx, row["plan_id"]).plan)
                row = self._row(tx, batch_id, now)
            calls.log(tx, call, at=now, status=200)
            return self._view(tx, row, now)

    def catch_up(self, now: float, *, patience_s: float | None = None) -> None:
        """Let all batches move to where they are at *now*.

        Waits for the workshop where that is needed, but not for ever: a large batch takes it a while, and until then
        the batch seems to be behind its time.
        """
        self._files.forget_expired(now)
        deadline = time.monotonic() + (self._patience_s if patience_s is None else patience_s)
        while True:
            pieces = self._workshop.pieces
            settled = self._settling.settle(now)
            if settled.moved:
                self._workshop.poke()
            left = deadline - time.monotonic()
            if not settled.blocked or left <= 0:
                return
            self._workshop.poke()
            self._workshop.wait(pieces, left)

    def await_answers(self, now: float, *, batch_id: str | None = None) -> None:
        """Move to *now*, and wait a while for all answers that are done by then, of one batch or of all."""
        deadline = time.monotonic() + self._patience_s
        self.catch_up(now)
        while (left := deadline - time.monotonic()) > 0:
            pieces = self._workshop.pieces
            if not self._lacks_answers(now, batch_id):
                return
            self._workshop.wait(pieces, left)

    def _lacks_answers(self, now: float, batch_id: str | None) -> bool:
        query = f"""SELECT * FROM batch WHERE in_progress_at IS NOT NULL AND status NOT IN {ENDED}
                    AND answered < stop_at AND (? IS NULL OR id = ?)"""
        with self._store.reading() as db:
            for row in db.execute(query, (batch_id, batch_id)).fetchall():
                if row["answered"] < min(self._settling.course(db, row).done(now), row["stop_at"]):
                    return True
        return False

    def _find_input(self, file_id: str, *, force: InForce, now: float) -> None:
        if force.plan.unknown_file == "fail":
            return
        try:
            found = self._files.retrieve(file_id, now=now)
        except ApiError:
            problem = cannot_find(file_id)
            raise ApiError(400, problem["message"], param="file_id") from None
        if found["purpose"] != "batch":
            message = f"Invalid input file: expected purpose 'batch', but {file_id} has '{found['purpose']}'."
            raise ApiError(400, message, param="input_file_id", code="invalid_value")

    def _row(self, db: sqlite3.Connection, batch_id: str, now: float) -> sqlite3.Row:
        query = "SELECT * FROM batch WHERE id = ? AND visible_at <= ?"
        row = db.execute(query, (batch_id, now)).fetchone()
        if row is None:
            raise _no_such_batch(batch_id)
        found: sqlite3.Row = row
        return found

    def _view(self, db: sqlite3.Connection, row: sqlite3.Row, now: float) -> dict[str, Any]:
        """The batch object."""
        fault = fault_of(row)
        times = {name: None if row[name] is None else int(row[name]) for name in _TIMES}
        document = {
            "id": row["id"],
            "object": "batch",
            "endpoint": row["endpoint"],
            "model": row["model"] if row["in_progress_at"] is not None else None,
            "errors": self._errors(row),
            "input_file_id": row["input_file_id"],
            "completion_window": row["completion_window"],
            "status": row["status"],
            "output_file_id": row["output_file_id"],
            "error_file_id": row["error_file_id"],
            **times,
            "request_counts": self._counts(db, row, now),
            "usage": _usage(row),
            "metadata": json.loads(row["metadata"]) if row["metadata"] else None,
        }
        return document if fault is None else _distorted(document, fault, now)

    @staticmethod
    def _errors(row: sqlite3.Row) -> dict[str, Any] | None:
        if row["status"] != "failed" or not row["errors"]:
            return None
        return {"object": "list", "data": json.loads(row["errors"])}

    def _counts(self, db: sqlite3.Connection, row: sqlite3.Row, now: float) -> dict[str, int]:
        if row["in_progress_at"] is None:
            return {"total": 0, "completed": 0, "failed": 0}
        completed, failed = row["completed"], row["failed"]
        if row["status"] not in ENDED:
            done = self._settling.done(db, row, now)
            query = "SELECT failed_so_far FROM result WHERE batch = ? AND position = ?"
            found = db.execute(query, (row["seq"], done - 1)).fetchone()
            failed = found[0] if found else 0
            completed = done - failed
        return {"total": row["total"], "completed": completed, "failed": failed}


def _distorted(document: dict[str, Any], fault: BatchRule, now: float) -> dict[str, Any]:
    """The batch object as other or confused servers show it."""
    if fault.fault == "odd_status" and document["status"] == "in_progress":
        return {**document, "status": fault.code or _ODD_STATUS}
    ids = ("output_file_id", "error_file_id")
    if fault.fault == "blank_ids":
        return {**document, **{name: document[name] or "" for name in ids}}
    if (
        fault.fault == "late_ids"
        and document["status"] in ENDED
        and now < document[f"{document['status']}_at"] + fault.seconds
    ):
        return {**document, **dict.fromkeys(ids)}
    if fault.fault == "no_counts":
        return {**{name: entry for name, entry in document.items() if name != "usage"}, "request_counts": None}
    return document


def _usage(row: sqlite3.Row) -> dict[str, Any]:
    """Usage has Responses names for every endpoint, and no cache writes; nothing until the batch has ended."""
    used = json.loads(row["usage"]) if row["usage"] else {}
    given, made = used.get("input_tokens", 0), used.get("output_tokens", 0)
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": used.get("cached_tokens", 0)},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": used.get("reasoning_tokens", 0)},
        "total_tokens": given + made,
    }


def _judge(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise ApiError(400, "Invalid type for request body: expected an object.")
    for name in body:
        if name not in _PARAMETERS:
            raise ApiError(400, f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
    for name in ("input_file_id", "endpoint", "completion_window"):
        if body.get(name) is None:
            raise errors.missing_parameter(name)
        if not isinstance(body[name], str):
            raise errors.wrong_type(name, expected="a string", value=body[name])
    if body["endpoint"] not in _ALL_ENDPOINTS:
        raise errors.wrong_value("endpoint", value=body["endpoint"], allowed=_ALL_ENDPOINTS)
    if body["endpoint"] not in ENDPOINTS:
        message = f"The sandbox does not emulate {body['endpoint']}; it has {', '.join(ENDPOINTS)}."
        raise ApiError(400, message, param="endpoint", code="unsupported_value")
    if body["completion_window"] != "24h":
        raise errors.wrong_value("completion_window", value=body["completion_window"], allowed=("24h",))
    _judge_metadata(body.get("metadata"))
    return body


def _judge_metadata(metadata: Any) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict):
        raise errors.wrong_type("metadata", expected="an object", value=metadata)
    if len(metadata) > _MOST_PAIRS:
        message = (
            f"Invalid 'metadata': too many properties. Expected an object with at most {_MOST_PAIRS} properties, but "
            f"got an object with {len(metadata)} properties instead."
        )
        raise ApiError(400, message, param="metadata", code="object_above_max_properties")
    for key, value in metadata.items():
        if len(key) > _MOST_KEY:
            raise errors.too_long(f"metadata.{key}", most=_MOST_KEY, length=len(key))
        if not isinstance(value, str):
            raise errors.wrong_type(f"metadata.{key}", expected="a string", value=value)
        if len(value) > _MOST_VALUE:
            raise errors.too_long(f"metadata.{key}", most=_MOST_VALUE, length=len(value))


def _output_life(given: Any) -> int | None:
    if given is None:
        return None
    if not isinstance(given, dict):
        raise errors.wrong_type("output_expires_after", expected="an object", value=given)
    return read_life(given.get("anchor"), given.get("seconds"), param="output_expires_after")


def _check_pace(tx: sqlite3.Connection, *, now: float, most: int) -> None:
    recent = tx.execute("SELECT COUNT(*) FROM batch WHERE created_at > ?", (now - 3_600,)).fetchone()[0]
    if recent >= most:
        message = f"Rate limit reached for batch creation in organization org-sandbox: Limit {most} batches per hour."
        raise ApiError(429, message, type="requests", code="rate_limit_exceeded")


def _no_such_batch(batch_id: str) -> ApiError:
    return ApiError(404, f"No batch found with id '{batch_id}'.")
