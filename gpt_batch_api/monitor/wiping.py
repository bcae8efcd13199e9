"""What a wipe would forget, in lines that a person can read, and as a document that a script can."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gpt_batch_api.domain.words import count
from gpt_batch_api.pricing.cost import dollars
from gpt_batch_api.store.wipe import Loss

_WHAT = {
    "requests": "what is under way; finished results stay",
    "failed": "failed samples and what is under way; other results stay",
    "task": "everything, output files too, but the ledger",
}


def loss_lines(loss: Loss, *, prefix: str) -> list[str]:
    """What would be forgotten, for people."""
    return list(_lines(loss, prefix))


def loss_document(loss: Loss, *, prefix: str, done: bool) -> dict[str, Any]:
    """The same facts for scripts. Money in whole picodollars."""
    return {
        "task": prefix,
        "wipe": loss.kind,
        "done": done,
        "requests": loss.wiped.requests,
        "samples": loss.wiped.samples,
        "rows": loss.wiped.rows,
        "answers_to_show_again": loss.wiped.to_replay,
        "cost_pico": loss.wiped.cost_pico,
        "batches": {"local": loss.local_batches, "on_server": loss.batches_on_server},
        "reserved_pico": loss.reserved_pico,
    }


def _lines(loss: Loss, prefix: str) -> Iterator[str]:
    wiped = loss.wiped
    yield f"Task {prefix}: wiping {_WHAT[loss.kind]}"
    yield f"  requests   {wiped.requests:,} forgotten, {count(wiped.samples, 'sample')} concerned"
    yield f"  output     {count(wiped.rows, 'row')} taken back"
    yield f"  money      {dollars(wiped.cost_pico)} spent on what is forgotten; the ledger keeps it"
    if loss.local_batches:
        yield f"  local      {count(loss.local_batches, 'batch')} dissolved"
    if loss.batches_on_server:
        yield (
            f"  server     {count(loss.batches_on_server, 'batch')} cancelled; what they have done by then is paid "
            f"({dollars(loss.reserved_pico)} reserved), their answers are thrown away"
        )
    if wiped.to_replay:
        yield (
            f"  next run   {count(wiped.to_replay, 'stored answer')} shown to the task's code again, which brings rows and "
            "output file up to date"
        )
    elif loss.kind == "task":
        yield "  next run   starts from scratch with the metadata captured at first (others: --wipe_task of its own script)"
