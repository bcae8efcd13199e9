"""Forget parts of a task. Money spent is never forgotten.

Wipes work by sample. A sample that loses a request is *reset*: its task state and its rows go, and the stored answers
of its remaining requests are handed to the task's code again. Where such an answer was not kept, all its requests go,
and the generator will ask them anew. An answer that is booked but was not seen by the task's code yet is paid for, so
it is kept. By now the server is clean (see `engine/wipe.py`): no batch is under way.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpt_batch_api.store import ledger, samples, tasks
from gpt_batch_api.store.codec import drop_unused_content
from gpt_batch_api.store.replay import show_again


@dataclass(frozen=True)
class Wiped:
    """What a wipe took back."""

    requests: int = 0
    samples: int = 0
    rows: int = 0
    to_replay: int = 0
    cost_pico: int = 0
    """What the forgotten answers have cost."""


@dataclass(frozen=True)
class Loss:
    """What a wipe would forget."""

    kind: str
    """An unfinished wipe that is greater than the wanted one is what is done."""
    wiped: Wiped
    batches_on_server: int
    """They are cancelled there; what they have done by then is paid, and thrown away."""
    reserved_pico: int
    local_batches: int
    on_server: bool
    """Whether anything of the task may be on the server."""
    sandboxed: bool
    """Whether that server is the task's own sandbox, which runs only while the task does."""


KINDS = ("requests", "failed", "task")
"""From the least to the greatest: each forgets all that the one before does."""


def greatest(*kinds: str | None) -> str | None:
    """The greatest of some wipes; None if there is none."""
    return max((kind for kind in kinds if kind is not None), key=KINDS.index, default=None)


def begin(tx: sqlite3.Connection, kind: str) -> None:
    """Commit to a wipe: a later run continues it. One that was begun before never becomes a smaller one.

    Late answers no longer match.
    """
    kind = greatest(tasks.get_task(tx).wiping, kind) or kind
    tx.execute("UPDATE task SET wiping = ?, epoch = epoch + 1, complete = 0", (kind,))


def discard_batches(tx: sqlite3.Connection) -> None:
    """What is on the server will be booked and thrown away; failures are no longer anybody's concern."""
    tx.execute("UPDATE batch SET discard = 1 WHERE state IN ('pushing', 'remote', 'ended')")
    tx.execute("UPDATE batch SET failure_open = 0 WHERE failure_open = 1")
    tx.execute("UPDATE direct_group SET failure_open = 0 WHERE failure_open = 1")


def finish(tx: sqlite3.Connection, kind: str, *, metadata: Mapping[str, Any], session_id: int, now: float) -> Wiped:
    """Forget what *kind* says and end the wipe. A task that starts from scratch captures *metadata*."""
    if kind == "task":
        wiped = _forget_task(tx)
        tasks.replace_metadata(tx, metadata)
    else:
        wiped = _forget_open(tx, failed_too=kind == "failed", session_id=session_id, now=now)
    tx.execute("UPDATE task SET wiping = NULL")
    return wiped


_OPEN = "state IN ('queued', 'batched', 'sending', 'twin', 'held')"
"""Requests that have no answer to show to the task's code."""


def _forget_open(tx: sqlite3.Connection, *, failed_too: bool, session_id: int, now: float) -> Wiped:
    tx.execute("CREATE TEMP TABLE IF NOT EXISTS touched (sample_id INTEGER PRIMARY KEY, whole INTEGER NOT NULL)")
    tx.execute("DELETE FROM temp.touched")
    tx.execute(
        "INSERT INTO temp.touched SELECT id, "
        "(? AND failed > 0) OR EXISTS (SELECT 1 FROM request JOIN response ON request_id = request.id AND try = tries "
        "WHERE request.sample_id = sample.id AND request.state IN ('succeeded', 'failed') "
        "AND response.verdict = 'success' "
        "AND NOT EXISTS (SELECT 1 FROM raw_response WHERE response_id = response.id)) "
        f"FROM sample WHERE (open > 0 AND EXISTS (SELECT 1 FROM request WHERE sample_id = sample.id AND {_OPEN})) "
        "OR (? AND failed > 0)",
        (failed_too, failed_too),
    )
    doomed = f"SELECT request.id FROM request JOIN temp.touched USING (sample_id) WHERE whole OR {_OPEN}"
    cost: int = tx.execute(
        f"SELECT coalesce(sum(cost_pico), 0) FROM response WHERE request_id IN ({doomed})"
    ).fetchone()[0]
    # Batches that lose answers are not weighed any more: what is left says nothing about whether they passed.
    tx.execute(
        "UPDATE batch SET passed = 1 WHERE passed IS NULL AND id IN "
        f"(SELECT batch_id FROM response WHERE request_id IN ({doomed}))"
    )
    rows = samples.take_back_rows(tx)
    requests = tx.execute(f"DELETE FROM request WHERE id IN ({doomed})").rowcount
    tx.execute("UPDATE sample SET state = NULL WHERE id IN (SELECT sample_id FROM temp.touched)")
    replayed = show_again(tx, "request.sample_id IN (SELECT sample_id FROM temp.touched)")
    touched = tx.execute("SELECT count(*) FROM temp.touched").fetchone()[0]
    tx.execute(
        "DELETE FROM sample WHERE id IN (SELECT sample_id FROM temp.touched) "
        "AND NOT EXISTS (SELECT 1 FROM request WHERE sample_id = sample.id)"
    )
    tx.execute(
        "UPDATE direct_group SET passed = 1 WHERE passed IS NULL AND closed_at IS NOT NULL "
        "AND NOT EXISTS (SELECT 1 FROM response WHERE group_id = direct_group.id AND handed = 0)"
    )
    if cost:
        ledger.book(tx, "wipe", now=now, session_id=session_id, unlinked_pico=cost, note=f"{requests} requests wiped")
    return Wiped(requests=requests, samples=touched, rows=rows, to_replay=replayed, cost_pico=cost)


def _forget_task(tx: sqlite3.Connection) -> Wiped:
    requests: int = tx.execute("SELECT count(*) FROM request").fetchone()[0]
    forgotten: int = tx.execute("SELECT count(*) FROM sample").fetchone()[0]
    rows: int = tx.execute("SELECT count(*) FROM output").fetchone()[0]
    cost = ledger.task_total(tx).spent_pico
    for table in (
        "output", "raw_response", "response", "payload", "request", "sample", "response_schema",
        "direct_call", "direct_group", "server_file", "push", "batch", "delivery", "event", "model_limit",
        "answer_length", "answer_kind",
    ):  # fmt: skip
        tx.execute(f"DELETE FROM {table}")
    drop_unused_content(tx)
    for table in ("tally", "sample_tally", "spending", "bad_end", "settled"):
        tx.execute(f"DELETE FROM {table}")
    tx.execute(
        "UPDATE task SET era = era + 1, generation = generation + 1, server = NULL, complete = 0, postprocessed = NULL"
    )
    return Wiped(requests=requests, samples=forgotten, rows=rows, cost_pico=cost)
