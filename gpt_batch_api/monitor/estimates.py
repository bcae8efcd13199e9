"""An estimate in lines for people and as a document for scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from gpt_batch_api.domain.outcome import Road
from gpt_batch_api.domain.words import count
from gpt_batch_api.planning.estimate import Estimate
from gpt_batch_api.planning.forecast import CONFIDENCE, Interval
from gpt_batch_api.planning.schedule import ROUND_S
from gpt_batch_api.pricing.cost import dollars


def estimate_lines(found: Estimate, *, prefix: str) -> list[str]:
    """What is left of a task, for people."""
    return [line for part in (_head, _what, _cost, _way, _caveats) for line in part(found, prefix)]


def estimate_document(found: Estimate, *, prefix: str) -> dict[str, Any]:
    """The same for scripts. Money in whole picodollars, times in seconds; unknown is null."""
    rest = found.rest
    expected_s, most_s = _batch_times(found)
    return {
        "task": prefix,
        "begun": True,
        "generator_asked": found.generator_asked,
        "confidence": CONFIDENCE,
        "learnt_from": rest.finished,
        "requests": {
            "left": rest.requests,
            "queued": rest.requests - found.in_local_batches - found.on_server,
            "in_local_batches": found.in_local_batches,
            "on_server": found.on_server,
            "answered": found.answered,
            "held": found.held,
            "of_unknown_length": rest.unlearnt,
        },
        "follow_ups": asdict(rest.follow_ups),
        "follow_ups_unknown": rest.follow_ups_unknown,
        "tries": asdict(rest.tries),
        "input_tokens": asdict(rest.input_tokens),
        "output_tokens": asdict(rest.output_tokens),
        "cost_pico": {str(road): asdict(cost) for road, cost in rest.cost_pico.items()},
        "spent_pico": found.spent_pico,
        "batches": {
            "to_make": found.schedule.batches,
            "local": found.local_batches,
            "on_server": found.remote_batches,
            "rounds": found.schedule.rounds,
            "small_remainder": found.schedule.direct_requests,
        },
        "time_s": {
            "batch": {"expected": expected_s, "at_most": most_s, "longest_lately": found.longest_round_s},
            "direct": rest.tries.expected / found.direct_per_s if found.direct_per_s else None,
        },
        "limits": list(found.limits),
        "shutdowns": {model: day.isoformat() for model, day in found.shutdowns},
    }


def _head(found: Estimate, prefix: str) -> Iterator[str]:
    rest = found.rest
    yield f"Estimate of {prefix}: {count(rest.requests, 'request')} not done"
    places = {
        "queued": rest.requests - found.in_local_batches - found.on_server,
        "in local batches": found.in_local_batches,
        "on the server": found.on_server,
    }
    if rest.requests:
        yield "  where      " + ", ".join(f"{number:,} {name}" for name, number in places.items() if number)
    if rest.finished:
        yield f"  learnt     from {count(rest.finished, 'finished request')}; {CONFIDENCE:.0%} sure of what stands in brackets"


def _what(found: Estimate, prefix: str) -> Iterator[str]:
    rest = found.rest
    if rest.follow_ups.high:
        yield f"  follow-ups {_range(rest.follow_ups)} that the task's code is expected to ask yet"
    if rest.tries.high > rest.requests:
        yield f"  calls      {_range(rest.tries)}, with those asked again"
    yield f"  tokens     {_range(rest.input_tokens)} input, {_range(rest.output_tokens)} completion"


def _cost(found: Estimate, prefix: str) -> Iterator[str]:
    for road, words in ((Road.BATCH, "in batches"), (Road.DIRECT, "if all of it went by direct calls")):
        yield f"  cost       {_range(found.rest.cost_pico[road], dollars)} {words}"
    total = found.rest.cost_pico[Road.BATCH].expected + found.spent_pico
    if found.spent_pico:
        yield f"             {dollars(found.spent_pico)} spent so far, so about {dollars(total)} in all"


def _way(found: Estimate, prefix: str) -> Iterator[str]:
    plan = found.schedule
    there = [f"{found.local_batches:,} local"] if found.local_batches else []
    there += [f"{found.remote_batches:,} on the server"] if found.remote_batches else []
    beside = f", beside {' and '.join(there)}" if there else ""
    yield f"  batches    {plan.batches:,} to be made{beside}"
    if plan.direct_requests:
        yield f"             {count(plan.direct_requests, 'request')} too few for a batch: by direct calls"
    if plan.rounds is None:
        yield "  time       none: the limits of what may be on the server (max_remote_…) let nothing out"
    elif plan.rounds:
        expected_s, most_s = _batch_times(found)
        lately = (
            ""
            if expected_s is None
            else f"about {duration(expected_s)} if batches take as long as lately{_longest(found)}, "
        )
        yield f"  time       {count(plan.rounds, 'round')} of batches at the present limits: {lately}at most {duration(most_s)}"
    if found.direct_per_s:
        yield (
            f"             by direct calls about {duration(found.rest.tries.expected / found.direct_per_s)}, "
            f"at {found.direct_per_s:,.1f} a second as lately"
        )


def _caveats(found: Estimate, prefix: str) -> Iterator[str]:
    rest = found.rest
    for limit in found.limits:
        yield f"  LIMIT      {limit}"
    for model, day in found.shutdowns:
        yield f"  SHUTDOWN   {model} ends on {day}: this work may not be done by then"
    if found.held:
        yield f"  held       {count(found.held, 'request')} wait for your decision, and are not part of this"
    if rest.unlearnt:
        yield (
            f"  note       {count(rest.unlearnt, 'request')} of a kind that too few answers are known of: from no output to "
            "their maximum; a pilot (--max_session_requests 200) narrows that"
        )
    if rest.follow_ups_unknown:
        yield "  note       the task asks follow-up questions; how many are to come cannot be told yet, and they are left out"
    if not found.generator_asked:
        yield "  note       the generator was not asked: add --estimate to the task's own command to count what it has yet"


def _batch_times(found: Estimate) -> tuple[float | None, float]:
    """How long all rounds take, as lately and as the server promises at worst."""
    rounds = found.schedule.rounds or 0
    return (None if found.round_s is None else rounds * found.round_s), rounds * ROUND_S


def _longest(found: Estimate) -> str:
    return "" if found.longest_round_s is None else f" (the longest {duration(found.longest_round_s)})"


def _range(interval: Interval, words: Callable[[int], str] = "{:,}".format) -> str:
    if interval.low == interval.high:
        return words(interval.expected)
    return f"{words(interval.expected)} ({words(interval.low)} – {words(interval.high)})"


def duration(seconds: float) -> str:
    """A time for people: `40 s`, `12 min`, `3.5 h`, `4 days`."""
    for unit_s, name, places in ((86_400, "days", 0), (3600, "h", 1), (60, "min", 0)):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:,.{places}f} {name}"
    return f"{seconds:,.0f} s"
