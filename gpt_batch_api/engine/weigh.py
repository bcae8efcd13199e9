"""Say whether a batch passed, once the task has seen all its answers."""

from __future__ import annotations

import sqlite3

from gpt_batch_api.domain.events import Advice
from gpt_batch_api.engine.context import Context
from gpt_batch_api.store import batches, responses


def weigh_batches(context: Context, tx: sqlite3.Connection) -> None:
    """Weigh the batches that can be weighed now; bad ones in a row are counted, and too many stop the run."""
    for batch_id, requests, free in batches.unweighed(tx):
        good = responses.succeeded_of_batch(tx, batch_id)
        passed = has_passed(requests, good=good, free=free, min_pass_ratio=context.settings.requester.min_pass_ratio)
        batches.note_passed(tx, batch_id, passed=passed)
        context.bad_batches = 0 if passed else context.bad_batches + 1
        if not passed:
            context.tell(
                Advice(
                    text=f"Batch {batch_id} has not passed: {good:,} of {requests:,} requests succeeded "
                    f"(min_pass_ratio is {context.settings.requester.min_pass_ratio:g})."
                )
            )


def has_passed(requests: int, *, good: int, free: int, min_pass_ratio: float) -> bool:
    """Expired requests count as passed, but somebody else must have succeeded, if anybody ran at all."""
    if requests == free:
        return True
    return good > 0 and good + free >= min_pass_ratio * requests
