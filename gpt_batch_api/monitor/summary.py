"""How a task stands in ten lines at most, for a mail: done, failed, held, time, money, tokens, what to set next time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

from gpt_batch_api.domain.request import Kind
from gpt_batch_api.domain.words import count, duration
from gpt_batch_api.monitor.facts import Facts
from gpt_batch_api.monitor.figures import Number
from gpt_batch_api.pricing.cost import dollars
from gpt_batch_api.store.snapshot import Snapshot
from gpt_batch_api.tokens.calibrate import Suggestion, suggest

MOST_REASONS = 4
"""So many reasons are named in one line, those with the most requests first."""


def summary_lines(facts: Facts, *, prefix: str) -> list[str]:
    """The task in ten lines at most."""
    return [
        line
        for part in (_task, _samples, _requests, _bad_ends, _output, _time, _tokens, _money, _advice)
        for line in part(facts, prefix)
    ]


def _task(facts: Facts, prefix: str) -> Iterator[str]:
    task = facts.snapshot.task
    state = "complete" if task.complete else "not complete"
    if task.wiping:
        state = f"a wipe ({task.wiping}) is under way, the next run finishes it"
    yield f"Task {prefix} ({task.kind}): {state}"


def _samples(facts: Facts, prefix: str) -> Iterator[str]:
    parts = ", ".join(f"{facts[f'samples/{status}']:,} {status}" for status in facts.snapshot.samples)
    yield f"  samples    {facts['samples/total']:,}: {parts}"


def _requests(facts: Facts, prefix: str) -> Iterator[str]:
    parts = {"succeeded": "succeeded", "failed": "failed", "held": "held", "under_way": "under way"}
    told = " + ".join(f"{facts[f'requests/{name}']:,} {words}" for name, words in parts.items())
    yield f"  requests   {facts['requests/total']:,} asked = {told}"


def _bad_ends(facts: Facts, prefix: str) -> Iterator[str]:
    told = [f"{name}: {reasons(facts.each(f'{name}/'))}" for name in ("failed", "held") if facts[f"requests/{name}"]]
    if told:
        yield f"             {'; '.join(told)}"


def reasons(found: Mapping[str, Number]) -> str:
    """How many there are of what, the most first, the least of many only as a sum."""
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    told = [f"{number:,} {reason or 'without a reason'}" for reason, number in ordered[:MOST_REASONS]]
    if rest := ordered[MOST_REASONS:]:
        told.append(f"{sum(number for _, number in rest):,} of {count(len(rest), 'other reason')}")
    return ", ".join(told)


def _output(facts: Facts, prefix: str) -> Iterator[str]:
    names = [part.file_name for part in facts.snapshot.delivered]
    files = "" if not names else f" in {names[0]}" if len(names) == 1 else f" in {names[0]} … {names[-1]}"
    yield f"  output     {count(facts.snapshot.rows, 'row')}{files}"


def _time(facts: Facts, prefix: str) -> Iterator[str]:
    elapsed_s = facts.get("session/elapsed_s")
    if elapsed_s is None:
        return
    left = "" if facts.snapshot.task.complete else f"; {time_left(facts)}"
    yield f"  time       run {facts['session/number']:,}: {duration(elapsed_s)}{left}"


def time_left(facts: Facts) -> str:
    """When all that was asked will be answered, with the phases that it takes; says so if nobody knows."""
    phases = {
        "on the server": facts.get("eta/server_s"),
        "for what waits": facts.get("eta/waiting_s"),
        "direct": facts.get("eta/direct_s"),
    }
    told = [
        f"{name} {'unknown' if time_s is None else duration(time_s)}" for name, time_s in phases.items() if time_s != 0
    ]
    total_s = facts.get("eta/total_s")
    if total_s is None:
        return f"time left: unknown ({', '.join(told)})"
    if not told:
        return "nothing left to ask" if facts["requests/total"] else "time left: unknown"
    return f"time left: about {duration(total_s)}" + (f" ({', '.join(told)})" if len(told) > 1 else "")


def _tokens(facts: Facts, prefix: str) -> Iterator[str]:
    if not facts.snapshot.answered.settlements:
        return
    share = facts.get("tokens/completion_ratio")
    details = {"cached": facts["tokens/cached"], "reasoning": facts["tokens/reasoning"]}
    more = "".join(f", {number:,} {name}" for name, number in details.items() if number)
    yield (
        f"  tokens     {facts['tokens/input']:,} input (predicted {facts['tokens/input_predicted']:,}), "
        f"{facts['tokens/output']:,} completion (predicted {facts['tokens/output_predicted']:,}){more}; "
        f"max {facts['tokens/longest_output']:,} completion tokens, completion ratio {'–' if share is None else f'{share:.3f}'}"
    )


def _money(facts: Facts, prefix: str) -> Iterator[str]:
    lost = facts.snapshot.booked.unlinked_pico
    unknown = f", {dollars(lost)} of it with no answer to show for it" if lost else ""
    yield (
        f"  money      {dollars(facts.snapshot.booked.spent_pico)} spent{unknown} "
        f"(expected {dollars(facts.snapshot.answered.expected_cost_pico)}), "
        f"{dollars(facts.snapshot.booked.reserved_pico)} reserved"
    )


def _advice(facts: Facts, prefix: str) -> Iterator[str]:
    for found in suggestions(facts.snapshot)[:1]:
        yield from advice(found, facts.snapshot)


def suggestions(snapshot: Snapshot) -> list[Suggestion]:
    """What could be set better, by kind of request, the kind with the most answers first."""
    found = (suggest(kind, lengths) for kind, lengths in snapshot.lengths.items())
    return [suggestion for suggestion in found if suggestion is not None]


def advice(found: Suggestion, snapshot: Snapshot) -> Iterator[str]:
    """What to set for the next run, with the evidence."""
    lengths, maximum = found.lengths, found.kind.max_output_tokens
    present = f"with the present maximum of {maximum:,}" if maximum else "without a maximum, of 2,048"
    yield (
        f"  advice     {kind_name(found.kind, snapshot)}: max_completion_tokens {found.max_output_tokens:,} and completion ratio "
        f"{float(found.ratio):.2f} ({present}: {float(found.present_ratio):.2f})"
    )
    half, most, nearly = (lengths.quantile(Fraction(percent, 100)) for percent in (50, 90, 99))
    yield (
        f"             learnt from {count(lengths.answers, 'answer')}: median {half:,}, 90 % up to {most:,}, "
        f"99 % up to {nearly:,}, longest {lengths.longest:,}; {lengths.cut_off:,} cut off"
    )


def kind_name(kind: Kind, snapshot: Snapshot) -> str:
    """A kind of request by its model and schema."""
    schema = "" if kind.schema_id is None else f", {snapshot.schema_names.get(kind.schema_id, 'schema')}"
    return f"{kind.model}{schema}"
