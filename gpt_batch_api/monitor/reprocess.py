"""What a reprocess would change, in lines that a person can read, and as a document that a script can."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from gpt_batch_api.domain.words import count
from gpt_batch_api.planning.reprocess import Change, Preview
from gpt_batch_api.pricing.cost import dollars

_WIDEST = 160
"""So many characters of a row are shown."""


def preview_lines(preview: Preview, *, prefix: str) -> list[str]:
    """What would change, for people."""
    return list(_lines(preview, prefix))


def preview_document(preview: Preview, *, prefix: str, applied: bool) -> dict[str, Any]:
    """The same facts for scripts. Money in whole picodollars."""
    tally = preview.tally
    return {
        "task": prefix,
        "applied": applied,
        "samples": {"shown": tally.samples, "changed": tally.changed, "without_answers": preview.lost},
        "answers": tally.answers,
        "rows": {"added": tally.rows_added, "removed": tally.rows_removed, "changed": tally.rows_changed},
        "states_changed": tally.states,
        "requests": [
            {"now": str(now), "then": str(then), "requests": number} for (now, then), number in tally.endings.items()
        ],
        "to_ask": {
            "follow_ups": tally.asks.follow_ups,
            "retries": tally.asks.retries,
            "expected_cost_pico": tally.asks.expected_cost_pico,
        },
        "unfinished": preview.unfinished,
        "examples": [
            {"sample": change.key, "removed": _parsed(change.taken), "added": _parsed(change.given)}
            for change in tally.examples
        ],
    }


def _lines(preview: Preview, prefix: str) -> Iterator[str]:
    tally = preview.tally
    yield (
        f"Task {prefix}: {count(tally.answers, 'stored answer')} of {count(tally.samples, 'sample')} shown to the present "
        "task code"
    )
    if preview.lost:
        yield f"  left out   {count(preview.lost, 'sample')} whose answers were not kept (keep_responses was off)"
    if preview.unfinished:
        yield "  unfinished answers or rows of an earlier run are still to be processed"
    yield f"  samples    {tally.changed:,} of {tally.samples:,} would change"
    if tally.changed:
        yield f"  rows       {tally.rows_added:,} added, {tally.rows_removed:,} removed, {tally.rows_changed:,} changed"
    if tally.states:
        yield f"  states     {count(tally.states, 'sample')} with another state"
    for (now, then), number in tally.endings.items():
        yield f"  requests   {number:,} {now} → {then}"
    if tally.asks.requests:
        yield (
            f"  to ask     {count(tally.asks.follow_ups, 'follow-up')} and {tally.asks.retries:,} again, about "
            f"{dollars(tally.asks.expected_cost_pico)} in batches; the next run asks them, not the reprocess"
        )
    for change in tally.examples:
        yield from _example(change)


def _example(change: Change) -> Iterator[str]:
    rows = [*(f"- {_short(row)}" for row in change.taken[:2]), *(f"+ {_short(row)}" for row in change.given[:2])]
    yield f"  example    {change.key!r}" + ("" if rows else ": no other rows")
    for row in rows:
        yield f"             {row}"


def _parsed(rows: Sequence[str]) -> list[Any]:
    return [json.loads(row) for row in rows]


def _short(text: str) -> str:
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"
