"""Decide about a failed batch or group of direct calls, as the user allowed.

Its held requests are asked again, or count as failed.
"""

from __future__ import annotations

from gpt_batch_api.domain.events import HeldDecided
from gpt_batch_api.domain.outcome import Source, Verdict
from gpt_batch_api.engine.context import Context
from gpt_batch_api.planning.retrying import may_retry
from gpt_batch_api.store import batches, direct, responses
from gpt_batch_api.store.responses import HeldRequest

PAGE = 1000


def waiting(context: Context) -> tuple[Source, ...]:
    """The failed batches and groups that wait for the user, batches first."""
    return (
        *(Source("batch", batch.id) for batch in batches.with_open_failure(context.db)),
        *(Source("group", group.id) for group in direct.with_open_failure(context.db)),
    )


def decide(context: Context, source: Source) -> None:
    """Force-process one of them (`process_failed_batches`, `retry_fatal_requests`)."""
    retried = failed = 0
    now = context.clock.now()
    with context.transaction() as tx:
        while held := responses.held_of(tx, source, limit=PAGE):
            again = [request for request in held if _may_go_again(context, request)]
            done = [request for request in held if not _may_go_again(context, request)]
            responses.release_held(tx, again, retry=True, now=now)
            responses.release_held(tx, done, retry=False, now=now)
            retried += len(again)
            failed += len(done)
        (batches if source.kind == "batch" else direct).decide_failure(tx, source.id)
        context.tell(HeldDecided(what=str(source), retried=retried, failed=failed))
    context.failures_processed += 1


def allowed(context: Context) -> int:
    """How many failed batches may still be force-processed in this run."""
    most = context.settings.requester.process_failed_batches
    return 10**9 if most < 0 else max(0, most - context.failures_processed)


def stop_message(context: Context) -> str:
    """The one clear message with which a run stops at failed batches."""
    found = waiting(context)
    more = f" ({len(found) - 1} more failed batches wait.)" if len(found) > 1 else ""
    reasons = [batch.failure for batch in batches.with_open_failure(context.db)]
    reasons += [group.failure for group in direct.with_open_failure(context.db)]
    return (
        f"{found[0]} failed: {reasons[0]}.{more} All its good answers are safe; nothing new is sent. Look at the "
        f"reason, then run again with --process_failed_batches {len(found)} to count the bad requests as failed, with "
        "--retry_fatal_requests as well to ask them again, or with --wipe_requests after correcting the requests."
    )


def _may_go_again(context: Context, request: HeldRequest) -> bool:
    wanted = context.settings.requester.retry_fatal_requests or request.outcome.verdict is not Verdict.FATAL
    return wanted and may_retry(attempt=request.attempt, policy=context.retrying)
