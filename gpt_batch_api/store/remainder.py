"""What is done of a task, and what is left of it: all that an estimate of the rest is made of.

The only reading of the store that looks at many requests, so it is for commands, not for the steps of a run. What is
done is learnt from whole samples, at most some tens of thousands of them, evenly taken.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from gpt_batch_api.domain.outcome import Usage
from gpt_batch_api.domain.request import Kind, Load
from gpt_batch_api.domain.states import BatchState, RequestState
from gpt_batch_api.planning.forecast import Asked, FollowUps, Known, Left
from gpt_batch_api.store import batches, requests
from gpt_batch_api.store.requests import KIND

MOST_SAMPLES = 20_000

_KIND = ", ".join(f"request.{name}" for name in KIND.split(", "))
_LEFT = "state IN ('queued', 'batched', 'sending')"
_FINAL = "('succeeded', 'failed')"


def known(db: sqlite3.Connection) -> Known:
    """What is finished, as far as it is looked at, and what is left."""
    step = _step(db)
    return Known(asked=_asked(db, step), left=_by_kind(db, _LEFT), follow_ups=_follow_ups(db, step))


def _by_kind(db: sqlite3.Connection, where: str) -> list[Left]:
    rows = db.execute(f"SELECT count(*), sum(input_tokens), {KIND} FROM request WHERE {where} GROUP BY {KIND}")
    return [Left(Kind(*kind), requests, tokens) for requests, tokens, *kind in rows]


def _follow_ups(db: sqlite3.Connection, step: int) -> FollowUps:
    asked = _by_kind(db, "asked_by_task = 1")
    if not asked:
        return FollowUps()
    by_sample = db.execute(
        "SELECT sample_id, sum(asked_by_task) FROM request WHERE sample_id % ? = 0 "
        f"GROUP BY sample_id HAVING sum(asked_by_task = 0 AND state NOT IN {_FINAL}) = 0",
        (step,),
    )
    return FollowUps(
        asked,
        dict(by_sample.fetchall()),
        db.execute(
            f"SELECT count(DISTINCT sample_id) FROM request WHERE asked_by_task = 0 AND state NOT IN {_FINAL}"
        ).fetchone()[0],
    )


def _step(db: sqlite3.Connection) -> int:
    """Every how-manieth sample is looked at."""
    newest = db.execute("SELECT coalesce(max(id), 0) FROM sample").fetchone()[0]
    finished = db.execute("SELECT coalesce(sum(samples), 0) FROM sample_tally WHERE status <> 'pending'").fetchone()[0]
    return 1 if finished <= MOST_SAMPLES else max(1, min(newest, finished) // MOST_SAMPLES)


def _asked(db: sqlite3.Connection, step: int) -> list[Asked]:
    rows = db.execute(
        "SELECT request.id, sample_id, state NOT IN ('queued', 'batched', 'sending'), request.input_tokens, "
        f"{_KIND}, response.input_tokens, response.cached_tokens, response.cache_write_tokens, response.output_tokens, "
        "response.reasoning_tokens FROM request JOIN response ON request_id = request.id "
        "WHERE verdict NOT IN ('free', 'account') AND (response.batch_id IS NOT NULL OR group_id IS NOT NULL) "
        "AND sample_id % ? = 0 ORDER BY request.id, try",
        (step,),
    )
    found: dict[int, Asked] = {}
    for request_id, sample_id, final, tokens, *rest in rows:
        before = found[request_id].tries if request_id in found else ()
        found[request_id] = Asked(sample_id, Kind(*rest[:5]), tokens, (*before, Usage(*rest[5:])), bool(final))
    return list(found.values())


@dataclass(frozen=True)
class Standing:
    """Where requests without a final result stand."""

    queued: dict[tuple[str, str], Load]
    """By endpoint and model."""
    local: dict[str, list[Load]]
    """Local batches by model."""
    on_server: dict[str, list[Load]]
    """Batches that are being pushed, run, or have ended, by model."""
    answered: int
    """Paid for, not processed yet."""
    held: int


def standing(db: sqlite3.Connection) -> Standing:
    """Where the requests stand now; told by tallies and batches."""
    states = requests.state_loads(db)
    local: dict[str, list[Load]] = {}
    on_server: dict[str, list[Load]] = {}
    for batch in batches.in_states(db, BatchState.SEALED):
        local.setdefault(batch.model, []).append(batch.load)
    for batch in batches.in_states(db, BatchState.PUSHING, BatchState.REMOTE, BatchState.ENDED):
        on_server.setdefault(batch.model, []).append(batch.load)
    return Standing(
        queued=requests.queue_loads(db),
        local=local,
        on_server=on_server,
        answered=states[RequestState.ANSWERED].requests,
        held=states[RequestState.HELD].requests,
    )
