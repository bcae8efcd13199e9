"""Say whether a batch, or a group of direct calls, passed, once the task has seen all its answers."""

from __future__ import annotations

import sqlite3

from gpt_batch_api.domain.events import Advice
from gpt_batch_api.domain.outcome import Source
from gpt_batch_api.engine.context import Context
from gpt_batch_api.store import batches, direct, responses

LEAST_GROUP = 10
"""Fewer answers to direct calls say nothing about the run."""


def weigh(context: Context, tx: sqlite3.Connection) -> None:
    """Weigh what can be weighed now; what has not passed in a row is counted, and too many stop the run."""
    for batch_id, requests, free in batches.unweighed(tx):
        passed = _weigh(context, tx, Source("batch", batch_id), requests=requests, free=free)
        batches.note_passed(tx, batch_id, passed=passed)
    for group_id, requests, free in direct.unweighed(tx):
        small = requests < LEAST_GROUP
        passed = small or _weigh(context, tx, Source("group", group_id), requests=requests, free=free)
        direct.note_passed(tx, group_id, passed=passed)


def _weigh(context: Context, tx: sqlite3.Connection, source: Source, *, requests: int, free: int) -> bool:
    least = context.settings.requester.min_pass_ratio
    good = responses.succeeded_of(tx, source)
    passed = has_passed(requests, good=good, free=free, min_pass_ratio=least)
    context.bad_batches = 0 if passed else context.bad_batches + 1
    if not passed:
        text = f"{source} has not passed: {good:,} of {requests:,} requests succeeded (min_pass_ratio is {least:g})."
        context.tell(Advice(text=text))
    return passed


def has_passed(requests: int, *, good: int, free: int, min_pass_ratio: float) -> bool:
    """Expired requests count as passed, but somebody else must have succeeded, if anybody ran at all."""
    if requests == free:
        return True
    return good > 0 and good + free >= min_pass_ratio * requests
