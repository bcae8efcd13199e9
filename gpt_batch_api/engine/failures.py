"""Decide about a failed batch, as the user allowed: its held requests are asked again, or count as failed."""

from __future__ import annotations

from gpt_batch_api.domain.events import HeldDecided
from gpt_batch_api.domain.outcome import Verdict
from gpt_batch_api.engine.context import Context
from gpt_batch_api.planning.retrying import may_retry
from gpt_batch_api.store import batches, responses
from gpt_batch_api.store.responses import HeldRequest

PAGE = 1000


def decide(context: Context, batch_id: int) -> None:
    """Force-process one failed batch (`process_failed_batches`, `retry_fatal_requests`)."""
    retried = failed = 0
    with context.transaction() as tx:
        while held := responses.held_of_batch(tx, batch_id, limit=PAGE):
            again = [request for request in held if _may_go_again(context, request)]
            done = [request for request in held if not _may_go_again(context, request)]
            responses.release_held(tx, again, retry=True)
            responses.release_held(tx, done, retry=False)
            retried += len(again)
            failed += len(done)
        batches.decide_failure(tx, batch_id)
        context.tell(HeldDecided(batch=batch_id, retried=retried, failed=failed))
    context.failures_processed += 1


def allowed(context: Context) -> int:
    """How many failed batches may still be force-processed in this run."""
    most = context.settings.requester.process_failed_batches
    return 10**9 if most < 0 else max(0, most - context.failures_processed)


def stop_message(context: Context) -> str:
    """The one clear message with which a run stops at failed batches."""
    failed = batches.with_open_failure(context.db)
    first = failed[0]
    more = f" ({len(failed) - 1} more failed batches wait.)" if len(failed) > 1 else ""
    return (
        f"Batch {first.id} failed: {first.failure}.{more} All its good answers are safe; nothing new is sent. Look at the "
        f"reason, then run again with --process_failed_batches {len(failed)} to count the bad requests as failed, with "
        "--retry_fatal_requests as well to ask them again, or with --wipe_requests after correcting the requests."
    )


def _may_go_again(context: Context, request: HeldRequest) -> bool:
    wanted = context.settings.requester.retry_fatal_requests or request.outcome.verdict is not Verdict.FATAL
    return wanted and may_retry(attempt=request.attempt, policy=context.retrying)
