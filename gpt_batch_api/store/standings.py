"""How the samples of some keys stand: for results in the order of the user's rows, a page at a time."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpt_batch_api.domain.outcome import Usage
from gpt_batch_api.domain.states import RequestState
from gpt_batch_api.store import requests
from gpt_batch_api.store.connection import is_new, reading


@dataclass(frozen=True)
class Standing:
    """The one request of a sample: where it is, what it led to, what it cost with all its attempts."""

    request_id: int
    state: RequestState
    attempts: int
    reason: str
    """Why it failed or is held; empty otherwise."""
    message: str
    row: str | None
    """The output row that its answer made, as JSON text."""
    usage: Usage
    cost_pico: int


def look_up(path: Path, keys: Sequence[str]) -> dict[str, Standing]:
    """Those of *keys* that have been asked about, in the store at *path*, which another process may be writing."""
    if not path.exists():
        return {}
    with reading(path) as db:
        if is_new(db):
            return {}
        rows = db.execute(_LOOK_UP, (json.dumps(keys),))
        return {row["key"]: _standing(row) for row in rows}


def payload_of(path: Path, request_id: int) -> bytes:
    """What a request asked, as JSON."""
    with reading(path) as db:
        return requests.body(db, request_id)


_SUMS = "input_tokens cached_tokens cache_write_tokens output_tokens reasoning_tokens cost_pico".split()

_LOOK_UP = f"""
SELECT key, request.id, request.state, request.attempt, coalesce(request.reason, '') AS reason,
    (SELECT coalesce(task_message, message) FROM response WHERE request_id = request.id ORDER BY try DESC LIMIT 1) AS message,
    (SELECT row FROM output WHERE request_id = request.id ORDER BY id DESC LIMIT 1) AS row,
    {", ".join(f"(SELECT coalesce(sum({name}), 0) FROM response WHERE request_id = request.id) AS {name}" for name in _SUMS)}
FROM sample JOIN request ON sample_id = sample.id AND purpose = '' AND number = 0
WHERE key IN (SELECT value FROM json_each(?))
"""


def _standing(row: sqlite3.Row) -> Standing:
    state = RequestState(row["state"])
    told = state in (RequestState.FAILED, RequestState.HELD)
    return Standing(
        request_id=row["id"],
        state=state,
        attempts=row["attempt"],
        reason=row["reason"] if told else "",
        message=(row["message"] or "") if told else "",
        row=row["row"] if state is RequestState.SUCCEEDED else None,
        usage=Usage(*(row[name] for name in _SUMS[:-1])),
        cost_pico=row["cost_pico"],
    )
