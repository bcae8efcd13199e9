"""The state of a task in a few lines that a person can read, and as a document that a script can."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from fractions import Fraction
from typing import Any

from gpt_batch_api.domain.states import BatchState
from gpt_batch_api.domain.words import count
from gpt_batch_api.monitor.facts import Facts
from gpt_batch_api.monitor.figures import ON_SERVER
from gpt_batch_api.monitor.summary import advice, suggestions, summary_lines
from gpt_batch_api.monitor.waiting import waits
from gpt_batch_api.planning.admission import Limits
from gpt_batch_api.pricing.cost import dollars
from gpt_batch_api.store.batches import BatchRow
from gpt_batch_api.store.snapshot import Snapshot
from gpt_batch_api.store.spending import summed
from gpt_batch_api.tokens.calibrate import Suggestion

MOST_KINDS = 5
"""So many kinds of requests are told of in the status at most, those with the most answers; a document has all."""

MOST_WAITS = 8


def status_lines(facts: Facts, *, prefix: str) -> list[str]:
    """The status of a task for people: the summary, and then what stands behind it."""
    parts = (_under_way, _batches, _waits, _advice, _spending, _limits, _failures)
    return [*summary_lines(facts, prefix=prefix), *(line for part in parts for line in part(facts))]


def total_line(snapshots: Sequence[Snapshot]) -> str:
    """Several tasks in one line."""
    complete = sum(snapshot.task.complete for snapshot in snapshots)
    on_server = sum(len(each.batches_in(BatchState.PUSHING, BatchState.REMOTE, BatchState.ENDED)) for each in snapshots)
    spent, reserved = (
        sum(getattr(each.booked, name) for each in snapshots) for name in ("spent_pico", "reserved_pico")
    )
    return (
        f"{count(len(snapshots), 'task')}, {complete:,} complete; {count(on_server, 'batch')} on the server; "
        f"{dollars(spent)} spent, {dollars(reserved)} reserved"
    )


def status_document(facts: Facts, *, prefix: str) -> dict[str, Any]:
    """The same facts for scripts. Money in whole picodollars, times in seconds since 1970."""
    snapshot = facts.snapshot
    booked, answered = snapshot.booked, snapshot.answered
    return {
        "task": prefix,
        "begun": True,
        "kind": snapshot.task.kind,
        "complete": snapshot.task.complete,
        "wiping": snapshot.task.wiping,
        "metadata": snapshot.task.metadata,
        "samples": dict(snapshot.samples),
        "requests": {
            "asked": snapshot.asked,
            "under_way": snapshot.under_way,
            **{str(state): load.requests for state, load in snapshot.states.items()},
        },
        "batches": {
            "finished": snapshot.finished_batches,
            "active": [_batch_document(batch) for batch in snapshot.active],
            "failed": [batch.id for batch in snapshot.failures],
        },
        "waits": [{"what": found.what, "for": list(found.reasons)} for found in waits(snapshot, facts.settings)],
        "direct": {"failed_groups": [group.id for group in snapshot.failed_groups]},
        "tokens": {
            "input": answered.input_tokens,
            "completion": answered.output_tokens,
            "longest_completion": answered.longest_output_tokens,
            "completion_ratio": answered.completion_ratio,
            "kinds": [_kind_document(found, snapshot) for found in suggestions(snapshot)],
        },
        "money": {
            "spent_pico": booked.spent_pico,
            "reserved_pico": booked.reserved_pico,
            "unlinked_pico": booked.unlinked_pico,
            "expected_pico": answered.expected_cost_pico,
            "archived_pico": snapshot.archived.spent_pico,
            "spending": [
                {
                    "model": line.model,
                    "road": line.road,
                    "attempt": line.attempt,
                    "verdict": line.verdict,
                    "reason": line.reason,
                    **asdict(line.spent),
                }
                for line in snapshot.spending
            ],
        },
        "learnt_limits": {
            model: {
                "enqueued_tokens": limit.enqueued_tokens,
                "enqueued_now": _enqueued(snapshot, model),
                "learnt_at": limit.learnt_at,
            }
            for model, limit in snapshot.learnt_limits.items()
        },
        "pushed": {"requests": booked.requests, "input_tokens": booked.input_tokens},
        "figures": dict(facts.numbers),
        "output": {"rows": snapshot.rows, "files": [part.file_name for part in snapshot.delivered]},
    }


def _batch_document(batch: BatchRow) -> dict[str, Any]:
    return {
        "batch": batch.id,
        "state": str(batch.state),
        "remote_id": batch.remote_id,
        "status": batch.remote_status,
        "requests": batch.load.requests,
        "completed": batch.count_completed,
        "failed": batch.count_failed,
        "input_tokens": batch.load.input_tokens,
        "expected_cost_pico": batch.load.cost_pico,
    }


def _under_way(facts: Facts) -> Iterator[str]:
    ways = {
        "queued": "queued",
        "in batches": "batched",
        "sending": "sending",
        "waiting for identical ones": "twin",
        "answered, not processed": "answered",
    }
    told = [f"{number:,} {words}" for words, name in ways.items() if (number := facts[f"requests/{name}"])]
    if told:
        yield "  under way  " + ", ".join(told)


def _batches(facts: Facts) -> Iterator[str]:
    local, remote = facts.snapshot.batches_in(BatchState.SEALED), facts.snapshot.batches_in(*ON_SERVER)
    yield (
        f"  batches    {facts['batches/local']:,} local, {facts['batches/remote']:,} on the server, "
        f"{facts['batches/finished']:,} finished"
    )
    for batch in [*local, *remote][:20]:
        done = f", {batch.count_completed or 0:,} done" if batch.count_total else ""
        where = f"{batch.remote_id} {batch.remote_status}" if batch.remote_id else batch.file_name
        yield (
            f"             batch {batch.id}: {batch.state}, {count(batch.load.requests, 'request')}{done}, "
            f"{batch.load.input_tokens:,} tokens, {dollars(batch.load.cost_pico)} ({where})"
        )


def _waits(facts: Facts) -> Iterator[str]:
    found = waits(facts.snapshot, facts.settings)
    for waiting in found[:MOST_WAITS]:
        yield f"  waits      {waiting.what} for {'; '.join(waiting.reasons)}"
    if len(found) > MOST_WAITS:
        yield f"             … and {len(found) - MOST_WAITS:,} more"


def _advice(facts: Facts) -> Iterator[str]:
    """That for the kind with the most answers stands in the summary."""
    for found in suggestions(facts.snapshot)[1:MOST_KINDS]:
        yield from advice(found, facts.snapshot)


def _kind_document(found: Suggestion, snapshot: Snapshot) -> dict[str, Any]:
    kind, lengths = found.kind, found.lengths
    return {
        "endpoint": kind.endpoint,
        "model": kind.model,
        "schema": None if kind.schema_id is None else snapshot.schema_names.get(kind.schema_id),
        "max_completion_tokens": kind.max_output_tokens,
        "answers": lengths.answers,
        "completion_tokens": {
            "mean": float(lengths.mean),
            **{f"p{percent}": lengths.quantile(Fraction(percent, 100)) for percent in (50, 90, 95, 99)},
            "longest": lengths.longest,
        },
        "cut_off": lengths.cut_off,
        "completion_ratio": float(found.present_ratio),
        "suggested": {"max_completion_tokens": found.max_output_tokens, "completion_ratio": float(found.ratio)},
    }


def _spending(facts: Facts) -> Iterator[str]:
    """What went where, if there is more than one place; and what was spent in vain."""
    snapshot = facts.snapshot
    booked = snapshot.booked
    if booked.unlinked_pico:
        yield (
            f"  spent on   {dollars(booked.unlinked_pico)} with no answer to show for it (lost replies of direct calls, wiped "
            "batches, vanished results)"
        )
    if snapshot.archived.spent_pico:
        yield f"  archived   {dollars(snapshot.archived.spent_pico)} spent before the task was wiped"
    lines = snapshot.spending
    paid = [line for line in lines if line.spent.cost_pico]
    places = summed(paid, lambda line: f"{line.model} {'in batches' if line.road == 'batch' else 'by direct calls'}")
    if len(places) > 1:
        yield "  spent on   " + ", ".join(f"{dollars(spent.cost_pico)} {name}" for name, spent in places.items())
    bad = summed([line for line in lines if not line.good and line.spent.cost_pico], lambda line: line.reason)
    total = sum(line.spent.cost_pico for line in lines)
    again = sum(line.spent.cost_pico for line in lines if line.attempt > 1)
    if bad and total:
        cost = sum(spent.cost_pico for spent in bad.values())
        reasons = ", ".join(f"{name} {dollars(spent.cost_pico)} ({spent.answers:,})" for name, spent in bad.items())
        yield f"  spent on   {dollars(cost)} ({cost / total:.1%}) for answers that were no good: {reasons}"
    if again:
        attempts = summed([line for line in lines if line.attempt > 1], lambda line: line.attempt)
        told = ", ".join(
            f"{dollars(spent.cost_pico)} at attempt {number}" for number, spent in sorted(attempts.items())
        )
        yield f"  spent on   {dollars(again)} ({again / total:.1%}) for retries: {told}"


def _limits(facts: Facts) -> Iterator[str]:
    snapshot = facts.snapshot
    limits = Limits.of(facts.settings)
    booked = snapshot.booked
    task = limits.task
    yield (
        f"  limits     task: {booked.requests:,} of {task.requests:,} requests, "
        f"{booked.input_tokens / 1000:,.0f} of {task.input_tokens / 1000:,.0f} ktokens, "
        f"{dollars(booked.cost_pico)} of {dollars(task.cost_pico)}"
    )
    remote = snapshot.batches_in(BatchState.PUSHING, BatchState.REMOTE)
    tokens = sum(batch.load.input_tokens for batch in remote)
    yield (
        f"             server: {len(remote):,} of {limits.remote.batches:,} batches, {tokens / 1000:,.0f} of "
        f"{limits.remote.input_tokens / 1000:,.0f} ktokens"
    )
    for model, limit in snapshot.learnt_limits.items():
        yield (
            f"             learnt: the server admits {limit.enqueued_tokens:,} enqueued prompt tokens of {model} "
            f"({_enqueued(snapshot, model):,} now; it said so on {_moment(limit.learnt_at)})"
        )


def _enqueued(snapshot: Snapshot, model: str) -> int:
    """Prompt tokens of *model* in batches that the server has not finished."""
    there = snapshot.batches_in(BatchState.PUSHING, BatchState.REMOTE)
    return sum(batch.load.input_tokens for batch in there if batch.model == model)


def _moment(at: float) -> str:
    return f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%Y-%m-%d %H:%M} UTC"


def _failures(facts: Facts) -> Iterator[str]:
    for batch in facts.snapshot.failures:
        yield f"  FAILED     batch {batch.id}: {batch.failure}"
    for group in facts.snapshot.failed_groups:
        yield f"  FAILED     direct group {group.id}: {group.failure}"
