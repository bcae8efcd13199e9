"""Every figure of the facts, counted anew from single rows: no tally, no trigger, nothing that the library reads."""

from __future__ import annotations

import sqlite3

_GOOD = "coalesce(task_verdict, verdict) = 'success'"
_RAN = "coalesce(task_verdict, verdict) NOT IN ('free', 'account')"
_BY_SAMPLE = (
    "SELECT sum(request.state NOT IN ('succeeded', 'failed')) AS open, sum(request.state = 'succeeded') AS s, "
    "sum(request.state = 'failed') AS f FROM sample LEFT JOIN request ON sample_id = sample.id GROUP BY sample.id"
)
_ERA = "era = (SELECT era FROM task)"
_SESSION = f"{_ERA} AND session_id = (SELECT max(id) FROM session)"
_SETTLED = "batch WHERE settled_at IS NOT NULL AND discard = 0"
_IN_LOCAL = "request JOIN batch ON batch.id = batch_id WHERE batch.state = 'sealed'"
_THERE = "batch WHERE state IN ('pushing', 'remote', 'ended')"

ONE_BY_ONE = {
    "task/complete": "SELECT complete FROM task",
    "session/number": "SELECT max(id) FROM session",
    "samples/total": "SELECT count(*) FROM sample",
    "samples/pending": f"SELECT count(*) FROM ({_BY_SAMPLE}) WHERE open > 0",
    "samples/succeeded": f"SELECT count(*) FROM ({_BY_SAMPLE}) WHERE open = 0 AND s > 0 AND f = 0",
    "samples/failed": f"SELECT count(*) FROM ({_BY_SAMPLE}) WHERE open = 0 AND s = 0 AND f > 0",
    "samples/mixed": f"SELECT count(*) FROM ({_BY_SAMPLE}) WHERE open = 0 AND s > 0 AND f > 0",
    "requests/total": "SELECT count(*) FROM request",
    "requests/under_way": "SELECT count(*) FROM request WHERE state NOT IN ('succeeded', 'failed', 'held')",
    "requests/done_share": "SELECT avg(state IN ('succeeded', 'failed')) FROM request",
    "batches/local": "SELECT count(*) FROM batch WHERE state = 'sealed'",
    "batches/remote": f"SELECT count(*) FROM {_THERE}",
    "batches/finished": f"SELECT count(*) FROM {_SETTLED}",
    "batches/failed": "SELECT (SELECT count(*) FROM batch WHERE failure_open) + "
    "(SELECT count(*) FROM direct_group WHERE failure_open)",
    "batches/local_requests": f"SELECT count(*) FROM {_IN_LOCAL}",
    "batches/local_bytes": f"SELECT coalesce(sum(request.size_bytes), 0) FROM {_IN_LOCAL}",
    "batches/local_input_tokens": f"SELECT coalesce(sum(request.input_tokens), 0) FROM {_IN_LOCAL}",
    "batches/remote_requests": f"SELECT coalesce(sum(requests), 0) FROM {_THERE}",
    "batches/remote_bytes": f"SELECT coalesce(sum(size_bytes), 0) FROM {_THERE}",
    "batches/remote_input_tokens": f"SELECT coalesce(sum(input_tokens), 0) FROM {_THERE}",
    "batches/remote_completed": f"SELECT coalesce(sum(count_completed), 0) FROM {_THERE}",
    "batches/remote_failed": f"SELECT coalesce(sum(count_failed), 0) FROM {_THERE}",
    "answers/total": "SELECT count(*) FROM response",
    "answers/good": f"SELECT count(*) FROM response WHERE {_GOOD}",
    "answers/not_run": f"SELECT count(*) FROM response WHERE NOT {_RAN}",
    "answers/retries": "SELECT count(*) FROM response WHERE attempt > 1",
    "answers/unknown": "SELECT (SELECT count(*) FROM response WHERE reason = 'lost_reply') + "
    "(SELECT coalesce(sum(data ->> 'count'), 0) FROM event WHERE kind = 'CallsUnknown')",
    "answers/pass_ratio": f"SELECT avg({_GOOD}) FROM response WHERE {_RAN}",
    "tokens/input": "SELECT coalesce(sum(input_tokens), 0) FROM response",
    "tokens/output": "SELECT coalesce(sum(output_tokens), 0) FROM response",
    "tokens/input_predicted": "SELECT coalesce(sum(request.input_tokens), 0) FROM response "
    "JOIN request ON request.id = request_id WHERE response.input_tokens > 0",
    "tokens/output_predicted": f"SELECT (SELECT coalesce(sum(answered_output_tokens), 0) FROM {_SETTLED}) + "
    "(SELECT coalesce(sum(expected_output_tokens), 0) FROM direct_group)",
    "tokens/cached": "SELECT coalesce(sum(cached_tokens), 0) FROM response",
    "tokens/cache_write": "SELECT coalesce(sum(cache_write_tokens), 0) FROM response",
    "tokens/reasoning": "SELECT coalesce(sum(reasoning_tokens), 0) FROM response",
    "tokens/longest_output": "SELECT coalesce(max(output_tokens), 0) FROM response",
    "tokens/completion_ratio": "SELECT sum(response.output_tokens) * 1.0 / sum(output_allowance) FROM response "
    "JOIN request ON request.id = request_id WHERE response.output_tokens > 0",
    "money/spent_pico": f"SELECT coalesce(sum(spent_pico), 0) FROM ledger WHERE {_ERA}",
    "money/reserved_pico": f"SELECT coalesce(sum(reserved_pico), 0) FROM ledger WHERE {_ERA}",
    "money/predicted_pico": f"SELECT (SELECT coalesce(sum(expected_cost_pico), 0) FROM {_SETTLED}) + "
    "(SELECT coalesce(sum(expected_cost_pico), 0) FROM direct_group)",
    "money/true_pico": "SELECT coalesce(sum(cost_pico), 0) FROM response",
    "money/unlinked_pico": f"SELECT coalesce(sum(unlinked_pico), 0) FROM ledger WHERE {_ERA}",
    "money/bad_pico": f"SELECT coalesce(sum(cost_pico), 0) FROM response WHERE NOT {_GOOD}",
    "money/retries_pico": "SELECT coalesce(sum(cost_pico), 0) FROM response WHERE attempt > 1",
    "money/archived_pico": f"SELECT coalesce(sum(spent_pico), 0) FROM ledger WHERE NOT {_ERA}",
    "money/session_spent_pico": f"SELECT coalesce(sum(spent_pico), 0) FROM ledger WHERE {_SESSION}",
    "money/session_reserved_pico": f"SELECT coalesce(sum(reserved_pico), 0) FROM ledger WHERE {_SESSION}",
    "pushed/task_requests": f"SELECT coalesce(sum(requests), 0) FROM ledger WHERE {_ERA}",
    "pushed/task_input_tokens": f"SELECT coalesce(sum(input_tokens), 0) FROM ledger WHERE {_ERA}",
    "pushed/session_requests": f"SELECT coalesce(sum(requests), 0) FROM ledger WHERE {_SESSION}",
    "pushed/session_input_tokens": f"SELECT coalesce(sum(input_tokens), 0) FROM ledger WHERE {_SESSION}",
    "output/rows": "SELECT coalesce(sum(rows), 0) FROM delivery",
    "output/files": "SELECT count(*) FROM delivery",
} | {
    f"requests/{state}": f"SELECT count(*) FROM request WHERE state = '{state}'"
    for state in ("succeeded", "failed", "held", "queued", "batched", "sending", "twin", "answered")
}  # fmt: skip
"""SQL over single rows for each figure that is a count or a sum of them. Holds for a store without wiped answers."""

BY_KIND = {
    "failed/": "SELECT reason, count(*) FROM request WHERE state = 'failed' GROUP BY 1",
    "held/": "SELECT reason, count(*) FROM request WHERE state = 'held' GROUP BY 1",
    "answers/bad/": f"SELECT coalesce(task_reason, reason), count(*) FROM response WHERE NOT {_GOOD} GROUP BY 1",
}


def recounted(db: sqlite3.Connection) -> dict[str, int | float]:
    """Every figure that rows tell; what they leave open (the share of nothing) is left out."""
    found = {name: db.execute(sql).fetchone()[0] for name, sql in ONE_BY_ONE.items()}
    for prefix, sql in BY_KIND.items():
        found |= {f"{prefix}{kind}": number for kind, number in db.execute(sql)}
    return {name: number for name, number in found.items() if number is not None}
